// SPDX-License-Identifier: GPL-2.0-only
/*
 * Filters (Arm ARM D17.5): each run is compared with one without a filter of
 * the same instructions, whose types are known from their PCs.
 *
 * Arguments: fds=1 and eft=1 with these features; fne=0 without FEAT_SPE_FnE.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	8192
static struct record all[MAX_RECS], recs[MAX_RECS], rare[MAX_RECS];
static int nall, nrecs, nrare;

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

/* Sample a workload; gives the number of the records in [start, end). */
static int run_fn(struct session *s, struct record *to, fn_t fn, u64 loops,
		  char *start, char *end)
{
	int n, i, out = 0;

	s->owner = 1;
	s->pmscr_el1 = PMSCR_E1SPE;
	s->pmbptr = BUF;
	s->limit = BUF + 0x400000;
	spe_run(s, 1, fn, loops);
	n = decode_all(BUF, s->end_pmbptr, to, MAX_RECS);
	if (s->end_pmbsr & ~PMBSR_COLL)
		bail("PMBSR %#lx", s->end_pmbsr);
	if (n > MAX_RECS)
		bail("more than %d records", MAX_RECS);
	for (i = 0; i < n; i++)
		if (ADDR(to[i].addr[A_PC]) >= (u64)start &&
		    ADDR(to[i].addr[A_PC]) < (u64)end)
			to[out++] = to[i];
	return n < 0 ? -1 : out;
}

static int run(struct session *s, struct record *to)
{
	return run_fn(s, to, wl_mix, 8000, wl_mix_start, wl_mix_end);
}

static int run_rare(struct session *s, struct record *to)
{
	return run_fn(s, to, wl_rare, 40000, wl_rare_start, wl_rare_end);
}

/*
 * Caches and predictor begin a run with what the last one left: a number that
 * depends on them may differ by an eighth. There have to be so many that this
 * is not all of them.
 */
#define MANY	100

static int about(int got, int want)
{
	return got >= want - want / 8 && got <= want + want / 8;
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

	feature("eft", !!(id.pmsidr & PMSIDR_EFT), 0);
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (!rows[i].eft || (id.pmsidr & PMSIDR_EFT))
			check_type(rows[i].name, rows[i].fcr);
}

static void check_events(void)
{
	static const struct {
		const char *name;
		u64 ev;
		int ver;		/* PMSVer from which on they have filters */
		int rare;		/* of wl_rare, and by the caches */
	} rows[] = {
		{ "E[6], not taken", EV_NOT_TAKEN, 3, 0 },
		{ "E[2], L1 access", EV_L1D, 5, 0 },
		{ "E[4], TLB access", EV_TLB, 5, 0 },
		{ "E[2] and E[4]", EV_L1D | EV_TLB, 5, 0 },
		{ "E[3], L1 refill", EV_L1D_MISS, 1, 1 },
		{ "E[5], TLB walk", EV_TLB_WALK, 1, 1 },
		{ "E[7], mispredicted", EV_MISPRED, 1, 1 },
		{ "E[3] and E[5]", EV_L1D_MISS | EV_TLB_WALK, 1, 1 },
		{ "E[8], LLC access", BIT(8), 5, 1 },
		{ "E[19], L2 access", BIT(19), 5, 1 },
		{ "E[20], L2 miss", BIT(20), 5, 1 },
		{ "E[11], misaligned", EV_MISALIGNED, 2, 1 },
	};
	unsigned int i;
	int k;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct record *ref = rows[i].rare ? rare : all;
		int nref = rows[i].rare ? nrare : nall;
		int (*sample)(struct session *, struct record *) =
			rows[i].rare ? run_rare : run;
		struct session s = {
			.pmsfcr = PMSFCR_FE, .pmsevfr = rows[i].ev,
		};
		int bad = 0, have = 0, without = 0, n;

		write_pmsevfr(~0UL);
		isb();
		is(read_pmsevfr() & rows[i].ev, id.pmsver >= rows[i].ver ? rows[i].ev : 0,
		   "PMSVer %d, %s: %s", id.pmsver, rows[i].name,
		   id.pmsver >= rows[i].ver ? "there are filters" : "no filters yet");
		if (id.pmsver < rows[i].ver)
			continue;
		for (k = 0; k < nref; k++) {
			have += (ref[k].events & rows[i].ev) == rows[i].ev;
			without += !(ref[k].events & rows[i].ev);
		}
		ok(have >= MANY && without >= MANY,
		   "%s: many have it, and many do not", rows[i].name);
		n = sample(&s, recs);
		for (k = 0; k < n; k++)
			bad += (recs[k].events & rows[i].ev) != rows[i].ev;
		ok(!bad && (rows[i].rare ? about(n, have) : n == have),
		   "FE, %s: all records with all events, and they only", rows[i].name);
		print("# %d of %d, %d without a filter, %d wrong\n", n, nref, have, bad);
		if (!(id.pmsidr & PMSIDR_FNE))
			continue;
		s = (struct session){ .pmsfcr = PMSFCR_FNE, .pmsnevfr = rows[i].ev };
		n = sample(&s, recs);
		for (k = bad = 0; k < n; k++)
			bad += !!(recs[k].events & rows[i].ev);
		ok(!bad && (rows[i].rare ? about(n, without) : n == without),
		   "FnE, %s: all records with none of the events, and they only",
		   rows[i].name);
		print("# %d of %d, %d without a filter, %d wrong\n", n, nref, without,
		      bad);
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
	u64 lo = ~0UL, hi = 0, want_hi;
	int i, have, bad, n;
	struct session s = { 0 };
	u64 mins[3];
	unsigned int k;

	for (i = 0; i < nrare; i++) {
		u64 l = rare[i].counter[C_TOTAL];

		lo = l < lo ? l : lo;
		hi = l > hi ? l : hi;
	}
	/* the longest that many take */
	for (have = 0; hi > lo && have < MANY; hi--)
		for (i = have = 0; i < nrare; i++)
			have += rare[i].counter[C_TOTAL] >= hi - 1;
	print("# total latency from %lu, many to %lu\n", lo, hi);
	mins[0] = 1;
	mins[1] = (lo + hi + 1) / 2;
	mins[2] = hi;
	for (k = 0; k < 3; k++) {
		s = (struct session){ .pmsfcr = PMSFCR_FL, .pmslatfr = mins[k] };
		for (i = have = 0; i < nrare; i++)
			have += rare[i].counter[C_TOTAL] >= mins[k];
		n = run_rare(&s, recs);
		want_hi = 0;
		for (i = bad = 0; i < n; i++) {
			bad += recs[i].counter[C_TOTAL] < mins[k];
			want_hi |= recs[i].counter[C_TOTAL] == mins[k];
		}
		ok(!bad && have >= MANY && about(n, have) && (k < 2 || want_hi),
		   "FL, MINLAT %s: all records from there on, and they only",
		   k == 0 ? "1" : k == 1 ? "in the middle" : "the largest of many");
		print("# MINLAT %lu: %d of %d, want about %d\n", mins[k], n, nrare, have);
	}
	s = (struct session){ .pmsfcr = PMSFCR_FL, .pmslatfr = 0xfff };
	is(run_rare(&s, recs), 0, "FL, MINLAT 0xfff: no record, as none took so long");

	/* All filters together are an AND. */
	s = (struct session){ .pmsfcr = PMSFCR_FL | PMSFCR_FT | PMSFCR_LD,
			      .pmslatfr = mins[1] };
	n = run_rare(&s, recs);
	for (i = bad = 0; i < n; i++)
		bad += recs[i].counter[C_TOTAL] < mins[1] || recs[i].op != OP_LDST;
	for (i = have = 0; i < nrare; i++)
		have += rare[i].counter[C_TOTAL] >= mins[1] && rare[i].op == OP_LDST;
	ok(!bad && have >= MANY && about(n, have),
	   "FL and FT: all records that pass both, and they only");
	if (id.pmsidr & PMSIDR_FNE) {
		s = (struct session){ .pmsfcr = PMSFCR_FE | PMSFCR_FT | PMSFCR_LD,
				      .pmsevfr = EV_NOT_TAKEN };
		is(run(&s, recs), 0, "FE and FT: a load that is not taken is nothing");
	}
}

/* Loads have to be of a selected source, other operations pass (D17.5.4). */
static void check_data_source(void)
{
	static const u64 masks[] = { ~0UL, 0, BIT(0x0), ~BIT(0x0), BIT(0xb) };
	unsigned int k;
	int i;

	if (!feature("fds", !!(id.pmsidr & PMSIDR_FDS), 0))
		return;
	for (k = 0; k < ARRAY_SIZE(masks); k++) {
		struct session s = { .pmsfcr = PMSFCR_FDS, .pmsdsfr = masks[k] };
		int n, bad = 0, loads = 0, dropped = 0, others = 0;
		int got = 0, got_others = 0;

		for (i = 0; i < nrare; i++) {
			if (!rare[i].has_ds)
				others++;
			else if (masks[k] >> (rare[i].ds & 0x3f) & 1)
				loads++;
			else
				dropped++;
		}
		n = run_rare(&s, recs);
		for (i = 0; i < n; i++) {
			got += recs[i].has_ds;
			got_others += !recs[i].has_ds;
			bad += recs[i].has_ds && !(masks[k] >> (recs[i].ds & 0x3f) & 1);
		}
		ok(!bad && about(got, loads) && (loads >= MANY || !masks[k]) &&
		   (dropped >= MANY || !~masks[k]),
		   "FDS, sources %#lx: all loads of these sources, and they only", masks[k]);
		ok(got_others == others && others >= MANY,
		   "FDS, sources %#lx: all operations without a source", masks[k]);
		print("# %d loads want about %d of %d, %d others want %d\n", got, loads,
		      loads + dropped, got_others, others);
	}
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
	/* from run to run the same, but for the first */
	for (i = 0; i < 3; i++) {
		s = (struct session){ 0 };
		nrare = run_rare(&s, rare);
	}
	ok(nrare > 1500, "there are samples of rare events without a filter");
	feature("fne", !!(id.pmsidr & PMSIDR_FNE), 1);
	check_types();
	check_events();
	check_latency();
	check_data_source();
}
