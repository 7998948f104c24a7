// SPDX-License-Identifier: GPL-2.0-only
/*
 * Filters (Arm ARM D17.5): each run is compared with one without a filter of
 * the same instructions, whose types are known from their PCs.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	8192
static struct record all[MAX_RECS], recs[MAX_RECS];
static int nall, nrecs;

#define B	BIT(0)
#define LD	BIT(1)
#define ST	BIT(2)
#define FP	BIT(3)
#define SIMD	BIT(4)

/* The instructions of wl_mix */
static const u8 types[16] = {
	LD, ST, LD, LD, LD | FP, ST | SIMD, 0, B, SIMD, FP, 0, ST, LD | ST, B, 0, 0,
};

/* Types of the operation at a PC, or -1 outside of wl_mix */
static int type_of(const struct record *r)
{
	u64 pc = ADDR(r->addr[A_PC]), n;

	if (pc < (u64)wl_mix_start || pc >= (u64)wl_mix_end)
		return -1;
	n = (pc - (u64)wl_mix_start) / 4;
	if (n >= 64)
		return n == 64 ? 0 : B;		/* SUBS, B.NE */
	return types[n % 16];
}

static int run(struct session *s, struct record *to)
{
	int n, i, out = 0;

	s->owner = 1;
	s->pmscr_el1 = PMSCR_E1SPE;
	s->pmbptr = BUF;
	s->limit = BUF + 0x400000;
	spe_run(s, 1, wl_mix, 8000);
	n = decode_all(BUF, s->end_pmbptr, to, MAX_RECS);
	if (s->end_pmbsr & ~PMBSR_COLL)
		bail("PMBSR %#lx", s->end_pmbsr);
	for (i = 0; i < n; i++)
		if (type_of(&to[i]) >= 0)
			to[out++] = to[i];
	return n < 0 ? -1 : out;
}

/* D17.5.1 */
static int type_passes(u64 fcr, int flags)
{
	u64 ctrl = FIELD(fcr, 20, 16), mask = FIELD(fcr, 52, 48), f = flags;

	if (!(id.pmsidr & PMSIDR_EFT)) {
		ctrl &= 7;
		return !!(f & ctrl);
	}
	if ((ctrl & ~mask) && !(f & ctrl & ~mask))
		return 0;
	return (f & mask) == (ctrl & mask);
}

static void check_type(const char *name, u64 fcr)
{
	struct session s = { .pmsfcr = fcr };
	int i, k = 0, want = 0, bad = 0;

	nrecs = run(&s, recs);
	for (i = 0; i < nall; i++) {
		int pass = !(fcr & PMSFCR_FT) || type_passes(fcr, type_of(&all[i]));

		if (!pass)
			continue;
		want++;
		bad += k >= nrecs || recs[k].addr[A_PC] != all[i].addr[A_PC];
		k++;
	}
	ok(!bad && nrecs == want, "type filter: %s", name);
	if (bad || nrecs != want)
		print("# %d records want %d of %d, %d wrong\n", nrecs, want, nall, bad);
}

static void check_types(void)
{
	static const struct {
		const char *name;
		u64 fcr;
		int eft;
	} rows[] = {
		{ "FT=0, B, LD and ST do nothing", PMSFCR_B | PMSFCR_LD | PMSFCR_ST, 0 },
		{ "branches", PMSFCR_FT | PMSFCR_B, 0 },
		{ "loads", PMSFCR_FT | PMSFCR_LD, 0 },
		{ "stores", PMSFCR_FT | PMSFCR_ST, 0 },
		{ "loads or stores", PMSFCR_FT | PMSFCR_LD | PMSFCR_ST, 0 },
		{ "branches or stores", PMSFCR_FT | PMSFCR_B | PMSFCR_ST, 0 },
		{ "branches, loads or stores", PMSFCR_FT | PMSFCR_B | PMSFCR_LD | PMSFCR_ST, 0 },
		{ "EFT: no control set passes all", PMSFCR_FT, 1 },
		{ "EFT: floating-point", PMSFCR_FT | PMSFCR_FP, 1 },
		{ "EFT: SIMD", PMSFCR_FT | PMSFCR_SIMD, 1 },
		{ "EFT: floating-point or SIMD", PMSFCR_FT | PMSFCR_FP | PMSFCR_SIMD, 1 },
		{ "EFT: floating-point and load", PMSFCR_FT | PMSFCR_FP | PMSFCR_FPM |
			PMSFCR_LD | PMSFCR_LDM, 1 },
		{ "EFT: load and not floating-point", PMSFCR_FT | PMSFCR_FPM |
			PMSFCR_LD | PMSFCR_LDM, 1 },
		{ "EFT: load and store", PMSFCR_FT | PMSFCR_LD | PMSFCR_LDM |
			PMSFCR_ST | PMSFCR_STM, 1 },
		{ "EFT: store and not SIMD", PMSFCR_FT | PMSFCR_SIMDM | PMSFCR_ST, 1 },
		{ "EFT: neither load nor store", PMSFCR_FT | PMSFCR_LDM | PMSFCR_STM, 1 },
		{ "EFT: not a branch", PMSFCR_FT | PMSFCR_BM, 1 },
		{ "EFT: branch and load, which nothing is", PMSFCR_FT | PMSFCR_BM |
			PMSFCR_LDM | PMSFCR_B | PMSFCR_LD, 1 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (!rows[i].eft || (id.pmsidr & PMSIDR_EFT))
			check_type(rows[i].name, rows[i].fcr);
}

static void check_events(void)
{
	static const struct {
		const char *name;
		u64 ev;
		int exact;		/* the same in each run */
	} rows[] = {
		{ "E[6], not taken", EV_NOT_TAKEN, 1 },
		{ "E[3], L1 refill", EV_L1D_MISS, 0 },
		{ "E[5], TLB walk", EV_TLB_WALK, 0 },
		{ "E[7], mispredicted", EV_MISPRED, 0 },
		{ "E[2], L1 access", EV_L1D, 0 },
		{ "E[4], TLB access", EV_TLB, 0 },
		{ "E[2] and E[4]", EV_L1D | EV_TLB, 0 },
	};
	unsigned int i;
	int k;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct session s = {
			.pmsfcr = PMSFCR_FE, .pmsevfr = rows[i].ev,
		};
		int bad = 0, have = 0, fe, fne, tol;

		write_pmsevfr(~0UL);
		isb();
		if ((read_pmsevfr() & rows[i].ev) != rows[i].ev)
			continue;		/* this event has no filter */
		for (k = 0; k < nall; k++)
			have += (all[k].events & rows[i].ev) == rows[i].ev;
		fe = run(&s, recs);
		for (k = 0; k < fe; k++)
			bad += (recs[k].events & rows[i].ev) != rows[i].ev;
		tol = rows[i].exact ? 0 : nall / 20;
		ok(!bad && fe <= have + tol && fe >= have - tol,
		   "FE, %s: records with all events only", rows[i].name);
		print("# %d of %d, %d without a filter, %d wrong\n", fe, nall, have, bad);
		if (!(id.pmsidr & PMSIDR_FNE))
			continue;
		s = (struct session){ .pmsfcr = PMSFCR_FNE, .pmsnevfr = rows[i].ev };
		for (k = have = 0; k < nall; k++)
			have += !(all[k].events & rows[i].ev);
		fne = run(&s, recs);
		for (k = bad = 0; k < fne; k++)
			bad += !!(recs[k].events & rows[i].ev);
		ok(!bad && fne <= have + tol && fne >= have - tol,
		   "FnE, %s: records with none of the events only", rows[i].name);
		print("# %d of %d, %d without a filter, %d wrong\n", fne, nall, have, bad);
	}

	/* Registers without the enable bit do nothing. */
	{
		struct session s = { .pmsevfr = EV_MISPRED | EV_TLB_WALK,
				     .pmsnevfr = ~0UL, .pmslatfr = 0xfff };

		is(run(&s, recs), nall, "FE, FnE and FL 0: no filter");
	}
}

static void check_latency(void)
{
	u64 lo = ~0UL, hi = 0;
	int i, have, bad, n;
	struct session s = { 0 };
	u64 mins[3];
	unsigned int k;

	for (i = 0; i < nall; i++) {
		u64 l = all[i].counter[C_TOTAL];

		lo = l < lo ? l : lo;
		hi = l > hi ? l : hi;
	}
	print("# total latency from %lu to %lu\n", lo, hi);
	mins[0] = 1;
	mins[1] = (lo + hi + 1) / 2;
	mins[2] = hi;
	for (k = 0; k < 3; k++) {
		s = (struct session){ .pmsfcr = PMSFCR_FL, .pmslatfr = mins[k] };
		for (i = have = 0; i < nall; i++)
			have += all[i].counter[C_TOTAL] >= mins[k];
		n = run(&s, recs);
		for (i = bad = 0; i < n; i++)
			bad += recs[i].counter[C_TOTAL] < mins[k];
		ok(!bad && n <= have + nall / 20 && n >= have - nall / 20,
		   "FL, MINLAT %s: no record below",
		   k == 0 ? "1" : k == 1 ? "in the middle" : "the largest seen");
		print("# MINLAT %lu: %d of %d, want about %d\n", mins[k], n, nall, have);
	}
	s = (struct session){ .pmsfcr = PMSFCR_FL, .pmslatfr = 0xfff };
	n = run(&s, recs);
	for (i = bad = 0; i < n; i++)
		bad += recs[i].counter[C_TOTAL] < 0xfff;
	is(bad, 0, "FL, MINLAT 0xfff: no record below");

	/* All filters together are an AND. */
	s = (struct session){ .pmsfcr = PMSFCR_FL | PMSFCR_FT | PMSFCR_LD,
			      .pmslatfr = mins[1] };
	n = run(&s, recs);
	for (i = bad = 0; i < n; i++)
		bad += recs[i].counter[C_TOTAL] < mins[1] || !(type_of(&recs[i]) & LD);
	is(bad, 0, "FL and FT: both must pass");
	if (id.pmsidr & PMSIDR_FNE) {
		s = (struct session){ .pmsfcr = PMSFCR_FE | PMSFCR_FT | PMSFCR_LD,
				      .pmsevfr = EV_NOT_TAKEN };
		is(run(&s, recs), 0, "FE and FT: a load that is not taken is nothing");
	}
}

static void check_data_source(void)
{
	struct session s = { .pmsfcr = PMSFCR_FDS };
	int i, ds = -1, bad, other = 0, have = 0, n;

	if (!(id.pmsidr & PMSIDR_FDS))
		return;
	for (i = 0; i < nall; i++)
		if (all[i].has_ds && ds < 0)
			ds = all[i].ds & 0x3f;
	if (!ok(ds >= 0, "FDS: there are loads with a Data Source"))
		return;
	s.pmsdsfr = BIT(ds);
	n = run(&s, recs);
	for (i = bad = 0; i < n; i++) {
		bad += recs[i].has_ds && (recs[i].ds & 0x3f) != ds;
		have += recs[i].has_ds;
		other += !recs[i].has_ds;
	}
	ok(!bad && have, "FDS: loads of the selected Data Source only");
	ok(other > 0, "FDS: operations without a Data Source are not affected");
	s.pmsdsfr = ~BIT(ds);
	n = run(&s, recs);
	for (i = bad = 0; i < n; i++)
		bad += recs[i].has_ds && (recs[i].ds & 0x3f) == ds;
	is(bad, 0, "FDS: a Data Source that is not selected is not recorded");
	ok(n > 0, "FDS: the rest is");
}

void test_main(void)
{
	struct session s = { 0 };
	int i, k, n, seen[16] = { 0 };

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	nall = run(&s, all);
	ok(nall > 1500, "there are samples without a filter");
	for (i = 0; i < nall; i++) {
		n = (ADDR(all[i].addr[A_PC]) - (u64)wl_mix_start) / 4;
		seen[n % 16] |= n < 64;
	}
	for (i = k = 0; i < 16; i++)
		k += seen[i];
	/* all but the NOP that is always branched over */
	ok(k == 15 && !seen[14], "each instruction that is executed is sampled");
	check_types();
	check_events();
	check_latency();
	check_data_source();
}
