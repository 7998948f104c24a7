/*
 * Arm Statistical Profiling Extension: events and latencies
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * TCG has no caches, TLBs or pipelines that a record could tell of. This file
 * is a small model of them, of which every result follows from the sampled
 * operations alone, so that runs with -icount repeat. Only sampled operations
 * go through it, whether a filter then drops their record or not. A working
 * set that fits a cache hits once its lines were sampled, a larger one misses
 * as often as it exceeds the cache; what neighbouring accesses share (spatial
 * locality, prefetching) is not seen.
 *
 *   Data TLB     256 entries of 4KB, direct-mapped, by VA and regime
 *   L1 data      32KB, direct-mapped, 64-byte lines   of each PE
 *   L2           512KB, the same
 *   LLC          4MB, the same, inclusive             of all PEs
 *   directory    64K lines: which PE stored last      of all PEs
 *   branches     1024 two-bit counters, 512 targets   of each PE
 *
 * The directory knows of the (sampled) stores to a line who made the last,
 * and how many there were. A PE that accesses a line which another PE stored
 * to since its own last access snoops the other PE's cache. That alone would
 * depend on how the host interleaves the threads of the two PEs, which real
 * PEs do not: of a PE that was seen storing to the line twice, with at most
 * HOT_US of guest time between, it is taken that it still does so until HOT_US
 * have passed. So false sharing shows when the storing PE is sampled, too, and
 * in most records of the line; data that is stored once and then read goes
 * quiet after one access. Whether the other PE is of the same cluster follows
 * from MPIDR_EL1.Aff1, and of the same socket from the machine's topology
 * (-smp sockets=).
 *
 * Latencies in cycles: see the constants. The total is issue + translation +
 * access or execution.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/timer.h"
#include "cpu.h"
#include "internals.h"
#include "hw/boards.h"
#include "target/arm/cpu-features.h"
#include "spe-sample.h"

#define LINE_BITS       6
#define TLB_ENTRIES     256
#define L1D_LINES       512
#define L2D_LINES       8192
#define LLC_LINES       65536
#define DIR_LINES       65536
#define PREDICTOR_SIZE  1024
#define TARGET_BUFFER   512

/* Cycles until an operation has issued */
#define ISSUE           1
/* ... until the MMU has an address */
#define TLB_HIT         1
#define TLB_WALK        20          /* one stage */
#define TLB_WALK_2      45          /* two stages */
/* ... until a load has its data */
#define L1D_HIT         4
#define L2D_HIT         12
#define LLC_HIT         40
#define SNOOP_CLUSTER   60
#define SNOOP_PEER      90
#define SNOOP_SOCKET    220
#define DRAM            160
#define DEVICE          250
/* ... until a store is in the write buffer; atomics go on like loads */
#define STORE           2
#define ATOMIC          6
/* ... more for an access that crosses a line, and for a wrong prediction */
#define LINE_CROSSING   5
#define MISPREDICTED    12

/* Encodings of Arm's Neoverse and Cortex PEs, which perf knows */
enum {
    SOURCE_L1D = 0x0,
    SOURCE_L2 = 0x8,
    SOURCE_PEER_CORE = 0x9,
    SOURCE_SYSTEM_CACHE = 0xb,
    SOURCE_PEER_CLUSTER = 0xc,
    SOURCE_REMOTE = 0xd,
    SOURCE_DRAM = 0xe,
};

typedef struct L1Line {
    uint64_t tag;               /* line address + 1, 0: invalid */
    uint32_t version;           /* stores to the line when last accessed */
} L1Line;

struct SPETimingState {
    uint64_t tlb[TLB_ENTRIES];
    L1Line l1d[L1D_LINES];
    uint64_t l2d[L2D_LINES];
    uint64_t target[TARGET_BUFFER][2];
    uint8_t counter[PREDICTOR_SIZE];
};

/*
 * Shared by all PEs, each entry on its own: one that is lost in a race of
 * two PEs is like one that was evicted.
 */
static uint64_t llc[LLC_LINES];
static struct {
    uint64_t last;              /* tag, PE and number of the last store */
    uint64_t writer[2];         /* two PEs that stored, and when */
} directory[DIR_LINES];

#define DIR_TAG         MAKE_64BIT_MASK(32, 32)
#define DIR_CPU_SHIFT   20
#define DIR_CPU_BITS    12
#define DIR_VERSION_BITS 20

/* Writers: the PE, whether it stored more than once, guest time in us */
#define WRITER_CPU_SHIFT 52
#define WRITER_HOT      (1ull << 51)
#define WRITER_TIME     MAKE_64BIT_MASK(0, 51)
#define HOT_US          50000

SPETimingState *spe_timing_new(void)
{
    return g_new0(SPETimingState, 1);
}

void spe_timing_reset(SPETimingState *t)
{
    memset(t, 0, sizeof(*t));
}

/* How the data of one access came to the PE */
typedef struct Fetch {
    uint32_t events;
    uint32_t cycles;
    uint8_t source;
} Fetch;

static unsigned socket_of(unsigned cpu_index)
{
    const CPUArchIdList *cpus = current_machine->possible_cpus;

    if (!cpus || cpu_index >= cpus->len) {
        return 0;
    }
    return cpus->cpus[cpu_index].props.has_socket_id ?
           cpus->cpus[cpu_index].props.socket_id : 0;
}

/* Fetch from the cache of the PE that wrote the line last. */
static void snoop(CPUARMState *env, unsigned writer, Fetch *f)
{
    CPUState *cs = env_cpu(env);
    CPUState *peer = qemu_get_cpu(writer);

    /*
     * The LLC holds all lines of the PEs' caches, and has the newer data of
     * this one written back before it answers: an access, but no miss.
     */
    f->events |= SPE_EV_SNOOPED | SPE_EV_MODIFIED;
    if (socket_of(cs->cpu_index) != socket_of(writer)) {
        f->events |= SPE_EV_REMOTE;
        f->source = SOURCE_REMOTE;
        f->cycles = SNOOP_SOCKET;
    } else if (peer && (ARM_CPU(peer)->mp_affinity & ~0xffull) !=
                       (env_archcpu(env)->mp_affinity & ~0xffull)) {
        f->source = SOURCE_PEER_CLUSTER;
        f->cycles = SNOOP_PEER;
    } else {
        f->source = SOURCE_PEER_CORE;
        f->cycles = SNOOP_CLUSTER;
    }
}

static bool recent(uint64_t writer, uint64_t now)
{
    return ((now - writer) & WRITER_TIME) < HOT_US;
}

/* Another PE that keeps storing to the line, or 0 */
static unsigned hot_writer(const uint64_t *writers, unsigned self,
                           uint64_t now)
{
    for (int i = 0; i < 2; i++) {
        uint64_t w = qatomic_read(&writers[i]);

        if ((w & WRITER_HOT) && w >> WRITER_CPU_SHIFT != self &&
            recent(w, now)) {
            return w >> WRITER_CPU_SHIFT;
        }
    }
    return 0;
}

static void note_store(uint64_t *writers, unsigned self, uint64_t now)
{
    uint64_t w[2] = { qatomic_read(&writers[0]), qatomic_read(&writers[1]) };
    uint64_t hot = 0;
    int i;

    if (w[0] >> WRITER_CPU_SHIFT == self) {
        i = 0;
    } else if (w[1] >> WRITER_CPU_SHIFT == self) {
        i = 1;
    } else {
        i = (w[1] & WRITER_TIME) < (w[0] & WRITER_TIME);
    }
    if (w[i] >> WRITER_CPU_SHIFT == self && recent(w[i], now)) {
        hot = WRITER_HOT;
    }
    qatomic_set(&writers[i], (uint64_t)self << WRITER_CPU_SHIFT | hot | now);
}

/* Access one line, and leave it in all caches. */
static void access_line(CPUARMState *env, SPETimingState *t, uint64_t line,
                        bool store, Fetch *f)
{
    uint64_t tag = line + 1;
    L1Line *l1 = &t->l1d[line % L1D_LINES];
    uint64_t *l2 = &t->l2d[line % L2D_LINES];
    uint64_t *ll = &llc[line % LLC_LINES];
    uint64_t *last = &directory[line % DIR_LINES].last;
    uint64_t *writers = directory[line % DIR_LINES].writer;
    uint64_t dirtag = (line / DIR_LINES) << 32;
    uint64_t d = qatomic_read(last);
    uint64_t now = (qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) / 1000) & WRITER_TIME;
    unsigned self = env_cpu(env)->cpu_index + 1;
    bool known = d && (d & DIR_TAG) == dirtag;
    unsigned writer = 0;
    uint32_t version = 0;
    bool stale = false;

    if (known) {
        writer = extract64(d, DIR_CPU_SHIFT, DIR_CPU_BITS);
        version = extract64(d, 0, DIR_VERSION_BITS);
        stale = writer != self &&
                (l1->tag != tag || l1->version != version);
        if (!stale) {
            unsigned hot = hot_writer(writers, self, now);

            if (hot) {
                writer = hot;
                stale = true;
            }
        }
    }

    f->events |= SPE_EV_L1D_ACCESS;
    if (l1->tag == tag && !stale) {
        f->cycles = L1D_HIT;
        f->source = SOURCE_L1D;
    } else {
        f->events |= SPE_EV_L1D_MISS | SPE_EV_L2D_ACCESS;
        if (*l2 == tag && !stale) {
            f->cycles = L2D_HIT;
            f->source = SOURCE_L2;
        } else {
            f->events |= SPE_EV_L2D_MISS | SPE_EV_LLC_ACCESS;
            if (stale) {
                snoop(env, writer - 1, f);
            } else if (qatomic_read(ll) == tag) {
                f->cycles = LLC_HIT;
                f->source = SOURCE_SYSTEM_CACHE;
            } else {
                f->events |= SPE_EV_LLC_MISS;
                f->cycles = DRAM;
                f->source = SOURCE_DRAM;
            }
        }
    }

    if (store) {
        version = extract32(version + 1, 0, DIR_VERSION_BITS);
        if (!known) {
            qatomic_set(&writers[0], 0);
            qatomic_set(&writers[1], 0);
        }
        qatomic_set(last, dirtag | (uint64_t)self << DIR_CPU_SHIFT | version);
        note_store(writers, self, now);
    }
    l1->tag = tag;
    l1->version = version;
    *l2 = tag;
    qatomic_set(ll, tag);
}

static uint32_t translate(CPUARMState *env, SPETimingState *t,
                          const SPEAccess *access, uint32_t *events)
{
    uint64_t page = extract64(access->va, 12, 44) + 1;
    uint64_t tag = page << 8 | (access->mmu_idx & 0xff);
    uint64_t *entry = &t->tlb[page % TLB_ENTRIES];
    bool two_stages;

    *events |= SPE_EV_TLB_ACCESS;
    if (*entry == tag) {
        return TLB_HIT;
    }
    *entry = tag;
    *events |= SPE_EV_TLB_WALK;
    two_stages = arm_current_el(env) < 2 &&
                 (arm_hcr_el2_eff(env) & (HCR_VM | HCR_TGE)) == HCR_VM;
    return two_stages ? TLB_WALK_2 : TLB_WALK;
}

static void time_memory(CPUARMState *env, SPETimingState *t, const SPEOp *op,
                        const SPEAccess *access, SPETiming *out)
{
    ARMCPU *cpu = env_archcpu(env);
    uint64_t addr = access->pa_valid ? access->pa : access->va;
    uint64_t offset = addr & MAKE_64BIT_MASK(0, LINE_BITS);
    Fetch f = { };

    if (!access->valid || access->failed) {
        out->total = out->issue + STORE;
        return;
    }

    out->translation = translate(env, t, access, &out->events);
    if (access->device) {
        /* No cache asks for it; of the sources, memory is the nearest. */
        f.cycles = DEVICE;
        f.source = SOURCE_DRAM;
    } else {
        access_line(env, t, (addr & MAKE_64BIT_MASK(0, 52)) >> LINE_BITS,
                    op->store, &f);
    }
    if (op->load && FIELD_EX64(cpu->spe.pmsidr, PMSIDR, LDS)) {
        out->source_valid = true;
        out->source = f.source;
    }

    if (op->load) {
        if (op->store) {
            f.cycles += ATOMIC;
        }
    } else {
        /* It finishes in the write buffer, before any cache is asked. */
        f.cycles = STORE;
        f.events &= ~(SPE_EV_SNOOPED | SPE_EV_MODIFIED |
                      SPE_EV_L2D_ACCESS | SPE_EV_L2D_MISS);
    }

    /* An access of at most a line that lies in two */
    if (!op->split && op->size > 1 && op->size <= 1u << LINE_BITS &&
        offset + op->size > 1u << LINE_BITS) {
        f.cycles += LINE_CROSSING;
        if (cpu_isar_feature(aa64_spev1p1, cpu)) {
            f.events |= SPE_EV_MISALIGNED;
        }
    }

    if (!cpu_isar_feature(aa64_spev1p4, cpu)) {
        f.events &= ~(SPE_EV_SNOOPED | SPE_EV_MODIFIED |
                      SPE_EV_L2D_ACCESS | SPE_EV_L2D_MISS);
    }
    out->events |= f.events;
    out->total = out->issue + out->translation + f.cycles;
}

/* Was the branch predicted as it went? */
static bool predicted(SPETimingState *t, const SPEOp *op, uint64_t pc,
                      uint64_t target)
{
    bool right = true;

    if (op->conditional) {
        uint8_t *counter = &t->counter[(pc >> 2) % PREDICTOR_SIZE];

        right = (*counter >= 2) == op->cond_pass;
        if (op->cond_pass) {
            *counter = MIN(*counter + 1, 3);
        } else {
            *counter -= *counter != 0;
        }
    }
    if (op->indirect) {
        uint64_t *entry = t->target[(pc >> 2) % TARGET_BUFFER];

        right = entry[0] == pc && entry[1] == target;
        entry[0] = pc;
        entry[1] = target;
    }
    return right;
}

void spe_timing(CPUARMState *env, SPETimingState *t, const SPEOp *op,
                const SPEAccess *access, uint64_t pc, uint64_t target,
                SPETiming *out)
{
    static const uint8_t cycles[] = {
        [SPE_UNIT_ALU] = 1,
        [SPE_UNIT_MUL] = 3,
        [SPE_UNIT_DIV] = 12,
        [SPE_UNIT_FP] = 4,
        [SPE_UNIT_FPDIV] = 14,
        [SPE_UNIT_SIMD] = 2,
        [SPE_UNIT_BRANCH] = 1,
        [SPE_UNIT_BARRIER] = 20,
        [SPE_UNIT_SYSTEM] = 5,
        [SPE_UNIT_MEMORY] = 0,
    };

    out->issue = ISSUE;
    out->total = ISSUE + cycles[op->unit];
    switch (op->class) {
    case SPE_CLASS_LDST:
        time_memory(env, t, op, access, out);
        break;
    case SPE_CLASS_BRANCH:
        if (!predicted(t, op, pc, target)) {
            out->events |= SPE_EV_MISPREDICTED;
            out->total += MISPREDICTED;
        }
        break;
    default:
        break;
    }
}
