// SPDX-License-Identifier: GPL-2.0-only
/*
 * The profiling buffer: full exactly at the boundary, nothing at or above
 * LIMIT, the interrupt's level, orders of re-arming, discard mode, resuming,
 * misprogramming, maximum size (Arm ARM D17.5.5, D17.7.4, D17.8, D17.8.2).
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	4096
static struct record recs[MAX_RECS];

static struct session plain(int owner, u64 size)
{
	struct session s = {
		.owner = owner, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + size,
	};

	return s;
}

/* PMBPTR_EL1 of a buffer that is full: no room for MaxSize, none beyond. */
static int ptr_full(u64 ptr, u64 limit)
{
	return id.align == id.max ? ptr == limit
				  : ptr > limit - id.max && ptr <= limit;
}

static void check_full(int owner)
{
	static const u64 sizes[] = { 0x1000, 0x2000, 0x3000, 0x10000 };
	/* EA, DL and COLL are kept; EC and MSS are replaced. */
	static const u64 before[] = {
		0, PMBSR_COLL, PMBSR_EA, PMBSR_DL,
		0x3fUL << 26 | 0x3f | PMBSR_COLL | PMBSR_EA | PMBSR_DL,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct session s = plain(owner, sizes[i]);
		u64 keep = before[i % ARRAY_SIZE(before)] &
			   (PMBSR_COLL | PMBSR_EA | PMBSR_DL);
		int n;

		s.pmbsr = before[i % ARRAY_SIZE(before)];
		buf_paint(BUF, 0x20000);
		spe_run(&s, 1, wl_spin, 257 * (sizes[i] / 16));
		is(s.end_pmbsr, PMBSR_FULL | keep,
		   "owner EL%d: a buffer of %#lx bytes gives 'full', EA, DL, COLL kept",
		   owner, sizes[i]);
		ok(ptr_full(s.end_pmbptr, s.limit),
		   "owner EL%d, %#lx bytes: PMBPTR_EL1 is behind the last record that fits",
		   owner, sizes[i]);
		if (!ptr_full(s.end_pmbptr, s.limit))
			print("# PMBPTR %#lx LIMIT %#lx\n", s.end_pmbptr, s.limit);
		is(buf_dirty(s.limit, 0x4000), s.limit + 0x4000,
		   "owner EL%d, %#lx bytes: nothing is written at or above LIMIT",
		   owner, sizes[i]);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		ok(n > 0 && (u64)n >= sizes[i] / id.max,
		   "owner EL%d, %#lx bytes: the buffer is full of records", owner,
		   sizes[i]);
	}
	for (i = 0; i < ARRAY_SIZE(before); i++) {
		struct session s = plain(owner, 0x1000);

		s.pmbsr = before[i];
		spe_run(&s, 1, wl_spin, 257 * 256);
		is(s.end_pmbsr, PMBSR_FULL | (before[i] & (PMBSR_COLL | PMBSR_EA | PMBSR_DL)),
		   "owner EL%d: 'full' from PMBSR_EL1 %#lx", owner, before[i]);
	}
}

static void check_stopped_after_full(void)
{
	struct session s = plain(2, 0x1000);
	u64 ptr, icr;
	int n;

	buf_paint(BUF, 0x4000);
	spe_start(&s);
	run_at(1, wl_spin, 257 * 256);
	psb_csync();
	dsb_nsh();
	isb();
	ptr = read_pmbptr();
	icr = read_pmsicr();
	is(read_pmbsr(), PMBSR_FULL, "full: PMBSR_EL1");
	run_at(1, wl_spin, 10000);
	is(read_pmbptr(), ptr, "full: PMBPTR_EL1 is frozen");
	is(read_pmsicr(), icr, "full: PMSICR_EL1 is frozen");

	/* D17.7.4: software may raise LIMIT and go on. */
	write_pmblimitr((BUF + 0x2000) | PMBLIMITR_E);
	write_pmbsr(0);
	isb();
	run_at(1, wl_spin, 257 * 256);
	spe_stop(&s);
	is(s.end_pmbsr, PMBSR_FULL, "LIMIT raised after 'full': full again");
	ok(ptr_full(s.end_pmbptr, BUF + 0x2000), "LIMIT raised after 'full': at the new end");
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n >= (int)(0x2000 / id.max), "LIMIT raised after 'full': one stream of records");

	/* Room for exactly one record of the largest size */
	s = plain(2, 0x1000);
	s.pmbptr = s.limit - id.max;
	buf_paint(BUF, 0x2000);
	spe_run(&s, 1, wl_spin, 257 * 4);
	if (id.align == id.max) {
		is(s.end_pmbsr, PMBSR_FULL, "PMBPTR_EL1 = LIMIT - MaxSize: full after one record");
		is(s.end_pmbptr, s.limit, "PMBPTR_EL1 = LIMIT - MaxSize: PMBPTR_EL1 is LIMIT");
	} else {
		is(s.end_pmbsr, PMBSR_FULL, "PMBPTR_EL1 = LIMIT - MaxSize: full after one record");
	}
	n = decode_all(s.pmbptr, s.end_pmbptr, recs, MAX_RECS);
	is(n, 1, "PMBPTR_EL1 = LIMIT - MaxSize: one record");
	is(buf_dirty(s.limit, 0x1000), s.limit + 0x1000,
	   "PMBPTR_EL1 = LIMIT - MaxSize: nothing at or above LIMIT");
	is(buf_dirty(BUF, s.pmbptr - BUF), s.pmbptr,
	   "PMBPTR_EL1 = LIMIT - MaxSize: nothing below PMBPTR_EL1");
}

/* --- the interrupt --------------------------------------------------------- */

static int irq_intid, irq_times, irq_hold;
static u64 irq_pmbsr;

static void on_irq(void)
{
	irq_intid = read_icc_iar1();
	irq_times++;
	irq_pmbsr = read_pmbsr();
	if (irq_times >= irq_hold) {
		/* S=0 alone would resume with a full buffer (R_HXSYK). */
		write_pmblimitr(0);
		isb();
		write_pmbsr(0);
		isb();
	}
	write_icc_eoir1(irq_intid);
	isb();
}

static void check_irq(void)
{
	static const struct {
		const char *name;
		u64 pmbsr, pmblimitr;
		int want;
	} rows[] = {
		{ "S=1, E=0", PMBSR_S, 0, 1 },
		{ "S=0, E=0", 0, 0, 0 },
		{ "S=1, E=1", PMBSR_S, (BUF + 0x1000) | PMBLIMITR_E, 1 },
		{ "S=0, E=1", 0, (BUF + 0x1000) | PMBLIMITR_E, 0 },
		{ "all but S", 0xfc0dffffUL, 0, 0 },
		{ "S=1, EC=0, BSC=4 (for hypervisors)", PMBSR_S | 4, 0, 1 },
		{ "S=0 again", 0, 0, 0 },
	};
	struct session s = plain(1, 0x1000);
	unsigned int i;
	int owner;

	for (owner = 1; owner <= 2; owner++) {
		write_mdcr_el2((read_mdcr_el2() & ~MDCR_E2PB(3)) |
			       MDCR_E2PB(owner == 1 ? 3 : 0));
		for (i = 0; i < ARRAY_SIZE(rows); i++) {
			write_pmblimitr(rows[i].pmblimitr);
			write_pmbsr(rows[i].pmbsr);
			isb();
			is(irq_pending(), rows[i].want, "owner EL%d, PMBSR_EL1 written, %s: PMBIRQ is %s",
			   owner, rows[i].name, rows[i].want ? "high" : "low");
			is(read_pmbsr(), rows[i].pmbsr, "owner EL%d, %s: PMBSR_EL1 reads as written",
			   owner, rows[i].name);
		}
	}
	write_pmblimitr(0);

	/* Held by S alone: not by E, the owner or the enable bits. */
	spe_start(&s);
	is(irq_pending(), 0, "no interrupt before the buffer is full");
	run_at(1, wl_spin, 257 * 256);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	is(irq_pending(), 1, "'full' raises PMBIRQ");
	write_pmblimitr(0);
	isb();
	is(irq_pending(), 1, "clearing PMBLIMITR_EL1.E leaves PMBIRQ high");
	write_mdcr_el2(read_mdcr_el2() & ~MDCR_E2PB(3));
	isb();
	is(irq_pending(), 1, "changing the owner leaves PMBIRQ high");
	write_pmbsr(PMBSR_S);
	isb();
	is(irq_pending(), 1, "writing other fields with S=1 leaves PMBIRQ high");
	write_pmbsr(0);
	isb();
	is(irq_pending(), 0, "writing S=0 takes PMBIRQ low");

	/* As an exception, and a level: it comes again until S is 0. */
	hcr_set(BIT(4), 0);			/* IMO */
	irq_hook = on_irq;
	irq_hold = 3;
	asm volatile("msr daifclr, #2");
	s = plain(1, 0x1000);
	spe_start(&s);
	run_at(1, wl_spin, 257 * 256);
	spe_stop(&s);
	asm volatile("msr daifset, #2");
	is(irq_intid, PMBIRQ, "PMBIRQ is taken as INTID 21");
	is(irq_times, 3, "PMBIRQ is a level: taken again until S is 0");
	is(irq_pmbsr, PMBSR_FULL, "the handler reads 'full'");
	is(irq_pending(), 0, "PMBIRQ is low after the handler");
	irq_hook = 0;
	hcr_set(0, BIT(4));
}

/* --- re-arming --------------------------------------------------------------- */

/*
 * After 'full', with E still 1: p writes PMBPTR, l PMBLIMITR with E, s PMBSR,
 * z PMBLIMITR with E=0. Linux does p, l, s. Nothing is sampled between, as
 * EL2 is not profiled; so none of the states in between may do anything.
 */
static void check_rearm(int owner)
{
	static const char *const orders[] = {
		"pls", "psl", "lps", "lsp", "spl", "slp",
		"zpls", "zspl", "zslp", "zpsl", "szpl", "pzsl", "lpzsl",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		struct session s = plain(owner, 0x1000);
		const char *c;
		u64 end;
		int n;

		spe_start(&s);
		run_at(1, wl_spin, 257 * 256);
		psb_csync();
		dsb_nsh();
		isb();
		if (read_pmbsr() != PMBSR_FULL)
			bail("the buffer is not full before re-arming: %#lx", read_pmbsr());
		buf_paint(BUF2, 0x4000);
		end = buf_dirty(BUF, 0x1000);
		buf_paint(BUF, 0x2000);
		for (c = orders[i]; *c; c++) {
			switch (*c) {
			case 'p':
				write_pmbptr(BUF2);
				break;
			case 'l':
				write_pmblimitr((BUF2 + 0x2000) | PMBLIMITR_E);
				break;
			case 's':
				write_pmbsr(0);
				break;
			case 'z':
				write_pmblimitr(0);
				break;
			}
			isb();
		}
		run_at(1, wl_spin, 257 * 10);
		spe_stop(&s);
		n = decode_all(BUF2, s.end_pmbptr, recs, MAX_RECS);
		ok(n >= 15 && n <= 25 && s.end_pmbsr == 0 && end >= BUF,
		   "owner EL%d: re-armed in the order %s", owner, orders[i]);
		if (n < 15 || s.end_pmbsr)
			print("# %d records, PMBSR %#lx PMBPTR %#lx\n", n,
			      s.end_pmbsr, s.end_pmbptr);
		is(buf_dirty(BUF, 0x2000), BUF + 0x2000,
		   "owner EL%d, order %s: the old buffer is left alone", owner, orders[i]);
	}
}

/* Linux's interrupt handler: profiled itself, E=1 throughout. */
static void check_rearm_live(void)
{
	struct session s = {
		.owner = 2, .pmscr_el2 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x1000,
	};
	int i, full = 0, n;

	buf_paint(BUF, 0x10000);
	spe_start(&s);
	for (i = 0; i < 4; i++) {
		wl_spin(257 * 300);
		psb_csync();
		dsb_nsh();
		isb();
		full += read_pmbsr() == PMBSR_FULL;
		write_pmbptr(BUF + 0x2000 * (i + 1));
		write_pmblimitr((BUF + 0x2000 * (i + 1) + 0x1000) | PMBLIMITR_E);
		isb();
		write_pmbsr(0);
		isb();
	}
	wl_spin(257 * 10);
	spe_stop(&s);
	is(full, 4, "re-armed four times while profiled: full each time");
	n = decode_all(BUF + 0x8000, s.end_pmbptr, recs, MAX_RECS);
	ok(n > 10 && s.end_pmbsr == 0, "re-armed while profiled: the fifth buffer has records");
	for (i = n = 0; i < 4; i++)
		n += buf_dirty(BUF + 0x2000 * i + 0x1000, 0x1000) !=
		     BUF + 0x2000 * i + 0x2000;
	is(n, 0, "re-armed while profiled: nothing behind any of the buffers");
}

/* --- discard mode -------------------------------------------------------------- */

static void check_discard(void)
{
	static const struct {
		const char *name;
		u64 ptr, limit;
	} rows[] = {
		{ "PMBPTR_EL1 and LIMIT are 0", 0, 0 },
		{ "PMBPTR_EL1 above LIMIT", BUF + 0x8000, BUF },
		{ "PMBPTR_EL1 misaligned and unmapped", WINDOW + 3, WINDOW },
		{ "a good buffer", BUF, BUF + 0x1000 },
	};
	unsigned int i;
	int owner;

	if (id.pmsver < 3)
		return;
	for (owner = 1; owner <= 2; owner++)
		for (i = 0; i < ARRAY_SIZE(rows); i++) {
			struct session s = plain(owner, 0);
			u64 ptr;

			s.pmbptr = rows[i].ptr;
			s.limit = rows[i].limit;
			s.limit_bits = PMBLIMITR_DISCARD;
			s.pmsirr = 0x100;
			buf_paint(BUF, 0x10000);
			spe_start(&s);
			ptr = read_pmbptr();
			run_at(1, wl_spin, 257 * 200);
			spe_stop(&s);
			is(s.end_pmbptr, ptr, "discard, owner EL%d, %s: PMBPTR_EL1 stays",
			   owner, rows[i].name);
			is(s.end_pmbsr & ~PMBSR_COLL, 0, "discard, owner EL%d, %s: no management event",
			   owner, rows[i].name);
			ok(s.end_pmsicr > 0 && s.end_pmsicr <= 0x100,
			   "discard, owner EL%d, %s: the counter runs", owner, rows[i].name);
			is(buf_dirty(BUF, 0x10000), BUF + 0x10000,
			   "discard, owner EL%d, %s: nothing is written", owner,
			   rows[i].name);
		}
}

/* --- resuming and misprogramming ---------------------------------------------- */

static void check_resume(void)
{
	struct session s = plain(1, 0x100000);
	u64 last = BUF;
	int i, n, backwards = 0;

	for (i = 0; i < 10; i++) {
		spe_run(&s, 1, wl_spin, 2570);
		backwards += s.end_pmbptr <= last;
		last = s.end_pmbptr;
		/* S=0 and {EA,DL}={0,0}: go on from the saved pointers */
		s.pmbptr = s.end_pmbptr;
		s.pmsicr = s.end_pmsicr;
	}
	n = decode_all(BUF, last, recs, MAX_RECS);
	ok(n >= 195 && n <= 205, "ten sessions from saved pointers give one stream of records");
	is(backwards, 0, "PMBPTR_EL1 rises in each of them");

	/* polled at EL2 while EL1 runs */
	s = plain(1, 0x100000);
	spe_start(&s);
	last = BUF;
	for (i = n = 0; i < 10; i++) {
		u64 p;

		run_at(1, wl_spin, 2570);
		psb_csync();
		dsb_nsh();
		isb();
		p = read_pmbptr();
		n += decode_all(last, p, recs, MAX_RECS) >= 10;
		last = p;
	}
	spe_stop(&s);
	is(n, 10, "PMBPTR_EL1 polled while profiling: complete records below it");
}

/*
 * CONSTRAINED UNPREDICTABLE (R_PGGHS); the model checks in the order of its
 * README, and writes nothing.
 */
static void check_misprogrammed(void)
{
	static const struct {
		const char *name;
		s64 ptr;		/* from LIMIT */
		u64 top;		/* of PMBPTR_EL1 */
		u64 pmbsr;
	} rows[] = {
		{ "PMBPTR_EL1 = LIMIT", 0, 0, PMBSR_FULL },
		{ "PMBPTR_EL1 a record above LIMIT", 2048, 0, PMBSR_FULL },
		{ "PMBPTR_EL1 far above LIMIT", 0x8000, 0, PMBSR_FULL },
		{ "less than MaxSize below LIMIT", -16, 0, PMBSR_FULL },
		{ "less than MaxSize below LIMIT, misaligned", -15, 0, PMBSR_FULL },
		{ "top bytes differ", -0x1000, 0x5aUL << 56, PMBSR_FULL },
		{ "top bytes differ, misaligned", -0xfff, 0x5aUL << 56, PMBSR_FULL },
		{ "misaligned", -0x1000 + 1, 0, PMBSR_ABORT(EC_STAGE1, 0x21) },
	};
	unsigned int i;
	int owner;

	for (owner = 1; owner <= 2; owner++)
		for (i = 0; i < ARRAY_SIZE(rows); i++) {
			struct session s = plain(owner, 0x1000);

			s.limit = BUF + 0x4000;
			s.pmbptr = (s.limit + rows[i].ptr) | rows[i].top;
			if (rows[i].pmbsr != PMBSR_FULL && id.align == 1)
				continue;
			buf_paint(BUF, 0x20000);
			spe_run(&s, 1, wl_spin, 257 * 200);
			is(s.end_pmbsr, rows[i].pmbsr, "owner EL%d, %s: %s", owner,
			   rows[i].name, rows[i].pmbsr == PMBSR_FULL ? "full" :
			   "Alignment fault");
			is(s.end_pmbptr, s.pmbptr, "owner EL%d, %s: PMBPTR_EL1 stays",
			   owner, rows[i].name);
			is(buf_dirty(BUF, 0x20000), BUF + 0x20000,
			   "owner EL%d, %s: nothing is written", owner, rows[i].name);

			/* With S=1 profiling is stopped and nothing is checked. */
			s.pmbsr = PMBSR_S;
			spe_run(&s, 1, wl_spin, 257 * 20);
			is(s.end_pmbsr, PMBSR_S, "owner EL%d, %s, S=1: PMBSR_EL1 stays",
			   owner, rows[i].name);
			is(s.end_pmbptr, s.pmbptr, "owner EL%d, %s, S=1: PMBPTR_EL1 stays",
			   owner, rows[i].name);
		}
}

/* --- a maximum size ------------------------------------------------------------ */

/* Only a hypervisor's PMBIDR_EL1 has one (D24.7.1), or the model's. */
static u64 max_buffer_size(void)
{
	u64 field = PMBIDR_MAXBUFFSIZE(id.pmbidr);
	u64 m = field & 0x1ff, e = field >> 9 & 0x1f;

	return e ? (m | 0x200) << (e + 11) : m << 12;
}

static void check_too_large(void)
{
	u64 max = max_buffer_size();
	int owner;

	is(max, arg("maxbuf", 0), "PMBIDR_EL1.MaxBuffSize");
	if (!max)
		return;
	for (owner = 1; owner <= 2; owner++) {
		struct session s = plain(owner, max + 0x1000);

		buf_paint(BUF, 0x10000);
		spe_run(&s, 1, wl_spin, 2570);
		is(s.end_pmbsr, PMBSR_S | 4,
		   "owner EL%d, a page more than MaxBuffSize: 'buffer size too large'", owner);
		is(s.end_pmbptr, BUF, "owner EL%d, a page more than MaxBuffSize: PMBPTR_EL1 stays",
		   owner);
		is(buf_dirty(BUF, 0x10000), BUF + 0x10000,
		   "owner EL%d, a page more than MaxBuffSize: nothing is written", owner);
		/* before alignment is looked at */
		s.pmbptr = BUF + 1;
		spe_run(&s, 1, wl_spin, 2570);
		is(s.end_pmbsr, PMBSR_S | 4,
		   "owner EL%d, too large and misaligned: 'buffer size too large'", owner);
		is(s.end_pmbptr, BUF + 1, "owner EL%d, too large and misaligned: PMBPTR_EL1 stays",
		   owner);
		/* the size counts from PMBPTR_EL1, not from some base */
		s.pmbptr = BUF + 0x1000;
		spe_run(&s, 1, wl_spin, 2570);
		is(s.end_pmbsr, 0, "owner EL%d, MaxBuffSize: no event", owner);
		ok(decode_all(s.pmbptr, s.end_pmbptr, recs, MAX_RECS) >= 19,
		   "owner EL%d, MaxBuffSize: records are written", owner);
	}
}

void test_main(void)
{
	struct session s = plain(1, 0x1000);

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	gic_init();
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	check_full(1);
	check_full(2);
	check_stopped_after_full();
	check_irq();
	check_rearm(1);
	check_rearm(2);
	check_rearm_live();
	check_discard();
	check_resume();
	check_misprogrammed();
	check_too_large();
}
