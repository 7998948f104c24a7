// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two CPUs, one line: a load that another CPU's store made miss is recorded as
 * snooped and modified, and as remote if that CPU is of another socket
 * (Arm ARM D18.2, events 10, 21, 23; Data Source as the model's README says).
 *
 * Argument: sockets=N, as in -smp.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define EV_REMOTE	BIT(10)
#define EV_MODIFIED	BIT(21)
#define EV_SNOOPED	BIT(23)

#define DS_PEER_CORE	0x9
#define DS_REMOTE	0xd

#define MAX_RECS	16384
static struct record recs[MAX_RECS];
static volatile int ready[2], done;

/* Each in a line of its own */
static volatile u64 shared[8] __attribute__((aligned(64)));
static volatile u64 private[8] __attribute__((aligned(64)));

static u64 storer(u64 unused)
{
	while (!done)
		shared[0]++;
	return unused;
}

static u64 loader(u64 loops)
{
	u64 sum = 0;

	while (loops--)
		sum += shared[0] + private[0];
	return sum;
}

struct job {
	int cpu;
	fn_t fn;
	u64 arg;
	struct session s;
};

static u64 worker(u64 p)
{
	struct job *j = (void *)p;

	write_pmbsr(0);
	spe_start(&j->s);
	ready[j->cpu] = 1;
	dsb();
	while (!ready[!j->cpu])
		asm volatile("yield");
	run_at(1, j->fn, j->arg);
	done = 1;
	spe_stop(&j->s);
	return 0;
}

/* A load of this line */
static int load_of(const struct record *r, const volatile void *line)
{
	return r->op == OP_LDST && !(r->opsub & 1) && (r->addrs & BIT(A_VA)) &&
	       ADDR(r->addr[A_VA]) == (u64)line;
}

void test_main(void)
{
	struct job load = { .cpu = 0, .fn = loader, .arg = 3000000 };
	struct job store = { .cpu = 1, .fn = storer };
	int n, i, loads = 0, snooped = 0, remote = 0, wrong = 0, others = 0;
	u64 many = arg("sockets", 1) > 1;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	load.s = (struct session){ .owner = 1, .pmscr_el1 = PMSCR_E1SPE,
				   .pmsirr = 0x400 | PMSIRR_RND,
				   .pmbptr = BUF, .limit = BUF + BUF_SIZE };
	/* What it stores must be seen often; its buffer may be full early. */
	store.s = load.s;
	store.s.limit_bits = PMBLIMITR_DISCARD;
	if (FIELD(read_id_aa64dfr0(), 35, 32) < 3) {
		store.s.limit_bits = 0;
		store.s.pmbptr = BUF2;
		store.s.limit = BUF2 + 0x3000000;
	}
	cpu_start(1, worker, (u64)&store);
	worker((u64)&load);
	cpu_wait(1);

	n = decode_all(load.s.pmbptr, load.s.end_pmbptr, recs, MAX_RECS);
	for (i = 0; i < n && i < MAX_RECS; i++) {
		const struct record *r = &recs[i];
		u64 want = r->events & EV_SNOOPED ? EV_SNOOPED | EV_MODIFIED : 0;

		if (!load_of(r, shared)) {
			others += load_of(r, private);
			wrong += !!(r->events & (EV_SNOOPED | EV_MODIFIED | EV_REMOTE));
			continue;
		}
		loads++;
		snooped += !!(r->events & EV_SNOOPED);
		remote += !!(r->events & EV_REMOTE);
		if (id.pmsver < 5)
			want |= r->events & EV_REMOTE;
		else if (want && many)
			want |= EV_REMOTE;
		wrong += (r->events & (EV_SNOOPED | EV_MODIFIED | EV_REMOTE)) != want;
		if (r->has_ds && (r->events & EV_SNOOPED))
			wrong += r->ds != (many ? DS_REMOTE : DS_PEER_CORE);
	}
	print("# %d records: %d loads of the shared line, %d of the other; %d snooped, %d remote\n",
	      n, loads, others, snooped, remote);
	ok(loads > 500 && others > 500, "loads of both lines were sampled");
	is(wrong, 0, "the events and the Data Source of each load agree");
	if (id.pmsver >= 5)
		ok(snooped > loads / 4, "the shared line is snooped from the CPU that stores to it");
	else
		is(snooped, 0, "no snoop event before SPEv1p4");
	if (many)
		ok(remote > loads / 4, "that CPU is of another socket: remote");
	else
		is(remote, 0, "that CPU is of the same socket: not remote");
}
