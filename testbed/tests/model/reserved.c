// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reserved values, and controls without an effect: what the README of the
 * model says it chooses for each (testbed/qemu/README.md, "What the model leaves
 * out, or chooses"). Where the architecture leaves the choice, another model
 * may fail here.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "speregs.h"
#include "decode.h"

#define MAX_RECS	4096
static struct record recs[MAX_RECS];

static struct session plain(void)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x1000,
	};

	return s;
}

/* A buffer of 64 records, which ends full, whatever FM says. */
static void check_fill(const char *name, u64 limit_bits)
{
	struct session s = plain();
	int n;

	s.limit_bits = limit_bits;
	spe_run(&s, 1, wl_spin, 257 * 100);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n == (int)(0x1000 / id.align) && s.end_pmbsr == PMBSR_FULL &&
	   s.end_pmbptr == BUF + 0x1000, "%s: the buffer is filled", name);
	if (s.end_pmbsr != PMBSR_FULL)
		print("# %d records, PMBSR %#lx\n", n, s.end_pmbsr);
}

static void check_discard(void)
{
	struct session s = plain();

	s.limit_bits = PMBLIMITR_DISCARD;
	spe_run(&s, 1, wl_spin, 257 * 100);
	ok(s.end_pmbptr == BUF && !s.end_pmbsr,
	   "FM=0b10: records are discarded");
}

/* FEAT_PMUv3p7 is absent: no event freezes the cycle counter. */
static void check_pmfz(void)
{
	struct session s = plain();
	u64 a, b;
	int i;

	asm volatile("msr pmcr_el0, %0" : : "r"(0x41UL));	/* LC, E */
	asm volatile("msr pmccfiltr_el0, %0" : : "r"(BIT(27)));	/* NSH: EL2 */
	asm volatile("msr pmcntenset_el0, %0" : : "r"(BIT(31)));
	isb();
	s.limit_bits = PMBLIMITR_PMFZ;
	spe_start(&s);
	run_at(1, wl_spin, 257 * 100);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	is(read_pmbsr() & PMBSR_S, PMBSR_S, "PMFZ=1: the buffer is full");
	asm volatile("mrs %0, pmccntr_el0" : "=r"(a));
	for (i = 0; i < 100000; i++)
		asm volatile("nop");
	asm volatile("mrs %0, pmccntr_el0" : "=r"(b));
	ok(b > a, "PMFZ=1: PMCCNTR_EL0 counts on after the event");
	spe_stop(&s);
	asm volatile("msr pmcr_el0, xzr");
	isb();
}

/* E2PB=0b01: EL1 owns the buffer, and its accesses are not trapped. */
static void check_e2pb(void)
{
	struct session s = plain();
	const struct spe_reg *r = &spe_regs[R_PMBPTR];
	int n, read;

	spe_start(&s);
	write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) | MDCR_E2PB(1));
	isb();
	is(run_at(1, spe_regs[R_PMBIDR].rd, 0) & PMBIDR_P, 0,
	   "E2PB=0b01: PMBIDR_EL1.P is 0 at EL1");
	for (read = 1; read >= 0; read--) {
		expect_exceptions();
		run_at(1, read ? r->rd : r->wr, BUF);
		is(stop_expecting(), 0, "E2PB=0b01: a %s of PMBPTR_EL1 at EL1 does not trap",
		   read ? "read" : "write");
	}
	run_at(1, wl_spin, 257 * 10);
	spe_stop(&s);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n >= 19 && n <= 21 && !s.end_pmbsr, "E2PB=0b01: EL1 owns the buffer");

	/* EL1 does not profile EL2. */
	s = plain();
	s.pmscr_el1 = 0;
	s.pmscr_el2 = 0;
	spe_start(&s);
	write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) | MDCR_E2PB(1));
	isb();
	write_pmscr_el2(PMSCR_E1SPE);
	isb();
	wl_spin(257 * 10);
	spe_stop(&s);
	is(s.end_pmbptr, BUF, "E2PB=0b01: EL2 is not sampled");
}

#define VOFF	0x1000000000000UL

/* PCT=0b10 is virtual time, wherever it stands. */
static void check_pct(void)
{
	int owner, i;

	if (!FIELD(read_id_aa64mmfr0(), 63, 60))
		return;		/* bit 1 of PCT is RES0 */
	write_cntvoff_el2(VOFF);
	isb();
	for (owner = 1; owner <= 2; owner++) {
		u64 before, after;
		int n, bad = 0;
		struct session s = plain();

		s.owner = owner;
		s.pmscr_el1 |= PMSCR_TS | PMSCR_PCT(owner == 1 ? 2 : 1);
		s.pmscr_el2 = PMSCR_TS | PMSCR_PCT(owner == 2 ? 2 : 1);
		before = read_cntpct() - VOFF;
		spe_run(&s, 1, wl_spin, 257 * 10);
		after = read_cntpct() - VOFF;
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		for (i = 0; i < n; i++)
			bad += !recs[i].has_ts || recs[i].ts - before > after - before;
		ok(n > 10 && !bad, "PMSCR_EL%d.PCT=0b10 is virtual time", owner);
	}
	write_cntvoff_el2(0);
	isb();
}

/* An interval of 0 without jitter: nothing is sampled once COUNT is 0. */
static void check_interval(void)
{
	struct session s = plain();
	int n;

	s.pmsicr = 100;
	spe_start(&s);
	write_pmsirr(0);
	isb();
	run_at(1, wl_spin, 100000);
	spe_stop(&s);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	is(n, 1, "INTERVAL=0: PMSICR_EL1 of 100 is counted to its sample, and no other comes");
	is(s.end_pmsicr, 0, "INTERVAL=0: PMSICR_EL1 stays 0");
}

void test_main(void)
{
	struct session s = plain();
	int v;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	v = id.pmsver;
	check_fill("FM=0b00", 0);
	check_fill("FM=0b01, reserved", 1UL << 1);
	check_fill("FM=0b11, reserved", 3UL << 1);
	if (v >= 3) {
		check_discard();
		check_fill("PMFZ=1", PMBLIMITR_PMFZ);
		check_pmfz();
	} else {
		check_fill("FM=0b10 before SPEv1p2, reserved", 2UL << 1);
	}
	check_e2pb();
	check_pct();
	check_interval();
}
