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

/* Where the buffer is, and whose */
struct setup {
	const char *name;
	int owner;
	u64 base;		/* the VA of BUF */
	void (*on)(void), (*off)(void);
};

static void setup_on(const struct setup *u)
{
	if (u->on)
		u->on();
	isb();
}

static void setup_off(const struct setup *u)
{
	isb();
	if (u->off)
		u->off();
	isb();
}

/* PMSCR_EL1 by its name at EL2 */
static void el1_off(void)
{
	if (read_hcr_el2() & HCR_E2H)
		write_pmscr_el12(0);
	else
		write_pmscr_el1(0);
	isb();
}

static void drain_el1(void)
{
	el1_off();
	psb_csync();
	dsb_nsh();
}

/* EL1 is profiled, and not all of its records have been written. */
static void start_in_flight(const struct setup *u, struct session *s)
{
	int i;

	for (i = 0; i < 20; i++) {
		*s = (struct session){
			.owner = u->owner, .pmscr_el1 = PMSCR_E1SPE,
			.pmbptr = u->base, .limit = u->base + 0x10000,
		};
		buf_paint(BUF, 0x10000);
		spe_start(s);
		run_at(1, wl_spin, FEW);
		/* the model may write some of them early */
		if (buf_dirty(BUF + 3 * id.max, 0x1000) == BUF + 3 * id.max + 0x1000)
			return;
		spe_stop(s);
	}
	bail("no records stay in flight");
}

static int records(const struct setup *u, const struct session *s)
{
	return decode_all(BUF, BUF + (s->end_pmbptr - u->base), recs, MAX_RECS);
}

/* The change comes with or without a drain. */
static void change_in(const struct setup *u, const char *name, void (*fn)(void),
		      void (*undo)(void), u64 event)
{
	int wrong = made(name), n;
	struct session s;
	u64 sr;

	if (!wrong && !made("none"))
		return;
	setup_on(u);
	start_in_flight(u, &s);
	if (!wrong)
		drain_el1();
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
	setup_off(u);
	if (wrong) {
		is(sr, event, "%s before the drain: PMBSR_EL1", name);
		n = records(u, &s);
		ok(n >= 0 && n < 4, "%s before the drain: records are lost", name);
	} else {
		is(sr, 0, "%s after the drain: no event", name);
		n = records(u, &s);
		ok(n >= 4 && n <= 6, "%s after the drain: all records are there", name);
	}
}

static const struct setup plain = { .name = "EL1", .owner = 1, .base = BUF };

/* "Access not allowed", with DL */
#define LOST	(PMBSR_S | PMBSR_DL)

static void change(const char *name, void (*fn)(void), void (*undo)(void))
{
	change_in(&plain, name, fn, undo, LOST);
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

/* --- more of the registers that the buffer depends on ----------------------- */

/* Each is its own undoing. */
#define TOGGLE(name, reg, bits)						\
static void toggle_##name(void) { write_##reg(read_##reg() ^ (bits)); }

TOGGLE(dc, hcr_el2, BIT(12))
TOGGLE(tge, hcr_el2, HCR_TGE)
TOGGLE(e2h_alone, hcr_el2, HCR_E2H)
TOGGLE(e2pb0, mdcr_el2, MDCR_E2PB(1))
TOGGLE(vtcr, vtcr_el2, BIT(12))			/* SH0 */
TOGGLE(vmid, vttbr_el2, BIT(48))
TOGGLE(tcr_el1, tcr_el1, BIT(12))
TOGGLE(tcr_el1_upper, tcr_el1, BIT(28))		/* SH1 */
TOGGLE(tcr_el12, tcr_el12, BIT(12))
TOGGLE(sctlr_el1_m, sctlr_el1, BIT(0))
TOGGLE(sctlr_el1_ee, sctlr_el1, BIT(25))
TOGGLE(sctlr_el1_a, sctlr_el1, BIT(1))
TOGGLE(asid, ttbr0_el1, BIT(48))
TOGGLE(tcr_el2, tcr_el2, BIT(12))
TOGGLE(tcr_el2_upper, tcr_el2, BIT(28))
TOGGLE(sctlr_el2_m, sctlr_el2, BIT(0))
TOGGLE(sctlr_el2_i, sctlr_el2, BIT(12))

/* Another root with the same entries */
#define COPY(reg)							\
static void copy_##reg(void)						\
{									\
	u64 *copy = alloc_page();					\
									\
	saved = read_##reg();						\
	memcpy(copy, (void *)(saved & PTE_ADDR), PAGE_SIZE);		\
	dsb();								\
	write_##reg((u64)copy);						\
}									\
static void back_##reg(void) { write_##reg(saved); }

SYSREG(ttbr0_el12, "S3_5_C2_C0_0")
SYSREG(vsttbr_el2, "S3_4_C2_C6_0")
SYSREG(vstcr_el2, "S3_4_C2_C6_2")

COPY(ttbr0_el1)
COPY(ttbr1_el1)
COPY(ttbr0_el12)
COPY(ttbr0_el2)
COPY(ttbr1_el2)
COPY(vsttbr_el2)
TOGGLE(vstcr, vstcr_el2, BIT(12))		/* SH0 */

static void same_pmbptr(void)
{
	isb();		/* else an old value is read */
	write_pmbptr(read_pmbptr());
}

static void clear_pmbsr(void) { write_pmbsr(0); }
static void move_limit(void) { write_pmblimitr((BUF + 0x20000) | PMBLIMITR_E); }
static void same_limit(void) { write_pmblimitr(read_pmblimitr()); }

/* The buffer in the range of TTBR1, which has the tables of TTBR0 */
#define UPPER	0xffff000000000000UL
/* EPD1; T1SZ, IRGN1, ORGN1, SH1, TG1 */
#define TCR_UPPER(tcr)	(((tcr) & ~BIT(23)) | 16 << 16 | 1 << 24 | 1 << 26 | \
			 3UL << 28 | 2UL << 30)
static u64 old_tcr;

static void upper_el1_on(void)
{
	old_tcr = read_tcr_el1();
	write_ttbr1_el1((u64)el1_root);
	write_tcr_el1(TCR_UPPER(old_tcr));
	isb();
	tlbi_all();
}

static void upper_el1_off(void)
{
	write_tcr_el1(old_tcr);
	tlbi_all();
}

static void vhe_on(void) { set_vhe(1, 0); }
static void vhe_off(void) { set_vhe(0, 0); }

static void upper_el2_on(void)
{
	set_vhe(1, 0);
	old_tcr = read_tcr_el2();
	write_ttbr1_el2((u64)el2_root);
	write_tcr_el2(TCR_UPPER(old_tcr));
	isb();
	tlbi_all();
}

static void upper_el2_off(void)
{
	write_tcr_el2(old_tcr);
	isb();
	set_vhe(0, 0);
}

static void stage2_on(void) { set_stage2(1); }
static void stage2_off(void) { set_stage2(0); }

static void secure_stage2_on(void)
{
	write_vstcr_el2((read_vtcr_el2() & 0xffff) | BIT(31));
	write_vsttbr_el2((u64)s2_root);
	set_stage2(1);
}

static const struct setup
	stage2 = { "EL1, stage 2", 1, BUF, stage2_on, stage2_off },
	secure = { "Secure EL1, stage 2", 1, BUF, secure_stage2_on, stage2_off },
	upper = { "EL1, TTBR1", 1, UPPER | BUF, upper_el1_on, upper_el1_off },
	host = { "EL1 of a VHE host", 1, BUF, vhe_on, vhe_off },
	el2 = { .name = "EL2", .owner = 2, .base = BUF },
	/* so that EL2 goes on when E2H changes the format of its registers */
	el2_off = { "EL2, MMU off", 2, BUF, toggle_sctlr_el2_m, toggle_sctlr_el2_m },
	el2_vhe = { "EL2, E2H=1", 2, BUF, vhe_on, vhe_off },
	el2_upper = { "EL2, E2H=1, TTBR1", 2, UPPER | BUF, upper_el2_on, upper_el2_off };

/* --- what EL3 changes -------------------------------------------------------- */

/* It cannot leave it so for the way back, and undoes it itself. */
struct el3_change {
	u64 scr, mdcr;		/* bits that change */
	int arm, wrong;		/* the buffer becomes enabled, without an ISB */
};

static u64 at_el3(u64 p)
{
	const struct el3_change *c = (void *)p;
	u64 scr = read_scr_el3(), mdcr = read_mdcr_el3();

	if (c->scr)
		write_scr_el3(scr ^ c->scr);
	if (c->mdcr)
		write_mdcr_el3(mdcr ^ c->mdcr);
	if (!(c->arm && c->wrong))
		isb();
	if (c->arm) {
		write_pmblimitr((BUF + 0x10000) | PMBLIMITR_E);
		isb();
		write_pmblimitr(0);
		isb();
	}
	write_scr_el3(scr);
	write_mdcr_el3(mdcr);
	isb();
	return 0;
}

static struct el3_change el3;
static void el3_changes(void) { call_el3(at_el3, (u64)&el3); }

static void change_el3(const struct setup *u, const char *name, const char *arm, u64 scr,
		       u64 mdcr)
{
	el3 = (struct el3_change){ .scr = scr, .mdcr = mdcr };
	change_in(u, name, el3_changes, 0, LOST);
	if (!made(arm) && !made("none"))
		return;
	el3 = (struct el3_change){ .scr = scr, .mdcr = mdcr, .arm = 1, .wrong = made(arm) };
	write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) |
		       MDCR_E2PB(u->owner == 1 ? 3 : 0));
	write_pmbptr(BUF);
	isb();
	el3_changes();
	is(read_pmblimitr() & PMBLIMITR_E, 0, "%s: EL3 has had the buffer enabled", arm);
}

/*
 * The buffer becomes enabled just after a register that it depends on was
 * written: without an ISB between, the SPU may use the old value.
 */
static void arm_in(const struct setup *u, const char *name, void (*write)(void),
		   void (*undo)(void), int s_last)
{
	u64 limit = (u->base + 0x10000) | PMBLIMITR_E;
	int wrong = made(name);

	if (!wrong && !made("none"))
		return;
	setup_on(u);
	write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) |
		       MDCR_E2PB(u->owner == 1 ? 3 : 0));
	write_pmbptr(u->base);
	isb();
	if (s_last) {
		write_pmbsr(PMBSR_S);
		write_pmblimitr(limit);
		isb();
	}
	write();
	if (!wrong)
		isb();
	if (s_last)
		write_pmbsr(0);
	else
		write_pmblimitr(limit);
	isb();
	is(read_pmblimitr() & PMBLIMITR_E, PMBLIMITR_E,
	   "%s: the buffer is enabled after all", name);
	write_pmblimitr(0);
	isb();
	undo();
	setup_off(u);
}

static void arm_buffer(const char *name, void (*write)(void), void (*undo)(void),
		       int s_last)
{
	arm_in(&plain, name, write, undo, s_last);
}

/* Both mistakes with one register */
static void both(const struct setup *u, const char *name, void (*write)(void),
		 void (*undo)(void))
{
	static char arm[40];

	memset(arm, 0, sizeof(arm));
	memcpy(arm, "arm-", 4);
	for (int i = 0; name[i]; i++)
		arm[4 + i] = name[i];
	change_in(u, name, write, undo, LOST);
	arm_in(u, arm, write, undo, 0);
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
	int i;

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

	/* The records are not in memory before DSB, if none was written early. */
	for (i = 0; i < 20; i++) {
		buf_paint(BUF, 0x1000);
		spe_start(&s);
		wl_spin(FEW);
		write_pmscr_el2(0);
		isb();
		if (buf_dirty(BUF, 0x1000) == BUF + 0x1000)
			break;
		spe_stop(&s);
	}
	psb_csync();
	before = buf_dirty(BUF, 0x1000);
	dsb_nsh();
	isb();
	after = buf_dirty(BUF, 0x1000);
	spe_stop(&s);
	is(before, BUF + 0x1000, "before DSB the records are not in memory");
	is(after, BUF, "after DSB they are");
}

/* What the owner does not depend on may change with records in flight. */
static void harmless(const struct setup *u, const char *name, void (*fn)(void),
		     void (*undo)(void))
{
	struct session s;
	int n;

	setup_on(u);
	start_in_flight(u, &s);
	fn();
	isb();
	if (undo)
		undo();
	isb();
	is(read_pmbsr(), 0, "%s, owner %s: no event", name, u->name);
	spe_stop(&s);
	setup_off(u);
	n = records(u, &s);
	ok(n >= 4 && n <= 6, "%s, owner %s: all records are there", name, u->name);

	/* nor is it what the buffer has to wait for */
	setup_on(u);
	write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) |
		       MDCR_E2PB(u->owner == 1 ? 3 : 0));
	write_pmbptr(u->base);
	isb();
	fn();
	write_pmblimitr((u->base + 0x10000) | PMBLIMITR_E);
	write_pmblimitr(0);
	isb();
	if (undo)
		undo();
	setup_off(u);
}

static void all_harmless(void)
{
	harmless(&plain, "the same PMBLIMITR_EL1", same_limit, 0);
	harmless(&plain, "E2PB from 0b11 to 0b10", toggle_e2pb0, toggle_e2pb0);
	harmless(&plain, "VTTBR_EL2 without stage 2", toggle_vmid, toggle_vmid);
	harmless(&plain, "VTCR_EL2 without stage 2", toggle_vtcr, toggle_vtcr);
	harmless(&plain, "TTBR1_EL1", copy_ttbr1_el1, back_ttbr1_el1);
	harmless(&plain, "TTBR1_EL1's half of TCR_EL1", toggle_tcr_el1_upper,
		 toggle_tcr_el1_upper);
	harmless(&plain, "an ASID in TTBR0_EL1", toggle_asid, toggle_asid);
	harmless(&plain, "SCTLR_EL1.A", toggle_sctlr_el1_a, toggle_sctlr_el1_a);
	harmless(&plain, "TTBR0_EL2", copy_ttbr0_el2, back_ttbr0_el2);
	harmless(&plain, "TCR_EL2", toggle_tcr_el2, toggle_tcr_el2);
	harmless(&plain, "SCTLR_EL2.M", toggle_sctlr_el2_m, toggle_sctlr_el2_m);
	harmless(&upper, "TTBR0_EL1", copy_ttbr0_el1, back_ttbr0_el1);
	harmless(&upper, "TTBR0_EL1's half of TCR_EL1", toggle_tcr_el1, toggle_tcr_el1);
	harmless(&el2, "TTBR0_EL1", copy_ttbr0_el1, back_ttbr0_el1);
	harmless(&el2, "TCR_EL1", toggle_tcr_el1, toggle_tcr_el1);
	harmless(&el2, "SCTLR_EL1.M", toggle_sctlr_el1_m, toggle_sctlr_el1_m);
	harmless(&el2, "HCR_EL2.VM", set_vm, undo_set_vm);
	harmless(&el2, "HCR_EL2.DC", toggle_dc, toggle_dc);
	harmless(&el2, "HCR_EL2.TGE", toggle_tge, toggle_tge);
	harmless(&el2, "VTTBR_EL2", toggle_vmid, toggle_vmid);
	harmless(&el2, "VTCR_EL2", toggle_vtcr, toggle_vtcr);
	harmless(&el2, "SCTLR_EL2.I", toggle_sctlr_el2_i, toggle_sctlr_el2_i);
	if (has_el3()) {
		/* EL2 is there in Non-secure state, whatever EEL2 is. */
		el3 = (struct el3_change){ .scr = SCR_EEL2 };
		harmless(&plain, "SCR_EL3.EEL2 in Non-secure state", el3_changes, 0);
	}
	if (!has_vhe())
		return;
	harmless(&plain, "HCR_EL2.E2H", toggle_e2h, 0);
	harmless(&host, "TTBR0_EL2, E2H=1", copy_ttbr0_el1, back_ttbr0_el1);
	harmless(&host, "TCR_EL2, E2H=1", toggle_tcr_el1, toggle_tcr_el1);
	harmless(&el2_vhe, "TTBR0_EL12", copy_ttbr0_el12, back_ttbr0_el12);
	harmless(&el2_vhe, "TTBR1_EL2", copy_ttbr1_el2, back_ttbr1_el2);
	harmless(&el2_vhe, "TTBR1_EL2's half of TCR_EL2", toggle_tcr_el2_upper,
		 toggle_tcr_el2_upper);
	harmless(&el2_upper, "TTBR0_EL2", copy_ttbr0_el2, back_ttbr0_el2);
}

static u64 set_nspb(u64 v)
{
	write_mdcr_el3((read_mdcr_el3() & ~(3UL << 12)) | v << 12);
	isb();
	return 0;
}

/* At Secure EL2, which is there with EEL2 only. Stage 2 has registers of its own. */
static u64 secure_changes(u64 unused)
{
	both(&secure, "VSTTBR_EL2", copy_vsttbr_el2, back_vsttbr_el2);
	both(&secure, "VSTCR_EL2", toggle_vstcr, toggle_vstcr);
	change_el3(&el2, "EEL2", "arm-EEL2", SCR_EEL2, 0);
	return unused;
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
	change_in(&plain, "PMBPTR", same_pmbptr, 0, LOST);
	/* What software writes replaces the event. */
	change_in(&plain, "PMBSR", clear_pmbsr, 0, 0);
	change_in(&plain, "LIMIT", move_limit, 0, LOST);
	both(&plain, "DC", toggle_dc, toggle_dc);
	both(&plain, "TGE", toggle_tge, toggle_tge);
	both(&plain, "TCR_EL1", toggle_tcr_el1, toggle_tcr_el1);
	both(&plain, "SCTLR_EL1.M", toggle_sctlr_el1_m, toggle_sctlr_el1_m);
	both(&plain, "SCTLR_EL1.EE", toggle_sctlr_el1_ee, toggle_sctlr_el1_ee);
	both(&stage2, "VTCR_EL2", toggle_vtcr, toggle_vtcr);
	both(&upper, "TTBR1_EL1", copy_ttbr1_el1, back_ttbr1_el1);
	both(&upper, "TCR_EL1-upper", toggle_tcr_el1_upper, toggle_tcr_el1_upper);
	both(&el2, "TTBR0_EL2", copy_ttbr0_el2, back_ttbr0_el2);
	both(&el2, "TCR_EL2", toggle_tcr_el2, toggle_tcr_el2);
	both(&el2, "SCTLR_EL2", toggle_sctlr_el2_m, toggle_sctlr_el2_m);
	if (has_vhe()) {
		both(&el2_off, "E2H", toggle_e2h_alone, toggle_e2h_alone);
		both(&host, "TTBR0_EL12", copy_ttbr0_el12, back_ttbr0_el12);
		both(&host, "TCR_EL12", toggle_tcr_el12, toggle_tcr_el12);
		both(&el2_vhe, "TTBR0_EL2-VHE", copy_ttbr0_el1, back_ttbr0_el1);
		both(&el2_upper, "TTBR1_EL2", copy_ttbr1_el1, back_ttbr1_el1);
		both(&el2_upper, "TCR_EL2-upper", toggle_tcr_el1_upper,
		     toggle_tcr_el1_upper);
	}
	if (has_el3()) {
		change_el3(&plain, "NSPB", "arm-NSPB", 0, 2UL << 12);
		change_el3(&plain, "NS", "arm-NS", SCR_NS, 0);
		if (FIELD(read_id_aa64pfr0(), 55, 52)) {
			change_el3(&plain, "NSPBE", "arm-NSPBE", 0, BIT(11));
			change_el3(&plain, "NSE", "arm-NSE", SCR_NSE, 0);
		}
		call_el3(set_nspb, 1);
		run_secure(2, secure_changes, 0);
		call_el3(set_nspb, 3);
	}
	drain("complete", 1, 1, 1);
	drain("no-ISB", 0, 1, 1);
	drain("no-PSB", 1, 0, 1);
	drain("no-DSB", 1, 1, 0);
	if (made("none")) {
		stale();
		many();
		all_harmless();
	}
}
