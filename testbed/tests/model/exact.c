// SPDX-License-Identifier: GPL-2.0-only
/*
 * PMSICR_EL1 and the operation it selects, exact over exceptions (Arm ARM
 * D17.3.4, ASL SPEStartSample(): an operation is counted when it starts). The
 * first tests run on a CPU that has not sampled before, hence their order.
 *
 * EL0 is profiled and its exceptions are taken to EL1, which is not, so that
 * every instruction that counts is one of a known sequence.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

extern u64 faults(u64), pbt(u64), nv2_pmsicr(u64);
extern const u64 faults_insns;
extern char pbt_b[], nv2_pmsicr_msr[];
extern void tramp_el0(void);

#define MAX_RECS	4096
static struct record recs[MAX_RECS];

/* tramp_el0: three before the function, the SVC after it */
#define TRAMP		4
#define START		0x100000UL

static struct session at_el0(u64 pmsicr)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E0SPE, .pmsirr = 0x1000000,
		.pmsicr = pmsicr, .pmbptr = BUF, .limit = BUF + 0x10000,
	};

	return s;
}

/* Must be the first: whether EL0's branch is forgotten at the exception */
static void check_pbt(void)
{
	/* the B is the 3rd instruction of pbt() */
	struct session s = at_el0(3 + 3);
	int n;

	expect_exceptions();
	spe_run(&s, 0, pbt, 0);
	is(stop_expecting(), 1, "PBT: one exception is taken");
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n == 1 && ADDR(recs[0].addr[A_PC]) == (u64)pbt_b &&
	   recs[0].op == OP_BRANCH, "PBT: the branch after an exception is sampled");
	/* The last branch was the ERET of EL1, which is not profiled. */
	ok(n == 1 && !(recs[0].addrs & BIT(A_PREV)),
	   "PBT: no target is recorded of what branched before the exception");
}

static void check_count(const char *when)
{
	u64 loops, used;

	for (loops = 1; loops <= 50; loops += 49) {
		struct session s = at_el0(START);
		u64 want = TRAMP + 1 + loops * faults_insns + 1;

		expect_exceptions();
		spe_run(&s, 0, faults, loops);
		stop_expecting();
		used = START - s.end_pmsicr;
		is(used, want, "%s: %lu loops with faults step the counter once for each instruction",
		   when, loops);
		ok(exc.count >= 10 * loops && exc.svcs >= loops,
		   "%s: %lu loops took their exceptions", when, loops);
	}
}

/* The N-th instruction of EL0 is the one that is sampled. */
static void check_selection(void)
{
	u64 k, last = 3 + 1 + faults_insns;
	int n, wrong = 0, except = 0;

	for (k = 1; k <= last; k++) {
		struct session s = at_el0(k);
		u64 want = k <= 3 ? (u64)tramp_el0 + 4 * (k - 1) :
				    (u64)faults + 4 * (k - 4);
		int bad;

		expect_exceptions();
		spe_run(&s, 0, faults, 1);
		stop_expecting();
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		bad = n != 1 || ((recs[0].addrs & BIT(A_PC)) &&
				 ADDR(recs[0].addr[A_PC]) != want);
		except += n == 1 && (recs[0].events & EV_EXCEPTION);
		if (bad && !wrong++)
			print("# PMSICR %lu: %d records, PC %#lx want %#lx\n", k, n,
			      recs[0].addr[A_PC], want);
	}
	is(wrong, 0, "PMSICR_EL1 = N selects the N-th instruction, across exceptions");
	is(except, exc.count + exc.svcs, "each instruction that took an exception was sampled with E[0]");
}

/*
 * An MSR PMSICR_EL1 that FEAT_NV2 makes a store writes memory: it is counted
 * as any other instruction, sampled or not.
 */
static void check_nv2(void)
{
	u64 *page, loops = 3000, insns = TRAMP + 1 + 3 * loops, first = 50;
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE, .pmsirr = 0x100,
		.pmsicr = first, .pmbptr = BUF, .limit = BUF + 0x100000,
	};
	int n, i, in = 0;

	if (!feature("nv2", FIELD(read_id_aa64mmfr2(), 27, 24) >= 2, 1))
		return;
	page = alloc_page();
	write_vncr_el2((u64)page);
	hcr_set(HCR_NV | HCR_NV2, 0);
	spe_run(&s, 1, nv2_pmsicr, loops);
	hcr_set(0, HCR_NV | HCR_NV2);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (i = 0; i < n; i++)
		in += ADDR(recs[i].addr[A_PC]) == (u64)nv2_pmsicr_msr;
	ok(in > 5, "NV2: MSR PMSICR_EL1 is sampled");
	is(page[0x838 / 8], 1, "NV2: MSR PMSICR_EL1 writes to memory");
	is(n, (insns - first) / 257 + 1, "NV2: the number of samples");
	is(s.end_pmsicr, 256 - (insns - first - 1) % 257,
	   "NV2: MSR PMSICR_EL1 steps the counter as every instruction does");
}

/* With PMSICR_EL1 of 0 the first operation loads the counter. */
static void check_load(void)
{
	struct session s = at_el0(0);
	u64 insns = TRAMP + 1 + faults_insns + 1, used;

	expect_exceptions();
	spe_run(&s, 0, faults, 1);
	stop_expecting();
	used = 0x1000000 - s.end_pmsicr;
	/* D17.3.3 counts the instruction that loads, the pseudocode does not */
	ok(used == insns || used == insns - 1,
	   "PMSICR_EL1 = 0: the interval is loaded once, and counts each instruction");
	print("# %lu of %lu\n", used, insns);
}

void test_main(void)
{
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	if (read_pmsidr() & PMSIDR_PBT)
		check_pbt();
	check_count("before the first sample");
	check_load();
	check_selection();
	check_count("after samples");
	check_nv2();
}
