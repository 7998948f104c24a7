// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registers: identification, reset values, bits that are writable, RAZ/WI or
 * RES0 in each version, and what UNDEFs (Arm ARM D24.7).
 *
 * Arguments: pmsver=N, pmsidr=X and pmbidr=X (the values expected), reset=
 * zero or unknown, spe=off.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "speregs.h"

static int sve(void)
{
	return FIELD(read_id_aa64pfr0(), 35, 32) != 0;
}

static int sme(void)
{
	return FIELD(read_id_aa64pfr1(), 27, 24) != 0;
}

static int ecv(void)
{
	return FIELD(read_id_aa64mmfr0(), 63, 60) != 0;
}

/* Events that can be filtered in a version, and those that cannot. */
static void event_masks(int v, u64 pmsidr, u64 *ones, u64 *zeros)
{
	/*
	 * E[1] reads UNKNOWN where no speculative operation is sampled. The
	 * model implements no IMPLEMENTATION DEFINED event: RAZ/WI.
	 */
	*ones = BIT(3) | BIT(5) | BIT(7);
	*zeros = BIT(0) | BIT(16) | 0xffffUL << 32 | 0xfUL << 12 |
		 0xffUL << 24 | 0xffffUL << 48;
	if (v >= 2)
		*ones |= BIT(11);
	else
		*zeros |= BIT(11);
	if (v >= 2 && (sve() || sme()))
		*ones |= BIT(17) | BIT(18);
	else
		*zeros |= BIT(17) | BIT(18);
	if (pmsidr & PMSIDR_FNE)
		*ones |= BIT(6);
	else
		*zeros |= BIT(6);
	/* Of the optional ones the model has all but E[22], recently fetched. */
	if (v >= 5)
		*ones |= BIT(2) | BIT(4) | 7UL << 8 | 7UL << 19 | BIT(23);
	else
		*zeros |= 0x1fUL << 19;
	*zeros |= BIT(22);
}

static void check_reset(int unknown)
{
	u64 any = 0, hash = 0;
	int i;

	is(read_pmblimitr() & PMBLIMITR_E, 0, "reset: PMBLIMITR_EL1.E is 0");
	for (i = 0; i < spe_nregs; i++) {
		const struct spe_reg *r = &spe_regs[i];
		u64 v;

		if (r->ro || i == R_PMSCR_EL12 || !reg_exists(r))
			continue;
		v = r->rd(0);
		if (!unknown)
			is(v, 0, "reset: %s is 0", r->name);
		any |= v;
		hash = hash * 31 + v;
	}
	if (unknown) {
		ok(any != 0, "reset: fields that reset to an UNKNOWN value are not 0");
		ok((any & ~BIT(0)) != any || !(read_pmblimitr() & 1),
		   "reset: the buffer stays disabled with UNKNOWN values elsewhere");
	}
	print("# digest reset %#lx\n", hash);
	if (read_pmbsr() & PMBSR_S)
		ok(irq_pending(), "reset: PMBIRQ follows the UNKNOWN PMBSR_EL1.S of 1");
	else
		ok(!irq_pending(), "reset: PMBIRQ follows PMBSR_EL1.S of 0");
}

static void check_id(int pmsver)
{
	u64 pmsidr = read_pmsidr(), pmbidr = read_pmbidr();

	is(FIELD(read_id_aa64dfr0(), 35, 32), pmsver, "ID_AA64DFR0_EL1.PMSVer");
	is(pmsidr, arg("pmsidr", 0), "PMSIDR_EL1");
	is(pmbidr, arg("pmbidr", 0), "PMBIDR_EL1 at EL2");
	is(pmsidr & 7, 7, "PMSIDR_EL1.{FL,FT,FE} read as 1");
	is(FIELD(pmsidr, 63, 33), 0, "PMSIDR_EL1[63:33] are RES0");
	is(FIELD(pmsidr, 23, 20), 0, "PMSIDR_EL1.Format is 0");
	is(pmbidr & 0xffff0000fffff000UL, 0, "PMBIDR_EL1 RES0 bits");
	ok(PMSIDR_MAXSIZE(pmsidr) >= 6 && PMSIDR_MAXSIZE(pmsidr) <= 11,
	   "PMSIDR_EL1.MaxSize is a permitted value");
	ok(PMBIDR_ALIGN(pmbidr) <= PMSIDR_MAXSIZE(pmsidr),
	   "PMBIDR_EL1.Align is not above MaxSize");
	if (pmsver >= 3)
		ok(!!(pmsidr & PMSIDR_FNE), "SPEv1p2 has PMSNEVFR_EL1");
	if (pmsver >= 4)
		ok((pmbidr & PMBIDR_F) && PMBIDR_EA(pmbidr),
		   "SPEv1p3 has PMBIDR_EL1.F = 1 and EA != 0");
}

static void check_masks(int v)
{
	u64 pmsidr = read_pmsidr(), ev1, ev0, ev_any, pmsfcr, align;
	u64 count12 = PMSIDR_COUNTSIZE(pmsidr) == 2;
	u64 pct = ecv() ? 3UL << 6 : BIT(6);
	unsigned int i;

	event_masks(v, pmsidr, &ev1, &ev0);
	ev_any = ~(ev1 | ev0);
	pmsfcr = 7 | 7UL << 16;
	if (pmsidr & PMSIDR_FNE)
		pmsfcr |= PMSFCR_FNE;
	if (pmsidr & PMSIDR_FDS)
		pmsfcr |= PMSFCR_FDS;
	if (pmsidr & PMSIDR_EFT)
		pmsfcr |= 3UL << 19 | 0x1fUL << 48;
	align = (1UL << PMBIDR_ALIGN(read_pmbidr())) - 1;

	struct {
		int reg;
		u64 writable;
		u64 either;	/* IMPLEMENTATION DEFINED or UNKNOWN */
	} rows[] = {
		{ R_PMSCR, 0x3b | pct, 0 },
		{ R_PMSCR_EL2, 0x3b | pct, 0 },
		{ R_PMSNEVFR, ev1, ev_any },
		{ R_PMSEVFR, ev1, ev_any },
		{ R_PMSICR, 0xffffffffUL | (pmsidr & PMSIDR_ERND ? 0xffUL << 56 : 0), 0 },
		{ R_PMSIRR, 0xffffff01UL, 0 },
		{ R_PMSFCR, pmsfcr, 0 },
		{ R_PMSLATFR, count12 ? 0xfff : 0xffff, 0 },
		/* reserved values of FM before Discard mode */
		{ R_PMBLIMITR, ~0xfffUL | (v >= 3 ? PMBLIMITR_PMFZ | BIT(2) : 0) | 1,
		  BIT(1) | BIT(2) },
		{ R_PMBPTR, ~align, align },
		/* MSS2 is defined by event */
		{ R_PMBSR, 0x3fUL << 26 | 0xfffff, 0xffffffUL << 32 },
		{ R_PMSDSFR, ~0UL, 0 },
	};

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct spe_reg *r = &spe_regs[rows[i].reg];
		u64 care = ~rows[i].either, w = rows[i].writable;
		static const u64 patterns[] = {
			~0UL, 0, 0xaaaaaaaaaaaaaaaaUL, 0x5555555555555555UL,
		};
		unsigned int p;

		if (!reg_exists(r))
			continue;
		write_pmblimitr(0);
		for (p = 0; p < ARRAY_SIZE(patterns); p++) {
			r->wr(patterns[p]);
			isb();
			is_masked(r->rd(0), patterns[p] & w, care,
				  "%s keeps only its fields of %#lx",
				  r->name, patterns[p]);
		}
		r->wr(0);
		isb();
	}
}

static void check_undef(void)
{
	static const struct {
		int reg, read;
	} rows[] = {
		{ R_PMSIDR, 0 }, { R_PMBIDR, 0 },
		{ R_PMSCR_EL12, 0 }, { R_PMSCR_EL12, 1 },
	};
	unsigned int i;
	int read;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct spe_reg *r = &spe_regs[rows[i].reg];

		ok(probe(2, r, rows[i].read) && ESR_EC(exc.esr) == ESR_UNDEF &&
		   exc.el == 2, "EL2: %s of %s is UNDEFINED%s",
		   rows[i].read ? "a read" : "a write", r->name,
		   r->ro ? "" : " with HCR_EL2.E2H = 0");
	}
	for (i = R_PMSNEVFR; i <= R_PMSDSFR; i += R_PMSDSFR - R_PMSNEVFR)
		for (read = 0; read < 2; read++) {
			const struct spe_reg *r = &spe_regs[i];
			int undef = probe(2, r, read);

			is(undef, !reg_exists(r), "EL2: %s of %s is UNDEFINED only without its feature",
			   read ? "a read" : "a write", r->name);
		}
}

static void check_off(void)
{
	int i, el, read;

	is(FIELD(read_id_aa64dfr0(), 35, 32), 0, "spe=off: ID_AA64DFR0_EL1.PMSVer is 0");
	for (el = 1; el <= 2; el++)
		for (i = 0; i < spe_nregs; i++)
			for (read = 0; read < 2; read++) {
				const struct spe_reg *r = &spe_regs[i];

				ok(probe(el, r, read) && exc.el == el &&
				   ESR_EC(exc.esr) == ESR_UNDEF,
				   "spe=off: %s of %s is UNDEFINED at EL%d",
				   read ? "a read" : "a write", r->name, el);
			}
}

static u64 do_psb(u64 x)
{
	psb_csync();
	return x;
}

void test_main(void)
{
	int el;

	gic_init();
	if (streq(arg_text("spe"), "off")) {
		check_off();
	} else {
		check_reset(streq(arg_text("reset"), "unknown"));
		write_pmscr_el1(0);
		write_pmscr_el2(0);
		write_pmbsr(0);
		isb();
		check_id(arg("pmsver", 5));
		check_masks(arg("pmsver", 5));
		check_undef();
	}
	for (el = 0; el <= 2; el++) {
		expect_exceptions();
		is(run_at(el, do_psb, 42), 42, "PSB CSYNC executes at EL%d", el);
		is(stop_expecting(), 0, "PSB CSYNC takes no exception at EL%d", el);
	}
}
