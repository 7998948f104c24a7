// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resets of a running machine, in the middle of a session: by PSCI, or by the
 * monitor, and of one CPU by CPU_OFF and CPU_ON. The registers are what they are
 * after a cold reset, PMBIRQ follows PMBSR_EL1.S, and the SPU works.
 *
 * Arguments: reset= zero or unknown, as in spe-reset; monitor=reset.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"
#include "speregs.h"

#define MAX_RECS	64
static struct record recs[MAX_RECS];

/* Memory that a reset leaves alone: not of the program, which is loaded anew */
#define MAGIC		0x7265736574000000UL
static struct kept {
	u64 phase;
	u64 digest[2];
	u64 pmblimitr[2], s[2];
} *const kept = (void *)BUF2;

void _start(void);

struct state {
	u64 digest;		/* of all registers that can be written */
	u64 any;
	u64 pmblimitr, pmbsr, mdcr;
	int irq;
};

static void look(struct state *s)
{
	int i;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < spe_nregs; i++) {
		const struct spe_reg *r = &spe_regs[i];
		u64 v;

		if (r->ro || i == R_PMSCR_EL12 || !reg_exists(r))
			continue;
		v = r->rd(0);
		s->any |= v;
		s->digest = s->digest * 31 + v;
	}
	s->pmblimitr = read_pmblimitr();
	s->pmbsr = read_pmbsr();
	s->mdcr = read_mdcr_el2() & (MDCR_E2PB(3) | MDCR_TPMS);
	s->digest = s->digest * 31 + s->mdcr;
	gic_init();
	s->irq = irq_pending();
}

/* A session that works, then values in all registers, and one in progress */
static void use(void)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + PAGE_SIZE,
	};
	int i;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	/* until it is full: S, and the interrupt */
	spe_start(&s);
	run_at(1, wl_spin, 257 * 200);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	if (read_pmbsr() != PMBSR_FULL || !irq_pending())
		bail("no event: PMBSR_EL1 %#lx", read_pmbsr());
	for (i = 0; i < spe_nregs; i++) {
		const struct spe_reg *r = &spe_regs[i];

		if (!r->ro && i != R_PMSCR_EL12 && reg_exists(r) && i != R_PMBSR &&
		    i != R_PMBLIMITR)
			r->wr(0xfedcba9876543210UL >> i);
	}
	isb();
}

static void profile(void)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + PAGE_SIZE,
	};

	spe_start(&s);
	run_at(1, wl_spin, 257 * 4);
}

static void check(const struct state *s, int cpu, int unknown, const char *how)
{
	is(s->pmblimitr & PMBLIMITR_E, 0, "%s: CPU %d: PMBLIMITR_EL1.E is 0", how, cpu);
	if (!unknown) {
		is(s->any, 0, "%s: CPU %d: all registers are 0", how, cpu);
		is(s->mdcr, 0, "%s: CPU %d: MDCR_EL2.{E2PB,TPMS} are 0", how, cpu);
	} else {
		ok(s->any != 0, "%s: CPU %d: fields that reset to an UNKNOWN value are not 0",
		   how, cpu);
	}
	is(s->digest, kept->digest[cpu], "%s: CPU %d: as after the first reset", how, cpu);
	is(s->irq, !!(s->pmbsr & PMBSR_S), "%s: CPU %d: PMBIRQ follows PMBSR_EL1.S",
	   how, cpu);
}

static void check_works(const char *how)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + PAGE_SIZE,
	};
	int n;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	buf_paint(BUF, PAGE_SIZE);
	spe_run(&s, 1, wl_spin, 257 * 4);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n >= 7 && n <= 9 && !s.end_pmbsr, "%s: the SPU works", how);
	/* Records that were in flight at the reset would be here. */
	is(buf_dirty(s.end_pmbptr, BUF + PAGE_SIZE - s.end_pmbptr), BUF + PAGE_SIZE,
	   "%s: nothing is written but the session's records", how);
}

static struct state other;

static u64 look_here(u64 x)
{
	look(&other);
	return x;
}

static u64 use_and_off(u64 x)
{
	use();
	psci_call(PSCI_CPU_OFF, 0, 0, 0);
	bail("CPU_OFF came back");
	return x;
}

void test_main(void)
{
	int unknown = streq(arg_text("reset"), "unknown");
	int monitor = streq(arg_text("monitor"), "reset");
	const char *how = monitor ? "system_reset" : "SYSTEM_RESET";
	struct state now;

	look(&now);
	if (kept->phase != MAGIC + 1) {
		/* The first time: keep what it looks like, and make a mess. */
		if (!unknown && now.any)
			bail("registers are not 0 after the first reset: %#lx", now.any);
		kept->digest[0] = now.digest;
		cpu_start(1, look_here, 0);
		cpu_wait(1);
		kept->digest[1] = other.digest;
		kept->phase = MAGIC + 1;
		dsb();
		use();
		write_pmbsr(0);
		isb();
		if (monitor) {
			struct session s = {
				.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
				.pmbptr = BUF, .limit = BUF + BUF_SIZE,
				.pmsirr = 0x10000,
			};

			spe_start(&s);
			print("# go\n");
			for (;;)
				run_at(1, wl_spin, 1000000);
		}
		profile();
		psci_call(PSCI_SYSTEM_RESET, 0, 0, 0);
		bail("SYSTEM_RESET came back");
	}

	check(&now, 0, unknown, how);
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	isb();
	ok(!irq_pending(), "%s: PMBIRQ is low once PMBSR_EL1 is 0", how);
	check_works(how);

	cpu_start(1, look_here, 0);
	cpu_wait(1);
	check(&other, 1, unknown, how);

	/* One CPU off and on. Its own interrupt was pending. */
	cpu_start(1, use_and_off, 0);
	while (psci_call(0xc4000004, 1, 0, 0) != 1)	/* AFFINITY_INFO: off */
		asm volatile("yield");
	if (psci_call(PSCI_CPU_ON, 1, (u64)_start, 0))
		bail("CPU_ON fails");
	cpu_start(1, look_here, 0);
	cpu_wait(1);
	check(&other, 1, unknown, "CPU_ON");
	if (monitor)
		hold();
}
