/*
 * Arm Statistical Profiling Extension: records on their way to memory
 *
 * A record is written through the owning translation regime (Arm ARM
 * D17.7.5), at any Exception level and without an exception: what goes wrong
 * becomes a Profiling Buffer management event (D17.8).
 *
 * With spe-defer=N, records stay in flight as long as the architecture lets
 * them (D17.9 I_MLGHW), which is what finds missing barriers:
 *
 *     sampled --CSE--> ordered --PSB CSYNC--> covered --DSB--> written
 *
 * and MRS shows the writes to PMBPTR_EL1 and PMBSR_EL1 that come with them
 * only after one more Context synchronization event.
 *
 * Locking: everything here runs in the thread of the PE itself and touches
 * only its own state. The BQL is taken for the interrupt, and for a buffer
 * that is not in RAM.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "exec/exec-all.h"
#include "exec/memory.h"
#include "migration/vmstate.h"
#include "cpu.h"
#include "internals.h"
#include "target/arm/cpu-features.h"
#include "trace.h"

/* PMBSR_EL1.FSC where no ARMMMUFaultInfo tells it. */
#define SPE_FSC_SYNC_EXTERNAL   0x10
#define SPE_FSC_ALIGNMENT       0x21

/* How far a record in flight has come. */
enum {
    SPE_SAMPLED,
    SPE_ORDERED,        /* before the last Context synchronization event */
    SPE_COVERED,        /* by a PSB CSYNC after that: the next DSB waits */
};

/* Records in flight, oldest first: a ring of DEPTH slots. */
typedef struct ARMSPEQueue {
    uint32_t depth;                 /* spe-defer */
    uint32_t slot_size;             /* 1 << PMSIDR_EL1.MaxSize */
    uint32_t head;
    uint32_t count;
    uint32_t bytes;                 /* of the COUNT records */
    uint32_t data_size;
    uint64_t rng;
    uint32_t len[ARM_SPE_MAX_DEFER];
    uint8_t stage[ARM_SPE_MAX_DEFER];
    uint8_t *data;
} ARMSPEQueue;

static uint64_t spe_max_record(ARMCPU *cpu)
{
    return 1ull << FIELD_EX64(cpu->spe.pmsidr, PMSIDR, MAXSIZE);
}

static uint64_t spe_limit(CPUARMState *env)
{
    return env->spe.pmblimitr & R_PMBLIMITR_LIMIT_MASK;
}

/* ASL SPEBufferIsFull(), for a write pointer of PTR. */
static bool spe_no_room(CPUARMState *env, uint64_t ptr)
{
    uint64_t limit = spe_limit(env);
    uint64_t max = spe_max_record(env_archcpu(env));

    return limit < max || ptr > limit - max;
}

static bool spe_discard_mode(CPUARMState *env)
{
    return cpu_isar_feature(aa64_spev1p2, env_archcpu(env)) &&
           FIELD_EX64(env->spe.pmblimitr, PMBLIMITR, FM) == ARM_SPE_FM_DISCARD;
}

/* --- Records in flight -------------------------------------------------- */

static void spe_queue_clear(ARMSPEQueue *q)
{
    q->head = 0;
    q->count = 0;
    q->bytes = 0;
}

/* NULL unless spe-defer is in use. */
static ARMSPEQueue *spe_queue(ARMCPU *cpu)
{
    ARMSPEQueue *q = cpu->spe_queue;

    if (!q && cpu->spe.defer) {
        q = g_new0(ARMSPEQueue, 1);
        q->depth = cpu->spe.defer;
        q->slot_size = spe_max_record(cpu);
        q->data_size = q->depth * q->slot_size;
        q->data = g_malloc0(q->data_size);
        cpu->spe_queue = q;
    }
    return q;
}

static uint32_t spe_in_flight(ARMCPU *cpu)
{
    return cpu->spe_queue ? cpu->spe_queue->count : 0;
}

static void spe_queue_push(ARMSPEQueue *q, const uint8_t *rec, size_t len)
{
    uint32_t slot = (q->head + q->count) % q->depth;

    memcpy(q->data + slot * q->slot_size, rec, len);
    q->len[slot] = len;
    q->stage[slot] = SPE_SAMPLED;
    q->count++;
    q->bytes += len;
}

static void spe_queue_pop(ARMSPEQueue *q)
{
    q->bytes -= q->len[q->head];
    q->head = (q->head + 1) % q->depth;
    q->count--;
}

/* Move what has come to stage FROM on to stage TO. */
static void spe_queue_advance(ARMSPEQueue *q, int from, int to)
{
    for (uint32_t i = 0; i < q->count; i++) {
        uint32_t slot = (q->head + i) % q->depth;

        if (q->stage[slot] == from) {
            q->stage[slot] = to;
        }
    }
}

/* xorshift64: only to vary which records hardware happens to write early. */
static uint64_t spe_queue_random(ARMSPEQueue *q)
{
    q->rng ^= q->rng << 13;
    q->rng ^= q->rng >> 7;
    q->rng ^= q->rng << 17;
    return q->rng >> 16;
}

/*
 * Before an indirect write to PMBPTR_EL1 or PMBSR_EL1: a direct read needs
 * explicit synchronization to observe it (D17.9 I_MLGHW).
 */
static void spe_indirect_write(CPUARMState *env)
{
    if (env_archcpu(env)->spe.defer && !env->spe.stale) {
        env->spe.stale_pmbptr = env->spe.pmbptr;
        env->spe.stale_pmbsr = env->spe.pmbsr;
        env->spe.stale = true;
    }
}

/* --- Management events -------------------------------------------------- */

/* Profiling is stopped; what could not be written yet never will be. */
static void spe_drop_in_flight(ARMCPU *cpu)
{
    uint32_t n = spe_in_flight(cpu);

    if (n) {
        trace_spe_drop(CPU(cpu)->cpu_index, n);
        cpu->spe_stats.discarded += n;
        spe_queue_clear(cpu->spe_queue);
    }
}

static void spe_count_event(ARMSPEStats *stats, unsigned ec, unsigned mss)
{
    if (ec == ARM_SPE_EC_OTHER && mss == ARM_SPE_BSC_FULL) {
        stats->buffer_full++;
    } else if (ec == ARM_SPE_EC_STAGE1 && mss != SPE_FSC_ALIGNMENT &&
               mss != SPE_FSC_SYNC_EXTERNAL) {
        stats->stage1_faults++;
    } else if (ec == ARM_SPE_EC_STAGE2) {
        stats->stage2_faults++;
    } else {
        stats->other_events++;
    }
}

/*
 * Record an event. EXTRA is what it sets beside S, EC and MSS: DL, EA; what
 * it does not mention keeps its value, so software has to clear it.
 */
static void spe_event(CPUARMState *env, unsigned ec, unsigned mss,
                      uint64_t extra)
{
    ARMCPU *cpu = env_archcpu(env);
    uint64_t pmbsr = env->spe.pmbsr;

    spe_drop_in_flight(cpu);
    if (pmbsr & R_PMBSR_S_MASK) {
        return;
    }
    spe_indirect_write(env);
    pmbsr = FIELD_DP64(pmbsr, PMBSR, MSS, mss);
    /* All flags of MSS2 belong to features that QEMU does not have. */
    pmbsr = FIELD_DP64(pmbsr, PMBSR, MSS2, 0);
    pmbsr = FIELD_DP64(pmbsr, PMBSR, EC, ec);
    env->spe.pmbsr = pmbsr | extra | R_PMBSR_S_MASK;

    spe_count_event(&cpu->spe_stats, ec, mss);
    trace_spe_event(CPU(cpu)->cpu_index, env->spe.pmbsr, env->spe.pmbptr);

    arm_rebuild_hflags(env);
    arm_spe_update_irq(env);
}

/*
 * A write to VA, part of the record that starts at PMBPTR_EL1, generates a
 * fault (D17.8.3) or an External abort that the SPU learns of (D17.8.4.4).
 */
static void spe_fault_event(CPUARMState *env, uint64_t va, unsigned ec,
                            unsigned fsc, uint64_t extra)
{
    /*
     * The ASL leaves DL alone in all cases. The text, R_YZJQX, wants it set
     * if PMBPTR_EL1 is not just after the last complete record.
     */
    if (va != env->spe.pmbptr) {
        extra |= R_PMBSR_DL_MASK;
    }
    spe_indirect_write(env);
    env->spe.pmbptr = va;
    spe_event(env, ec, fsc, extra);
}

static void spe_mmu_fault(CPUARMState *env, uint64_t va, ARMMMUFaultInfo *fi)
{
    unsigned ec = fi->stage2 ? ARM_SPE_EC_STAGE2 : ARM_SPE_EC_STAGE1;
    unsigned fsc = arm_fi_to_lfsc(fi) & 0x3f;

    if (fi->type == ARMFault_GPCFOnOutput || fi->type == ARMFault_GPCFOnWalk) {
        if (fi->gpcf != GPCF_Fail) {
            ec = ARM_SPE_EC_GPC;
            fsc = 0;
        } else if (fi->type == ARMFault_GPCFOnOutput) {
            ec = ARM_SPE_EC_STAGE1;
        }
    }
    trace_spe_fault(CPU(env_archcpu(env))->cpu_index, va, ec, fsc,
                    fi->stage2 ? fi->s2addr : 0);
    /*
     * An External abort on a walk is one of the faults. Whether it sets EA
     * is IMPLEMENTATION DEFINED: not here, as in the ASL.
     */
    spe_fault_event(env, va, ec, fsc, 0);
}

/*
 * What D17.7.4 (R_HXSYK, R_HLXGD) asks of the pointers. To break a rule is
 * CONSTRAINED UNPREDICTABLE (R_PGGHS); of the choices this model takes the
 * ones that tell software most and write nothing.
 */
static bool spe_check_pointers(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);
    uint64_t ptr = env->spe.pmbptr;
    uint64_t limit = spe_limit(env);
    uint64_t max = cpu->spe.max_buffer_size;
    uint64_t align = 1ull << FIELD_EX64(cpu->spe.pmbidr, PMBIDR, ALIGN);

    if (spe_no_room(env, ptr) ||
        extract64(ptr, 56, 8) != extract64(limit, 56, 8)) {
        spe_event(env, ARM_SPE_EC_OTHER, ARM_SPE_BSC_FULL, 0);
        return false;
    }
    /*
     * No hardware has a maximum, hypervisors do: this is how a guest's
     * driver sees one (BSC 4, "buffer size too large").
     */
    if (max && limit - ptr > max) {
        spe_event(env, ARM_SPE_EC_OTHER, ARM_SPE_BSC_SIZE, 0);
        return false;
    }
    /*
     * Records are padded to Align, hence only software can have misaligned
     * the pointer: there is no saved value for which the rule is waived.
     */
    if (ptr & (align - 1)) {
        spe_fault_event(env, ptr, ARM_SPE_EC_STAGE1, SPE_FSC_ALIGNMENT, 0);
        return false;
    }
    return true;
}

void arm_spe_buffer_enabled_check(CPUARMState *env, bool ptr_written)
{
    if (arm_spe_buffer_enabled(env) && !spe_discard_mode(env)) {
        spe_check_pointers(env);
    }
}

/* --- Memory ------------------------------------------------------------- */

/* The part of a record that lies in one page, translated. */
typedef struct SPEChunk {
    uint64_t va;
    size_t len;
    void *host;                     /* NULL: not RAM */
    hwaddr pa;
    MemTxAttrs attrs;
} SPEChunk;

/*
 * The regime is the owner's, whatever the current Exception level. These
 * indexes are the privileged ones that do not look at PSTATE.PAN (D17.7.6).
 */
static ARMMMUIdx spe_mmu_idx(CPUARMState *env)
{
    if (arm_spe_owner_el(env, NULL) == 1) {
        return ARMMMUIdx_E10_1;
    }
    return arm_hcr_el2_eff(env) & HCR_E2H ? ARMMMUIdx_E20_2 : ARMMMUIdx_E2;
}

/* As instructions do, so that TLB maintenance finds the entry. */
static uint64_t spe_ignore_top_byte(CPUARMState *env, ARMMMUIdx idx,
                                    uint64_t va)
{
    int tbi = aa64_va_parameter_tbi(regime_tcr(env, idx), idx);

    if (extract32(tbi, extract64(va, 55, 1), 1)) {
        return regime_has_2_ranges(idx) ? sextract64(va, 0, 56) :
                                          extract64(va, 0, 56);
    }
    return va;
}

/*
 * Translate the LEN bytes at VA, which do not cross a page. Marks the bytes
 * dirty and invalidates code translated from them, as a store does.
 */
static bool spe_translate_chunk(CPUARMState *env, ARMMMUIdx idx, uint64_t va,
                                size_t len, SPEChunk *c, ARMMMUFaultInfo *fi)
{
    ARMCPU *cpu = env_archcpu(env);
    CPUTLBEntryFull *full;
    uint64_t addr = spe_ignore_top_byte(env, idx, va);
    int flags;

    memset(fi, 0, sizeof(*fi));
    /*
     * PMBIDR_EL1.F is 0: the SPU does not update descriptors. It may use
     * what an instruction has left in the TLB: a writable entry is one whose
     * page is dirty.
     */
    env->spe.no_hafdbs = !FIELD_EX64(cpu->spe.pmbidr, PMBIDR, F);
    env->tlb_fi = fi;
    flags = probe_access_full_mmu(env, addr, len, MMU_DATA_STORE,
                                  arm_to_core_mmu_idx(idx), &c->host, &full);
    env->tlb_fi = NULL;
    env->spe.no_hafdbs = false;
    if (flags & TLB_INVALID_MASK) {
        return false;
    }
    c->va = va;
    c->len = len;
    c->pa = full->phys_addr | (addr & ~TARGET_PAGE_MASK);
    c->attrs = full->attrs;
    return true;
}

/*
 * Translate a record of LEN bytes at VA, both pages if it lies in two: no
 * byte is written of a record that faults. Returns the number of chunks, or
 * 0 with *FAULT the address that faulted.
 */
static int spe_translate(CPUARMState *env, uint64_t va, size_t len,
                         SPEChunk c[2], ARMMMUFaultInfo *fi, uint64_t *fault)
{
    ARMMMUIdx idx = spe_mmu_idx(env);
    size_t first = MIN(len, -(va | TARGET_PAGE_MASK));

    *fault = va;
    if (!spe_translate_chunk(env, idx, va, first, &c[0], fi)) {
        return 0;
    }
    if (first == len) {
        return 1;
    }
    *fault = va + first;
    if (!spe_translate_chunk(env, idx, va + first, len - first, &c[1], fi)) {
        return 0;
    }
    return 2;
}

/* Returns false if the write generates an External abort. */
static bool spe_write_chunk(CPUARMState *env, const SPEChunk *c,
                            const uint8_t *data)
{
    if (likely(c->host)) {
        memcpy(c->host, data, c->len);
        return true;
    }
    /* Device memory gets its one write (D17.7.6), under the BQL. */
    return address_space_write(arm_addressspace(env_cpu(env), c->attrs),
                               c->pa, c->attrs, data, c->len) == MEMTX_OK;
}

static void spe_pend_serror(ARMCPU *cpu)
{
    BQL_LOCK_GUARD();
    cpu_interrupt(CPU(cpu), CPU_INTERRUPT_SERR);
}

/*
 * An External abort on the write itself: as PMBIDR_EL1.EA describes, the
 * write is ignored or a physical SError is pended. Where EA describes
 * nothing, which SPEv1p3 does not permit, the SPU learns of it.
 * Returns false if the SPU stops.
 */
static bool spe_external_abort(CPUARMState *env, uint64_t va)
{
    ARMCPU *cpu = env_archcpu(env);

    trace_spe_external_abort(CPU(cpu)->cpu_index, va);
    switch (FIELD_EX64(cpu->spe.pmbidr, PMBIDR, EA)) {
    case ARM_SPE_EA_NOT_DESCRIBED:
        spe_fault_event(env, va, ARM_SPE_EC_STAGE1, SPE_FSC_SYNC_EXTERNAL,
                        R_PMBSR_EA_MASK);
        return false;
    case ARM_SPE_EA_SERROR:
        spe_pend_serror(cpu);
        break;
    }
    return true;
}

/*
 * Write one record at PMBPTR_EL1 and report what comes of it.
 * Returns false if profiling stopped.
 */
static bool spe_write_record(CPUARMState *env, const uint8_t *rec, size_t len)
{
    ARMCPU *cpu = env_archcpu(env);
    uint64_t va = env->spe.pmbptr, fault;
    ARMMMUFaultInfo fi;
    SPEChunk chunk[2];
    int chunks;

    if (!spe_check_pointers(env)) {
        cpu->spe_stats.discarded++;
        return false;
    }
    chunks = spe_translate(env, va, len, chunk, &fi, &fault);
    if (!chunks) {
        cpu->spe_stats.discarded++;
        spe_mmu_fault(env, fault, &fi);
        return false;
    }
    for (int i = 0; i < chunks; i++) {
        if (!spe_write_chunk(env, &chunk[i], rec) &&
            !spe_external_abort(env, chunk[i].va)) {
            cpu->spe_stats.discarded++;
            return false;
        }
        rec += chunk[i].len;
    }
    spe_indirect_write(env);
    env->spe.pmbptr = va + len;
    cpu->spe_stats.records++;
    cpu->spe_stats.bytes += len;
    trace_spe_record(CPU(cpu)->cpu_index, va, len);

    if (spe_no_room(env, env->spe.pmbptr)) {
        spe_event(env, ARM_SPE_EC_OTHER, ARM_SPE_BSC_FULL, 0);
        return false;
    }
    return true;
}

/* Write the N oldest records in flight. Returns false if profiling stopped. */
static bool spe_drain(CPUARMState *env, uint32_t n)
{
    ARMSPEQueue *q = env_archcpu(env)->spe_queue;

    if (n && !arm_spe_buffer_enabled(env)) {
        arm_spe_buffer_context_change(env, "the owner of the buffer");
        return false;
    }
    while (n--) {
        uint8_t rec[ARM_SPE_MAX_RECORD];
        size_t len = q->len[q->head];

        /* An event clears the queue. */
        memcpy(rec, q->data + q->head * q->slot_size, len);
        spe_queue_pop(q);
        if (!spe_write_record(env, rec, len)) {
            return false;
        }
    }
    return true;
}

void arm_spe_buffer_write(CPUARMState *env, const uint8_t *rec, size_t len)
{
    ARMCPU *cpu = env_archcpu(env);
    ARMSPEQueue *q = spe_queue(cpu);
    ARMMMUFaultInfo fi;
    SPEChunk chunk[2];
    uint64_t va, fault, random;

    assert(len && len <= spe_max_record(cpu));
    if (!arm_spe_buffer_enabled(env) || spe_discard_mode(env)) {
        cpu->spe_stats.discarded++;
        return;
    }
    if (!q) {
        spe_write_record(env, rec, len);
        return;
    }

    if (!spe_check_pointers(env) ||
        (q->count == q->depth && !spe_drain(env, 1))) {
        cpu->spe_stats.discarded++;
        return;
    }
    /*
     * Faults and a full buffer are synchronous (D17.8 R_RNXZXG ff.): profiling
     * stops before the next sample. So a record that would cause one does not
     * wait, nor do those before it. Another translation when it is written
     * finds out what has changed by then.
     */
    va = env->spe.pmbptr + q->bytes;
    if (spe_no_room(env, va + len) ||
        !spe_translate(env, va, len, chunk, &fi, &fault)) {
        if (!spe_drain(env, q->count)) {
            cpu->spe_stats.discarded++;
            return;
        }
        spe_write_record(env, rec, len);
        return;
    }
    spe_queue_push(q, rec, len);
    trace_spe_defer(CPU(cpu)->cpu_index, "record", q->count);

    /* Hardware is free to write at any time. */
    random = spe_queue_random(q);
    if (!(random & 7)) {
        spe_drain(env, (random >> 3) % (q->count + 1));
    }
}

void arm_spe_buffer_collision(CPUARMState *env)
{
    spe_indirect_write(env);
    env->spe.pmbsr |= R_PMBSR_COLL_MASK;
}

/* --- Synchronization ---------------------------------------------------- */

void arm_spe_psb(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);

    if (spe_in_flight(cpu)) {
        spe_queue_advance(cpu->spe_queue, SPE_ORDERED, SPE_COVERED);
        trace_spe_defer(CPU(cpu)->cpu_index, "psb", spe_in_flight(cpu));
    }
}

void arm_spe_dsb(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);
    ARMSPEQueue *q = cpu->spe_queue;
    uint32_t n = 0;

    if (!spe_in_flight(cpu)) {
        return;
    }
    while (n < q->count && q->stage[(q->head + n) % q->depth] == SPE_COVERED) {
        n++;
    }
    spe_drain(env, n);
    trace_spe_defer(CPU(cpu)->cpu_index, "dsb", q->count);
}

void arm_spe_context_sync(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);

    if (spe_in_flight(cpu)) {
        spe_queue_advance(cpu->spe_queue, SPE_SAMPLED, SPE_ORDERED);
    }
    env->spe.stale = false;
}

uint64_t arm_spe_read_pmbptr(CPUARMState *env)
{
    return env->spe.stale ? env->spe.stale_pmbptr : env->spe.pmbptr;
}

uint64_t arm_spe_read_pmbsr(CPUARMState *env)
{
    return env->spe.stale ? env->spe.stale_pmbsr : env->spe.pmbsr;
}

void arm_spe_buffer_context_change(CPUARMState *env, const char *what)
{
    ARMCPU *cpu = env_archcpu(env);
    uint32_t n = spe_in_flight(cpu);
    uint64_t errors;

    if (!n) {
        return;
    }
    errors = ++cpu->spe_stats.errors;
    /* Software that forgets a barrier often does so a million times. */
    if (errors <= 32 || is_power_of_2(errors)) {
        error_report("spe: error: CPU %d: %s changes with %u record%s in "
                     "flight: PSB CSYNC and DSB are missing, or the context "
                     "synchronization event before them (PC 0x%" PRIx64
                     ", EL%d, PMBPTR_EL1 0x%" PRIx64 ")",
                     CPU(cpu)->cpu_index, what, n, n == 1 ? "" : "s",
                     env->pc, arm_current_el(env), env->spe.pmbptr);
    }
    /* One of the behaviors of D17.9.1 R_SXWCP, and the one that is seen. */
    spe_event(env, ARM_SPE_EC_OTHER, ARM_SPE_BSC_NOT_ALLOWED,
              R_PMBSR_DL_MASK);
}

void arm_spe_buffer_reset(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);
    ARMSPEQueue *q = spe_queue(cpu);

    if (q) {
        spe_queue_clear(q);
        q->rng = (cpu->spe.seed ^ ((uint64_t)CPU(cpu)->cpu_index << 32) ^
                  0x9e3779b97f4a7c15ull) | 1;
    }
}

/* --- Migration ---------------------------------------------------------- */

/* Records in flight go along: when they are saved, memory is sent already. */

static bool spe_buffer_needed(void *opaque)
{
    ARMCPU *cpu = opaque;

    return cpu->env.spe.stale || spe_in_flight(cpu);
}

static int spe_buffer_pre_load(void *opaque)
{
    if (!spe_queue(opaque)) {
        error_report("spe-defer must be the same on both sides");
        return -EINVAL;
    }
    return 0;
}

static int spe_queue_post_load(void *opaque, int version_id)
{
    ARMSPEQueue *q = opaque;
    uint32_t bytes = 0;

    if (q->count > q->depth || q->head >= q->depth) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < q->count; i++) {
        uint32_t slot = (q->head + i) % q->depth;

        if (!q->len[slot] || q->len[slot] > q->slot_size ||
            q->stage[slot] > SPE_COVERED) {
            return -EINVAL;
        }
        bytes += q->len[slot];
    }
    return bytes == q->bytes ? 0 : -EINVAL;
}

static const VMStateDescription vmstate_spe_queue = {
    .name = "cpu/profiling-buffer/queue",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = spe_queue_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32_EQUAL(depth, ARMSPEQueue,
                             "spe-defer must be the same on both sides"),
        VMSTATE_UINT32_EQUAL(slot_size, ARMSPEQueue,
                             "spe-max-record-size must be the same on both "
                             "sides"),
        VMSTATE_UINT32(head, ARMSPEQueue),
        VMSTATE_UINT32(count, ARMSPEQueue),
        VMSTATE_UINT32(bytes, ARMSPEQueue),
        VMSTATE_UINT64(rng, ARMSPEQueue),
        VMSTATE_UINT32_ARRAY(len, ARMSPEQueue, ARM_SPE_MAX_DEFER),
        VMSTATE_UINT8_ARRAY(stage, ARMSPEQueue, ARM_SPE_MAX_DEFER),
        VMSTATE_VBUFFER_UINT32(data, ARMSPEQueue, 1, NULL, data_size),
        VMSTATE_END_OF_LIST()
    }
};

/*
 * A subsection of the CPU's; only spe-defer ever needs it. Its name must not
 * begin with that of another one, cpu/spe.
 */
const VMStateDescription vmstate_arm_spe_buffer = {
    .name = "cpu/profiling-buffer",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = spe_buffer_needed,
    .pre_load = spe_buffer_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(env.spe.stale, ARMCPU),
        VMSTATE_UINT64(env.spe.stale_pmbptr, ARMCPU),
        VMSTATE_UINT64(env.spe.stale_pmbsr, ARMCPU),
        VMSTATE_STRUCT_POINTER(spe_queue, ARMCPU, vmstate_spe_queue,
                               ARMSPEQueue),
        VMSTATE_END_OF_LIST()
    }
};
