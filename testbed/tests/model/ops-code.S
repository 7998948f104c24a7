/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The instructions of ops.c, each with the Operation Type packet, address and
 * events that its record must have. Subclasses are those with FEAT_SPE_FPF and
 * FEAT_SPE_CRR.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.arch	armv8.7-a+fp16+dotprod+fp16fml+bf16+i8mm+rcpc+sha3+aes+sve
	.arch_extension sme
	.arch_extension sme-f64
	.arch_extension sme-i64

#define OTHER	0x48
#define LDST	0x49
#define BRANCH	0x4a

#define EXCEPTION	(1 << 0)
#define RETIRED		(1 << 1)
#define PARTIAL		(1 << 17)
#define EMPTY		(1 << 18)

	/* op name, class, subclass, va, target, events: of the next instruction */
	.macro	op name, class, sub, va=0, target=0, events=RETIRED
	.pushsection .rodata.ops, "a"
	.quad	8f, 9f, \va, \target, \events
	.word	\class, \sub
	.pushsection .rodata.names, "a"
9:	.asciz	"\name"
	.popsection
	.popsection
8:
	.endm

	/* si, fp: a vector instruction, of integers or of floating point */
	.macro	si insn:vararg
	op	"\insn", OTHER, 0x04
	\insn
	.endm
	.macro	fp insn:vararg
	op	"\insn", OTHER, 0x06
	\insn
	.endm

	.macro	ops name
	.pushsection .rodata.ops, "a"
	.globl	\name
	.balign	8
\name :
	.popsection
	.endm

	.macro	ops_end
	.pushsection .rodata.ops, "a"
	.quad	0
	.popsection
	.endm

	.text
	/* --- Advanced SIMD ---------------------------------------------------- */
	ops	ops_simd
	.globl	code_simd
code_simd:
1:
	/* three of the same kind */
	si	add v0.4s, v1.4s, v2.4s
	si	smax v0.4s, v1.4s, v2.4s
	si	mul v0.4s, v1.4s, v2.4s
	si	addp v0.4s, v1.4s, v2.4s
	si	eor v0.16b, v1.16b, v2.16b
	si	bsl v0.16b, v1.16b, v2.16b
	si	sqdmulh v0.4s, v1.4s, v2.4s
	fp	fadd v0.4s, v1.4s, v2.4s
	fp	fadd v0.2d, v1.2d, v2.2d
	fp	fmla v0.4s, v1.4s, v2.4s
	fp	fdiv v0.4s, v1.4s, v2.4s
	fp	fcmeq v0.4s, v1.4s, v2.4s
	fp	fmaxnmp v0.4s, v1.4s, v2.4s
	fp	fabd v0.4s, v1.4s, v2.4s
	fp	fmulx v0.2s, v1.2s, v2.2s
	fp	fmlal v0.4s, v1.4h, v2.4h
	fp	fmlal2 v0.4s, v1.4h, v2.4h
	/* ... of half precision */
	fp	fadd v0.8h, v1.8h, v2.8h
	fp	fcmgt v0.4h, v1.4h, v2.4h
	fp	frecps v0.8h, v1.8h, v2.8h
	/* ... and extra */
	si	sqrdmlah v0.4s, v1.4s, v2.4s
	si	sdot v0.4s, v1.16b, v2.16b
	si	usmmla v0.4s, v1.16b, v2.16b
	fp	fcmla v0.4s, v1.4s, v2.4s, #90
	fp	fcadd v0.4s, v1.4s, v2.4s, #90
	fp	bfdot v0.4s, v1.8h, v2.8h
	fp	bfmmla v0.4s, v1.8h, v2.8h
	/* three different */
	si	saddl v0.4s, v1.4h, v2.4h
	si	umull v0.4s, v1.4h, v2.4h
	si	addhn v0.4h, v1.4s, v2.4s
	/* two registers */
	si	cnt v0.16b, v1.16b
	si	rev64 v0.4s, v1.4s
	si	abs v0.4s, v1.4s
	si	cmeq v0.4s, v1.4s, #0
	si	xtn v0.4h, v1.4s
	si	sqxtn v0.4h, v1.4s
	si	shll v0.4s, v1.4h, #16
	si	not v0.16b, v1.16b
	si	urecpe v0.4s, v1.4s
	si	ursqrte v0.4s, v1.4s
	fp	fabs v0.4s, v1.4s
	fp	fneg v0.2d, v1.2d
	fp	fcmeq v0.4s, v1.4s, #0.0
	fp	fcmlt v0.4s, v1.4s, #0.0
	fp	fcvtn v0.4h, v1.4s
	fp	fcvtl v0.4s, v1.4h
	fp	fcvtxn v0.2s, v1.2d
	fp	bfcvtn v0.4h, v1.4s
	fp	frintn v0.4s, v1.4s
	fp	frintn v0.2d, v1.2d
	fp	frintp v0.4s, v1.4s
	fp	frinta v0.4s, v1.4s
	fp	frintm v0.4s, v1.4s
	fp	frintz v0.4s, v1.4s
	fp	frintx v0.4s, v1.4s
	fp	frinti v0.4s, v1.4s
	fp	frint32z v0.4s, v1.4s
	fp	frint64x v0.4s, v1.4s
	fp	fcvtns v0.4s, v1.4s
	fp	fcvtzu v0.4s, v1.4s
	fp	scvtf v0.4s, v1.4s
	fp	ucvtf v0.2d, v1.2d
	fp	frecpe v0.4s, v1.4s
	fp	frsqrte v0.4s, v1.4s
	fp	fsqrt v0.4s, v1.4s
	/* ... of half precision */
	fp	fabs v0.8h, v1.8h
	fp	frintn v0.8h, v1.8h
	fp	fsqrt v0.8h, v1.8h
	fp	fcvtzs v0.4h, v1.4h
	/* across lanes */
	si	addv s0, v1.4s
	si	smaxv s0, v1.4s
	si	saddlv d0, v1.4s
	fp	fmaxv s0, v1.4s
	fp	fminnmv s0, v1.4s
	fp	fmaxnmv h0, v1.8h
	/* by element */
	si	mul v0.4s, v1.4s, v2.s[1]
	si	mla v0.4s, v1.4s, v2.s[1]
	si	sqdmull v0.4s, v1.4h, v2.h[1]
	si	sdot v0.4s, v1.16b, v2.4b[1]
	si	sqrdmlsh v0.4s, v1.4s, v2.s[1]
	fp	fmul v0.4s, v1.4s, v2.s[1]
	fp	fmla v0.4s, v1.4s, v2.s[1]
	fp	fmls v0.8h, v1.8h, v2.h[1]
	fp	fmulx v0.4s, v1.4s, v2.s[1]
	fp	fcmla v0.4s, v1.4s, v2.s[1], #90
	fp	fmlal v0.4s, v1.4h, v2.h[1]
	fp	fmlsl2 v0.4s, v1.4h, v2.h[1]
	fp	bfdot v0.4s, v1.8h, v2.2h[1]
	fp	bfmlalb v0.4s, v1.8h, v2.h[1]
	si	sudot v0.4s, v1.16b, v2.4b[1]
	/* immediates */
	si	movi v0.4s, #1
	si	mvni v0.4s, #1
	si	orr v0.4s, #1
	fp	fmov v0.4s, #1.0
	fp	fmov v0.2d, #1.0
	fp	fmov v0.8h, #1.0
	si	sshr v0.4s, v1.4s, #3
	si	shl v0.4s, v1.4s, #3
	si	sshll v0.4s, v1.4h, #3
	si	sqshrn v0.4h, v1.4s, #3
	fp	scvtf v0.4s, v1.4s, #3
	fp	ucvtf v0.4s, v1.4s, #3
	fp	fcvtzs v0.4s, v1.4s, #3
	fp	fcvtzu v0.4s, v1.4s, #3
	/* copies, permutations, tables, cryptography */
	si	dup v0.4s, w1
	si	ins v0.s[1], w1
	si	umov w1, v0.s[1]
	si	zip1 v0.4s, v1.4s, v2.4s
	si	ext v0.16b, v1.16b, v2.16b, #3
	si	tbl v0.16b, {v1.16b}, v2.16b
	si	aese v0.16b, v1.16b
	si	eor3 v0.16b, v1.16b, v2.16b, v3.16b
	subs	x0, x0, #1
	b.ne	1b
	ret
	ops_end

	/* --- pointer authentication, atomics to XZR, exceptions --------------- */
	ops	ops_misc
	.globl	code_misc
code_misc:
	mov	x27, x0
	mov	x26, x30
	ldr	x20, =ops_data
	ldr	x21, =0x7fff00000000	/* nothing is mapped here */
1:
	adr	x3, 2f
	op	"BRAAZ", BRANCH, 0x1a, 0, 2f
	braaz	x3
	nop
2:	adr	x3, 2f
	op	"BRAB", BRANCH, 0x1a, 0, 2f
	brab	x3, x20
	nop
2:	adr	x3, ops_callee1
	op	"BLRAAZ", BRANCH, 0x0a, 0, ops_callee1
	blraaz	x3
ops_back1:
	adr	x3, ops_callee2
	op	"BLRAB", BRANCH, 0x0a, 0, ops_callee2
	blrab	x3, x20
ops_back2:
	op	"LDRAA", LDST, 0x00, ops_data+16
	ldraa	x1, [x20, #16]
	op	"LDRAB pre-index", LDST, 0x00, ops_data+8
	ldrab	x1, [x20, #8]!
	sub	x20, x20, #8
	op	"PACIA", OTHER, 0x00
	pacia	x1, x20
	op	"SWPA to XZR", LDST, 0x06, ops_data
	swpa	x1, xzr, [x20]
	op	"SWPAL to XZR", LDST, 0x16, ops_data
	swpal	x1, xzr, [x20]
	op	"SWPL to XZR", LDST, 0x16, ops_data
	swpl	x1, xzr, [x20]
	op	"SWPA", LDST, 0x16, ops_data
	swpa	x1, x2, [x20]
	op	"CASA to XZR", LDST, 0x06, ops_data
	casa	xzr, x1, [x20]
	op	"CASL to XZR", LDST, 0x16, ops_data
	casl	xzr, x1, [x20]
	op	"LDADDA to XZR", LDST, 0x07, ops_data
	ldadda	x1, xzr, [x20]
	op	"BRK", OTHER, 0x00, 0, 0, EXCEPTION
	brk	#1
	op	"LDR that faults", LDST, 0x00, 0, 0, EXCEPTION
	ldr	x1, [x21]
	op	"HVC", OTHER, 0x00, 0, 0, EXCEPTION
	hvc	#1
	nop				/* the handler steps over one more */
	mov	w0, #0x84000000		/* PSCI_VERSION */
	op	"SMC", OTHER, 0x00, 0, 0, EXCEPTION
	smc	#0
	/* to EL1 again */
	mrs	x1, spsel
	mrs	x2, daif
	orr	x1, x1, #4
	orr	x1, x1, x2
	msr	spsr_el1, x1
	adr	x1, 2f
	msr	elr_el1, x1
	op	"ERET", BRANCH, 0x1a, 0, 2f
	eret
2:	subs	x27, x27, #1
	b.ne	1b
	mov	x30, x26
	ret
ops_callee1:
	op	"RETAA", BRANCH, 0x12, 0, ops_back1
	retaa
ops_callee2:
	op	"RETAB", BRANCH, 0x12, 0, ops_back2
	retab
	.ltorg
	ops_end

	/* --- SME, with a vector length of 256 bits ---------------------------- */
	ops	ops_sme
	.globl	code_sme
code_sme:
	ldr	x20, =ops_data
	smstart
	ptrue	p0.b
	pfalse	p1.b
	ptrue	p2.s, vl1
	ptrue	p3.s
	mov	x22, #0
	mov	w12, #0
1:
	op	"RDSVL", OTHER, 0x00
	rdsvl	x1, #1
	op	"ADDSVL", OTHER, 0x00
	addsvl	x1, x1, #1
	op	"ADDSPL", OTHER, 0x00
	addspl	x1, x1, #1
	op	"RDVL", OTHER, 0x00
	rdvl	x1, #1
	op	"ADDPL", OTHER, 0x00
	addpl	x1, x1, #1
	op	"MOVA to ZA, full", OTHER, 0x00
	mova	za0h.s[w12, 0], p3/m, z0.s
	op	"MOVA to ZA, partial", OTHER, 0x00, 0, 0, RETIRED | PARTIAL
	mova	za0v.s[w12, 0], p2/m, z0.s
	op	"MOVA from ZA, empty", OTHER, 0x00, 0, 0, RETIRED | PARTIAL | EMPTY
	mova	z0.s, p1/m, za0h.s[w12, 0]
	op	"MOVA to ZA of 128 bits, partial", OTHER, 0x00, 0, 0, RETIRED | PARTIAL
	mova	za0h.q[w12, 0], p2/m, z0.q
	op	"ADDHA, full", OTHER, 0x00
	addha	za0.s, p3/m, p0/m, z0.s
	op	"ADDHA, columns partial", OTHER, 0x00, 0, 0, RETIRED | PARTIAL
	addha	za0.s, p3/m, p2/m, z0.s
	op	"ADDVA, rows empty", OTHER, 0x00, 0, 0, RETIRED | PARTIAL
	addva	za0.s, p1/m, p3/m, z0.s
	op	"ADDVA, empty", OTHER, 0x00, 0, 0, RETIRED | PARTIAL | EMPTY
	addva	za0.s, p1/m, p1/m, z0.s
	op	"FMOPA, full", OTHER, 0x02
	fmopa	za0.s, p3/m, p3/m, z0.s, z1.s
	op	"FMOPA, doubles, partial", OTHER, 0x02, 0, 0, RETIRED | PARTIAL
	fmopa	za0.d, p2/m, p0/m, z0.d, z1.d
	op	"FMOPS, empty", OTHER, 0x02, 0, 0, RETIRED | PARTIAL | EMPTY
	fmops	za0.s, p1/m, p1/m, z0.s, z1.s
	op	"BFMOPA, widening: partial", OTHER, 0x02, 0, 0, RETIRED | PARTIAL
	bfmopa	za0.s, p3/m, p3/m, z0.h, z1.h
	op	"SMOPA, widening: partial", OTHER, 0x00, 0, 0, RETIRED | PARTIAL
	smopa	za0.s, p0/m, p3/m, z0.b, z1.b
	op	"UMOPA, full", OTHER, 0x00
	umopa	za0.d, p0/m, p0/m, z0.h, z1.h
	op	"ZERO", OTHER, 0x00
	zero	{za}
	op	"LD1W of ZA", LDST, 0x3c, ops_data
	ld1w	{za0h.s[w12, 0]}, p3/z, [x20, x22, lsl #2]
	op	"ST1W of ZA, one element", LDST, 0x3d, ops_data, 0, RETIRED | PARTIAL
	st1w	{za0h.s[w12, 0]}, p2, [x20, x22, lsl #2]
	op	"ADD of SVE, streaming, partial", OTHER, 0x3c, 0, 0, RETIRED | PARTIAL
	add	z0.s, p2/m, z0.s, z1.s
	subs	x0, x0, #1
	b.ne	1b
	smstop
	ret
	.ltorg
	ops_end

	.bss
	.balign	4096
	.globl	ops_data
ops_data:
	.skip	4096
