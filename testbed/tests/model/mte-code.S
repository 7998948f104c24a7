/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The accesses of mte.c, and the operations on tags with what their records
 * must have.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.arch	armv8.8-a+memtag+lse+sve+mops
	.text
	/* u64 mte_access(va), at EL1: va's tag becomes that of its memory */
	.globl	mte_access, mte_ldr, mte_str, mte_ldtr, mte_sttr, mte_ld1, mte_ldxr, mte_stxr
	.globl	mte_sp_ldr, mte_sp_ldur, mte_sp_ldp, mte_sp_str, mte_sp_ldxr, mte_sp_stxr
	.globl	mte_sp_ldar, mte_sp_ldadd, mte_sp_pre, mte_sp_post, mte_sp_reg
mte_access:
	stg	x0, [x0]
	mov	x1, #3000
	ptrue	p0.d, vl2
1:
mte_ldr:
	ldr	x2, [x0]
mte_str:
	str	x2, [x0]
mte_ldtr:
	ldtr	x3, [x0]
mte_sttr:
	sttr	x3, [x0]
mte_ld1:
	ld1d	{z0.d}, p0/z, [x0]
mte_ldxr:
	ldxr	x2, [x0]
mte_stxr:
	stxr	w3, x2, [x0]
	mov	x8, sp
	mov	sp, x0
mte_sp_ldr:
	ldr	x2, [sp]
mte_sp_ldur:
	ldur	x2, [sp, #1]
mte_sp_ldp:
	ldp	x2, x3, [sp]
mte_sp_str:
	str	xzr, [sp]
mte_sp_ldxr:
	ldxr	x2, [sp]
mte_sp_stxr:
	stxr	w3, x2, [sp]
mte_sp_ldar:
	ldar	x2, [sp]
mte_sp_ldadd:
	ldadd	xzr, x2, [sp]
mte_sp_pre:
	ldr	x2, [sp, #0]!
mte_sp_post:
	ldr	x2, [sp], #0
mte_sp_reg:
	ldr	x2, [sp, xzr]
	mov	sp, x8
	subs	x1, x1, #1
	b.ne	1b
	ret

#define OTHER	0x48
#define LDST	0x49

	/* op name, class, sub, offset, checked: of the next instruction */
	.macro	op name, class, sub, offset=-1, checked=0
	.pushsection .rodata.mte, "a"
	.quad	8f, 9f, \offset
	.word	\class, \sub, \checked, 0
	.pushsection .rodata.names, "a"
9:	.asciz	"\name"
	.popsection
	.popsection
8:
	.endm

	.pushsection .rodata.mte, "a"
	.globl	mte_op_rows
	.balign	8
mte_op_rows:
	.popsection

	/*
	 * u64 mte_ops(va), at EL1: va's tag becomes that of its page. A tag is of
	 * 16 bytes, a block of DC and of STZGM 64.
	 */
	.globl	mte_ops
mte_ops:
	mov	x1, #128
	mov	x2, x0
2:	st2g	x2, [x2], #32
	subs	x1, x1, #1
	b.ne	2b
	mov	x1, #1500
	ubfx	x9, x0, #56, #4
	add	x4, x0, #0x29
	add	x7, x0, #0x200
	add	x8, x0, #0x231
	add	x10, x0, #0x400
	add	x11, x0, #0x4a3
1:
	op	"LDG", LDST, 0x14, 0x10
	ldg	x3, [x0, #16]
	op	"LDG, misaligned", LDST, 0x14, 0x20
	ldg	x3, [x4]
	op	"LDG, negative offset", LDST, 0x14, 0x1f0
	ldg	x3, [x7, #-16]
	op	"STG", LDST, 0x15, 0x20
	stg	x0, [x0, #32]
	mov	x6, x0
	op	"STG, pre-index", LDST, 0x15, 0x10
	stg	x0, [x6, #16]!
	op	"STG, post-index", LDST, 0x15, 0x10
	stg	x0, [x6], #16
	op	"ST2G", LDST, 0x15, 0x60
	st2g	x0, [x0, #96]
	op	"ST2G, post-index", LDST, 0x15, 0x20
	st2g	x0, [x6], #32
	/* with data: a store, but none of tags */
	op	"STZG", LDST, 0x11, 0x80
	stzg	x0, [x0, #128]
	op	"STZ2G", LDST, 0x11, 0xa0
	stz2g	x0, [x0, #160]
	op	"STGP", LDST, 0x01, 0x40
	stgp	x9, x9, [x0, #64]
	op	"LDGM", LDST, 0x14, 0x200
	ldgm	x3, [x7]
	op	"STGM", LDST, 0x15, 0x200
	stgm	x3, [x7]
	op	"STZGM", LDST, 0x11, 0x200
	stzgm	x9, [x7]
	op	"LDGM, misaligned", LDST, 0x14, 0x230
	ldgm	x3, [x8]
	op	"STGM, misaligned", LDST, 0x15, 0x230
	stgm	x3, [x8]
	op	"STZGM, misaligned", LDST, 0x11, 0x230
	stzgm	x9, [x8]
	op	"DC ZVA", LDST, 0x11, 0x400, 1
	dc	zva, x10
	op	"DC ZVA, misaligned", LDST, 0x11, 0x480, 1
	dc	zva, x11
	op	"DC GVA", LDST, 0x15, 0x400
	dc	gva, x10
	op	"DC GVA, misaligned", LDST, 0x15, 0x480
	dc	gva, x11
	op	"DC GZVA", LDST, 0x11, 0x400
	dc	gzva, x10
	op	"DC GZVA, misaligned", LDST, 0x11, 0x480
	dc	gzva, x11
	add	x12, x0, #0x800
	mov	x13, #64
	op	"SETP", LDST, 0x25, 0x800, 1
	setp	[x12]!, x13!, x9
	op	"SETM", LDST, 0x25
	setm	[x12]!, x13!, x9
	op	"SETE", LDST, 0x25
	sete	[x12]!, x13!, x9
	/* with tags: what is written with a tag is not checked */
	add	x12, x0, #0x900
	mov	x13, #64
	op	"SETGP", LDST, 0x25, 0x900
	setgp	[x12]!, x13!, x9
	op	"SETGM", LDST, 0x25
	setgm	[x12]!, x13!, x9
	op	"SETGE", LDST, 0x25
	setge	[x12]!, x13!, x9
	/* of tags, but not of memory */
	op	"IRG", OTHER, 0x00
	irg	x3, x0
	op	"GMI", OTHER, 0x00
	gmi	x3, x0, xzr
	op	"ADDG", OTHER, 0x00
	addg	x3, x0, #16, #1
	op	"SUBG", OTHER, 0x00
	subg	x3, x0, #16, #1
	op	"SUBP", OTHER, 0x00
	subp	x3, x0, x4
	op	"SUBPS", OTHER, 0x00
	subps	x3, x0, x4
	/* a number of instructions that is no divisor of the interval */
	nop
	subs	x1, x1, #1
	b.ne	1b
	ret
	.pushsection .rodata.mte, "a"
	.quad	0
	.popsection
