// SPDX-License-Identifier: GPL-2.0-only
/*
 * A machine with -icount repeats: each byte that the SPU writes, timestamps
 * and latencies included, and where each session ends. `cases` runs this twice
 * and compares the digests; with another spe-seed they differ.
 *
 * With sleep=on, the default of -icount, guest time begins at another value each
 * time, as the machine is idle for a moment of real time before it runs; only
 * what has no timestamp repeats, and the time that it takes.
 *
 * Arguments: ts=0 leaves timestamps out; cpus=2 has a second CPU run and sample
 * at the same time, on lines that the first stores to.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	16384
static struct record recs[MAX_RECS];

static u64 fnv(u64 hash, const void *p, u64 n)
{
	const u8 *b = p;

	while (n--)
		hash = (hash ^ *b++) * 0x100000001b3UL;
	return hash;
}

/* Both CPUs' */
static volatile u64 shared[8] __attribute__((aligned(64)));

static u64 ping(u64 loops)
{
	while (loops--)
		shared[loops & 1]++;
	return 0;
}

/* SVCs and system registers, so that exceptions are taken */
static u64 calls(u64 loops)
{
	while (loops--) {
		asm volatile("svc #0" : : : "memory");
		(void)read_cntvct();
	}
	return 0;
}

struct work {
	const char *name;
	fn_t fn;
	u64 arg;
	int el;
	u64 fcr;
};

static const struct work works[] = {
	{ "each type", wl_mix, 8000, 1, 0 },
	{ "misses, walks, branches", wl_rare, 40000, 1, 0 },
	{ "devices", wl_device, 10, 1, 0 },
	{ "exceptions", calls, 20000, 1, 0 },
	{ "EL0", wl_mix, 4000, 0, 0 },
	{ "stores to a line", ping, 200000, 1, 0 },
	{ "filtered", wl_rare, 40000, 1, PMSFCR_FT | PMSFCR_LD },
};

struct cpu {
	u64 buf, hash;
	int records;
};

static u64 ts;

static u64 sessions(u64 p)
{
	struct cpu *c = (void *)p;
	unsigned int i;
	int rnd, n;

	write_pmbsr(0);
	for (rnd = 0; rnd < 2; rnd++)
		for (i = 0; i < ARRAY_SIZE(works); i++) {
			const struct work *w = &works[i];
			u64 on = PMSCR_E1SPE | PMSCR_PA | PMSCR_CX | ts;
			struct session s = {
				.owner = 1, .pmbptr = c->buf, .limit = c->buf + 0x800000,
				.pmsirr = 0x100 | (rnd ? PMSIRR_RND : 0),
				.pmsfcr = w->fcr,
				.pmscr_el1 = on | PMSCR_E0SPE,
				.pmscr_el2 = PMSCR_PA | PMSCR_CX | ts,
			};

			spe_run(&s, w->el, w->fn, w->arg);
			n = decode_all(c->buf, s.end_pmbptr, recs, 0);
			if (n <= 0 || (s.end_pmbsr & ~PMBSR_COLL))
				bail("%s: %d records PMBSR %#lx", w->name, n, s.end_pmbsr);
			c->records += n;
			c->hash = fnv(c->hash, (void *)c->buf, s.end_pmbptr - c->buf);
			c->hash = fnv(c->hash, &s.end_pmbptr, 8);
			c->hash = fnv(c->hash, &s.end_pmbsr, 8);
			c->hash = fnv(c->hash, &s.end_pmsicr, 8);
		}
	return 0;
}

void test_main(void)
{
	static struct cpu cpus[2] = {
		{ .buf = BUF, .hash = 0xcbf29ce484222325UL },
		{ .buf = BUF + 0x800000, .hash = 0xcbf29ce484222325UL },
	};
	int i, n = arg("cpus", 1);
	u64 start = read_cntpct();

	ts = arg("ts", 1) ? PMSCR_TS : 0;
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	if (n == 2)
		cpu_start(1, sessions, (u64)&cpus[1]);
	sessions((u64)&cpus[0]);
	if (n == 2)
		cpu_wait(1);
	for (i = 0; i < n; i++) {
		ok(cpus[i].records > 10000, "CPU %d: there are records to compare", i);
		print("# %d records\n# digest cpu%d %#lx\n", cpus[i].records, i,
		      cpus[i].hash);
	}
	print("# digest time %#lx\n", read_cntpct() - start);
}
