/*
 * Arm Statistical Profiling Extension: types of operations
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tells from an instruction, and the registers it is about to read, what its
 * record says of it: the Operation Type packet (D18.2.7), the type for
 * filters (D17.5.1), whether its condition holds, and its governing
 * predicate. The address of an access comes from the translator
 * (helper_spe_sample_access), except where one of many accesses is recorded,
 * depending on the data (SVE, SME, FEAT_MOPS), and for literals and tags.
 *
 * The decoder follows the groups of the A64 encoding. An UNDEFINED
 * instruction may be described as anything: it takes an exception, and its
 * record says little else.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "internals.h"
#include "target/arm/cpu-features.h"
#include "spe-sample.h"

/* Bits of the Operation Type packet's payload */
#define OP_STORE        0x01
#define OP_SIMD_FP      0x04        /* load/store of SIMD&FP registers */
#define OP_UNSPECIFIED  0x10        /* load/store of unspecified registers */
#define OP_TAGS         0x14        /* load/store of Allocation Tags */
#define OP_MEMCPY       0x20
#define OP_MEMSET       0x24
#define OP_EXTENDED     0x02        /* load/store with any of the next three */
#define OP_ATOMIC       0x04
#define OP_EXCLUSIVE    0x08
#define OP_ACQ_REL      0x10
#define OP_SVE          0x08        /* any class, with EVL in bits 6:4 */
#define OP_PRED         0x04
#define OP_SVE_FP       0x02
#define OP_SG           0x80        /* gather/scatter */
#define OP_COND         0x01        /* other and branches */
#define OP_FP           0x02        /* other */
#define OP_ASE          0x04        /* other */
#define OP_INDIRECT     0x02        /* branches */
#define OP_CR(x)        ((x) << 3)  /* branches */

static uint32_t bits(uint32_t insn, int hi, int lo)
{
    return extract32(insn, lo, hi - lo + 1);
}

static uint64_t xreg(CPUARMState *env, unsigned n)
{
    return n == 31 ? 0 : env->xregs[n];
}

static uint64_t xreg_sp(CPUARMState *env, unsigned n)
{
    return env->xregs[n];
}

static bool pmsidr_has(CPUARMState *env, uint64_t mask)
{
    return env_archcpu(env)->spe.pmsidr & mask;
}

static bool condition_holds(CPUARMState *env, unsigned cond)
{
    bool n = env->NF >> 31, z = env->ZF == 0, c = env->CF, v = env->VF >> 31;
    bool result;

    switch (cond >> 1) {
    case 0:
        result = z;
        break;
    case 1:
        result = c;
        break;
    case 2:
        result = n;
        break;
    case 3:
        result = v;
        break;
    case 4:
        result = c && !z;
        break;
    case 5:
        result = n == v;
        break;
    case 6:
        result = n == v && !z;
        break;
    default:
        return true;
    }
    return result != (cond & 1);
}

static void conditional(CPUARMState *env, SPEOp *op, unsigned cond)
{
    op->conditional = true;
    op->cond_pass = condition_holds(env, cond);
    op->subclass |= OP_COND;
}

/* --- Branches, exceptions, System instructions ------------------------- */

static void decode_branch(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    op->class = SPE_CLASS_BRANCH;
    op->unit = SPE_UNIT_BRANCH;
    op->cond_pass = true;

    if (bits(insn, 30, 26) == 0x05) {                   /* B, BL */
        op->is_call = bits(insn, 31, 31);
    } else if (bits(insn, 31, 25) == 0x2a) {            /* B.cond, BC.cond */
        conditional(env, op, bits(insn, 3, 0));
    } else if (bits(insn, 30, 25) == 0x1a) {            /* CBZ, CBNZ */
        uint64_t x = xreg(env, bits(insn, 4, 0));

        if (!bits(insn, 31, 31)) {
            x = (uint32_t)x;
        }
        op->conditional = true;
        op->cond_pass = (x != 0) == bits(insn, 24, 24);
        op->subclass |= OP_COND;
    } else if (bits(insn, 30, 25) == 0x1b) {            /* TBZ, TBNZ */
        unsigned bit = bits(insn, 31, 31) << 5 | bits(insn, 23, 19);

        op->conditional = true;
        op->cond_pass = extract64(xreg(env, bits(insn, 4, 0)), bit, 1) ==
                        bits(insn, 24, 24);
        op->subclass |= OP_COND;
    } else {                                            /* BR, BLR, RET, ERET */
        op->indirect = true;
        op->is_call = bits(insn, 23, 21) == 1;
        op->is_return = bits(insn, 24, 21) == 2;
        op->subclass |= OP_INDIRECT;
    }

    if (pmsidr_has(env, R_PMSIDR_CRR_MASK)) {
        op->subclass |= OP_CR(op->is_call ? 1 : op->is_return ? 2 : 3);
    }
}

/* A store that no single register describes; without v1p1 like a GPR's */
static uint8_t unspecified(CPUARMState *env)
{
    return cpu_isar_feature(aa64_spev1p1, env_archcpu(env)) ?
           OP_UNSPECIFIED : 0;
}

static uint8_t tags(CPUARMState *env)
{
    return cpu_isar_feature(aa64_spev1p3, env_archcpu(env)) ?
           OP_TAGS : unspecified(env);
}

static void set_ldst(SPEOp *op, bool load, uint8_t subclass, uint32_t size)
{
    op->class = SPE_CLASS_LDST;
    op->unit = SPE_UNIT_MEMORY;
    op->load = load;
    op->store = !load;
    op->subclass = subclass | (load ? 0 : OP_STORE);
    op->size = size;
}

static void decode_system(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    ARMCPU *cpu = env_archcpu(env);

    if ((insn & 0xfffff01f) == 0xd503201f) {            /* hints */
        return;
    }
    op->unit = SPE_UNIT_SYSTEM;
    if ((insn & 0xfffff000) == 0xd5033000) {            /* barriers */
        op->unit = SPE_UNIT_BARRIER;
        return;
    }
    switch (insn & ~0x1fu) {
    case 0xd50b7420:                                    /* DC ZVA */
    case 0xd50b7480:                                    /* DC GZVA */
        set_ldst(op, false, unspecified(env), 4u << cpu->dcz_blocksize);
        op->align = op->size;
        break;
    case 0xd50b7460:                                    /* DC GVA */
        set_ldst(op, false, tags(env), 4u << cpu->dcz_blocksize);
        op->align = op->size;
        break;
    }
}

/* --- Loads and stores of general-purpose and SIMD&FP registers ---------- */

/* One or two SIMD&FP registers: a Q register counts as Advanced SIMD. */
static void set_ldst_simd_fp(SPEOp *op, bool load, uint32_t reg_size,
                             uint32_t size)
{
    set_ldst(op, load, OP_SIMD_FP, size);
    op->simd = reg_size == 16;
    op->fp = !op->simd;
}

static void set_extended(SPEOp *op, bool load, uint8_t flags, uint32_t size)
{
    set_ldst(op, load, OP_EXTENDED | flags, size);
    /* Atomics store; those that return a value are loads as well. */
    op->store = !load || (flags & OP_ATOMIC);
}

static void decode_ldst_exclusive(uint32_t insn, SPEOp *op)
{
    uint32_t size = 1u << bits(insn, 31, 30);
    bool o2 = bits(insn, 23, 23), l = bits(insn, 22, 22);
    bool o1 = bits(insn, 21, 21), o0 = bits(insn, 15, 15);

    if (o1 && o2) {                                     /* CAS */
        /* One to XZR does not acquire. */
        l = l && bits(insn, 20, 16) != 31;
        set_extended(op, true, OP_ATOMIC | (l || o0 ? OP_ACQ_REL : 0), size);
    } else if (o1 && size < 4) {                        /* CASP */
        set_extended(op, true, OP_ATOMIC | (l || o0 ? OP_ACQ_REL : 0),
                     8 * size);
    } else if (o2) {                                    /* LDAR, STLR, LDLAR */
        set_extended(op, l, OP_ACQ_REL, size);
    } else {                                            /* LDXR, STXP ... */
        set_extended(op, l, OP_EXCLUSIVE | (o0 ? OP_ACQ_REL : 0),
                     o1 ? 2 * size : size);
        op->store_exclusive = !l && bits(insn, 20, 16) != 31;
    }
}

static void decode_ldst_atomic(uint32_t insn, SPEOp *op)
{
    uint32_t size = 1u << bits(insn, 31, 30);
    bool a = bits(insn, 23, 23), r = bits(insn, 22, 22);
    unsigned opc = bits(insn, 15, 12);

    if (opc == 12) {                                    /* LDAPR */
        set_extended(op, true, OP_ACQ_REL, size);
    } else {
        /* LD<OP> to XZR, of which ST<OP> is an alias, returns nothing. */
        bool returns = opc == 8 || bits(insn, 4, 0) != 31;

        /* Nor does an access to XZR acquire, SWP included. */
        a = a && bits(insn, 4, 0) != 31;
        set_extended(op, returns, OP_ATOMIC | (a || r ? OP_ACQ_REL : 0), size);
    }
}

static void decode_ldst_simd_struct(uint32_t insn, SPEOp *op)
{
    bool load = bits(insn, 22, 22);
    uint32_t size;

    if (!bits(insn, 24, 24)) {                          /* multiple */
        static const uint8_t regs[16] = {
            [0] = 4, [2] = 4, [4] = 3, [6] = 3, [7] = 1, [8] = 2, [10] = 2,
        };

        size = regs[bits(insn, 15, 12)] * (8u << bits(insn, 30, 30));
    } else {                                            /* single, replicate */
        unsigned scale = bits(insn, 15, 14);
        unsigned selem = (bits(insn, 13, 13) << 1 | bits(insn, 21, 21)) + 1;

        if (scale == 3) {
            scale = bits(insn, 11, 10);
        } else if (scale == 2 && bits(insn, 10, 10)) {
            scale = 3;
        }
        size = selem << scale;
    }
    set_ldst(op, load, OP_SIMD_FP, size);
    op->simd = true;
}

static void decode_ldst_tag(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    unsigned opc = bits(insn, 23, 22);
    bool multiple = bits(insn, 11, 10) == 0;
    bool load = multiple && (opc & 1);
    bool zeroes = multiple ? opc == 0 : opc & 1;

    set_ldst(op, load, zeroes ? unspecified(env) : tags(env), 0);
    op->va_decoded = true;
    op->va = xreg_sp(env, bits(insn, 9, 5));
    if (bits(insn, 11, 10) != 1) {                      /* not post-index */
        op->va += (int64_t)sextract32(insn, 12, 9) << LOG2_TAG_GRANULE;
    }
    op->align = TAG_GRANULE;
}

/* ASL SPEMultiAccessSample(): which side of a copy is recorded? */
static bool record_load(CPUARMState *env, uint64_t random)
{
    uint64_t fcr = env->spe.pmsfcr;
    bool ft = FIELD_EX64(fcr, PMSFCR, FT);
    bool ld = ft && FIELD_EX64(fcr, PMSFCR, LD);
    bool st = ft && FIELD_EX64(fcr, PMSFCR, ST);

    return ld != st ? ld : random & 1;
}

static void decode_mops(CPUARMState *env, uint32_t insn, uint64_t random,
                        SPEOp *op)
{
    bool v1p3 = cpu_isar_feature(aa64_spev1p3, env_archcpu(env));
    bool set = bits(insn, 23, 22) == 3;
    unsigned stage = set ? bits(insn, 15, 14) : bits(insn, 23, 22);
    uint64_t n = xreg(env, bits(insn, 9, 5));
    uint64_t rd = xreg(env, bits(insn, 4, 0));
    uint64_t rs = xreg(env, bits(insn, 20, 16));
    bool load = !set && record_load(env, random);
    uint64_t left = (int64_t)n < 0 ? -n : n;
    uint64_t va = load ? rs : rd;

    set_ldst(op, load, unspecified(env), 0);
    if (v1p3) {
        op->subclass = set ? OP_MEMSET | OP_STORE :
                       OP_MEMCPY | (load ? 0 : OP_STORE);
    }

    /* The first access, the way helper-a64.c goes about it (option A) */
    if (stage != 0) {
        if ((int64_t)n < 0) {
            va += n;
        } else {
            va += n - 1;                /* backwards: the last byte first */
        }
    } else if (!set && bits(insn, 26, 26)) {
        uint64_t size = MIN(n, 0x007fffffffffffffull);
        uint64_t from = extract64(rs, 0, 56), to = extract64(rd, 0, 56);

        if (from < to && extract64(rs + size, 0, 56) > to) {
            va += size - 1;
        }
    }
    op->va_decoded = true;
    /* SETG* store tags, and check none. */
    op->checked = !(set && bits(insn, 26, 26));
    op->va = va;
    /* The main stage leaves less than a page to the epilogue */
    op->no_access = (stage == 1 ? left < TARGET_PAGE_SIZE : n == 0);
    op->split = true;
}

static void decode_ldst(CPUARMState *env, uint32_t insn, uint64_t random,
                        SPEOp *op)
{
    bool v = bits(insn, 26, 26);
    unsigned size = bits(insn, 31, 30);
    unsigned opc = bits(insn, 23, 22);

    switch (bits(insn, 29, 27)) {
    case 1:
        if (v) {
            decode_ldst_simd_struct(insn, op);
        } else {
            decode_ldst_exclusive(insn, op);
        }
        break;

    case 3:
        if (!bits(insn, 24, 24)) {                      /* literal */
            if (v) {
                set_ldst_simd_fp(op, true, 4u << size, 4u << size);
            } else if (size != 3) {                     /* 3: PRFM */
                set_ldst(op, true, 0, size == 1 ? 8 : 4);
            }
            op->va_decoded = true;
            op->va = env->pc + (int64_t)sextract32(insn, 5, 19) * 4;
        } else if (bits(insn, 31, 24) == 0xd9 && bits(insn, 21, 21)) {
            decode_ldst_tag(env, insn, op);
        } else if (bits(insn, 11, 10) == 1) {
            decode_mops(env, insn, random, op);
        } else {                                        /* LDAPUR, STLUR */
            set_extended(op, opc != 0, OP_ACQ_REL, 1u << size);
        }
        break;

    case 5: {                                           /* pairs */
        uint32_t reg = v ? 4u << size : size == 2 ? 8 : 4;
        bool load = opc & 1;

        if (v) {
            set_ldst_simd_fp(op, load, reg, 2 * reg);
        } else {
            /* STGP stores a tag and 16 bytes */
            set_ldst(op, load, 0, size == 1 && !load ? 16 : 2 * reg);
        }
        break;
    }

    case 7:
        if (!bits(insn, 24, 24) && bits(insn, 21, 21) &&
            bits(insn, 11, 10) != 2) {
            if (bits(insn, 10, 10)) {                   /* LDRAA, LDRAB */
                set_ldst(op, true, 0, 8);
            } else {
                decode_ldst_atomic(insn, op);
            }
        } else if (v) {
            uint32_t reg = opc & 2 ? 16 : 1u << size;

            set_ldst_simd_fp(op, opc & 1, reg, reg);
        } else if (size != 3 || opc != 2) {             /* 3, 2: PRFM */
            set_ldst(op, opc != 0, 0, 1u << size);
        }
        break;
    }
}

/* --- Data processing ---------------------------------------------------- */

static void decode_dp_reg(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    if (bits(insn, 28, 24) == 0x1b) {                   /* multiply */
        op->unit = SPE_UNIT_MUL;
    } else if (bits(insn, 28, 21) == 0xd4 ||            /* CSEL ... */
               bits(insn, 28, 21) == 0xd2) {            /* CCMP, CCMN */
        conditional(env, op, bits(insn, 15, 12));
    } else if (bits(insn, 30, 21) == 0x0d6 &&
               bits(insn, 15, 11) == 1) {               /* UDIV, SDIV */
        op->unit = SPE_UNIT_DIV;
    }
}

static bool simd_is_fp(uint32_t insn)
{
    bool u = bits(insn, 29, 29);
    unsigned size = bits(insn, 23, 22);

    if (bits(insn, 24, 24)) {
        if (bits(insn, 10, 10)) {
            if (bits(insn, 23, 23)) {
                return false;
            }
            if (bits(insn, 22, 19) == 0) {              /* FMOV, immediate */
                return bits(insn, 15, 12) == 15;
            }
            /* shift by immediate: SCVTF, UCVTF, FCVTZS, FCVTZU */
            return bits(insn, 15, 11) == 0x1c || bits(insn, 15, 11) == 0x1f;
        }
        switch (bits(insn, 15, 12)) {                   /* by element */
        case 0: case 4:                                 /* FMLAL, FMLSL */
            return !u;
        case 1: case 5:                                 /* FMLA, FMLS, FCMLA */
            return true;
        case 3: case 7:                                 /* FCMLA */
            return u;
        case 8: case 12:                                /* FMLAL2, FMLSL2 */
            return u;
        case 9:                                         /* FMUL, FMULX */
            return true;
        case 15:                                        /* BFDOT, BFMLAL */
            return !u && (size & 1);
        }
        return false;
    }

    if (bits(insn, 21, 21)) {
        if (bits(insn, 10, 10)) {                       /* three same */
            return bits(insn, 15, 11) >= 0x18;
        }
        if (bits(insn, 11, 10) == 2 && bits(insn, 20, 17) == 0) {
            unsigned opcode = bits(insn, 16, 12);       /* two-register misc */

            if (opcode == 0x1c) {                       /* not URECPE ... */
                return !(size & 2);
            }
            return (opcode >= 0x0c && opcode <= 0x0f && (size & 2)) ||
                   opcode == 0x16 || opcode == 0x17 || opcode >= 0x18;
        }
        if (bits(insn, 11, 10) == 2 && bits(insn, 20, 17) == 8) {
            unsigned opcode = bits(insn, 16, 12);       /* across lanes, pairs */

            return opcode == 0x0c || opcode == 0x0d || opcode == 0x0f;
        }
        if (bits(insn, 11, 10) == 2 && bits(insn, 20, 17) == 12) {
            return true;                                /* misc, FP16 */
        }
        return false;
    }

    if (bits(insn, 15, 14) == 0 && bits(insn, 10, 10)) {
        return bits(insn, 22, 22);                      /* three same, FP16 */
    }
    if (bits(insn, 15, 15) && bits(insn, 10, 10)) {     /* three same, extra */
        return bits(insn, 14, 11) >= 8;
    }
    return false;
}

static void decode_simd_fp(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    bool scalar = bits(insn, 28, 28) && !bits(insn, 30, 30);

    if (scalar) {
        op->fp = true;
        op->unit = SPE_UNIT_FP;
        if (bits(insn, 28, 24) == 0x1e && bits(insn, 21, 21)) {
            if (bits(insn, 11, 10) == 1 || bits(insn, 11, 10) == 3) {
                conditional(env, op, bits(insn, 15, 12)); /* FCCMP, FCSEL */
            } else if (bits(insn, 15, 10) == 6 ||       /* FDIV */
                       bits(insn, 20, 10) == 0x70) {    /* FSQRT */
                op->unit = SPE_UNIT_FPDIV;
            }
        }
    } else {
        op->simd = true;
        op->unit = SPE_UNIT_SIMD;
        /* Bits 28:24 are 01110 or 01111, 11110 or 11111 for scalars. */
        if (bits(insn, 27, 25) == 7 && !bits(insn, 31, 31)) {
            op->fp = simd_is_fp(insn);
        }
        if (op->fp) {
            op->unit = SPE_UNIT_FP;
        }
    }

    if (pmsidr_has(env, R_PMSIDR_FPF_MASK)) {
        op->subclass |= (op->simd ? OP_ASE : 0) | (op->fp ? OP_FP : 0);
    }
}

/* --- SVE and SME --------------------------------------------------------- */

/* ASL SPEEncodeEVL(), of bytes; FEAT_SPE_SME is not implemented. */
static uint8_t encode_evl(uint32_t bytes)
{
    uint32_t evl = bytes <= 4 ? 0 : 32 - clz32(bytes - 1) - 2;

    return MIN(evl, 6) << 4;
}

static bool pred_active(CPUARMState *env, unsigned pg, unsigned esz,
                        unsigned element)
{
    unsigned bit = element << esz;

    return extract64(env->vfp.pregs[pg].p[bit / 64], bit % 64, 1);
}

/* Note the state of the governing predicate; the first active element or -1 */
static int govern(CPUARMState *env, SPEOp *op, unsigned pg, unsigned esz,
                  unsigned elements)
{
    unsigned active = 0;
    int first = -1;

    for (unsigned i = 0; i < elements; i++) {
        if (pred_active(env, pg, esz, i)) {
            active++;
            if (first < 0) {
                first = i;
            }
        }
    }
    op->predicated = true;
    op->pred_partial = active < elements;
    op->pred_empty = active == 0;
    return first;
}

static uint64_t vector_element(CPUARMState *env, unsigned z, unsigned esz,
                               unsigned element)
{
    uint64_t d = env->vfp.zregs[z].d[(element << esz) / 8];

    return esz == 3 ? d : extract64(d, (element & 1) * 32, 32);
}

/* Load or store of SVE or SME registers: payload but for PRED and SG */
static void set_ldst_sve(CPUARMState *env, SPEOp *op, bool load, uint32_t vl)
{
    set_ldst(op, load, OP_SIMD_FP, 0);
    op->simd = true;
    if (cpu_isar_feature(aa64_spev1p1, env_archcpu(env))) {
        op->subclass = OP_SVE | encode_evl(vl) | (load ? 0 : OP_STORE);
    }
}

static void set_pred(CPUARMState *env, SPEOp *op)
{
    ARMCPU *cpu = env_archcpu(env);

    /* PRED describes loads from v1p2 on only. */
    if (op->store ? cpu_isar_feature(aa64_spev1p1, cpu) :
        cpu_isar_feature(aa64_spev1p2, cpu)) {
        op->subclass |= OP_PRED;
    }
}

/*
 * Contiguous: the address for the lowest active element (R_NHSYR), and none
 * if there is no such.
 */
static void set_contiguous(CPUARMState *env, SPEOp *op, uint64_t base,
                           unsigned pg, unsigned esz, unsigned msz,
                           unsigned nreg, unsigned elements)
{
    int first = govern(env, op, pg, esz, elements);
    unsigned step = nreg << msz;

    set_pred(env, op);
    op->va_decoded = true;
    op->checked = true;
    op->no_access = first < 0;
    if (first >= 0) {
        op->va = base + first * step;
        op->size = (elements - first) * step;
    }
}

/*
 * Gather or scatter: the address for a random element (R_MYPFF), and none if
 * this one is inactive.
 */
static void set_gather(CPUARMState *env, SPEOp *op, unsigned pg,
                       unsigned esz, unsigned msz, uint32_t vl,
                       uint64_t random, unsigned zreg, int xs, bool scaled,
                       uint64_t base)
{
    unsigned elements = vl >> esz;
    unsigned element = random % elements;
    uint64_t offset = vector_element(env, zreg, esz, element);

    govern(env, op, pg, esz, elements);
    set_pred(env, op);
    if (cpu_isar_feature(aa64_spev1p1, env_archcpu(env))) {
        op->subclass |= OP_SG;
    }
    if (xs == 0) {
        offset = (uint32_t)offset;
    } else if (xs == 1) {
        offset = (int32_t)offset;
    }
    op->va_decoded = true;
    op->checked = true;
    op->no_access = !pred_active(env, pg, esz, element);
    op->va = base + (scaled ? offset << msz : offset);
    op->size = 1u << msz;
}

static void decode_sve_load(CPUARMState *env, uint32_t insn, uint64_t random,
                            SPEOp *op)
{
    static const uint8_t dtype_msz[16] = {
        0, 0, 0, 0, 2, 1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 3
    };
    static const uint8_t dtype_esz[16] = {
        0, 1, 2, 3, 3, 1, 2, 3, 3, 2, 2, 3, 3, 2, 1, 3
    };
    uint32_t vl = sve_vq(env) * 16;
    unsigned group = bits(insn, 31, 25);        /* 0x42, 0x52 or 0x62 */
    unsigned form = bits(insn, 15, 13);
    unsigned msz = bits(insn, 24, 23), x = bits(insn, 22, 21);
    unsigned pg = bits(insn, 12, 10);
    uint64_t base = xreg_sp(env, bits(insn, 9, 5));
    uint64_t index = xreg(env, bits(insn, 20, 16));
    unsigned zn = bits(insn, 9, 5), zm = bits(insn, 20, 16);
    int64_t imm4 = sextract32(insn, 16, 4);
    unsigned esz, dtype;

    if (group == 0x52) {
        dtype = bits(insn, 24, 21);
        switch (form) {
        case 2:                                 /* LD1, scalar + scalar */
        case 3:                                 /* LDFF1 */
        case 5:                                 /* LD1, LDNF1, immediate */
            set_ldst_sve(env, op, true, vl);
            esz = dtype_esz[dtype];
            msz = dtype_msz[dtype];
            base += form == 5 ? imm4 * (vl >> esz << msz) : index << msz;
            set_contiguous(env, op, base, pg, esz, msz, 1, vl >> esz);
            break;
        case 6:                                 /* LD2..4, LDNT1, scalar */
        case 7:                                 /* ... immediate */
            set_ldst_sve(env, op, true, vl);
            base += form == 7 ? imm4 * vl * (x + 1) : index << msz;
            set_contiguous(env, op, base, pg, msz, msz, x + 1, vl >> msz);
            break;
        default: {                              /* LD1RQ, LD1RO */
            uint32_t n = x & 1 ? 32 : 16;

            set_ldst_sve(env, op, true, vl);
            base += form & 1 ? imm4 * n : index << msz;
            set_contiguous(env, op, base, pg, msz, msz, 1, n >> msz);
            break;
        }
        }
        return;
    }

    esz = group == 0x42 ? 2 : 3;
    if (group == 0x42 && msz == 3 && !(form & 4)) {
        if (x & 2) {
            return;                             /* PRF, immediate */
        }
    }
    if (group == 0x42 && bits(insn, 24, 22) == 6 && (form & 5) == 0) {
        set_ldst_sve(env, op, true, vl);        /* LDR, vector or predicate */
        op->size = form == 2 ? vl : vl / 8;
    } else if (group == 0x42 && (form & 4) && (x & 2)) {
        dtype = msz << 2 | bits(insn, 14, 13);  /* LD1R */
        esz = dtype_esz[dtype];
        msz = dtype_msz[dtype];
        set_ldst_sve(env, op, true, vl);
        op->no_access = govern(env, op, pg, esz, vl >> esz) < 0;
        set_pred(env, op);
        op->size = 1u << msz;
    } else if ((form & 4) && x == 0) {
        if (form == 7 || (form == 6 && group == 0x42)) {
            return;                             /* PRF */
        }
        set_ldst_sve(env, op, true, vl);        /* LDNT1, vector + scalar */
        set_gather(env, op, pg, esz, msz, vl, random, zn, esz == 2 ? 0 : 2,
                   false, index);
    } else if ((form & 4) && x == 1) {          /* LD1, vector + immediate */
        set_ldst_sve(env, op, true, vl);
        set_gather(env, op, pg, esz, msz, vl, random, zn, esz == 2 ? 0 : 2,
                   false, (uint64_t)bits(insn, 20, 16) << msz);
    } else {
        if ((x & 1) && msz == 0) {
            return;                             /* PRF */
        }
        set_ldst_sve(env, op, true, vl);        /* LD1, scalar + vector */
        set_gather(env, op, pg, esz, msz, vl, random, zm,
                   form & 4 ? 2 : (x >> 1), x & 1, base);
    }
}

static void decode_sve_store(CPUARMState *env, uint32_t insn, uint64_t random,
                             SPEOp *op)
{
    uint32_t vl = sve_vq(env) * 16;
    unsigned form = bits(insn, 15, 13);
    unsigned msz = bits(insn, 24, 23), x = bits(insn, 22, 21);
    unsigned pg = bits(insn, 12, 10);
    uint64_t base = xreg_sp(env, bits(insn, 9, 5));
    uint64_t index = xreg(env, bits(insn, 20, 16));
    unsigned zn = bits(insn, 9, 5), zm = bits(insn, 20, 16);
    int64_t imm4 = sextract32(insn, 16, 4);
    unsigned esz;

    set_ldst_sve(env, op, false, vl);
    switch (form) {
    case 0:                                     /* STR, predicate */
        op->size = vl / 8;
        break;
    case 1:                                     /* STNT1, vector + scalar */
        esz = x & 2 ? 2 : 3;
        set_gather(env, op, pg, esz, msz, vl, random, zn, esz == 2 ? 0 : 2,
                   false, index);
        break;
    case 2:
        if (msz == 3 && !(x & 2)) {             /* STR, vector */
            op->size = vl;
            break;
        }
        set_contiguous(env, op, base + (index << msz), pg, x, msz, 1, vl >> x);
        break;
    case 3:                                     /* ST2..4, STNT1, scalar */
        set_contiguous(env, op, base + (index << msz), pg, msz, msz, x + 1,
                       vl >> msz);
        break;
    case 4:                                     /* ST1, scalar + vector */
    case 6:
        set_gather(env, op, pg, x & 2 ? 2 : 3, msz, vl, random, zm, form >> 1 & 1,
                   x & 1, base);
        break;
    case 5:
        if (x & 2) {                            /* ST1, vector + immediate */
            esz = x & 1 ? 2 : 3;
            set_gather(env, op, pg, esz, msz, vl, random, zn,
                       esz == 2 ? 0 : 2, false,
                       (uint64_t)bits(insn, 20, 16) << msz);
        } else {
            set_gather(env, op, pg, 3, msz, vl, random, zm, 2, x & 1, base);
        }
        break;
    case 7:
        if (bits(insn, 20, 20)) {               /* ST2..4, STNT1, immediate */
            set_contiguous(env, op, base + imm4 * vl * (x + 1), pg, msz, msz,
                           x + 1, vl >> msz);
        } else {
            set_contiguous(env, op, base + imm4 * (vl >> x << msz), pg, x, msz,
                           1, vl >> x);
        }
        break;
    }
}

/*
 * Does an SVE data-processing instruction write a vector under a governing
 * predicate with zeroing or merging predication? (D17.6.6, Sampled predicated
 * operation.) Gives the predicate register and the element size.
 */
static bool sve_predicated(uint32_t insn, unsigned *pg, unsigned *esz)
{
    unsigned op = bits(insn, 31, 24), form = bits(insn, 15, 13);
    bool b21 = bits(insn, 21, 21);
    unsigned opc = bits(insn, 20, 16);

    *pg = bits(insn, 12, 10);
    *esz = bits(insn, 23, 22);

    switch (op) {
    case 0x04:
        if (b21) {
            return false;
        }
        if (form == 4 && !(opc & 0x10)) {       /* shift by immediate: tsz */
            unsigned tsz = bits(insn, 23, 22) << 2 | bits(insn, 9, 8);

            *esz = tsz ? 31 - clz32(tsz) : 0;
        }
        /* reductions write scalars; MOVPRFX is among them */
        return form != 1 || (opc & 0x1e) == 0x10;
    case 0x05:
        if (!b21) {
            if (bits(insn, 20, 20)) {           /* CPY, FCPY, immediate */
                *pg = bits(insn, 19, 16);
                return true;
            }
            return false;
        }
        if (form == 4) {                        /* CPY, REVB .. RBIT, REVD */
            return opc == 0 || (opc & 0x1c) == 4 || opc == 0x0e;
        }
        return form == 5 && opc == 8;           /* CPY */
    case 0x44:
        return !b21 && (form == 4 || form == 5);
    case 0x45:
        return b21 && form == 6;                /* HISTCNT */
    case 0x64:
        *esz = MAX(*esz, 1);
        if (b21) {
            return false;
        }
        if (form < 4) {                         /* FCMLA */
            return true;
        }
        if (form == 5) {                        /* FCVTNT, FCVTLT, FCVTX */
            unsigned esz2 = bits(insn, 17, 16);

            *esz = MAX(*esz, esz2);
            return opc >> 2 == 2;
        }
        return form == 4 && (opc >> 1 == 0 || opc >> 3 == 2); /* FCADD, FADDP */
    case 0x65:
        *esz = MAX(*esz, 1);
        if (b21) {
            return true;                        /* FMLA, FMAD ... */
        }
        if (form == 4) {
            return opc >> 3 != 2;               /* not FTMAD */
        }
        if (form == 5) {
            if (opc >> 3) {                     /* conversions */
                unsigned opc2 = bits(insn, 18, 17);

                if (opc >> 3 == 2 && *esz == 1) {
                    *esz = MAX(opc2, 1);
                }
            }
            return true;
        }
        return false;
    }
    return false;
}

/* Scalar instructions of the SVE encoding space: no vectors, no predicates */
static bool sve_is_scalar(uint32_t insn)
{
    switch (bits(insn, 31, 24)) {
    case 0x04:
        if (!bits(insn, 21, 21)) {
            return false;
        }
        if (bits(insn, 15, 12) == 5) {          /* ADDVL, ADDSVL, RDVL ... */
            return true;
        }
        return bits(insn, 15, 13) == 7;         /* CNT, INC, SQINC ... */
    case 0x25:
        return bits(insn, 21, 21) && bits(insn, 15, 10) == 8 &&
               bits(insn, 23, 23) && bits(insn, 3, 0) == 0; /* CTERMEQ */
    }
    return false;
}

static void decode_sve_dp(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    ARMCPU *cpu = env_archcpu(env);
    unsigned top = bits(insn, 31, 24);
    uint32_t vl = sve_vq(env) * 16;
    unsigned pg, esz;

    if (sve_is_scalar(insn)) {
        return;
    }

    op->simd = true;
    op->fp = bits(insn, 31, 29) == 3 ||
             (top == 0x04 && bits(insn, 21, 21) &&      /* FTSSEL, FEXPA */
              bits(insn, 15, 12) == 0x0b && !bits(insn, 10, 10)) ||
             (top == 0x05 && bits(insn, 21, 20) == 1 && /* FCPY */
              bits(insn, 15, 13) == 6) ||
             (top == 0x25 && bits(insn, 21, 16) == 0x39 && /* FDUP */
              bits(insn, 15, 13) == 6);
    op->unit = op->fp ? SPE_UNIT_FP : SPE_UNIT_SIMD;

    if (!cpu_isar_feature(aa64_spev1p1, cpu)) {
        return;
    }
    op->subclass = OP_SVE | encode_evl(vl) | (op->fp ? OP_SVE_FP : 0);
    if (sve_predicated(insn, &pg, &esz)) {
        op->subclass |= OP_PRED;
        govern(env, op, pg, esz, vl >> esz);
    }
}

static void decode_sve(CPUARMState *env, uint32_t insn, uint64_t random,
                       SPEOp *op)
{
    switch (bits(insn, 31, 29)) {
    case 4:
    case 5:
    case 6:
        decode_sve_load(env, insn, random, op);
        break;
    case 7:
        decode_sve_store(env, insn, random, op);
        break;
    default:
        decode_sve_dp(env, insn, op);
        break;
    }
}

/* The same for a tile: its rows and its columns have a predicate each. */
static void govern_tile(CPUARMState *env, SPEOp *op, uint32_t insn,
                        unsigned esz, unsigned elements)
{
    bool partial, empty;

    govern(env, op, bits(insn, 12, 10), esz, elements);
    partial = op->pred_partial;
    empty = op->pred_empty;
    govern(env, op, bits(insn, 15, 13), esz, elements);
    op->pred_partial |= partial;
    op->pred_empty &= empty;
}

/* The governing predicates of data processing, by the size of its input */
static void decode_sme_predicates(CPUARMState *env, uint32_t insn, SPEOp *op,
                                  uint32_t svl)
{
    unsigned esz;

    switch (bits(insn, 31, 24)) {
    case 0x80:                                  /* FMOPA, FMOPS */
        esz = bits(insn, 22, 22) ? 3 : 2;
        govern_tile(env, op, insn, esz, svl >> esz);
        break;
    case 0x81:                                  /* ... widening */
        govern_tile(env, op, insn, 1, svl >> 1);
        break;
    case 0xa0:                                  /* SMOPA, UMOPA ... */
    case 0xa1:
        esz = bits(insn, 22, 22);
        govern_tile(env, op, insn, esz, svl >> esz);
        break;
    case 0xc0:
        switch (bits(insn, 21, 19)) {
        case 0:                                 /* MOVA, to and from ZA */
            esz = bits(insn, 16, 16) ? 4 : bits(insn, 23, 22);
            govern(env, op, bits(insn, 12, 10), esz, svl >> esz);
            break;
        case 2:                                 /* ADDHA, ADDVA */
            esz = bits(insn, 22, 22) ? 3 : 2;
            govern_tile(env, op, insn, esz, svl >> esz);
            break;
        }
        break;
    }
}

static void decode_sme(CPUARMState *env, uint32_t insn, SPEOp *op)
{
    uint32_t svl = sme_vq(env) * 16;
    bool store = bits(insn, 21, 21);

    if (bits(insn, 31, 25) == 0x70) {           /* LD1, ST1, LDR, STR of ZA */
        set_ldst_sve(env, op, !store, svl);
        if (bits(insn, 24, 22) == 4) {
            op->size = svl;
        } else {
            unsigned esz = bits(insn, 24, 24) ? 4 : bits(insn, 23, 22);

            set_contiguous(env, op,
                           xreg_sp(env, bits(insn, 9, 5)) +
                           (xreg(env, bits(insn, 20, 16)) << esz),
                           bits(insn, 12, 10), esz, esz, 1, svl >> esz);
        }
        return;
    }

    /* Without FEAT_SPE_SME: other, and neither Advanced SIMD nor SVE */
    op->simd = true;
    op->unit = SPE_UNIT_SIMD;
    decode_sme_predicates(env, insn, op, svl);
    op->fp = bits(insn, 31, 25) == 0x40;        /* outer products */
    if (op->fp) {
        op->unit = SPE_UNIT_FP;
        if (pmsidr_has(env, R_PMSIDR_FPF_MASK)) {
            op->subclass |= OP_FP;
        }
    }
}

void spe_decode(CPUARMState *env, uint32_t insn, uint64_t random, SPEOp *op)
{
    memset(op, 0, sizeof(*op));
    switch (bits(insn, 28, 25)) {
    case 0x0:
        if (bits(insn, 31, 31)) {
            decode_sme(env, insn, op);
        }
        break;
    case 0x2:
        decode_sve(env, insn, random, op);
        break;
    case 0xa:
    case 0xb:
        if (bits(insn, 31, 22) == 0x354) {
            decode_system(env, insn, op);
        } else if (bits(insn, 31, 24) == 0xd4) {
            op->unit = SPE_UNIT_SYSTEM;         /* SVC, HVC, SMC, BRK ... */
        } else {
            decode_branch(env, insn, op);
        }
        break;
    case 0x4:
    case 0x6:
    case 0xc:
    case 0xe:
        decode_ldst(env, insn, random, op);
        break;
    case 0x5:
    case 0xd:
        decode_dp_reg(env, insn, op);
        break;
    case 0x7:
    case 0xf:
        decode_simd_fp(env, insn, op);
        break;
    }
}
