// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * What a task switch costs: two threads on one processor wait for each other in turn.
 *
 *	switches TRIPS
 *
 * Only the first thread is for profiling (perf record --per-thread), so that its events stop and start at each switch: between two
 * threads that are both profiled, perf moves the events from one to the other and leaves the hardware alone. One trip is away from the first
 * thread and back to it. Prints 'TRIPS HZ MEDIAN MEAN SWITCHES': the trips' ticks of a counter of HZ, and how often the first thread
 * was really switched away, which is TRIPS but for what else ran.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* The caches of kernel and emulator are warm, and the profiling buffer is where it stays. */
#define WARM_UP 200

static int there[2], back[2];

static uint64_t ticks(void)
{
	uint64_t t;

	asm volatile("isb\n mrs %0, cntvct_el0\n isb" : "=r" (t) :: "memory");
	return t;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *partner(void *arg)
{
	char c;

	while (read(there[0], &c, 1) == 1) {
		if (write(back[1], &c, 1) != 1)
			fail("switches: write");
	}
	return arg;
}

static void trip(void)
{
	char c = 0;

	if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
		fail("switches: pipe");
}

static long switched(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage))
		fail("switches: getrusage");
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	uint64_t hz, sum = 0, *took;
	long i, trips, before;
	pthread_t thread;
	cpu_set_t set;

	trips = argc == 2 ? atol(argv[1]) : 0;
	if (trips < 1) {
		fputs("usage: switches TRIPS\n", stderr);
		return 2;
	}
	took = calloc(trips, sizeof(*took));
	if (!took || pipe(there) || pipe(back))
		fail("switches");

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("switches: sched_setaffinity");
	if (pthread_create(&thread, NULL, partner, NULL)) {
		fputs("switches: cannot start a thread\n", stderr);
		return 1;
	}

	for (i = 0; i < WARM_UP; i++)
		trip();
	before = switched();
	for (i = 0; i < trips; i++) {
		took[i] = ticks();
		trip();
		took[i] = ticks() - took[i];
	}
	before = switched() - before;

	for (i = 0; i < trips; i++)
		sum += took[i];
	qsort(took, trips, sizeof(*took), by_size);
	asm volatile("mrs %0, cntfrq_el0" : "=r" (hz));
	printf("%ld %lu %lu %lu %ld\n", trips, hz, took[trips / 2], sum / trips, before);
	return 0;
}
