// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * A program whose every instruction, address and branch is known, to compare profiles with.
 *
 *	workload KIND PASSES	runs one kind of loop PASSES times (1 pass: 4096 iterations)
 *	workload threads PASSES	runs 'loads' as often in each of four threads, which go from CPU to CPU; prints how often one did
 *	workload time KIND	the fewest nanoseconds that one of 20 passes took
 *	workload map		says where everything is
 *
 * The loops are written in assembly, so that a label stands on each instruction that a profile is asked about. "map" prints lines
 * 'loop KIND START END' (addresses, END excluded), 'insn NAME ADDRESS' and 'data NAME START END'. The program is linked statically at
 * a fixed address: a map is true for every run.
 */

#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ITERATIONS 4096

/*
 * What the loops read and write; on pages of their own, so that no other data shares a line with them, and not zero, so that they are
 * part of the file: perf names data only in mapped files.
 */
static uint64_t source[ITERATIONS] __attribute__((aligned(4096))) = { 1 };
static uint64_t sink[ITERATIONS] __attribute__((aligned(4096))) = { 1 };
/* Larger than TLBs and most caches. */
#define FAR (4 << 20)
static uint64_t far[FAR / 8] __attribute__((aligned(4096)));
/* Two counters in one line, each written by its own thread, and the lines around them kept free. */
static struct {
	uint64_t before[512];
	uint64_t mine[2];
	uint64_t after[510];
} shared __attribute__((aligned(4096))) = { { 1 }, { 0 }, { 0 } };

/*
 * All loops: x0 = source, x1 = sink, x2 = iterations. No loop has a length that divides the usual distances of samples (a multiple of
 * 256, plus one), or all samples of a recording would hit the same instruction.
 *
 * L(NAME) makes a label, hidden lest perf takes it for a function; a loop stands between loop_KIND and end_KIND, from its first instruction to behind its last.
 */
#define L(name) ".globl " #name "\n.hidden " #name "\n" #name ":\n"
#define HEAD(kind) ".globl run_" #kind "\n.type run_" #kind ", %function\nrun_" #kind ":\n"
#define TAIL(kind) L(end_##kind) "ret\n.size run_" #kind ", . - run_" #kind "\n"

asm(".text\n.align 4\n"

    HEAD(loads)
    L(loop_loads)
    "1:\n"
    L(insn_load) "ldr x3, [x0], #8\n"
    "eor x4, x4, x3\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(loads)

    HEAD(stores)
    L(loop_stores)
    "1:\n"
    L(insn_store) "str x2, [x1], #8\n"
    "add x4, x4, x2\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(stores)

    /* A branch taken in every second iteration, one never taken, one always taken. */
    HEAD(branches)
    L(loop_branches)
    "1:\n"
    L(insn_alternate) "tbz x2, #0, 2f\n"
    "nop\n"
    "2:\n"
    L(insn_never) "cbz x2, 3f\n"
    L(insn_always) "b 3f\n"
    "nop\n"
    "3:\n"
    "subs x2, x2, #1\n"
    L(insn_back) "b.ne 1b\n"
    TAIL(branches)

    /* Scalar floating point; no memory access. */
    HEAD(floats)
    "fmov d0, #1.0\n"
    L(loop_floats)
    "1:\n"
    L(insn_fadd) "fadd d1, d1, d0\n"
    L(insn_fmul) "fmul d2, d1, d0\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(floats)

    /* Advanced SIMD: loads of 16 bytes and integer arithmetic. */
    HEAD(simd)
    L(loop_simd)
    "1:\n"
    "and x3, x2, #0xff0\n"
    L(insn_vload) "ldr q0, [x0, x3]\n"
    L(insn_vadd) "add v1.4s, v1.4s, v0.4s\n"
    "nop\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(simd)

    /* Some of everything; one load crosses from one line into the next. */
    HEAD(mixed)
    L(loop_mixed)
    "1:\n"
    "and x3, x2, #0xff8\n"
    L(insn_mixed_load) "ldr x4, [x0, x3]\n"
    L(insn_mixed_store) "str x4, [x1, x3]\n"
    L(insn_mixed_float) "fadd d1, d1, d0\n"
    L(insn_mixed_vector) "add v2.4s, v2.4s, v1.4s\n"
    L(insn_mixed_cross) "ldur x5, [x0, #60]\n"
    L(insn_mixed_branch) "tbz x2, #0, 2f\n"
    "nop\n"
    "2:\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(mixed)

    /* x0 = far: each load is on another page. */
    HEAD(pages)
    "mov x3, #0\n"
    "mov x5, #4160\n"
    L(loop_pages)
    "1:\n"
    L(insn_page_load) "ldr x4, [x0, x3]\n"
    "add x3, x3, x5\n"
    "and x3, x3, #0x3ffff8\n"
    "nop\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(pages)

    /* SVE with a predicate that leaves out some elements, and one that leaves out all. Only where the processor has it. */
    ".arch_extension sve\n"
    HEAD(sve)
    "mov x3, #1\n"
    "whilelo p1.d, xzr, x3\n"
    "pfalse p2.b\n"
    L(loop_sve)
    "1:\n"
    L(insn_sve_load) "ld1d {z0.d}, p1/z, [x0]\n"
    L(insn_sve_empty) "add z1.d, p2/m, z1.d, z0.d\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(sve)

    /* x1 = a counter in a line that another processor writes, too. */
    HEAD(share)
    L(loop_share)
    "1:\n"
    L(insn_share_load) "ldr x4, [x1]\n"
    "add x4, x4, #1\n"
    L(insn_share_store) "str x4, [x1]\n"
    "nop\n"
    "subs x2, x2, #1\n"
    "b.ne 1b\n"
    TAIL(share));

typedef void loop_fn(void *source, void *sink, uint64_t iterations);

#define KINDS(X) X(loads) X(stores) X(branches) X(floats) X(simd) X(mixed) X(pages) X(sve) X(share)
#define INSNS(X) X(load) X(store) X(alternate) X(never) X(always) X(back) X(fadd) X(fmul) X(vload) X(vadd) \
	X(mixed_load) X(mixed_store) X(mixed_float) X(mixed_vector) X(mixed_cross) X(mixed_branch) X(page_load) X(sve_load) X(sve_empty) X(share_load) X(share_store)

#define DECLARE_KIND(kind) loop_fn run_##kind; extern const char loop_##kind[], end_##kind[];
#define DECLARE_INSN(name) extern const char insn_##name[];
KINDS(DECLARE_KIND)
INSNS(DECLARE_INSN)

static const struct kind {
	const char *name;
	loop_fn *run;
	const char *start, *end;
} kinds[] = {
#define KIND(kind) { #kind, run_##kind, loop_##kind, end_##kind },
	KINDS(KIND)
};

static const struct insn {
	const char *name;
	const char *address;
} insns[] = {
#define INSN(name) { #name, insn_##name },
	INSNS(INSN)
};

static uint64_t passes;

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("workload: sched_setaffinity");
		exit(1);
	}
}

static void *sharer(void *arg)
{
	int self = (intptr_t)arg;

	pin_to(self);
	for (uint64_t i = 0; i < passes; i++)
		run_share(source, &shared.mine[self], ITERATIONS);
	return NULL;
}

/* Two threads on CPUs 0 and 1 write neighbouring words. */
static int share(void)
{
	pthread_t other;

	if (pthread_create(&other, NULL, sharer, (void *)1)) {
		fputs("workload: cannot start a thread\n", stderr);
		return 1;
	}
	sharer((void *)0);
	pthread_join(other, NULL);
	return 0;
}

#define THREADS 4
#define PASSES_ON_A_CPU 20

/* Moves to the next CPU again and again; returns how often. */
static void *wanderer(void *arg)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uintptr_t moves = 0;
	int cpu = -1;

	for (uint64_t i = 0; i < passes; i++) {
		if (i % PASSES_ON_A_CPU == 0) {
			pin_to(((intptr_t)arg + i / PASSES_ON_A_CPU) % cpus);
			moves += cpu >= 0 && sched_getcpu() != cpu;
			cpu = sched_getcpu();
		}
		run_loads(source, sink, ITERATIONS);
	}
	return (void *)moves;
}

static int threads(void)
{
	pthread_t thread[THREADS];
	uintptr_t moves = 0;
	void *n;

	for (int i = 0; i < THREADS; i++) {
		if (pthread_create(&thread[i], NULL, wanderer, (void *)(intptr_t)i)) {
			fputs("workload: cannot start a thread\n", stderr);
			return 1;
		}
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], &n);
		moves += (uintptr_t)n;
	}
	printf("%ju\n", (uintmax_t)moves);
	return 0;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static uint64_t shortest(loop_fn *run, void *from)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		uint64_t t = now();

		run(from, sink, ITERATIONS);
		t = now() - t;
		if (t < best)
			best = t;
	}
	return best;
}

static void map(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		printf("loop %s %p %p\n", kinds[i].name, (void *)kinds[i].start, (void *)kinds[i].end);
	for (size_t i = 0; i < sizeof(insns) / sizeof(insns[0]); i++)
		printf("insn %s %p\n", insns[i].name, (void *)insns[i].address);
	printf("data source %p %p\n", (void *)source, (void *)(source + ITERATIONS));
	printf("data sink %p %p\n", (void *)sink, (void *)(sink + ITERATIONS));
	printf("data far %p %p\n", (void *)far, (void *)(far + FAR / 8));
	printf("data shared %p %p\n", (void *)shared.mine, (void *)(shared.mine + 2));
}

static const struct kind *kind_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(name, kinds[i].name))
			return &kinds[i];
	fprintf(stderr, "workload: no kind %s\n", name);
	exit(2);
}

static void *reads(const struct kind *kind)
{
	if (kind->run != run_pages)
		return source;
	/* Pages that were only read would all be the one that holds zeros. */
	memset(far, 1, sizeof(far));
	return far;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "map")) {
		map();
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "time")) {
		const struct kind *timed = kind_by_name(argv[2]);

		printf("%" PRIu64 "\n", shortest(timed->run, reads(timed)));
		return 0;
	}
	if (argc == 3)
		passes = strtoull(argv[2], NULL, 0);
	if (!passes) {
		fputs("usage: workload KIND PASSES | workload threads PASSES | workload time KIND | workload map\n", stderr);
		return 2;
	}
	if (!strcmp(argv[1], "share"))
		return share();
	if (!strcmp(argv[1], "threads"))
		return threads();

	const struct kind *kind = kind_by_name(argv[1]);

	for (uint64_t n = 0; n < passes; n++)
		kind->run(reads(kind), sink, ITERATIONS);
	return 0;
}
