/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entry, exception vectors of EL3, EL2 and EL1, and the way down to a lower
 * Exception level and back. test_main() runs at EL2; with EL3 present, EL3
 * only sets the machine up and then serves calls (SMC #1). Without EL2,
 * test_el1() runs at EL1.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#define STACK_SIZE	0x4000
#define CPU_STACKS	(STACK_SIZE * 4)	/* EL0, EL1, EL2, EL3 */
#define RETURN		0x77			/* imm of HVC or SVC: go back up */
#define FRAME		288

	.macro	mov64 reg, val
	movz	\reg, #((\val) & 0xffff)
	movk	\reg, #(((\val) >> 16) & 0xffff), lsl #16
	movk	\reg, #(((\val) >> 32) & 0xffff), lsl #32
	movk	\reg, #(((\val) >> 48) & 0xffff), lsl #48
	.endm

	/* x0 = top of the stack of this CPU for Exception level \el */
	.macro	cpu_stack el
	mrs	x0, mpidr_el1		/* as cpu_number() */
	ubfx	x2, x0, #8, #1
	and	x0, x0, #3
	orr	x0, x0, x2, lsl #1
	ldr	x1, =__stacks
	mov	x2, #CPU_STACKS
	madd	x0, x0, x2, x1
	mov	x2, #(STACK_SIZE * (\el + 1))
	add	x0, x0, x2
	.endm

	.section .text.boot, "ax"
	.globl	_start
_start:
	mrs	x9, CurrentEL
	cmp	x9, #(3 << 2)
	b.ne	1f

	cpu_stack 3
	mov	sp, x0
	ldr	x0, =vectors_el3
	msr	vbar_el3, x0
	/* NS, RES1, HCE, RW, APK, API, FGTEn, ECVEn, HXEn, FGTEn2 */
	mov64	x0, (1 | 3 << 4 | 1 << 8 | 1 << 10 | 3 << 16 | 3 << 27 | 1 << 38 | 1 << 59)
	msr	scr_el3, x0
	msr	cptr_el3, xzr
	mov	x0, #(1 << 8)		/* EZ */
	mrs	x1, id_aa64pfr0_el1
	ubfx	x1, x1, #32, #4
	cbz	x1, 2f
	msr	cptr_el3, x0
2:	mrs	x0, mdcr_el3
	ldr	x1, =el3_mdcr_reset
	str	x0, [x1]
	/* NSPB = 0b11, EnPMSN, EnPMS3 */
	mov64	x0, (3 << 12 | 1 << 36 | 1 << 42)
	msr	mdcr_el3, x0
	mov	x0, #0xf
	msr	S3_6_C12_C12_5, x0	/* ICC_SRE_EL3 */
	isb
	mov	x0, #0x3c9		/* EL2h, DAIF masked */
	msr	spsr_el3, x0
	adr	x0, 1f
	msr	elr_el3, x0
	eret

1:	mrs	x9, CurrentEL
	cmp	x9, #(1 << 2)
	b.eq	start_el1
	cpu_stack 2
	mov	sp, x0
	mov64	x0, (1 << 31)		/* RW */
	msr	hcr_el2, x0
	mov	x0, #0x32ff		/* RES1; FP and SVE not trapped */
	msr	cptr_el2, x0
	ldr	x0, =vectors_el2
	msr	vbar_el2, x0
	ldr	x0, =vectors_el1
	msr	vbar_el1, x0
	mov	x0, #3
	msr	cnthctl_el2, x0
	msr	cntvoff_el2, xzr
	mov	x0, #(3 << 20 | 3 << 16)	/* FPEN, ZEN */
	msr	cpacr_el1, x0
	cpu_stack 1
	msr	sp_el1, x0
	cpu_stack 0
	msr	sp_el0, x0
	isb
	mrs	x0, mpidr_el1
	ands	x0, x0, #0xffff
	b.ne	1f
	bl	boot_cpu
1:	bl	secondary_cpu
	b	.

	/* A machine without EL2: one CPU, which stays at EL1 */
start_el1:
	cpu_stack 1
	mov	sp, x0
	ldr	x0, =vectors_el1
	msr	vbar_el1, x0
	mov	x0, #(3 << 20 | 3 << 16)	/* FPEN, ZEN */
	msr	cpacr_el1, x0
	isb
	bl	boot_el1
	b	.

	.text
	.macro	vectors el
	.balign	2048
	.globl	vectors_el\el
vectors_el\el :
	.set	vec, 0
	.rept	16
	.balign	128
	sub	sp, sp, #FRAME
	stp	x0, x1, [sp]
	mov	x1, #vec
	b	common_el\el
	.set	vec, vec + 1
	.endr

common_el\el :
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	mrs	x2, elr_el\el
	stp	x30, x2, [sp, #240]
	mrs	x2, spsr_el\el
	mrs	x3, esr_el\el
	stp	x2, x3, [sp, #256]
	mrs	x2, far_el\el
	str	x2, [sp, #272]
	mov	x2, x1
	mov	x1, #\el
	mov	x0, sp
	bl	handle_exception
	ldp	x30, x2, [sp, #240]
	ldr	x3, [sp, #256]
	msr	elr_el\el , x2
	msr	spsr_el\el , x3
	ldp	x2, x3, [sp, #16]
	ldp	x4, x5, [sp, #32]
	ldp	x6, x7, [sp, #48]
	ldp	x8, x9, [sp, #64]
	ldp	x10, x11, [sp, #80]
	ldp	x12, x13, [sp, #96]
	ldp	x14, x15, [sp, #112]
	ldp	x16, x17, [sp, #128]
	ldp	x18, x19, [sp, #144]
	ldp	x20, x21, [sp, #160]
	ldp	x22, x23, [sp, #176]
	ldp	x24, x25, [sp, #192]
	ldp	x26, x27, [sp, #208]
	ldp	x28, x29, [sp, #224]
	ldp	x0, x1, [sp]
	add	sp, sp, #FRAME
	eret
	.endm

	/* With E2H=1 the names of EL1 mean EL2 at EL2, but not those of EL2. */
	vectors	1
	vectors	2
	vectors	3

	/* What leave_lower() restores; its address goes to *x3. */
	.macro leave_frame
	stp	x29, x30, [sp, #-96]!
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	mov	x9, sp
	str	x9, [x3]
	.endm

/*
 * u64 enter_lower(fn, arg, spsr, u64 *sp): run fn(arg) with SPSR_EL2 = spsr;
 * the result comes back through leave_lower(). In AArch32 state fn has no
 * argument, and makes the HVC itself.
 */
	.globl	enter_lower
enter_lower:
	leave_frame
	msr	spsr_el2, x2
	adr	x9, tramp_el0
	adr	x10, tramp_el1
	tst	x2, #0xf
	csel	x9, x9, x10, eq
	tst	x2, #0x10		/* AArch32 */
	csel	x9, x9, x0, eq
	msr	elr_el2, x9
	eret

/* leave_lower(result, sp): at EL2, from its exception handler */
	.globl	leave_lower
leave_lower:
	mov	sp, x1
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	x29, x30, [sp], #96
	ret

	.globl	tramp_el1
tramp_el1:
	mov	x9, x0
	mov	x0, x1
	blr	x9
	hvc	#RETURN

	.globl	tramp_el0
tramp_el0:
	mov	x9, x0
	mov	x0, x1
	blr	x9
	svc	#RETURN

/* hvc_return(result, sp): EL1 passes the result of EL0 on to EL2 */
	.globl	hvc_return
hvc_return:
	mov	sp, x1
	hvc	#RETURN

/* u64 call_el3(fn, arg) */
	.globl	call_el3
call_el3:
	smc	#1
	ret

/*
 * u64 enter_secure(fn, arg, spsr, u64 *sp): at EL3, run fn(arg) at Secure EL1
 * or EL2; comes back by SMC #2 and leave_lower(), which serves EL3 as well.
 */
	.globl	enter_secure
enter_secure:
	leave_frame
	msr	spsr_el3, x2
	adr	x9, tramp_secure
	msr	elr_el3, x9
	eret

	.globl	tramp_secure
tramp_secure:
	mov	x9, x0
	mov	x0, x1
	blr	x9
	smc	#2

	.globl	semihost
semihost:
	hlt	#0xf000
	ret

	.globl	psci_call
psci_call:
	smc	#0
	ret
