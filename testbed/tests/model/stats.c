// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the model counts, against what the program sees: sessions that end by
 * each kind of event, that a filter or Discard mode leaves nothing of. The
 * counters are read by monitor.sh, from the lines '# want'.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	4096
static struct record recs[MAX_RECS];
#define LOOPS		100000UL

static u64 records, bytes, population;

static struct session plain(void)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + BUF_SIZE,
	};

	return s;
}

/* Gives the number of records in the buffer. */
static int run(struct session *s, u64 loops)
{
	int n;

	spe_run(s, 1, wl_spin, loops);
	n = decode_all(s->pmbptr, s->end_pmbptr, recs, MAX_RECS);
	records += n;
	bytes += s->end_pmbptr - s->pmbptr;
	return n;
}

static void want(int cpu, const char *name, u64 least, u64 most)
{
	print("# want %d %s %lu %lu\n", cpu, name, least, most);
}

void test_main(void)
{
	struct session s;
	u64 filtered, lost;
	int n;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);

	s = plain();
	n = run(&s, LOOPS);
	/* 257 instructions from one sample to the next, two to a loop */
	population += 2 * LOOPS;
	ok(n >= (int)(2 * LOOPS / 257) - 1 && n <= (int)(2 * LOOPS / 257) + 1,
	   "a session: %d records", n);
	filtered = n;

	/* The same, with loads only, of which there are none */
	s = plain();
	s.pmsfcr = PMSFCR_FT | PMSFCR_LD;
	n = run(&s, LOOPS);
	population += 2 * LOOPS;
	is(n, 0, "a filter drops all records");

	/* Discard mode */
	s = plain();
	s.limit_bits = PMBLIMITR_DISCARD;
	lost = records;
	run(&s, LOOPS);
	population += 2 * LOOPS;
	is(records, lost, "Discard mode: nothing is written");

	/* Events, each once */
	s = plain();
	s.limit = s.pmbptr + PAGE_SIZE;
	run(&s, LOOPS);
	is(s.end_pmbsr, PMBSR_FULL, "the buffer is full");
	s = plain();
	s.pmbptr = BIT(50);
	s.limit = s.pmbptr + PAGE_SIZE;
	spe_run(&s, 1, wl_spin, LOOPS);
	is(s.end_pmbsr, PMBSR_ABORT(EC_STAGE1, 0x04), "a stage 1 fault");
	write_sctlr_el1(read_sctlr_el1() & ~BIT(0));
	set_stage2(1);
	s = plain();
	s.pmbptr = RAM + 0x8000000;
	s.limit = s.pmbptr + PAGE_SIZE;
	spe_run(&s, 1, wl_spin, LOOPS);
	is(PMBSR_EC(s.end_pmbsr), EC_STAGE2, "a stage 2 fault");
	set_stage2(0);
	write_sctlr_el1(read_sctlr_el1() | BIT(0));
	isb();
	s = plain();
	s.limit = s.pmbptr;
	spe_run(&s, 1, wl_spin, LOOPS);
	is(s.end_pmbsr, PMBSR_FULL, "a buffer without room is full");

	want(0, "records", records, records);
	want(0, "bytes", bytes, bytes);
	/* The way to wl_spin and back is sampled, too. */
	want(0, "population", population + 2 * 257, population + 10 * LOOPS);
	want(0, "filtered", filtered - 1, filtered + 1);
	want(0, "discarded", filtered - 1, filtered + 8);
	want(0, "samples", records + 2 * (filtered - 1), records + 2 * (filtered + 1) + 8);
	want(0, "buffer-full", 2, 2);
	want(0, "stage1-faults", 1, 1);
	want(0, "stage2-faults", 1, 1);
	want(0, "other-events", 0, 0);
	want(0, "collisions", 0, 0);
	want(0, "errors", 0, 0);
	/* The other CPU has done nothing. */
	want(1, "population", 0, 0);
	want(1, "samples", 0, 0);
	want(1, "records", 0, 0);
	want(1, "buffer-full", 0, 0);
	hold();
}
