// SPDX-License-Identifier: GPL-2.0-only
/*
 * EL2 of Secure state (SCR_EL3.EEL2) and of Realm state: what MDCR_EL2,
 * HDFG*TR_EL2 and MDCR_EL3 trap there, who owns the buffer, PMBIDR_EL1.P,
 * where profiling is enabled, and in which physical address space the SPU
 * writes (Arm ARM D24.7, Table D17-1, D17.7.5, D18.2.1). Also PMSCR_EL12 under
 * MDCR_EL3.NSPB, in every Security state, and Secure EL1 without an EL2.
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

/* RAM that only Secure state has, in -M virt,secure=on */
#define SECURE_RAM	0x0e000000UL
#define PTE_NS		BIT(5)

SYSREG(vsttbr_el2, "S3_4_C2_C6_0")
SYSREG(vstcr_el2, "S3_4_C2_C6_2")

#define MAX_RECS	2048
static struct record recs[MAX_RECS];

/* A Security state, and the values of MDCR_EL3.{NSPB,NSPBE} */
static const struct world {
	const char *name;
	u64 (*run)(int el, fn_t fn, u64 arg);
	u64 own;		/* owns the buffer, nothing traps to EL3 */
	u64 bits;		/* NS and NSE of its addresses in records */
	u64 others[3];		/* traps to EL3 */
	u64 mine;		/* the one of them with which it still is the owner */
} worlds[] = {
	{ "Non-secure", run_at, NSPB(3), BIT(63),
	  { NSPB(2), NSPB(0), NSPB(1) }, NSPB(2) },
	{ "Secure", run_secure, NSPB(1), 0,
	  { NSPB(0), NSPB(2), NSPB(3) }, NSPB(0) },
	{ "Realm", run_realm, NSPBE | NSPB(3), BIT(63) | BIT(60),
	  { NSPBE | NSPB(2), NSPB(1), NSPB(3) }, NSPBE | NSPB(2) },
}, *w;

static u64 mdcr;		/* MDCR_EL2 but E2PB and TPMS */
static int fgt;

static u64 set_mdcr_el3(u64 v)
{
	write_mdcr_el3((read_mdcr_el3() & ~(NSPB(3) | NSPBE)) | v | ENPMSN | ENPMS3);
	isb();
	return 0;
}

static void nspb(u64 v)
{
	call_el3(set_mdcr_el3, v);
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

static void set_mdcr(u64 v)
{
	write_mdcr_el2(mdcr | v);
	isb();
}

/* The access at EL1 or EL2 of the current Security state traps to EL to, or is fine. */
static int takes(int el, const struct spe_reg *r, int read, int to)
{
	int got = probe(el, r, read);

	if (to ? got == 1 && exc.el == to && exc.esr == sysreg_esr(r, read) : !got)
		return 1;
	print("# %s: %s at EL%d: %d exceptions, EL%d ESR %#lx\n", r->name,
	      read ? "read" : "write", el, got, exc.el, exc.esr);
	return 0;
}

/* All registers, read and written */
static int all_take(int el, int to_tpms, int to_e2pb)
{
	int k, read, good = 1;

	for (k = 0; k < R_PMSCR_EL2; k++) {
		const struct spe_reg *r = &spe_regs[k];
		int to = k == R_PMBIDR ? 0 : r->group == TRAP_E2PB ? to_e2pb : to_tpms;

		if (reg_exists(r))
			for (read = r->ro; read < 2; read++)
				good &= takes(el, r, read, to);
	}
	return good;
}

/* --- at EL2 of the Security state ------------------------------------------ */

static u64 check_traps(u64 unused)
{
	static const struct {
		const char *name;
		u64 mdcr;
		int e2pb, tpms;		/* what traps */
	} rows[] = {
		{ "E2PB=0b11", MDCR_E2PB(3), 0, 0 },
		{ "E2PB=0b10", MDCR_E2PB(2), 1, 0 },
		{ "E2PB=0b00", MDCR_E2PB(0), 1, 0 },
		{ "E2PB=0b11, TPMS", MDCR_E2PB(3) | MDCR_TPMS, 0, 1 },
		{ "E2PB=0b00, TPMS", MDCR_TPMS, 1, 1 },
	};
	unsigned int i, j;
	int read;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		set_mdcr(rows[i].mdcr);
		nspb(w->own);
		ok(all_take(1, rows[i].tpms * 2, rows[i].e2pb * 2),
		   "%s EL1, %s: what it names traps to EL2, nothing else",
		   w->name, rows[i].name);
		ok(all_take(2, 0, 0), "%s EL2, %s: nothing traps", w->name, rows[i].name);
		for (j = 0; j < ARRAY_SIZE(w->others); j++) {
			nspb(w->others[j]);
			ok(all_take(1, rows[i].tpms ? 2 : 3, rows[i].e2pb ? 2 : 3),
			   "%s EL1, %s, MDCR_EL3 %#lx: first to EL2, else to EL3",
			   w->name, rows[i].name, w->others[j]);
			ok(all_take(2, 3, 3), "%s EL2, %s, MDCR_EL3 %#lx: traps to EL3",
			   w->name, rows[i].name, w->others[j]);
		}
	}
	set_mdcr(MDCR_E2PB(3));
	nspb(w->own);
	if (!fgt)
		return unused;

	write_hdfgrtr_el2(BIT(62) | BIT(63));
	write_hdfgwtr_el2(BIT(62) | BIT(25));
	isb();
	ok(takes(1, &spe_regs[R_PMBIDR], 1, 2) && takes(1, &spe_regs[R_PMBSR], 0, 2) &&
	   takes(1, &spe_regs[R_PMBSR], 1, 0),
	   "%s EL1: HDFGRTR_EL2 and HDFGWTR_EL2 trap to EL2", w->name);
	call_el3(scr_bits, SCR_FGTEN);
	ok(takes(1, &spe_regs[R_PMBIDR], 1, 0) && takes(1, &spe_regs[R_PMBSR], 0, 0),
	   "%s EL1: but not with SCR_EL3.FGTEn=0", w->name);
	call_el3(scr_set, SCR_FGTEN);
	write_hdfgrtr_el2(BIT(62));
	write_hdfgwtr_el2(BIT(62));
	isb();
	if (!reg_exists(&spe_regs[R_PMSDSFR]))
		return unused;
	for (read = 0; read < 2; read++) {
		const struct spe_reg *r = &spe_regs[R_PMSDSFR];

		call_el3(scr_bits, SCR_FGTEN2);
		ok(takes(1, r, read, 2), "%s EL1, FGTEn2=0: PMSDSFR_EL1 traps to EL2",
		   w->name);
		ok(takes(2, &fgt2_regs[0], 1, 3), "%s EL2, FGTEn2=0: HDFGRTR2_EL2 traps to EL3",
		   w->name);
		call_el3(scr_set, SCR_FGTEN2);
		ok(takes(1, r, read, 0), "%s EL1, FGTEn2=1: PMSDSFR_EL1 is accessible",
		   w->name);
	}
	return unused;
}

static u64 rd_pmbidr(u64 unused)
{
	return read_pmbidr() | unused;
}

static u64 check_p(u64 unused)
{
	static const int e2pb[] = { 0, 2, 3 };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(e2pb); i++)
		for (j = 0; j < 4; j++) {
			u64 v = j < 3 ? w->others[j] : w->own;
			int other = v != w->own && v != w->mine;

			set_mdcr(MDCR_E2PB(e2pb[i]));
			nspb(v);
			is(!!(read_pmbidr() & PMBIDR_P), other,
			   "%s EL2, MDCR_EL3 %#lx, E2PB=0b%d%d: PMBIDR_EL1.P",
			   w->name, v, e2pb[i] >> 1, e2pb[i] & 1);
			is(!!(run_at(1, rd_pmbidr, 0) & PMBIDR_P), other || !e2pb[i],
			   "%s EL1, MDCR_EL3 %#lx, E2PB=0b%d%d: PMBIDR_EL1.P",
			   w->name, v, e2pb[i] >> 1, e2pb[i] & 1);
		}
	set_mdcr(MDCR_E2PB(3));
	return unused;
}

/* PMSCR_EL12, and the other names, with HCR_EL2.E2H */
static u64 check_e2h(u64 unused)
{
	const struct spe_reg *e12 = &spe_regs[R_PMSCR_EL12];
	unsigned int j;
	int read;

	for (j = 0; j < 4; j++) {
		u64 v = j < 3 ? w->others[j] : w->own;
		int to = v == w->own ? 0 : 3;

		nspb(v);
		for (read = 0; read < 2; read++) {
			ok(probe(2, e12, read) && exc.el == 2 && ESR_EC(exc.esr) == ESR_UNDEF,
			   "%s EL2, E2H=0, MDCR_EL3 %#lx: %s of PMSCR_EL12 is UNDEFINED",
			   w->name, v, read ? "a read" : "a write");
			expect_exceptions();
			call_el3(read ? e12->rd : e12->wr, 0);
			ok(stop_expecting() && exc.el == 3 && ESR_EC(exc.esr) == ESR_UNDEF,
			   "EL3, %s, E2H=0, MDCR_EL3 %#lx: %s of PMSCR_EL12 is UNDEFINED",
			   w->name, v, read ? "a read" : "a write");
		}
		set_vhe(1, 0);
		for (read = 0; read < 2; read++) {
			ok(takes(2, e12, read, to),
			   "%s EL2, E2H=1, MDCR_EL3 %#lx: %s of PMSCR_EL12 %s",
			   w->name, v, read ? "a read" : "a write",
			   to ? "traps to EL3" : "is fine");
			ok(takes(2, &spe_regs[R_PMSCR], read, to) &&
			   takes(2, &spe_regs[R_PMSCR_EL2], read, to) &&
			   takes(2, &spe_regs[R_PMBPTR], read, to),
			   "%s EL2, E2H=1, MDCR_EL3 %#lx: %s of other names %s",
			   w->name, v, read ? "a read" : "a write",
			   to ? "traps to EL3" : "is fine");
			expect_exceptions();
			call_el3(read ? e12->rd : e12->wr, 0);
			is(stop_expecting(), 0,
			   "EL3, %s, E2H=1, MDCR_EL3 %#lx: %s of PMSCR_EL12 is fine",
			   w->name, v, read ? "a read" : "a write");
		}
		set_vhe(0, 0);
	}
	return unused;
}

/* Which of the loop's records are there, all with the bits of EL and state */
static void in_loop(const struct session *s, int el, int *n, int *bad)
{
	u64 bits = w->bits | (u64)el << 61;
	int i, all = decode_all(s->pmbptr, s->end_pmbptr, recs, MAX_RECS);

	*n = *bad = 0;
	for (i = 0; i < all && i < MAX_RECS; i++) {
		const struct record *r = &recs[i];

		if (ADDR(r->addr[A_PC]) != (u64)wl_access_ldr)
			continue;
		++*n;
		*bad += r->addr[A_PC] != (bits | (u64)wl_access_ldr) ||
			(r->addrs & BIT(A_PA) && r->addr[A_PA] != (w->bits | BUF2));
	}
	*bad += all < 0 || s->end_pmbsr;
}

/* Table D17-1: the owner, TGE, and one enable bit at a time */
static u64 check_enabled(u64 unused)
{
	static const struct {
		const char *name;
		u64 el1, el2;
	} bits[] = {
		{ "E0SPE", PMSCR_E0SPE, 0 },
		{ "E1SPE", PMSCR_E1SPE, 0 },
		{ "E0HSPE", 0, PMSCR_E0SPE },
		{ "E2SPE", 0, PMSCR_E1SPE },
	};
	int owner, tge, el, n, bad;
	unsigned int b;

	for (owner = 1; owner <= 2; owner++)
		for (tge = 0; tge < 2; tge++)
			for (el = 0; el <= 2; el++)
				for (b = 0; b < ARRAY_SIZE(bits); b++) {
					struct session s = {
						.owner = owner,
						.pmscr_el1 = bits[b].el1 | PMSCR_PA,
						.pmscr_el2 = bits[b].el2 | PMSCR_PA,
						.pmbptr = BUF, .limit = BUF + 0x100000,
					};
					int want = (owner == 2 || (!tge && el < 2)) &&
						b == (el == 2 ? 3U : el == 1 ? 1U :
						      tge ? 2U : 0U);

					if (el == 1 && tge)
						continue;	/* no EL1 */
					set_vhe(tge, tge);
					spe_run(&s, el, wl_access, BUF2);
					set_vhe(0, 0);
					in_loop(&s, el, &n, &bad);
					ok(!bad && (want ? n > 10 : !n),
					   "%s, owner EL%d, TGE=%d, %s: EL%d is sampled: %s",
					   w->name, owner, tge, bits[b].name, el,
					   want ? "yes" : "no");
					if (bad || (want ? n <= 10 : n))
						print("# %d loads, %d wrong, PC %#lx PA %#lx PMBSR %#lx\n",
						      n, bad, recs[0].addr[A_PC],
						      recs[0].addr[A_PA], s.end_pmbsr);
				}
	return unused;
}

/* The owner's regime, in RAM that only one of the physical address spaces has */
static u64 check_space(u64 unused)
{
	int owner, ns, secure = !w->bits;

	for (owner = 1; owner <= 2; owner++)
		for (ns = 0; ns <= secure; ns++) {
			u32 mark = pool_mark();
			u64 *root = owner == 1 ? el1_root : el2_root, keep, wrote;
			struct session s = {
				.owner = owner, .pmscr_el1 = PMSCR_E1SPE,
				.pmscr_el2 = owner == 2 ? PMSCR_E1SPE : 0,
				.pmbptr = WINDOW, .limit = WINDOW + 0x10000,
			};

			keep = *pte(root, 0, WINDOW, 0);
			map(root, 0, WINDOW, SECURE_RAM, 0x10000, 3,
			    PTE_RW | (ns ? PTE_NS : 0));
			tlbi_all();
			if (secure)
				buf_paint(SECURE_RAM, 0x10000);
			spe_run(&s, owner, wl_spin, 257 * 20);
			wrote = secure ? buf_dirty(SECURE_RAM, 0x10000) - SECURE_RAM : 0x10000;
			/* a write that memory refuses is ignored: PMBIDR_EL1.EA is 1 */
			ok(s.end_pmbptr > WINDOW + 30 * id.max && !s.end_pmbsr &&
			   wrote == (secure && !ns ? 0 : 0x10000),
			   "%s EL%d owns a buffer in Secure RAM%s: %s", w->name, owner,
			   ns ? ", NS=1 in the descriptor" : "",
			   secure && !ns ? "written" : "not written");
			if (secure && !ns)
				is(decode_all(SECURE_RAM, SECURE_RAM + (s.end_pmbptr - WINDOW),
					      recs, MAX_RECS),
				   (s.end_pmbptr - WINDOW) / id.max,
				   "Secure EL%d: the records are in Secure RAM", owner);
			*pte(root, 0, WINDOW, 0) = keep;
			pool_release(mark);
			tlbi_all();
		}
	return unused;
}

/* Stage 2 of Secure state has a table of its own, VSTTBR_EL2. */
static u64 check_stage2(u64 unused)
{
	u64 *e = pte(s2_root, s2_start_level, BUF, 2), vttbr = read_vttbr_el2();
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x10000,
	};

	if (!w->bits) {
		/* as VTCR_EL2 but for what is only there; NSA, SW and SA are 0 */
		write_vstcr_el2((read_vtcr_el2() & 0xc0ff) | BIT(31));
		write_vsttbr_el2(vttbr);
		/* what Non-secure IPAs use must not matter */
		write_vttbr_el2((u64)alloc_page());
	}
	set_stage2(1);
	spe_run(&s, 1, wl_spin, 257 * 20);
	ok(!s.end_pmbsr && s.end_pmbptr > BUF + 30 * id.max,
	   "%s EL1 owns a buffer under stage 2: written", w->name);
	*e &= ~PTE_VALID;
	tlbi_all();
	spe_run(&s, 1, wl_spin, 257 * 20);
	is(s.end_pmbsr, PMBSR_ABORT(EC_STAGE2, 0x06),
	   "%s EL1 owns a buffer under stage 2: its fault", w->name);
	is(s.end_pmbptr, BUF, "%s EL1: PMBPTR_EL1 is the faulting VA", w->name);
	/* EL2's own regime has no stage 2. */
	s.owner = 2;
	spe_run(&s, 1, wl_spin, 257 * 20);
	ok(!s.end_pmbsr && s.end_pmbptr > BUF + 30 * id.max,
	   "%s EL2 owns a buffer: stage 2 is not for it", w->name);
	*e |= PTE_VALID;
	set_stage2(0);
	write_vttbr_el2(vttbr);
	tlbi_all();
	return unused;
}

/* --- at Non-secure EL2 ------------------------------------------------------ */

/* SCR_EL3.EEL2=0: MDCR_EL2 and HDFG*TR_EL2 mean nothing at Secure EL1. */
static u64 access_all(u64 unused)
{
	int k, read;

	for (k = 0; k < R_PMSCR_EL2; k++)
		if (reg_exists(&spe_regs[k]))
			for (read = spe_regs[k].ro; read < 2; read++)
				(read ? spe_regs[k].rd : spe_regs[k].wr)(0);
	return unused;
}

/* The owner leaves nothing in flight for another Security state. */
static u64 access_and_drain(u64 va)
{
	wl_access(va);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	return 0;
}

static void check_no_el2(void)
{
	static const u64 bits[] = { MDCR_E2PB(0), MDCR_E2PB(2), MDCR_E2PB(3),
				    MDCR_TPMS };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		int n, bad;
		struct session s = {
			.owner = 1, .pmscr_el1 = PMSCR_E1SPE | PMSCR_PA,
			.pmbptr = BUF, .limit = BUF + 0x100000,
		};

		set_mdcr(bits[i]);
		if (fgt) {
			write_hdfgrtr_el2(~0UL & ~BIT(62));
			write_hdfgwtr_el2(~0UL & ~BIT(62));
		}
		nspb(NSPB(1));
		expect_exceptions();
		run_secure(1, access_all, 0);
		is(stop_expecting(), 0, "Secure EL1, EEL2=0, MDCR_EL2 %#lx: nothing traps",
		   bits[i]);
		is(!!(run_secure(1, rd_pmbidr, 0) & PMBIDR_P), 0,
		   "Secure EL1, EEL2=0, MDCR_EL2 %#lx: PMBIDR_EL1.P is 0", bits[i]);
		if (fgt) {
			write_hdfgrtr_el2(BIT(62));
			write_hdfgwtr_el2(BIT(62));
		}

		nspb(NSPB(3));
		spe_start(&s);
		set_mdcr(bits[i]);
		nspb(NSPB(1));
		run_secure(1, access_and_drain, BUF2);
		nspb(NSPB(3));
		spe_stop(&s);
		w = &worlds[1];
		in_loop(&s, 1, &n, &bad);
		ok(n > 10 && !bad, "Secure EL1, EEL2=0, MDCR_EL2 %#lx: EL1 owns the buffer",
		   bits[i]);
		if (n <= 10 || bad)
			print("# %d loads, %d wrong, PMBSR %#lx\n", n, bad, s.end_pmbsr);
	}
	set_mdcr(MDCR_E2PB(3));
}

/* A Security state that is not the owner's is not sampled, nor counted. */
static void check_others(void)
{
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(worlds); i++)
		for (j = 0; j < ARRAY_SIZE(worlds); j++) {
			struct session s = {
				.owner = 2, .pmscr_el1 = PMSCR_E1SPE,
				.pmbptr = BUF, .limit = BUF + 0x100000,
				.pmsicr = 5000,
			};
			u64 before, after;

			if (i == j || ((i == 2 || j == 2) && !arg("rme", 0)))
				continue;
			nspb(NSPB(3));
			spe_start(&s);
			nspb(worlds[i].own);
			before = call_el3(spe_regs[R_PMSICR].rd, 0);
			w = &worlds[j];
			if (j == 0)
				run_at(1, wl_spin, 2000);
			else
				w->run(1, wl_spin, 2000);
			after = call_el3(spe_regs[R_PMSICR].rd, 0);
			nspb(NSPB(3));
			spe_stop(&s);
			ok(before == after && s.end_pmbptr == BUF,
			   "%s state owns the buffer: %s EL1 is not counted",
			   worlds[i].name, w->name);
			if (before != after)
				print("# PMSICR_EL1 %lu, then %lu\n", before, after);
		}
	set_mdcr(MDCR_E2PB(3));
}

static void all_at_el2(const struct world *world, int all)
{
	static const fn_t fns[] = {
		check_e2h, check_traps, check_p, check_enabled, check_space,
		check_stage2,
	};
	unsigned int i;

	w = world;
	for (i = 0; i < (all ? ARRAY_SIZE(fns) : 1); i++) {
		nspb(w->own);
		w->run(2, fns[i], 0);
	}
	nspb(NSPB(3));
}

void test_main(void)
{
	int realm = FIELD(read_id_aa64pfr0(), 55, 52) != 0;

	if (!ok(has_el3(), "EL3 is implemented"))
		return;
	is(realm, arg("rme", 0), "FEAT_RME is as the case says");
	is(FIELD(read_id_aa64pfr0(), 39, 36), 1, "Secure EL2 is implemented");
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	reg_exists(&spe_regs[R_PMSNEVFR]);
	mdcr = read_mdcr_el2() & ~(MDCR_E2PB(3) | MDCR_TPMS);
	set_mdcr(MDCR_E2PB(3));
	fgt = FIELD(read_id_aa64mmfr0(), 59, 56);
	if (fgt) {
		write_hdfgrtr_el2(BIT(62));
		write_hdfgwtr_el2(BIT(62));
	}
	if (fgt > 1) {
		write_hdfgrtr2_el2(HDFG2_NPMSDSFR);
		write_hdfgwtr2_el2(HDFG2_NPMSDSFR);
	}
	isb();
	all_at_el2(&worlds[0], 0);
	all_at_el2(&worlds[1], 1);
	if (realm)
		all_at_el2(&worlds[2], 1);
	check_no_el2();
	check_others();
}
