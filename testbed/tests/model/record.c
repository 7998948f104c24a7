// SPDX-License-Identifier: GPL-2.0-only
/*
 * Records against what was executed: operation, addresses, branch target,
 * events, context, timestamp, physical address (Arm ARM D17.6, D18).
 *
 * Arguments: fpf, crr, pbt and lds are 1 on a CPU that has them; sve, mops and
 * nv2 are 0 on one that does not.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

/* A row of record-code.S */
struct expect {
	u64 pc;
	const char *name;
	u64 va, target, events;
	u32 op, sub, kind, unused;
};
enum { K_PLAIN, K_GATHER, K_ANYVA, K_WITHIN, K_EXCEPTION, K_FAILED };

extern const struct expect expect_base[], expect_exception[], expect_sve[],
	expect_mops[];
extern u64 rec_base(u64), rec_exception(u64), rec_sve(u64), rec_mops(u64);
extern char rec_exception_back[];
extern u64 wl_nv2(u64);
extern char wl_nv2_mrs[], wl_nv2_msr[];
extern u8 rec_data[];

#define MAX_RECS	30000
static struct record recs[MAX_RECS];
static int nrecs;

/* Sample a block at EL1 into recs. */
static void sample(fn_t fn, u64 loops, int el, u64 pmsirr)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE | PMSCR_E0SPE,
		.pmsirr = pmsirr, .pmbptr = BUF, .limit = BUF + BUF_SIZE,
	};

	spe_run(&s, el, fn, loops);
	nrecs = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	if (nrecs > MAX_RECS)
		bail("more than %d records", MAX_RECS);
	ok(nrecs > 0 && !s.end_pmbsr, "the stream of records decodes");
	if (nrecs <= 0 || s.end_pmbsr)
		print("# %d records PMBSR %#lx\n", nrecs, s.end_pmbsr);
}

/* Rows are of variable length, the name is behind each. */
static const struct expect *next_row(const struct expect *e)
{
	const char *p = e->name;

	while (*p)
		p++;
	return (const void *)(((u64)p + 8) & ~7UL);
}

static u32 op_sub(const struct expect *e, u32 *mask)
{
	u32 sub = e->sub;

	*mask = 0xff;
	if (e->op == OP_BRANCH && !(id.pmsidr & PMSIDR_CRR))
		sub &= ~0x18;
	if (e->op == OP_OTHER && sub < 8 && !(id.pmsidr & PMSIDR_FPF))
		sub &= ~0x06;
	if (id.pmsver < 2) {
		/* SVE and 'unspecified registers' come with SPEv1p1 */
		if (e->op == OP_LDST && (sub & 0x0a) == 0x08)
			sub = 0x04 | (sub & 1);
		else if (e->op == OP_LDST && sub == 0x11)
			sub = 0x01;
		else if (e->op == OP_OTHER && (sub & 8))
			sub = 0;
	} else if (id.pmsver < 3 && e->op == OP_LDST && (sub & 0x0b) == 0x08) {
		/* PRED of loads comes with SPEv1p2 */
		*mask = 0xfb;
	}
	return sub;
}

/* Gives what is wrong with a record, or 0. */
static const char *wrong(const struct expect *e, const struct record *r, int el)
{
	u64 clear = EV_EXCEPTION | EV_NOT_TAKEN | EV_PARTIAL | EV_EMPTY;
	u64 va = ADDR(r->addr[A_VA]), events = e->events;
	int has_va = r->addrs >> A_VA & 1;
	u32 mask, sub = op_sub(e, &mask);

	if (ADDR_EL(r->addr[A_PC]) != el)
		return "EL of the PC";
	if (ADDR_NS(r->addr[A_PC]) != 1)
		return "NS of the PC";
	if (r->addr[A_PC] >> 56 & 0x1f)
		return "bits 60:56 of the PC packet";
	if (e->kind == K_EXCEPTION)
		return r->events & EV_EXCEPTION ? 0 : "E[0]";
	if (id.pmsver < 2)
		events &= ~(EV_PARTIAL | EV_EMPTY);
	if (e->kind == K_ANYVA && e->op == OP_BRANCH)
		clear &= ~EV_NOT_TAKEN;
	if ((r->events & events) != events)
		return "an event that must be set";
	if (r->events & clear & ~events)
		return "an event that must be clear";
	if (r->op != e->op)
		return "class";
	if (e->kind == K_WITHIN && r->op == OP_LDST) {
		u64 base = (r->opsub & 1) ? e->target : e->va;

		if (id.pmsver >= 4 && (r->opsub & ~1) != (sub & ~1))
			return "subclass";
		if (id.pmsver >= 4 && sub == 0x25 && r->opsub != 0x25)
			return "subclass";
		if (has_va && (!base || va < base || va >= base + 64))
			return "VA";
		return 0;
	}
	if ((r->opsub ^ sub) & mask)
		return "subclass";
	if (e->op == OP_BRANCH) {
		if (e->target) {
			if (!(r->addrs & BIT(A_TARGET)))
				return "no branch target";
			if (ADDR(r->addr[A_TARGET]) != e->target)
				return "branch target";
			if (ADDR_EL(r->addr[A_TARGET]) != el ||
			    !ADDR_NS(r->addr[A_TARGET]))
				return "EL or NS of the branch target";
		}
	} else if (r->addrs & BIT(A_TARGET)) {
		return "a branch target without a branch";
	}
	switch (e->kind) {
	case K_PLAIN:
		if (has_va != !!e->va)
			return e->va ? "no VA" : "a VA";
		if (e->va && va != e->va)
			return "VA";
		break;
	case K_FAILED:
		if (has_va && va != e->va)
			return "VA";
		if (r->counters & BIT(C_XLAT))
			return "translation latency without an access";
		if (r->events & (EV_L1D | EV_TLB))
			return "an event of an access";
		break;
	case K_GATHER:
		if (!has_va || va < e->va || va >= e->va + 64 || (va & 15))
			return "VA of a gather or scatter";
		break;
	}
	if (r->addrs & BIT(A_PA))
		return "a PA that is not enabled";
	if (r->ctxs || r->has_ts)
		return "a Context or Timestamp packet that is not enabled";
	if (!(r->counters & BIT(C_TOTAL)))
		return "no total latency";
	if (r->counter[C_ISSUE] > r->counter[C_TOTAL] ||
	    r->counter[C_XLAT] > r->counter[C_TOTAL])
		return "total latency below a part of it";
	if ((r->counters & BIT(C_XLAT)) && e->op != OP_LDST && e->kind == K_PLAIN)
		return "translation latency without a memory access";
	if (PMSIDR_COUNTSIZE(id.pmsidr) == 2 && r->counter[C_TOTAL] > 0xfff)
		return "more than 12 bits in a counter";
	return 0;
}

/* Events that must never be set in a version */
static u64 reserved_events(void)
{
	u64 v = 0xffffUL << 32 | BIT(16);

	if (id.pmsver < 2)
		v |= EV_MISALIGNED | EV_PARTIAL | EV_EMPTY;
	if (id.pmsver < 5)
		v |= 0x1fUL << 19;
	else
		v |= 0x3fUL << 26;
	return v;
}

static void check_table(const struct expect *e, int el)
{
	u64 reserved = reserved_events();
	int i, bad = 0;

	for (; e->pc; e = next_row(e)) {
		const char *err = 0, *w;
		const struct record *r = 0;
		int seen = 0, errs = 0;

		for (i = 0; i < nrecs; i++) {
			if (!(recs[i].addrs & BIT(A_PC)) ||
			    ADDR(recs[i].addr[A_PC]) != e->pc)
				continue;
			seen++;
			w = wrong(e, &recs[i], el);
			if (w && !errs++) {
				err = w;
				r = &recs[i];
			}
		}
		/* a record of an exception need not have a PC */
		if (e->kind == K_EXCEPTION)
			seen = 1;
		ok(seen && !errs, "EL%d: the record of %s", el, e->name);
		if (!seen)
			print("# never sampled at %#lx\n", e->pc);
		if (errs)
			print("# %d of %d records; %s: op %02x %02x want %02x %02x, VA %#lx want %#lx, target %#lx want %#lx, events %#lx\n",
			      errs, seen, err, r->op, r->opsub, e->op, e->sub,
			      r->addr[A_VA], e->va, r->addr[A_TARGET], e->target,
			      r->events);
	}
	for (i = 0; i < nrecs; i++)
		bad += !!(recs[i].events & reserved);
	is(bad, 0, "EL%d: no record has a reserved event", el);
}

static void check_exceptions(void)
{
	int i, n = 0, eret = 0, handler = 0, target = 0;

	/* EL0 to EL1 and back: the ERET has its target at EL0. */
	expect_exceptions();
	sample(rec_exception, 3000, 0, 0x100);
	stop_expecting();
	check_table(expect_exception, 0);
	for (i = 0; i < nrecs; i++) {
		const struct record *r = &recs[i];

		n += !!(r->events & EV_EXCEPTION);
		handler += ADDR_EL(r->addr[A_PC]) == 1;
		if ((r->events & EV_EXCEPTION) && (r->addrs & BIT(A_TARGET)))
			target++;
		if (r->op == OP_BRANCH && (r->addrs & BIT(A_TARGET)) &&
		    ADDR_EL(r->addr[A_PC]) == 1 &&
		    ADDR_EL(r->addr[A_TARGET]) == 0 &&
		    ADDR(r->addr[A_TARGET]) == (u64)rec_exception_back)
			eret += !(r->opsub & 1);
	}
	ok(n > 0, "records of operations that generate an exception have E[0]");
	is(target, 0, "no record of an exception has a branch target");
	ok(handler > 0, "the handler at EL1 is sampled with EL1 in its PC packets");
	ok(eret > 0, "ERET is an unconditional branch whose target has EL0");
}

/* --- context, timestamp, physical address --------------------------------------- */

static void check_context(void)
{
	int e2h, owner, tge, el, cx;

	for (e2h = 0; e2h < 2; e2h++)
		for (owner = 1; owner <= 2; owner++)
			for (tge = 0; tge <= e2h; tge++)
				for (el = 0; el <= 2; el++)
					for (cx = 0; cx < 4; cx++) {
		u32 want = 0;
		int n, i, bad = 0, in = 0;
		struct session s = {
			.owner = owner, .pmbptr = BUF, .limit = BUF + 0x100000,
			.pmscr_el1 = 3 | (cx & 1 ? PMSCR_CX : 0),
			.pmscr_el2 = 3 | (cx & 2 ? PMSCR_CX : 0),
		};

		if ((el == 1 && tge) || (owner == 1 && (tge || el == 2)))
			continue;		/* not profiled */
		/* D17.6.9: CONTEXTIDR_EL1 at EL1 and EL0, TGE=0 */
		if ((cx & 1) && el < 2 && !tge)
			want |= CTX_EL1;
		if (cx & 2)
			want |= CTX_EL2;
		set_vhe(e2h, tge);
		if (e2h)
			asm volatile("msr S3_5_C13_C0_1, %0" : : "r"(0x11223344UL));
		else
			write_contextidr_el1(0x11223344);
		write_contextidr_el2(0x55667788);
		isb();
		spe_run(&s, el, wl_spin, 3000);
		set_vhe(0, 0);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		for (i = 0; i < n; i++) {
			struct record *r = &recs[i];

			if (ADDR(r->addr[A_PC]) < (u64)wl_spin_loop ||
			    ADDR(r->addr[A_PC]) >= (u64)wl_spin_end)
				continue;
			in++;
			bad += r->ctxs != want ||
			       ((want & CTX_EL1) && r->ctx[0] != 0x11223344) ||
			       ((want & CTX_EL2) && r->ctx[1] != 0x55667788);
		}
		ok(in > 10 && !bad,
		   "context, E2H=%d owner EL%d TGE=%d EL%d, CX of EL1 %d, of EL2 %d: packets %s%s",
		   e2h, owner, tge, el, cx & 1, cx >> 1,
		   want & CTX_EL1 ? "1" : "-", want & CTX_EL2 ? "2" : "-");
		if (in <= 10 || bad)
			print("# %d records, %d wrong, first has %x %x %x\n", in, bad,
			      recs[0].ctxs, recs[0].ctx[0], recs[0].ctx[1]);
	}
	set_vhe(0, 0);
}

enum { T_NONE, T_VIRT, T_PHYS, T_POFF };

/* Table D17-3 */
static int want_time(int owner, int ts1, int ts2, int pct1, int pct2)
{
	static const int pct[] = { T_VIRT, T_PHYS, T_NONE, T_POFF };

	if (owner == 2)
		return ts2 ? pct[pct2] : T_NONE;
	if (!ts1)
		return T_NONE;
	if (!pct2 || !pct1)
		return T_VIRT;
	if (pct2 == 3 || pct1 == 3)
		return T_POFF;
	return T_PHYS;
}

#define VOFF	0x1000000000000UL
#define POFF	0x2000000000000UL

static void check_time(void)
{
	static const int pcts[] = { 0, 1, 3 };
	static const char *const names[] = { "none", "virtual", "physical", "physical - offset" };
	int ecv = FIELD(read_id_aa64mmfr0(), 63, 60);
	int npct = ecv ? 3 : 2, el2_virtual = 0;
	int owner, ts, i1, i2, e2h, i, n, el;

	write_cntvoff_el2(VOFF);
	if (ecv >= 2) {
		write_cntpoff_el2(POFF);
		write_cnthctl_el2(3 | BIT(12));		/* ECV */
	}
	isb();
	for (e2h = 0; e2h < 2; e2h++)
	for (el = 1; el <= 2; el++)
	for (owner = el; owner <= 2; owner++)
	for (ts = 0; ts < 4; ts++)
	for (i1 = 0; i1 < npct; i1++)
	for (i2 = 0; i2 < npct; i2++) {
		int want = want_time(owner, ts & 1, ts >> 1, pcts[i1], pcts[i2]);
		u64 before, after, off = 0, last = 0;
		int bad = 0, falls = 0, in = 0;
		struct session s = {
			.owner = owner, .pmbptr = BUF, .limit = BUF + 0x100000,
			.pmscr_el1 = PMSCR_PCT(pcts[i1]) | (ts & 1 ? PMSCR_TS : 0) |
				     (el == 1 ? PMSCR_E1SPE : 0),
			.pmscr_el2 = PMSCR_PCT(pcts[i2]) | (ts & 2 ? PMSCR_TS : 0) |
				     (el == 2 ? PMSCR_E1SPE : 0),
		};

		/* the rows of the other TS and PCT add nothing at EL2 */
		if (el == 2 && (i1 || (ts & 1)))
			continue;
		if (want == T_VIRT && !(e2h && el == 2))
			off = VOFF;	/* 0 at EL2 with E2H=1 */
		if (want == T_POFF && ecv >= 2)
			off = POFF;
		set_vhe(e2h, 0);
		before = read_cntpct();
		spe_run(&s, el, wl_spin, 3000);
		isb();
		after = read_cntpct();
		set_vhe(0, 0);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		for (i = 0; i < n; i++) {
			struct record *r = &recs[i];
			u64 t = r->ts + off;

			if (ADDR(r->addr[A_PC]) < (u64)wl_spin_loop ||
			    ADDR(r->addr[A_PC]) >= (u64)wl_spin_end)
				continue;
			in++;
			bad += r->has_ts != (want != T_NONE) ||
			       (r->has_ts && (t < before || t > after));
			falls += r->has_ts && r->ts < last && in > 1;
			last = r->ts;
		}
		ok(in > 10 && !bad && !falls,
		   "timestamp, E2H=%d EL%d owner EL%d, EL1 TS=%d PCT=%d, EL2 TS=%d PCT=%d: %s",
		   e2h, el, owner, ts & 1, pcts[i1], ts >> 1, pcts[i2],
		   names[want]);
		if (in <= 10 || bad || falls)
			print("# %d records, %d wrong, %d fall; %#lx, physical from %#lx to %#lx\n",
			      in, bad, falls, recs[0].ts, before, after);
		el2_virtual += want == T_VIRT;
	}
	write_cntvoff_el2(0);
	if (ecv >= 2) {
		write_cntpoff_el2(0);
		write_cnthctl_el2(3);
	}
	isb();
	ok(el2_virtual > 0, "timestamp: rows with virtual time were run");
}

/* A VA whose IPA and PA differ from it and from each other */
static void check_pa(void)
{
	u64 ipa = s2_start_level ? 0x4000000000UL : WINDOW;
	int s2, owner, pa1, pa2;

	map(el1_root, 0, WINDOW, BUF2, PAGE_SIZE, 3, PTE_RW);
	map(el2_root, 0, WINDOW, BUF2 + 0x10000, PAGE_SIZE, 3, PTE_RW);
	map(s2_root, s2_start_level, ipa, BUF2 + 0x20000, PAGE_SIZE, 3, S2_RW);
	for (s2 = 0; s2 < 2; s2++) {
		*pte(el1_root, 0, WINDOW, 3) = (s2 ? ipa : BUF2) | PTE_RW |
			PTE_VALID | PTE_TABLE;
		set_stage2(s2);
		for (owner = 1; owner <= 2; owner++)
			for (pa1 = 0; pa1 < 2; pa1++)
				for (pa2 = 0; pa2 < 2; pa2++) {
			int want = owner == 2 ? pa2 : pa1 && pa2, i, n;
			int in = 0, bad = 0;
			u64 pa = s2 ? BUF2 + 0x20000 : BUF2;
			struct record *first = 0;
			struct session s = {
				.owner = owner, .pmbptr = BUF,
				.limit = BUF + 0x100000,
				.pmscr_el1 = PMSCR_E1SPE | (pa1 ? PMSCR_PA : 0),
				.pmscr_el2 = pa2 ? PMSCR_PA : 0,
			};

			spe_run(&s, 1, wl_access, WINDOW + 0x40);
			n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
			for (i = 0; i < n; i++) {
				struct record *r = &recs[i];
				u64 off;

				if (r->op != OP_LDST ||
				    ADDR(r->addr[A_VA]) >> 12 != WINDOW >> 12) {
					bad += r->op != OP_LDST &&
					       (r->addrs & BIT(A_PA));
					continue;
				}
				in++;
				off = ADDR(r->addr[A_VA]) - WINDOW;
				if ((r->addrs >> A_PA & 1) != (u32)want ||
				    (want && (ADDR(r->addr[A_PA]) != pa + off ||
					      r->addr[A_PA] >> 63 != 1))) {
					if (!bad++)
						first = r;
				}
			}
			ok(in > 10 && !bad,
			   "physical address, stage 2 %s, owner EL%d, PA of EL1 %d, of EL2 %d: %s",
			   s2 ? "on" : "off", owner, pa1, pa2,
			   want ? "the real one" : "none");
			if (bad && first)
				print("# %d of %d wrong: VA %#lx PA %#lx want %#lx\n",
				      bad, in, first->addr[A_VA],
				      first->addrs & BIT(A_PA) ? first->addr[A_PA] : 0,
				      pa);
		}
		set_stage2(0);
	}
	tlbi_all();
}

/* Address tags: the VA packet includes the tag where TBI applies. */
static void check_tag(void)
{
	int tbi;

	*pte(el1_root, 0, WINDOW, 3) = BUF2 | PTE_RW | PTE_VALID | PTE_TABLE;
	for (tbi = 0; tbi < 2; tbi++) {
		u64 va = WINDOW | (tbi ? 0x5aUL << 56 : 0);
		int i, n, in = 0, bad = 0;
		struct session s = {
			.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
			.pmbptr = BUF, .limit = BUF + 0x100000,
		};

		write_tcr_el1((read_tcr_el1() & ~BIT(37)) | (tbi ? BIT(37) : 0));
		tlbi_all();
		spe_run(&s, 1, wl_access, va);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		for (i = 0; i < n; i++) {
			u64 got = recs[i].addr[A_VA];

			if (recs[i].op != OP_LDST || ADDR(got) >> 12 != WINDOW >> 12)
				continue;
			in++;
			bad += got >> 56 != va >> 56;
		}
		ok(in > 10 && !bad, "TBI=%d: byte 7 of the VA packet is %s", tbi,
		   tbi ? "the tag" : "0");
	}
	write_tcr_el1(read_tcr_el1() & ~BIT(37));
	tlbi_all();
}

static void check_pbt(void)
{
	int i, bad = 0, in = 0, any = 0;

	sample(wl_spin, 20000, 1, 0x100);
	for (i = 0; i < nrecs; i++) {
		struct record *r = &recs[i];

		any += r->addrs >> A_PREV & 1;
		/* the first few follow branches of the way here */
		if (r->op != OP_BRANCH || ADDR(r->addr[A_PC]) != (u64)wl_spin_loop + 4 ||
		    i < 2)
			continue;
		in++;
		bad += !(r->addrs & BIT(A_PREV)) ||
		       ADDR(r->addr[A_PREV]) != (u64)wl_spin_loop ||
		       ADDR_EL(r->addr[A_PREV]) != 1 || !ADDR_NS(r->addr[A_PREV]);
	}
	if (id.pmsidr & PMSIDR_PBT)
		ok(in > 10 && !bad, "PBT: the previous branch target of a loop is its start");
	else
		is(any, 0, "no previous branch target without FEAT_SPE_PBT");
}

static void check_lds(void)
{
	int i, loads = 0, others = 0;

	sample(wl_mix, 2000, 1, 0x100);
	for (i = 0; i < nrecs; i++) {
		if (recs[i].op == OP_LDST && !(recs[i].opsub & 1))
			loads += recs[i].has_ds;
		else
			others += recs[i].has_ds;
	}
	is(others, 0, "no Data Source packet but for loads");
	if (id.pmsidr & PMSIDR_LDS)
		ok(loads > 0, "LDS: loads have a Data Source packet");
	else
		is(loads, 0, "no Data Source packet without LDS");
}

/*
 * A register access that FEAT_NV2 makes a load or store: its VA is an EL2 one
 * and recorded only where EL2 is profiled (D17.6.4.2).
 */
static void check_nv2(void)
{
	u64 *page = alloc_page();
	int e2spe, i, n;

	if (!feature("nv2", FIELD(read_id_aa64mmfr2(), 27, 24) >= 2, 1))
		return;
	write_vncr_el2((u64)page);
	for (e2spe = 0; e2spe < 2; e2spe++) {
		int in = 0, bad = 0;
		struct record *first = 0;
		struct session s = {
			.owner = 2, .pmbptr = BUF, .limit = BUF + 0x100000,
			.pmscr_el1 = PMSCR_E1SPE,
			.pmscr_el2 = e2spe ? PMSCR_E1SPE : 0,
		};

		hcr_set(HCR_NV | HCR_NV2, 0);
		spe_run(&s, 1, wl_nv2, 5000);
		hcr_set(0, HCR_NV | HCR_NV2);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		for (i = 0; i < n; i++) {
			struct record *r = &recs[i];
			u64 pc = ADDR(r->addr[A_PC]);
			int st = pc == (u64)wl_nv2_msr;
			int has_va = r->addrs >> A_VA & 1;

			if (pc != (u64)wl_nv2_mrs && !st)
				continue;
			in++;
			if (r->op != OP_LDST || r->opsub != (0x30 | st) ||
			    has_va != e2spe ||
			    (has_va && ADDR(r->addr[A_VA]) != (u64)page + 0x240)) {
				if (!bad++)
					first = r;
			}
		}
		ok(in > 10 && !bad, "NV2: MRS and MSR become a load and a store, EL2 profiled: %s",
		   e2spe ? "with the VA" : "without a VA");
		if (bad)
			print("# %d of %d wrong: op %02x %02x, addresses %#x VA %#lx\n",
			      bad, in, first->op, first->opsub, first->addrs,
			      first->addr[A_VA]);
	}
}

void test_main(void)
{
	struct session s = {
		.owner = 1, .pmbptr = BUF, .limit = BUF + 0x1000,
	};
	int el;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	feature("fpf", !!(id.pmsidr & PMSIDR_FPF), 0);
	feature("crr", !!(id.pmsidr & PMSIDR_CRR), 0);
	feature("pbt", !!(id.pmsidr & PMSIDR_PBT), 0);
	feature("lds", !!(id.pmsidr & PMSIDR_LDS), 0);
	for (el = 0; el < 2; el++) {
		sample(rec_base, 3000, el, 0x100);
		check_table(expect_base, el);
	}
	check_exceptions();
	if (feature("sve", FIELD(read_id_aa64pfr0(), 35, 32), 1)) {
		write_zcr_el2(1);		/* 256 bits */
		write_zcr_el1(1);
		isb();
		sample(rec_sve, 10000, 1, 0x100);
		check_table(expect_sve, 1);
	}
	if (feature("mops", FIELD(read_id_aa64isar2(), 19, 16), 1)) {
		write_hcrx_el2(read_hcrx_el2() | BIT(11));	/* MSCEn */
		isb();
		sample(rec_mops, 10000, 1, 0x100);
		check_table(expect_mops, 1);
	}
	check_context();
	check_time();
	check_pa();
	check_tag();
	check_pbt();
	check_lds();
	check_nv2();
}
