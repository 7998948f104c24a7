// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mistakes made on purpose, for a model whose records stay in flight until
 * PSB CSYNC and DSB (spe-defer=N): each must be reported on stderr, which the
 * run script looks at, and in PMBSR_EL1 as "access not allowed" (Arm ARM
 * D17.8.5, D17.9.1 R_SXWCP). The right sequence must give nothing.
 *
 * Argument: mistake=NAME; none for the right sequence.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	512
static struct record recs[MAX_RECS];
static const char *mistake;

static int made(const char *name)
{
	return streq(mistake, name);
}

/* Run so few instructions that the records stay in flight: 5 of them. */
#define FEW	(257 * 5 / 2)

/* EL1 is the owner and profiled; the change comes with or without a drain. */
static void change(const char *name, void (*fn)(void), void (*undo)(void))
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x10000,
	};
	int wrong = made(name), n;
	u64 sr;

	if (!wrong && !made("none"))
		return;
	buf_paint(BUF, 0x10000);
	spe_start(&s);
	run_at(1, wl_spin, FEW);
	if (!wrong) {
		write_pmscr_el1(0);
		isb();
		psb_csync();
		dsb_nsh();
	}
	fn();
	isb();
	if (undo)
		undo();
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	sr = read_pmbsr();
	spe_stop(&s);
	if (wrong) {
		is(sr, PMBSR_S | PMBSR_DL,
		   "%s before the drain: 'access not allowed' with DL", name);
	} else {
		is(sr, 0, "%s after the drain: no event", name);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		ok(n >= 4 && n <= 6, "%s after the drain: all records are there", name);
	}
}

static u64 saved;

static void clear_e(void) { write_pmblimitr(BUF + 0x10000); }

static void set_e2pb(void)
{
	saved = read_mdcr_el2();
	write_mdcr_el2(saved & ~MDCR_E2PB(3));
}

static void undo_e2pb(void) { write_mdcr_el2(saved); }

static void set_vttbr(void)
{
	saved = read_vttbr_el2();
	write_vttbr_el2(saved | 7UL << 48);
}

static void undo_vttbr(void) { write_vttbr_el2(saved); }
/* SCTLR and TCR of EL2 change with E2H: they are not of EL1's regime. */
static void toggle_e2h(void)
{
	set_vhe(1, 0);
	set_vhe(0, 0);
}

static void clear_vm(void) { write_hcr_el2(read_hcr_el2() & ~HCR_VM); }
static void undo_vm(void) { write_hcr_el2(read_hcr_el2() | HCR_VM); }
static void set_vm(void) { write_hcr_el2(read_hcr_el2() | HCR_VM); }
static void undo_set_vm(void) { write_hcr_el2(read_hcr_el2() & ~HCR_VM); }

static void set_ttbr(void)
{
	u64 *copy = alloc_page();

	saved = read_ttbr0_el1();
	memcpy(copy, el1_root, PAGE_SIZE);
	write_ttbr0_el1((u64)copy);
}

static void undo_ttbr(void) { write_ttbr0_el1(saved); }

/*
 * The buffer becomes enabled just after a register that it depends on was
 * written: without an ISB between, the SPU may use the old value.
 */
static void arm_buffer(const char *name, void (*write)(void), void (*undo)(void),
		int s_last)
{
	int wrong = made(name);

	if (!wrong && !made("none"))
		return;
	write_mdcr_el2(read_mdcr_el2() | MDCR_E2PB(3));
	write_pmbptr(BUF);
	isb();
	if (s_last) {
		write_pmbsr(PMBSR_S);
		write_pmblimitr((BUF + 0x10000) | PMBLIMITR_E);
		isb();
	}
	write();
	if (!wrong)
		isb();
	if (s_last)
		write_pmbsr(0);
	else
		write_pmblimitr((BUF + 0x10000) | PMBLIMITR_E);
	isb();
	is(read_pmblimitr() & PMBLIMITR_E, PMBLIMITR_E,
	   "%s: the buffer is enabled after all", name);
	write_pmblimitr(0);
	isb();
	undo();
	isb();
}

/* EL2 profiles itself; no exception comes between, so each barrier counts. */
static void drain(const char *name, int isb1, int psb, int dsb)
{
	struct session s = {
		.owner = 2, .pmscr_el2 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x10000,
	};
	int wrong = made(name);
	u64 sr;

	if (!wrong && !(made("none") && isb1 && psb && dsb))
		return;
	spe_start(&s);
	wl_spin(FEW);
	write_pmscr_el2(0);
	if (isb1)
		isb();
	if (psb)
		psb_csync();
	if (dsb)
		dsb_nsh();
	write_pmblimitr(0);
	isb();
	sr = read_pmbsr();
	spe_stop(&s);
	if (wrong)
		is(sr, PMBSR_S | PMBSR_DL,
		   "drain %s: clearing PMBLIMITR_EL1.E gives 'access not allowed' with DL",
		   name);
	else
		is(sr, 0, "a complete drain: clearing PMBLIMITR_EL1.E gives nothing");
}

/* Without ISB the indirect writes need not be seen (D17.9, R_TRTDK). */
static void stale(void)
{
	struct session s = {
		.owner = 2, .pmscr_el2 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x10000,
	};
	u64 before, after;

	spe_start(&s);
	wl_spin(FEW);
	write_pmscr_el2(0);
	isb();
	psb_csync();
	dsb_nsh();
	before = read_pmbptr();
	isb();
	after = read_pmbptr();
	spe_stop(&s);
	ok(before < after && after > BUF,
	   "PMBPTR_EL1 read without ISB after the drain is an old value");
	print("# %#lx then %#lx\n", before, after);

	/* The records are not in memory before DSB. */
	buf_paint(BUF, 0x1000);
	spe_start(&s);
	wl_spin(FEW);
	write_pmscr_el2(0);
	isb();
	psb_csync();
	before = buf_dirty(BUF, 0x1000);
	dsb_nsh();
	isb();
	after = buf_dirty(BUF, 0x1000);
	spe_stop(&s);
	is(before, BUF + 0x1000, "before DSB the records are not in memory");
	is(after, BUF, "after DSB they are");
}

/* What the owner, EL1, does not depend on may change with records in flight. */
static void harmless(const char *name, void (*fn)(void))
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x10000,
	};
	int n;

	buf_paint(BUF, 0x10000);
	spe_start(&s);
	run_at(1, wl_spin, FEW);
	n = buf_dirty(BUF, 0x10000) == BUF + 0x10000;
	ok(n, "%s, owner EL1: the records are in flight", name);
	fn();
	is(read_pmbsr(), 0, "%s, owner EL1: no event", name);
	spe_stop(&s);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n >= 4 && n <= 6, "%s, owner EL1: all records are there", name);
}

/* The most records in flight: nothing is lost, or COLL says so. */
static void many(void)
{
	struct session s = {
		.owner = 2, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x100000,
	};
	int n;

	spe_start(&s);
	run_at(1, wl_spin, 257 * 100);
	spe_stop(&s);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n > 0 && (n >= 199 || (s.end_pmbsr & PMBSR_COLL)) &&
	   !(s.end_pmbsr & ~PMBSR_COLL),
	   "200 samples: all are recorded, or PMBSR_EL1.COLL is 1");
	print("# %d records PMBSR %#lx\n", n, s.end_pmbsr);
}

void test_main(void)
{
	mistake = arg_text("mistake");
	{
		static char copy[64];

		memcpy(copy, mistake, sizeof(copy));
		mistake = copy;
	}
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	change("clear-E", clear_e, 0);
	change("E2PB", set_e2pb, undo_e2pb);
	change("VM-set", set_vm, undo_set_vm);
	change("TTBR0_EL1", set_ttbr, undo_ttbr);
	set_stage2(1);
	change("VTTBR_EL2", set_vttbr, undo_vttbr);
	change("VM-clear", clear_vm, undo_vm);
	arm_buffer("arm-VTTBR_EL2", set_vttbr, undo_vttbr, 0);
	set_stage2(0);
	arm_buffer("arm-E2PB", set_e2pb, undo_e2pb, 0);
	arm_buffer("arm-VM", set_vm, undo_set_vm, 0);
	arm_buffer("arm-TTBR0_EL1", set_ttbr, undo_ttbr, 0);
	arm_buffer("arm-S", set_e2pb, undo_e2pb, 1);
	drain("complete", 1, 1, 1);
	drain("no-ISB", 0, 1, 1);
	drain("no-PSB", 1, 0, 1);
	drain("no-DSB", 1, 1, 0);
	if (made("none")) {
		stale();
		many();
		if (has_vhe())
			harmless("HCR_EL2.E2H", toggle_e2h);
	}
}
