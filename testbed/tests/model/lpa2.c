// SPDX-License-Identifier: GPL-2.0-only
/*
 * The faults of fault.c where translation has one more level: 52-bit addresses
 * of 4K granules (FEAT_LPA2, TCR_ELx.DS and VTCR_EL2.DS), with lookups from
 * level -1 on and blocks at level 0. Each status at each level of both stages,
 * for each owning regime (Arm ARM D17.8.3, the statuses of D24.7.5).
 *
 * Bit 51 of the buffer's VA is set, and bit 51 of its IPA: descriptors have
 * bits 51:50 of an address in their bits 9:8, where others have SH.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

extern char __text_start[], __data_start[];

#define MAX_RECS	1024
static struct record recs[MAX_RECS];

#define START		(-1)
#define TOP		BIT(51)
#define PTE_TOP		BIT(9)
#define VA		(TOP | BUF)
#define BUF_PAGES	16
#define LOOPS		(257 * 4)
#define BEYOND		0x48000000UL	/* just behind the usual memory */

/* T0SZ of 52 bits, write-back, Inner Shareable */
#define TCR_52		(12UL | 1 << 8 | 1 << 10 | 3 << 12)
#define TCR_EPD1	BIT(23)
/* T1SZ, the same of the upper half; granule of 4K */
#define TCR_UPPER	(12UL << 16 | 1UL << 24 | 1UL << 26 | 3UL << 28 | 2UL << 30)
#define TCR_DS		BIT(59)
#define TCR_EL2_DS	BIT(32)
#define VTCR_DS		BIT(32)
#define VTCR_SL2	BIT(33)		/* from level -1 */
#define PS_52		6
#define PS_48		5
#define BIG		BIT(48)

enum regime { EL10, EL10_S2, EL2_NVHE, EL20 };
static const char *const regime_name[] = {
	"EL1&0", "EL1&0 with stage 2", "EL2", "EL2&0",
};

static enum regime regime;
static u64 *root1, *root2, *root_s2;

/* The harness's identity maps, without the SH field */
static u64 *identity(void)
{
	u64 *root = alloc_page();
	u64 attr = PTE_RW & ~PTE_SH;
	u64 text = (u64)__text_start & ~(BIT(21) - 1);
	u64 data = (u64)__data_start;

	map(root, START, 0, 0, 0x40000000UL, 2,
	    PTE_ATTR(0) | PTE_AF | PTE_XN | PTE_USER);
	map(root, START, RAM, RAM, 0x8000000, 2, attr | PTE_USER);
	map(root, START, text, text, data - text, 2,
	    (PTE_NORMAL & ~PTE_SH) | PTE_RO | PTE_USER);
	return root;
}

static u64 *identity_s2(int start)
{
	u64 *root = alloc_page(), attr = S2_RW & ~PTE_SH;

	map(root, start, 0, 0, 0x40000000UL, 2, attr & ~S2_MEMATTR);
	map(root, start, RAM, RAM, 0x8000000, 2, attr);
	return root;
}

static void set_tcr(u64 ps, u64 upper)
{
	u64 tcr = TCR_52 | (upper ? upper : TCR_EPD1);

	if (regime <= EL10_S2)
		write_tcr_el1(tcr | TCR_DS | ps << 32);
	else if (regime == EL20)
		write_tcr_el2(tcr | TCR_DS | ps << 32);
	else
		write_tcr_el2(TCR_52 | TCR_EL2_DS | BIT(31) | BIT(23) | ps << 16);
	isb();
	tlbi_all();
}

static void set_vtcr(u64 ps, u64 sl)
{
	write_vtcr_el2(TCR_52 | BIT(31) | ps << 16 | VTCR_DS | sl);
	tlbi_all();
}

static u64 *root(void)
{
	return regime <= EL10_S2 ? root1 : root2;
}

/* EL1 and stage 2 have their 52 bits all the time, EL2 while its buffer needs them. */
static void set_regime(enum regime r)
{
	regime = r;
	set_vhe(r == EL20, 0);
	if (r >= EL2_NVHE) {
		u64 sctlr = read_sctlr_el2();

		write_sctlr_el2(sctlr & ~BIT(0));
		isb();
		write_ttbr0_el2((u64)root2);
		set_tcr(PS_52, 0);
		write_sctlr_el2(sctlr);
		isb();
	}
	set_stage2(r == EL10_S2);
}

static void leave_regime(void)
{
	if (regime >= EL2_NVHE) {
		write_sctlr_el2(read_sctlr_el2() & ~BIT(0));
		isb();
		write_ttbr0_el2((u64)el2_root);
		isb();
	}
	set_stage2(0);
	set_vhe(0, 0);		/* sets TCR_EL2 and SCTLR_EL2 */
	regime = EL10;
}

static u64 block_size(int level)
{
	return BIT(39 - 9 * level);
}

/* Map the buffer with pages, or with the block of a level that it lies in. */
static void map_buf(u64 *root, int level, u64 attr)
{
	static u32 mark;
	u64 mask = level == 3 ? 0 : block_size(level) - 1;

	if (root != root_s2) {
		/* what was mapped before */
		root1[VA >> 48] = root2[VA >> 48] = root_s2[VA >> 48] = 0;
		if (mark)
			pool_release(mark);
		mark = pool_mark();
	}
	map(root, START, VA & ~mask, BUF & ~mask,
	    level == 3 ? BUF_PAGES * PAGE_SIZE : block_size(level), level, attr);
	tlbi_all();
}

static void map_s1(int level)
{
	map_buf(root(), level, PTE_RW & ~PTE_SH);
}

/* Stage 1 with pages to an IPA with bit 51, stage 2 from there at a level */
static void map_s2(int level)
{
	map_buf(root1, 3, (PTE_RW & ~PTE_SH) | PTE_TOP);
	map_buf(root_s2, level, S2_RW & ~PTE_SH);
}

static struct session plain(void)
{
	struct session s = {
		.owner = regime <= EL10_S2 ? 1 : 2, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = VA, .limit = VA + 0x4000,
	};

	return s;
}

enum damage { INVALID, ADDRSIZE, NOAF, READONLY, TABLE_NOWHERE };

static const struct row {
	const char *name;
	enum damage damage;
	int level;		/* of the descriptor that is damaged */
	u64 fsc;
} rows[] = {
	{ "translation, level -1", INVALID, -1, 0x2b },
	{ "translation, level 0", INVALID, 0, 0x04 },
	{ "translation, level 1", INVALID, 1, 0x05 },
	{ "translation, level 2", INVALID, 2, 0x06 },
	{ "translation, level 3", INVALID, 3, 0x07 },
	{ "address size, level -1", ADDRSIZE, -1, 0x29 },
	{ "address size, level 0", ADDRSIZE, 0, 0x00 },
	{ "address size, level 1", ADDRSIZE, 1, 0x01 },
	{ "address size, level 2", ADDRSIZE, 2, 0x02 },
	{ "address size, level 3", ADDRSIZE, 3, 0x03 },
	{ "Access flag, level 0", NOAF, 0, 0x08 },
	{ "Access flag, level 1", NOAF, 1, 0x09 },
	{ "Access flag, level 2", NOAF, 2, 0x0a },
	{ "Access flag, level 3", NOAF, 3, 0x0b },
	{ "permission, level 0", READONLY, 0, 0x0c },
	{ "permission, level 1", READONLY, 1, 0x0d },
	{ "permission, level 2", READONLY, 2, 0x0e },
	{ "permission, level 3", READONLY, 3, 0x0f },
	{ "External abort on walk, level 0", TABLE_NOWHERE, -1, 0x14 },
	{ "External abort on walk, level 1", TABLE_NOWHERE, 0, 0x15 },
	{ "External abort on walk, level 2", TABLE_NOWHERE, 1, 0x16 },
	{ "External abort on walk, level 3", TABLE_NOWHERE, 2, 0x17 },
};

/* The level of the leaf; level -1 has tables only. */
static int leaf(const struct row *r)
{
	return r->damage == TABLE_NOWHERE || r->level < 0 ? 3 : r->level;
}

static void do_damage(const struct row *r, u64 *e, int s2)
{
	switch (r->damage) {
	case INVALID:
		*e &= ~PTE_VALID;
		break;
	case ADDRSIZE:
		*e |= BIG;
		break;
	case NOAF:
		*e &= ~PTE_AF;
		break;
	case READONLY:
		*e = s2 ? *e & ~S2_WRITE : *e | PTE_RO;
		break;
	case TABLE_NOWHERE:
		*e = (*e & ~PTE_ADDR) | NOWHERE;
		break;
	}
	tlbi_all();
}

static void expect_fault(struct session *s, u64 ec, u64 fsc, const char *stage,
			 const char *name)
{
	buf_paint(BUF, 0x10000);
	spe_run(s, 1, wl_spin, LOOPS);
	is(s->end_pmbsr, PMBSR_ABORT(ec, fsc), "%s: %s%s: PMBSR_EL1",
	   regime_name[regime], stage, name);
	is(s->end_pmbptr, s->pmbptr, "%s: %s%s: PMBPTR_EL1 is the faulting VA",
	   regime_name[regime], stage, name);
	is(buf_dirty(BUF, 0x10000), BUF + 0x10000, "%s: %s%s: nothing is written",
	   regime_name[regime], stage, name);
}

/* Nothing is damaged, or no longer. */
static void expect_records(struct session *s, const char *stage, const char *name)
{
	int n;

	spe_run(s, 1, wl_spin, LOOPS);
	n = decode_all(BUF, BUF + (s->end_pmbptr - s->pmbptr), recs, MAX_RECS);
	ok(n >= 7 && n <= 9 && !s->end_pmbsr, "%s: %s%s: records are written",
	   regime_name[regime], stage, name);
	if (n < 7 || s->end_pmbsr)
		print("# %d records PMBSR %#lx PMBPTR %#lx\n", n, s->end_pmbsr,
		      s->end_pmbptr);
}

static void check_stage1(enum regime r)
{
	unsigned int i;

	set_regime(r);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct session s = plain();
		u64 *e, save;

		map_s1(leaf(row));
		e = pte(root(), START, VA, row->level);
		save = *e;
		if (row->damage == ADDRSIZE)
			set_tcr(PS_48, 0);
		do_damage(row, e, 0);
		expect_fault(&s, EC_STAGE1, row->fsc, "", row->name);
		*e = save;
		set_tcr(PS_52, 0);
		expect_records(&s, "mended: ", row->name);
	}
	leave_regime();
}

static void check_stage2(void)
{
	unsigned int i;

	set_regime(EL10_S2);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct session s = plain();
		u64 *e, save;

		map_s2(leaf(row));
		e = pte(root_s2, START, VA, row->level);
		save = *e;
		if (row->damage == ADDRSIZE)
			set_vtcr(PS_48, VTCR_SL2);
		do_damage(row, e, 1);
		expect_fault(&s, EC_STAGE2, row->fsc, "stage 2 ", row->name);
		*e = save;
		set_vtcr(PS_52, VTCR_SL2);
		expect_records(&s, "mended: stage 2 ", row->name);
	}

	/* Stage 1's last table at an IPA that stage 2 does not map */
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct session s = plain();
		u64 *e1, *e2, table, mask, save;

		map_s1(3);
		e1 = pte(root1, START, VA, 2);
		table = *e1 & PTE_ADDR;
		mask = block_size(leaf(row)) - 1;
		map(root_s2, START, (TOP | table) & ~mask, table & ~mask,
		    mask + 1, leaf(row), S2_RW & ~PTE_SH);
		*e1 |= PTE_TOP;
		e2 = pte(root_s2, START, TOP | table, row->level);
		save = *e2;
		if (row->damage == ADDRSIZE)
			set_vtcr(PS_48, VTCR_SL2);
		if (row->damage == READONLY) {
			*e2 &= ~S2_READ;
			tlbi_all();
		} else {
			do_damage(row, e2, 1);
		}
		expect_fault(&s, EC_STAGE2, row->fsc, "stage 1 walk, stage 2 ",
			     row->name);
		*e2 = save;
		set_vtcr(PS_52, VTCR_SL2);
		expect_records(&s, "mended: stage 1 walk, stage 2 ", row->name);
	}
	leave_regime();
}

/* Access flag and dirty state of a block of level 0, managed by hardware */
static void check_hw(enum regime r)
{
	int stage2 = r == EL10_S2;
	u64 tcr, hw, v, *e;
	struct session s;

	set_regime(r);
	if (stage2)
		map_s2(0);
	else
		map_s1(0);
	e = pte(stage2 ? root_s2 : root(), START, VA, 0);
	v = stage2 ? *e & ~(PTE_AF | S2_WRITE) : (*e & ~PTE_AF) | PTE_RO;
	*e = v | PTE_DBM;
	hw = 3UL << (stage2 || r == EL2_NVHE ? 21 : 39);
	tcr = stage2 ? read_vtcr_el2() : r == EL10 ? read_tcr_el1() : read_tcr_el2();
	if (stage2)
		write_vtcr_el2(tcr | hw);
	else if (r == EL10)
		write_tcr_el1(tcr | hw);
	else
		write_tcr_el2(tcr | hw);
	isb();
	tlbi_all();
	s = plain();
	expect_records(&s, stage2 ? "stage 2 " : "", "HA=1, HD=1, old and clean block of level 0");
	is(*e, stage2 ? v | PTE_DBM | PTE_AF | S2_WRITE : (v | PTE_DBM | PTE_AF) & ~PTE_RO,
	   "%s: HA=1, HD=1, block of level 0: AF=1 and dirty", regime_name[r]);
	if (stage2)
		write_vtcr_el2(tcr);
	else if (r == EL10)
		write_tcr_el1(tcr);
	else
		write_tcr_el2(tcr);
	isb();
	tlbi_all();
	leave_regime();
}

/*
 * The base register has an address without memory, or one beyond the output
 * size, which is a fault of level 0 wherever the lookup starts. As in fault.c,
 * the buffer is in the upper half.
 */
static void check_base(enum regime r)
{
	struct session s;

	set_regime(r);
	map_s1(3);
	s = plain();
	s.pmbptr |= 0xfffUL << 52;
	s.limit |= 0xfffUL << 52;
	set_tcr(PS_52, TCR_UPPER);
	if (r == EL20)
		write_ttbr1_el2((u64)root());
	else
		write_ttbr1_el1((u64)root());
	tlbi_all();
	expect_records(&s, "", "upper half");
	if (r == EL20)
		write_ttbr1_el2(NOWHERE);
	else
		write_ttbr1_el1(NOWHERE);
	tlbi_all();
	expect_fault(&s, EC_STAGE1, 0x13, "", "External abort on walk, level -1");
	set_tcr(1, TCR_UPPER);		/* 36 bits */
	if (r == EL20)
		write_ttbr1_el2(BIT(40));
	else
		write_ttbr1_el1(BIT(40));
	tlbi_all();
	expect_fault(&s, EC_STAGE1, 0x00, "", "address size, base register");
	set_tcr(PS_52, 0);
	leave_regime();
}

/*
 * The same of VTTBR_EL2, which the sampled code needs, too: of 16 concatenated
 * tables of level 0 the first two are in memory, the buffer's is not. (A table
 * of level -1 is always one.)
 */
static void check_base_s2(void)
{
	u64 *first = (u64 *)BEYOND;
	struct session s;

	map(el2_root, 0, BEYOND, BEYOND, 0x200000, 2, PTE_RW);
	tlbi_all();
	memcpy(first, (void *)(root_s2[0] & PTE_ADDR), PAGE_SIZE);
	memset(first + 512, 0, PAGE_SIZE);
	set_regime(EL10_S2);
	map_buf(root1, 3, (PTE_RW & ~PTE_SH) | PTE_TOP);
	set_vtcr(PS_52, 2 << 6);
	write_vttbr_el2(BEYOND);
	tlbi_all();
	s = plain();
	expect_fault(&s, EC_STAGE2, 0x14, "stage 2 ",
		     "External abort on walk, level 0, VTTBR_EL2");
	/* in the second table: not mapped, but there */
	*pte(root1, START, VA, 3) &= ~PTE_TOP;
	*pte(root1, START, VA, 3) |= BIT(48);
	tlbi_all();
	expect_fault(&s, EC_STAGE2, 0x04, "stage 2 ",
		     "translation, level 0, VTTBR_EL2");
	set_vtcr(PS_52, VTCR_SL2);
	write_vttbr_el2((u64)root_s2);
	leave_regime();
}

void test_main(void)
{
	struct session s = {
		.owner = 1, .pmbptr = BUF, .limit = BUF + 0x1000,
	};
	u64 mmfr0 = read_id_aa64mmfr0();

	if (!ok(FIELD(mmfr0, 31, 28) == 1 && FIELD(mmfr0, 43, 40) == 3 &&
		(mmfr0 & 0xf) == 6 && has_vhe(),
		"4K granules have 52-bit addresses in both stages"))
		return;
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	root1 = identity();
	root2 = identity();
	root_s2 = identity_s2(START);
	/* stage 1 tables in the middle of nowhere: stage 2 lets them through */
	map(root_s2, START, NOWHERE, NOWHERE, 0x200000, 2, S2_RW & ~PTE_SH);
	write_ttbr0_el1((u64)root1);
	write_vttbr_el2((u64)root_s2);
	set_vtcr(PS_52, VTCR_SL2);
	set_tcr(PS_52, 0);
	check_stage1(EL10);
	check_stage1(EL10_S2);
	check_stage1(EL2_NVHE);
	check_stage1(EL20);
	check_stage2();
	check_hw(EL10);
	check_hw(EL10_S2);
	check_hw(EL2_NVHE);
	check_hw(EL20);
	check_base(EL10);
	check_base(EL10_S2);
	check_base(EL20);
	if (arg("beyond", 0))
		check_base_s2();
}
