// SPDX-License-Identifier: GPL-2.0-only
/*
 * A machine that is saved, and goes on elsewhere, in the middle of a profiling
 * session: the session goes on as if nothing had happened, and so does an event
 * that waits for software on another CPU. monitor.sh moves it.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"
#include "speregs.h"

#define MAX_RECS	65536
static struct record recs[MAX_RECS];

/* With the interval, some seconds, and not more records than fit the buffer */
#define LOOPS		1000000UL
#define INTERVAL	0x10000UL

static volatile int prepared, moved;

struct seen {
	u64 regs[16];
	u64 mdcr;
	int irq;
};
static struct seen before, after;

static void look(struct seen *s)
{
	int i;

	for (i = 0; i < spe_nregs; i++)
		if (i != R_PMSCR_EL12 && reg_exists(&spe_regs[i]))
			s->regs[i] = spe_regs[i].rd(0);
	s->mdcr = read_mdcr_el2();
	s->irq = irq_pending();
}

/* CPU 1: an event, and values in all registers */
static u64 waiter(u64 unused)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF2, .limit = BUF2 + PAGE_SIZE,
	};
	int i;

	gic_init();
	write_pmbsr(0);
	spe_start(&s);
	run_at(1, wl_spin, 257 * 200);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	for (i = 0; i < spe_nregs; i++) {
		const struct spe_reg *r = &spe_regs[i];

		if (r->ro || i == R_PMSCR_EL12 || !reg_exists(r) ||
		    i == R_PMBLIMITR || i == R_PMBPTR || i == R_PMBSR || i == R_PMSCR)
			continue;
		r->wr(0x0123456789abcde0UL >> i);
	}
	isb();
	look(&before);
	prepared = 1;
	dsb();
	while (!moved)
		asm volatile("yield");
	look(&after);
	return unused;
}

void test_main(void)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmsirr = INTERVAL | PMSIRR_RND,
		.pmbptr = BUF, .limit = BUF + BUF_SIZE,
	};
	u64 hash = 0, mean = INTERVAL + 128, want = LOOPS * WL_LONG_INSNS / mean;
	int n, i, wrong = 0;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	cpu_start(1, waiter, 0);
	while (!prepared)
		asm volatile("yield");
	spe_start(&s);
	print("# go\n");
	run_at(1, wl_long, LOOPS);
	spe_stop(&s);
	print("# end\n");

	is(s.end_pmbsr, 0, "the session has no event");
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n > (int)(want - want / 50) && n < (int)(want + want / 50),
	   "the session has the records of all of its instructions");
	if (n <= (int)(want - want / 50) || n >= (int)(want + want / 50))
		print("# %d records instead of about %lu\n", n, want);
	for (i = 0; i < n && i < MAX_RECS; i++) {
		u64 pc = ADDR(recs[i].addr[A_PC]);

		wrong += pc < (u64)wl_long_loop ||
			 pc >= (u64)wl_long_loop + 4 * WL_LONG_INSNS;
		hash = hash * 31 + pc;
	}
	is(wrong, 0, "... and no others");
	/* The jitter has one sequence: nothing was lost, or done twice. */
	print("# digest session %#lx %d\n", hash, n);

	moved = 1;
	dsb();
	cpu_wait(1);
	is(before.regs[R_PMBSR], PMBSR_FULL, "CPU 1: an event waits for software");
	ok(before.irq, "CPU 1: ... and PMBIRQ is pending");
	for (i = 0; i < spe_nregs; i++)
		is(after.regs[i], before.regs[i], "CPU 1: %s is what it was", spe_regs[i].name);
	is(after.mdcr, before.mdcr, "CPU 1: MDCR_EL2 is what it was");
	is(after.irq, before.irq, "CPU 1: PMBIRQ is what it was");
}
