/*
 * Arm Statistical Profiling Extension: sampling and records
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The sample population is the architecture instructions (PMSIDR_EL1.ArchInst
 * is 1) that execute, those that take an exception included; nothing is
 * speculative.
 *
 * While profiling is enabled, TBFLAG_A64.SPE makes translation blocks count.
 * A counting TB starts by taking the number of its instructions off
 * PMSICR_EL1.COUNT (and ECOUNT). If it would reach the instruction that may
 * be selected, helper_spe_refill() has a shorter TB executed that stops right
 * before it, and then one with ARM_SPE_TB_SAMPLE, of this instruction only:
 *
 *   helper_spe_sample_begin     collects what is known before: PC, context,
 *                               operation type, condition, timestamp
 *   helper_spe_sample_access    from the translator: the address accessed
 *   helper_spe_sample_end       when no exception was taken: makes the record
 *   arm_spe_sample_exception    when one was
 *
 * An instruction that leaves without either of the last two (because QEMU
 * restarts it for its own reasons) begins again: the counter is stepped at the
 * end only. One that leaves in the middle of a counting TB has what did not
 * execute given back by arm_spe_sample_unwind(). Only TBs that the main loop
 * or the jump cache chose have ARM_SPE_TB_SAMPLE: env->spe.step, which asks
 * for it, is set and cleared where no TB gets chained to its successor.
 *
 * One sampled operation can be in flight (D17.3.7): one that is selected
 * before it has finished collides. A sampled operation takes as many cycles as
 * the total latency in its record, and in each cycle one operation of the
 * sample population starts. Exceptions and writes to the registers of the
 * extension wait for it.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "internals.h"
#include "exec/exec-all.h"
#include "exec/translation-block.h"
#include "exec/helper-proto.h"
#include "target/arm/cpu-features.h"
#include "spe-sample.h"
#include "trace.h"

/* ARMSPEState.sample_flags: arm_spe_sample_unwind() was called */
#define SPE_SF_UNWOUND  1

/* MSR PMSICR_EL1, Xt without the register's number */
#define INSN_MSR_PMSICR 0xd5189940

typedef struct ARMSPESampler {
    /* The operation that may be selected; valid while pending */
    bool pending;
    bool selected;
    bool context_valid[2];      /* CONTEXTIDR_EL1, CONTEXTIDR_EL2 */
    bool timestamp_valid;
    bool collect_pa;
    bool hide_nv2_va;
    int el;
    uint32_t insn;
    uint32_t context[2];
    uint64_t pc;
    uint64_t timestamp;
    uint64_t pmsirr;
    SPEOp op;
    SPEAccess access;

    SPETimingState *timing;
} ARMSPESampler;

/* ------------------------------------------------------------------------ */
/* The sample interval counters, D17.3                                       */

static uint64_t spe_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static ARMSPESampler *spe_sampler(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);

    if (unlikely(!cpu->spe_sampler)) {
        cpu->spe_sampler = g_new0(ARMSPESampler, 1);
        cpu->spe_sampler->timing = spe_timing_new();
    }
    return cpu->spe_sampler;
}

void arm_spe_sample_reset(CPUARMState *env)
{
    ARMSPESampler *s = env_archcpu(env)->spe_sampler;

    if (s) {
        s->pending = false;
        spe_timing_reset(s->timing);
    }
}

/* ASL SPEGetRandomInterval() */
static uint8_t spe_random_interval(uint64_t *rng)
{
    *rng += 0x9e3779b97f4a7c15ull;
    return spe_mix(*rng) >> 56;
}

static bool spe_ernd(CPUARMState *env)
{
    return FIELD_EX64(env_archcpu(env)->spe.pmsidr, PMSIDR, ERND);
}

/* ASL SPEResetSampleCounter() */
static uint64_t spe_reload(CPUARMState *env, uint64_t pmsicr, uint64_t pmsirr,
                           uint64_t *rng)
{
    uint32_t count = FIELD_EX64(pmsirr, PMSIRR, INTERVAL) << 8;

    if (FIELD_EX64(pmsirr, PMSIRR, RND) && !spe_ernd(env)) {
        count |= spe_random_interval(rng);
    }
    return FIELD_DP64(pmsicr, PMSICR, COUNT, count);
}

/* ASL SPEToCollectSample(): step the counters by one operation. */
static bool spe_step(CPUARMState *env, uint64_t *pmsicr, uint64_t pmsirr,
                     uint64_t *rng)
{
    bool both = FIELD_EX64(pmsirr, PMSIRR, RND) && spe_ernd(env);
    uint32_t count = FIELD_EX64(*pmsicr, PMSICR, COUNT);
    uint32_t ecount = FIELD_EX64(*pmsicr, PMSICR, ECOUNT);

    if (count == 0) {
        *pmsicr = spe_reload(env, *pmsicr, pmsirr, rng);
    } else {
        *pmsicr = FIELD_DP64(*pmsicr, PMSICR, COUNT, --count);
        if (count == 0) {
            if (!both) {
                return true;
            }
            ecount = spe_random_interval(rng);
            *pmsicr = FIELD_DP64(*pmsicr, PMSICR, ECOUNT, ecount);
            return ecount == 0;
        }
    }
    if (both && ecount) {
        *pmsicr = FIELD_DP64(*pmsicr, PMSICR, ECOUNT, --ecount);
        return ecount == 0;
    }
    return false;
}

/* Is the secondary counter in use? */
static bool spe_counts_both(CPUARMState *env)
{
    return FIELD_EX64(env->spe.pmsirr, PMSIRR, RND) && spe_ernd(env) &&
           FIELD_EX64(env->spe.pmsicr, PMSICR, ECOUNT);
}

/* How many operations until one that may be selected; 0: not yet known */
static uint32_t spe_remaining(CPUARMState *env)
{
    uint32_t count = FIELD_EX64(env->spe.pmsicr, PMSICR, COUNT);
    uint32_t ecount = FIELD_EX64(env->spe.pmsicr, PMSICR, ECOUNT);

    if (!spe_counts_both(env)) {
        return count;
    }
    return count ? MIN(count, ecount) : ecount;
}

static void spe_take(CPUARMState *env, uint32_t n)
{
    if (spe_counts_both(env)) {
        env->spe.pmsicr -= (uint64_t)n << R_PMSICR_ECOUNT_SHIFT;
    }
    env->spe.pmsicr = FIELD_DP64(env->spe.pmsicr, PMSICR, COUNT,
                                 FIELD_EX64(env->spe.pmsicr,
                                            PMSICR, COUNT) - n);
}

/* N operations of the population have executed. */
static void spe_add_population(CPUARMState *env, uint32_t n)
{
    env_archcpu(env)->spe_stats.population += n;
    env->spe.busy -= MIN(env->spe.busy, n);
}

static void spe_count_population(CPUARMState *env)
{
    uint32_t count = env->spe.pmsicr;

    spe_add_population(env, env->spe.last_count - count);
    env->spe.last_count = count;
}

void arm_spe_sampling_change(CPUARMState *env)
{
    spe_count_population(env);
}

void arm_spe_sampling_changed(CPUARMState *env)
{
    env->spe.step = 0;
    env->spe.branch_target = 0;
    env->spe.busy = 0;
    env->spe.last_count = env->spe.pmsicr;
}

unsigned arm_spe_tb_state(CPUARMState *env)
{
    env->spe.sample_flags &= ~SPE_SF_UNWOUND;
    if (env->spe.step) {
        if (spe_remaining(env) == 1) {
            return ARM_SPE_TB_SAMPLE;
        }
        env->spe.step = 0;
    }
    return spe_counts_both(env) ? ARM_SPE_TB_COUNT_BOTH : ARM_SPE_TB_COUNT;
}

/*
 * A counting TB of @n instructions starts, but the counters are not larger
 * than @n, so that nothing was counted yet.
 */
uint32_t HELPER(spe_refill)(CPUARMState *env, uint32_t n, uint32_t cflags)
{
    CPUState *cs = env_cpu(env);
    uint32_t remaining;

    spe_count_population(env);
    if (FIELD_EX64(env->spe.pmsicr, PMSICR, COUNT) == 0) {
        /*
         * The next operation reloads the counter and does not decrement it:
         * the same as one decrement from the next higher value.
         */
        uint32_t count;

        env->spe.pmsicr = spe_reload(env, env->spe.pmsicr, env->spe.pmsirr,
                                     &env->spe.rng);
        count = FIELD_EX64(env->spe.pmsicr, PMSICR, COUNT);
        if (count == 0 && !spe_counts_both(env)) {
            /* INTERVAL is 0: nothing is ever selected */
            return ARM_SPE_REFILL_COUNTED;
        }
        if (count != UINT32_MAX) {
            env->spe.pmsicr = FIELD_DP64(env->spe.pmsicr, PMSICR, COUNT,
                                         count + 1);
        }
        env->spe.last_count = env->spe.pmsicr;
    }

    remaining = spe_remaining(env);
    if (remaining > n) {
        spe_take(env, n);
        return ARM_SPE_REFILL_COUNTED;
    }

    /* The TB is left before its first instruction. */
    if (cflags & CF_USE_ICOUNT) {
        cs->neg.icount_decr.u16.low += n;
    }
    if (remaining == 1) {
        env->spe.step = 1;
        return ARM_SPE_REFILL_SAMPLE;
    }
    cs->cflags_next_tb = (cflags & ~CF_COUNT_MASK) | (remaining - 1);
    return ARM_SPE_REFILL_SHORTER;
}

void arm_spe_sample_unwind(CPUARMState *env, const TranslationBlock *tb,
                           unsigned insn_index)
{
    /* A64 keeps its flags in cs_base, see arm_tbflags_from_tb(). */
    unsigned state = FIELD_EX64(tb->cs_base, TBFLAG_A64, SPE);

    if (likely(state == ARM_SPE_TB_OFF || state == ARM_SPE_TB_SAMPLE)) {
        return;
    }
    spe_take(env, insn_index - tb->icount);
    env->spe.sample_flags |= SPE_SF_UNWOUND;
}

/* ------------------------------------------------------------------------ */
/* Which data is collected, D17.6.9                                          */

/* ASL CollectContextIDR1() and CollectContextIDR2() */
static void spe_collect_context(CPUARMState *env, ARMSPESampler *s)
{
    bool el2 = arm_is_el2_enabled(env);

    s->context_valid[0] = s->el != 2 &&
        !(el2 && (arm_hcr_el2_eff(env) & HCR_TGE)) &&
        FIELD_EX64(env->spe.pmscr_el[1], PMSCR, CX);
    s->context[0] = env->cp15.contextidr_el[1];
    s->context_valid[1] = el2 && FIELD_EX64(env->spe.pmscr_el[2], PMSCR, CX);
    s->context[1] = env->cp15.contextidr_el[2];
}

/* ASL CollectPhysicalAddress() */
static bool spe_collect_pa(CPUARMState *env, int owner)
{
    bool pa1 = FIELD_EX64(env->spe.pmscr_el[1], PMSCR, PA);
    bool pa2 = FIELD_EX64(env->spe.pmscr_el[2], PMSCR, PA);

    if (arm_is_el2_enabled(env)) {
        return pa2 && (owner == 2 || pa1);
    }
    return pa1;
}

/*
 * The Effective value of PMSCR_ELx.PCT. Bit 1 is RES0 without FEAT_ECV; the
 * reserved value 0b10 behaves as 0b00.
 */
static unsigned spe_pct(CPUARMState *env, int el)
{
    unsigned pct = FIELD_EX64(env->spe.pmscr_el[el], PMSCR, PCT);

    if (!cpu_isar_feature(aa64_ecv_traps, env_archcpu(env))) {
        return pct & 1;
    }
    return pct == 2 ? 0 : pct;
}

static uint64_t spe_physical_offset(CPUARMState *env)
{
    if (!arm_feature(env, ARM_FEATURE_EL2) ||
        !cpu_isar_feature(aa64_ecv, env_archcpu(env)) ||
        !FIELD_EX64(env->cp15.cnthctl_el2, CNTHCTL, ECV) ||
        (arm_feature(env, ARM_FEATURE_EL3) &&
         !(env->cp15.scr_el3 & SCR_ECVEN))) {
        return 0;
    }
    return env->cp15.cntpoff_el2;
}

/* ASL CollectTimeStamp(), Table D17-3 */
static void spe_collect_timestamp(CPUARMState *env, ARMSPESampler *s,
                                  int owner)
{
    unsigned pct1 = spe_pct(env, 1);
    unsigned pct2 = spe_pct(env, 2);
    unsigned pct;

    s->timestamp_valid = FIELD_EX64(env->spe.pmscr_el[owner], PMSCR, TS);
    if (!s->timestamp_valid) {
        return;
    }

    if (owner == 2) {
        pct = pct2;
    } else if (!arm_is_el2_enabled(env)) {
        pct = pct1;
    } else if (pct1 == 0 || pct2 == 0) {
        pct = 0;
    } else {
        pct = pct1 | pct2;
    }

    s->timestamp = gt_get_countervalue(env);
    switch (pct) {
    case 0:
        s->timestamp -= gt_direct_access_timer_offset(env, GTIMER_VIRT);
        break;
    case 3:
        s->timestamp -= spe_physical_offset(env);
        break;
    }
}

/* Address packet for the PC or a branch target, D18.2.1 */
static uint64_t spe_instruction_address(CPUARMState *env, uint64_t va, int el)
{
    ARMSecuritySpace space = arm_security_space_below_el3(env);
    uint64_t addr = va & MAKE_64BIT_MASK(0, 56);

    addr = deposit64(addr, 61, 2, el);
    if (space != ARMSS_Secure) {
        addr |= 1ull << 63;
    }
    if (space == ARMSS_Realm) {
        addr |= 1ull << 60;
    }
    return addr;
}

/* ------------------------------------------------------------------------ */
/* Filters, D17.5                                                            */

/*
 * A filter that selects nothing is CONSTRAINED UNPREDICTABLE and passes all
 * here; an event in both PMSEVFR_EL1 and PMSNEVFR_EL1 makes no record pass.
 */
static bool spe_filter_events(CPUARMState *env, uint64_t events)
{
    ARMCPU *cpu = env_archcpu(env);
    uint64_t mask = arm_spe_event_mask(cpu);
    uint64_t evfr = env->spe.pmsevfr & mask;
    uint64_t nevfr = env->spe.pmsnevfr & mask;

    if (FIELD_EX64(env->spe.pmsfcr, PMSFCR, FE) && (evfr & ~events)) {
        return false;
    }
    if (FIELD_EX64(cpu->spe.pmsidr, PMSIDR, FNE) &&
        FIELD_EX64(env->spe.pmsfcr, PMSFCR, FNE) && (nevfr & events)) {
        return false;
    }
    return true;
}

static bool spe_filter_type(CPUARMState *env, const SPEOp *op)
{
    uint64_t fcr = env->spe.pmsfcr;
    bool eft = FIELD_EX64(env_archcpu(env)->spe.pmsidr, PMSIDR, EFT);
    unsigned flags = (op->class == SPE_CLASS_BRANCH) |
                     op->load << 1 | op->store << 2 |
                     op->fp << 3 | op->simd << 4;
    unsigned ctrl = extract64(fcr, R_PMSFCR_B_SHIFT, eft ? 5 : 3);
    unsigned mask = eft ? extract64(fcr, R_PMSFCR_BM_SHIFT, 5) : 0;
    unsigned any = ctrl & ~mask;

    if (!FIELD_EX64(fcr, PMSFCR, FT)) {
        return true;
    }
    return (!any || (flags & any)) && (flags & mask) == (ctrl & mask);
}

static bool spe_filter_latency(CPUARMState *env, const SPETiming *t)
{
    return !FIELD_EX64(env->spe.pmsfcr, PMSFCR, FL) ||
           t->total >= extract64(env->spe.pmslatfr, 0, 16);
}

static bool spe_filter_source(CPUARMState *env, const SPEOp *op,
                              const SPETiming *t)
{
    return !FIELD_EX64(env_archcpu(env)->spe.pmsidr, PMSIDR, FDS) ||
           !FIELD_EX64(env->spe.pmsfcr, PMSFCR, FDS) ||
           !op->load || !t->source_valid ||
           extract64(env->spe.pmsdsfr, t->source & 63, 1);
}

/* ------------------------------------------------------------------------ */
/* Records, D18                                                              */

typedef struct SPERecord {
    size_t len;
    uint8_t data[ARM_SPE_MAX_RECORD];
} SPERecord;

static void spe_put(SPERecord *r, uint8_t header, uint64_t payload,
                    unsigned size)
{
    r->data[r->len++] = header | ctz32(size) << 4;
    for (unsigned i = 0; i < size; i++) {
        r->data[r->len++] = payload >> (8 * i);
    }
}

static void spe_put_address(SPERecord *r, unsigned index, uint64_t payload)
{
    spe_put(r, 0x80 | index, payload, 8);
}

static void spe_put_counter(CPUARMState *env, SPERecord *r, unsigned index,
                            uint32_t cycles)
{
    uint64_t pmsidr = env_archcpu(env)->spe.pmsidr;
    uint32_t max = FIELD_EX64(pmsidr, PMSIDR, COUNTSIZE) == 3 ? 0xffff : 0xfff;

    spe_put(r, 0x88 | index, MIN(cycles, max), 2);
}

/* Data virtual address: without TBI the top byte reads as zero. */
static uint64_t spe_data_address(CPUARMState *env, ARMSPESampler *s)
{
    ARMMMUIdx idx = core_to_aa64_mmu_idx(s->access.mmu_idx);
    int tbi = aa64_va_parameter_tbi(regime_tcr(env, idx), idx);

    if (extract32(tbi, extract64(s->access.va, 55, 1), 1)) {
        return s->access.va;
    }
    return s->access.va & MAKE_64BIT_MASK(0, 56);
}

static uint64_t spe_data_physical_address(CPUARMState *env, ARMSPESampler *s)
{
    uint64_t addr = s->access.pa & MAKE_64BIT_MASK(0, 56);

    if (!s->access.secure) {
        addr |= 1ull << 63;
    }
    if (s->access.realm) {
        addr |= 1ull << 60;
    }
    if (s->access.checked) {
        addr |= 1ull << 62;
        addr = deposit64(addr, 56, 4, extract64(s->access.va, 56, 4));
    }
    return addr;
}

static void spe_write_record(CPUARMState *env, ARMSPESampler *s,
                             const SPETiming *t, uint64_t target,
                             bool exception)
{
    ARMCPU *cpu = env_archcpu(env);
    uint32_t align = 1u << FIELD_EX64(cpu->spe.pmbidr, PMBIDR, ALIGN);
    const SPEOp *op = &s->op;
    SPERecord r;

    r.len = 0;
    spe_put_address(&r, 0, spe_instruction_address(env, s->pc, s->el));
    if (!exception && op->class == SPE_CLASS_BRANCH && op->cond_pass) {
        spe_put_address(&r, 1,
                        spe_instruction_address(env, target,
                                                arm_current_el(env)));
    }
    if (FIELD_EX64(cpu->spe.pmsidr, PMSIDR, PBT) &&
        (env->spe.branch_target & ARM_SPE_PBT_VALID)) {
        spe_put_address(&r, 4, spe_instruction_address(env,
                            env->spe.branch_target,
                            extract64(env->spe.branch_target, 61, 2)));
    }
    if (s->context_valid[0]) {
        spe_put(&r, 0x44, s->context[0], 4);
    }
    if (s->context_valid[1]) {
        spe_put(&r, 0x45, s->context[1], 4);
    }
    spe_put(&r, 0x48 | op->class, op->subclass, 1);
    spe_put(&r, 0x42, t->events, t->events >> 16 ? 4 : 2);
    spe_put_counter(env, &r, 1, t->issue);
    if (!exception && op->class == SPE_CLASS_LDST && s->access.valid &&
        !s->access.failed) {
        spe_put_counter(env, &r, 2, t->translation);
    }
    spe_put_counter(env, &r, 0, t->total);
    if (!exception && s->access.valid) {
        if (!(s->access.nv2 && s->hide_nv2_va)) {
            spe_put_address(&r, 2, spe_data_address(env, s));
            if (s->collect_pa && s->access.pa_valid) {
                spe_put_address(&r, 3, spe_data_physical_address(env, s));
            }
        }
        if (t->source_valid) {
            spe_put(&r, 0x43, t->source, 1);
        }
    }
    if (s->timestamp_valid) {
        spe_put(&r, 0x41, s->timestamp, 8);
    } else {
        r.data[r.len++] = 0x01;
    }
    while (r.len & (align - 1)) {
        r.data[r.len++] = 0;
    }
    assert(r.len <= 1u << FIELD_EX64(cpu->spe.pmsidr, PMSIDR, MAXSIZE));

    arm_spe_buffer_write(env, r.data, r.len);
}

/* Translate the address accessed, as the access itself did just now. */
static void spe_translate(CPUARMState *env, ARMSPESampler *s)
{
    SPEAccess *a = &s->access;
    CPUTLBEntryFull *full;
    void *host;
    int flags;

    flags = probe_access_full_mmu(env, a->va, 0,
                                  s->op.load ? MMU_DATA_LOAD : MMU_DATA_STORE,
                                  a->mmu_idx, &host, &full);
    if (flags & TLB_INVALID_MASK) {
        return;
    }
    a->pa_valid = true;
    a->pa = (full->phys_addr & TARGET_PAGE_MASK) | (a->va & ~TARGET_PAGE_MASK);
    a->secure = full->attrs.secure;
    a->realm = full->attrs.space == ARMSS_Realm;
    /* Only Tagged memory has tags to check against, see mte_helper.c. */
    a->checked &= full->extra.arm.pte_attrs == 0xf0 && !(flags & TLB_MMIO);
    a->device = flags & TLB_MMIO;
}

/* ASL SPECompleteSample() */
static void spe_complete(CPUARMState *env, ARMSPESampler *s, bool exception)
{
    ARMSPEStats *stats = &env_archcpu(env)->spe_stats;
    SPEOp *op = &s->op;
    SPETiming t = { };
    uint64_t target = is_a64(env) ? env->pc : env->regs[15];

    s->pending = false;
    env->spe.step = 0;
    spe_count_population(env);
    if ((s->insn & ~0x1fu) != INSN_MSR_PMSICR || s->access.nv2 || exception) {
        spe_step(env, &env->spe.pmsicr, s->pmsirr, &env->spe.rng);
        spe_add_population(env, 1);
    }
    env->spe.last_count = env->spe.pmsicr;
    if (!s->selected) {
        return;
    }

    if (env->spe.busy) {
        stats->collisions++;
        trace_spe_collision(env_cpu(env)->cpu_index, s->pc);
        arm_spe_buffer_collision(env);
        return;
    }
    stats->samples++;

    if (exception) {
        /*
         * D17.6.10: only Events and the end are guaranteed. Such an operation
         * is not a branch (D17.6.3), and its address was not accessed.
         */
        if (op->class == SPE_CLASS_BRANCH) {
            *op = (SPEOp) { .unit = SPE_UNIT_SYSTEM };
        }
        op->conditional = false;
        s->access.valid = false;
        t.events = SPE_EV_EXCEPTION | SPE_EV_RETIRED;
        t.issue = 1;
        t.total = 1;
    } else {
        if (op->class != SPE_CLASS_LDST || op->no_access) {
            s->access.valid = false;
        }
        if (s->access.valid) {
            if (op->align) {
                s->access.va &= ~(uint64_t)(op->align - 1);
            }
            /* What was not accessed has an address, and no more. */
            s->access.failed = op->store_exclusive &&
                               env->xregs[extract32(s->insn, 16, 5)] == 1;
            if (s->access.failed) {
                s->access.checked = false;
            } else {
                spe_translate(env, s);
            }
        }
        spe_timing(env, s->timing, op, &s->access, s->pc, target, &t);
        t.events |= SPE_EV_RETIRED;
        if (op->conditional && !op->cond_pass) {
            t.events |= SPE_EV_NOT_TAKEN;
        }
        if (op->predicated &&
            cpu_isar_feature(aa64_spev1p1, env_archcpu(env))) {
            t.events |= (op->pred_partial ? SPE_EV_PRED_PARTIAL : 0) |
                        (op->pred_empty ? SPE_EV_PRED_EMPTY : 0);
        }
    }

    /* Whether a filter drops its record or not, it was sampled. */
    env->spe.busy = t.total;

    if (!spe_filter_events(env, t.events) || !spe_filter_type(env, op) ||
        !spe_filter_latency(env, &t) || !spe_filter_source(env, op, &t)) {
        stats->filtered++;
        trace_spe_sample(env_cpu(env)->cpu_index, s->pc, op->class,
                         op->subclass, t.events, "filtered");
        return;
    }

    trace_spe_sample(env_cpu(env)->cpu_index, s->pc, op->class, op->subclass,
                     t.events, "record");
    spe_write_record(env, s, &t, target, exception);
}

void arm_spe_sample_end(CPUARMState *env)
{
    ARMSPESampler *s = env_archcpu(env)->spe_sampler;

    if (s && s->pending) {
        spe_complete(env, s, false);
    }
}

void HELPER(spe_sample_end)(CPUARMState *env)
{
    arm_spe_sample_end(env);
}

/*
 * Does FEAT_MTE check this access, by its address, if checks are active at its
 * privilege and its memory is Tagged?
 */
static bool spe_tag_checked(CPUARMState *env, uint64_t va)
{
    CPUARMTBFlags flags = env->hflags;
    unsigned range = extract64(va, 55, 1);

    return extract32(EX_TBFLAG_A64(flags, TBID), range, 1) &&
           !(extract32(EX_TBFLAG_A64(flags, TCMA), range, 1) &&
             extract64(va, 56, 4) == (range ? 15 : 0));
}

void HELPER(spe_sample_begin)(CPUARMState *env, uint32_t insn)
{
    ARMSPESampler *s = spe_sampler(env);
    uint64_t pmsicr = env->spe.pmsicr;
    uint64_t rng = env->spe.rng;
    bool secure;
    int owner;

    s->pending = true;
    s->insn = insn;
    s->pmsirr = env->spe.pmsirr;
    s->access.nv2 = false;
    s->selected = spe_step(env, &pmsicr, s->pmsirr, &rng);
    if (!s->selected) {
        return;
    }

    owner = arm_spe_owner_el(env, &secure);
    s->pc = env->pc;
    s->el = arm_current_el(env);
    s->collect_pa = spe_collect_pa(env, owner);
    s->hide_nv2_va = !arm_spe_profiling_enabled(env, 2);
    spe_collect_context(env, s);
    spe_collect_timestamp(env, s, owner);
    memset(&s->access, 0, sizeof(s->access));
    memset(&s->op, 0, sizeof(s->op));
    s->access.mmu_idx = arm_env_mmu_index(env);
    spe_decode(env, insn,
               spe_mix(env_archcpu(env)->spe_stats.samples ^ env->spe.rng),
               &s->op);
    if (s->op.va_decoded) {
        s->access.valid = true;
        s->access.va = s->op.va;
        s->access.checked = s->op.checked &&
                            EX_TBFLAG_A64(env->hflags, MTE_ACTIVE) &&
                            spe_tag_checked(env, s->op.va);
    }
}

void HELPER(spe_sample_access)(CPUARMState *env, uint64_t va, uint32_t mmu_idx,
                               uint32_t flags)
{
    ARMSPESampler *s = spe_sampler(env);
    SPEAccess *a = &s->access;

    if (!s->pending) {
        return;
    }
    /* spe_complete() asks this of an MSR that was not selected, too. */
    a->nv2 = flags & ARM_SPE_ACCESS_NV2;
    if (!s->selected) {
        return;
    }
    if (a->nv2) {
        bool load = extract32(s->insn, 21, 1);

        s->op = (SPEOp) {
            .class = SPE_CLASS_LDST, .subclass = 0x30 | !load,
            .unit = SPE_UNIT_MEMORY, .load = load, .store = !load, .size = 8,
        };
    }
    if (!a->valid) {
        a->valid = true;
        a->va = va;
        a->mmu_idx = mmu_idx;
    } else if (s->op.va_decoded || va != a->va) {
        return;
    }
    /* A Store-Exclusive is noted twice: the monitor comes before the tag. */
    a->checked |= (flags & ARM_SPE_ACCESS_CHECKED) && spe_tag_checked(env, va);
}

void arm_spe_sample_exception(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);
    ARMSPESampler *s = cpu->spe_sampler;    /* NULL before the first sample */
    bool unwound = env->spe.sample_flags & SPE_SF_UNWOUND;

    if (!cpu_isar_feature(aa64_spe, cpu)) {
        return;
    }
    env->spe.sample_flags &= ~SPE_SF_UNWOUND;

    switch (env_cpu(env)->exception_index) {
    case EXCP_IRQ:
    case EXCP_FIQ:
    case EXCP_VIRQ:
    case EXCP_VFIQ:
    case EXCP_SERR:
    case EXCP_VSERR:
    case EXCP_NMI:
    case EXCP_VINMI:
    case EXCP_VFNMI:
        /* Taken between two instructions: one to be restarted begins again */
        if (s) {
            s->pending = false;
        }
        break;
    case EXCP_SEMIHOST:
        arm_spe_sample_end(env);
        break;
    default:
        if (s && s->pending) {
            spe_complete(env, s, true);
        } else if (unwound) {
            /* It is of the population, although it did not complete. */
            spe_take(env, 1);
        }
        break;
    }

    /* Profiling may be disabled now: what executes then is not counted. */
    env->spe.busy = 0;
    /* FEAT_SPE_PBT: ... and may branch */
    env->spe.branch_target = 0;
}
