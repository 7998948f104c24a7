// SPDX-License-Identifier: GPL-2.0-only
/*
 * With EL3 (-M secure=on): MDCR_EL3.NSPB, EnPMSN and EnPMS3, SCR_EL3.FGTEn and
 * FGTEn2, PMBIDR.P, profiling in all Security states, and granule protection
 * checks of the buffer's translation (Arm ARM D24.7, D17.4, D17.7.5, D17.8.3).
 *
 * Argument: rme=1 where there is a Realm state, and only then.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "speregs.h"
#include "decode.h"

#define NSPB(x)		((u64)(x) << 12)
#define NSPBE		BIT(11)
#define ENPMSN		BIT(36)
#define ENPMS3		BIT(42)

#define MAX_RECS	1024
static struct record recs[MAX_RECS];
static u64 fn_mdcr;

static u64 set_mdcr_el3(u64 v)
{
	write_mdcr_el3(v);
	isb();
	return 0;
}

static void mdcr_el3(u64 v)
{
	call_el3(set_mdcr_el3, v | (fn_mdcr & ~(NSPB(3) | ENPMSN | ENPMS3)));
}

static u64 get_mdcr_el3(u64 v)
{
	(void)v;
	return read_mdcr_el3();
}

static u64 scr_bits(u64 clear)
{
	write_scr_el3(read_scr_el3() & ~clear);
	isb();
	return 0;
}

static u64 scr_set(u64 set)
{
	write_scr_el3(read_scr_el3() | set);
	isb();
	return 0;
}

/* One access: Non-secure EL1 or EL2, or Secure EL1 (el = -1) */
static int access(int el, const struct spe_reg *r, int read)
{
	expect_exceptions();
	if (el < 0)
		run_secure(1, read ? r->rd : r->wr, 0);
	else
		run_at(el, read ? r->rd : r->wr, 0);
	return stop_expecting();
}

static void check_nspb(void)
{
	/* Which Security state may access: bit 0 of NSPB clear, none */
	static const struct {
		int nspb, ns, s;
	} rows[] = {
		{ 0, 0, 0 }, { 1, 0, 1 }, { 2, 0, 0 }, { 3, 1, 0 },
	};
	static const int els[] = { 2, 1, -1 };
	unsigned int i, e;
	int k, read;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		for (e = 0; e < ARRAY_SIZE(els); e++)
			for (k = 0; k <= R_PMSCR_EL2; k++) {
				const struct spe_reg *r = &spe_regs[k];
				int want = !(els[e] < 0 ? rows[i].s : rows[i].ns);
				int good = 1;

				/* reg_exists() reads PMSIDR_EL1 at EL2 */
				mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
				/* PMSCR_EL2 at EL1 is UNDEFINED anyway. */
				if ((k == R_PMSCR_EL2 && els[e] != 2) ||
				    !reg_exists(r))
					continue;
				if (k == R_PMBIDR)
					want = 0;
				mdcr_el3(NSPB(rows[i].nspb) | ENPMSN | ENPMS3);
				for (read = r->ro; read < 2; read++) {
					int got = access(els[e], r, read);

					good &= got == want &&
						(!want || (exc.el == 3 &&
						 exc.esr == sysreg_esr(r, read)));
				}
				ok(good, "NSPB=0b%d%d: %s at %s %s",
				   rows[i].nspb >> 1, rows[i].nspb & 1, r->name,
				   els[e] == 2 ? "Non-secure EL2" :
				   els[e] == 1 ? "Non-secure EL1" : "Secure EL1",
				   want ? "traps to EL3" : "is accessible");
				if (!good)
					print("# EL%d ESR %#lx\n", exc.el, exc.esr);
			}
	mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
}

/* FEAT_NV traps PMSCR_EL2 at EL1 to EL2, before NSPB can trap it to EL3. */
static void check_nv(void)
{
	int nspb, read;

	if (!feature("nv", FIELD(read_id_aa64mmfr2(), 27, 24), 1))
		return;
	for (nspb = 0; nspb < 4; nspb++) {
		mdcr_el3(NSPB(nspb) | ENPMSN | ENPMS3);
		hcr_set(HCR_NV, 0);
		for (read = 0; read < 2; read++) {
			const struct spe_reg *r = &spe_regs[R_PMSCR_EL2];

			ok(access(1, r, read) && exc.el == 2 &&
			   exc.esr == sysreg_esr(r, read),
			   "NSPB=0b%d%d, HCR_EL2.NV=1: %s of PMSCR_EL2 at EL1 traps to EL2",
			   nspb >> 1, nspb & 1, read ? "a read" : "a write");
		}
		hcr_set(0, HCR_NV);
	}
	mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
}

static u64 rd_pmbidr(u64 x)
{
	(void)x;
	return read_pmbidr();
}

static void check_p(void)
{
	int nspb;

	for (nspb = 0; nspb < 4; nspb++) {
		int owner_ns = nspb >> 1;

		mdcr_el3(NSPB(nspb) | ENPMSN | ENPMS3);
		is(!!(call_el3(rd_pmbidr, 0) & PMBIDR_P), 0,
		   "NSPB=0b%d%d: PMBIDR_EL1.P is 0 at EL3", nspb >> 1, nspb & 1);
		is(!!(read_pmbidr() & PMBIDR_P), !owner_ns,
		   "NSPB=0b%d%d: PMBIDR_EL1.P at Non-secure EL2", nspb >> 1, nspb & 1);
		is(!!(run_at(1, rd_pmbidr, 0) & PMBIDR_P), !owner_ns,
		   "NSPB=0b%d%d: PMBIDR_EL1.P at Non-secure EL1", nspb >> 1, nspb & 1);
		is(!!(run_secure(1, rd_pmbidr, 0) & PMBIDR_P), owner_ns,
		   "NSPB=0b%d%d: PMBIDR_EL1.P at Secure EL1", nspb >> 1, nspb & 1);
	}
	mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
}

/* The access traps to EL with the syndrome of the register. */
static void traps_to(int to, int el, const struct spe_reg *r, int read,
		     const char *when)
{
	int got = access(el, r, read);

	if (!ok(got && exc.el == to && exc.esr == sysreg_esr(r, read),
		"%s: %s of %s at %s traps to EL%d", when, read ? "a read" : "a write",
		r->name, el == 2 ? "EL2" : el == 1 ? "EL1" : "Secure EL1", to))
		print("# %d exceptions, EL%d ESR %#lx\n", got, exc.el, exc.esr);
}

/* A register with an enable of its own at EL3, which is not the other one's */
static void check_enable(int k, u64 own, u64 other, const char *off, const char *on)
{
	const struct spe_reg *r = &spe_regs[k];
	u64 mdcr = read_mdcr_el2();
	int el, read;

	if (!reg_exists(r))
		return;
	for (read = 0; read < 2; read++) {
		const char *what = read ? "a read" : "a write";

		mdcr_el3(NSPB(3) | other);
		for (el = 1; el <= 2; el++)
			traps_to(3, el, r, read, off);
		expect_exceptions();
		call_el3(read ? r->rd : r->wr, 0);
		is(stop_expecting(), 0, "%s: %s of %s at EL3 is not trapped", off,
		   what, r->name);
		/* EL2's traps of EL1 come first. */
		write_mdcr_el2(mdcr | MDCR_TPMS);
		isb();
		ok(access(1, r, read) && exc.el == 2,
		   "%s, TPMS=1: %s of %s at EL1 traps to EL2", off, what, r->name);
		write_mdcr_el2(mdcr);
		isb();
		mdcr_el3(NSPB(1) | other);
		traps_to(3, -1, r, read, off);

		mdcr_el3(NSPB(1) | own);
		is(access(-1, r, read), 0, "%s: %s of %s at Secure EL1 is not trapped",
		   on, what, r->name);
		mdcr_el3(NSPB(3) | own);
		for (el = 1; el <= 2; el++)
			is(access(el, r, read), 0, "%s: %s of %s at EL%d is not trapped",
			   on, what, r->name, el);
	}
	mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
}

static void check_fgten(void)
{
	const struct spe_reg *r = &spe_regs[R_PMBIDR];

	if (!feature("fgt", FIELD(read_id_aa64mmfr0(), 59, 56), 1))
		return;
	write_hdfgrtr_el2(read_hdfgrtr_el2() | BIT(63));
	isb();
	ok(access(1, r, 1) && exc.el == 2, "FGTEn=1: HDFGRTR_EL2.PMBIDR_EL1 traps");
	call_el3(scr_bits, SCR_FGTEN);
	is(access(1, r, 1), 0, "FGTEn=0: HDFGRTR_EL2 does not trap");
	call_el3(scr_set, SCR_FGTEN);
	write_hdfgrtr_el2(read_hdfgrtr_el2() & ~BIT(63));
	isb();
}

static void fgt2_open(int open)
{
	write_hdfgrtr2_el2(open ? HDFG2_NPMSDSFR : 0);
	write_hdfgwtr2_el2(open ? HDFG2_NPMSDSFR : 0);
	isb();
}

/*
 * SCR_EL3.FGTEn2: unlike FGTEn it opens nothing when it is 0, as what it
 * covers traps when a bit is 0 (access pseudocode of D24.7.10).
 */
static void check_fgten2(void)
{
	const struct spe_reg *r = &spe_regs[R_PMSDSFR];
	u64 *page = alloc_page();
	int i, read;

	if (!reg_exists(r) || FIELD(read_id_aa64mmfr0(), 59, 56) < 2)
		return;
	for (read = 0; read < 2; read++) {
		call_el3(scr_bits, SCR_FGTEN2);
		for (i = 0; i < 5; i++) {
			const struct spe_reg *f = &fgt2_regs[i];

			traps_to(3, 2, f, read, "FGTEn2=0");
			/* HDFG*TR2_EL2 are open, and stay it. */
			expect_exceptions();
			call_el3(read ? f->rd : f->wr, i < 2 ? HDFG2_NPMSDSFR : 0);
			is(stop_expecting(), 0, "FGTEn2=0: %s of %s at EL3 is not trapped",
			   read ? "a read" : "a write", f->name);
			ok(access(1, f, read) && exc.el == 1 &&
			   ESR_EC(exc.esr) == ESR_UNDEF,
			   "FGTEn2=0: %s of %s at EL1 is UNDEFINED",
			   read ? "a read" : "a write", f->name);
			if (FIELD(read_id_aa64mmfr2(), 27, 24)) {
				hcr_set(HCR_NV, 0);
				traps_to(2, 1, f, read, "FGTEn2=0, HCR_EL2.NV=1");
				hcr_set(0, HCR_NV);
			}
		}
		traps_to(2, 1, r, read, "FGTEn2=0, nPMSDSFR_EL1=1");
		mdcr_el3(NSPB(3) | ENPMSN);
		traps_to(2, 1, r, read, "FGTEn2=0, nPMSDSFR_EL1=1, EnPMS3=0");
		mdcr_el3(NSPB(0) | ENPMSN | ENPMS3);
		traps_to(2, 1, r, read, "FGTEn2=0, nPMSDSFR_EL1=1, NSPB=0b00");
		mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
		is(access(2, r, read), 0, "FGTEn2=0: PMSDSFR_EL1 is accessible at EL2");
		/* EL2 is disabled there, and its fine-grained traps with it. */
		mdcr_el3(NSPB(1) | ENPMSN | ENPMS3);
		is(access(-1, r, read), 0,
		   "FGTEn2=0: PMSDSFR_EL1 is accessible at Secure EL1");

		mdcr_el3(NSPB(3) | ENPMSN);
		call_el3(scr_set, SCR_FGTEN2);
		for (i = 0; i < 5; i++) {
			const struct spe_reg *f = &fgt2_regs[i];

			expect_exceptions();
			(read ? f->rd : f->wr)(i < 2 ? HDFG2_NPMSDSFR : 0);
			is(stop_expecting(), 0, "FGTEn2=1: %s of %s at EL2 is not trapped",
			   read ? "a read" : "a write", f->name);
		}
		fgt2_open(0);
		traps_to(2, 1, r, read, "FGTEn2=1, nPMSDSFR_EL1=0, EnPMS3=0");
		fgt2_open(1);
		traps_to(3, 1, r, read, "FGTEn2=1, nPMSDSFR_EL1=1, EnPMS3=0");
		if (FIELD(read_id_aa64mmfr2(), 27, 24) >= 2) {
			write_vncr_el2((u64)page);
			hcr_set(HCR_NV | HCR_NV2, 0);
			page[0x858 / 8] = 1;
			traps_to(3, 1, r, read, "NV2, EnPMS3=0");
			is(page[0x858 / 8], 1, "NV2, EnPMS3=0: no memory is written");
			hcr_set(0, HCR_NV | HCR_NV2);
		}
		mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
		is(access(1, r, read), 0,
		   "FGTEn2=1, nPMSDSFR_EL1=1, EnPMS3=1: PMSDSFR_EL1 is accessible at EL1");
	}
}

/* Sampling in each Security state, for each owner */
static void check_sampling(void)
{
	int nspb, secure, k;

	for (nspb = 0; nspb < 4; nspb++)
		for (secure = 0; secure < 2; secure++) {
			int want = (nspb >> 1) == !secure, n, in = 0, bad = 0;
			struct session s = {
				.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
				.pmbptr = BUF, .limit = BUF + 0x10000,
				.pmsicr = 100,
			};

			mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
			spe_start(&s);
			mdcr_el3(NSPB(nspb) | ENPMSN | ENPMS3);
			if (secure)
				run_secure(1, wl_spin, 2000);
			else
				run_at(1, wl_spin, 2000);
			/* drain in the owning state: EL3 does it for both */
			psb_csync();
			dsb_nsh();
			isb();
			mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
			spe_stop(&s);
			n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
			for (k = 0; k < n; k++)
				if (ADDR(recs[k].addr[A_PC]) == (u64)wl_spin_loop ||
				    ADDR(recs[k].addr[A_PC]) == (u64)wl_spin_loop + 4) {
					in++;
					bad += ADDR_NS(recs[k].addr[A_PC]) != !secure ||
					       ADDR_EL(recs[k].addr[A_PC]) != 1;
				}
			ok(want ? in > 10 && !bad : !n && s.end_pmsicr == 100,
			   "NSPB=0b%d%d: %s EL1 is sampled: %s", nspb >> 1, nspb & 1,
			   secure ? "Secure" : "Non-secure",
			   want ? secure ? "yes, with NS=0" : "yes, with NS=1" : "no");
			if (want ? !in || bad : n)
				print("# %d records, %d in the loop, %d wrong, PMBSR %#lx PMSICR %#lx\n",
				      n, in, bad, s.end_pmbsr, s.end_pmsicr);
		}
}

/* EL2 is disabled in Secure state: PMSCR_EL1.PA and CX decide alone (D17.6.9). */
static void check_el2_disabled(void)
{
	int bits;

	for (bits = 0; bits < 4; bits++) {
		int pa = bits & 1, el2 = bits >> 1, n, k, in = 0, bad = 0;
		struct session s = {
			.owner = 1, .pmscr_el1 = PMSCR_E1SPE | (pa ? PMSCR_PA : 0),
			.pmscr_el2 = el2 ? PMSCR_PA | PMSCR_CX : 0,
			.pmbptr = BUF, .limit = BUF + 0x10000, .pmsicr = 100,
		};

		mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
		spe_start(&s);
		mdcr_el3(NSPB(1) | ENPMSN | ENPMS3);
		run_secure(1, wl_access, BUF2);
		psb_csync();
		dsb_nsh();
		isb();
		mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
		spe_stop(&s);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		for (k = 0; k < n; k++) {
			const struct record *r = &recs[k];

			if (ADDR(r->addr[A_PC]) != (u64)wl_access_ldr)
				continue;
			in++;
			bad += !!(r->addrs & BIT(A_PA)) != pa ||
			       (pa && r->addr[A_PA] != BUF2) || r->ctxs;
		}
		ok(in > 10 && !bad,
		   "Secure EL1, EL2 disabled, PA of EL1 %d, PA and CX of EL2 %d: %s physical address, no CONTEXTIDR_EL2",
		   pa, el2, pa ? "a Secure" : "no");
		if (in <= 10 || bad)
			print("# %d records, %d loads, %d wrong\n", n, in, bad);
	}
}

/* Realm state owns the buffer: NS and NSE in the packets (D18.2.1). */
static void check_realm(void)
{
	int nspbe, realm, k;

	if (!feature("rme", FIELD(read_id_aa64pfr0(), 55, 52), 0))
		return;
	for (nspbe = 0; nspbe < 2; nspbe++)
		for (realm = 0; realm < 2; realm++) {
			int want = nspbe == realm, n, in = 0, bad = 0;
			u64 ns = BIT(63) | (realm ? BIT(60) : 0);
			struct session s = {
				.owner = 1, .pmscr_el1 = PMSCR_E1SPE | PMSCR_PA,
				.pmscr_el2 = PMSCR_PA,
				.pmbptr = BUF, .limit = BUF + 0x10000,
				.pmsicr = 100,
			};

			mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
			spe_start(&s);
			mdcr_el3(NSPB(3) | (nspbe ? NSPBE : 0) | ENPMSN | ENPMS3);
			if (realm)
				run_realm(1, wl_access, BUF2);
			else
				run_at(1, wl_access, BUF2);
			psb_csync();
			dsb_nsh();
			isb();
			mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
			spe_stop(&s);
			n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
			for (k = 0; k < n; k++) {
				const struct record *r = &recs[k];

				if (ADDR(r->addr[A_PC]) != (u64)wl_access_ldr)
					continue;
				in++;
				bad += r->addr[A_PC] != (ns | BIT(61) | (u64)wl_access_ldr) ||
				       r->addr[A_PA] != (ns | BUF2);
			}
			ok(want ? in > 10 && !bad : !n && s.end_pmsicr == 100,
			   "NSPBE=%d: %s EL1 is sampled: %s", nspbe,
			   realm ? "Realm" : "Non-secure",
			   want ? realm ? "yes, with NSE=1" : "yes, with NSE=0" : "no");
			if (want ? in <= 10 || bad : n)
				print("# %d records, %d loads, %d wrong, PC %#lx PA %#lx, PMBSR %#lx\n",
				      n, in, bad, recs[0].addr[A_PC], recs[0].addr[A_PA],
				      s.end_pmbsr);
		}
}

/* --- granule protection ------------------------------------------------- */

/* What a nibble of the table says of a granule */
enum gpi { GPI_NONE = 0, GPI_RESERVED = 1, GPI_SECURE = 8, GPI_ANY = 15 };

/* The table of RAM, one nibble for each 4K: 1GB needs 128K, aligned to that */
#define GPT_L1		(BUF2 + 0x100000)

static u64 gpc(u64 l0)
{
	/* 4GB, write-back, Inner Shareable, granules of 4K */
	write_gptbr_el3(l0 >> 12);
	write_gpccr_el3(l0 ? BIT(16) | 3 << 12 | 1 << 10 | 1 << 8 : 0);
	dsb();
	asm volatile("sys #6, c8, c7, #4" : : : "memory");	/* TLBI PAALL */
	dsb();
	isb();
	return 0;
}

static u64 gpt_flush(u64 unused)
{
	dsb();
	asm volatile("sys #6, c8, c7, #4" : : : "memory");
	dsb();
	isb();
	return unused;
}

static void gpi(u64 pa, enum gpi v)
{
	u64 *e = (u64 *)GPT_L1 + ((pa - RAM) >> 16);
	int shift = (pa >> 12 & 15) * 4;

	*e = (*e & ~(0xfUL << shift)) | (u64)v << shift;
	call_el3(gpt_flush, 0);
	tlbi_all();
}

/* One granule of which the SPU needs a byte is not to be had. */
static void gpc_case(const char *name, u64 pa, enum gpi v, u64 ec, u64 fsc)
{
	/* two records before the page, so that the fault is between two pages */
	u64 skip = PAGE_SIZE - 2 * id.max;
	int whole = pa == BUF + PAGE_SIZE;
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = WINDOW + (whole ? skip : 0), .limit = WINDOW + 0x4000,
		.pmbsr = PMBSR_COLL,
	};
	u64 at = whole ? WINDOW + PAGE_SIZE : WINDOW;

	buf_paint(BUF, 0x4000);
	gpi(pa, v);
	spe_run(&s, 1, wl_spin, 257 * 40);
	gpi(pa, GPI_ANY);
	is(s.end_pmbsr, PMBSR_ABORT(ec, fsc) | PMBSR_COLL,
	   "GPC, %s: PMBSR_EL1, COLL kept, no record was cut", name);
	is(s.end_pmbptr, at, "GPC, %s: PMBPTR_EL1 is the faulting VA", name);
	is(buf_dirty(BUF + (at - WINDOW), 0x4000 - (at - WINDOW)), BUF + 0x4000,
	   "GPC, %s: nothing is written behind it", name);

	s.pmbptr = s.end_pmbptr;
	s.pmbsr = 0;
	spe_run(&s, 1, wl_spin, 257 * 4);
	ok(!s.end_pmbsr && s.end_pmbptr > at, "GPC, %s: mended, profiling goes on",
	   name);
}

/* The page of the table that WINDOW uses at a level */
static u64 gpc_table(u64 *root, int start, u64 va, int level)
{
	return *pte(root, start, va, level - 1) & PTE_ADDR;
}

static void check_gpc(void)
{
	u64 *l0 = alloc_page();
	u64 ipa = s2_start_level ? 0x4000000000UL : 0x8000000000UL;
	int level;

	if (!FIELD(read_id_aa64pfr0(), 55, 52))
		return;
	mdcr_el3(NSPB(3) | ENPMSN | ENPMS3);
	memset((void *)GPT_L1, 0xff, 0x20000);
	/* devices, RAM by granules, nothing else */
	l0[0] = 0xf1;
	l0[1] = GPT_L1 | 3;
	l0[2] = 0xf1;
	l0[3] = 0xf1;
	map(el1_root, 0, WINDOW, BUF, 0x4000, 3, PTE_RW);
	tlbi_all();
	call_el3(gpc, (u64)l0);

	gpc_case("no access", BUF, GPI_NONE, EC_STAGE1, 0x28);
	gpc_case("another Security state's", BUF, GPI_SECURE, EC_STAGE1, 0x28);
	gpc_case("no access to the second page", BUF + PAGE_SIZE, GPI_NONE,
		 EC_STAGE1, 0x28);
	gpc_case("the entry is reserved", BUF, GPI_RESERVED, EC_GPC, 0);
	for (level = 1; level <= 3; level++) {
		static char name[] = "no access to the stage 1 table, level 0";

		name[sizeof(name) - 2] = '0' + level;
		gpc_case(name, gpc_table(el1_root, 0, WINDOW, level), GPI_NONE,
			 EC_STAGE1, 0x24 | level);
	}

	map(el1_root, 0, WINDOW, ipa, 0x4000, 3, PTE_RW);
	map(s2_root, s2_start_level, ipa, BUF, 0x4000, 3, S2_RW);
	set_stage2(1);
	tlbi_all();
	gpc_case("stage 2: no access", BUF, GPI_NONE, EC_STAGE1, 0x28);
	gpc_case("stage 2: the entry is reserved", BUF, GPI_RESERVED, EC_GPC, 0);
	for (level = s2_start_level + 1; level <= 3; level++) {
		static char name[] = "no access to the stage 2 table, level 0";

		name[sizeof(name) - 2] = '0' + level;
		gpc_case(name, gpc_table(s2_root, s2_start_level, ipa, level),
			 GPI_NONE, EC_STAGE2, 0x24 | level);
	}
	set_stage2(0);
	call_el3(gpc, 0);
}

/* EL3 is never sampled. */
static void check_el3_off(void)
{
	struct session s = {
		.owner = 2, .pmscr_el1 = 3, .pmscr_el2 = 3,
		.pmbptr = BUF, .limit = BUF + 0x10000,
	};
	int n, i, in = 0;

	spe_start(&s);
	call_el3(wl_mix, 2000);
	spe_stop(&s);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (i = 0; i < n; i++)
		in += (ADDR(recs[i].addr[A_PC]) >= (u64)wl_mix_start &&
		       ADDR(recs[i].addr[A_PC]) < (u64)wl_mix_end) ||
		      ADDR_EL(recs[i].addr[A_PC]) == 3;
	ok(n >= 0 && !in, "EL3 is never sampled");
}

void test_main(void)
{
	if (!ok(has_el3(), "EL3 is implemented"))
		return;
	fn_mdcr = call_el3(get_mdcr_el3, 0);
	reg_exists(&spe_regs[R_PMSNEVFR]);
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	write_mdcr_el2(read_mdcr_el2() | MDCR_E2PB(3));
	if (FIELD(read_id_aa64mmfr0(), 59, 56)) {
		write_hdfgrtr_el2(BIT(62));
		write_hdfgwtr_el2(BIT(62));
	}
	if (FIELD(read_id_aa64mmfr0(), 59, 56) >= 2)
		fgt2_open(1);
	isb();
	check_nspb();
	check_nv();
	check_p();
	check_enable(R_PMSNEVFR, ENPMSN, ENPMS3, "EnPMSN=0", "EnPMSN=1, EnPMS3=0");
	check_enable(R_PMSDSFR, ENPMS3, ENPMSN, "EnPMS3=0", "EnPMS3=1, EnPMSN=0");
	check_fgten();
	check_fgten2();
	check_sampling();
	check_el2_disabled();
	check_realm();
	check_gpc();
	check_el3_off();
}
