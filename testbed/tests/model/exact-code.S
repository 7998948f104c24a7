/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Code of exact.c whose instructions are counted one by one.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.arch	armv8.2-a
	.text

	/*
	 * u64 faults(loops), at EL0: most of the ways to take an exception, at
	 * different places of straight code. faults_insns is a loop's length;
	 * one instruction comes before the loops.
	 */
	.globl	faults, faults_insns
faults:
	ldr	x9, =0x7fff00000000	/* nothing is mapped here */
1:
	nop
	nop
	ldr	x1, [x9]
	nop
	str	x1, [x9, #8]
	ldr	x1, [x9, #16]
	.inst	0x00000000		/* UDF */
	nop
	nop
	nop
	svc	#0
	nop
	mrs	x1, S3_0_C9_C9_2	/* UNDEFINED at EL0 */
	nop
	brk	#1
	ldp	x1, x2, [x9]
	ldxr	x1, [x9]
	ldadd	x1, x2, [x9]
	nop
	ldr	q0, [x9]
	ld1	{v0.4s, v1.4s}, [x9]
	cbz	xzr, 2f
2:
	str	w1, [x9]
	subs	x0, x0, #1
	b.ne	1b
3:
	ret
	.ltorg

	.section .rodata
	.balign	8
faults_insns:
	.quad	(3b - 1b) / 4
	.text

	/* A branch before an exception, and one after it */
	.globl	pbt, pbt_b
pbt:
	ldr	x9, =0x7fff00000000
	ldr	x1, [x9]
pbt_b:
	b	1f
	nop
1:	ret
	.ltorg

	/* u64 nv2_pmsicr(loops): 3 instructions a loop */
	.globl	nv2_pmsicr, nv2_pmsicr_msr
nv2_pmsicr:
nv2_pmsicr_msr:
	msr	S3_0_C9_C9_2, x0
	subs	x0, x0, #1
	b.ne	nv2_pmsicr
	ret
