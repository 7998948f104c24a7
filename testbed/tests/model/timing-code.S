/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The instructions of timing.c. Each stands there INTERVAL times: one of them
 * is sampled, wherever the counter is when the block begins. Only what is
 * sampled counts for the model's caches, so a block is one access.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
	.arch	armv8.2-a+sve+lse

/* Instructions from sample to sample, with PMSIRR_EL1.INTERVAL=1 */
#define INTERVAL	257

#define RETIRED		(1 << 1)
#define L1		(1 << 2)
#define L1_MISS		(1 << 3)
#define TLB		(1 << 4)
#define WALK		(1 << 5)
#define NOT_TAKEN	(1 << 6)
#define MISPREDICTED	(1 << 7)
#define LLC		(1 << 8)
#define LLC_MISS	(1 << 9)
#define REMOTE		(1 << 10)
#define MISALIGNED	(1 << 11)
#define L2		(1 << 19)
#define L2_MISS		(1 << 20)
#define MODIFIED	(1 << 21)
#define SNOOPED		(1 << 23)

	/* Where a load finds its data: events, Data Source */
#define HIT_L1		(L1)
#define HIT_L2		(L1 | L1_MISS | L2)
#define HIT_LLC		(L1 | L1_MISS | L2 | L2_MISS | LLC)
#define MISS		(L1 | L1_MISS | L2 | L2_MISS | LLC | LLC_MISS)
#define PEER		(HIT_LLC | MODIFIED | SNOOPED)
	/* Stores go to a buffer, before the L2 is asked */
#define ST_MISS		(L1 | L1_MISS | LLC | LLC_MISS)
#define ST_LLC		(L1 | L1_MISS | LLC)
#define DS_L1		0x00
#define DS_L2		0x08
#define DS_PEER		0x09
#define DS_LLC		0x0b
#define DS_CLUSTER	0x0c
#define DS_REMOTE	0x0d
#define DS_DRAM		0x0e
#define DS_NONE		0xff

	.macro	row name, total, xlat, events, ds
	.pushsection .rodata.timing, "a"
	.quad	8f, 9f, RETIRED | (\events)
	.word	\total, \xlat, \ds, 0
	.pushsection .rodata.names, "a"
9:	.asciz	"\name"
	.popsection
	.popsection
	.balign	4
8:
	.endm

	/* A block of one instruction */
	.macro	one name, total, xlat, events, ds, insn:vararg
	row	"\insn: \name", \total, \xlat, (\events), \ds
	.rept	INTERVAL
	\insn
	.endr
	.endm
	.macro	mem name, total, xlat, events, ds, insn:vararg
	one	"\name", \total, \xlat, (\events) | TLB, \ds, \insn
	.endm
	.macro	exec cycles, insn:vararg
	one	"execution", 1 + \cycles, 0, 0, DS_NONE, \insn
	.endm

	.macro	rows name
	.text
	.globl	rows_\name, time_\name
	.pushsection .rodata.timing, "a"
	.balign	8
rows_\name :
	.popsection
time_\name :
	.endm

	.macro	rows_end
	ret
	.pushsection .rodata.timing, "a"
	.quad	0
	.popsection
	.endm

	/* --- memory: x0 is a page in 8 MB that nothing else touches ------------ */
	/* issue 1; walk 20, hit 1; L1 4, L2 12, LLC 40, DRAM 160 */
	rows	mem
	mem	"first touch of page and line", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x0]
	mem	"second touch", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	mem	"other word of the line", 6, 1, HIT_L1, DS_L1, ldr w1, [x0, #56]
	mem	"first touch of the next line", 162, 1, MISS, DS_DRAM, ldr x1, [x0, #64]
	add	x2, x0, #64
	mem	"the last byte of a line", 6, 1, HIT_L1, DS_L1, ldrb w1, [x2, #63]
	mem	"the last bytes of a line", 6, 1, HIT_L1, DS_L1, ldr w1, [x2, #60]
	mem	"the last bytes of a line", 6, 1, HIT_L1, DS_L1, ldr q1, [x2, #48]
	mem	"misaligned in a line", 6, 1, HIT_L1, DS_L1, ldr x1, [x2, #1]
	mem	"over the end of a line", 11, 1, HIT_L1 | MISALIGNED, DS_L1, ldr x1, [x2, #57]
	mem	"over the end of a line", 11, 1, HIT_L1 | MISALIGNED, DS_L1, ldrh w1, [x2, #63]
	mem	"over the end of a line", 11, 1, HIT_L1 | MISALIGNED, DS_L1, ldp x1, x3, [x2, #56]
	mem	"over the end of a line", 11, 1, HIT_L1 | MISALIGNED, DS_L1, ldr q1, [x2, #49]
	/* of the same set of the L1, 32 KB, but not of the L2 */
	add	x2, x0, #0x8000
	mem	"32 KB on", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x2]
	mem	"from the L2", 14, 1, HIT_L2, DS_L2, ldr x1, [x0]
	mem	"in the L1 again", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	/* ... of the L2, 512 KB, but not of the LLC */
	add	x2, x0, #0x80, lsl #12
	mem	"512 KB on", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x2]
	mem	"from the LLC", 42, 1, HIT_LLC, DS_LLC, ldr x1, [x0]
	mem	"in the L1 again", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	/* ... and of the TLB, 256 pages */
	add	x2, x0, #0x100, lsl #12
	mem	"1 MB on", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x2]
	mem	"walk, from the LLC", 61, 20, HIT_LLC | WALK, DS_LLC, ldr x1, [x0]
	/* ... of the LLC, 4 MB, too */
	add	x2, x0, #0x400, lsl #12
	mem	"4 MB on", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x2]
	mem	"walk, from memory again", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x0]
	/* exclusives are loads and stores */
	mem	"a load", 6, 1, HIT_L1, DS_L1, ldxr x1, [x0]
	mem	"a load", 6, 1, HIT_L1, DS_L1, ldar x1, [x0]
	/* stores: 2 */
	mem	"line of the L1", 4, 1, L1, DS_NONE, str x1, [x0]
	mem	"line of the L1", 4, 1, L1, DS_NONE, stlr x1, [x0]
	add	x2, x0, #0x2000
	mem	"first touch of page and line", 23, 20, ST_MISS | WALK, DS_NONE, str x1, [x2]
	mem	"second touch", 4, 1, L1, DS_NONE, stp x1, x1, [x2, #16]
	mem	"over the end of a line", 9, 1, L1 | MISALIGNED, DS_NONE, str x1, [x2, #60]
	mem	"the store's line", 6, 1, HIT_L1, DS_L1, ldr x1, [x2]
	/* atomics: 6 on top of the load */
	mem	"line of the L1", 12, 1, HIT_L1, DS_L1, ldadd x1, x3, [x0]
	mem	"line of the L1", 12, 1, HIT_L1, DS_L1, swpal x1, x3, [x0]
	mem	"line of the L1", 12, 1, HIT_L1, DS_L1, cas x1, x3, [x0]
	add	x2, x0, #0x3000
	mem	"first touch of page and line", 187, 20, MISS | WALK, DS_DRAM, ldset x1, x3, [x2]
	/*
	 * Devices: 250, from no cache, 2 to them. GICD_TYPER, and UARTIMSC. The
	 * first takes longer than the interval; what is selected then collides.
	 */
	mov	x2, #0x08000000
	mem	"a device, walk", 271, 20, WALK, DS_DRAM, ldr w1, [x2, #4]
	.rept	INTERVAL
	nop
	.endr
	mem	"a device", 252, 1, 0, DS_DRAM, ldr w1, [x2, #4]
	mov	x2, #0x09000000
	mem	"a device, walk", 23, 20, WALK, DS_NONE, str wzr, [x2, #56]
	mem	"a device", 4, 1, 0, DS_NONE, str wzr, [x2, #56]
	rows_end

	/* --- with stage 2: 45 for a walk --------------------------------------- */
	rows	two
	mem	"walk of two stages", 206, 45, MISS | WALK, DS_DRAM, ldr x1, [x0]
	mem	"hit", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	add	x2, x0, #0x1000
	mem	"walk of two stages", 48, 45, ST_MISS | WALK, DS_NONE, str x1, [x2]
	rows_end

	/* --- a page that another regime has translated ------------------------- */
	rows	regime
	mem	"page of another regime", 25, 20, HIT_L1 | WALK, DS_L1, ldr x1, [x0]
	mem	"hit", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	rows_end

	/* --- one other access to a line: of two CPUs ---------------------------- */
	rows	load_cold
	mem	"first touch", 181, 20, MISS | WALK, DS_DRAM, ldr x1, [x0]
	rows_end
	rows	load_hit
	mem	"own line", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	rows_end
	rows	load_peer
	mem	"another CPU stored", 62, 1, PEER, DS_PEER, ldr x1, [x0]
	mem	"own line", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	rows_end
	rows	load_cluster
	mem	"a CPU of another cluster stored", 92, 1, PEER, DS_CLUSTER, ldr x1, [x0]
	mem	"own line", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	rows_end
	rows	load_remote
	mem	"a CPU of another socket stored", 222, 1, PEER | REMOTE, DS_REMOTE, ldr x1, [x0]
	mem	"own line", 6, 1, HIT_L1, DS_L1, ldr x1, [x0]
	rows_end
	rows	store_cold
	mem	"first touch, line of another CPU", 23, 20, ST_LLC | WALK, DS_NONE, str x1, [x0]
	rows_end
	rows	store_hit
	mem	"own line", 4, 1, L1, DS_NONE, str x1, [x0]
	rows_end

	/* --- execution ---------------------------------------------------------- */
	rows	exec
	mov	x1, #7
	mov	x2, #3
	cmp	x1, x2
	exec	1, nop
	exec	1, add x3, x1, x2
	exec	1, eor x3, x1, x2, lsl #5
	exec	1, csel x3, x1, x2, ne
	exec	1, adrp x3, time_exec
	exec	3, mul x3, x1, x2
	exec	3, madd w3, w1, w2, w1
	exec	3, umulh x3, x1, x2
	exec	12, udiv x3, x1, x2
	exec	12, sdiv w3, w1, w2
	exec	4, fadd d0, d1, d2
	exec	4, fmadd s0, s1, s2, s3
	exec	4, fmul v0.4s, v1.4s, v2.4s
	exec	14, fdiv d0, d1, d2
	exec	14, fsqrt s0, s1
	exec	2, add v0.4s, v1.4s, v2.4s
	exec	2, tbl v0.16b, {v1.16b}, v2.16b
	exec	20, dmb sy
	exec	20, dsb nshld
	exec	5, mrs x3, tpidr_el1
	exec	5, mrs x3, midr_el1
	rows_end

	rows	sve
	ptrue	p0.d
	exec	2, add z0.d, z1.d, z2.d
	rows_end

	/* --- branches ----------------------------------------------------------- */
	/* Those that no predictor is asked about */
	rows	branch
	row	"b", 2, 0, 0, DS_NONE
	.rept	INTERVAL
	b	. + 4
	.endr
	mov	x9, x30
	row	"bl", 2, 0, 0, DS_NONE
	.rept	INTERVAL
	bl	. + 4
	.endr
	mov	x30, x9
	rows_end

	/*
	 * One branch again and again: a loop is four intervals, so the samples
	 * of all its turns are of the same instructions. x0 is the number of turns.
	 */
	.macro	branches name, insn:vararg
	.globl	loop_\name, at_\name, end_\name
loop_\name :
at_\name :
	.rept	INTERVAL
	\insn
	.endr
end_\name :
	.rept	3 * INTERVAL - 2
	nop
	.endr
	subs	x0, x0, #1
	b.ne	loop_\name
	ret
	.endm
	branches taken, cbz xzr, . + 4
	branches not_taken, cbnz xzr, . + 4
	/* x0 is odd in every other turn */
	branches alternating, tbz x0, #0, . + 4

	/* Indirect branches to the first or the second B; the turn says which */
	.globl	loop_indirect, at_indirect, end_indirect
loop_indirect:
	adr	x1, at_indirect - 8
	and	x2, x0, #2
	mov	x9, x30
	add	x1, x1, x2, lsl #1
at_indirect:
	.rept	INTERVAL / 3
	add	x1, x1, #16
	br	x1
	b	. + 8
	b	. + 4
	.endr
end_indirect:
	mov	x30, x9
	.rept	4 * INTERVAL - 4 - 3 * (INTERVAL / 3) - 1 - 2
	nop
	.endr
	subs	x0, x0, #1
	b.ne	loop_indirect
	ret
