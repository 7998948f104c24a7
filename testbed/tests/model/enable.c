// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where profiling is enabled: ownership by MDCR_EL2.E2PB, HCR_EL2.TGE and
 * each enable bit at each Exception level (Arm ARM D17.4, Table D17-1, and
 * ASL StatisticalProfilingEnabled()).
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

enum { E0SPE, E1SPE, E0HSPE, E2SPE };
static const char *const bit_name[] = { "E0SPE", "E1SPE", "E0HSPE", "E2SPE" };

#define MAX_RECS	2048
static struct record recs[MAX_RECS];

/* The table: which bit enables, or -1. */
static int enabling_bit(int e2pb, int tge, int el)
{
	int owner = e2pb == 0 ? 2 : 1;

	if (owner == 1 && (tge || el == 2))
		return -1;
	if (el == 2)
		return E2SPE;
	if (el == 1)
		return E1SPE;
	return tge ? E0HSPE : E0SPE;
}

#define LOOPS	20000

static void one(int e2h, int e2pb, int tge, int el, int bit)
{
	struct session s = {
		.pmbptr = BUF, .limit = BUF + 0x400000, .owner = 1,
	};
	int want = enabling_bit(e2pb, tge, el) == bit, n, i, in = 0, bad = 0;
	u64 before, used;

	if (bit <= E1SPE)
		s.pmscr_el1 = bit == E0SPE ? PMSCR_E0SPE : PMSCR_E1SPE;
	else
		s.pmscr_el2 = bit == E0HSPE ? PMSCR_E0SPE : PMSCR_E1SPE;

	set_vhe(e2h, tge);
	/* E2PB before anything is enabled, the session keeps its other bits */
	s.owner = e2pb ? 1 : 2;
	{
		u64 cr1 = s.pmscr_el1, cr2 = s.pmscr_el2;

		s.pmscr_el1 = s.pmscr_el2 = 0;
		s.pmsicr = 0x40000000;
		spe_start(&s);
		write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) | MDCR_E2PB(e2pb));
		isb();
		if (e2h)
			write_pmscr_el12(cr1);
		else
			write_pmscr_el1(cr1);
		write_pmscr_el2(cr2);
		isb();
	}
	before = read_pmsicr();
	run_at(el, wl_spin, LOOPS);
	used = before - read_pmsicr();
	/* then with a short interval */
	write_pmsicr(200);
	isb();
	run_at(el, wl_spin, LOOPS);
	spe_stop(&s);
	set_vhe(0, 0);

	/* The way to a lower Exception level is some hundred instructions. */
	ok(want ? used >= 2 * LOOPS && used < 2 * LOOPS + 2000 : used < 2000,
	   "E2H=%d E2PB=0b%d%d TGE=%d %s: EL%d steps the counter: %s", e2h,
	   e2pb >> 1, e2pb & 1, tge, bit_name[bit], el, want ? "yes" : "no");
	if (want != (used >= 2 * LOOPS))
		print("# counted %lu\n", used);

	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (i = 0; i < n && i < MAX_RECS; i++) {
		u64 pc = recs[i].addr[A_PC];

		if (ADDR(pc) >= (u64)wl_spin_loop && ADDR(pc) < (u64)wl_spin_end) {
			in++;
			bad += ADDR_EL(pc) != el || ADDR_NS(pc) != 1;
		}
	}
	ok(n >= 0 && !bad && (want ? in >= 2 * LOOPS / 257 - 2 : !in),
	   "E2H=%d E2PB=0b%d%d TGE=%d %s: EL%d is sampled: %s", e2h, e2pb >> 1,
	   e2pb & 1, tge, bit_name[bit], el, want ? "yes" : "no");
	if (n < 0 || bad || want != !!in)
		print("# %d records, %d in the loop, %d with a wrong EL or NS, PMBSR %#lx\n",
		      n, in, bad, s.end_pmbsr);
}

/* S=1 or E=0 stop everything. */
static void stopped(void)
{
	static const struct {
		const char *name;
		u64 pmbsr;
		int e;
	} rows[] = {
		{ "PMBSR_EL1.S=1", PMBSR_S, 1 },
		{ "PMBLIMITR_EL1.E=0", 0, 0 },
		{ "PMBSR_EL1.EC, DL, EA, COLL and MSS without S",
		  0xfc0dffffUL, 1 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct session s = {
			.owner = 2, .pmscr_el1 = PMSCR_E1SPE,
			.pmbptr = BUF, .limit = BUF + 0x400000,
			.pmbsr = rows[i].pmbsr, .pmsicr = 77777,
		};
		int want = rows[i].e && !(rows[i].pmbsr & PMBSR_S);

		spe_start(&s);
		if (!rows[i].e) {
			write_pmblimitr(s.limit);
			isb();
		}
		run_at(1, wl_spin, 100000);
		spe_stop(&s);
		is(s.end_pmbptr != BUF, want, "%s: records are written: %s",
		   rows[i].name, want ? "yes" : "no");
		is(s.end_pmsicr != 77777, want, "%s: the counter steps: %s",
		   rows[i].name, want ? "yes" : "no");
		is(s.end_pmbsr, rows[i].pmbsr, "%s: PMBSR_EL1 unchanged", rows[i].name);
	}
}

void test_main(void)
{
	static const int e2pb[] = { 0, 2, 3 };
	int e2h, i, tge, el, bit;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	for (e2h = 0; e2h < 2; e2h++)
		for (i = 0; i < 3; i++)
			for (tge = 0; tge < 2; tge++)
				for (el = 0; el <= 2; el++) {
					if (el == 1 && tge)
						continue;	/* no EL1 */
					if (el == 0 && tge && !e2h)
						continue;	/* EL0 without its MMU */
					for (bit = E0SPE; bit <= E2SPE; bit++)
						one(e2h, e2pb[i], tge, el, bit);
				}
	stopped();
}
