// SPDX-License-Identifier: GPL-2.0-only
/*
 * The owner's translation regime in the shapes that fault.c leaves out: the
 * buffer in the range of TTBR1, address tags, each granule, 52-bit addresses,
 * stage 1 off, HCR_EL2.DC (Arm ARM D17.7.1, D17.7.6, D8). EL1 is sampled, and
 * everything but the buffer goes through the tables of TTBR0.
 *
 * Argument: lpa2=1 where 4K granules have 52-bit addresses, and only then.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

extern char __text_start[], __data_start[];

#define MAX_RECS	4096
static struct record recs[MAX_RECS];

#define TABLE_SIZE	0x10000
static u8 tables[5][TABLE_SIZE] __attribute__((aligned(TABLE_SIZE)));

#define HCR_DC		BIT(12)
#define TCR_TBI1	BIT(38)
#define TCR_DS		BIT(59)
#define PAGES		4
#define NO_PAGE		PAGES

static const struct granule {
	const char *name;
	int shift, tg1;
} granules[] = {
	{ "4K", 12, 2 }, { "16K", 14, 1 }, { "64K", 16, 3 },
};

/* Level of the first lookup for an input address of so many bits */
static int start_level(int g, int bits)
{
	return 3 - (bits - g + (g - 3) - 1) / (g - 3) + 1;
}

/*
 * Map PAGES granules at the start of the upper range to BUF, without the one
 * of the number skip, and give their address.
 */
static u64 map_upper(int g, int bits, int skip, u64 attr)
{
	int level, start = start_level(g, bits), used = 1, i;
	u64 va = -(1UL << bits);

	memset(tables, 0, sizeof(tables));
	for (i = 0; i < PAGES; i++) {
		u64 *t = (u64 *)tables[0], a = (va + ((u64)i << g)) & (BIT(bits) - 1);

		for (level = start; level < 3; level++) {
			u64 *e = &t[a >> (g + (3 - level) * (g - 3)) & (BIT(g - 3) - 1)];

			if (!*e)
				*e = (u64)tables[used++] | PTE_VALID | PTE_TABLE;
			t = (u64 *)(*e & 0x0000ffffffff0000UL);
		}
		if (i != skip)
			t[a >> g & (BIT(g - 3) - 1)] = (BUF + ((u64)i << g)) | attr |
				PTE_VALID | PTE_TABLE;
	}
	dsb();
	return va;
}

/* T1SZ, IRGN1, ORGN1, SH1, TG1 of TCR_EL1 and of TCR_EL2 with E2H=1; no EPD1 */
static u64 tcr_upper(u64 tcr, int bits, int tg1, u64 more)
{
	tcr &= ~(BIT(23) | 0x3fUL << 16 | 0xffUL << 24 | TCR_TBI1);
	return tcr | (u64)(64 - bits) << 16 | 1UL << 24 | 1UL << 26 | 3UL << 28 |
	       (u64)tg1 << 30 | more;
}

static void write_ttbr1(int owner, u64 v)
{
	if (owner == 1)
		asm volatile("msr ttbr1_el1, %0" : : "r"(v));
	else
		asm volatile("msr S3_4_C2_C0_1, %0" : : "r"(v));
}

static u64 tcr_before;

/* set_vhe(0, 0) undoes what is done to TCR_EL2. */
static void upper_on(int owner, int bits, int tg1, u64 more)
{
	if (owner == 1) {
		/* At EL2 with E2H=0, this is the register of EL1. */
		tcr_before = read_tcr_el1();
		write_tcr_el1(tcr_upper(tcr_before, bits, tg1, more));
	} else {
		set_vhe(1, 0);
		write_tcr_el2(tcr_upper(read_tcr_el2(), bits, tg1, more));
	}
	write_ttbr1(owner, (u64)tables[0]);
	tlbi_all();
}

static void upper_off(int owner)
{
	if (owner == 1)
		write_tcr_el1(tcr_before);
	else
		set_vhe(0, 0);
	tlbi_all();
}

static struct session plain(int owner, u64 ptr, u64 size)
{
	struct session s = {
		.owner = owner, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = ptr, .limit = (ptr + size) & ~(PAGE_SIZE - 1),
	};

	return s;
}

/* Records at ptr must be in memory at BUF, from one granule into the next. */
static void check_written(int owner, u64 ptr, u64 granule, const char *fmt,
			  const char *name, int tag)
{
	u64 start = granule - 32 * id.align;
	struct session s = plain(owner, ptr + start, 2 * granule - start);
	int n, i, in = 0;

	buf_paint(BUF, PAGES * granule);
	spe_run(&s, 1, wl_spin, 257 * 40);
	n = decode_all(BUF + start, BUF + (s.end_pmbptr - ptr), recs, MAX_RECS);
	for (i = 0; i < n && i < MAX_RECS; i++)
		in += ADDR(recs[i].addr[A_PC]) >= (u64)wl_spin_loop &&
		      ADDR(recs[i].addr[A_PC]) < (u64)wl_spin_end;
	ok(n > 70 && n < 90 && in >= n - 2 && !s.end_pmbsr &&
	   s.end_pmbptr - s.pmbptr == n * id.align &&
	   buf_dirty(BUF, PAGES * granule) == BUF + start, fmt, owner, name, tag);
	if (n < 70 || s.end_pmbsr)
		print("# %d records, PMBSR %#lx PMBPTR %#lx from %#lx\n", n,
		      s.end_pmbsr, s.end_pmbptr, s.pmbptr);
}

static void check_fault(int owner, u64 ptr, u64 size, u64 pmbsr, u64 end,
			const char *fmt, const char *name)
{
	struct session s = plain(owner, ptr, size);

	spe_run(&s, 1, wl_spin, 257 * (size / id.align + 10));
	ok(s.end_pmbsr == pmbsr && s.end_pmbptr == end, fmt, owner, name);
	if (s.end_pmbsr != pmbsr || s.end_pmbptr != end)
		print("# PMBSR %#lx want %#lx, PMBPTR %#lx want %#lx\n",
		      s.end_pmbsr, pmbsr, s.end_pmbptr, end);
}

static void check_upper(int owner, const struct granule *g)
{
	static const int sizes[] = { 39, 48 };
	u64 size = 1UL << g->shift, va, tagged;
	unsigned int i;
	int tbi;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		int bits = sizes[i], start = start_level(g->shift, bits);

		for (tbi = 0; tbi < 2; tbi++) {
			va = map_upper(g->shift, bits, NO_PAGE, PTE_RW);
			upper_on(owner, bits, g->tg1, tbi ? TCR_TBI1 : 0);
			tagged = (va & (BIT(56) - 1)) | 0x5aUL << 56;
			check_written(owner, va, size,
				      "TTBR1, owner EL%d, %s granule, TBI1=%d: the buffer is written",
				      g->name, tbi);
			if (tbi)
				check_written(owner, tagged, size,
					      "TTBR1, owner EL%d, %s granule, TBI1=%d: a tag is ignored, and stays in PMBPTR_EL1",
					      g->name, tbi);
			else
				check_fault(owner, tagged, size,
					    PMBSR_ABORT(EC_STAGE1, 0x04), tagged,
					    "TTBR1, owner EL%d, %s granule: with TBI1=0 a tag is a translation fault, level 0",
					    g->name);
			upper_off(owner);
		}

		va = map_upper(g->shift, bits, 1, PTE_RW);
		upper_on(owner, bits, g->tg1, 0);
		check_fault(owner, va + size - 8 * id.align, 2 * size,
			    PMBSR_ABORT(EC_STAGE1, 0x07), va + size,
			    "TTBR1, owner EL%d, %s granule: a hole is a translation fault, level 3, at its first byte",
			    g->name);
		memset(tables[0], 0, TABLE_SIZE);
		tlbi_all();
		check_fault(owner, va, size, PMBSR_ABORT(EC_STAGE1, 0x04 + start), va,
			    "TTBR1, owner EL%d, %s granule: an empty first table is a translation fault of its level",
			    g->name);
		upper_off(owner);
	}
}

/* With TCR_EL1.DS bits 9:8 of descriptors are of the address, not SH. */
static void check_lpa2(void)
{
	static const struct granule g = { "4K", 12, 2 };
	u64 attr = PTE_RW & ~PTE_SH, va;
	u64 text = (u64)__text_start & ~(BIT(21) - 1);
	u64 *root = alloc_page();

	map(root, 0, 0, 0, 0x40000000UL, 2, PTE_ATTR(0) | PTE_AF | PTE_XN);
	map(root, 0, RAM, RAM, 0x8000000, 2, attr);
	map(root, 0, text, text, (u64)__data_start - text, 2,
	    (PTE_NORMAL & ~PTE_SH) | PTE_RO);
	write_ttbr0_el1((u64)root);
	va = map_upper(g.shift, 52, 1, attr);
	upper_on(1, 52, g.tg1, TCR_DS | 3UL << 12);
	check_fault(1, va + 0x1000 - 8 * id.align, 0x2000,
		    PMBSR_ABORT(EC_STAGE1, 0x07), va + 0x1000,
		    "TTBR1, owner EL%d, %s granule, 52 bits: written up to a hole, level 3",
		    g.name);
	memset(tables[0], 0, TABLE_SIZE);
	tlbi_all();
	check_fault(1, va, 0x1000, PMBSR_ABORT(EC_STAGE1, 0x2b), va,
		    "TTBR1, owner EL%d, %s granule, 52 bits: an empty first table is a translation fault, level -1",
		    g.name);
	upper_off(1);
	write_ttbr0_el1((u64)el1_root);
	tlbi_all();
}

/* Without stage 1 the buffer's address is its IPA. */
static void check_stage1_off(void)
{
	u64 ipa = (s2_start_level ? 0x4000000000UL : WINDOW) + (BUF - RAM);
	u64 sctlr = read_sctlr_el1();

	write_sctlr_el1(sctlr & ~BIT(0));
	tlbi_all();
	check_written(1, BUF, PAGE_SIZE,
		      "owner EL%d, stage 1 %s: the buffer is at its physical address (stage 2: %d)",
		      "off", 0);
	map(s2_root, s2_start_level, ipa, BUF, PAGES * PAGE_SIZE, 3, S2_RW);
	set_stage2(1);
	check_written(1, ipa, PAGE_SIZE,
		      "owner EL%d, stage 1 %s: stage 2 alone translates (stage 2: %d)",
		      "off", 1);
	set_stage2(0);
	write_sctlr_el1(sctlr);
	tlbi_all();

	/* DC turns stage 1 off and stage 2 on, whatever M and VM say. */
	hcr_set(HCR_DC, 0);
	tlbi_all();
	check_written(1, ipa, PAGE_SIZE,
		      "owner EL%d, %s: stage 2 alone translates (VM=%d)",
		      "HCR_EL2.DC=1", 0);
	*pte(s2_root, s2_start_level, ipa + PAGE_SIZE, 3) = 0;
	tlbi_all();
	check_fault(1, ipa + PAGE_SIZE - 8 * id.align, 2 * PAGE_SIZE,
		    PMBSR_ABORT(EC_STAGE2, 0x07), ipa + PAGE_SIZE,
		    "owner EL%d, %s: a hole is a stage 2 translation fault",
		    "HCR_EL2.DC=1");
	hcr_set(0, HCR_DC);
	tlbi_all();
}

void test_main(void)
{
	struct session s = plain(1, BUF, 0x1000);
	u64 mmfr0 = read_id_aa64mmfr0();
	unsigned int i;
	int owner, lpa2 = FIELD(mmfr0, 31, 28) == 1;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	ok(FIELD(mmfr0, 23, 20) && FIELD(mmfr0, 27, 24) != 15,
	   "the CPU has granules of 16K and 64K");
	feature("vhe", has_vhe(), 1);
	for (owner = 1; owner <= 1 + has_vhe(); owner++)
		for (i = 0; i < ARRAY_SIZE(granules); i++)
			check_upper(owner, &granules[i]);
	is(lpa2, arg("lpa2", 0), "52-bit addresses of 4K granules are as the case says");
	if (lpa2)
		check_lpa2();
	check_stage1_off();
}
