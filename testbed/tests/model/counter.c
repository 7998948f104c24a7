// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sampling interval counter (Arm ARM D17.3): exact intervals, jitter in
 * both variants, resume and reload, frozen while profiling is disabled,
 * collisions.
 *
 * The workload runs at EL1 with only E1SPE set, so that nothing at EL2 steps
 * the counter. A distance between two samples is known from their PCs modulo
 * the loop's length.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	4096
static struct record recs[MAX_RECS];
static int ernd;

static struct session plain(u64 pmsirr)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE, .pmsirr = pmsirr,
		.pmbptr = BUF, .limit = BUF + BUF_SIZE,
	};

	return s;
}

/* Records inside the loop of wl_long, in recs; others are left out. */
static int sample_long(struct session *s, u64 loops)
{
	int n, i, out = 0;

	spe_run(s, 1, wl_long, loops);
	n = decode_all(BUF, s->end_pmbptr, recs, MAX_RECS);
	if (n < 0 || n > MAX_RECS)
		return -1;
	for (i = 0; i < n; i++) {
		u64 pc = ADDR(recs[i].addr[A_PC]);

		if (pc >= (u64)wl_long_loop &&
		    pc < (u64)wl_long_loop + 4 * WL_LONG_INSNS)
			recs[out++] = recs[i];
	}
	return out;
}

static u64 distance(int i)
{
	u64 a = ADDR(recs[i].addr[A_PC]) / 4, b = ADDR(recs[i + 1].addr[A_PC]) / 4;

	return (b + WL_LONG_INSNS - a) % WL_LONG_INSNS;
}

/* The same for two samples of wl_device */
static u64 device_distance(int i)
{
	u64 a = ADDR(recs[i].addr[A_PC]) / 4, b = ADDR(recs[i + 1].addr[A_PC]) / 4;

	return (b + WL_DEVICE_INSNS - a) % WL_DEVICE_INSNS;
}

static void check_exact(void)
{
	static const u64 intervals[] = { 1, 2, 3, 4, 16, 17, 100 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(intervals); i++) {
		u64 interval = intervals[i] * 256 + 1;
		u64 loops = 100 * interval / WL_LONG_INSNS + 10;
		struct session s = plain(intervals[i] << 8);
		int n = sample_long(&s, loops), k, wrong = 0;
		u64 want = loops * WL_LONG_INSNS / interval;

		ok(n >= (int)want - 1 && n <= (int)want + 1,
		   "INTERVAL=%lu: number of samples of a known number of instructions",
		   intervals[i]);
		if (n != (int)want)
			print("# got %d want %lu, PMBSR %#lx PMSICR %#lx\n", n, want,
			      s.end_pmbsr, s.end_pmsicr);
		for (k = 0; k + 1 < n; k++)
			wrong += distance(k) != interval % WL_LONG_INSNS;
		ok(n > 1 && !wrong, "INTERVAL=%lu, RND=0: every sample is %lu instructions after the last",
		   intervals[i], interval);
		if (wrong)
			print("# %d of %d wrong, first distance %lu\n", wrong, n - 1,
			      distance(0));
	}
}

static void check_jitter(u64 interval)
{
	struct session s = plain(interval << 8 | PMSIRR_RND);
	u64 base = interval * 256, loops, lo, hi, sum = 0, seen[4] = { 0 };
	u64 hash = 0, mean_x16, want_x16;
	int n, k, outside = 0, distinct = 0;

	loops = 2000 * (base + 128) / WL_LONG_INSNS;
	n = sample_long(&s, loops);
	if (!ok(n > 1800, "RND=1, INTERVAL=%lu: samples are taken", interval)) {
		print("# %d records PMBSR %#lx\n", n, s.end_pmbsr);
		return;
	}
	/*
	 * Without ERnd COUNT[7:0] is loaded with 0 to 255. With it the
	 * primary counter's period is fixed and each sample is 0 to 255
	 * after its end.
	 */
	lo = ernd ? base + 1 - 255 : base + 1;
	hi = base + 1 + 255;
	for (k = 0; k + 1 < n; k++) {
		u64 d = distance(k), v;

		/* the loop is longer than all jitters for these intervals */
		outside += d < lo || d > hi;
		sum += d;
		v = d - lo;
		seen[v / 64 & 3] |= BIT(v % 64);
		hash = hash * 31 + d;
	}
	is(outside, 0, "RND=1, ERnd=%d, INTERVAL=%lu: distances within %lu..%lu",
	   ernd, interval, lo, hi);
	/* mean: INTERVAL * 256 + 1, or INTERVAL * 256 + 128 (D17.3.4) */
	mean_x16 = sum * 16 / (n - 1);
	want_x16 = (base + (ernd ? 1 : 128)) * 16;
	ok(mean_x16 + 16 * 8 > want_x16 && mean_x16 < want_x16 + 16 * 8,
	   "RND=1, ERnd=%d, INTERVAL=%lu: mean distance", ernd, interval);
	print("# mean %lu/16 want %lu/16\n", mean_x16, want_x16);
	for (k = 0; k < 256; k++)
		distinct += seen[k / 64] >> (k % 64) & 1;
	ok(distinct > 200, "RND=1, ERnd=%d, INTERVAL=%lu: the jitter is spread",
	   ernd, interval);
	print("# digest jitter%lu %#lx\n", interval, hash);
}

/* Profiling is off at EL2: the counter stands still between two runs. */
static void check_resume(void)
{
	struct session s = plain(0x300);
	u64 a, b, c;
	int n, i;

	spe_start(&s);
	run_at(1, wl_spin, 100);
	a = read_pmsicr();
	for (i = 0; i < 1000; i++)
		asm volatile("nop");
	b = read_pmsicr();
	is(b, a, "PMSICR_EL1 does not change at an Exception level that is not profiled");
	run_at(1, wl_spin, 150);
	c = read_pmsicr();
	/*
	 * Both runs have the same instructions around 2 a loop. Whether the
	 * instruction that finds 0 and loads is counted differs between
	 * D17.3.3 and ASL SPEToCollectSample().
	 */
	i = (b - c) - (0x300 - a) - 2 * (150 - 100);
	ok(i == 0 || i == 1,
	   "PMSICR_EL1 counts each instruction of the profiled Exception level");
	spe_stop(&s);
	is(s.end_pmsicr, c, "PMSICR_EL1 keeps its value when profiling ends");

	/* PMSICR_EL1 != 0 resumes, from the value given. */
	s = plain(0x10000);
	s.pmsicr = 1000;
	spe_run(&s, 1, wl_long, 1);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	is(n, 1, "PMSICR_EL1 = 1000: one sample in a loop of %d", WL_LONG_INSNS);
	a = (ADDR(recs[0].addr[A_PC]) - (u64)wl_long_loop) / 4;
	/* three instructions of the way down come first */
	ok(n == 1 && a >= 1000 - 6 && a <= 1000,
	   "PMSICR_EL1 = 1000: the sample is the 1000th instruction");
	print("# it is instruction %lu of the loop, PMSICR then %#lx\n", a,
	      s.end_pmsicr);

	/* PMSICR_EL1 == 0 loads. */
	s = plain(0x10000);
	spe_run(&s, 1, wl_spin, 10);
	ok(s.end_pmsicr > 0x10000 - 40 && s.end_pmsicr < 0x10000 - 20,
	   "PMSICR_EL1 = 0 loads INTERVAL when profiling starts");

	/* Disabled by each enable bit: nothing moves. */
	s = plain(0x10000);
	s.pmsicr = 0x5678;
	s.pmscr_el1 = PMSCR_E0SPE;
	spe_run(&s, 1, wl_spin, 1000);
	is(s.end_pmsicr, 0x5678, "E1SPE=0: PMSICR_EL1 is frozen");
	s = plain(0x10000);
	s.pmsicr = 0x5678;
	s.pmbsr = PMBSR_S;
	spe_run(&s, 1, wl_spin, 1000);
	is(s.end_pmsicr, 0x5678, "PMBSR_EL1.S=1: PMSICR_EL1 is frozen");
	s = plain(0x10000);
	s.pmsicr = 0x5678;
	spe_start(&s);
	write_pmblimitr(0);
	isb();
	run_at(1, wl_spin, 1000);
	is(read_pmsicr(), 0x5678, "PMBLIMITR_EL1.E=0: PMSICR_EL1 is frozen");
	spe_stop(&s);
}

/* Interrupted at any point, the samples are the same as in one go. */
static void check_pieces(void)
{
	static u64 pcs[64];
	struct session s = plain(0x200);
	int n, m, i, wrong = 0;

	n = sample_long(&s, 7);
	for (i = 0; i < n && i < 64; i++)
		pcs[i] = recs[i].addr[A_PC];
	s = plain(0x200);
	spe_start(&s);
	run_at(1, wl_long, 7);
	spe_stop(&s);
	m = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (i = 0; i < n && i < m && i < 64; i++)
		wrong += pcs[i] != recs[i].addr[A_PC];
	ok(n > 40 && m >= n && !wrong, "the same session samples the same instructions again");

	/* Save and restore everything in the middle, as a context switch does. */
	s = plain(0x200);
	spe_start(&s);
	run_at(1, wl_long, 3);
	spe_stop(&s);
	s.pmbptr = s.end_pmbptr;
	s.pmsicr = s.end_pmsicr;
	m = s.end_pmsicr;
	spe_start(&s);
	is(read_pmsicr(), m, "a restored PMSICR_EL1 reads the same");
	run_at(1, wl_long, 3);
	spe_stop(&s);
	m = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(m > 40, "a restored session goes on");
	for (i = wrong = 0; i + 1 < m; i++) {
		u64 d = distance(i);

		/* some instructions of the way up and down lie between */
		wrong += d != 513 && !(d > 513 - 40 && d < 513);
	}
	is(wrong, 0, "a restored session keeps the interval");
}

/* --- collisions --------------------------------------------------------- */

/* 32 loads of GICD_TYPER: fewer operations than one of them takes */
static u64 few_loads(u64 gicd)
{
	asm volatile(".rept 32\n\tldr w1, [%0, #4]\n\t.endr"
		     : : "r"(gicd) : "x1", "memory");
	return 0;
}

/* What a collision must leave as it is */
#define OTHER_FIELDS	(PMBSR_DL | PMBSR_EA | 0x24UL << 26 | 0x21)

/*
 * An operation in flight for longer than the interval makes the next selection
 * collide (D17.3.7). How long one takes is IMPLEMENTATION DEFINED; here as many
 * operations as its record's total latency has cycles.
 */
static void check_collisions(void)
{
	struct session s = plain(0x100);
	u64 loops = 20, interval = 257, insns = loops * WL_DEVICE_INSNS;
	int n, k, collisions = 0, wrong = 0, early = 0;

	s.pmbsr = OTHER_FIELDS;
	spe_run(&s, 1, wl_device, loops);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (k = 0; k + 1 < n; k++) {
		u64 total = recs[k].counter[C_TOTAL];
		u64 gap = device_distance(k);

		wrong += gap != (total > interval ? 2 : 1) * interval;
		collisions += gap > interval;
	}
	is(s.end_pmbsr, OTHER_FIELDS | PMBSR_COLL,
	   "device loads at the smallest interval: COLL is set, and nothing else");
	ok(n > 100 && collisions > 50,
	   "device loads: some are sampled, and some collide");
	is(wrong, 0, "device loads: exactly those collide that are selected before the last has finished");
	ok(n + collisions >= (int)(insns / interval) - 1 &&
	   n + collisions <= (int)(insns / interval) + 1,
	   "device loads: records and collisions make the number of selections");
	print("# %d records, %d collisions, %lu instructions\n", n, collisions,
	      insns);

	/* With jitter the distances vary: none is shorter than the latency. */
	s = plain(0x100 | PMSIRR_RND);
	spe_run(&s, 1, wl_device, loops);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (k = 0; k + 1 < n; k++)
		early += device_distance(k) < recs[k].counter[C_TOTAL];
	ok(n > 50 && !early, "device loads, RND=1: none is sampled before the last has finished");
	ok(ernd ? s.end_pmbsr == PMBSR_COLL : !(s.end_pmbsr & ~PMBSR_COLL),
	   "device loads, RND=1: PMBSR_EL1");
	print("# %d records, PMBSR %#lx\n", n, s.end_pmbsr);

	/* At an interval that covers the latency nothing collides. */
	s = plain(0x200);
	spe_run(&s, 1, wl_device, loops);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	is(s.end_pmbsr, 0, "device loads at twice the interval: no collision");
	ok(n >= (int)(insns / 513) - 1 && n <= (int)(insns / 513) + 1,
	   "device loads at twice the interval: all are sampled");

	/* Nor do operations that finish at once. */
	s = plain(0x100);
	n = sample_long(&s, 20);
	is(s.end_pmbsr, 0, "no device access: no collision");
	for (k = wrong = 0; k + 1 < n; k++)
		wrong += distance(k) != interval;
	ok(n > 100 && !wrong, "no device access: all are sampled");

	/* A drain waits for what is in flight, so that the next session is free. */
	for (k = wrong = 0; k < 10; k++) {
		s = plain(0x10000);
		s.pmsicr = 15;
		spe_run(&s, 1, few_loads, 0x08000000);
		n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
		wrong += n != 1 || recs[0].counter[C_TOTAL] < 100 || s.end_pmbsr;
	}
	is(wrong, 0, "one device load in each of ten short sessions: none collides");

	/* A collision is told in discard mode, too (D17.5.5). */
	if (id.pmsver < 3)
		return;
	s = plain(0x100);
	s.limit_bits = PMBLIMITR_DISCARD;
	spe_run(&s, 1, wl_device, loops);
	is(s.end_pmbsr, PMBSR_COLL, "discard mode: COLL is set, and nothing else");
	is(s.end_pmbptr, BUF, "discard mode: no record of a collision");
}

void test_main(void)
{
	ernd = !!(read_pmsidr() & PMSIDR_ERND);
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	check_exact();
	check_jitter(1);
	check_jitter(4);
	check_jitter(12);
	check_resume();
	check_pieces();
	check_collisions();
}
