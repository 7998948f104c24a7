/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * Firmware of a machine with EL3 that keeps the profiling buffer: MDCR_EL3.NSPB
 * stays 0, so that PMBIDR_EL1.P is 1 for Linux at Non-secure EL2. All else that
 * Documentation/arch/arm64/booting.rst asks of EL3 is done. One CPU; of PSCI
 * what a kernel needs to end. Position 0, run from flash.
 */

#define RAM		0x40000000	/* QEMU has put the device tree here */
#define KERNEL		0x42000000
#define INITRD		0x60000000	/* as the kernel's command line says */
#define DMA		0x7fff0000	/* fw_cfg's request; it knows Non-secure memory only */
#define FW_CFG_DMA	0x09020010
#define GICD		0x08000000
#define GICR		0x080a0000
#define GPIO		0x090b0000	/* Secure: line 0 is the power switch */

/* fw_cfg: the sizes are 32 bits, little-endian */
#define KERNEL_SIZE	0x08
#define INITRD_SIZE	0x0b
#define KERNEL_DATA	0x11
#define INITRD_DATA	0x12

#define PSCI_VERSION	0x84000000
#define PSCI_OFF	0x84000008
#define PSCI_RESET	0x84000009

	.macro	fetch key, to, len
	mov	w0, \key
	ldr	x1, =\to
	mov	w2, \len
	bl	fw_cfg
	.endm

	.section .text
	.globl	_start
_start:
	adr	x0, vectors
	msr	vbar_el3, x0

	fetch	KERNEL_SIZE, DMA + 16, 4
	ldr	x3, =DMA + 16
	ldr	w3, [x3]
	fetch	KERNEL_DATA, KERNEL, w3
	fetch	INITRD_SIZE, DMA + 16, 4
	ldr	x3, =DMA + 16
	ldr	w3, [x3]
	fetch	INITRD_DATA, INITRD, w3

	/* All interrupts belong to Group 1 of the Non-secure state */
	ldr	x0, =GICR
	str	wzr, [x0, 0x14]			// GICR_WAKER
	mov	w1, -1
	add	x0, x0, 0x10000
	str	w1, [x0, 0x80]			// GICR_IGROUPR0
	ldr	x0, =GICD + 0x84		// GICD_IGROUPR1 and on
	mov	w2, 31
1:	str	w1, [x0], 4
	subs	w2, w2, 1
	b.ne	1b
	mov	x0, 0xf
	msr	S3_6_C12_C12_5, x0		// ICC_SRE_EL3
	isb

	/* What a CPU does not have is RES0 */
	msr	mdcr_el3, xzr
	mov	x0, 0x1100			// ESM, EZ
	msr	S3_6_C1_C1_2, x0		// CPTR_EL3
	isb
	mov	x0, 0xf
	msr	S3_6_C1_C2_0, x0		// ZCR_EL3
	ldr	x0, =0xc000000f			// FA64, EZT0
	msr	S3_6_C1_C2_6, x0		// SMCR_EL3
	/*
	 * NS, HCE, RW, APK, API, EnSCXT, ATA, FGTEn, ECVEn, HXEn, GCSEn, EnTP2,
	 * TCR2En, SCTLR2En, PIEn, FGTEn2
	 */
	ldr	x0, =0x08003ac01e030531
	msr	scr_el3, x0
	mov	x0, 0x3c9			// EL2h, no exceptions
	msr	spsr_el3, x0
	ldr	x0, =KERNEL
	msr	elr_el3, x0
	isb

	ldr	x0, =RAM
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	eret

/* fw_cfg: item w0 into memory at x1, w2 bytes */
fw_cfg:
	ldr	x4, =DMA
	lsl	w0, w0, 16
	add	w0, w0, 0xa			// select, read
	rev	w0, w0
	rev	w2, w2
	rev	x1, x1
	stp	w0, w2, [x4]
	str	x1, [x4, 8]
	rev	x5, x4
	dsb	sy
	ldr	x0, =FW_CFG_DMA
	str	x5, [x0]
1:	ldr	w0, [x4]
	cbnz	w0, 1b
	ret

	.balign	0x800
vectors:
	.org	vectors + 0x400			// from AArch64: SMC
	mrs	x1, esr_el3
	lsr	x1, x1, 26
	cmp	x1, 0x17
	b.ne	.				// a trap: nothing is to get here
	ldr	w1, =PSCI_OFF
	cmp	w0, w1
	b.eq	off
	ldr	w1, =PSCI_RESET
	cmp	w0, w1
	b.eq	off
	ldr	w1, =PSCI_VERSION
	cmp	w0, w1
	mov	x0, -1				// not supported
	mov	w1, 2				// 0.2
	csel	x0, x1, x0, eq
	eret
off:
	ldr	x0, =GPIO
	mov	w1, 1
	str	w1, [x0, 0x400]			// an output ...
	str	w1, [x0, 1 << 2]		// ... and on
	b	.
	.ltorg
