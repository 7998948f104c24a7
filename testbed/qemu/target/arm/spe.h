/*
 * Arm Statistical Profiling Extension (FEAT_SPE): state and interfaces
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The model is cut along the architecture's own lines:
 *
 *   tcg/spe-regs.c    system registers, traps, ownership, the interrupt
 *   tcg/spe-sample.c  the sampling counter, filters, building of records
 *   tcg/spe-buffer.c  records on their way to memory: translation, faults,
 *                     management events, records in flight (spe-defer)
 *
 * Section and rule numbers are those of the Arm ARM, DDI0487 M.a.a.
 */

#ifndef TARGET_ARM_SPE_H
#define TARGET_ARM_SPE_H

#include "hw/registerfields.h"
#include "qapi/qapi-types-common.h"

typedef struct CPUArchState CPUARMState;
typedef struct ARMCPRegInfo ARMCPRegInfo;

/* The largest record that MaxSize can name (0b1011). */
#define ARM_SPE_MAX_RECORD 2048
/* The most records that spe-defer may keep in flight. */
#define ARM_SPE_MAX_DEFER 64

/*
 * Registers of one PE. All of it is reset; registers whose field "resets to
 * an UNKNOWN value" get 0 or, with spe-reset=unknown, seeded garbage.
 */
typedef struct ARMSPEState {
    /* Architected registers, as last written (indirect writes included) */
    uint64_t pmscr_el[4];       /* [1] and [2] are used */
    uint64_t pmsnevfr;
    uint64_t pmsicr;            /* COUNT is the live counter */
    uint64_t pmsirr;
    uint64_t pmsfcr;
    uint64_t pmsevfr;
    uint64_t pmslatfr;
    uint64_t pmsdsfr;
    uint64_t pmblimitr;
    uint64_t pmbptr;
    uint64_t pmbsr;

    /* spe-regs.c */
    uint32_t unsynced;          /* ARM_SPE_CTX_*: written since the last CSE */
    bool ptr_written;           /* PMBPTR_EL1 since profiling was last on */
    uint64_t hdfgrtr2;          /* FEAT_FGT2, as far as it is SPE's */
    uint64_t hdfgwtr2;

    /* spe-sample.c: TB state and the sample that is being taken */
    uint32_t step;              /* the next instruction may be selected */
    uint32_t sample_flags;      /* private to spe-sample.c */
    uint64_t branch_target;     /* of the last branch, see ARM_SPE_PBT_VALID */
    uint64_t rng;               /* state of the jitter generator */
    uint32_t last_count;        /* PMSICR_EL1.COUNT when last looked at */
    uint32_t busy;              /* operations until the sampled one is done */

    /* spe-buffer.c: what MRS sees until a Context Synchronization event */
    uint64_t stale_pmbptr;
    uint64_t stale_pmbsr;
    bool stale;
    bool no_hafdbs;             /* the walk at hand: PMBIDR_EL1.F is 0 */
} ARMSPEState;

/* Counters of the model itself, per PE; not reset, readable through QMP. */
typedef struct ARMSPEStats {
    uint64_t population;        /* instructions that stepped the counter */
    uint64_t samples;           /* operations sampled */
    uint64_t filtered;          /* dropped by a filter */
    uint64_t collisions;        /* operations selected, but not sampled */
    uint64_t records;           /* written to memory */
    uint64_t bytes;             /* written to memory, padding included */
    uint64_t discarded;         /* lost: discard mode, E=0 or S=1 in flight */
    uint64_t buffer_full;
    uint64_t stage1_faults;
    uint64_t stage2_faults;
    uint64_t other_events;      /* BSC 0, misaligned, external aborts */
    uint64_t errors;            /* mistakes found by a hostile mode */
} ARMSPEStats;

/* Choices made by the user through CPU properties; constant after realize. */
typedef struct ARMSPEConfig {
    bool enabled;               /* spe=on|off, default off */
    uint8_t pmsver;             /* spe-pmsver=1..5 */
    uint64_t pmsidr;            /* built from the spe-* properties */
    uint64_t pmbidr;            /* F, EA, Align, MaxBuffSize; P is dynamic */
    uint32_t defer;             /* spe-defer=0..64 */
    bool reset_unknown;         /* spe-reset=zero|unknown */
    uint64_t seed;              /* spe-seed=N: jitter and reset garbage */

    /* The properties from which pmsidr and pmbidr are built. */
    uint64_t max_buffer_size;
    uint32_t max_record_size;
    uint32_t align;
    uint32_t interval;
    uint32_t count_size;
    OnOffAuto fne;
    OnOffAuto af;
    OnOffAuto fds;
    bool ernd;
    bool lds;
    bool eft;
    bool fpf;
    bool crr;
    bool pbt;
    uint8_t ea;
    char *reset;
} ARMSPEConfig;

FIELD(PMSCR, E0SPE, 0, 1)       /* E0HSPE in PMSCR_EL2 */
FIELD(PMSCR, E1SPE, 1, 1)       /* E2SPE in PMSCR_EL2 */
FIELD(PMSCR, CX, 3, 1)
FIELD(PMSCR, PA, 4, 1)
FIELD(PMSCR, TS, 5, 1)
FIELD(PMSCR, PCT, 6, 2)

FIELD(PMSIRR, RND, 0, 1)
FIELD(PMSIRR, INTERVAL, 8, 24)

FIELD(PMSICR, COUNT, 0, 32)
FIELD(PMSICR, ECOUNT, 56, 8)

FIELD(PMSFCR, FE, 0, 1)
FIELD(PMSFCR, FT, 1, 1)
FIELD(PMSFCR, FL, 2, 1)
FIELD(PMSFCR, FNE, 3, 1)
FIELD(PMSFCR, FDS, 4, 1)
FIELD(PMSFCR, B, 16, 1)
FIELD(PMSFCR, LD, 17, 1)
FIELD(PMSFCR, ST, 18, 1)
FIELD(PMSFCR, FP, 19, 1)
FIELD(PMSFCR, SIMD, 20, 1)
FIELD(PMSFCR, BM, 48, 1)
FIELD(PMSFCR, LDM, 49, 1)
FIELD(PMSFCR, STM, 50, 1)
FIELD(PMSFCR, FPM, 51, 1)
FIELD(PMSFCR, SIMDM, 52, 1)

FIELD(PMSIDR, FE, 0, 1)
FIELD(PMSIDR, FT, 1, 1)
FIELD(PMSIDR, FL, 2, 1)
FIELD(PMSIDR, ARCHINST, 3, 1)
FIELD(PMSIDR, LDS, 4, 1)
FIELD(PMSIDR, ERND, 5, 1)
FIELD(PMSIDR, FNE, 6, 1)
FIELD(PMSIDR, FDS, 7, 1)
FIELD(PMSIDR, INTERVAL, 8, 4)
FIELD(PMSIDR, MAXSIZE, 12, 4)
FIELD(PMSIDR, COUNTSIZE, 16, 4)
FIELD(PMSIDR, FORMAT, 20, 4)
FIELD(PMSIDR, PBT, 24, 1)
FIELD(PMSIDR, CRR, 25, 1)
FIELD(PMSIDR, EFT, 26, 1)
FIELD(PMSIDR, FPF, 27, 1)

FIELD(PMBIDR, ALIGN, 0, 4)
FIELD(PMBIDR, P, 4, 1)
FIELD(PMBIDR, F, 5, 1)
FIELD(PMBIDR, ADDRMODE, 6, 2)
FIELD(PMBIDR, EA, 8, 4)
FIELD(PMBIDR, MAXBUFFSIZE, 32, 16)

FIELD(PMBLIMITR, E, 0, 1)
FIELD(PMBLIMITR, FM, 1, 2)
FIELD(PMBLIMITR, PMFZ, 5, 1)
FIELD(PMBLIMITR, LIMIT, 12, 52)

FIELD(PMBSR, MSS, 0, 16)
FIELD(PMBSR, COLL, 16, 1)
FIELD(PMBSR, S, 17, 1)
FIELD(PMBSR, EA, 18, 1)
FIELD(PMBSR, DL, 19, 1)
FIELD(PMBSR, EC, 26, 6)
FIELD(PMBSR, MSS2, 32, 24)

#define ARM_SPE_EC_OTHER    0x00
#define ARM_SPE_EC_GPC      0x1e
#define ARM_SPE_EC_STAGE1   0x24
#define ARM_SPE_EC_STAGE2   0x25
#define ARM_SPE_BSC_NOT_ALLOWED 0
#define ARM_SPE_BSC_FULL    1
#define ARM_SPE_BSC_SIZE    4

/* PMBIDR_EL1.EA: what becomes of an External abort on a write. */
#define ARM_SPE_EA_NOT_DESCRIBED 0
#define ARM_SPE_EA_IGNORED  1
#define ARM_SPE_EA_SERROR   2

#define ARM_SPE_FM_FILL     0
#define ARM_SPE_FM_DISCARD  2

/* --- spe-regs.c --------------------------------------------------------- */

/* Check the properties and add the ID fields and registers (realize). */
bool arm_spe_realize(ARMCPU *cpu, Error **errp);
void arm_spe_add_properties(Object *obj);
void arm_spe_register_cpregs(ARMCPU *cpu);
void arm_spe_reset(ARMCPU *cpu);

/* ASL ProfilingBufferOwner(): 1 or 2; *secure tells the owning state. */
int arm_spe_owner_el(CPUARMState *env, bool *secure);
/* ASL ProfilingBufferEnabled() */
bool arm_spe_buffer_enabled(CPUARMState *env);
/* ASL StatisticalProfilingEnabled(el) */
bool arm_spe_profiling_enabled(CPUARMState *env, int el);
/* Drive PMBIRQ from PMBSR_EL1.S. Takes the BQL unless held. */
void arm_spe_update_irq(CPUARMState *env);
/* Bits of PMSEVFR_EL1 and PMSNEVFR_EL1 that are not RAZ/WI. */
uint64_t arm_spe_event_mask(ARMCPU *cpu);

/* Registers that say who owns the buffer and how its addresses translate. */
typedef enum ARMSPEContext {
    ARM_SPE_CTX_MDCR_EL2,
    ARM_SPE_CTX_MDCR_EL3,
    ARM_SPE_CTX_SCR_EL3,
    ARM_SPE_CTX_HCR_EL2,
    ARM_SPE_CTX_VTTBR_EL2,
    ARM_SPE_CTX_VTCR_EL2,
    ARM_SPE_CTX_TTBR0_EL1,
    ARM_SPE_CTX_TTBR1_EL1,
    ARM_SPE_CTX_TCR_EL1,
    ARM_SPE_CTX_SCTLR_EL1,
    ARM_SPE_CTX_TTBR0_EL2,
    ARM_SPE_CTX_TTBR1_EL2,
    ARM_SPE_CTX_TCR_EL2,
    ARM_SPE_CTX_SCTLR_EL2,
    ARM_SPE_CTX_HCR_EL2_E2H,    /* HCR_EL2, where only E2H counts */
    ARM_SPE_CTX_VSTTBR_EL2,
    ARM_SPE_CTX_VSTCR_EL2,
    ARM_SPE_CTX_NUM
} ARMSPEContext;

#if defined(TARGET_AARCH64) && defined(CONFIG_TCG) && \
    !defined(CONFIG_USER_ONLY)
/*
 * For the write function of one of these registers, before it writes.
 * Costs nothing unless spe-defer is in use.
 */
void arm_spe_context_write(CPUARMState *env, ARMSPEContext reg,
                           uint64_t value);
/* The same, for TTBRx, TCR and SCTLR: RI tells which register it is. */
void arm_spe_regime_write(CPUARMState *env, const ARMCPRegInfo *ri,
                          uint64_t value);
/* A Context synchronization event other than ISB: exception entry, ERET. */
void arm_spe_context_sync_event(CPUARMState *env);
#else
static inline void arm_spe_context_write(CPUARMState *env, ARMSPEContext reg,
                                         uint64_t value)
{
}
static inline void arm_spe_regime_write(CPUARMState *env,
                                        const ARMCPRegInfo *ri, uint64_t value)
{
}
static inline void arm_spe_context_sync_event(CPUARMState *env)
{
}
#endif

/* --- spe-sample.c ------------------------------------------------------- */

/* TBFLAG_A64.SPE: how a TB takes part in counting. */
enum {
    ARM_SPE_TB_OFF = 0,         /* profiling is disabled here */
    ARM_SPE_TB_COUNT = 1,       /* PMSICR.COUNT counts the TB's instructions */
    ARM_SPE_TB_COUNT_BOTH = 2,  /* PMSICR.ECOUNT counts them, too */
    ARM_SPE_TB_SAMPLE = 3,      /* one instruction, which may be selected */
};

/* The most instructions that a counting TB has. */
#define ARM_SPE_TB_MAX_INSNS 32

/* What helper_spe_refill() tells the TB that the counter does not cover. */
enum {
    ARM_SPE_REFILL_COUNTED,     /* go on: the counter was reloaded */
    ARM_SPE_REFILL_SHORTER,     /* leave: a shorter TB comes first */
    ARM_SPE_REFILL_SAMPLE,      /* leave: the next may be selected */
};

/*
 * ARMSPEState.branch_target is bits 55:0 of the address, the Exception level
 * in bits 62:61, as in an Address packet, and this bit.
 */
#define ARM_SPE_PBT_VALID (1ull << 56)

/* Flags of helper_spe_sample_access() */
enum {
    ARM_SPE_ACCESS_CHECKED = 1, /* against an Allocation Tag */
    ARM_SPE_ACCESS_NV2 = 2,     /* FEAT_NV2: System register in memory */
};

#if defined(TARGET_AARCH64) && defined(CONFIG_TCG) && \
    !defined(CONFIG_USER_ONLY)
/* For cpu_get_tb_cpu_state(), when the cached flag is not OFF. */
unsigned arm_spe_tb_state(CPUARMState *env);
/* An exception is about to be taken: close the sample in progress, if any. */
void arm_spe_sample_exception(CPUARMState *env);
/* The sampled instruction has finished, in a helper that does not return. */
void arm_spe_sample_end(CPUARMState *env);
/*
 * The exception or restart at the instruction with this index in @tb comes
 * after the whole TB was counted: give back what did not execute.
 */
void arm_spe_sample_unwind(CPUARMState *env, const TranslationBlock *tb,
                           unsigned insn_index);
/* A register of the extension will be written, and was written. */
void arm_spe_sampling_change(CPUARMState *env);
void arm_spe_sampling_changed(CPUARMState *env);
/* After arm_cpu_reset_hold() has cleared ARMSPEState. */
void arm_spe_sample_reset(CPUARMState *env);
#else
static inline unsigned arm_spe_tb_state(CPUARMState *env)
{
    return ARM_SPE_TB_OFF;
}
static inline void arm_spe_sample_exception(CPUARMState *env)
{
}
static inline void arm_spe_sample_end(CPUARMState *env)
{
}
static inline void arm_spe_sample_unwind(CPUARMState *env,
                                         const TranslationBlock *tb,
                                         unsigned insn_index)
{
}
#endif

/* --- spe-buffer.c ------------------------------------------------------- */

/*
 * Hand over one formatted record (padding to PMBIDR.Align included, at most
 * 1 << PMSIDR.MaxSize bytes) of the operation just sampled. The BQL is not
 * held. May stop profiling: then hflags have been rebuilt.
 */
void arm_spe_buffer_write(CPUARMState *env, const uint8_t *rec, size_t len);
/* An operation was selected, but the last is in flight: PMBSR_EL1.COLL. */
void arm_spe_buffer_collision(CPUARMState *env);
/* The buffer became enabled: check the rules of D17.7.4 (R_HXSYK, R_PGGHS). */
void arm_spe_buffer_enabled_check(CPUARMState *env, bool ptr_written);
/*
 * The owner, the enable bit or the translation regime is about to change
 * (called before the register is written): records still in flight are a
 * mistake of the software, logged as "spe: error: ..." and counted.
 */
void arm_spe_buffer_context_change(CPUARMState *env, const char *what);
/* What MRS PMBPTR_EL1 / PMBSR_EL1 give now. */
uint64_t arm_spe_read_pmbptr(CPUARMState *env);
uint64_t arm_spe_read_pmbsr(CPUARMState *env);
/* Barriers; called only when spe-defer is not 0. */
void arm_spe_psb(CPUARMState *env);
void arm_spe_dsb(CPUARMState *env);
void arm_spe_context_sync(CPUARMState *env);
/* In-flight records at a reset are dropped. */
void arm_spe_buffer_reset(CPUARMState *env);
/* Subsection of the CPU's state: records in flight. Opaque: ARMCPU. */
extern const VMStateDescription vmstate_arm_spe_buffer;
/* What of ARMSPEState is in no register (spe-regs.c). */
extern const VMStateDescription vmstate_arm_spe;

#endif /* TARGET_ARM_SPE_H */
