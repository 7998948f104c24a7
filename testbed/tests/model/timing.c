// SPDX-License-Identifier: GPL-2.0-only
/*
 * The numbers of the model's README, "Latencies, caches, branches": each block
 * of timing-code.S is sampled once, and its record must have just this total,
 * issue and translation latency, these events, and this Data Source. E[8], E[9]
 * and E[10], and E[19], E[20], E[21] and E[23] of SPEv1p4, follow from them.
 *
 * Arguments: sockets=N, as in -smp; cluster=1 where there are two clusters; sve=0
 * on a CPU without SVE.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define EV_L2		BIT(19)
#define EV_L2_MISS	BIT(20)
#define EV_MODIFIED	BIT(21)
#define EV_SNOOPED	BIT(23)

struct row {
	u64 pc;
	const char *name;
	u64 events;
	u32 total, xlat, ds, unused;
};

#define DS_NONE		0xff
#define BLOCK		(257 * 4)	/* INTERVAL of timing-code.S */

#define BLOCKS(name)	extern const struct row rows_##name[]; extern u64 time_##name(u64)
BLOCKS(mem);
BLOCKS(two);
BLOCKS(regime);
BLOCKS(load_cold);
BLOCKS(load_hit);
BLOCKS(load_peer);
BLOCKS(load_cluster);
BLOCKS(load_remote);
BLOCKS(store_cold);
BLOCKS(store_hit);
BLOCKS(exec);
BLOCKS(sve);
BLOCKS(branch);
extern u64 loop_taken(u64), loop_not_taken(u64), loop_alternating(u64), loop_indirect(u64);
extern char at_taken[], at_not_taken[], at_alternating[], at_indirect[],
	end_taken[], end_not_taken[], end_alternating[], end_indirect[];

#define MAX_RECS	4096
static struct record recs[MAX_RECS];

/* What the CPU's records cannot have */
static u64 events_of(const struct row *r)
{
	u64 ev = r->events;

	if (id.pmsver < 2)
		ev &= ~EV_MISALIGNED;
	if (id.pmsver < 5)
		ev &= ~(EV_L2 | EV_L2_MISS | EV_MODIFIED | EV_SNOOPED);
	return ev;
}

static const char *wrong(const struct row *row, const struct record *r)
{
	if (r->counter[C_TOTAL] != row->total)
		return "total latency";
	if (r->counter[C_ISSUE] != 1)
		return "issue latency";
	if (!!(r->counters & BIT(C_XLAT)) != !!row->xlat ||
	    r->counter[C_XLAT] != row->xlat)
		return "translation latency";
	if (r->events != events_of(row))
		return "events";
	if (r->has_ds != ((id.pmsidr & PMSIDR_LDS) && row->ds != DS_NONE) ||
	    (r->has_ds && r->ds != row->ds))
		return "Data Source";
	return 0;
}

static void check_rows(const struct row *row, int n, const char *where)
{
	int i;

	for (; row->pc; row++) {
		const struct record *r = 0;
		const char *err = 0;
		int in = 0;

		for (i = 0; i < n; i++) {
			u64 pc = ADDR(recs[i].addr[A_PC]);

			if (pc < row->pc || pc >= row->pc + BLOCK)
				continue;
			in++;
			r = &recs[i];
			err = wrong(row, r);
		}
		ok(in == 1 && !err, "%s%s: %u cycles", where, row->name, row->total);
		if (in != 1)
			print("# %d records\n", in);
		else if (err)
			print("# %s: total %u want %u, translation %u want %u, events %#lx want %#lx, Data Source %#x want %#x\n",
			      err, r->counter[C_TOTAL], row->total, r->counter[C_XLAT],
			      row->xlat, r->events, events_of(row), r->ds, row->ds);
	}
}

static u64 pmsfcr;

/*
 * Sample a function at EL1 or EL2, the first time after so many instructions;
 * gives the number of records.
 */
static int sample_from(int el, fn_t fn, u64 arg, u64 first)
{
	struct session s = {
		.owner = el, .pmbptr = BUF, .limit = BUF + 0x100000, .pmsicr = first,
		.pmsfcr = pmsfcr,
		.pmscr_el1 = el == 1 ? PMSCR_E1SPE : 0,
		.pmscr_el2 = el == 2 ? PMSCR_E1SPE : 0,
	};
	int n;

	write_pmbsr(0);
	spe_run(&s, el, fn, arg);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	if (n < 0 || n > MAX_RECS || (s.end_pmbsr & ~PMBSR_COLL))
		bail("%d records PMBSR %#lx", n, s.end_pmbsr);
	return n;
}

static int sample(int el, fn_t fn, u64 arg)
{
	return sample_from(el, fn, arg, 0);
}

static void check(int el, const struct row *rows, fn_t fn, u64 arg, const char *where)
{
	check_rows(rows, sample(el, fn, arg), where);
}

#define CHECK(el, name, arg, where)	check(el, rows_##name, time_##name, arg, where)

/* A sample that a filter drops has been to the caches, too. */
static void check_filtered(u64 va)
{
	int i, n, in = 0;

	pmsfcr = PMSFCR_FT | PMSFCR_B;
	n = sample(1, time_load_cold, va);
	for (i = 0; i < n; i++)
		in += recs[i].op == OP_LDST;
	is(in, 0, "a filter drops the first touch");
	pmsfcr = 0;
	CHECK(1, load_hit, va, "after it: ");
}

/* --- two CPUs ------------------------------------------------------------------ */

/* The other CPU samples for itself; the records are read here. */
struct job {
	fn_t fn;
	u64 arg;
	int n;
};

static u64 sample_there(u64 p)
{
	struct job *j = (void *)p;

	j->n = sample(1, j->fn, j->arg);
	return 0;
}

static void check_there(const struct row *rows, fn_t fn, u64 va)
{
	struct job j = { .fn = fn, .arg = va };
	int cpu = arg("cluster", 0) ? OTHER_CLUSTER : 1;

	cpu_start(cpu, sample_there, (u64)&j);
	cpu_wait(cpu);
	check_rows(rows, j.n, "other CPU: ");
}

#define CHECK_THERE(name, arg)	check_there(rows_##name, time_##name, arg)

/* The directory: who stored last, and has the other seen it? Each stores once. */
static void check_two_cpus(u64 va)
{
	const struct row *rows = arg("sockets", 1) > 1 ? rows_load_remote :
				 arg("cluster", 0) ? rows_load_cluster : rows_load_peer;
	fn_t fn = arg("sockets", 1) > 1 ? time_load_remote :
		  arg("cluster", 0) ? time_load_cluster : time_load_peer;

	CHECK(1, load_cold, va, "CPU 0: ");
	CHECK_THERE(store_cold, va);
	check(1, rows, fn, va, "CPU 0: ");
	CHECK_THERE(load_hit, va);
	CHECK(1, store_hit, va, "CPU 0: ");
	check_there(rows, fn, va);
	CHECK(1, load_hit, va, "CPU 0: ");
}

/* --- branches -------------------------------------------------------------------- */

#define TURNS	12

/*
 * What becomes of one branch in its first turns, mispredicted (1) or not. The
 * samples of a run are of one instruction in [at, end), not always of a branch
 * of the kind.
 */
static void check_branch(const char *name, fn_t fn, char *at, char *end,
			 const char *want, int indirect)
{
	char got[TURNS + 1];
	int i, k = 0, bad = 0, n, first;

	for (first = 64; first < 67 && !k; first++) {
		u64 pc = 0;

		n = sample_from(1, fn, TURNS, first);
		for (i = 0; i < n && k < TURNS; i++) {
			const struct record *r = &recs[i];
			int mis = !!(r->events & EV_MISPRED);

			if (r->op != OP_BRANCH || (r->opsub >> 1 & 1) != indirect ||
			    ADDR(r->addr[A_PC]) < (u64)at ||
			    ADDR(r->addr[A_PC]) >= (u64)end)
				continue;
			bad += pc && ADDR(r->addr[A_PC]) != pc;
			pc = ADDR(r->addr[A_PC]);
			bad += r->counter[C_TOTAL] != (mis ? 14 : 2) ||
			       r->counter[C_ISSUE] != 1 || (r->counters & BIT(C_XLAT));
			got[k++] = '0' + mis;
		}
	}
	got[k] = 0;
	ok(streq(got, want) && !bad,
	   "%s: mispredicted %s, 14 cycles then, else 2", name, want);
	if (!streq(got, want) || bad)
		print("# %s, %d wrong\n", got, bad);
}

#define BRANCH(name, fn, want, indirect) \
	check_branch(name, loop_##fn, at_##fn, end_##fn, want, indirect)

static void check_branches(void)
{
	CHECK(1, branch, 0, "");
	/* two-bit counters that begin with 0, strongly not taken */
	BRANCH("conditional, taken", taken, "110000000000", 0);
	BRANCH("conditional, not taken", not_taken, "000000000000", 0);
	/* the first turn, 12, is even, and TBZ takes it: up and down again */
	BRANCH("conditional, in turns", alternating, "101010101010", 0);
	/* to the target of last time; it is another in every second turn */
	BRANCH("indirect", indirect, "110101010101", 1);
}

void test_main(void)
{
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	CHECK(1, mem, BUF2, "");
	CHECK(1, exec, 0, "");
	if (feature("sve", FIELD(read_id_aa64pfr0(), 35, 32), 1)) {
		write_zcr_el2(1);
		write_zcr_el1(1);
		isb();
		CHECK(1, sve, 0, "");
	}

	/* The TLB is by address and regime, the caches by physical address */
	set_stage2(1);
	CHECK(1, two, BUF2 + 0x5000, "stage 2 on: ");
	set_stage2(0);
	CHECK(2, regime, BUF2 + 0x5000, "EL2: ");
	CHECK(1, regime, BUF2 + 0x5000, "EL1 again: ");
	if (has_vhe()) {
		set_vhe(1, 0);
		CHECK(2, regime, BUF2 + 0x5000, "EL2&0: ");
		set_vhe(0, 0);
	}
	check_filtered(BUF2 + 0x9080);
	check_two_cpus(BUF2 + 0x7040);
	check_branches();
}
