/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The accesses of mte.c.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.arch	armv8.5-a+memtag+sve
	.text
	/* u64 mte_access(va), at EL1: va's tag becomes that of its memory */
	.globl	mte_access, mte_ldr, mte_str, mte_ldtr, mte_sttr, mte_ld1, mte_ldxr, mte_stxr
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
	subs	x1, x1, #1
	b.ne	1b
	ret
