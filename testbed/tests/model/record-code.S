/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The instructions whose records record.c checks, each with what its record
 * must say: one row in the section of expectations an instruction.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.arch	armv8.8-a+sve+mops

#define NO	0		/* no such address */
#define OTHER	0x48
#define LDST	0x49
#define BRANCH	0x4a

#define RETIRED		(1 << 1)
#define NOT_TAKEN	(1 << 6)
#define PARTIAL		(1 << 17)
#define EMPTY		(1 << 18)

	/* Kinds of rows; record.c has them as well. */
#define K_PLAIN		0	/* .va exactly, or none */
#define K_GATHER	1	/* .va + n * 16 for n < 4, as ASL allows any */
#define K_ANYVA		2	/* whatever address, or none */
#define K_WITHIN	3	/* .va to .va + 63, or none; either direction */
#define K_EXCEPTION	4	/* E[0]; nothing else is asked for */
#define K_FAILED	5	/* .va; nothing was accessed there */

	/*
	 * t name, class, subclass, va, target, events: the instruction that
	 * follows. Events are those that must be set, besides them E[0], E[6],
	 * E[17] and E[18] must be clear. subclass is the value with FPF and
	 * CRR; record.c takes the bits off where they are not implemented.
	 */
	.macro	t name, class, sub, va=NO, target=NO, events=RETIRED, kind=K_PLAIN
	.pushsection .rodata.expect, "a"
	.quad	8f, 9f, \va, \target, \events
	.word	\class, \sub, \kind, 0
9:	.asciz	"\name"
	.balign	8
	.popsection
8:
	.endm

	.macro	table name
	.pushsection .rodata.expect, "a"
	.globl	\name
	.balign	8
\name :
	.popsection
	.endm

	/* Rows have a name behind them: their end is marked by a zero PC. */
	.macro	table_end
	.pushsection .rodata.expect, "a"
	.quad	0
	.popsection
	.endm

	.text
	table	expect_base
	.globl	rec_base
	/* x0 = loops; x19 to x28 are free: run at EL1 and EL0 only */
rec_base:
	mov	x27, x0
	mov	x26, x30
	ldr	x20, =rec_data
	add	x23, x20, #128
	add	x24, x20, #1024
	mov	x22, #48
	mov	x25, #0
rec_base_loop:
	mov	x21, x20
	t "LDR Xt", LDST, 0x00, rec_data
	ldr	x1, [x20]
	t "LDR Wt, unsigned offset", LDST, 0x00, rec_data+20
	ldr	w1, [x20, #20]
	t "LDRB", LDST, 0x00, rec_data+7
	ldrb	w1, [x20, #7]
	t "LDRSW", LDST, 0x00, rec_data+24
	ldrsw	x1, [x20, #24]
	t "STR Xt", LDST, 0x01, rec_data+32
	str	x1, [x20, #32]
	t "STRH", LDST, 0x01, rec_data+42
	strh	w1, [x20, #42]
	t "LDP", LDST, 0x00, rec_data+64
	ldp	x1, x2, [x20, #64]
	t "STP", LDST, 0x01, rec_data+80
	stp	x1, x2, [x20, #80]
	t "LDPSW", LDST, 0x00, rec_data+72
	ldpsw	x1, x2, [x20, #72]
	t "LDNP", LDST, 0x00, rec_data+96
	ldnp	x1, x2, [x20, #96]
	t "LDR pre-index", LDST, 0x00, rec_data+16
	ldr	x1, [x21, #16]!
	t "LDR post-index", LDST, 0x00, rec_data+16
	ldr	x1, [x21], #32
	t "STR pre-index", LDST, 0x01, rec_data+40
	str	x1, [x21, #-8]!
	t "STP post-index", LDST, 0x01, rec_data+40
	stp	x1, x2, [x21], #16
	t "LDP pre-index", LDST, 0x00, rec_data+24
	ldp	x1, x2, [x21, #-32]!
	t "LDR register offset", LDST, 0x00, rec_data+48
	ldr	x1, [x20, x22]
	t "LDR register offset, extended", LDST, 0x00, rec_data+192
	ldr	w1, [x20, w22, uxtw #2]
	t "LDR literal", LDST, 0x00, rec_literal
	ldr	x1, rec_literal
	t "LDUR", LDST, 0x00, rec_data+51
	ldur	w1, [x20, #51]
	t "STUR", LDST, 0x01, rec_data+53
	stur	w1, [x20, #53]
	t "LDTR", LDST, 0x00, rec_data+56
	ldtr	x1, [x20, #56]
	t "STTR", LDST, 0x01, rec_data+56
	sttr	x1, [x20, #56]
	t "LDR Dt", LDST, 0x04, rec_data+8
	ldr	d0, [x20, #8]
	t "LDR Qt", LDST, 0x04, rec_data+16
	ldr	q0, [x20, #16]
	t "STR St", LDST, 0x05, rec_data+36
	str	s0, [x20, #36]
	t "STR Qt", LDST, 0x05, rec_data+64
	str	q0, [x20, #64]
	t "LDP Qt", LDST, 0x04, rec_data+32
	ldp	q0, q1, [x20, #32]
	t "STP Dt", LDST, 0x05, rec_data+80
	stp	d0, d1, [x20, #80]
	t "LD1 two registers", LDST, 0x04, rec_data+128
	ld1	{v0.4s, v1.4s}, [x23]
	t "LD1R", LDST, 0x04, rec_data+128
	ld1r	{v2.4s}, [x23]
	t "ST2", LDST, 0x05, rec_data+128
	st2	{v0.4s, v1.4s}, [x23]
	t "LD1 one lane", LDST, 0x04, rec_data+128
	ld1	{v0.s}[1], [x23]
	t "LDADD", LDST, 0x06, rec_data+128
	ldadd	x1, x2, [x23]
	t "LDADDA", LDST, 0x16, rec_data+128
	ldadda	x1, x2, [x23]
	t "LDADDL", LDST, 0x16, rec_data+128
	ldaddl	x1, x2, [x23]
	t "LDCLRAL", LDST, 0x16, rec_data+128
	ldclral	x1, x2, [x23]
	t "LDSETB", LDST, 0x06, rec_data+128
	ldsetb	w1, w2, [x23]
	t "STADD", LDST, 0x07, rec_data+128
	stadd	x1, [x23]
	t "STADDL", LDST, 0x17, rec_data+128
	staddl	x1, [x23]
	t "SWP", LDST, 0x06, rec_data+128
	swp	x1, x2, [x23]
	t "SWPAL", LDST, 0x16, rec_data+128
	swpal	x1, x2, [x23]
	t "CAS", LDST, 0x06, rec_data+128
	cas	x1, x2, [x23]
	t "CASAL", LDST, 0x16, rec_data+128
	casal	x1, x2, [x23]
	mov	x4, #0
	mov	x5, #0
	mov	x6, #0
	mov	x7, #0
	t "CASP", LDST, 0x06, rec_data+128
	casp	x4, x5, x6, x7, [x23]
	t "LDXR", LDST, 0x0a, rec_data+128
	ldxr	x1, [x23]
	t "STXR", LDST, 0x0b, rec_data+128
	stxr	w2, x1, [x23]
	t "LDAXR", LDST, 0x1a, rec_data+128
	ldaxr	x1, [x23]
	t "STLXR", LDST, 0x1b, rec_data+128
	stlxr	w2, x1, [x23]
	t "LDXP", LDST, 0x0a, rec_data+128
	ldxp	x1, x2, [x23]
	t "STXP", LDST, 0x0b, rec_data+128
	stxp	w3, x1, x2, [x23]
	clrex
	t "STXR without the monitor", LDST, 0x0b, rec_data+128, NO, RETIRED, K_FAILED
	stxr	w2, x1, [x23]
	ldxr	x1, [x20]
	t "STLXR at another address", LDST, 0x1b, rec_data+128, NO, RETIRED, K_FAILED
	stlxr	w2, x1, [x23]
	t "LDAR", LDST, 0x12, rec_data+128
	ldar	x1, [x23]
	t "STLR", LDST, 0x13, rec_data+128
	stlr	x1, [x23]
	t "LDAPR", LDST, 0x12, rec_data+128
	ldapr	x1, [x23]
	t "LDAPUR", LDST, 0x12, rec_data+136
	ldapur	x1, [x23, #8]
	t "STLUR", LDST, 0x13, rec_data+136
	stlur	x1, [x23, #8]
	t "DC ZVA", LDST, 0x11, rec_data+1024
	dc	zva, x24
	t "PRFM", OTHER, 0x00, NO, NO, RETIRED, K_ANYVA
	prfm	pldl1keep, [x20]
	cmp	x20, x20
	t "B.EQ taken", BRANCH, 0x19, NO, 1f
	b.eq	1f
	nop
1:
	t "B.NE not taken", BRANCH, 0x19, NO, NO, RETIRED | NOT_TAKEN
	b.ne	1f
1:
	t "CBZ taken", BRANCH, 0x19, NO, 1f
	cbz	x25, 1f
	nop
1:
	t "CBNZ not taken", BRANCH, 0x19, NO, NO, RETIRED | NOT_TAKEN
	cbnz	x25, 1f
1:
	t "CBNZ Wt taken", BRANCH, 0x19, NO, 1f
	cbnz	w20, 1f
	nop
1:
	t "TBZ taken", BRANCH, 0x19, NO, 1f
	tbz	x25, #40, 1f
	nop
1:
	t "TBNZ not taken", BRANCH, 0x19, NO, NO, RETIRED | NOT_TAKEN
	tbnz	x25, #3, 1f
1:
	t "B", BRANCH, 0x18, NO, 1f
	b	1f
	nop
1:
	t "BL", BRANCH, 0x08, NO, rec_callee
	bl	rec_callee
rec_callee_back:
	adr	x3, 1f
	t "BR", BRANCH, 0x1a, NO, 1f
	br	x3
	nop
1:	adr	x3, rec_callee2
	t "BLR", BRANCH, 0x0a, NO, rec_callee2
	blr	x3
rec_return2:
	t "CSEL, condition passed", OTHER, 0x01
	csel	x1, x2, x3, eq
	t "CSEL, condition failed", OTHER, 0x01, NO, NO, RETIRED | NOT_TAKEN
	csel	x1, x2, x3, ne
	t "CSINC, condition failed", OTHER, 0x01, NO, NO, RETIRED | NOT_TAKEN
	csinc	x1, x2, x3, ne
	t "CCMP, condition failed", OTHER, 0x01, NO, NO, RETIRED | NOT_TAKEN
	ccmp	x1, x2, #4, ne
	t "FCSEL, condition passed", OTHER, 0x03
	fcsel	d0, d1, d2, eq
	t "NOP", OTHER, 0x00
	nop
	t "ADD", OTHER, 0x00
	add	x1, x2, x3
	t "UDIV", OTHER, 0x00
	udiv	x1, x20, x22
	t "ADRP", OTHER, 0x00
	adrp	x1, rec_data
	t "FADD", OTHER, 0x02
	fadd	d0, d1, d2
	t "FMADD", OTHER, 0x02
	fmadd	s0, s1, s2, s3
	t "FADD vector", OTHER, 0x06
	fadd	v0.4s, v1.4s, v2.4s
	t "ADD vector", OTHER, 0x04
	add	v0.4s, v1.4s, v2.4s
	t "FCVTZS to X", OTHER, 0x02
	fcvtzs	x1, d1
	t "DMB", OTHER, 0x00
	dmb	ish
	t "MRS", OTHER, 0x00
	mrs	x1, tpidr_el0
	t "MSR immediate of NZCV", OTHER, 0x00
	msr	nzcv, x25
	subs	x27, x27, #1
	t "B.NE of the loop", BRANCH, 0x19, NO, NO, RETIRED, K_ANYVA
	b.ne	rec_base_loop
	mov	x30, x26
	ret

	.balign	16
rec_callee:
	t "RET", BRANCH, 0x12, NO, rec_callee_back
	ret
rec_callee2:
	t "RET Xn", BRANCH, 0x12, NO, rec_return2
	ret	x30

	.balign	16
rec_literal:
	.quad	0x0123456789abcdef
	.ltorg
	table_end

	/* --- exceptions: SVC, and a load that faults ------------------------ */
	table	expect_exception
	.globl	rec_exception, rec_exception_back
rec_exception:
	ldr	x20, =0x7fff00000000	/* nothing is mapped here */
1:
	t "SVC", OTHER, 0, NO, NO, 1, K_EXCEPTION
	svc	#0
rec_exception_back:
	t "LDR that faults", OTHER, 0, NO, NO, 1, K_EXCEPTION
	ldr	x1, [x20]
	t "UDF", OTHER, 0, NO, NO, 1, K_EXCEPTION
	.inst	0x00000000
	t "NOP between exceptions", OTHER, 0x00
	nop
	subs	x0, x0, #1
	b.ne	1b
	ret
	.ltorg
	table_end

	/* --- SVE, with a vector length of 256 bits --------------------------- */
	table	expect_sve
	.globl	rec_sve
rec_sve:
	mov	x27, x0
	ldr	x20, =rec_data
	mov	x22, #0
	ptrue	p0.d
	pfalse	p1.b
	ptrue	p2.d, vl1
	mov	z3.d, #1
	index	z2.d, #0, #1
	lsl	z1.d, z2.d, #4
1:
	t "LDR Zt", LDST, 0x38, rec_data
	ldr	z0, [x20]
	t "STR Zt", LDST, 0x39, rec_data+32
	str	z0, [x20, #1, mul vl]
	t "LD1D contiguous", LDST, 0x3c, rec_data
	ld1d	{z0.d}, p0/z, [x20]
	t "LD1D contiguous, scalar plus scalar", LDST, 0x3c, rec_data
	ld1d	{z0.d}, p0/z, [x20, x22, lsl #3]
	t "ST1D contiguous", LDST, 0x3d, rec_data+64
	st1d	{z0.d}, p0, [x20, #2, mul vl]
	t "LD1D, one element active", LDST, 0x3c, rec_data, NO, RETIRED | PARTIAL
	ld1d	{z0.d}, p2/z, [x20]
	t "LD1D, no element active", LDST, 0x3c, NO, NO, RETIRED | PARTIAL | EMPTY, K_ANYVA
	ld1d	{z0.d}, p1/z, [x20]
	t "LD1D gather", LDST, 0xbc, rec_data, NO, RETIRED, K_GATHER
	ld1d	{z0.d}, p0/z, [x20, z1.d]
	t "ST1D scatter", LDST, 0xbd, rec_data, NO, RETIRED, K_GATHER
	st1d	{z0.d}, p0, [x20, z1.d]
	t "LD2D", LDST, 0x3c, rec_data
	ld2d	{z4.d, z5.d}, p0/z, [x20]
	t "LD1RD", LDST, 0x3c, rec_data+8
	ld1rd	{z0.d}, p0/z, [x20, #8]
	t "LDFF1D", LDST, 0x3c, rec_data
	ldff1d	{z0.d}, p0/z, [x20, xzr, lsl #3]
	t "SVE ADD, unpredicated", OTHER, 0x38
	add	z0.d, z0.d, z3.d
	t "SVE ADD, predicated", OTHER, 0x3c
	add	z0.d, p0/m, z0.d, z3.d
	t "SVE ADD, no element active", OTHER, 0x3c, NO, NO, RETIRED | PARTIAL | EMPTY
	add	z0.d, p1/m, z0.d, z3.d
	t "SVE FADD, predicated", OTHER, 0x3e
	fadd	z4.d, p0/m, z4.d, z5.d
	t "SVE FADD, unpredicated", OTHER, 0x3a
	fadd	z4.d, z4.d, z5.d
	subs	x27, x27, #1
	b.ne	1b
	ret
	.ltorg
	table_end

	/* --- MOPS -------------------------------------------------------------- */
	table	expect_mops
	.globl	rec_mops
rec_mops:
	mov	x27, x0
	ldr	x20, =rec_data
1:
	add	x1, x20, #1024		/* destination */
	mov	x2, x20			/* source */
	mov	x3, #64
	t "CPYFP", LDST, 0x20, rec_data, rec_data+1024, RETIRED, K_WITHIN
	cpyfp	[x1]!, [x2]!, x3!
	t "CPYFM", LDST, 0x20, rec_data, rec_data+1024, RETIRED, K_WITHIN
	cpyfm	[x1]!, [x2]!, x3!
	t "CPYFE", LDST, 0x20, rec_data, rec_data+1024, RETIRED, K_WITHIN
	cpyfe	[x1]!, [x2]!, x3!
	/* over the end of a page: the prologue stops there, the epilogue has the rest */
	add	x1, x20, #4096-32
	mov	x2, x20
	mov	x3, #64
	t "CPYFP, up to a page", LDST, 0x20, rec_data, rec_data+4096-32, RETIRED, K_WITHIN
	cpyfp	[x1]!, [x2]!, x3!
	t "CPYFM, less than a page left", LDST, 0x20, NO, NO, RETIRED, K_WITHIN
	cpyfm	[x1]!, [x2]!, x3!
	t "CPYFE, behind the page", LDST, 0x20, rec_data+32, rec_data+4096, RETIRED, K_WITHIN
	cpyfe	[x1]!, [x2]!, x3!
	add	x1, x20, #2048
	mov	x3, #64
	t "SETP", LDST, 0x25, NO, rec_data+2048, RETIRED, K_WITHIN
	setp	[x1]!, x3!, x22
	t "SETM", LDST, 0x25, NO, rec_data+2048, RETIRED, K_WITHIN
	setm	[x1]!, x3!, x22
	t "SETE", LDST, 0x25, NO, rec_data+2048, RETIRED, K_WITHIN
	sete	[x1]!, x3!, x22
	add	x1, x20, #4096-32
	mov	x3, #64
	t "SETP, up to a page", LDST, 0x25, NO, rec_data+4096-32, RETIRED, K_WITHIN
	setp	[x1]!, x3!, x22
	t "SETM, less than a page left", LDST, 0x25, NO, NO, RETIRED, K_WITHIN
	setm	[x1]!, x3!, x22
	t "SETE, behind the page", LDST, 0x25, NO, rec_data+4096, RETIRED, K_WITHIN
	sete	[x1]!, x3!, x22
	subs	x27, x27, #1
	b.ne	1b
	ret
	.ltorg
	table_end

	/* SP_EL1, which FEAT_NV2 turns into memory at VNCR_EL2 + 0x240 */
	.globl	wl_nv2, wl_nv2_mrs, wl_nv2_msr
wl_nv2:
wl_nv2_mrs:
	mrs	x1, sp_el1
wl_nv2_msr:
	msr	sp_el1, x1
	subs	x0, x0, #1
	b.ne	wl_nv2
	ret

	.bss
	.balign	4096
	.globl	rec_data
rec_data:
	.skip	8192
