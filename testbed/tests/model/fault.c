// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults of writes to the profiling buffer: each status at each level of both
 * stages, for each owning regime; what PMBSR_EL1 and PMBPTR_EL1 say and what
 * stays as it was; hardware management of Access flag and dirty state
 * (Arm ARM D17.7.1, D17.7.3, D17.8.3, D17.8.4).
 *
 * EL1 is sampled. The buffer is reached through WINDOW, whose descriptors the
 * rows damage.
 *
 * Arguments: vhe=0 and hafdbs=0 on a CPU without these features; ea=N where
 * PMBIDR_EL1.EA is not the default of the version.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

#define MAX_RECS	1024
static struct record recs[MAX_RECS];

/* Offset of the buffer in WINDOW, which maps to RAM one to one */
#define OFF		(BUF - RAM)
#define VA		(WINDOW + OFF)
#define LOOPS		(257 * 4)

enum regime { EL10, EL10_S2, EL2_NVHE, EL20 };
static const char *const regime_name[] = {
	"EL1&0", "EL1&0 with stage 2", "EL2", "EL2&0",
};

static enum regime regime;

static int last_regime(void)
{
	return has_vhe() ? EL20 : EL2_NVHE;
}

static u64 *root(void)
{
	return regime <= EL10_S2 ? el1_root : el2_root;
}

static u64 ipa_window(void)
{
	return s2_start_level ? 0x4000000000UL : 0x8000000000UL;
}

/* Forget both windows and their tables. */
static void unmap_windows(void)
{
	static u32 mark;

	el1_root[WINDOW >> 39 & 511] = 0;
	el2_root[WINDOW >> 39 & 511] = 0;
	s2_root[ipa_window() >> (s2_start_level ? 30 : 39) & 511] = 0;
	if (mark)
		pool_release(mark);
	mark = pool_mark();
}

/* Map WINDOW afresh, at a level, to RAM. */
static void map_window(int level)
{
	u64 size = level == 1 ? 0x40000000UL : 0x4000000UL;

	/* level 3 for a few pages around the buffer only */
	unmap_windows();
	if (level == 3)
		map(root(), 0, VA, BUF, 16 * PAGE_SIZE, 3, PTE_RW);
	else
		map(root(), 0, WINDOW, RAM, size, level, PTE_RW);
}

/* Stage 1 to the IPA window with pages, stage 2 from there at a level. */
static void map_window_s2(int level)
{
	u64 ipa = ipa_window();

	unmap_windows();
	map(el1_root, 0, VA, ipa + OFF, 16 * PAGE_SIZE, 3, PTE_RW);
	if (level == 3)
		map(s2_root, s2_start_level, ipa + OFF, BUF, 16 * PAGE_SIZE, 3, S2_RW);
	else
		map(s2_root, s2_start_level, ipa, RAM,
		    level == 1 ? 0x40000000UL : 0x4000000UL, level, S2_RW);
}

static void set_regime(enum regime r)
{
	regime = r;
	set_vhe(r == EL20, 0);
	set_stage2(r == EL10_S2);
}

static void leave_regime(void)
{
	set_stage2(0);
	set_vhe(0, 0);
	write_sctlr_el1(read_sctlr_el1());
	regime = EL10;
}

static struct session plain(void)
{
	struct session s = {
		.owner = regime <= EL10_S2 ? 1 : 2, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = VA, .limit = VA + 0x4000,
	};

	return s;
}

/* Output address size of the regime: 36 bits, or what the CPU has. */
static void small_oa(int on)
{
	u64 ps = on ? 1 : pa_range;
	u64 tcr;

	if (regime <= EL10_S2) {
		tcr = read_tcr_el1() & ~(7UL << 32);
		write_tcr_el1(tcr | ps << 32);
	} else {
		int shift = regime == EL20 ? 32 : 16;

		tcr = read_tcr_el2() & ~(7UL << shift);
		write_tcr_el2(tcr | ps << shift);
	}
	isb();
}

static void small_pa_s2(int on)
{
	write_vtcr_el2((read_vtcr_el2() & ~(7UL << 16)) |
		       (u64)(on ? 1 : pa_range) << 16);
	isb();
}

#define BIG	BIT(40)		/* beyond 36 bits */

enum damage { INVALID, ADDRSIZE, NOAF, READONLY, TABLE_NOWHERE };

static const struct row {
	const char *name;
	enum damage damage;
	int level;		/* of the descriptor that is damaged */
	u64 fsc;
} rows[] = {
	{ "translation, level 0", INVALID, 0, 0x04 },
	{ "translation, level 1", INVALID, 1, 0x05 },
	{ "translation, level 2", INVALID, 2, 0x06 },
	{ "translation, level 3", INVALID, 3, 0x07 },
	{ "address size, level 0", ADDRSIZE, 0, 0x00 },
	{ "address size, level 1", ADDRSIZE, 1, 0x01 },
	{ "address size, level 2", ADDRSIZE, 2, 0x02 },
	{ "address size, level 3", ADDRSIZE, 3, 0x03 },
	{ "Access flag, level 1", NOAF, 1, 0x09 },
	{ "Access flag, level 2", NOAF, 2, 0x0a },
	{ "Access flag, level 3", NOAF, 3, 0x0b },
	{ "permission, level 1", READONLY, 1, 0x0d },
	{ "permission, level 2", READONLY, 2, 0x0e },
	{ "permission, level 3", READONLY, 3, 0x0f },
	{ "External abort on walk, level 1", TABLE_NOWHERE, 0, 0x15 },
	{ "External abort on walk, level 2", TABLE_NOWHERE, 1, 0x16 },
	{ "External abort on walk, level 3", TABLE_NOWHERE, 2, 0x17 },
};

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

/* A fault at the start of a record: what must hold for all of them. */
static void expect_fault(struct session *s, u64 ec, u64 fsc, const char *name)
{
	/* EC and MSS are replaced; EA and COLL kept, and DL, as none was cut */
	static const u64 before[] = {
		0, PMBSR_COLL | 0x1UL << 26 | 0x3f, PMBSR_EA | PMBSR_COLL,
	};
	static unsigned int turn;
	u64 b = before[turn++ % ARRAY_SIZE(before)];
	u64 keep = b & (PMBSR_COLL | PMBSR_EA);
	u64 mask = ~0UL;
	u64 far1 = 0x1111000011110000UL, far2 = 0x2222000022220000UL;
	u64 esr1;

	/* whether an External abort on a walk sets EA is not defined */
	if (fsc >= 0x14 && fsc <= 0x17)
		mask &= ~PMBSR_EA;
	s->pmbsr = b;
	buf_paint(BUF, 0x10000);
	write_far_el2(far2);
	write_hpfar_el2(0x12340);
	if (regime != EL20) {
		write_far_el1(far1);
		write_esr_el1(0x56);
	}
	spe_run(s, 1, wl_spin, LOOPS);
	esr1 = regime != EL20 ? read_esr_el1() : 0x56;
	is_masked(s->end_pmbsr, PMBSR_ABORT(ec, fsc) | keep, mask,
		  "%s: %s: PMBSR_EL1, EA and COLL kept", regime_name[regime], name);
	is(s->end_pmbptr, s->pmbptr, "%s: %s: PMBPTR_EL1 is the faulting VA",
	   regime_name[regime], name);
	is(buf_dirty(BUF, 0x10000), BUF + 0x10000, "%s: %s: nothing is written",
	   regime_name[regime], name);
	ok(read_far_el2() == far2 && esr1 == 0x56 &&
	   (read_hpfar_el2() & 0xfffff0) == 0x12340 &&
	   (regime == EL20 || read_far_el1() == far1),
	   "%s: %s: ESR, FAR and HPFAR are not touched", regime_name[regime], name);
}

/* The cause is gone: profiling goes on from the saved PMBPTR_EL1. */
static void expect_resume(struct session *s, const char *name)
{
	int n;

	s->pmbptr = s->end_pmbptr;
	s->pmbsr = 0;
	spe_run(s, 1, wl_spin, LOOPS);
	n = decode_all(BUF + (s->pmbptr - VA), BUF + (s->end_pmbptr - VA), recs,
		       MAX_RECS);
	ok(n >= 7 && n <= 9 && !s->end_pmbsr, "%s: %s: mended, profiling goes on",
	   regime_name[regime], name);
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
		int leaf = row->damage == TABLE_NOWHERE || row->level == 0 ? 3 :
			   row->level;
		struct session s = plain();
		u64 *e, save;

		map_window(leaf);
		tlbi_all();
		e = pte(root(), 0, VA, row->level);
		save = *e;
		if (row->damage == ADDRSIZE)
			small_oa(1);
		do_damage(row, e, 0);
		expect_fault(&s, EC_STAGE1, row->fsc, row->name);
		*e = save;
		small_oa(0);
		tlbi_all();
		if (row->fsc < 0x10)
			expect_resume(&s, row->name);
	}
	leave_regime();
}

static void check_stage2(void)
{
	unsigned int i;

	set_regime(EL10_S2);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		int leaf = row->damage == TABLE_NOWHERE || row->level == 0 ? 3 :
			   row->level;
		struct session s = plain();
		static char name[64];
		u64 *e, save;

		if (row->level < s2_start_level)
			continue;
		memcpy(name, "stage 2 ", 8);
		memcpy(name + 8, row->name, 40);
		map_window_s2(leaf);
		tlbi_all();
		e = pte(s2_root, s2_start_level, ipa_window() + OFF, row->level);
		save = *e;
		if (row->damage == ADDRSIZE)
			small_pa_s2(1);
		do_damage(row, e, 1);
		expect_fault(&s, EC_STAGE2, row->fsc, name);
		*e = save;
		small_pa_s2(0);
		tlbi_all();
		if (row->fsc < 0x10)
			expect_resume(&s, name);
	}

	/* A stage 1 table that stage 2 does not map, or not for reading */
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct session s = plain();
		static char name[80];
		u64 *e1, *e2, ipa, save;
		int leaf = row->level ? row->level : 3;

		if (row->level < s2_start_level || row->damage == TABLE_NOWHERE)
			continue;
		memcpy(name, "stage 1 walk, stage 2 ", 22);
		memcpy(name + 22, row->name, 40);
		/* the level 3 table as seen through the IPA window */
		map_window(3);
		e1 = pte(el1_root, 0, VA, 2);
		ipa = ipa_window() + ((*e1 & PTE_ADDR) - RAM);
		s2_root[ipa_window() >> (s2_start_level ? 30 : 39) & 511] = 0;
		map(s2_root, s2_start_level, ipa & ~((1UL << (39 - 9 * leaf)) - 1),
		    (*e1 & PTE_ADDR) & ~((1UL << (39 - 9 * leaf)) - 1),
		    1UL << (39 - 9 * leaf), leaf, S2_RW);
		*e1 = (*e1 & ~PTE_ADDR) | ipa;
		e2 = pte(s2_root, s2_start_level, ipa, row->level);
		save = *e2;
		if (row->damage == ADDRSIZE)
			small_pa_s2(1);
		if (row->damage == READONLY) {
			*e2 &= ~S2_READ;
			tlbi_all();
		} else {
			do_damage(row, e2, 1);
		}
		expect_fault(&s, EC_STAGE2, row->fsc, name);
		*e2 = save;
		small_pa_s2(0);
		tlbi_all();
		expect_resume(&s, name);
	}
	leave_regime();
}

/* VAs that no table can map, and stage 1 off */
static void check_va(void)
{
	static const struct {
		const char *name;
		u64 va, fsc;
	} va[] = {
		{ "VA beyond T0SZ", BIT(50), 0x04 },
		{ "VA of TTBR1_EL1 with EPD1", 0xffff000000000000UL, 0x04 },
		{ "top byte set without TBI", 0x5a00000000000000UL | VA, 0x04 },
	};
	unsigned int i;
	int r;

	for (r = EL10; r <= last_regime(); r++) {
		set_regime(r);
		map_window(3);
		tlbi_all();
		for (i = 0; i < ARRAY_SIZE(va); i++) {
			struct session s = plain();

			s.pmbptr = va[i].va;
			s.limit = (va[i].va & ~0xfffUL) + 0x4000;
			expect_fault(&s, EC_STAGE1, va[i].fsc, va[i].name);
		}
		leave_regime();
	}

	/* SCTLR_EL1.M = 0: flat, and an address beyond the PA size faults */
	set_regime(EL10);
	write_sctlr_el1(read_sctlr_el1() & ~BIT(0));
	isb();
	{
		struct session s = plain();

		s.pmbptr = BIT(52);
		s.limit = BIT(52) + 0x4000;
		expect_fault(&s, EC_STAGE1, 0x00, "MMU off, beyond the PA size");
		s.pmbptr = BUF;
		s.limit = BUF + 0x4000;
		s.pmbsr = 0;
		spe_run(&s, 1, wl_spin, LOOPS);
		ok(decode_all(BUF, s.end_pmbptr, recs, MAX_RECS) >= 7 && !s.end_pmbsr,
		   "EL1&0: MMU off: the buffer is at its physical address");
	}
	write_sctlr_el1(read_sctlr_el1() | BIT(0));
	isb();
	leave_regime();
}

static void set_ttbr1(u64 base)
{
	if (regime == EL20)
		write_ttbr1_el2(base);
	else
		write_ttbr1_el1(base);
	isb();
	tlbi_all();
}

/*
 * The base register has an address without memory, or one beyond the output
 * size, or one that stage 2 does not map. That of the lower half translates the
 * sampled code, too, so the buffer is in the upper half, which the EL2 regime
 * does not have.
 */
static void check_base(void)
{
	/* EPD1, T1SZ; cacheable, Inner Shareable, granule of 4KB */
	const u64 clear = BIT(23) | 0x3fUL << 16;
	const u64 set = 16UL << 16 | 1UL << 24 | 1UL << 26 | 3UL << 28 | 2UL << 30;
	const char *name = "External abort on walk, level 0";
	int r;

	for (r = EL10; r <= last_regime(); r++) {
		struct session s;
		u64 tcr;
		int n;

		if (r == EL2_NVHE)
			continue;
		set_regime(r);
		map_window(3);
		tcr = r == EL20 ? read_tcr_el2() : read_tcr_el1();
		if (r == EL20)
			write_tcr_el2((tcr & ~clear) | set);
		else
			write_tcr_el1((tcr & ~clear) | set);
		set_ttbr1((u64)root());

		s = plain();
		s.pmbptr |= 0xffffUL << 48;
		s.limit |= 0xffffUL << 48;
		spe_run(&s, 1, wl_spin, LOOPS);
		n = decode_all(BUF, BUF + (s.end_pmbptr - s.pmbptr), recs, MAX_RECS);
		ok(n >= 7 && n <= 9 && !s.end_pmbsr,
		   "%s: a buffer in the upper half is written", regime_name[r]);
		if (s.end_pmbsr)
			print("# PMBSR %#lx PMBPTR %#lx\n", s.end_pmbsr, s.end_pmbptr);

		/* of memory that is not there, stage 2 has a mapping */
		set_ttbr1(NOWHERE);
		expect_fault(&s, EC_STAGE1, 0x14, name);
		if (r == EL10_S2) {
			set_ttbr1(ipa_window());
			expect_fault(&s, EC_STAGE2, 0x04 + s2_start_level,
				     "base register, stage 2 translation");
		}
		small_oa(1);
		set_ttbr1(BIG);
		expect_fault(&s, EC_STAGE1, 0x00, "base register, address size");
		small_oa(0);
		if (r == EL20)
			write_tcr_el2(tcr);
		else
			write_tcr_el1(tcr);
		isb();
		tlbi_all();
		leave_regime();
	}
}

/*
 * An External abort at the base of VTTBR_EL2, which the sampled code needs, too:
 * of 16 concatenated tables of level 1 the first two are in memory, the
 * buffer's is not. Argument beyond=1: with memory at BEYOND, of 8KB.
 */
#define BEYOND		0x48000000UL

static void check_base_s2(void)
{
	u64 vtcr = read_vtcr_el2(), *first = (u64 *)BEYOND;
	struct session s;

	map(el2_root, 0, BEYOND, BEYOND, 0x200000, 2, PTE_RW);
	tlbi_all();
	memcpy(first, s2_start_level ? s2_root : (u64 *)(s2_root[0] & PTE_ADDR),
	       PAGE_SIZE);
	memset(first + 512, 0, PAGE_SIZE);
	set_regime(EL10_S2);
	map_window(3);
	/* T0SZ of 43 bits, SL0 */
	write_vtcr_el2((vtcr & ~0xffUL) | 21 | 1 << 6);
	write_vttbr_el2(BEYOND);
	*pte(el1_root, 0, VA, 3) = (2UL << 39) | PTE_RW | PTE_VALID | PTE_TABLE;
	tlbi_all();
	s = plain();
	expect_fault(&s, EC_STAGE2, 0x15,
		     "stage 2 External abort on walk, level 1, VTTBR_EL2");
	/* in the second table: not mapped, but there */
	*pte(el1_root, 0, VA, 3) = (1UL << 39) | PTE_RW | PTE_VALID | PTE_TABLE;
	tlbi_all();
	expect_fault(&s, EC_STAGE2, 0x05, "stage 2 translation, level 1, VTTBR_EL2");
	write_vtcr_el2(vtcr);
	write_vttbr_el2((u64)s2_root);
	leave_regime();
}

static void check_tbi(void)
{
	int r;

	for (r = EL10; r <= last_regime(); r++) {
		struct session s;
		u64 tbi = r == EL2_NVHE ? BIT(20) : BIT(37);
		u64 tag = 0x5aUL << 56;
		int n;

		set_regime(r);
		map_window(3);
		if (r <= EL10_S2)
			write_tcr_el1(read_tcr_el1() | tbi);
		else
			write_tcr_el2(read_tcr_el2() | tbi);
		isb();
		tlbi_all();
		s = plain();
		s.pmbptr |= tag;
		s.limit |= tag;
		spe_run(&s, 1, wl_spin, LOOPS);
		n = decode_all(BUF, BUF + (s.end_pmbptr - s.pmbptr), recs, MAX_RECS);
		ok(n >= 7 && n <= 9 && !s.end_pmbsr && s.end_pmbptr >> 56 == 0x5a,
		   "%s: TBI: PMBPTR_EL1[63:56] is ignored by translation, and kept",
		   regime_name[r]);
		if (s.end_pmbsr)
			print("# %d records PMBSR %#lx PMBPTR %#lx\n", n, s.end_pmbsr,
			      s.end_pmbptr);
		if (r <= EL10_S2)
			write_tcr_el1(read_tcr_el1() & ~tbi);
		else
			write_tcr_el2(read_tcr_el2() & ~tbi);
		isb();
		leave_regime();
	}
}

/* Writes are privileged, and PSTATE.PAN is treated as 0 (D17.7.6). */
static void check_pan(void)
{
	struct session s;
	int n;

	set_regime(EL10);
	map_window(3);
	for (n = 0; n < 16; n++)
		*pte(el1_root, 0, VA + n * PAGE_SIZE, 3) |= PTE_USER;
	tlbi_all();
	run_spsr_bits = BIT(22);
	s = plain();
	spe_run(&s, 1, wl_spin, LOOPS);
	run_spsr_bits = 0;
	n = decode_all(BUF, BUF + (s.end_pmbptr - VA), recs, MAX_RECS);
	ok(n >= 7 && !s.end_pmbsr, "EL1&0: PSTATE.PAN=1: a page with EL0 access is written");

	/* profiled at EL0, buffer without EL0 access */
	map_window(3);
	tlbi_all();
	s = plain();
	s.pmscr_el1 = PMSCR_E0SPE;
	spe_run(&s, 0, wl_spin, LOOPS);
	n = decode_all(BUF, BUF + (s.end_pmbptr - VA), recs, MAX_RECS);
	ok(n >= 7 && !s.end_pmbsr, "EL1&0: EL0 is profiled to a page without EL0 access");
	leave_regime();
}

/*
 * The first page is good, the second not: PMBPTR_EL1 is the start of the
 * second. DL says whether a record was cut.
 */
static void check_crossing(enum regime r, int s2)
{
	struct session s;
	const u8 *p, *end;
	struct record rec;
	u64 left, want;
	int turn;

	set_regime(r);
	for (turn = 0; turn < 2; turn++) {
		/* sizes of records differ with the packets that are on */
		if (s2) {
			map_window_s2(3);
			*pte(s2_root, s2_start_level, ipa_window() + OFF + PAGE_SIZE, 3) = 0;
		} else {
			map_window(3);
			*pte(root(), 0, VA + PAGE_SIZE, 3) = 0;
		}
		tlbi_all();
		buf_paint(BUF, 0x4000);
		s = plain();
		if (turn) {
			s.pmscr_el1 |= PMSCR_TS | PMSCR_CX;
			s.pmscr_el2 |= PMSCR_TS;
		}
		spe_run(&s, 1, wl_spin, 257 * 200);
		p = (u8 *)BUF;
		end = (u8 *)BUF + PAGE_SIZE;
		while (p < end && !decode(&p, end, &rec))
			;
		left = end - p;
		/* of a cut record nothing need be there; the rest is at most one */
		ok(left < id.max && (left == 0) == !(s.end_pmbsr & PMBSR_DL),
		   "%s: into the second page, packets %d: DL=1 exactly if a record was cut",
		   regime_name[r], turn);
		print("# %lu bytes of a record before the page\n", left);
		want = PMBSR_ABORT(s2 ? EC_STAGE2 : EC_STAGE1, 0x07);
		is_masked(s.end_pmbsr, want, ~PMBSR_DL,
			  "%s: into the second page, packets %d: PMBSR_EL1",
			  regime_name[r], turn);
		is(s.end_pmbptr, VA + PAGE_SIZE,
		   "%s: into the second page, packets %d: PMBPTR_EL1 is its start",
		   regime_name[r], turn);
		is(buf_dirty(BUF + PAGE_SIZE, 0x2000), BUF + PAGE_SIZE + 0x2000,
		   "%s: into the second page, packets %d: nothing behind the first",
		   regime_name[r], turn);
	}
	leave_regime();
}

/* A fault has priority over 'full' (R_DTGVZ). */
static void check_priority(void)
{
	struct session s;

	set_regime(EL10);
	map_window(3);
	*pte(el1_root, 0, VA, 3) = 0;
	tlbi_all();
	s = plain();
	s.limit = VA + PAGE_SIZE;
	s.pmbptr = s.limit - id.max;
	spe_run(&s, 1, wl_spin, LOOPS);
	is(s.end_pmbsr, PMBSR_ABORT(EC_STAGE1, 7), "a fault has priority over 'full'");
	leave_regime();
}

/* --- Access flag and dirty state ---------------------------------------------- */

/* TCR_ELx.{HA,HD} of the regime, or VTCR_EL2's */
static void set_hw(int stage, u64 ha, u64 hd)
{
	int shift = stage == 2 || regime == EL2_NVHE ? 21 : 39;
	u64 v = ha << shift | hd << (shift + 1), clear = ~(3UL << shift);

	if (stage == 2)
		write_vtcr_el2((read_vtcr_el2() & clear) | v);
	else if (regime <= EL10_S2)
		write_tcr_el1((read_tcr_el1() & clear) | v);
	else
		write_tcr_el2((read_tcr_el2() & clear) | v);
	isb();
	tlbi_all();
}

/* Map the buffer at a level; gives the descriptor of the stage. */
static u64 *map_hw(int stage, int level)
{
	if (stage == 1) {
		map_window(level);
		return pte(root(), 0, VA, level);
	}
	map_window_s2(level);
	return pte(s2_root, s2_start_level, ipa_window() + OFF, level);
}

static u64 clean(int stage, u64 v, int dbm)
{
	v = stage == 1 ? v | PTE_RO : v & ~S2_WRITE;
	return dbm ? v | PTE_DBM : v;
}

static int is_dirty(int stage, u64 v)
{
	return stage == 1 ? !(v & PTE_RO) : !!(v & S2_WRITE);
}

static void check_hw(enum regime r, int level)
{
	static const struct {
		const char *name;
		int ha, hd, af, dbm_ro;
		u64 fsc;		/* without hardware management, or 0; at level 0 */
		int hw;			/* hardware management would serve it */
	} cases[] = {
		{ "HA=0, AF=0", 0, 0, 0, 0, 0x08, 0 },
		{ "HA=1, AF=0", 1, 0, 0, 0, 0x08, 1 },
		{ "HA=1, HD=0, AF=1, DBM and read-only", 1, 0, 1, 1, 0x0c, 0 },
		{ "HA=1, HD=1, AF=1, DBM and read-only", 1, 1, 1, 1, 0x0c, 1 },
		{ "HA=1, HD=1, AF=0, DBM and read-only", 1, 1, 0, 1, 0x08, 1 },
		{ "HA=1, HD=1, AF=1, read-only without DBM", 1, 1, 1, 2, 0x0c, 0 },
	};
	int f = !!(read_pmbidr() & PMBIDR_F), stage = r == EL10_S2 ? 2 : 1;
	const char *name = regime_name[r];
	unsigned int i;

	set_regime(r);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		int serve = cases[i].hw && f, n;
		struct session s = plain();
		u64 *e = map_hw(stage, level), v = *e, before;

		if (!cases[i].af)
			v &= ~PTE_AF;
		if (cases[i].dbm_ro)
			v = clean(stage, v, cases[i].dbm_ro == 1);
		before = *e = v;
		set_hw(stage, cases[i].ha, cases[i].hd);
		buf_paint(BUF, 0x1000);
		spe_run(&s, 1, wl_spin, LOOPS);
		v = *e;
		if (serve) {
			u64 want = before | PTE_AF;

			if (cases[i].dbm_ro)
				want = stage == 1 ? want & ~PTE_RO : want | S2_WRITE;
			n = decode_all(BUF, BUF + (s.end_pmbptr - VA), recs, MAX_RECS);
			ok(n >= 7 && !s.end_pmbsr, "%s, level %d, F=%d: %s: written",
			   name, level, f, cases[i].name);
			is(v, want,
			   "%s, level %d, F=%d: %s: the descriptor has AF=1 and is dirty, and is else as it was",
			   name, level, f, cases[i].name);
		} else {
			is(s.end_pmbsr, PMBSR_ABORT(stage == 1 ? EC_STAGE1 : EC_STAGE2,
						    cases[i].fsc + level),
			   "%s, level %d, F=%d: %s: faults", name, level, f,
			   cases[i].name);
			ok(v == before && buf_dirty(BUF, 0x1000) == BUF + 0x1000,
			   "%s, level %d, F=%d: %s: nothing is changed", name, level, f,
			   cases[i].name);
		}
	}
	set_hw(stage, 0, 0);
	leave_regime();
}

/* Access the buffer where the owner runs. */
static u64 do_load(u64 va)
{
	return *(volatile u64 *)va;
}

static u64 do_store(u64 va)
{
	return *(volatile u64 *)va = 0x0101010101010101UL * CANARY;
}

/*
 * What instructions of the owner have left in the TLB. PMBIDR_EL1.F says what
 * the SPU does to descriptors, not which entries it uses: one that a store made
 * is writable, of a page that was dirty then. One that a load made is not.
 */
static void check_hw_tlb(enum regime r)
{
	static const struct {
		const char *name;
		fn_t fn;
		int reset;		/* the descriptor is clean and old again */
		int tlbi;
		u64 fsc;		/* with F=0 */
	} rows[] = {
		{ "a store", do_store, 0, 0, 0 },
		{ "a store, TLBI", do_store, 0, 1, 0 },
		{ "a store, descriptor clean and old again", do_store, 1, 0, 0 },
		{ "a store, descriptor clean and old again, TLBI", do_store, 1, 1, 0x0b },
		{ "a load", do_load, 0, 0, 0x0f },
		{ "a load, TLBI", do_load, 0, 1, 0x0f },
		{ "a load, descriptor clean and old again", do_load, 1, 0, 0x0b },
	};
	int f = !!(read_pmbidr() & PMBIDR_F), stage = r == EL10_S2 ? 2 : 1;
	int el = r <= EL10_S2 ? 1 : 2, n;
	const char *name = regime_name[r];
	unsigned int i;

	set_regime(r);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		int store = rows[i].fn == do_store;
		struct session s = plain();
		u64 *e = map_hw(stage, 3), old, v, want;

		buf_paint(BUF, 0x1000);
		old = *e = clean(stage, *e & ~PTE_AF, 1);
		set_hw(stage, 1, 1);
		run_at(el, rows[i].fn, VA);
		v = *e;
		ok((v & PTE_AF) && is_dirty(stage, v) == store,
		   "%s, F=%d: %s at EL%d manages the descriptor", name, f,
		   rows[i].name, el);
		if (rows[i].reset) {
			*e = old;
			dsb();
		}
		want = *e;
		if (rows[i].tlbi)
			tlbi_all();
		spe_run(&s, 1, wl_spin, LOOPS);
		v = *e;
		if (f || !rows[i].fsc) {
			n = decode_all(BUF, BUF + (s.end_pmbptr - VA), recs, MAX_RECS);
			ok(n >= 7 && !s.end_pmbsr, "%s, F=%d: after %s: written", name,
			   f, rows[i].name);
			if (n < 7 || s.end_pmbsr)
				print("# %d records PMBSR %#lx\n", n, s.end_pmbsr);
			/* only the entry of a store saves the SPU the walk */
			if (f && (rows[i].tlbi || !store))
				ok((v & PTE_AF) && is_dirty(stage, v),
				   "%s, F=%d: after %s: the descriptor has AF=1 and is dirty",
				   name, f, rows[i].name);
		} else {
			is(s.end_pmbsr, PMBSR_ABORT(stage == 1 ? EC_STAGE1 : EC_STAGE2,
						    rows[i].fsc),
			   "%s, F=%d: after %s: faults", name, f, rows[i].name);
			is(buf_dirty(BUF, 0x1000), BUF + 0x1000,
			   "%s, F=%d: after %s: nothing is written", name, f,
			   rows[i].name);
		}
		if (!f)
			is(v, want, "%s, F=%d: after %s: the SPU leaves the descriptor alone",
			   name, f, rows[i].name);
	}
	set_hw(stage, 0, 0);
	leave_regime();
}

/*
 * The update of a stage 1 descriptor is a write, for which stage 2 has to let
 * the table be written: a stage 2 fault of the walk.
 */
static void check_hw_table(void)
{
	int f = !!(read_pmbidr() & PMBIDR_F), hd;

	for (hd = 0; hd < 2; hd++) {
		struct session s;
		u64 *e1, *e2, ipa, table, before;

		set_regime(EL10_S2);
		map_window(3);
		e1 = pte(el1_root, 0, VA, 2);
		table = *e1 & PTE_ADDR;
		ipa = ipa_window() + (table - RAM);
		map(s2_root, s2_start_level, ipa, table, PAGE_SIZE, 3, S2_RW);
		e2 = pte(s2_root, s2_start_level, ipa, 3);
		*e2 &= ~S2_WRITE;
		*e1 = (*e1 & ~PTE_ADDR) | ipa;
		e1 = (u64 *)table + (VA >> 12 & 511);
		*e1 = before = hd ? clean(1, *e1, 1) : *e1 & ~PTE_AF;
		set_hw(1, 1, hd);
		s = plain();
		buf_paint(BUF, 0x1000);
		spe_run(&s, 1, wl_spin, LOOPS);
		is(s.end_pmbsr, f ? PMBSR_ABORT(EC_STAGE2, 0x0f) :
				    PMBSR_ABORT(EC_STAGE1, hd ? 0x0f : 0x0b),
		   "F=%d, HD=%d: a stage 1 table that stage 2 has read-only: fault of stage %d",
		   f, hd, 1 + f);
		ok(s.end_pmbptr == VA && *e1 == before &&
		   buf_dirty(BUF, 0x1000) == BUF + 0x1000,
		   "F=%d, HD=%d: a stage 1 table that stage 2 has read-only: nothing is changed",
		   f, hd);
		*e2 |= S2_WRITE;
		tlbi_all();
		if (f) {
			s.pmbptr = s.end_pmbptr;
			spe_run(&s, 1, wl_spin, LOOPS);
			ok(!s.end_pmbsr && s.end_pmbptr > VA && (*e1 & PTE_AF) &&
			   !(*e1 & PTE_RO),
			   "F=%d, HD=%d: stage 2 lets the table be written: updated, and records written",
			   f, hd);
		}
		set_hw(1, 0, 0);
		leave_regime();
	}
}

/*
 * Stage 2's descriptor of a stage 1 table: the walk's read sets its Access flag,
 * and the update of the stage 1 descriptor makes it dirty.
 */
static void check_hw_table_s2(void)
{
	static const struct {
		const char *name;
		int update;		/* stage 1's descriptor is old */
	} rows[] = { { "read by the walk", 0 }, { "written by the walk", 1 } };
	int f = !!(read_pmbidr() & PMBIDR_F);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct session s;
		u64 *e1, *e2, ipa, table, before1, before2, want2;

		set_regime(EL10_S2);
		map_window(3);
		e1 = pte(el1_root, 0, VA, 2);
		table = *e1 & PTE_ADDR;
		ipa = ipa_window() + (table - RAM);
		map(s2_root, s2_start_level, ipa, table, PAGE_SIZE, 3, S2_RW);
		e2 = pte(s2_root, s2_start_level, ipa, 3);
		*e1 = (*e1 & ~PTE_ADDR) | ipa;
		e1 = (u64 *)table + (VA >> 12 & 511);
		if (rows[i].update)
			*e1 &= ~PTE_AF;
		before1 = *e1;
		want2 = *e2 | PTE_DBM | (rows[i].update ? S2_WRITE : 0);
		*e2 = before2 = clean(2, *e2 & ~PTE_AF, 1);
		if (!rows[i].update)
			want2 &= ~S2_WRITE;
		set_hw(1, 1, 1);
		set_hw(2, 1, 1);
		s = plain();
		buf_paint(BUF, 0x1000);
		spe_run(&s, 1, wl_spin, LOOPS);
		is(s.end_pmbsr, f ? 0 : PMBSR_ABORT(EC_STAGE2, 0x0b),
		   "F=%d: a stage 1 table whose page is old and clean, %s: %s", f,
		   rows[i].name, f ? "no event" : "fault of stage 2");
		is(*e1, before1 | (f ? PTE_AF : 0),
		   "F=%d: a stage 1 table whose page is old and clean, %s: stage 1's descriptor",
		   f, rows[i].name);
		is(*e2, f ? want2 : before2,
		   "F=%d: a stage 1 table whose page is old and clean, %s: stage 2's descriptor of it",
		   f, rows[i].name);
		set_hw(1, 0, 0);
		set_hw(2, 0, 0);
		leave_regime();
	}
}

/* --- External aborts on writes ------------------------------------------------ */

/*
 * The buffer's first page or its second is not there. PMBIDR_EL1.EA says what
 * becomes of it; EA=0, 'not described', is an event with the External abort in
 * FSC, of stage 1 whatever the stages (D17.8.4.4, and the model's README).
 */
static void check_external(enum regime r, int second)
{
	int ea = PMBIDR_EA(id.pmbidr), loops = second ? 257 * 200 : LOOPS;
	const char *where = second ? "in the second page" : "in the first page";
	u64 bad = VA + (second ? PAGE_SIZE : 0), left = 0;
	struct session s;
	u32 serrors;

	set_regime(r);
	if (r == EL10_S2)
		map_window_s2(3);
	else
		map_window(3);
	if (!second)
		map(root(), 0, VA, NOWHERE, PAGE_SIZE, 3, PTE_RW);
	map(root(), 0, VA + PAGE_SIZE, NOWHERE, 15 * PAGE_SIZE, 3, PTE_RW);
	tlbi_all();
	buf_paint(BUF, 0x10000);
	s = plain();
	s.limit = VA + 0x10000;
	hcr_set(HCR_AMO, 0);
	expect_exceptions();
	asm volatile("msr daifclr, #4");
	spe_run(&s, 1, wl_spin, loops);
	asm volatile("msr daifset, #4");
	stop_expecting();
	hcr_set(0, HCR_AMO);
	serrors = exc.serrors;
	if (second) {
		const u8 *p = (u8 *)BUF, *end = (u8 *)BUF + PAGE_SIZE;
		struct record rec;

		while (p < end && !decode(&p, end, &rec))
			;
		left = end - p;
		ok(left < id.max, "%s: External abort %s: the first page is full of records",
		   regime_name[r], where);
	} else {
		is(buf_dirty(BUF, 0x10000), BUF + 0x10000,
		   "%s: External abort %s: no other page is written", regime_name[r],
		   where);
	}
	print("# EA=%d PMBSR %#lx PMBPTR %#lx SErrors %u, %lu bytes of a record before\n",
	      ea, s.end_pmbsr, s.end_pmbptr, serrors, left);
	if (ea == 0) {
		is(s.end_pmbsr, PMBSR_ABORT(EC_STAGE1, 0x10) | PMBSR_EA |
		   (left ? PMBSR_DL : 0),
		   "%s: External abort %s, EA=0: an event with EA, and DL if a record was cut",
		   regime_name[r], where);
		is(s.end_pmbptr, bad, "%s: External abort %s, EA=0: PMBPTR_EL1 is its VA",
		   regime_name[r], where);
	} else {
		is(s.end_pmbsr, 0, "%s: External abort %s, EA=%d: PMBSR_EL1 stays",
		   regime_name[r], where, ea);
		ok(s.end_pmbptr > bad, "%s: External abort %s, EA=%d: PMBPTR_EL1 moves on",
		   regime_name[r], where, ea);
	}
	ok(ea == 2 ? serrors >= 1 : !serrors, "%s: External abort %s, EA=%d: %s SError interrupt",
	   regime_name[r], where, ea, ea == 2 ? "an" : "no");
	leave_regime();
}

/* TLB maintenance of the PE covers the SPU (D17.7.8). */
static void check_tlbi(void)
{
	int r;

	for (r = EL10; r <= last_regime(); r++) {
		struct session s;
		u64 mid;

		set_regime(r);
		if (r == EL10_S2)
			map_window_s2(3);
		else
			map_window(3);
		tlbi_all();
		buf_paint(BUF, 0x10000);
		buf_paint(BUF2, 0x10000);
		s = plain();
		spe_run(&s, 1, wl_spin, LOOPS);
		mid = s.end_pmbptr;
		if (r == EL10_S2)
			*pte(s2_root, s2_start_level, ipa_window() + OFF, 3) =
				BUF2 | S2_RW | PTE_VALID | PTE_TABLE;
		else
			*pte(root(), 0, VA, 3) = BUF2 | PTE_RW | PTE_VALID | PTE_TABLE;
		tlbi_all();
		s.pmbptr = mid;
		spe_run(&s, 1, wl_spin, LOOPS);
		ok(buf_dirty(BUF + (mid - VA), 0x1000) == BUF + (mid - VA) + 0x1000 &&
		   decode_all(BUF2 + (mid - VA), BUF2 + (s.end_pmbptr - VA), recs,
			      MAX_RECS) >= 7,
		   "%s: after TLBI records go to the new page", regime_name[r]);
		leave_regime();
	}
}

void test_main(void)
{
	struct session s = {
		.owner = 1, .pmbptr = BUF, .limit = BUF + 0x1000,
	};
	int r, level;

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	feature("vhe", has_vhe(), 1);
	/* stage 1 tables in the middle of nowhere: stage 2 lets them through */
	map(s2_root, s2_start_level, NOWHERE, NOWHERE, 0x200000, 2, S2_RW);
	check_stage1(EL10);
	check_stage1(EL10_S2);
	check_stage1(EL2_NVHE);
	if (has_vhe())
		check_stage1(EL20);
	check_stage2();
	check_va();
	check_base();
	if (arg("beyond", 0))
		check_base_s2();
	check_tbi();
	check_pan();
	check_crossing(EL10, 0);
	check_crossing(EL10_S2, 1);
	check_crossing(EL2_NVHE, 0);
	if (has_vhe())
		check_crossing(EL20, 0);
	check_priority();
	if (feature("hafdbs", FIELD(read_id_aa64mmfr1(), 3, 0) == 2, 1)) {
		for (r = EL10; r <= last_regime(); r++) {
			for (level = 1; level <= 3; level++)
				check_hw(r, level);
			check_hw_tlb(r);
		}
		check_hw_table();
		check_hw_table_s2();
	}
	is(PMBIDR_EA(id.pmbidr), arg("ea", id.pmsver >= 4), "PMBIDR_EL1.EA is as the case says");
	for (r = EL10; r <= last_regime(); r++) {
		check_external(r, 0);
		check_external(r, 1);
	}
	check_tlbi();
}
