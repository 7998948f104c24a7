/*
 * Arm Statistical Profiling Extension: what the parts of the sampler share
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   spe-sample.c      the sample interval counter, records, filters
 *   spe-decode.c      what kind of operation an instruction is
 *   spe-timing.c      caches, TLB, branch prediction and latencies
 */

#ifndef TARGET_ARM_TCG_SPE_SAMPLE_H
#define TARGET_ARM_TCG_SPE_SAMPLE_H

/* CLASS of the Operation Type packet, D18.2.7 */
typedef enum SPEClass {
    SPE_CLASS_OTHER = 0,
    SPE_CLASS_LDST = 1,
    SPE_CLASS_BRANCH = 2,
} SPEClass;

/* Bits of the Events packet, D18.2.6 */
#define SPE_EV_EXCEPTION        (1u << 0)
#define SPE_EV_RETIRED          (1u << 1)
#define SPE_EV_L1D_ACCESS       (1u << 2)
#define SPE_EV_L1D_MISS         (1u << 3)
#define SPE_EV_TLB_ACCESS       (1u << 4)
#define SPE_EV_TLB_WALK         (1u << 5)
#define SPE_EV_NOT_TAKEN        (1u << 6)
#define SPE_EV_MISPREDICTED     (1u << 7)
#define SPE_EV_LLC_ACCESS       (1u << 8)
#define SPE_EV_LLC_MISS         (1u << 9)
#define SPE_EV_REMOTE           (1u << 10)
#define SPE_EV_MISALIGNED       (1u << 11)
#define SPE_EV_PRED_PARTIAL     (1u << 17)
#define SPE_EV_PRED_EMPTY       (1u << 18)
#define SPE_EV_L2D_ACCESS       (1u << 19)
#define SPE_EV_L2D_MISS         (1u << 20)
#define SPE_EV_MODIFIED         (1u << 21)
#define SPE_EV_SNOOPED          (1u << 23)

/* How long an operation takes once its operands are there (spe-timing.c) */
typedef enum SPEUnit {
    SPE_UNIT_ALU,
    SPE_UNIT_MUL,
    SPE_UNIT_DIV,
    SPE_UNIT_FP,
    SPE_UNIT_FPDIV,
    SPE_UNIT_SIMD,
    SPE_UNIT_BRANCH,
    SPE_UNIT_BARRIER,
    SPE_UNIT_SYSTEM,
    SPE_UNIT_MEMORY,
} SPEUnit;

/* An operation as far as its instruction and operands describe it. */
typedef struct SPEOp {
    SPEClass class;
    uint8_t subclass;           /* payload of the Operation Type packet */
    SPEUnit unit;

    /* For filters by type, D17.5.1 */
    bool load;
    bool store;
    bool fp;
    bool simd;

    /* Conditions and branches */
    bool conditional;
    bool cond_pass;             /* taken, for a branch */
    bool indirect;
    bool is_return;
    bool is_call;

    /* SVE and SME */
    bool predicated;
    bool pred_partial;          /* at least one element is inactive */
    bool pred_empty;            /* all elements are inactive */

    /* Memory */
    bool va_decoded;            /* va is right; do not ask the translator */
    bool checked;               /* ... against Allocation Tags, if active */
    bool no_access;             /* nothing is accessed: no address */
    bool split;                 /* several accesses at different addresses */
    bool store_exclusive;       /* its result says whether it stored */
    uint64_t va;
    uint32_t size;              /* bytes from va, 0 if unknown */
    uint32_t align;             /* va is aligned down to this, if not 0 */
} SPEOp;

/* The address of a memory access, and how the record tells of it */
typedef struct SPEAccess {
    bool valid;
    bool failed;                /* a Store-Exclusive that did not store */
    bool checked;               /* against an Allocation Tag */
    bool nv2;                   /* FEAT_NV2: register access to memory */
    int mmu_idx;
    uint64_t va;
    bool pa_valid;
    bool device;                /* not RAM: never cached */
    bool secure;                /* the physical address space */
    bool realm;
    uint64_t pa;
} SPEAccess;

/* What the model says of one execution */
typedef struct SPETiming {
    uint32_t events;
    uint32_t issue;             /* cycles, as for the counters' packets */
    uint32_t translation;
    uint32_t total;
    bool source_valid;
    uint8_t source;             /* payload of the Data Source packet */
} SPETiming;

/*
 * Describe the instruction @insn, which is about to execute. @random is used
 * where the architecture asks for an unbiased choice.
 */
void spe_decode(CPUARMState *env, uint32_t insn, uint64_t random, SPEOp *op);

/* Caches, TLB and branch predictor of one PE. */
typedef struct SPETimingState SPETimingState;
SPETimingState *spe_timing_new(void);
void spe_timing_reset(SPETimingState *t);
/* Let the operation access the model's caches; @pc and @target are virtual. */
void spe_timing(CPUARMState *env, SPETimingState *t, const SPEOp *op,
                const SPEAccess *access, uint64_t pc, uint64_t target,
                SPETiming *out);

#endif /* TARGET_ARM_TCG_SPE_SAMPLE_H */
