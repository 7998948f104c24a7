// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two CPUs profile at once, each with its own registers, counter, buffer and
 * interrupt.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	8192
static struct record recs[MAX_RECS];
static volatile int ready[2];

struct job {
	int cpu;
	fn_t fn;
	u64 arg;
	struct session s;
	int full_irq;
};

static u64 worker(u64 p)
{
	struct job *j = (void *)p;
	int other = !j->cpu;

	write_pmbsr(0);
	spe_start(&j->s);
	/* both in their loops at the same time */
	ready[j->cpu] = 1;
	dsb();
	while (!ready[other])
		asm volatile("yield");
	run_at(1, j->fn, j->arg);
	j->full_irq = irq_pending();
	spe_stop(&j->s);
	return read_mpidr() & 0xff;
}

static void both(struct job *a, struct job *b)
{
	ready[0] = ready[1] = 0;
	dsb();
	cpu_start(1, worker, (u64)b);
	is(worker((u64)a), 0, "CPU 0 has run");
	is(cpu_wait(1), 1, "CPU 1 has run");
}

static void check(struct job *j, u64 lo, u64 hi, int at_least)
{
	int n = decode_all(j->s.pmbptr, j->s.end_pmbptr, recs, MAX_RECS), i, in = 0;

	for (i = 0; i < n && i < MAX_RECS; i++)
		in += ADDR(recs[i].addr[A_PC]) >= lo && ADDR(recs[i].addr[A_PC]) < hi;
	ok(in >= at_least && in >= n - 8,
	   "CPU %d: its buffer has records of its own loop only", j->cpu);
	if (in < at_least || in < n - 8)
		print("# %d records, %d in the loop, PMBSR %#lx\n", n, in,
		      j->s.end_pmbsr);
	is(j->s.end_pmbsr, 0, "CPU %d: no event", j->cpu);
}

static u64 gic_on_this_cpu(u64 x)
{
	gic_init();
	return x;
}

void test_main(void)
{
	struct job a = { .cpu = 0, .fn = wl_spin, .arg = 500000 };
	struct job b = { .cpu = 1, .fn = wl_mix, .arg = 15000 };
	int turn;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	gic_init();
	cpu_start(1, gic_on_this_cpu, 5);
	is(cpu_wait(1), 5, "CPU 1 starts");
	for (turn = 0; turn < 3; turn++) {
		a.s = (struct session){ .owner = 1, .pmscr_el1 = PMSCR_E1SPE,
					.pmbptr = BUF, .limit = BUF + 0x400000 };
		b.s = (struct session){ .owner = 2, .pmscr_el1 = PMSCR_E1SPE,
					.pmbptr = BUF2, .limit = BUF2 + 0x400000,
					.pmsirr = 0x200 | PMSIRR_RND };
		both(&a, &b);
		check(&a, (u64)wl_spin_loop, (u64)wl_spin_end, 3800);
		check(&b, (u64)wl_mix_start, (u64)wl_mix_end, 1000);
	}

	/* One CPU's full buffer and interrupt are not the other's. */
	a.s = (struct session){ .owner = 1, .pmscr_el1 = PMSCR_E1SPE,
				.pmbptr = BUF, .limit = BUF + 0x1000 };
	b.s = (struct session){ .owner = 1, .pmscr_el1 = PMSCR_E1SPE,
				.pmbptr = BUF2, .limit = BUF2 + 0x400000 };
	both(&a, &b);
	is(a.s.end_pmbsr, PMBSR_FULL, "CPU 0: full");
	is(b.s.end_pmbsr, 0, "CPU 1: not full");
	ok(a.full_irq && !b.full_irq, "PMBIRQ is private to the CPU whose buffer is full");
}
