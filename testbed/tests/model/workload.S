/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions to sample, whose number is known.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.text

	/*
	 * One loop is WL_LONG_INSNS instructions, a prime and larger than
	 * two jitters, so that the distance of two samples is the distance
	 * of their PCs modulo the loop.
	 */
	.balign	64
	.globl	wl_long, wl_long_loop
wl_long:
wl_long_loop:
	.rept	4097
	nop
	.endr
	subs	x0, x0, #1
	b.ne	wl_long_loop
	ret

	/*
	 * Loads from two devices, in turn: GICD_TYPER and UARTFR of the PL011.
	 * One loop is WL_DEVICE_INSNS instructions.
	 */
	.globl	wl_device, wl_device_loop
wl_device:
	mov	x9, #0x08000000
	mov	x10, #0x09000000
wl_device_loop:
	.rept	2050
	ldr	w1, [x9, #4]
	ldr	w2, [x10, #0x18]
	.endr
	subs	x0, x0, #1
	b.ne	wl_device_loop
	ret

	.globl	wl_spin, wl_spin_loop, wl_spin_end
wl_spin:
wl_spin_loop:
	subs	x0, x0, #1
	b.ne	wl_spin_loop
wl_spin_end:
	ret

	/* u64 wl_access(va): loads and stores at va, 5000 times */
	.globl	wl_access, wl_access_ldr
wl_access:
	mov	x1, #5000
1:
wl_access_ldr:
	ldr	x2, [x0]
	str	x2, [x0, #8]
	subs	x1, x1, #1
	b.ne	1b
	mov	x0, #0
	ret

	.globl	wl_mix, wl_mix_start, wl_mix_end
wl_mix:
	ldr	x9, =wl_data
	mov	x10, #0
wl_mix_start:
	/* filter.c has the types of these 16 in a table */
	.rept	4
	ldr	x1, [x9]
	str	x1, [x9, #8]
	ldp	x1, x2, [x9, #16]
	ldr	w3, [x9, #36]
	ldr	d0, [x9, #40]
	str	q1, [x9, #48]
	add	x10, x10, #1
	tbz	x10, #0, 1f
	add	v3.4s, v3.4s, v3.4s
1:	fadd	d2, d0, d0
	csel	x4, x1, x2, eq
	strb	w1, [x9, #9]
	ldadd	x10, x5, [x9]
	cbz	xzr, 2f
	nop
2:	eor	x6, x5, x4
	.endr
	subs	x0, x0, #1
	b.ne	wl_mix_start
wl_mix_end:
	ret

	/*
	 * u64 wl_rare(loops): what is rare in wl_mix. Loads of 1024 pages, one
	 * line each, in turn: of the TLB and all caches but the LLC, most miss.
	 * Branches on bits of a shift register, of which half is mispredicted.
	 * Loads over the end of a line.
	 * BUF2 is where the pages are.
	 */
	.globl	wl_rare, wl_rare_start, wl_rare_end
wl_rare:
	mov	x9, #0x44000000
	mov	x10, #0
	mov	x11, #1
wl_rare_start:
	eor	x11, x11, x11, lsl #13
	eor	x11, x11, x11, lsr #7
	eor	x11, x11, x11, lsl #17
	.irp	bit, 20, 23, 29, 34
	ldr	x1, [x9, x10]
	add	x10, x10, #0x1, lsl #12
	and	x10, x10, #0x3fffff
	tbz	x11, #\bit, 1f
	nop
1:	ldr	x2, [x9]
	ldur	x3, [x9, #60]
	.endr
	subs	x0, x0, #1
	b.ne	wl_rare_start
wl_rare_end:
	ret

	.bss
	.balign	64
wl_data:
	.skip	4096
