// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The buffer of a guest's Statistical Profiling Extension: the stage 1 walk,
 * the pins, the stage 2 mappings.
 *
 * A stage 2 fault of the SPU stops profiling until somebody notices, so every
 * page that the SPU can reach, and every stage 1 table on the way, is pinned in
 * the host and writable at stage 2 before a vCPU enters the guest with its
 * buffer enabled. What is pinned stays so when the guest disables the buffer:
 * profilers do that at every switch of the profiled task.
 *
 * Nothing here is needed for safety. Stage 2 and the MMU notifiers protect the
 * host's memory from the SPU as from the CPU; a page that is not pinned costs
 * the guest a gap in its profile.
 *
 * A vCPU's set is an array of ranges of pages, contiguous in guest and host,
 * sorted by guest frame, and a few windows: ranges of guest virtual addresses
 * that were walked and whose pages are all in the set. Enabling a buffer inside
 * a valid window costs the check of a few descriptors. Anything else is walked,
 * compared with the set, and completed; windows that were not enabled for the
 * longest time make room. A page that no window uses any more goes with them.
 *
 * Lock order:
 *
 *	vcpu->mutex
 *	  kvm->srcu
 *	    mmap_lock (inside GUP and account_locked_vm())
 *	      kvm->mmu_lock
 *	        kvm->arch.spe.resize_lock
 *	          pins->lock
 *
 *	pins->reap_mutex
 *	  folio lock
 *	  pins->lock
 *
 * pins->lock protects the set. Pages enter it on the vCPU's thread only, under
 * mmu_lock and after mmu_invalidate_retry(), together with their stage 2
 * mapping, so that a notifier finds both or none. Notifiers mark what they hit
 * as stale, kick the vCPU and wait until it has left the guest. Stale ranges
 * leave the set on the vCPU's thread or in pins->work, whichever comes first:
 * unpinning may sleep, a notifier may not.
 */

#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/swap.h>
#include <linux/workqueue.h>

#include <asm/kvm_emulate.h>
#include <asm/kvm_mmu.h>
#include <asm/kvm_nested.h>
#include <asm/kvm_pgtable.h>
#include <asm/kvm_spe.h>
#include <asm/stage2_pgtable.h>

#include "trace.h"

/* Pages that are pinned, then mapped, in one go */
#define SPE_BATCH		64

/* Descriptors that are read in one go */
#define SPE_DESCS		64

/* Descriptors that an unchanged enable checks, from PMBPTR_EL1 on */
#define SPE_RECHECK_DESCS	16

/* Ranges that leave the set in one go */
#define SPE_REAP		128

/* Room in the array that only splitting a range may use */
#define SPE_SPLITS		64

/* Room in the array that stays behind an attempt, for what notifiers split */
#define SPE_SPARE		(4 * SPE_SPLITS)

/* Invalidations elsewhere in the VM that are waited for under SRCU */
#define SPE_RETRIES		16

/* Each a bit of spe_range.windows */
#define SPE_NR_WINDOWS		16

/* The last one is never valid: it has the pages of those that had to make room */
#define SPE_WINDOW_REST		(SPE_NR_WINDOWS - 1)

/*
 * Runs of pages that a buffer and its tables may consist of, and ranges in the
 * set. The ranges are passed over with pins->lock held, and moved with mmu_lock
 * held: this bounds for how long, also where the VM has no maximum.
 */
#define SPE_MAX_RUNS		BIT(18)

/* A vCPU that has not profiled for this time, or twice as long, unpins */
#define SPE_IDLE		(5 * HZ)

/* Stage 1 lookup levels are -1 to 3; the buffer itself is 'level' 4 */
#define SPE_LEVEL_BUFFER	4
#define SPE_LEVELS		5
#define SPE_LEVEL_NONE		S8_MIN

/* Pinned, but no longer what the guest's page is: to be unpinned */
#define SPE_RANGE_STALE		BIT(0)
/* Pinned, but no longer mapped writable at stage 2 */
#define SPE_RANGE_REMAP		BIT(1)
/* Used by the window that is being made */
#define SPE_RANGE_NEEDED	BIT(2)
/* guest_memfd: its pages do not move, and are not pinned */
#define SPE_RANGE_GMEM		BIT(3)

/* Pages contiguous in guest and host. There may be very many: keep it small. */
struct spe_range {
	u64	gfn;
	u64	pfn;
	u32	nr;
	u16	windows;	/* that use it */
	u8	flags;
	u8	map_shift;	/* of the stage 2 leaf */
};

static_assert(sizeof(struct spe_range) <= 32);

/* What decides how the guest's stage 1 translates, but for the tables. */
struct spe_regime {
	u64	ttbr;
	u64	tcr;
	u64	tcr2;
	u64	sctlr;
};

struct spe_window {
	u64			start;
	u64			end;
	struct spe_regime	regime;
	u64			stamp;		/* of the last enable */
	bool			used;
	bool			valid;
};

/**
 * struct kvm_spe_pins - what a vCPU has pinned
 * @vcpu: the vCPU
 * @max_pages: host pages that it may pin; ULONG_MAX without a limit
 * @charged: host pages charged to the VMM's RLIMIT_MEMLOCK
 * @lock: protects the members up to @work
 * @ranges: sorted by gfn, never overlapping
 * @nr_ranges: ranges in use
 * @capacity: ranges that there is room for
 * @nr_pages: pages in all ranges
 * @max_map_shift: no leaf is larger than this
 * @windows: the windows
 * @stamp: of the latest enable
 * @busy: the vCPU's thread is working on the set
 * @hit: a notifier hit a range that is needed, or took the room it needs: the
 *       attempt has to begin anew
 * @leftover: an attempt that was given up has pinned what no window uses
 * @last_use: in jiffies: when the buffer was last found to be in use
 * @last_exits: exits of the vCPU when pins->work last looked
 * @work: unpins what is stale, and all of an idle vCPU
 * @reap_mutex: protects @reap; orders unpinning
 * @reap: ranges on their way out
 * @pages: a batch of pages, for the vCPU's thread
 * @mapped: the ranges that they were mapped as, for the vCPU's thread
 * @descs: a batch of descriptors, for the vCPU's thread
 * @fresh: pages pinned by the current attempt
 */
struct kvm_spe_pins {
	struct kvm_vcpu		*vcpu;
	unsigned long		max_pages;
	unsigned long		charged;

	spinlock_t		lock;		/* the set: what follows */
	struct spe_range	*ranges;
	unsigned int		nr_ranges;
	unsigned int		capacity;
	unsigned long		nr_pages;
	u8			max_map_shift;
	struct spe_window	windows[SPE_NR_WINDOWS];
	u64			stamp;
	bool			busy;
	bool			hit;
	bool			leftover;
	unsigned long		last_use;
	u64			last_exits;

	struct delayed_work	work;

	struct mutex		reap_mutex;	/* what leaves the set */
	struct spe_range	reap[SPE_REAP];

	struct page		*pages[SPE_BATCH];
	struct spe_range	mapped[SPE_BATCH];
	u64			descs[SPE_DESCS];
	unsigned long		fresh;
};

/* A run of pages that the buffer, or a stage 1 table, needs. */
struct spe_need {
	u64	gfn;
	u64	va;		/* at which it is first needed */
	u32	nr;
	u16	offset;		/* of @va in the first page */
	s8	level;		/* of the table; SPE_LEVEL_BUFFER */
};

/* Why the buffer can be made ready up to some address only. */
enum spe_stop {
	SPE_STOP_END,		/* the buffer ends here */
	SPE_STOP_S1,		/* stage 1 does not map it writable: row 4 */
	SPE_STOP_NO_SLOT,	/* the SPU itself would fault: row 5 */
	SPE_STOP_LIMIT,		/* the SPU must be stopped by LIMIT: row 5 */
	SPE_STOP_TABLE,		/* a table cannot be read or pinned: row 6 */
};

/* An attempt to make a buffer ready. */
struct spe_attempt {
	struct kvm_vcpu		*vcpu;
	struct kvm_spe_pins	*pins;
	u64			start;
	u64			end;

	/* The state of the walk */
	u64			desc_ipa[SPE_LEVELS];
	s8			last_level;
	u64			table_gfn[SPE_LEVELS];
	u64			run_va;
	u64			run_ipa;
	u64			run_len;
	unsigned int		max_descs;

	/* What it found, and what became of it; need is NULL for a recheck */
	struct spe_need		*need;
	unsigned int		nr_need;
	unsigned int		need_capacity;
	const struct spe_need	*mapping;
	u64			stop;
	enum spe_stop		why;
	s8			table_level;

	bool			verify;
	bool			flush;		/* TLBs may hold what was there */
};

/**
 * kvm_spe_max_pages - host pages that a guest's buffer can need
 * @size: of the buffer, in bytes; not 0
 *
 * The pages of the buffer, one more because it may be misaligned, and the pages
 * that hold the descriptors which translate it. A host page holds the
 * descriptors of one table at most (a table may be smaller than a host page,
 * and the next one elsewhere), so at each level one page holds as many as fit
 * into the smaller of a table and a page, and one more page is needed because
 * the buffer may begin in the middle of what a page translates. The granule
 * with the most pages counts.
 *
 * Return: the number of host pages.
 */
static unsigned long kvm_spe_max_pages(u64 size)
{
	static const struct {
		u8 shift;
		u8 levels;
	} granules[] = {
		{ 12, 5 }, { 14, 4 }, { 16, 3 },
	};
	unsigned long tables = 0;

	for (int i = 0; i < ARRAY_SIZE(granules); i++) {
		unsigned int shift = granules[i].shift;
		unsigned long nr = 0;

		for (int level = 0; level < granules[i].levels; level++) {
			/* log2 of what one page of descriptors translates */
			unsigned int span = shift + level * (shift - 3) +
					    min(shift, PAGE_SHIFT) - 3;

			nr += 1 + ((size - 1) >> span) + 1;
		}

		tables = max(tables, nr);
	}

	return (size >> PAGE_SHIFT) + 1 + tables;
}

/* The pins of any vCPU, of which there are none before it is initialised. */
static struct kvm_spe_pins *spe_vcpu_pins(struct kvm_vcpu *vcpu)
{
	/* Pairs with the release in kvm_spe_pins_create() */
	return smp_load_acquire(&vcpu->arch.spe.pins);
}

/* The first range that ends behind @gfn. */
static unsigned int spe_find(const struct kvm_spe_pins *pins, u64 gfn)
{
	unsigned int lo = 0, hi = pins->nr_ranges;

	while (lo < hi) {
		unsigned int mid = lo + (hi - lo) / 2;
		const struct spe_range *r = &pins->ranges[mid];

		if (r->gfn + r->nr > gfn)
			hi = mid;
		else
			lo = mid + 1;
	}

	return lo;
}

static void spe_set_nr_pages(struct kvm_spe_pins *pins, unsigned long nr_pages)
{
	pins->nr_pages = nr_pages;
	WRITE_ONCE(pins->vcpu->stat.spe_pinned_pages, nr_pages);
}

/* Insert an empty slot before range @i. */
static struct spe_range *spe_open(struct kvm_spe_pins *pins, unsigned int i)
{
	struct spe_range *r = &pins->ranges[i];

	memmove(r + 1, r, (pins->nr_ranges - i) * sizeof(*r));
	pins->nr_ranges++;

	return r;
}

/* Let a range begin at @gfn, which is inside of range @i. */
static void spe_split(struct kvm_spe_pins *pins, unsigned int i, u64 gfn)
{
	struct spe_range *r = spe_open(pins, i);

	r[1].gfn = gfn;
	r[1].pfn = r->pfn + (gfn - r->gfn);
	r[1].nr = r->gfn + r->nr - gfn;
	r->nr = gfn - r->gfn;
}

/* Is there room for a notifier to split a range? Some is the vCPU's own. */
static bool spe_may_split(const struct kvm_spe_pins *pins)
{
	return pins->nr_ranges + SPE_BATCH < pins->capacity &&
	       pins->nr_ranges + SPE_SPARE < SPE_MAX_RUNS;
}

static bool spe_mergeable(const struct spe_range *a, const struct spe_range *b)
{
	return a->gfn + a->nr == b->gfn && a->pfn + a->nr == b->pfn &&
	       a->windows == b->windows && a->flags == b->flags &&
	       a->map_shift == b->map_shift &&
	       (u64)a->nr + b->nr <= U32_MAX;
}

/*
 * Add @n ranges of a run of pages that are not in the set. There is room. The
 * array moves once for all of them, since mmu_lock is held.
 */
static void spe_publish(struct kvm_spe_pins *pins, const struct spe_range *new,
			unsigned int n)
{
	unsigned int i = pins->nr_ranges;
	unsigned long pages = 0;
	struct spe_range *r;

	lockdep_assert_held(&pins->lock);

	for (unsigned int j = 0; j < n; j++) {
		pages += new[j].nr;
		pins->max_map_shift = max(pins->max_map_shift, new[j].map_shift);
	}
	spe_set_nr_pages(pins, pins->nr_pages + pages);

	/* Most often it comes last */
	if (i && pins->ranges[i - 1].gfn > new->gfn)
		i = spe_find(pins, new->gfn);

	if (i && spe_mergeable(&pins->ranges[i - 1], new)) {
		pins->ranges[i - 1].nr += new->nr;
		new++;
		n--;
	}

	r = &pins->ranges[i];
	memmove(r + n, r, (pins->nr_ranges - i) * sizeof(*r));
	memcpy(r, new, n * sizeof(*r));
	pins->nr_ranges += n;
}

/*
 * The pages of @new, which are in the set, are mapped writable again. The border
 * to what is not yet moves along, so that the array need not.
 */
static void spe_remapped(struct kvm_spe_pins *pins, const struct spe_range *new)
{
	u64 end = new->gfn + new->nr;
	unsigned int i;

	lockdep_assert_held(&pins->lock);

	pins->max_map_shift = max(pins->max_map_shift, new->map_shift);

	for (i = spe_find(pins, new->gfn);
	     i < pins->nr_ranges && pins->ranges[i].gfn < end; i++) {
		struct spe_range *r = &pins->ranges[i], piece;

		if (!(r->flags & SPE_RANGE_REMAP) && r->map_shift == new->map_shift)
			continue;

		piece = *r;
		piece.nr = min(r->gfn + r->nr, end) - r->gfn;
		piece.flags &= ~SPE_RANGE_REMAP;
		piece.map_shift = new->map_shift;

		if (r->gfn >= new->gfn && piece.nr == r->nr) {
			*r = piece;
		} else if (i && r->gfn >= new->gfn && spe_mergeable(r - 1, &piece)) {
			r[-1].nr += piece.nr;
			r->gfn += piece.nr;
			r->pfn += piece.nr;
			r->nr -= piece.nr;
		} else if (pins->nr_ranges == pins->capacity) {
			/* Notifiers have used the room: the attempt begins anew */
			pins->hit = true;
			return;
		} else if (r->gfn < new->gfn) {
			spe_split(pins, i, new->gfn);
		} else {
			spe_split(pins, i, end);
			*r = piece;
		}
	}
}

/*
 * Take pins->lock with room for @extra more ranges, @max in all. Returns -ENOMEM,
 * without the lock, if there is none to be had, and -E2BIG if it would be more.
 */
static int spe_lock_reserve(struct kvm_spe_pins *pins, unsigned int extra,
			    unsigned int max)
{
	struct spe_range *new, *old;
	size_t want;

	extra += SPE_SPLITS;

	spin_lock(&pins->lock);
	for (;;) {
		want = (size_t)pins->nr_ranges + extra;
		if (want <= max && want <= pins->capacity)
			return 0;
		spin_unlock(&pins->lock);

		if (want > max)
			return -E2BIG;

		want = min(want + want / 2, SPE_MAX_RUNS);
		new = kvmalloc_array(want, sizeof(*new),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!new)
			return -ENOMEM;

		spin_lock(&pins->lock);
		if (want - pins->nr_ranges < extra) {
			old = new;
		} else {
			memcpy(new, pins->ranges,
			       pins->nr_ranges * sizeof(*new));
			old = pins->ranges;
			pins->ranges = new;
			pins->capacity = want;
		}
		spin_unlock(&pins->lock);

		kvfree(old);
		spin_lock(&pins->lock);
	}
}

/*
 * The attempt is over. It took room for the worst case; what it did not need
 * goes, since there is one array for each vCPU.
 */
static void spe_trim(struct kvm_spe_pins *pins)
{
	unsigned int want = READ_ONCE(pins->nr_ranges) + SPE_SPARE;
	struct spe_range *new, *old;

	if (pins->capacity <= want + SPE_SPARE)
		return;

	new = kvmalloc_array(want, sizeof(*new), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!new)
		return;

	old = new;
	spin_lock(&pins->lock);
	/* Notifiers may have split some meanwhile */
	if (pins->nr_ranges + SPE_SPARE / 2 <= want) {
		memcpy(new, pins->ranges, pins->nr_ranges * sizeof(*new));
		old = pins->ranges;
		pins->ranges = new;
		pins->capacity = want;
	}
	spin_unlock(&pins->lock);

	kvfree(old);
}

/* Give pages back to the host. May sleep; needs no mm. */
static unsigned long spe_unpin(const struct spe_range *r)
{
	u64 pfn = r->pfn;
	u32 left = r->nr;

	while (left && !(r->flags & SPE_RANGE_GMEM)) {
		u32 nr = min(left, 512U);

		unpin_user_page_range_dirty_lock(pfn_to_page(pfn), nr, true);
		pfn += nr;
		left -= nr;
		cond_resched();
	}

	return r->nr;
}

typedef bool (*spe_match_fn)(const struct spe_range *r);

static bool spe_match_stale(const struct spe_range *r)
{
	return r->flags & SPE_RANGE_STALE;
}

static bool spe_match_unused(const struct spe_range *r)
{
	return !r->windows && !(r->flags & SPE_RANGE_NEEDED);
}

static bool spe_match_all(const struct spe_range *r)
{
	return true;
}

/*
 * Unpin every range that matches. Pages count until they are unpinned: who finds
 * that there are too many waits here for those that are on their way.
 *
 * Returns the number of pages.
 */
static unsigned long spe_reap(struct kvm_spe_pins *pins, spe_match_fn match)
{
	struct spe_range *many = NULL, *out = pins->reap;
	unsigned int from, to, nr, room = SPE_REAP;
	unsigned long unpinned = 0, pages;

	might_sleep();

	mutex_lock(&pins->reap_mutex);

	spin_lock(&pins->lock);
	for (from = nr = 0; from < pins->nr_ranges; from++)
		nr += match(&pins->ranges[from]);
	spin_unlock(&pins->lock);

	/* One pass over the array instead of many, if there is memory for it */
	if (nr > SPE_REAP)
		many = kvmalloc_array(nr, sizeof(*many), GFP_KERNEL_ACCOUNT |
				      __GFP_NOWARN | __GFP_NORETRY);
	if (many) {
		out = many;
		room = nr;
	}

	do {
		nr = 0;

		spin_lock(&pins->lock);
		for (from = to = 0; from < pins->nr_ranges; from++) {
			struct spe_range *r = &pins->ranges[from];

			if (nr < room && match(r)) {
				out[nr++] = *r;
				continue;
			}

			if (to != from)
				pins->ranges[to] = *r;
			to++;
		}
		pins->nr_ranges = to;
		if (!to)
			pins->max_map_shift = PAGE_SHIFT;
		spin_unlock(&pins->lock);

		pages = 0;
		for (unsigned int i = 0; i < nr; i++)
			pages += spe_unpin(&out[i]);

		spin_lock(&pins->lock);
		spe_set_nr_pages(pins, pins->nr_pages - pages);
		spin_unlock(&pins->lock);
		unpinned += pages;
	} while (nr == room);

	mutex_unlock(&pins->reap_mutex);
	kvfree(many);

	if (unpinned)
		trace_kvm_spe_unpin(pins->vcpu->vcpu_id, unpinned,
				    READ_ONCE(pins->nr_pages));

	return unpinned;
}

static void spe_drop_window(struct spe_window *w)
{
	w->used = false;
	w->valid = false;
}

static void spe_forget_windows(struct kvm_spe_pins *pins)
{
	lockdep_assert_held(&pins->lock);

	for (int i = 0; i < SPE_NR_WINDOWS; i++)
		spe_drop_window(&pins->windows[i]);
}

/*
 * Is the vCPU profiling, or about to? A buffer can stay enabled for hours, while
 * the VM is paused or the guest idle.
 */
static bool spe_in_use(struct kvm_spe_pins *pins)
{
	struct kvm_vcpu *vcpu = pins->vcpu;
	u64 exits = READ_ONCE(vcpu->stat.exits);
	bool ran = exits != pins->last_exits || READ_ONCE(vcpu->cpu) != -1;

	lockdep_assert_held(&pins->lock);

	pins->last_exits = exits;

	/* Not 'ready', which it is not while the guest handles an event */
	return pins->busy ||
	       (ran && (__vcpu_sys_reg(vcpu, PMBLIMITR_EL1) & PMBLIMITR_EL1_E));
}

/* Let the vCPU look at its buffer, and wait until it has left the guest. */
static void spe_kick(struct kvm_vcpu *vcpu)
{
	DECLARE_BITMAP(kick, KVM_MAX_VCPUS);

	bitmap_zero(kick, KVM_MAX_VCPUS);
	__set_bit(vcpu->vcpu_idx, kick);
	kvm_make_vcpus_request_mask(vcpu->kvm, KVM_REQ_SPE | KVM_REQUEST_WAIT |
				    KVM_REQUEST_NO_WAKEUP, kick);
}

/* Delayed work: it touches no mm, so that it can outlive the VMM's. */
static void spe_work(struct work_struct *work)
{
	struct kvm_spe_pins *pins = container_of(to_delayed_work(work),
						 struct kvm_spe_pins, work);
	struct spe_range *unused = NULL;
	bool idle, again;

	spe_reap(pins, spe_match_stale);

	spin_lock(&pins->lock);
	if (spe_in_use(pins))
		pins->last_use = jiffies;
	idle = time_after_eq(jiffies, pins->last_use + SPE_IDLE);
	if (idle) {
		spe_forget_windows(pins);
		/* An attempt that begins now must not claim what goes */
		for (unsigned int i = 0; i < pins->nr_ranges; i++)
			pins->ranges[i].flags |= SPE_RANGE_STALE;
	}
	spin_unlock(&pins->lock);

	if (idle) {
		/*
		 * A buffer that is enabled is pinned again before the vCPU
		 * enters the guest. It may just have done so.
		 */
		spe_kick(pins->vcpu);
		spe_reap(pins, spe_match_stale);
	}

	/* With nothing pinned, not even the array is worth its memory */
	spin_lock(&pins->lock);
	again = pins->nr_ranges;
	if (!again && !pins->busy) {
		unused = pins->ranges;
		pins->ranges = NULL;
		pins->capacity = 0;
	}
	spin_unlock(&pins->lock);

	kvfree(unused);

	if (again)
		queue_delayed_work(system_dfl_wq, &pins->work, SPE_IDLE);
}

/*
 * A notifier, or KVM itself, takes rights of [start, end) at stage 2 away.
 * Returns true if the set of the vCPU has pages there.
 *
 * @flag says what becomes of them. Taking a right from a part of a block takes
 * it from all of the block.
 */
static bool spe_mark(struct kvm_spe_pins *pins, u64 start, u64 end, u8 flag)
{
	u64 widest, from, to;
	bool found = false;
	unsigned int i;

	guard(spinlock)(&pins->lock);

	if (!pins->nr_ranges)
		return false;

	widest = BIT_ULL(pins->max_map_shift - PAGE_SHIFT);
	to = ALIGN(end, widest);

	for (i = spe_find(pins, ALIGN_DOWN(start, widest));
	     i < pins->nr_ranges && pins->ranges[i].gfn < to; i++) {
		struct spe_range *r = &pins->ranges[i];
		u64 leaf = BIT_ULL(r->map_shift - PAGE_SHIFT);
		u64 hi;

		from = max(r->gfn, ALIGN_DOWN(start, leaf));
		hi = min(r->gfn + r->nr, ALIGN(end, leaf));
		if (from >= hi)
			continue;

		found = true;
		if (r->flags & SPE_RANGE_NEEDED)
			pins->hit = true;
		if (r->flags & flag)
			continue;

		/*
		 * Mark what is hit, or, when the array has no room to split the
		 * range, all of it: the rest is then pinned again.
		 */
		if (from > r->gfn && spe_may_split(pins)) {
			spe_split(pins, i, from);
			continue;
		}
		if (hi < r->gfn + r->nr && spe_may_split(pins))
			spe_split(pins, i, hi);

		r->flags |= flag;

		for (int w = 0; w < SPE_NR_WINDOWS; w++) {
			if (r->windows & BIT(w))
				pins->windows[w].valid = false;
		}
	}

	return found;
}

static void spe_mark_all_vcpus(struct kvm *kvm, gfn_t start, gfn_t end, u8 flag)
{
	DECLARE_BITMAP(kick, KVM_MAX_VCPUS);
	struct kvm_spe_pins *pins;
	struct kvm_vcpu *vcpu;
	bool any = false;
	unsigned long i;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!kvm_has_spe(kvm))
		return;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		pins = spe_vcpu_pins(vcpu);
		if (!pins || !READ_ONCE(pins->nr_pages) ||
		    !spe_mark(pins, start, end, flag))
			continue;

		trace_kvm_spe_stale(vcpu->vcpu_id, start, end,
				    flag == SPE_RANGE_STALE);

		if (!any)
			bitmap_zero(kick, KVM_MAX_VCPUS);
		any = true;
		__set_bit(i, kick);

		/*
		 * The vCPU unpins before it next enters the guest. It may not
		 * be about to: the pages go back at once all the same.
		 */
		if (flag == SPE_RANGE_STALE)
			mod_delayed_work(system_dfl_wq, &pins->work, 0);
	}

	/*
	 * Wait for the vCPUs to leave the guest: the exit drains and disables
	 * the buffer, so that the SPU never runs on the hole. An idle vCPU need
	 * not be woken for it. Waiting for an IPI under mmu_lock is fine: those
	 * who want the lock spin with interrupts enabled.
	 */
	if (any)
		kvm_make_vcpus_request_mask(kvm, KVM_REQ_SPE | KVM_REQUEST_WAIT |
					    KVM_REQUEST_NO_WAKEUP, kick);
}

/**
 * __kvm_spe_unmap_gfn_range - stage 2 is about to lose pages
 * @kvm: the VM
 * @start: the first page
 * @end: the first page behind
 *
 * Context: mmu_lock held for write, before the unmap; does not sleep.
 */
void __kvm_spe_unmap_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end)
{
	spe_mark_all_vcpus(kvm, start, end, SPE_RANGE_STALE);
}

/**
 * __kvm_spe_wp_gfn_range - stage 2 is about to be write-protected
 * @kvm: the VM
 * @start: the first page
 * @end: the first page behind
 *
 * For the dirty log. The pages stay pinned. A buffer that is enabled, or is
 * enabled later, gets them writable again, one by one, and marks them dirty; a
 * buffer that is not enabled keeps none of them dirty.
 *
 * Context: mmu_lock held for write, before the change; does not sleep.
 */
void __kvm_spe_wp_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end)
{
	spe_mark_all_vcpus(kvm, start, end, SPE_RANGE_REMAP);
}

/**
 * __kvm_spe_gfn_range_pinned - may the SPU of a vCPU use one of these pages?
 * @kvm: the VM
 * @start: the first page
 * @end: the first page behind
 *
 * Context: mmu_lock held.
 */
bool __kvm_spe_gfn_range_pinned(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_spe_pins *pins;
	struct kvm_vcpu *vcpu;
	unsigned long v;
	unsigned int i;

	lockdep_assert_held(&kvm->mmu_lock);

	if (!kvm_has_spe(kvm))
		return false;

	kvm_for_each_vcpu(v, vcpu, kvm) {
		pins = spe_vcpu_pins(vcpu);
		if (!pins || !READ_ONCE(pins->nr_pages))
			continue;

		guard(spinlock)(&pins->lock);
		for (i = spe_find(pins, start);
		     i < pins->nr_ranges && pins->ranges[i].gfn < end; i++) {
			if (!(pins->ranges[i].flags &
			      (SPE_RANGE_STALE | SPE_RANGE_REMAP)))
				return true;
		}
	}

	return false;
}

/**
 * __kvm_spe_lock_resize - let no page become pinned meanwhile
 * @kvm: the VM
 *
 * For who replaces a leaf of stage 2 by one of another size, which unmaps pages
 * for a moment, after kvm_spe_gfn_range_pinned() has said that no SPU uses them.
 *
 * Context: mmu_lock held.
 * Return: true if kvm_spe_unlock_resize() has to be called.
 */
bool __kvm_spe_lock_resize(struct kvm *kvm)
{
	lockdep_assert_held(&kvm->mmu_lock);

	if (!kvm_has_spe(kvm))
		return false;

	spin_lock(&kvm->arch.spe.resize_lock);
	return true;
}

/**
 * kvm_spe_unlock_resize - pages may become pinned again
 * @kvm: the VM
 *
 * Context: mmu_lock held, after kvm_spe_lock_resize() has returned true.
 */
void kvm_spe_unlock_resize(struct kvm *kvm)
{
	spin_unlock(&kvm->arch.spe.resize_lock);
}

/* --- The walk ------------------------------------------------------------ */

static int spe_note_desc(struct s1_walk_context *ctxt, void *priv)
{
	struct spe_attempt *a = priv;

	a->desc_ipa[ctxt->level + 1] = ctxt->desc_ipa;
	a->last_level = ctxt->level;
	return 0;
}

static int spe_need_add(struct spe_attempt *a, u64 va, u64 ipa, u64 len, s8 level)
{
	struct spe_need *n;
	u64 first = ipa >> PAGE_SHIFT;
	u64 nr = ((ipa + len - 1) >> PAGE_SHIFT) - first + 1;

	if (nr > U32_MAX)
		return -ENOSPC;

	if (a->nr_need == a->need_capacity) {
		size_t want = max(64U, 2 * a->need_capacity);

		/* Each entry is one page or more: there is no need for more */
		if (want > SPE_MAX_RUNS ||
		    a->nr_need > 16 * (a->vcpu->kvm->nr_memslot_pages + 64))
			return -ENOSPC;

		n = kvrealloc(a->need, want * sizeof(*n),
			      GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!n)
			return -ENOMEM;
		a->need = n;
		a->need_capacity = want;
	}

	a->need[a->nr_need++] = (struct spe_need) {
		.gfn	= first,
		.va	= va,
		.nr	= nr,
		.offset	= level == SPE_LEVEL_BUFFER ? offset_in_page(ipa) : 0,
		.level	= level,
	};

	return 0;
}

/* Where the SPU is when it needs page @gfn of a run. */
static u64 spe_need_va(const struct spe_need *need, u64 gfn)
{
	if (gfn == need->gfn || need->level != SPE_LEVEL_BUFFER)
		return need->va;

	return need->va - need->offset + ((gfn - need->gfn) << PAGE_SHIFT);
}

/* Are these pages in the set, and mapped? */
static int spe_recheck_run(struct spe_attempt *a, u64 ipa, u64 len)
{
	struct kvm_spe_pins *pins = a->pins;
	u64 gfn = ipa >> PAGE_SHIFT, end = ((ipa + len - 1) >> PAGE_SHIFT) + 1;

	guard(spinlock)(&pins->lock);

	for (unsigned int i = spe_find(pins, gfn); gfn < end; i++) {
		struct spe_range *r = &pins->ranges[i];

		if (i == pins->nr_ranges || r->gfn > gfn ||
		    (r->flags & (SPE_RANGE_STALE | SPE_RANGE_REMAP)))
			return -ESTALE;

		gfn = r->gfn + r->nr;
	}

	return 0;
}

static int spe_end_run(struct spe_attempt *a)
{
	u64 len = a->run_len;

	if (!len)
		return 0;

	a->run_len = 0;
	if (a->max_descs)
		return spe_recheck_run(a, a->run_ipa, len);

	return spe_need_add(a, a->run_va, a->run_ipa, len, SPE_LEVEL_BUFFER);
}

static int spe_add_buffer(struct spe_attempt *a, u64 va, u64 ipa, u64 len)
{
	int ret;

	if (a->run_len && a->run_va + a->run_len == va &&
	    a->run_ipa + a->run_len == ipa) {
		a->run_len += len;
		return 0;
	}

	ret = spe_end_run(a);
	a->run_va = va;
	a->run_ipa = ipa;
	a->run_len = len;

	return ret;
}

/* @ipa is in a table of @level that translates addresses from @va on. */
static int spe_add_table(struct spe_attempt *a, u64 va, u64 ipa, s8 level)
{
	u64 gfn = ipa >> PAGE_SHIFT;

	if (a->table_gfn[level + 1] == gfn)
		return 0;

	a->table_gfn[level + 1] = gfn;
	if (a->max_descs)
		return spe_recheck_run(a, ipa, sizeof(u64));

	return spe_need_add(a, va, ipa, sizeof(u64), level);
}

/*
 * May the SPU write through this descriptor? Its writes are privileged, with
 * PAN treated as 0. To say yes where the SPU says no only pins in vain. A clean
 * page that hardware makes dirty is writable whatever PMBIDR_EL1.F says, since
 * software may have the CPU write to it first.
 */
static bool spe_s1_writable(struct kvm_vcpu *vcpu, const struct s1_walk_info *wi,
			    const struct s1_walk_result *wr)
{
	if (wr->pw)
		return true;

	return wi->ha && (wr->desc & PTE_DBM) && !(wr->APTable & BIT(1)) &&
	       (vcpu_read_sys_reg(vcpu, TCR_EL1) & TCR_HD);
}

static bool spe_is_table_abort(u8 fst)
{
	return fst >= ESR_ELx_FSC_SEA_TTW(-1) && fst <= ESR_ELx_FSC_SEA_TTW(3);
}

static int spe_walk_stop(struct spe_attempt *a, u64 va, enum spe_stop why,
			 s8 level)
{
	if (va < a->stop) {
		a->stop = va;
		a->why = why;
		a->table_level = level;
	}

	return 0;
}

/* The tables that a walk for @va reads, down to @level; the buffer ends. */
static int spe_end_walk(struct spe_attempt *a, const struct s1_walk_info *wi,
			u64 va, s8 level)
{
	int ret = spe_end_run(a);

	/*
	 * Without a table that was read there is none, and wi->sl is whatever
	 * the guest made of TCR_EL1.TxSZ.
	 */
	if (level == SPE_LEVEL_NONE)
		return ret;

	for (int l = wi->sl; l <= level && !ret; l++)
		ret = spe_add_table(a, va, a->desc_ipa[l + 1], l);

	return ret;
}

static bool spe_ring_has_room(struct kvm_vcpu *vcpu)
{
	return !kvm_test_request(KVM_REQ_DIRTY_RING_SOFT_FULL, vcpu);
}

/*
 * Walk stage 1 from a->start to a->end, one walk per leaf table and per change
 * of permissions, and report the pages of buffer and tables. Where stage 1 ends
 * goes to a->stop and a->why.
 *
 * Side effect: as the hardware's walker may, KVM's sets the Access flag where
 * TCR_EL1.HA says so.
 *
 * Context: SRCU held, vCPU loaded, may fault.
 * Return: 0, -EAGAIN if the guest changed a table meanwhile, -EINTR, -EBUSY if
 * the dirty ring is full, or the error of spe_add_*().
 */
static int spe_walk(struct spe_attempt *a)
{
	struct s1_walk_filter filter = { .fn = spe_note_desc, .priv = a };
	struct kvm_vcpu *vcpu = a->vcpu;
	unsigned int budget = a->max_descs ?: UINT_MAX;
	u64 va = a->start;
	int ret;

	a->stop = a->end;
	a->why = SPE_STOP_END;
	a->run_len = 0;
	memset(a->table_gfn, 0xff, sizeof(a->table_gfn));

	while (va < a->end && budget) {
		struct s1_walk_info wi = { .filter = &filter, .regime = TR_EL10 };
		struct s1_walk_result wr = {};
		unsigned int shift, left;
		u64 desc, len, size;
		int level;

		if (signal_pending(current))
			return -EINTR;
		cond_resched();

		/* The walk may set Access flags, in tables that are logged */
		if (!spe_ring_has_room(vcpu))
			return -EBUSY;

		a->last_level = SPE_LEVEL_NONE;
		ret = __kvm_translate_va(vcpu, &wi, &wr, va);
		if (ret == -EAGAIN)
			return ret;
		if (ret) {
			/* The table was there, but the VMM's fault handler? */
			if (signal_pending(current))
				return -EINTR;

			if (wr.failed && spe_is_table_abort(wr.fst))
				spe_walk_stop(a, va, SPE_STOP_TABLE,
					      wr.fst - ESR_ELx_FSC_SEA_TTW(0));
			else
				spe_walk_stop(a, va, SPE_STOP_S1, 0);

			/*
			 * The SPU walks as far, to find out. A table that the
			 * guest itself has not used is not at stage 2 yet.
			 */
			if (wr.failed && !spe_is_table_abort(wr.fst))
				return spe_end_walk(a, &wi, va, a->last_level);
			break;
		}

		if (!s1_walk_translated(&wr)) {
			/* Stage 1 off: flat, and no table */
			ret = spe_add_buffer(a, va, wr.pa, a->end - va);
			if (ret)
				return ret;
			break;
		}

		if (!spe_s1_writable(vcpu, &wi, &wr)) {
			spe_walk_stop(a, va, SPE_STOP_S1, 0);
			return spe_end_walk(a, &wi, va, wr.level);
		}

		level = wr.level;
		shift = wi.pgshift + (3 - level) * (wi.pgshift - 3);
		size = BIT_ULL(shift);

		for (int l = wi.sl; l <= level; l++) {
			ret = spe_add_table(a, va, a->desc_ipa[l + 1], l);
			if (ret)
				return ret;
		}

		/* Descriptors from here to the end of the table */
		desc = a->desc_ipa[level + 1];
		left = BIT(wi.pgshift - 3);
		if (level == wi.sl)
			left = BIT(64 - wi.txsz - shift);
		left -= (va >> shift) & (left - 1);

		len = min(size - (va & (size - 1)), a->end - va);
		ret = spe_add_buffer(a, va, wr.pa, len);
		if (ret)
			return ret;

		va += len;
		left--;
		budget--;

		while (va < a->end && left && budget) {
			u64 *descs = a->pins->descs;
			unsigned int i, nr;

			desc += sizeof(*descs);
			nr = min3(left, budget, (unsigned int)SPE_DESCS);
			nr = min_t(u64, nr, ((a->end - va - 1) >> shift) + 1);
			/* No more than the host page holds */
			nr = min_t(u64, nr, (PAGE_SIZE - offset_in_page(desc)) / sizeof(*descs));

			if (__kvm_read_s1_descs(vcpu, &wi, desc, descs, nr))
				break;

			for (i = 0; i < nr; i++) {
				u64 ipa;

				if (!__kvm_s1_leaf_output(&wi, &wr, descs[i], &ipa))
					break;

				if (!i) {
					ret = spe_add_table(a, va, desc, level);
					if (ret)
						return ret;
				}

				len = min(size, a->end - va);
				ret = spe_add_buffer(a, va, ALIGN_DOWN(ipa, size), len);
				if (ret)
					return ret;
				va += len;
			}

			/* A descriptor of another kind: walk to it */
			if (i < nr)
				break;

			left -= nr;
			budget -= nr;
			desc += (nr - 1) * sizeof(*descs);
		}
	}

	return spe_end_run(a);
}

/* --- Pin and map --------------------------------------------------------- */

/*
 * The dirty log.
 *
 * A page that is writable at stage 2 can be written without KVM noticing, so it
 * is in the log from the moment it is mapped until the log is harvested, which
 * write-protects it. A buffer has more pages than a dirty ring has entries, and
 * in one round the SPU writes to few of them: with a ring, the buffer goes to
 * the backup bitmap first, and the pages that the SPU has written to move from
 * there to the ring as long as it has room. Tables are few and go to the ring.
 */
/* Write to the dirty log what can be written to from now on. */
static void spe_mark_dirty(struct kvm_vcpu *vcpu,
			   struct kvm_memory_slot *memslot, gfn_t gfn,
			   unsigned int nr, bool table)
{
	bool backup = vcpu->kvm->dirty_ring_size && memslot->dirty_bitmap;

	if (!kvm_slot_dirty_track_enabled(memslot))
		return;

	for (; nr; nr--, gfn++) {
		if (backup && !(table && spe_ring_has_room(vcpu)))
			set_bit_le(gfn - memslot->base_gfn, memslot->dirty_bitmap);
		else
			mark_page_dirty_in_slot(vcpu->kvm, memslot, gfn);
	}
}

/* The SPU has written to the page: from the backup bitmap to the ring. */
static void spe_push_page(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvm_memory_slot *memslot = gfn_to_memslot(vcpu->kvm, gfn);
	unsigned long rel;

	if (!memslot || !kvm_slot_dirty_track_enabled(memslot) ||
	    !memslot->dirty_bitmap)
		return;

	/*
	 * If it is not in the bitmap, it still is in the ring. The bit first:
	 * once in the ring, the page can be harvested, and be mapped again for
	 * another vCPU, whose bit must stay.
	 */
	rel = gfn - memslot->base_gfn;
	if (test_and_clear_bit_le(rel, memslot->dirty_bitmap))
		mark_page_dirty_in_slot(vcpu->kvm, memslot, gfn);
}

/**
 * kvm_spe_push_written - push what the SPU has written into the dirty ring
 * @vcpu: the vCPU, loaded, on its own thread
 *
 * As far as the ring has room: the other pages stay in the backup bitmap, from
 * which userspace gets them at the end.
 *
 * Context: process context, preemptible; takes SRCU. May sleep.
 */
void kvm_spe_push_written(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	struct spe_attempt a = {
		.vcpu	= vcpu,
		.pins	= spe->pins,
		.start	= spe->written_from,
		.end	= spe->written_to,
	};

	if (!a.pins || a.start >= a.end)
		return;

	guard(srcu)(&vcpu->kvm->srcu);

	/* What the walk does not find stays in the bitmap as well */
	spe_walk(&a);

	for (unsigned int n = 0; n < a.nr_need; n++) {
		struct spe_need *need = &a.need[n];

		if (need->level != SPE_LEVEL_BUFFER)
			continue;

		for (u32 i = 0; i < need->nr && spe_ring_has_room(vcpu); i++)
			spe_push_page(vcpu, need->gfn + i);
		cond_resched();
	}

	kvfree(a.need);
	spe->written_from = 0;
	spe->written_to = 0;
}

/* Without a backup bitmap all pages have to go through the dirty ring. */
static bool spe_needs_ring(struct kvm *kvm, const struct kvm_memory_slot *memslot)
{
	return kvm->dirty_ring_size && !memslot->dirty_bitmap &&
	       kvm_slot_dirty_track_enabled(memslot);
}

/*
 * The pages that are needed: runs are sorted, and may overlap. One that leaves
 * the memslots is cut behind the first page that is missing, where the SPU
 * stops: what it has behind the gap is not used, and so must not count as pinned
 * already. *@ring: of these, the pages that have to go through the dirty ring.
 */
static unsigned long spe_count_needed(struct spe_attempt *a, unsigned long *ring)
{
	struct kvm *kvm = a->vcpu->kvm;
	unsigned long pages = 0;
	u64 gfn = 0;

	*ring = 0;
	for (unsigned int n = 0; n < a->nr_need; n++) {
		struct spe_need *need = &a->need[n];
		u64 end = need->gfn + need->nr;

		gfn = max(gfn, need->gfn);
		while (gfn < end) {
			struct kvm_memory_slot *memslot = gfn_to_memslot(kvm, gfn);
			u64 next;

			if (!memslot || (memslot->flags & KVM_MEM_READONLY)) {
				need->nr = gfn - need->gfn + 1;
				break;
			}

			next = min(end, memslot->base_gfn + memslot->npages);
			pages += next - gfn;
			if (spe_needs_ring(kvm, memslot))
				*ring += next - gfn;
			gfn = next;
		}
		cond_resched();
	}

	return pages;
}

/*
 * Of @nr pages from @gfn on, how many to pin and map in one go: no more than the
 * memslot has, than keeps mmu_lock busy for long, or than fit into a dirty ring
 * that is full, which has some entries in reserve for what KVM itself writes.
 */
static unsigned int spe_batch(struct kvm *kvm, const struct kvm_memory_slot *memslot,
			      gfn_t gfn, unsigned int nr)
{
	nr = min_t(u64, nr, memslot->base_gfn + memslot->npages - gfn);

	return min_t(unsigned int, nr, spe_needs_ring(kvm, memslot) ?
				       KVM_DIRTY_RING_RSVD_ENTRIES / 2 : SPE_BATCH);
}

/* Of @nr pages, how many are contiguous in the host. */
static unsigned int spe_contiguous(struct page **pages, unsigned int nr)
{
	kvm_pfn_t pfn = page_to_pfn(pages[0]);
	unsigned int n = 1;

	while (n < nr && page_to_pfn(pages[n]) == pfn + n)
		n++;

	return n;
}

/*
 * Map pages at stage 2, @pages or, if it is NULL, those from @pfn on, and enter
 * them into the set, where they are already if @publish is NULL. One of the
 * batches of spe_batch().
 *
 * Returns how many, or a negative error if none.
 */
static int spe_map(struct spe_attempt *a, struct kvm_memory_slot *memslot,
		   gfn_t gfn, struct page **pages, kvm_pfn_t pfn,
		   unsigned int nr, unsigned long mmu_seq,
		   const struct spe_range *publish)
{
	bool ring = spe_needs_ring(a->vcpu->kvm, memslot);
	bool table = a->mapping->level != SPE_LEVEL_BUFFER;
	struct kvm_mmu_memory_cache *mc = &a->vcpu->arch.mmu_page_cache;
	struct kvm_spe_pins *pins = a->pins;
	struct kvm *kvm = a->vcpu->kvm;
	int min_objs = kvm_mmu_cache_min_pages(&kvm->arch.mmu);
	unsigned int done = 0, before, new;
	long size = 0;
	int ret = 0;

	while (done < nr && !ret) {
		/* A ring that is full has room for one more batch only */
		if (ring && !spe_ring_has_room(a->vcpu)) {
			ret = -EBUSY;
			break;
		}

		ret = kvm_mmu_topup_memory_cache(mc, min_objs);
		if (ret)
			break;

		before = done;
		new = 0;
		kvm_fault_lock(kvm);
		spin_lock(&kvm->arch.spe.resize_lock);
		while (done < nr &&
		       kvm_mmu_memory_cache_nr_free_objects(mc) >= min_objs) {
			unsigned int n = nr - done;
			struct spe_range *r;

			if (mmu_invalidate_retry(kvm, mmu_seq)) {
				ret = -EAGAIN;
				break;
			}

			if (pages) {
				pfn = page_to_pfn(pages[done]) - done;
				n = spe_contiguous(pages + done, n);
			}
			if (!pfn_is_map_memory(pfn + done)) {
				ret = -EFAULT;
				break;
			}

			size = kvm_stage2_map_pinned(a->vcpu, memslot, gfn + done,
						     pfn + done, &n, &a->flush);
			if (size < 0) {
				ret = size;
				break;
			}

			r = &pins->mapped[new];
			*r = publish ? *publish : (struct spe_range){};
			r->gfn = gfn + done;
			r->pfn = pfn + done;
			r->nr = n;
			r->map_shift = __ffs(size);
			if (new && spe_mergeable(r - 1, r))
				r[-1].nr += n;
			else
				new++;

			done += n;
		}
		if (new) {
			spin_lock(&pins->lock);
			if (publish)
				spe_publish(pins, pins->mapped, new);
			for (unsigned int i = 0; i < new && !publish; i++)
				spe_remapped(pins, &pins->mapped[i]);
			spin_unlock(&pins->lock);
		}
		spin_unlock(&kvm->arch.spe.resize_lock);
		kvm_fault_unlock(kvm);

		spe_mark_dirty(a->vcpu, memslot, gfn + before, done - before, table);
	}

	return done ?: ret;
}

/*
 * MTE: the tags of a page are the guest's only if the VMM lets it have tags. Of
 * @nr pages from @hva on, how many: those of one VMA.
 */
static unsigned int spe_mte_allowed(struct kvm *kvm, unsigned long hva,
				    unsigned int nr)
{
	struct vm_area_struct *vma;

	if (!kvm_has_mte(kvm))
		return nr;

	guard(mmap_read_lock)(current->mm);
	vma = vma_lookup(current->mm, hva);
	if (!vma || !(vma->vm_flags & VM_MTE_ALLOWED))
		return 0;

	return min_t(unsigned long, nr, (vma->vm_end - hva) >> PAGE_SHIFT);
}

/*
 * Pin pages of the VMM, as many as can be had in one go. Returns how many, or
 * -EAGAIN, -EINTR, -ENOMEM, or another error if the first cannot be pinned.
 */
static int spe_gup(struct spe_attempt *a, unsigned long hva, unsigned int nr)
{
	unsigned int flags = FOLL_WRITE | FOLL_LONGTERM;
	struct page **pages = a->pins->pages;
	long ret;

	/* GUP-fast cannot be interrupted, and so must not wait for a fault */
	ret = pin_user_pages_fast(hva, nr, flags | FOLL_NOFAULT, pages);
	if (ret > 0)
		return ret;

	ret = pin_user_pages_unlocked(hva, nr, pages, flags | FOLL_INTERRUPTIBLE |
				      FOLL_HWPOISON);
	if (ret > 0)
		return ret;

	if (signal_pending(current))
		return -EINTR;

	/* Memory that cannot be pinned. Here, -EBUSY is said of the dirty ring */
	if (ret == -EBUSY)
		return -EFAULT;

	return ret ?: -EAGAIN;
}

static void spe_count(struct spe_attempt *a, unsigned int nr)
{
	a->vcpu->stat.spe_pin += nr;
	a->pins->fresh += nr;
}

/* Pin and map at most @nr pages. Returns how many, or a negative error. */
static int spe_pin_pages(struct spe_attempt *a, struct kvm_memory_slot *memslot,
			 gfn_t gfn, unsigned int nr)
{
	struct spe_range r = {
		.flags	= SPE_RANGE_NEEDED,
	};
	struct kvm_spe_pins *pins = a->pins;
	unsigned long mmu_seq, hva = __gfn_to_hva_memslot(memslot, gfn);
	struct kvm *kvm = a->vcpu->kvm;
	int got, done, ret;

	/* What is pinned must stay usable when it is split later */
	ret = spe_lock_reserve(pins, SPE_BATCH, SPE_MAX_RUNS - 2 * SPE_SPARE);
	if (ret)
		return ret;
	spin_unlock(&pins->lock);

	nr = spe_batch(kvm, memslot, gfn, nr);

	mmu_seq = kvm->mmu_invalidate_seq;
	/* Pairs with the smp_wmb() in kvm_mmu_invalidate_end(). */
	smp_rmb();

	if (kvm_slot_has_gmem(memslot)) {
		struct page *page;
		kvm_pfn_t pfn;

		ret = kvm_gmem_get_pfn(kvm, memslot, gfn, &pfn, &page, NULL);
		if (ret)
			return ret;

		r.flags |= SPE_RANGE_GMEM;
		ret = spe_map(a, memslot, gfn, NULL, pfn, 1, mmu_seq, &r);
		if (ret < 0) {
			kvm_release_page_unused(page);
			return ret;
		}

		kvm_release_page_dirty(page);
		spe_count(a, ret);
		return ret;
	}

	nr = spe_mte_allowed(kvm, hva, nr);
	if (!nr)
		return -EFAULT;

	got = spe_gup(a, hva, nr);
	if (got < 0)
		return got;

	ret = spe_map(a, memslot, gfn, pins->pages, 0, got, mmu_seq, &r);
	done = max(ret, 0);
	spe_count(a, done);
	if (done < got)
		unpin_user_pages(pins->pages + done, got - done);

	return ret;
}

/* Map at most @nr pages of a range again, which are still pinned. */
static int spe_remap_range(struct spe_attempt *a, struct kvm_memory_slot *memslot,
			   const struct spe_range *r, gfn_t gfn, unsigned int nr)
{
	struct kvm *kvm = a->vcpu->kvm;
	unsigned long mmu_seq = kvm->mmu_invalidate_seq;
	bool hit;
	int ret;

	/*
	 * Pairs with the smp_wmb() in kvm_mmu_invalidate_end(). A notifier that
	 * ran before has made the range stale, which is seen under pins->lock.
	 */
	smp_rmb();

	ret = spe_lock_reserve(a->pins, SPE_BATCH, SPE_MAX_RUNS);
	if (ret)
		return ret;
	hit = a->pins->hit;
	spin_unlock(&a->pins->lock);
	if (hit)
		return -EAGAIN;

	return spe_map(a, memslot, gfn, NULL, r->pfn + (gfn - r->gfn),
		       spe_batch(kvm, memslot, gfn, nr), mmu_seq, NULL);
}

/* A page of @need cannot be had: what does it mean for the buffer? */
static void spe_stop_at(struct spe_attempt *a, const struct spe_need *need,
			u64 gfn, enum spe_stop why)
{
	if (need->level != SPE_LEVEL_BUFFER)
		why = SPE_STOP_TABLE;

	spe_walk_stop(a, spe_need_va(need, gfn), why, need->level);
}

/* Pin and map what is missing of one run. */
static int spe_pin_need(struct spe_attempt *a, const struct spe_need *need)
{
	struct kvm_spe_pins *pins = a->pins;
	u64 gfn = need->gfn, end = need->gfn + need->nr;
	unsigned int retries = 0;

	while (gfn < end) {
		struct kvm_memory_slot *memslot;
		struct spe_range r = {};
		bool pinned = false;
		u64 next = end;
		u64 stop;
		unsigned int i;
		int ret;

		/* The SPU does not get as far as this, but for the tables */
		stop = a->stop;
		if (need->level != SPE_LEVEL_BUFFER)
			stop++;
		if (spe_need_va(need, gfn) >= stop)
			return 0;

		if (signal_pending(current))
			return -EINTR;
		cond_resched();

		/*
		 * What a notifier has hit may have left the set without being
		 * unpinned yet. To pin it anew now could be more than the
		 * maximum; the next attempt waits for it.
		 */
		spin_lock(&pins->lock);
		if (pins->hit) {
			spin_unlock(&pins->lock);
			return -EAGAIN;
		}
		i = spe_find(pins, gfn);
		if (i < pins->nr_ranges) {
			r = pins->ranges[i];
			pinned = r.gfn <= gfn;
			next = min(end, pinned ? r.gfn + r.nr : r.gfn);
		}
		spin_unlock(&pins->lock);

		if (pinned && !(r.flags & SPE_RANGE_REMAP) && !a->verify) {
			gfn = next;
			continue;
		}

		memslot = gfn_to_memslot(a->vcpu->kvm, gfn);
		if (memslot && (memslot->flags & KVM_MEMSLOT_INVALID))
			return -EAGAIN;

		if (!memslot || (memslot->flags & KVM_MEM_READONLY)) {
			/* GICV, which is in no memslot, is mapped all the same */
			bool gicv = !memslot && __vgic_is_v(a->vcpu->kvm, 2);

			spe_stop_at(a, need, gfn,
				    gicv ? SPE_STOP_LIMIT : SPE_STOP_NO_SLOT);
			return 0;
		}

		a->mapping = need;
		if (pinned)
			ret = spe_remap_range(a, memslot, &r, gfn, next - gfn);
		else
			ret = spe_pin_pages(a, memslot, gfn, next - gfn);

		/*
		 * Somebody else's pages, most often: don't begin anew. -ENOMEM
		 * is also what GUP says when it could not migrate a page to
		 * where it may be pinned, because of a passing reference.
		 */
		if ((ret == -EAGAIN || ret == -ENOMEM) &&
		    retries++ < SPE_RETRIES && !READ_ONCE(pins->hit))
			continue;

		if (ret == -EAGAIN || ret == -EINTR || ret == -EBUSY ||
		    ret == -ENOMEM || ret == -E2BIG)
			return ret;

		if (ret < 0) {
			spe_stop_at(a, need, gfn, SPE_STOP_LIMIT);
			return 0;
		}

		gfn += ret;
	}

	return 0;
}

/* --- Windows ------------------------------------------------------------- */

static void spe_read_regime(struct kvm_vcpu *vcpu, u64 va, struct spe_regime *r)
{
	/* The ASID in the TTBR says nothing of where the tables are */
	r->ttbr = vcpu_read_sys_reg(vcpu, va & BIT(55) ? TTBR1_EL1 : TTBR0_EL1) &
		  TTBRx_EL1_BADDR;
	r->tcr = vcpu_read_sys_reg(vcpu, TCR_EL1);
	r->tcr2 = kvm_has_tcr2(vcpu->kvm) ? vcpu_read_sys_reg(vcpu, TCR2_EL1) : 0;
	r->sctlr = vcpu_read_sys_reg(vcpu, SCTLR_EL1) &
		   (SCTLR_ELx_M | SCTLR_ELx_EE | SCTLR_ELx_WXN);
}

static bool spe_same_regime(const struct spe_regime *a, const struct spe_regime *b)
{
	return a->ttbr == b->ttbr && a->tcr == b->tcr && a->tcr2 == b->tcr2 &&
	       a->sctlr == b->sctlr;
}

/* An enable inside of a valid window: true if nothing is left to do. */
static bool spe_reuse(struct kvm_vcpu *vcpu, struct kvm_spe_pins *pins,
		      u64 ptr, u64 limit, const struct spe_regime *regime)
{
	struct spe_attempt a = {
		.vcpu		= vcpu,
		.pins		= pins,
		.start		= ptr,
		.end		= limit,
		.max_descs	= SPE_RECHECK_DESCS,
	};
	bool found = false;

	spin_lock(&pins->lock);
	for (int i = 0; i < SPE_NR_WINDOWS; i++) {
		struct spe_window *w = &pins->windows[i];

		if (w->valid && w->start <= ptr && limit <= w->end &&
		    spe_same_regime(&w->regime, regime)) {
			w->stamp = ++pins->stamp;
			pins->last_use = jiffies;
			found = true;
			break;
		}
	}
	spin_unlock(&pins->lock);

	/*
	 * The guest may have changed its tables while the buffer was disabled.
	 * To look at all of them would make enabling as slow as the buffer is
	 * large. Look where the SPU begins; what that misses is repaired when
	 * it faults.
	 */
	return found && !spe_walk(&a) && a.why == SPE_STOP_END;
}

static int spe_cmp_need(const void *a, const void *b)
{
	const struct spe_need *x = a, *y = b;

	if (x->gfn != y->gfn)
		return x->gfn < y->gfn ? -1 : 1;

	return 0;
}

static void spe_sort_need(struct spe_attempt *a)
{
	unsigned int i;

	for (i = 1; i < a->nr_need; i++) {
		if (a->need[i - 1].gfn > a->need[i].gfn)
			break;
	}

	if (i < a->nr_need)
		sort_nonatomic(a->need, a->nr_need, sizeof(*a->need),
			       spe_cmp_need, NULL);
}

/*
 * Mark what the set has of the @needed pages, so that it stays, and count those
 * that it does not have. Ranges are cut at the borders of the needed runs, both
 * of which are sorted: one pass over a copy of the array, since the lock is held
 * and notifiers wait for it.
 *
 * Returns 0; -ENOMEM, and nothing is marked; -E2BIG if there are too many ranges.
 */
static int spe_claim(struct spe_attempt *a, unsigned long needed,
		     unsigned long *missing)
{
	struct kvm_spe_pins *pins = a->pins;
	struct spe_range *old, *new;
	unsigned int n = 0, to = 0;
	unsigned long have = 0;
	size_t want;

	spin_lock(&pins->lock);
	for (;;) {
		/*
		 * Notifiers split ranges while the lock is not held, and until
		 * the vCPU is back: without room they take whole ranges.
		 */
		want = (size_t)pins->nr_ranges + 2 * a->nr_need + 16 * SPE_SPLITS;
		spin_unlock(&pins->lock);

		new = kvmalloc_array(want, sizeof(*new),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!new)
			return -ENOMEM;

		spin_lock(&pins->lock);
		if (want >= (size_t)pins->nr_ranges + 2 * a->nr_need + SPE_SPLITS)
			break;

		spin_unlock(&pins->lock);
		kvfree(new);
		spin_lock(&pins->lock);
	}

	pins->hit = false;
	for (unsigned int i = 0; i < pins->nr_ranges; i++) {
		struct spe_range r = pins->ranges[i];
		bool stale = r.flags & SPE_RANGE_STALE;

		while (r.nr) {
			struct spe_range *piece = &new[to++];
			const struct spe_need *need = &a->need[n];

			/* Runs that end before the range do so before the next */
			while (n < a->nr_need && need->gfn + need->nr <= r.gfn)
				need = &a->need[++n];

			*piece = r;
			if (n < a->nr_need && need->gfn <= r.gfn) {
				piece->nr = min_t(u64, r.nr, need->gfn + need->nr - r.gfn);
				piece->flags |= SPE_RANGE_NEEDED;
				have += piece->nr;
				/* Hit after the attempt has begun */
				pins->hit |= stale;
			} else if (n < a->nr_need) {
				piece->nr = min_t(u64, r.nr, need->gfn - r.gfn);
			}

			r.gfn += piece->nr;
			r.pfn += piece->nr;
			r.nr -= piece->nr;

			if (to > 1 && spe_mergeable(piece - 1, piece)) {
				piece[-1].nr += piece->nr;
				to--;
			}
		}
	}

	old = pins->ranges;
	pins->ranges = new;
	pins->nr_ranges = to;
	pins->capacity = want;
	spin_unlock(&pins->lock);

	kvfree(old);
	/* A memslot can have gone meanwhile; then this attempt is void */
	*missing = needed > have ? needed - have : 0;

	/* The cuts alone can be too many */
	return to > SPE_MAX_RUNS ? -E2BIG : 0;
}

/* May @pages be pinned? Without a limit they are charged now. */
static bool spe_may_pin(struct kvm_spe_pins *pins, unsigned long pages)
{
	if (pins->max_pages != ULONG_MAX)
		return pages <= pins->max_pages;

	if (pages > pins->charged) {
		if (account_locked_vm(current->mm, pages - pins->charged, true))
			return false;
		pins->charged = pages;
	}

	return true;
}

/* Of the first @nr, the window that was not enabled for the longest time, or -1 */
static int spe_oldest_window(const struct kvm_spe_pins *pins, int nr)
{
	int oldest = -1;

	for (int i = 0; i < nr; i++) {
		if (pins->windows[i].used &&
		    (oldest < 0 || pins->windows[i].stamp <
				   pins->windows[oldest].stamp))
			oldest = i;
	}

	return oldest;
}

static void spe_evict(struct kvm_spe_pins *pins, int window)
{
	spin_lock(&pins->lock);
	spe_drop_window(&pins->windows[window]);
	for (unsigned int i = 0; i < pins->nr_ranges; i++)
		pins->ranges[i].windows &= ~BIT(window);
	spin_unlock(&pins->lock);

	spe_reap(pins, spe_match_unused);
}

static bool spe_evict_oldest(struct kvm_spe_pins *pins)
{
	int oldest = spe_oldest_window(pins, SPE_NR_WINDOWS);

	if (oldest < 0)
		return false;

	spe_evict(pins, oldest);
	return true;
}

/* Make room for @missing pages. */
static bool spe_make_room(struct kvm_spe_pins *pins, unsigned long missing)
{
	if (spe_may_pin(pins, READ_ONCE(pins->nr_pages) + missing))
		return true;

	/* What an attempt left behind that did not end; what is being unpinned */
	spe_reap(pins, spe_match_unused);

	while (!spe_may_pin(pins, READ_ONCE(pins->nr_pages) + missing)) {
		if (!spe_evict_oldest(pins))
			return false;
	}

	return true;
}

/*
 * A free slot for a window. More buffers than there are slots in turn must not
 * be pinned in turn: what the oldest window has stays pinned as long as the
 * maximum allows it, for a walk to find.
 */
static u8 spe_new_window(struct kvm_spe_pins *pins)
{
	int i;

	for (i = 0; i < SPE_WINDOW_REST; i++) {
		if (!pins->windows[i].used)
			return i;
	}

	i = spe_oldest_window(pins, SPE_WINDOW_REST);

	/*
	 * Without a maximum, the slots limit the pins of old buffers, besides
	 * what can be charged.
	 */
	if (pins->max_pages == ULONG_MAX) {
		spe_evict(pins, i);
		return i;
	}

	guard(spinlock)(&pins->lock);

	spe_drop_window(&pins->windows[i]);
	/* With no stamp it is the first to be evicted */
	pins->windows[SPE_WINDOW_REST].used = true;
	for (unsigned int n = 0; n < pins->nr_ranges; n++) {
		struct spe_range *r = &pins->ranges[n];

		if (!(r->windows & BIT(i)))
			continue;
		r->windows &= ~BIT(i);
		r->windows |= BIT(SPE_WINDOW_REST);
	}

	return i;
}

/* Forget which ranges were needed; join what the claim has cut. */
static void spe_settle(struct kvm_spe_pins *pins)
{
	unsigned int from, to = 0;

	lockdep_assert_held(&pins->lock);

	for (from = 0; from < pins->nr_ranges; from++) {
		struct spe_range r = pins->ranges[from];

		r.flags &= ~SPE_RANGE_NEEDED;
		if (to && spe_mergeable(&pins->ranges[to - 1], &r))
			pins->ranges[to - 1].nr += r.nr;
		else
			pins->ranges[to++] = r;
	}

	pins->nr_ranges = to;
}

/* All is pinned and mapped: make it a window. */
static bool spe_commit(struct spe_attempt *a, const struct spe_regime *regime)
{
	struct kvm_spe_pins *pins = a->pins;
	u8 index = spe_new_window(pins);
	struct spe_window *w, *new = &pins->windows[index];
	u64 max_size = a->vcpu->kvm->arch.spe.max_buffer_size ?: U64_MAX;
	u16 absorbed = 0;

	guard(spinlock)(&pins->lock);

	/* A notifier was faster */
	if (pins->hit)
		return false;

	*new = (struct spe_window) {
		.start	= a->start,
		.end	= a->stop,
		.regime	= *regime,
		.stamp	= ++pins->stamp,
		.used	= true,
		.valid	= true,
	};

	/*
	 * Parts of one buffer become one window: the next enable is then inside
	 * of it, wherever it begins.
	 */
	for (int i = 0; i < SPE_WINDOW_REST; i++) {
		u64 start, end;

		w = &pins->windows[i];
		start = min(w->start, new->start);
		end = max(w->end, new->end);

		if (w == new || !w->used || w->start > new->end ||
		    w->end < new->start || end - start > max_size ||
		    !spe_same_regime(&w->regime, regime))
			continue;

		/* What is stale is of use only for what was walked again */
		if (!w->valid && (start < new->start || end > new->end))
			continue;

		new->start = start;
		new->end = end;
		spe_drop_window(w);
		absorbed |= BIT(i);
	}

	for (unsigned int i = 0; i < pins->nr_ranges; i++) {
		struct spe_range *r = &pins->ranges[i];

		if ((r->windows & absorbed) || (r->flags & SPE_RANGE_NEEDED))
			r->windows |= BIT(index);
		r->windows &= ~absorbed;
	}

	spe_settle(pins);
	pins->last_use = jiffies;

	return true;
}

/*
 * The attempt failed. What it has pinned goes, unless the same is about to be
 * tried again.
 */
static void spe_abort(struct spe_attempt *a, bool again)
{
	spin_lock(&a->pins->lock);
	spe_settle(a->pins);
	a->pins->leftover = again;
	spin_unlock(&a->pins->lock);

	if (!again)
		spe_reap(a->pins, spe_match_unused);
}

static void spe_set_busy(struct kvm_spe_pins *pins, bool busy)
{
	guard(spinlock)(&pins->lock);
	pins->busy = busy;
}

/* Is there room for a record before the SPU has to be stopped? */
static bool spe_room_for_record(struct kvm_vcpu *vcpu, u64 ptr, u64 stop)
{
	u64 pmsidr = vcpu->kvm->arch.spe.pmsidr;

	return stop - ptr >= BIT_ULL(FIELD_GET(PMSIDR_EL1_MAXSIZE_MASK, pmsidr));
}

/* Not inside of a valid window: walk, compare, pin and map what is missing. */
static int spe_pin_window(struct kvm_vcpu *vcpu, struct kvm_spe_pins *pins,
			  u64 ptr, u64 limit, const struct spe_regime *regime,
			  bool fault, u8 *fsc)
{
	struct spe_attempt a = {
		.vcpu	= vcpu,
		.pins	= pins,
		.start	= ptr,
		.end	= limit,
		.verify	= fault,
		.flush	= fault,
	};
	unsigned long needed, missing, ring;
	int ret;

	spe_reap(pins, spe_match_stale);

	ret = spe_walk(&a);
	if (ret)
		goto out_free;

	if (a.nr_need) {
		spe_sort_need(&a);

		/*
		 * A harvest of the ring write-protects all that is in it. More
		 * than fits at once would never become ready.
		 */
		needed = spe_count_needed(&a, &ring);
		if (ring > vcpu->dirty_ring.soft_limit / 2) {
			ret = -ENOSPC;
			goto out_free;
		}

		ret = spe_claim(&a, needed, &missing);
		if (ret == -ENOMEM)
			goto out_free;

		if (!ret && !spe_make_room(pins, missing))
			ret = -ENOSPC;

		for (unsigned int n = 0; n < a.nr_need && !ret; n++)
			ret = spe_pin_need(&a, &a.need[n]);

		/* Too many ranges, but not all of them are this buffer's? */
		if (ret == -E2BIG)
			ret = spe_reap(pins, spe_match_unused) ||
			      spe_evict_oldest(pins) ? -EAGAIN : -ENOSPC;

		/*
		 * KVM relaxes permissions with a local TLB invalidation, since
		 * an instruction that faults for an old entry on another CPU is
		 * executed again. The SPU would stop.
		 */
		if (a.flush)
			kvm_arch_flush_remote_tlbs(vcpu->kvm);

		if (!ret && a.stop > ptr && !spe_commit(&a, regime))
			ret = -EAGAIN;

		if (ret || a.stop <= ptr)
			spe_abort(&a, ret == -EAGAIN || ret == -EINTR || ret == -EBUSY);
	}

	if (ret)
		goto out_free;

	ret = KVM_SPE_PIN_OK;
	vcpu->arch.spe.hw_limit = limit;

	switch (a.why) {
	case SPE_STOP_END:
		break;
	case SPE_STOP_S1:
		/*
		 * The SPU has passed stage 1 where the walk does not. If the
		 * guest has changed its tables meanwhile, the SPU reports that
		 * itself when it goes on. Where it is stopped again in the same
		 * place, the two disagree: as they do about addresses that are
		 * larger than the VM's, but not than what the guest's PARange
		 * allows.
		 */
		if (fault && a.stop <= ptr) {
			if (vcpu->arch.spe.s1_stop == ptr)
				ret = KVM_SPE_PIN_NOT_ALLOWED;
			vcpu->arch.spe.s1_stop = ptr;
		}
		break;
	case SPE_STOP_NO_SLOT:
		if (a.stop <= ptr)
			ret = KVM_SPE_PIN_NOT_ALLOWED;
		break;
	case SPE_STOP_LIMIT:
		if (!spe_room_for_record(vcpu, ptr, a.stop))
			ret = KVM_SPE_PIN_NOT_ALLOWED;
		else
			vcpu->arch.spe.hw_limit = a.stop;
		break;
	case SPE_STOP_TABLE:
		if (a.stop > ptr)
			break;
		*fsc = ESR_ELx_FSC_SEA_TTW(a.table_level);
		ret = KVM_SPE_PIN_TABLE_ABORT;
		break;
	}

out_free:
	kvfree(a.need);

	if (ret == -ENOMEM || ret == -ENOSPC)
		ret = KVM_SPE_PIN_TOO_LARGE;

	return ret;
}

/**
 * kvm_spe_pin_buffer - make the guest's buffer ready for the SPU
 * @vcpu: the vCPU, loaded, on its own thread
 * @ptr: PMBPTR_EL1
 * @limit: PMBLIMITR_EL1.LIMIT, above @ptr
 * @fault: the SPU met a stage 2 fault at @ptr: look at everything again
 * @fsc: for KVM_SPE_PIN_TABLE_ABORT, the fault status code
 *
 * On KVM_SPE_PIN_OK every page from @ptr on that the SPU can reach is pinned
 * and mapped writable at stage 2, and vcpu->arch.spe.hw_limit is what
 * PMBLIMITR_EL1.LIMIT has to be in hardware: below @limit where a page follows
 * that the SPU must not write, but could.
 *
 * The result holds until KVM_REQ_SPE is raised again.
 *
 * Context: process context, preemptible; takes SRCU. May sleep.
 * Return: an enum kvm_spe_pin_result; -EINTR if a signal is pending, -EBUSY if
 * the vCPU's dirty ring has to be harvested. The same call then finds what this
 * one has pinned and mapped.
 */
int kvm_spe_pin_buffer(struct kvm_vcpu *vcpu, u64 ptr, u64 limit, bool fault,
		       u8 *fsc)
{
	struct kvm_spe_pins *pins = vcpu->arch.spe.pins;
	struct spe_regime regime;
	unsigned long before;
	int ret, idx;

	if (!pins)
		return KVM_SPE_PIN_TOO_LARGE;

	if (!fault)
		vcpu->arch.spe.s1_stop = U64_MAX;

	spe_read_regime(vcpu, ptr, &regime);
	pins->fresh = 0;
	before = vcpu->stat.spe_pin;

	idx = srcu_read_lock(&vcpu->kvm->srcu);
	if (!fault && !pins->leftover &&
	    spe_reuse(vcpu, pins, ptr, limit, &regime)) {
		srcu_read_unlock(&vcpu->kvm->srcu, idx);
		vcpu->arch.spe.hw_limit = limit;
		vcpu->stat.spe_pin_reuse++;
		return KVM_SPE_PIN_OK;
	}
	srcu_read_unlock(&vcpu->kvm->srcu, idx);

	spe_set_busy(pins, true);
	do {
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		cond_resched();

		/* Not across attempts: a memslot may be waiting to go */
		idx = srcu_read_lock(&vcpu->kvm->srcu);
		ret = spe_pin_window(vcpu, pins, ptr, limit, &regime, fault, fsc);
		srcu_read_unlock(&vcpu->kvm->srcu, idx);
	} while (ret == -EAGAIN);

	/*
	 * For what an earlier call has pinned before it was interrupted. The
	 * guest may have set up another buffer since, or this one cannot be had.
	 */
	if (ret >= 0 && pins->leftover) {
		pins->leftover = false;
		spe_reap(pins, spe_match_unused);
	}
	spe_trim(pins);
	spe_set_busy(pins, false);

	if (ret >= 0) {
		if (vcpu->stat.spe_pin == before && ret == KVM_SPE_PIN_OK)
			vcpu->stat.spe_pin_reuse++;
		trace_kvm_spe_pin(vcpu->vcpu_id, ptr, limit, pins->fresh,
				  READ_ONCE(pins->nr_pages), ret);
	}

	queue_delayed_work(system_dfl_wq, &pins->work, SPE_IDLE);

	return ret;
}

/* --- Life cycle ---------------------------------------------------------- */

/**
 * kvm_spe_pins_create - what a vCPU needs to pin its buffer
 * @vcpu: the vCPU
 *
 * Charges what the vCPU may pin to the VMM's RLIMIT_MEMLOCK, so that a running
 * guest cannot run into the limit. Without a maximum size it is charged when
 * the guest enables its buffer.
 *
 * Context: config_lock held, the VM's own mm. May sleep.
 * Return: 0, or -ENOMEM.
 */
int kvm_spe_pins_create(struct kvm_vcpu *vcpu)
{
	u64 size = vcpu->kvm->arch.spe.max_buffer_size;
	struct kvm_spe_pins *pins;

	lockdep_assert_held(&vcpu->kvm->arch.config_lock);

	if (WARN_ON_ONCE(vcpu->arch.spe.pins))
		return 0;

	pins = kvzalloc_obj(*pins, GFP_KERNEL_ACCOUNT);
	if (!pins)
		return -ENOMEM;

	pins->vcpu = vcpu;
	pins->max_map_shift = PAGE_SHIFT;
	pins->max_pages = size ? kvm_spe_max_pages(size) : ULONG_MAX;
	spin_lock_init(&pins->lock);
	mutex_init(&pins->reap_mutex);
	INIT_DELAYED_WORK(&pins->work, spe_work);

	if (size) {
		if (account_locked_vm(current->mm, pins->max_pages, true)) {
			kvfree(pins);
			return -ENOMEM;
		}
		pins->charged = pins->max_pages;
	}

	/* Notifiers look at all vCPUs */
	smp_store_release(&vcpu->arch.spe.pins, pins);

	return 0;
}

/**
 * kvm_spe_pins_drop - a vCPU has no use for its pins
 * @vcpu: the vCPU
 *
 * Context: on the vCPU's thread, or when it cannot run; does not sleep. The
 * pages are given back soon after.
 */
void kvm_spe_pins_drop(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_pins *pins = vcpu->arch.spe.pins;

	if (!pins)
		return;

	spin_lock(&pins->lock);
	spe_forget_windows(pins);
	for (unsigned int i = 0; i < pins->nr_ranges; i++)
		pins->ranges[i].flags |= SPE_RANGE_STALE;
	spin_unlock(&pins->lock);

	mod_delayed_work(system_dfl_wq, &pins->work, 0);
}

/**
 * kvm_spe_flush_all - the VM's memory goes
 * @kvm: the VM
 *
 * Context: the mm is being released: no vCPU can run. May sleep.
 */
void kvm_spe_flush_all(struct kvm *kvm)
{
	struct kvm_spe_pins *pins;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	if (!kvm_has_spe(kvm))
		return;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		pins = spe_vcpu_pins(vcpu);
		if (!pins)
			continue;

		kvm_spe_pins_drop(vcpu);
		flush_delayed_work(&pins->work);
	}
}

/**
 * kvm_spe_pins_destroy - undo kvm_spe_pins_create()
 * @vcpu: the vCPU, which may never have been initialised, or only in part
 *
 * Context: no notifier runs any more. May sleep.
 */
void kvm_spe_pins_destroy(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_pins *pins = vcpu->arch.spe.pins;

	if (!pins)
		return;

	cancel_delayed_work_sync(&pins->work);
	spe_reap(pins, spe_match_all);

	/* Not current's: the last reference to a VM can go anywhere */
	account_locked_vm(vcpu->kvm->mm, pins->charged, false);

	vcpu->arch.spe.pins = NULL;
	kvfree(pins->ranges);
	kvfree(pins);
}
