// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which access traps where: MDCR_EL2.{E2PB,TPMS}, HDFG{R,W}TR{,2}_EL2,
 * EL0, HCR_EL2.NV, the redirections of FEAT_VHE and FEAT_NV2, and
 * PMBIDR_EL1.P as each Exception level sees it (access pseudocode of D24.7).
 *
 * Arguments: fgt, nv, nv2 and vhe are 0 on a CPU without these features.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "speregs.h"

static int fgt, fgt2;

static u64 mdcr;

static void set_mdcr(u64 v)
{
	write_mdcr_el2((mdcr & ~(MDCR_E2PB(3) | MDCR_TPMS)) | v);
	isb();
}

static void fgt_baseline(void)
{
	if (!fgt)
		return;
	/* nPMSNEVFR_EL1: not trapped when 1 */
	write_hdfgrtr_el2(BIT(62));
	write_hdfgwtr_el2(BIT(62));
	if (fgt2) {
		write_hdfgrtr2_el2(HDFG2_NPMSDSFR);
		write_hdfgwtr2_el2(HDFG2_NPMSDSFR);
	}
	isb();
}

/* One access at EL1 traps to EL2 with the right syndrome, or does not. */
static void check_el1(const struct spe_reg *r, int read, int want,
		      const char *when)
{
	int got = probe(1, r, read);
	int good;

	if (!want)
		good = !got;
	else
		good = got && exc.el == 2 && exc.esr == sysreg_esr(r, read);
	if (!ok(good, "%s: EL1 %s of %s %s", when, read ? "read" : "write",
		r->name, want ? "traps to EL2" : "does not trap"))
		print("# exceptions %u EL%d ESR %#lx want %#lx\n", got, exc.el,
		      exc.esr, want ? sysreg_esr(r, read) : 0);
}

static void check_mdcr(void)
{
	static const struct {
		const char *name;
		u64 mdcr;
		int e2pb, tpms;		/* what traps */
	} rows[] = {
		{ "E2PB=0b11", MDCR_E2PB(3), 0, 0 },
		{ "E2PB=0b00", MDCR_E2PB(0), 1, 0 },
		{ "E2PB=0b10", MDCR_E2PB(2), 1, 0 },
		{ "E2PB=0b01 (reserved)", MDCR_E2PB(1), 0, 0 },
		{ "TPMS", MDCR_E2PB(3) | MDCR_TPMS, 0, 1 },
		{ "TPMS, E2PB=0b00", MDCR_TPMS, 1, 1 },
	};
	unsigned int i;
	int k, read;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		for (k = 0; k < R_PMSCR_EL2; k++) {
			const struct spe_reg *r = &spe_regs[k];

			if (!reg_exists(r))
				continue;
			for (read = r->ro; read < 2; read++) {
				int want = (r->group == TRAP_E2PB && rows[i].e2pb) ||
					   (r->group == TRAP_TPMS && rows[i].tpms);

				set_mdcr(rows[i].mdcr);
				check_el1(r, read, want, rows[i].name);
			}
		}
		for (k = 0; k <= R_PMSCR_EL2; k++) {
			const struct spe_reg *r = &spe_regs[k];

			if (!reg_exists(r))
				continue;
			for (read = r->ro; read < 2; read++)
				if (probe(2, r, read))
					break;
			ok(read == 2, "%s: %s is accessible at EL2", rows[i].name,
			   r->name);
		}
	}
	set_mdcr(MDCR_E2PB(3));
}

/* Each bit of HDFG[RW]TR_EL2 traps its register and no other. */
static void check_fgt(void)
{
	int k, j, read, write;

	for (k = 0; k < R_PMSCR_EL2; k++) {
		const struct spe_reg *r = &spe_regs[k];
		u64 bits;

		if (r->fgt < 0 || !reg_exists(r))
			continue;
		bits = BIT(62) ^ BIT(r->fgt);
		for (write = 0; write <= !r->ro; write++) {
			int wrong = 0;

			if (write)
				write_hdfgwtr_el2(bits);
			else
				write_hdfgrtr_el2(bits);
			isb();
			check_el1(r, !write, 1, write ? "HDFGWTR_EL2" : "HDFGRTR_EL2");
			for (j = 0; j < R_PMSCR_EL2; j++) {
				const struct spe_reg *o = &spe_regs[j];

				if (!reg_exists(o))
					continue;
				for (read = o->ro; read < 2; read++)
					if (!(j == k && read == !write) &&
					    probe(1, o, read))
						wrong++;
			}
			is(wrong, 0, "HDFG%cTR_EL2 bit %ld traps nothing but %s",
			   write ? 'W' : 'R', r->fgt, r->name);
			is(probe(2, r, !write), 0, "HDFG%cTR_EL2 bit %ld does not trap EL2",
			   write ? 'W' : 'R', r->fgt);
			fgt_baseline();
		}
	}
}

/* PMSDSFR_EL1 comes with FEAT_FGT2: nPMSDSFR_EL1 is bit 19 of either. */
static void check_fgt2(void)
{
	const struct spe_reg *r = &spe_regs[R_PMSDSFR];
	int i, j, read, wrong;

	/* No other feature of FEAT_FGT2's bits is there. */
	for (i = 0; i < 5; i++) {
		const struct spe_reg *f = &fgt2_regs[i];

		f->wr(~0UL);
		isb();
		is(f->rd(0), i < 2 ? HDFG2_NPMSDSFR : 0, "%s keeps only its fields",
		   f->name);
		f->wr(0);
		isb();
		is(f->rd(0), 0, "%s can be cleared", f->name);
	}
	for (i = 0; i < 4; i++) {
		write_hdfgrtr2_el2(i & 1 ? HDFG2_NPMSDSFR : 0);
		write_hdfgwtr2_el2(i & 2 ? HDFG2_NPMSDSFR : 0);
		isb();
		for (wrong = j = 0; j < R_PMSCR_EL2; j++) {
			if (!reg_exists(&spe_regs[j]) || j == R_PMSDSFR)
				continue;
			for (read = spe_regs[j].ro; read < 2; read++)
				wrong += probe(1, &spe_regs[j], read);
		}
		is(wrong, 0, "HDFGRTR2_EL2 %#lx, HDFGWTR2_EL2 %#lx: no other register traps",
		   read_hdfgrtr2_el2(), read_hdfgwtr2_el2());
		set_mdcr(MDCR_E2PB(0));
		check_el1(r, 1, !(i & 1), "HDFGRTR2_EL2.nPMSDSFR_EL1");
		check_el1(r, 0, !(i & 2), "HDFGWTR2_EL2.nPMSDSFR_EL1");
		set_mdcr(MDCR_E2PB(3) | MDCR_TPMS);
		check_el1(r, 1, 1, "TPMS with HDFGRTR2_EL2");
		check_el1(r, 0, 1, "TPMS with HDFGWTR2_EL2");
		is(probe(2, r, 0) | probe(2, r, 1), 0,
		   "PMSDSFR_EL1 is accessible at EL2");
		set_mdcr(MDCR_E2PB(3));
	}
}

/* HDFG*TR2_EL2 and their like are of EL2 alone, and of FEAT_FGT2. */
static void check_fgt2_names(void)
{
	int nv = FIELD(read_id_aa64mmfr2(), 27, 24), i, read;

	for (i = 0; i < 5; i++)
		for (read = 0; read < 2; read++) {
			const struct spe_reg *f = &fgt2_regs[i];

			is(probe(2, f, read) && exc.el == 2 && ESR_EC(exc.esr) == ESR_UNDEF,
			   !fgt2, "EL2: %s of %s is UNDEFINED only without FEAT_FGT2",
			   read ? "a read" : "a write", f->name);
			ok(probe(1, f, read) && exc.el == 1 && ESR_EC(exc.esr) == ESR_UNDEF,
			   "EL1: %s of %s is UNDEFINED", read ? "a read" : "a write",
			   f->name);
			if (!fgt2 || !nv)
				continue;
			hcr_set(HCR_NV, 0);
			check_el1(f, read, 1, "HCR_EL2.NV");
			hcr_set(0, HCR_NV);
		}
	fgt_baseline();
}

static void check_el0(void)
{
	static const struct {
		const char *name;
		u64 mdcr;
	} rows[] = {
		{ "no trap set", MDCR_E2PB(3) },
		{ "E2PB=0b00 and TPMS", MDCR_TPMS },
	};
	unsigned int i;
	int k, read;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		set_mdcr(rows[i].mdcr);
		for (k = 0; k < spe_nregs; k++) {
			const struct spe_reg *r = &spe_regs[k];

			for (read = 0; read < 2; read++)
				if (!(probe(0, r, read) && exc.el == 1 &&
				      ESR_EC(exc.esr) == ESR_UNDEF))
					break;
			ok(read == 2, "EL0, %s: %s is UNDEFINED, taken to EL1",
			   rows[i].name, r->name);
		}
	}
	set_mdcr(MDCR_E2PB(3));
}

/* The other names, at EL1 */
static void check_el1_names(void)
{
	int k, read;

	for (k = R_PMSCR_EL2; k <= R_PMSCR_EL12; k++)
		for (read = 0; read < 2; read++) {
			const struct spe_reg *r = &spe_regs[k];

			ok(probe(1, r, read) && exc.el == 1 &&
			   ESR_EC(exc.esr) == ESR_UNDEF,
			   "EL1: %s of %s is UNDEFINED", read ? "a read" : "a write",
			   r->name);
		}
	if (!feature("nv", FIELD(read_id_aa64mmfr2(), 27, 24), 1))
		return;
	hcr_set(HCR_NV, 0);
	for (k = R_PMSCR_EL2; k <= R_PMSCR_EL12; k++)
		for (read = 0; read < 2; read++)
			check_el1(&spe_regs[k], read, 1, "HCR_EL2.NV");
	hcr_set(0, HCR_NV);
}

/*
 * FEAT_NV2: at EL1, with HCR_EL2.{NV,NV2} = {1,1}, the registers are memory
 * at VNCR_EL2 (D8.9, "register accesses transformed").
 */
static void check_nv2(void)
{
	u64 *page = alloc_page();
	int k, nv1;

	if (!feature("nv2", FIELD(read_id_aa64mmfr2(), 27, 24) >= 2, 1))
		return;
	write_vncr_el2((u64)page);
	hcr_set(HCR_NV | HCR_NV2, 0);
	for (k = 0; fgt2 && k < 5; k++) {
		const struct spe_reg *r = &fgt2_regs[k];
		u64 want = 0x1234500000000000UL + k, got, hw = r->rd(0);

		memset(page, 0, PAGE_SIZE);
		expect_exceptions();
		run_at(1, r->wr, want);
		got = run_at(1, r->rd, 0);
		stop_expecting();
		ok(!exc.count && page[r->vncr / 8] == want && got == want &&
		   r->rd(0) == hw, "NV2: to EL1 %s is memory at %#x", r->name, r->vncr);
	}
	/* The traps come first (access pseudocode of D24.7.10). */
	if (fgt2) {
		write_hdfgrtr2_el2(0);
		write_hdfgwtr2_el2(0);
		isb();
		memset(page, 0xff, PAGE_SIZE);
		check_el1(&spe_regs[R_PMSDSFR], 1, 1, "NV2, HDFGRTR2_EL2.nPMSDSFR_EL1=0");
		check_el1(&spe_regs[R_PMSDSFR], 0, 1, "NV2, HDFGWTR2_EL2.nPMSDSFR_EL1=0");
		is(page[0x858 / 8], ~0UL, "NV2: what traps writes no memory");
		fgt_baseline();
	}
	hcr_set(0, HCR_NV | HCR_NV2);
	for (nv1 = 0; nv1 < 2; nv1++) {
		hcr_set(HCR_NV | HCR_NV2 | (nv1 ? HCR_NV1 : 0), 0);
		for (k = 0; k < R_PMSCR_EL2; k++) {
			const struct spe_reg *r = &spe_regs[k];
			u64 want = 0x1234500000000000UL + k, got, hw;

			if (!r->vncr || !reg_exists(r))
				continue;
			if (r->vncr_nv1 && !nv1)
				continue;
			r->wr(0);
			isb();
			hw = r->rd(0);
			memset(page, 0, PAGE_SIZE);
			expect_exceptions();
			run_at(1, r->wr, want);
			stop_expecting();
			ok(!exc.count && page[r->vncr / 8] == want && r->rd(0) == hw,
			   "NV2, NV1=%d: EL1 writes %s to memory at %#x", nv1,
			   r->name, r->vncr);
			page[r->vncr / 8] = ~want;
			expect_exceptions();
			got = run_at(1, r->rd, 0);
			stop_expecting();
			ok(!exc.count && got == ~want,
			   "NV2, NV1=%d: EL1 reads %s from memory", nv1, r->name);
		}
		hcr_set(0, HCR_NV | HCR_NV1 | HCR_NV2);
	}
	/* PMSCR_EL12 is the memory of PMSCR_EL1 with NV1 = 0. */
	hcr_set(HCR_NV | HCR_NV2, 0);
	memset(page, 0, PAGE_SIZE);
	expect_exceptions();
	run_at(1, spe_regs[R_PMSCR_EL12].wr, 0x5a);
	stop_expecting();
	ok(!exc.count && page[0x828 / 8] == 0x5a,
	   "NV2, NV1=0: EL1 writes PMSCR_EL12 to memory at 0x828");
	/* ... whatever HDFGWTR_EL2 says of PMSCR_EL1: the trap is of that name. */
	if (fgt) {
		write_hdfgwtr_el2(read_hdfgwtr_el2() | BIT(26));
		write_hdfgrtr_el2(read_hdfgrtr_el2() | BIT(26));
		isb();
		expect_exceptions();
		run_at(1, spe_regs[R_PMSCR_EL12].wr, 0xa5);
		is(run_at(1, spe_regs[R_PMSCR_EL12].rd, 0), 0xa5,
		   "NV2, NV1=0: EL1 reads PMSCR_EL12 from memory with HDFGRTR_EL2.PMSCR_EL1=1");
		stop_expecting();
		ok(!exc.count && page[0x828 / 8] == 0xa5,
		   "NV2, NV1=0: EL1 writes PMSCR_EL12 to memory with HDFGWTR_EL2.PMSCR_EL1=1");
		write_hdfgwtr_el2(read_hdfgwtr_el2() & ~BIT(26));
		write_hdfgrtr_el2(read_hdfgrtr_el2() & ~BIT(26));
		isb();
	}
	hcr_set(0, HCR_NV | HCR_NV2);
}

static void check_vhe(void)
{
	int k;
	u64 v;

	/* Two values that have no bit in common */
	write_pmscr_el1(0x01);
	write_pmscr_el2(0x08);
	isb();
	set_vhe(1, 1);
	is(read_pmscr_el1(), 0x08, "E2H=1: PMSCR_EL1 reads PMSCR_EL2 at EL2");
	expect_exceptions();
	v = read_pmscr_el12();
	is(stop_expecting(), 0, "E2H=1: PMSCR_EL12 is accessible at EL2");
	is(v, 0x01, "E2H=1: PMSCR_EL12 reads PMSCR_EL1");
	write_pmscr_el1(0x10);
	write_pmscr_el12(0x20);
	isb();
	is(read_pmscr_el2(), 0x10, "E2H=1: PMSCR_EL1 writes PMSCR_EL2");
	set_vhe(0, 0);
	is(read_pmscr_el1(), 0x20, "E2H=1: PMSCR_EL12 writes PMSCR_EL1");
	is(read_pmscr_el2(), 0x10, "E2H=0: PMSCR_EL2 keeps its value");
	write_pmscr_el1(0);
	write_pmscr_el2(0);

	/* No other register is banked or redirected. */
	for (k = R_PMSICR; k < R_PMSCR_EL2; k++) {
		const struct spe_reg *r = &spe_regs[k];
		u64 before, val = k == R_PMSIRR ? 0x4400 : k == R_PMBLIMITR ?
			0x123000 : k == R_PMSEVFR ? 0x28 : 0x2;

		if (r->ro || !reg_exists(r))
			continue;
		r->wr(val);
		isb();
		before = r->rd(0);
		set_vhe(1, 1);
		v = r->rd(0);
		set_vhe(0, 0);
		ok(v == before && v, "E2H=1: %s is not redirected", r->name);
		r->wr(0);
	}

	/* TGE sends EL0's exceptions to EL2. */
	set_vhe(1, 1);
	for (k = 0; k < R_PMSCR_EL2; k++)
		if (!(probe(0, &spe_regs[k], 1) && exc.el == 2 &&
		      ESR_EC(exc.esr) == ESR_UNDEF))
			break;
	set_vhe(0, 0);
	is(k, R_PMSCR_EL2, "EL0, TGE=1: all registers are UNDEFINED, taken to EL2");
}

static void check_p(void)
{
	static const struct {
		const char *name;
		int e2pb, p;
	} rows[] = {
		{ "0b00", 0, 1 }, { "0b10", 2, 0 }, { "0b11", 3, 0 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		set_mdcr(MDCR_E2PB(rows[i].e2pb));
		is(!!(run_at(1, spe_regs[R_PMBIDR].rd, 0) & PMBIDR_P), rows[i].p,
		   "E2PB=%s: PMBIDR_EL1.P is %d at EL1", rows[i].name, rows[i].p);
		is(!!(read_pmbidr() & PMBIDR_P), 0, "E2PB=%s: PMBIDR_EL1.P is 0 at EL2",
		   rows[i].name);
		set_mdcr(MDCR_E2PB(rows[i].e2pb) | MDCR_TPMS);
		is(!!(run_at(1, spe_regs[R_PMBIDR].rd, 0) & PMBIDR_P), rows[i].p,
		   "E2PB=%s, TPMS: PMBIDR_EL1.P is %d at EL1", rows[i].name,
		   rows[i].p);
	}
	set_mdcr(MDCR_E2PB(3));
}

/* An access that traps writes nothing. */
static void check_no_effect(void)
{
	write_pmbptr(0x1000);
	isb();
	set_mdcr(MDCR_E2PB(2));
	expect_exceptions();
	run_at(1, spe_regs[R_PMBPTR].wr, 0x2000);
	stop_expecting();
	is(read_pmbptr(), 0x1000, "a trapped write changes nothing");
	set_mdcr(MDCR_E2PB(3));
	run_at(1, spe_regs[R_PMBPTR].wr, 0x3000);
	is(read_pmbptr(), 0x3000, "E2PB=0b11: EL1 writes the one PMBPTR_EL1");
}

void test_main(void)
{
	int fgt_id = FIELD(read_id_aa64mmfr0(), 59, 56);

	fgt = arg("fgt", 1);
	is(fgt_id != 0, fgt, "FEAT_FGT is as the case says");
	fgt = fgt && fgt_id;
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	mdcr = read_mdcr_el2();
	set_mdcr(MDCR_E2PB(3));
	if (fgt)
		ok(!(read_hdfgrtr_el2() | read_hdfgwtr_el2()),
		   "HDFGRTR_EL2 and HDFGWTR_EL2 reset to 0");
	if (fgt && reg_exists(&spe_regs[R_PMSNEVFR])) {
		check_el1(&spe_regs[R_PMSNEVFR], 1, 1, "HDFGRTR_EL2.nPMSNEVFR_EL1=0");
		check_el1(&spe_regs[R_PMSNEVFR], 0, 1, "HDFGWTR_EL2.nPMSNEVFR_EL1=0");
	}
	fgt2 = fgt && reg_exists(&spe_regs[R_PMSDSFR]);
	if (fgt)
		is(fgt_id, fgt2 ? 2 : 1, "FEAT_FGT2 comes with FEAT_SPE_FDS only");
	if (fgt2)
		ok(!(read_hdfgrtr2_el2() | read_hdfgwtr2_el2()),
		   "HDFGRTR2_EL2 and HDFGWTR2_EL2 reset to 0");
	fgt_baseline();
	check_mdcr();
	if (fgt)
		check_fgt();
	if (fgt2)
		check_fgt2();
	check_fgt2_names();
	check_el0();
	check_el1_names();
	check_p();
	check_no_effect();
	if (feature("vhe", has_vhe(), 1))
		check_vhe();
	check_nv2();
}
