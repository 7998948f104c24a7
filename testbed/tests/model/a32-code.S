/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * AArch32 code of a32.c, and the way to it.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.text
	/*
	 * u64 a32_spin(loops), at EL1: run a loop of 2 instructions at EL0 in
	 * AArch32 state. Its SVC returns from this function's caller, as the
	 * one of tramp_el0 does.
	 */
	.globl	a32_spin
a32_spin:
	mov	x1, #0x1d0		/* User mode, A32; A, I and F masked */
	msr	spsr_el1, x1
	adr	x1, 1f
	msr	elr_el1, x1
	eret
1:
	.inst	0xe2500001		/* subs r0, r0, #1 */
	.inst	0x1afffffd		/* bne 1b */
	.inst	0xef000077		/* svc #RETURN */

	/*
	 * u32 a32_serror(), at EL1 in AArch32 state with a32_vectors: 1, or
	 * the DFSR of the data abort that comes first.
	 */
	.globl	a32_serror, a32_vectors
a32_serror:
	.inst	0xe3a00001		/* mov r0, #1 */
	.inst	0xe320f000		/* nop */
	.inst	0xe320f000		/* nop */
	.inst	0xe1400777		/* hvc #RETURN */

	.balign	32
a32_vectors:
	.rept	4
	.inst	0xe1400777		/* hvc #RETURN */
	.endr
	.inst	0xee150f10		/* mrc p15, 0, r0, c5, c0, 0: DFSR */
	.inst	0xe1400777		/* hvc #RETURN; not used as a vector */
	.inst	0xe1400777
	.inst	0xe1400777
