// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * A program with a hot spot to find: it looks words up in a table of linked lists that is far too small for them.
 *
 *	hotspot ROUNDS
 *
 * find_word() takes nearly all of the time: its loads follow pointers through node_pool. hash_word() and count_word() take the rest.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define WORDS	8192
#define BUCKETS	256

struct node {
	struct node *next;
	uint64_t word;
	uint64_t count;
	uint64_t pad[5];
};

/* Not zero, and so a part of the file: perf names data only in mapped files. */
struct node node_pool[WORDS] __attribute__((aligned(4096))) = { { .count = 1 } };
struct node *buckets[BUCKETS];

__attribute__((noinline)) static unsigned int hash_word(uint64_t word)
{
	return (word * 0x9e3779b97f4a7c15ULL) >> 56;
}

__attribute__((noinline)) static struct node *find_word(struct node *n, uint64_t word)
{
	while (n && n->word != word)
		n = n->next;
	return n;
}

__attribute__((noinline)) static void count_word(struct node *n)
{
	n->count++;
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc == 2 ? strtoul(argv[1], NULL, 0) : 0;
	uint64_t x = 1;

	if (!rounds) {
		fputs("usage: hotspot ROUNDS\n", stderr);
		return 2;
	}
	for (unsigned int i = 0; i < WORDS; i++) {
		struct node *n = &node_pool[i];
		struct node **b = &buckets[hash_word(i)];

		n->word = i;
		n->next = *b;
		*b = n;
	}
	while (rounds--) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;

		uint64_t word = (x >> 33) % WORDS;

		count_word(find_word(buckets[hash_word(word)], word));
	}
	return 0;
}
