// SPDX-License-Identifier: GPL-2.0-only
/*
 * Software that leaves one register out of its initialisation, with
 * spe-reset=unknown: what resets to an UNKNOWN value does what the value says,
 * so that the mistake is seen (Arm ARM D24.7, D17.4). The reset value of the
 * registers that are left out is whatever the seed gives, and the checks
 * follow from it.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"
#include "speregs.h"

#define NSPB(v)		FIELD(v, 13, 12)
#define ENPMSN		BIT(36)
#define ENPMS3		BIT(42)

#define LOOPS		(257 * 8)
#define ALL		16	/* records of that many loops, 257 instructions apart */
#define LIMIT		(BUF + 0x10000)

#define MAX_RECS	64
static struct record recs[MAX_RECS];

/* The values after the reset */
static u64 reset[R_PMSCR_EL12], mdcr_el2;
static int caught;

static volatile int irqs;
static u64 intid, pmbsr_seen;

static void on_irq(void)
{
	u64 id = read_icc_iar1();

	irqs++;
	intid = id;
	pmbsr_seen = read_pmbsr();
	write_pmbsr(0);
	isb();
	write_icc_eoir1(id);
	isb();
}

/*
 * Every register but omit, then fn at EL. cr1, cr2: the enable bits, for an
 * omitted PMSCR the garbage instead.
 */
static int profile(int omit, int owner, u64 cr1, u64 cr2, int el)
{
	static const struct {
		int reg;
		u64 value;
	} init[] = {
		{ R_PMSIRR, 0x100 }, { R_PMSICR, 0 }, { R_PMSFCR, 0 },
		{ R_PMSEVFR, 0 }, { R_PMSNEVFR, 0 }, { R_PMSLATFR, 0 },
		{ R_PMSDSFR, 0 }, { R_PMBPTR, BUF }, { R_PMBSR, 0 },
	};
	unsigned int i;

	buf_paint(BUF, 0x10000);
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmblimitr(0);
	isb();
	write_mdcr_el2((mdcr_el2 & ~(MDCR_E2PB(3) | MDCR_TPMS)) |
		       MDCR_E2PB(owner == 1 ? 3 : 0));
	for (i = 0; i < ARRAY_SIZE(init); i++) {
		int k = init[i].reg;

		if (reg_exists(&spe_regs[k]))
			spe_regs[k].wr(k == omit ? reset[k] : init[i].value);
	}
	isb();
	write_pmblimitr(LIMIT | PMBLIMITR_E);
	isb();
	write_pmscr_el1(omit == R_PMSCR ? reset[R_PMSCR] : cr1);
	write_pmscr_el2(omit == R_PMSCR_EL2 ? reset[R_PMSCR_EL2] : cr2);
	isb();
	run_at(el, wl_spin, LOOPS);
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	if (read_pmbptr() < BUF || read_pmbptr() > LIMIT)
		return 0;
	return decode_all(BUF, buf_dirty(BUF, 1) == BUF ? read_pmbptr() : BUF, recs,
			  MAX_RECS);
}

/* Of the loop itself, at an Exception level */
static int looped(int n, int el)
{
	int i, in = 0;

	for (i = 0; i < n && i < MAX_RECS; i++)
		in += ADDR(recs[i].addr[A_PC]) >= (u64)wl_spin_loop &&
		      ADDR(recs[i].addr[A_PC]) < (u64)wl_spin_end &&
		      ADDR_EL(recs[i].addr[A_PC]) == el;
	return in;
}

static void check(int matters, int good, const char *what, u64 value)
{
	caught += matters && good;
	ok(good, "%s %#lx: %s", what, value, matters ? "the mistake is seen" :
	   "nothing to see in this value");
}

static void check_pmbsr(void)
{
	u64 v = reset[R_PMBSR];
	int s = !!(v & PMBSR_S), n;

	is(irq_pending(), s, "PMBSR_EL1 %#lx: PMBIRQ is pending out of reset: %s", v,
	   s ? "yes" : "no");
	/* A handler that is there too early is called. */
	hcr_set(BIT(4), 0);			/* IMO */
	irq_hook = on_irq;
	asm volatile("msr daifclr, #2");
	isb();
	asm volatile("msr daifset, #2");
	irq_hook = 0;
	hcr_set(0, BIT(4));
	ok(irqs == s && (!s || (intid == PMBIRQ && pmbsr_seen == v)),
	   "PMBSR_EL1 %#lx: PMBIRQ is taken out of reset: %s", v, s ? "yes" : "no");
	caught += s;

	n = profile(R_PMBSR, 1, PMSCR_E1SPE, 0, 1);
	check(s, s ? !n && buf_dirty(BUF, 0x10000) == BUF + 0x10000 && !read_pmsicr() :
	      n >= ALL - 1, "without PMBSR_EL1", v);
	is(read_pmbsr(), v, "PMBSR_EL1 %#lx: unchanged by the session", v);
	is(irq_pending(), s, "PMBSR_EL1 %#lx: so is PMBIRQ", v);
}

static void check_sampling(void)
{
	u64 v, types = PMSFCR_B | PMSFCR_LD | PMSFCR_ST;
	int n;

	v = reset[R_PMSIRR];
	n = profile(R_PMSIRR, 1, PMSCR_E1SPE, 0, 1);
	check(v >= 2 * LOOPS + 1000, v >= 2 * LOOPS + 1000 ? !n : n >= 0,
	      "without PMSIRR_EL1", v);
	v = reset[R_PMSICR];
	n = profile(R_PMSICR, 1, PMSCR_E1SPE, 0, 1);
	check(FIELD(v, 31, 0) >= 2 * LOOPS + 1000,
	      FIELD(v, 31, 0) >= 2 * LOOPS + 1000 ? !n : n >= 0,
	      "without PMSICR_EL1", v);
	v = reset[R_PMSFCR];
	n = profile(R_PMSFCR, 1, PMSCR_E1SPE, 0, 1);
	if (!(v & PMSFCR_FT) || !(v & types))
		check(0, n >= ALL - 1, "without PMSFCR_EL1", v);
	else
		check(1, v & PMSFCR_B ? n > 0 && n <= ALL / 2 + 1 : !n,
		      "without PMSFCR_EL1", v);
	v = reset[R_PMBPTR];
	n = profile(R_PMBPTR, 1, PMSCR_E1SPE, 0, 1);
	check(1, !n && read_pmbsr() & PMBSR_S, "without PMBPTR_EL1", v);

	/* EL2 is the owner, and means one of the two Exception levels only. */
	v = reset[R_PMSCR];
	n = looped(profile(R_PMSCR, 2, 0, PMSCR_E1SPE, 1), 1);
	check(!!(v & PMSCR_E1SPE), v & PMSCR_E1SPE ? n >= ALL - 1 : !n,
	      "without PMSCR_EL1, EL1 with EL2 profiled", v);
	n = looped(profile(R_PMSCR, 2, 0, PMSCR_E1SPE, 0), 0);
	check(!!(v & PMSCR_E0SPE), v & PMSCR_E0SPE ? n >= ALL - 1 : !n,
	      "without PMSCR_EL1, EL0 with EL2 profiled", v);
	v = reset[R_PMSCR_EL2];
	n = looped(profile(R_PMSCR_EL2, 2, PMSCR_E1SPE, 0, 2), 2);
	check(!!(v & PMSCR_E1SPE), v & PMSCR_E1SPE ? n >= ALL - 1 : !n,
	      "without PMSCR_EL2, EL2 with EL1 profiled", v);
	/* and all initialised */
	n = looped(profile(-1, 1, PMSCR_E1SPE, 0, 1), 1);
	ok(n >= ALL - 1 && !read_pmbsr(), "with all registers: EL1 is profiled");
	n = looped(profile(-1, 2, 0, PMSCR_E1SPE, 1), 1);
	is(n, 0, "with all registers: EL1 is not profiled with EL2");
}

/* A hypervisor that leaves MDCR_EL2 out */
static void check_mdcr_el2(void)
{
	u64 e2pb = FIELD(mdcr_el2, 13, 12);

	write_mdcr_el2(mdcr_el2);
	isb();
	check(!(e2pb & 1), probe(1, &spe_regs[R_PMBPTR], 1) == !(e2pb & 1),
	      "without MDCR_EL2, E2PB, PMBPTR_EL1 at EL1", mdcr_el2);
	check(!e2pb, !!(run_at(1, spe_regs[R_PMBIDR].rd, 0) & PMBIDR_P) == !e2pb,
	      "without MDCR_EL2, E2PB, PMBIDR_EL1.P at EL1", mdcr_el2);
	check(!!(mdcr_el2 & MDCR_TPMS),
	      probe(1, &spe_regs[R_PMSICR], 1) == !!(mdcr_el2 & MDCR_TPMS),
	      "without MDCR_EL2, TPMS, PMSICR_EL1 at EL1", mdcr_el2);
	write_mdcr_el2((mdcr_el2 & ~MDCR_TPMS) | MDCR_E2PB(3));
	isb();
}

static u64 set_mdcr_el3(u64 v)
{
	write_mdcr_el3(v);
	isb();
	return 0;
}

/* Firmware that leaves MDCR_EL3 out; the boot code of this program does not. */
static void check_mdcr_el3(void)
{
	u64 v = el3_mdcr_reset;
	int nspb = NSPB(v) != 3;

	is(v & ~(3UL << 12 | ENPMSN | ENPMS3), 0,
	   "MDCR_EL3 %#lx: only NSPB, EnPMSN and EnPMS3 are not 0", v);
	call_el3(set_mdcr_el3, v);
	check(nspb, probe(2, &spe_regs[R_PMSICR], 1) == nspb && (!nspb || exc.el == 3),
	      "without MDCR_EL3, NSPB, PMSICR_EL1 at EL2", v);
	/* what NSPB alone would let through */
	call_el3(set_mdcr_el3, v | 3UL << 12);
	check(!(v & ENPMSN), probe(2, &spe_regs[R_PMSNEVFR], 1) == !(v & ENPMSN),
	      "without MDCR_EL3, EnPMSN, PMSNEVFR_EL1 at EL2", v);
	if (reg_exists(&spe_regs[R_PMSDSFR]))
		check(!(v & ENPMS3), probe(2, &spe_regs[R_PMSDSFR], 1) == !(v & ENPMS3),
		      "without MDCR_EL3, EnPMS3, PMSDSFR_EL1 at EL2", v);
	call_el3(set_mdcr_el3, 3UL << 12 | ENPMSN | ENPMS3);
}

void test_main(void)
{
	int k;

	mdcr_el2 = read_mdcr_el2();
	for (k = 0; k < R_PMSCR_EL12; k++)
		if (!spe_regs[k].ro && reg_exists(&spe_regs[k]))
			reset[k] = spe_regs[k].rd(0);
	id.pmsver = FIELD(read_id_aa64dfr0(), 35, 32);
	id.pmsidr = read_pmsidr();
	id.max = 1UL << PMSIDR_MAXSIZE(id.pmsidr);
	id.align = 1UL << PMBIDR_ALIGN(read_pmbidr());
	gic_init();
	check_pmbsr();
	check_sampling();
	check_mdcr_el2();
	if (has_el3())
		check_mdcr_el3();
	print("# %d mistakes are seen\n", caught);
	ok(caught >= 3, "the seed makes some mistakes matter");
}
