/*
 * Arm Statistical Profiling Extension: registers, ownership, the interrupt
 *
 * What software can read, write and trap (Arm ARM D24.7), who owns the
 * Profiling Buffer and whether profiling is enabled (D17.4, D17.7.5 and the
 * J1.1 functions of the same names), PMBIRQ, reset, and the CPU properties
 * from which the ID registers are built.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "hw/irq.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "cpu.h"
#include "internals.h"
#include "cpregs.h"
#include "target/arm/cpu-features.h"
#include "exec/helper-proto.h"
#include "trace.h"

/* --- Ownership and enables ---------------------------------------------- */

/*
 * Effective value of MDCR_EL3.{NSPBE,NSPB}, ASL EffectiveMDCR_EL3_NSPB().
 * NSPBE=1 with NSPB=0b0x is reserved: treated as NSPBE=0.
 */
static ARMSecuritySpace spe_owner_space(CPUARMState *env)
{
    uint64_t mdcr_el3 = env->cp15.mdcr_el3;

    if (!arm_feature(env, ARM_FEATURE_EL3)) {
        return ARMSS_NonSecure;
    }
    if (!(mdcr_el3 & MDCR_NSPB_OWNER)) {
        return ARMSS_Secure;
    }
    if (cpu_isar_feature(aa64_rme, env_archcpu(env)) &&
        (mdcr_el3 & MDCR_NSPBE)) {
        return ARMSS_Realm;
    }
    return ARMSS_NonSecure;
}

static int spe_owner_el(CPUARMState *env, ARMSecuritySpace space)
{
    if (arm_is_el2_enabled_secstate(env, space) &&
        !(env->cp15.mdcr_el2 & MDCR_E2PB)) {
        return 2;
    }
    return 1;
}

int arm_spe_owner_el(CPUARMState *env, bool *secure)
{
    ARMSecuritySpace space = spe_owner_space(env);

    if (secure) {
        *secure = space == ARMSS_Secure;
    }
    return spe_owner_el(env, space);
}

/* PMBLIMITR_EL1.E is set and SPEProfilingStopped() is false. */
static bool spe_armed(CPUARMState *env)
{
    return (env->spe.pmblimitr & R_PMBLIMITR_E_MASK) &&
           !(env->spe.pmbsr & R_PMBSR_S_MASK);
}

bool arm_spe_buffer_enabled(CPUARMState *env)
{
    ARMSecuritySpace space;

    if (!spe_armed(env) || !cpu_isar_feature(aa64_spe, env_archcpu(env))) {
        return false;
    }
    space = spe_owner_space(env);
    return space == arm_security_space_below_el3(env) &&
           arm_el_is_aa64(env, spe_owner_el(env, space));
}

bool arm_spe_profiling_enabled(CPUARMState *env, int el)
{
    bool tge;
    int owner;

    if (!is_a64(env) || !arm_spe_buffer_enabled(env)) {
        return false;
    }
    /* From here on the owning Security state is the current one below EL3. */
    owner = spe_owner_el(env, spe_owner_space(env));
    tge = arm_is_el2_enabled(env) && (env->cp15.hcr_el2 & HCR_TGE);
    if (owner < el || (tge && owner == 1)) {
        return false;
    }
    switch (el) {
    case 2:
        return env->spe.pmscr_el[2] & R_PMSCR_E1SPE_MASK;
    case 1:
        return env->spe.pmscr_el[1] & R_PMSCR_E1SPE_MASK;
    case 0:
        return env->spe.pmscr_el[tge ? 2 : 1] & R_PMSCR_E0SPE_MASK;
    default:
        return false;
    }
}

/* --- The interrupt ------------------------------------------------------ */

/* A level, driven by PMBSR_EL1.S alone: D17.8 I_GRLRX, ASL SPECycle(). */
void arm_spe_update_irq(CPUARMState *env)
{
    ARMCPU *cpu = env_archcpu(env);
    bool level = env->spe.pmbsr & R_PMBSR_S_MASK;

    BQL_LOCK_GUARD();
    trace_spe_irq(CPU(cpu)->cpu_index, level);
    qemu_set_irq(cpu->spe_interrupt, level);
}

/* --- What a change of context means for records in flight --------------- */

static const char *const spe_ctx_name[ARM_SPE_CTX_NUM] = {
    [ARM_SPE_CTX_MDCR_EL2] = "MDCR_EL2.E2PB",
    [ARM_SPE_CTX_MDCR_EL3] = "MDCR_EL3.NSPB",
    [ARM_SPE_CTX_SCR_EL3] = "SCR_EL3.NS",
    [ARM_SPE_CTX_HCR_EL2] = "HCR_EL2.{VM,TGE,DC}",
    [ARM_SPE_CTX_HCR_EL2_E2H] = "HCR_EL2.E2H",
    [ARM_SPE_CTX_VTTBR_EL2] = "VTTBR_EL2",
    [ARM_SPE_CTX_VTCR_EL2] = "VTCR_EL2",
    [ARM_SPE_CTX_VSTTBR_EL2] = "VSTTBR_EL2",
    [ARM_SPE_CTX_VSTCR_EL2] = "VSTCR_EL2",
    [ARM_SPE_CTX_TTBR0_EL1] = "TTBR0_EL1",
    [ARM_SPE_CTX_TTBR1_EL1] = "TTBR1_EL1",
    [ARM_SPE_CTX_TCR_EL1] = "TCR_EL1",
    [ARM_SPE_CTX_SCTLR_EL1] = "SCTLR_EL1",
    [ARM_SPE_CTX_TTBR0_EL2] = "TTBR0_EL2",
    [ARM_SPE_CTX_TTBR1_EL2] = "TTBR1_EL2",
    [ARM_SPE_CTX_TCR_EL2] = "TCR_EL2",
    [ARM_SPE_CTX_SCTLR_EL2] = "SCTLR_EL2",
};

/*
 * The ARM_SPE_CTX_* that the buffer depends on as things are: those that say
 * who the owner is, and those of the owning translation regime.
 */
static uint32_t spe_ctx_in_use(CPUARMState *env)
{
    int owner = spe_owner_el(env, spe_owner_space(env));
    bool upper = extract64(env->spe.pmbptr, 55, 1);
    uint32_t used = BIT(ARM_SPE_CTX_MDCR_EL2) | BIT(ARM_SPE_CTX_MDCR_EL3) |
                    BIT(ARM_SPE_CTX_SCR_EL3);

    if (owner == 1) {
        used |= BIT(ARM_SPE_CTX_HCR_EL2) | BIT(ARM_SPE_CTX_SCTLR_EL1) |
                BIT(ARM_SPE_CTX_TCR_EL1) |
                BIT(upper ? ARM_SPE_CTX_TTBR1_EL1 : ARM_SPE_CTX_TTBR0_EL1);
        if (arm_hcr_el2_eff(env) & (HCR_VM | HCR_DC)) {
            used |= BIT(ARM_SPE_CTX_VTTBR_EL2) | BIT(ARM_SPE_CTX_VTCR_EL2);
            if (spe_owner_space(env) == ARMSS_Secure) {
                used |= BIT(ARM_SPE_CTX_VSTTBR_EL2) |
                        BIT(ARM_SPE_CTX_VSTCR_EL2);
            }
        }
    } else {
        /* Without E2H there is one range, and TTBR0_EL2 maps it. */
        upper = upper && (env->cp15.hcr_el2 & HCR_E2H);
        used |= BIT(ARM_SPE_CTX_HCR_EL2_E2H) |
                BIT(ARM_SPE_CTX_SCTLR_EL2) | BIT(ARM_SPE_CTX_TCR_EL2) |
                BIT(upper ? ARM_SPE_CTX_TTBR1_EL2 : ARM_SPE_CTX_TTBR0_EL2);
    }
    return used;
}

static void spe_ctx_changed(CPUARMState *env, ARMSPEContext reg)
{
    if (spe_ctx_in_use(env) & BIT(reg)) {
        arm_spe_buffer_context_change(env, spe_ctx_name[reg]);
    }
    env->spe.unsynced |= BIT(reg);
}

void arm_spe_context_write(CPUARMState *env, ARMSPEContext reg,
                           uint64_t value)
{
    uint64_t diff;

    if (!env_archcpu(env)->spe.defer) {
        return;
    }
    switch (reg) {
    case ARM_SPE_CTX_MDCR_EL2:
        /* 0b10 and 0b11 differ in traps only. */
        diff = !(env->cp15.mdcr_el2 & MDCR_E2PB) ^ !(value & MDCR_E2PB);
        break;
    case ARM_SPE_CTX_MDCR_EL3:
        diff = (env->cp15.mdcr_el3 ^ value) & (MDCR_NSPB_OWNER | MDCR_NSPBE);
        break;
    case ARM_SPE_CTX_SCR_EL3:
        diff = (env->cp15.scr_el3 ^ value) & (SCR_NS | SCR_NSE);
        /* The other Security states have an EL2 always. */
        if (!(value & SCR_NS)) {
            diff |= (env->cp15.scr_el3 ^ value) & SCR_EEL2;
        }
        break;
    case ARM_SPE_CTX_HCR_EL2:
        diff = env->cp15.hcr_el2 ^ value;
        if (diff & HCR_E2H) {
            spe_ctx_changed(env, ARM_SPE_CTX_HCR_EL2_E2H);
        }
        diff &= HCR_VM | HCR_TGE | HCR_DC;
        break;
    case ARM_SPE_CTX_VTTBR_EL2:
        diff = (env->cp15.vttbr_el2 ^ value) & ~1ull /* CnP */;
        break;
    case ARM_SPE_CTX_VTCR_EL2:
        diff = env->cp15.vtcr_el2 ^ value;
        break;
    case ARM_SPE_CTX_VSTTBR_EL2:
        diff = (env->cp15.vsttbr_el2 ^ value) & ~1ull /* CnP */;
        break;
    case ARM_SPE_CTX_VSTCR_EL2:
        diff = env->cp15.vstcr_el2 ^ value;
        break;
    default:
        g_assert_not_reached();
    }
    if (diff) {
        spe_ctx_changed(env, reg);
    }
}

void arm_spe_regime_write(CPUARMState *env, const ARMCPRegInfo *ri,
                          uint64_t value)
{
    bool el2 = ri->opc1 == 4;
    bool two_ranges = !el2 || (env->cp15.hcr_el2 & HCR_E2H);
    uint64_t diff;
    ARMSPEContext reg;

    if (!env_archcpu(env)->spe.defer || ri->opc0 != 3 ||
        (ri->opc1 != 0 && ri->opc1 != 4)) {
        return;
    }
    diff = raw_read(env, ri) ^ value;
    if (ri->crn == 1) {
        reg = el2 ? ARM_SPE_CTX_SCTLR_EL2 : ARM_SPE_CTX_SCTLR_EL1;
        diff &= SCTLR_M | SCTLR_EE;
    } else if (ri->opc2 == 2) {
        reg = el2 ? ARM_SPE_CTX_TCR_EL2 : ARM_SPE_CTX_TCR_EL1;
        if (two_ranges) {
            /* Only the half that maps the buffer; A1 selects an ASID. */
            diff &= extract64(env->spe.pmbptr, 55, 1) ?
                    ~(MAKE_64BIT_MASK(0, 16) | TTBCR_A1) :
                    ~MAKE_64BIT_MASK(16, 16);
        }
    } else {
        /*
         * A new ASID alone does not count: the buffer's mapping is a global
         * one in any system that lets it live through a change of ASID.
         */
        reg = el2 ? ARM_SPE_CTX_TTBR0_EL2 : ARM_SPE_CTX_TTBR0_EL1;
        reg += ri->opc2;
        diff &= MAKE_64BIT_MASK(1, 47);
    }
    if (diff) {
        spe_ctx_changed(env, reg);
    }
}

void arm_spe_context_sync_event(CPUARMState *env)
{
    if (env_archcpu(env)->spe.defer) {
        env->spe.unsynced = 0;
        arm_spe_context_sync(env);
    }
}

void HELPER(spe_psb)(CPUARMState *env)
{
    arm_spe_psb(env);
}

void HELPER(spe_dsb)(CPUARMState *env)
{
    arm_spe_dsb(env);
}

void HELPER(spe_isb)(CPUARMState *env)
{
    arm_spe_context_sync_event(env);
}

/*
 * The buffer became enabled. Had a record been collected now, it could use the
 * old or the new value of a register not yet synchronized (D17.9.1 R_PVRNK).
 */
static void spe_check_synchronized(CPUARMState *env, const char *by)
{
    ARMCPU *cpu = env_archcpu(env);
    uint32_t bad = env->spe.unsynced & spe_ctx_in_use(env);
    uint64_t errors;

    if (!cpu->spe.defer || !bad) {
        return;
    }
    errors = ++cpu->spe_stats.errors;
    /* Software that forgets a barrier often does so a million times. */
    if (errors <= 32 || is_power_of_2(errors)) {
        error_report("spe: error: CPU %d: write of %s enables the buffer with "
                     "no context synchronization event after the write of %s "
                     "(PC 0x%" PRIx64 ", EL%d)", CPU(cpu)->cpu_index, by,
                     spe_ctx_name[ctz32(bad)], env->pc, arm_current_el(env));
    }
    env->spe.unsynced &= ~bad;
}

/* --- Access checks ------------------------------------------------------ */

/*
 * ASL CheckMDCR_EL3_NSPBTrap(). The debug-only variants (EDSCR.SDD) have no
 * counterpart: there is no external debugger.
 */
static bool spe_nspb_trap(CPUARMState *env)
{
    return arm_feature(env, ARM_FEATURE_EL3) &&
           (!(env->cp15.mdcr_el3 & MDCR_NSPB_NOTRAP) ||
            spe_owner_space(env) != arm_security_space_below_el3(env));
}

static CPAccessResult access_spe_buffer(CPUARMState *env,
                                        const ARMCPRegInfo *ri, bool isread)
{
    int el = arm_current_el(env);

    /* E2PB is tested as 'x0': 0b00 and 0b10 trap. */
    if (el == 1 && arm_is_el2_enabled(env) &&
        !(env->cp15.mdcr_el2 & MDCR_E2PB_NOTRAP)) {
        return CP_ACCESS_TRAP_EL2;
    }
    if (el < 3 && spe_nspb_trap(env)) {
        return CP_ACCESS_TRAP_EL3;
    }
    return CP_ACCESS_OK;
}

static CPAccessResult access_spe_sampling(CPUARMState *env,
                                          const ARMCPRegInfo *ri, bool isread)
{
    int el = arm_current_el(env);

    if (el == 1 && (arm_mdcr_el2_eff(env) & MDCR_TPMS)) {
        return CP_ACCESS_TRAP_EL2;
    }
    if (el < 3 && spe_nspb_trap(env)) {
        return CP_ACCESS_TRAP_EL3;
    }
    return CP_ACCESS_OK;
}

/* At EL1 FEAT_NV traps it to EL2, before MDCR_EL3 can trap it to EL3. */
static CPAccessResult access_pmscr_el2(CPUARMState *env,
                                       const ARMCPRegInfo *ri, bool isread)
{
    if (arm_current_el(env) == 2 && spe_nspb_trap(env)) {
        return CP_ACCESS_TRAP_EL3;
    }
    return CP_ACCESS_OK;
}

/*
 * FEAT_FGT2 is here for PMSDSFR_EL1 only, as FEAT_SPE_FDS is of an
 * architecture version that has both.
 */
static bool spe_has_fgt2(ARMCPU *cpu)
{
    return FIELD_EX64(cpu->isar.id_aa64mmfr0, ID_AA64MMFR0, FGT) >= 2;
}

static CPAccessResult spe_access_gated(CPUARMState *env,
                                       const ARMCPRegInfo *ri, bool isread,
                                       uint64_t mdcr_el3_enable)
{
    CPAccessResult res = access_spe_sampling(env, ri, isread);

    if (res == CP_ACCESS_OK && arm_feature(env, ARM_FEATURE_EL3) &&
        arm_current_el(env) < 3 &&
        !(env->cp15.mdcr_el3 & mdcr_el3_enable)) {
        return CP_ACCESS_TRAP_EL3;
    }
    return res;
}

static CPAccessResult access_pmsnevfr(CPUARMState *env,
                                      const ARMCPRegInfo *ri, bool isread)
{
    return spe_access_gated(env, ri, isread, MDCR_ENPMSN);
}

/* nPMSDSFR_EL1 in HDFGRTR2_EL2 and HDFGWTR2_EL2, bit 19 */
#define HDFG2_NPMSDSFR  BIT_ULL(19)

static CPAccessResult access_pmsdsfr(CPUARMState *env,
                                     const ARMCPRegInfo *ri, bool isread)
{
    uint64_t fgt = isread ? env->spe.hdfgrtr2 : env->spe.hdfgwtr2;

    if (arm_current_el(env) == 1 && arm_is_el2_enabled(env) &&
        spe_has_fgt2(env_archcpu(env)) &&
        ((arm_feature(env, ARM_FEATURE_EL3) &&
          !(env->cp15.scr_el3 & SCR_FGTEN2)) || !(fgt & HDFG2_NPMSDSFR))) {
        return CP_ACCESS_TRAP_EL2;
    }
    return spe_access_gated(env, ri, isread, MDCR_ENPMS3);
}

static CPAccessResult access_fgt2(CPUARMState *env, const ARMCPRegInfo *ri,
                                  bool isread)
{
    if (arm_current_el(env) == 2 && arm_feature(env, ARM_FEATURE_EL3) &&
        !(env->cp15.scr_el3 & SCR_FGTEN2)) {
        return CP_ACCESS_TRAP_EL3;
    }
    return CP_ACCESS_OK;
}

/* --- Registers ---------------------------------------------------------- */

uint64_t arm_spe_event_mask(ARMCPU *cpu)
{
    /* L1D refill, TLB walk, mispredicted */
    uint64_t mask = BIT_ULL(3) | BIT_ULL(5) | BIT_ULL(7);

    if (FIELD_EX64(cpu->spe.pmsidr, PMSIDR, FNE)) {
        mask |= BIT_ULL(6);             /* not taken */
    }
    if (cpu_isar_feature(aa64_spev1p1, cpu)) {
        mask |= BIT_ULL(11);            /* misaligned */
        if (cpu_isar_feature(aa64_sve, cpu) ||
            cpu_isar_feature(aa64_sme, cpu)) {
            mask |= BIT_ULL(17) | BIT_ULL(18);
        }
    }
    if (cpu_isar_feature(aa64_spev1p4, cpu)) {
        /* L1D access, TLB access, LLC access and miss, remote */
        mask |= BIT_ULL(2) | BIT_ULL(4) | MAKE_64BIT_MASK(8, 3);
        /* L2D access and miss, modified, snooped; not recently fetched */
        mask |= MAKE_64BIT_MASK(19, 3) | BIT_ULL(23);
    }
    return mask;
}

#define SPE_REG(crm, opc2)  ((crm) << 3 | (opc2))

/* Without EL2, PMSCR_EL1.PCT reads as 0b01 and ignores writes (D24.7.8). */
static uint64_t spe_fixed_pct(ARMCPU *cpu)
{
    return arm_feature(&cpu->env, ARM_FEATURE_EL2) ? 0 :
           FIELD_DP64(0, PMSCR, PCT, 1);
}

/*
 * The bits of a register that hold what is written. The others are RES0 or
 * RAZ/WI on this PE, and read as zero, but for spe_fixed_pct().
 */
static uint64_t spe_writable(ARMCPU *cpu, const ARMCPRegInfo *ri)
{
    uint64_t pmsidr = cpu->spe.pmsidr;
    uint64_t mask;

    switch (SPE_REG(ri->crm, ri->opc2)) {
    case SPE_REG(9, 0): /* PMSCR_EL1, PMSCR_EL2 */
        mask = R_PMSCR_E0SPE_MASK | R_PMSCR_E1SPE_MASK | R_PMSCR_CX_MASK |
               R_PMSCR_PA_MASK | R_PMSCR_TS_MASK;
        if (arm_feature(&cpu->env, ARM_FEATURE_EL2)) {
            mask |= R_PMSCR_PCT_MASK;
        }
        if (!cpu_isar_feature(aa64_ecv_traps, cpu)) {
            mask &= ~FIELD_DP64(0, PMSCR, PCT, 2);
        }
        return mask;
    case SPE_REG(9, 1): /* PMSNEVFR_EL1 */
    case SPE_REG(9, 5): /* PMSEVFR_EL1 */
        return arm_spe_event_mask(cpu);
    case SPE_REG(9, 2): /* PMSICR_EL1 */
        mask = R_PMSICR_COUNT_MASK;
        if (FIELD_EX64(pmsidr, PMSIDR, ERND)) {
            mask |= R_PMSICR_ECOUNT_MASK;
        }
        return mask;
    case SPE_REG(9, 3): /* PMSIRR_EL1 */
        return R_PMSIRR_INTERVAL_MASK | R_PMSIRR_RND_MASK;
    case SPE_REG(9, 4): /* PMSFCR_EL1 */
        mask = R_PMSFCR_FE_MASK | R_PMSFCR_FT_MASK | R_PMSFCR_FL_MASK |
               R_PMSFCR_B_MASK | R_PMSFCR_LD_MASK | R_PMSFCR_ST_MASK;
        if (FIELD_EX64(pmsidr, PMSIDR, FNE)) {
            mask |= R_PMSFCR_FNE_MASK;
        }
        if (FIELD_EX64(pmsidr, PMSIDR, FDS)) {
            mask |= R_PMSFCR_FDS_MASK;
        }
        if (FIELD_EX64(pmsidr, PMSIDR, EFT)) {
            mask |= R_PMSFCR_FP_MASK | R_PMSFCR_SIMD_MASK |
                    R_PMSFCR_BM_MASK | R_PMSFCR_LDM_MASK | R_PMSFCR_STM_MASK |
                    R_PMSFCR_FPM_MASK | R_PMSFCR_SIMDM_MASK;
        }
        return mask;
    case SPE_REG(9, 6): /* PMSLATFR_EL1 */
        return FIELD_EX64(pmsidr, PMSIDR, COUNTSIZE) == 3 ? 0xffff : 0xfff;
    case SPE_REG(10, 0): /* PMBLIMITR_EL1 */
        /* LIMIT below the smallest granule is RES0 */
        mask = R_PMBLIMITR_LIMIT_MASK;
        if (!cpu_isar_feature(aa64_tgran4, cpu)) {
            mask &= ~MAKE_64BIT_MASK(0, cpu_isar_feature(aa64_tgran16, cpu) ?
                                        14 : 16);
        }
        mask |= R_PMBLIMITR_FM_MASK | R_PMBLIMITR_E_MASK;
        if (cpu_isar_feature(aa64_spev1p2, cpu)) {
            mask |= R_PMBLIMITR_PMFZ_MASK;
        }
        return mask;
    case SPE_REG(10, 3): /* PMBSR_EL1 */
        return R_PMBSR_MSS_MASK | R_PMBSR_COLL_MASK | R_PMBSR_S_MASK |
               R_PMBSR_EA_MASK | R_PMBSR_DL_MASK | R_PMBSR_EC_MASK |
               R_PMBSR_MSS2_MASK;
    case SPE_REG(10, 1): /* PMBPTR_EL1: also below Align, which is allowed */
    case SPE_REG(10, 4): /* PMSDSFR_EL1 */
        return UINT64_MAX;
    default:
        g_assert_not_reached();
    }
}

/*
 * After a direct write. ON and ARMED tell how things were before it. Whoever
 * enables profiling without writing one of our registers (an exception
 * return, say) has the rules of D17.7.4 checked at the first record.
 */
static void spe_written(CPUARMState *env, const ARMCPRegInfo *ri,
                        bool on, bool armed)
{
    if (!armed && spe_armed(env)) {
        spe_check_synchronized(env, ri->name);
    }
    if (!on && arm_spe_profiling_enabled(env, arm_current_el(env))) {
        arm_spe_buffer_enabled_check(env, env->spe.ptr_written);
        env->spe.ptr_written = false;
    }
    arm_spe_sampling_changed(env);
}

static void spe_sampling_write(CPUARMState *env, const ARMCPRegInfo *ri,
                               uint64_t value)
{
    ARMCPU *cpu = env_archcpu(env);
    bool on = arm_spe_profiling_enabled(env, arm_current_el(env));

    value &= spe_writable(cpu, ri);
    trace_spe_reg_write(CPU(cpu)->cpu_index, ri->name, value);
    arm_spe_sampling_change(env);
    raw_write(env, ri, value);
    env->spe.pmscr_el[1] |= spe_fixed_pct(cpu);
    spe_written(env, ri, on, spe_armed(env));
}

static void spe_buffer_write(CPUARMState *env, const ARMCPRegInfo *ri,
                             uint64_t value)
{
    ARMCPU *cpu = env_archcpu(env);
    bool on = arm_spe_profiling_enabled(env, arm_current_el(env));
    bool armed = spe_armed(env);

    value &= spe_writable(cpu, ri);
    trace_spe_reg_write(CPU(cpu)->cpu_index, ri->name, value);
    arm_spe_sampling_change(env);
    if (cpu->spe.defer &&
        !(ri->opc2 == 0 && value == env->spe.pmblimitr)) {
        arm_spe_buffer_context_change(env, ri->name);
    }
    raw_write(env, ri, value);
    switch (ri->opc2) {
    case 1:
        env->spe.stale_pmbptr = value;
        env->spe.ptr_written = true;
        break;
    case 3:
        env->spe.stale_pmbsr = value;
        arm_spe_update_irq(env);
        break;
    }
    spe_written(env, ri, on, armed);
}

static uint64_t pmbptr_read(CPUARMState *env, const ARMCPRegInfo *ri)
{
    return arm_spe_read_pmbptr(env);
}

static uint64_t pmbsr_read(CPUARMState *env, const ARMCPRegInfo *ri)
{
    return arm_spe_read_pmbsr(env);
}

static uint64_t pmsidr_read(CPUARMState *env, const ARMCPRegInfo *ri)
{
    return env_archcpu(env)->spe.pmsidr;
}

/*
 * P: a higher Exception level or another Security state owns the buffer.
 * Reads as zero at EL3.
 */
static uint64_t pmbidr_read(CPUARMState *env, const ARMCPRegInfo *ri)
{
    ARMSecuritySpace space = spe_owner_space(env);
    int el = arm_current_el(env);
    bool p = el < 3 && (space != arm_security_space_below_el3(env) ||
                        spe_owner_el(env, space) > el);

    return FIELD_DP64(env_archcpu(env)->spe.pmbidr, PMBIDR, P, p);
}

#define SPE_ENCODING(n, c, o)                                           \
    .name = n, .state = ARM_CP_STATE_AA64,                              \
    .opc0 = 3, .opc1 = 0, .crn = 9, .crm = c, .opc2 = o

static const ARMCPRegInfo spe_reginfo[] = {
    { SPE_ENCODING("PMSCR_EL1", 9, 0),
      .access = PL1_RW, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSCR_EL1, .nv2_redirect_offset = 0x828 | NV2_REDIR_NV1,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmscr_el[1]) },
    { .name = "PMSCR_EL2", .state = ARM_CP_STATE_AA64,
      .opc0 = 3, .opc1 = 4, .crn = 9, .crm = 9, .opc2 = 0,
      .access = PL2_RW, .accessfn = access_pmscr_el2,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmscr_el[2]) },
    { SPE_ENCODING("PMSICR_EL1", 9, 2),
      .access = PL1_RW, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSICR_EL1, .nv2_redirect_offset = 0x838,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmsicr) },
    { SPE_ENCODING("PMSIRR_EL1", 9, 3),
      .access = PL1_RW, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSIRR_EL1, .nv2_redirect_offset = 0x840,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmsirr) },
    { SPE_ENCODING("PMSFCR_EL1", 9, 4),
      .access = PL1_RW, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSFCR_EL1,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmsfcr) },
    { SPE_ENCODING("PMSEVFR_EL1", 9, 5),
      .access = PL1_RW, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSEVFR_EL1, .nv2_redirect_offset = 0x830,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmsevfr) },
    { SPE_ENCODING("PMSLATFR_EL1", 9, 6),
      .access = PL1_RW, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSLATFR_EL1, .nv2_redirect_offset = 0x848,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmslatfr) },
    { SPE_ENCODING("PMSIDR_EL1", 9, 7),
      .access = PL1_R, .accessfn = access_spe_sampling,
      .fgt = FGT_PMSIDR_EL1,
      .type = ARM_CP_NO_RAW, .readfn = pmsidr_read },
    { SPE_ENCODING("PMBLIMITR_EL1", 10, 0),
      .access = PL1_RW, .accessfn = access_spe_buffer,
      .fgt = FGT_PMBLIMITR_EL1, .nv2_redirect_offset = 0x800,
      .type = ARM_CP_IO,
      .writefn = spe_buffer_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmblimitr) },
    { SPE_ENCODING("PMBPTR_EL1", 10, 1),
      .access = PL1_RW, .accessfn = access_spe_buffer,
      .fgt = FGT_PMBPTR_EL1, .nv2_redirect_offset = 0x810,
      .type = ARM_CP_IO,
      .readfn = pmbptr_read, .raw_readfn = raw_read,
      .writefn = spe_buffer_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmbptr) },
    { SPE_ENCODING("PMBSR_EL1", 10, 3),
      .access = PL1_RW, .accessfn = access_spe_buffer,
      .fgt = FGT_PMBSR_EL1, .nv2_redirect_offset = 0x820,
      .type = ARM_CP_IO,
      .readfn = pmbsr_read, .raw_readfn = raw_read,
      .writefn = spe_buffer_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmbsr) },
    /* Neither MDCR_EL2 nor MDCR_EL3 can trap this one, only FEAT_FGT. */
    { SPE_ENCODING("PMBIDR_EL1", 10, 7),
      .access = PL1_R, .fgt = FGT_PMBIDR_EL1,
      .type = ARM_CP_NO_RAW, .readfn = pmbidr_read },
};

static const ARMCPRegInfo spe_fne_reginfo[] = {
    { SPE_ENCODING("PMSNEVFR_EL1", 9, 1),
      .access = PL1_RW, .accessfn = access_pmsnevfr,
      .fgt = FGT_NPMSNEVFR_EL1, .nv2_redirect_offset = 0x850,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmsnevfr) },
};

static const ARMCPRegInfo spe_fds_reginfo[] = {
    { SPE_ENCODING("PMSDSFR_EL1", 10, 4),
      .access = PL1_RW, .accessfn = access_pmsdsfr,
      .nv2_redirect_offset = 0x858,
      .writefn = spe_sampling_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.pmsdsfr) },
};

static void fgt2_write(CPUARMState *env, const ARMCPRegInfo *ri,
                       uint64_t value)
{
    raw_write(env, ri, value & HDFG2_NPMSDSFR);
}

/* All other bits are of features that the CPU does not have: RES0. */
static const ARMCPRegInfo spe_fgt2_reginfo[] = {
    { .name = "HDFGRTR2_EL2", .state = ARM_CP_STATE_AA64,
      .opc0 = 3, .opc1 = 4, .crn = 3, .crm = 1, .opc2 = 0,
      .access = PL2_RW, .accessfn = access_fgt2,
      .nv2_redirect_offset = 0x1a0,
      .writefn = fgt2_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.hdfgrtr2) },
    { .name = "HDFGWTR2_EL2", .state = ARM_CP_STATE_AA64,
      .opc0 = 3, .opc1 = 4, .crn = 3, .crm = 1, .opc2 = 1,
      .access = PL2_RW, .accessfn = access_fgt2,
      .nv2_redirect_offset = 0x1b0,
      .writefn = fgt2_write, .raw_writefn = raw_write,
      .fieldoffset = offsetof(CPUARMState, spe.hdfgwtr2) },
    { .name = "HFGRTR2_EL2", .state = ARM_CP_STATE_AA64,
      .opc0 = 3, .opc1 = 4, .crn = 3, .crm = 1, .opc2 = 2,
      .access = PL2_RW, .accessfn = access_fgt2,
      .nv2_redirect_offset = 0x2c0,
      .type = ARM_CP_CONST, .resetvalue = 0 },
    { .name = "HFGWTR2_EL2", .state = ARM_CP_STATE_AA64,
      .opc0 = 3, .opc1 = 4, .crn = 3, .crm = 1, .opc2 = 3,
      .access = PL2_RW, .accessfn = access_fgt2,
      .nv2_redirect_offset = 0x2c8,
      .type = ARM_CP_CONST, .resetvalue = 0 },
    { .name = "HFGITR2_EL2", .state = ARM_CP_STATE_AA64,
      .opc0 = 3, .opc1 = 4, .crn = 3, .crm = 1, .opc2 = 7,
      .access = PL2_RW, .accessfn = access_fgt2,
      .nv2_redirect_offset = 0x310,
      .type = ARM_CP_CONST, .resetvalue = 0 },
};

static void vtcr_write(CPUARMState *env, const ARMCPRegInfo *ri,
                       uint64_t value)
{
    arm_spe_context_write(env, ARM_SPE_CTX_VTCR_EL2, value);
    raw_write(env, ri, value);
}

static void vsttbr_write(CPUARMState *env, const ARMCPRegInfo *ri,
                         uint64_t value)
{
    arm_spe_context_write(env, ARM_SPE_CTX_VSTTBR_EL2, value);
    raw_write(env, ri, value);
}

static void vstcr_write(CPUARMState *env, const ARMCPRegInfo *ri,
                        uint64_t value)
{
    arm_spe_context_write(env, ARM_SPE_CTX_VSTCR_EL2, value);
    raw_write(env, ri, value);
}

/* Has the writes of a register that has no write function of its own seen. */
static void spe_watch(ARMCPU *cpu, int crm, int opc2, CPWriteFn *fn)
{
    ARMCPRegInfo *ri = g_hash_table_lookup(cpu->cp_regs, (gpointer)(uintptr_t)
        ENCODE_AA64_CP_REG(CP_REG_ARM64_SYSREG_CP, 2, crm, 3, 4, opc2));

    if (ri) {
        ri->writefn = fn;
        ri->raw_writefn = raw_write;
    }
}

void arm_spe_register_cpregs(ARMCPU *cpu)
{
    define_arm_cp_regs(cpu, spe_reginfo);
    if (FIELD_EX64(cpu->spe.pmsidr, PMSIDR, FNE)) {
        define_arm_cp_regs(cpu, spe_fne_reginfo);
    }
    if (FIELD_EX64(cpu->spe.pmsidr, PMSIDR, FDS)) {
        define_arm_cp_regs(cpu, spe_fds_reginfo);
    }
    if (spe_has_fgt2(cpu)) {
        define_arm_cp_regs(cpu, spe_fgt2_reginfo);
    }
    if (cpu->spe.defer && arm_feature(&cpu->env, ARM_FEATURE_EL2)) {
        spe_watch(cpu, 1, 2, vtcr_write);
        spe_watch(cpu, 6, 0, vsttbr_write);
        spe_watch(cpu, 6, 2, vstcr_write);
    }
}

/* --- Reset -------------------------------------------------------------- */

/* SplitMix64: any seed will do, and two CPUs never share a sequence. */
static uint64_t spe_garbage(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void spe_reset_unknown(gpointer key, gpointer value, gpointer opaque)
{
    const ARMCPRegInfo *ri = value;
    ARMCPU *cpu = ((void **)opaque)[0];
    uint64_t *state = ((void **)opaque)[1];

    /*
     * A value of its own for each register, in no order of the hash table:
     * the same seed gives the same values always.
     */
    if (ri->fieldoffset >= offsetof(CPUARMState, spe) &&
        ri->fieldoffset < offsetof(CPUARMState, spe) + sizeof(ARMSPEState) &&
        !(ri->type & ARM_CP_ALIAS) && ri->crn == 9) {
        uint64_t s = *state ^ ri->fieldoffset;

        raw_write(&cpu->env, ri, spe_garbage(&s) & spe_writable(cpu, ri));
    }
}

static void spe_update_irq_work(CPUState *cs, run_on_cpu_data data)
{
    arm_spe_update_irq(cpu_env(cs));
}

void arm_spe_reset(ARMCPU *cpu)
{
    CPUARMState *env = &cpu->env;
    uint64_t state = cpu->spe.seed ^ ((uint64_t)CPU(cpu)->cpu_index << 32);

    if (!cpu_isar_feature(aa64_spe, cpu)) {
        return;
    }
    env->spe.rng = spe_garbage(&state);
    if (cpu->spe.reset_unknown) {
        void *args[] = { cpu, &state };
        uint64_t g = spe_garbage(&state);

        g_hash_table_foreach(cpu->cp_regs, spe_reset_unknown, args);
        /* The one field that resets to a known value (D24.7.2) */
        env->spe.pmblimitr &= ~R_PMBLIMITR_E_MASK;
        if (arm_feature(env, ARM_FEATURE_EL2)) {
            env->cp15.mdcr_el2 |= g & (MDCR_E2PB | MDCR_TPMS);
        }
        if (arm_feature(env, ARM_FEATURE_EL3)) {
            env->cp15.mdcr_el3 |= g & (MDCR_NSPB_OWNER | MDCR_NSPB_NOTRAP |
                                       MDCR_ENPMSN | MDCR_ENPMS3);
        }
    }
    env->spe.pmscr_el[1] |= spe_fixed_pct(cpu);
    arm_spe_sample_reset(env);
    arm_spe_buffer_reset(env);
    /*
     * In a system reset the interrupt controller may be reset after us and
     * forget the line, so drive it again when the CPU starts.
     */
    arm_spe_update_irq(env);
    if (env->spe.pmbsr & R_PMBSR_S_MASK) {
        async_run_on_cpu(CPU(cpu), spe_update_irq_work, RUN_ON_CPU_NULL);
    }
}

/* --- Migration ---------------------------------------------------------- */

static bool spe_needed(void *opaque)
{
    ARMCPU *cpu = opaque;

    return cpu->spe.enabled;
}

/*
 * The registers themselves are in the list of coprocessor registers, and the
 * interrupt controller has the level of PMBIRQ. The read-only ones are sent to
 * be compared: software must not see them change.
 */
const VMStateDescription vmstate_arm_spe = {
    .name = "cpu/spe",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = spe_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8_EQUAL(spe.pmsver, ARMCPU,
                            "spe-pmsver must be the same on both sides"),
        VMSTATE_UINT32_EQUAL(spe.defer, ARMCPU,
                             "spe-defer must be the same on both sides"),
        VMSTATE_UINT64_EQUAL(spe.pmsidr, ARMCPU,
                             "spe-* properties must be the same on both sides"),
        VMSTATE_UINT64_EQUAL(spe.pmbidr, ARMCPU,
                             "spe-* properties must be the same on both sides"),
        VMSTATE_UINT32(env.spe.unsynced, ARMCPU),
        VMSTATE_BOOL(env.spe.ptr_written, ARMCPU),
        VMSTATE_UINT32(env.spe.step, ARMCPU),
        VMSTATE_UINT32(env.spe.sample_flags, ARMCPU),
        VMSTATE_UINT64(env.spe.branch_target, ARMCPU),
        VMSTATE_UINT64(env.spe.rng, ARMCPU),
        VMSTATE_UINT32(env.spe.last_count, ARMCPU),
        VMSTATE_UINT32(env.spe.busy, ARMCPU),
        VMSTATE_END_OF_LIST()
    }
};

/* --- Properties --------------------------------------------------------- */

static const Property spe_properties[] = {
    DEFINE_PROP_BOOL("spe", ARMCPU, spe.enabled, false),
    DEFINE_PROP_UINT8("spe-pmsver", ARMCPU, spe.pmsver, 5),
    DEFINE_PROP_SIZE("spe-max-buffer-size", ARMCPU, spe.max_buffer_size, 0),
    DEFINE_PROP_UINT32("spe-max-record-size", ARMCPU, spe.max_record_size, 64),
    DEFINE_PROP_UINT32("spe-align", ARMCPU, spe.align, 64),
    DEFINE_PROP_UINT32("spe-interval", ARMCPU, spe.interval, 256),
    DEFINE_PROP_UINT32("spe-count-size", ARMCPU, spe.count_size, 12),
    DEFINE_PROP_BOOL("spe-ernd", ARMCPU, spe.ernd, false),
    DEFINE_PROP_BOOL("spe-lds", ARMCPU, spe.lds, false),
    DEFINE_PROP_ON_OFF_AUTO("spe-fds", ARMCPU, spe.fds, ON_OFF_AUTO_AUTO),
    DEFINE_PROP_ON_OFF_AUTO("spe-fne", ARMCPU, spe.fne, ON_OFF_AUTO_AUTO),
    DEFINE_PROP_BOOL("spe-eft", ARMCPU, spe.eft, false),
    DEFINE_PROP_BOOL("spe-fpf", ARMCPU, spe.fpf, false),
    DEFINE_PROP_BOOL("spe-crr", ARMCPU, spe.crr, false),
    DEFINE_PROP_BOOL("spe-pbt", ARMCPU, spe.pbt, false),
    DEFINE_PROP_ON_OFF_AUTO("spe-af", ARMCPU, spe.af, ON_OFF_AUTO_AUTO),
    DEFINE_PROP_UINT8("spe-ea", ARMCPU, spe.ea, UINT8_MAX),
    DEFINE_PROP_UINT32("spe-defer", ARMCPU, spe.defer, 0),
    DEFINE_PROP_STRING("spe-reset", ARMCPU, spe.reset),
    DEFINE_PROP_UINT64("spe-seed", ARMCPU, spe.seed, 0),
};

static void spe_get_stats(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    ARMCPU *cpu = ARM_CPU(obj);
    ARMSPEStats s = cpu->spe_stats;
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        { "population", s.population },
        { "samples", s.samples },
        { "filtered", s.filtered },
        { "collisions", s.collisions },
        { "records", s.records },
        { "bytes", s.bytes },
        { "discarded", s.discarded },
        { "buffer-full", s.buffer_full },
        { "stage1-faults", s.stage1_faults },
        { "stage2-faults", s.stage2_faults },
        { "other-events", s.other_events },
        { "errors", s.errors },
    };

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t value = fields[i].value;

        if (!visit_type_uint64(v, fields[i].name, &value, errp)) {
            break;
        }
    }
    visit_end_struct(v, NULL);
}

void arm_spe_add_properties(Object *obj)
{
    for (size_t i = 0; i < ARRAY_SIZE(spe_properties); i++) {
        qdev_property_add_static(DEVICE(obj), &spe_properties[i]);
    }
    object_property_add(obj, "spe-stats", "struct", spe_get_stats, NULL, NULL,
                        NULL);
    object_property_set_description(obj, "spe-stats",
                                    "what the SPE model has done so far");
}

/* PMSIDR_EL1.Interval */
static const struct {
    uint32_t interval;
    uint8_t encoding;
} spe_intervals[] = {
    { 256, 0 }, { 512, 2 }, { 768, 3 }, { 1024, 4 },
    { 1536, 5 }, { 2048, 6 }, { 3072, 7 }, { 4096, 8 },
};

/*
 * PMBIDR_EL1.MaxBuffSize for SIZE bytes, or -1 if the field cannot say it:
 * M * 4KB if E is 0, else (512 + M) << (E + 11).
 */
static int spe_encode_max_buffer_size(uint64_t size)
{
    int e;

    if (size < 2 * MiB) {
        return size % (4 * KiB) ? -1 : size / (4 * KiB);
    }
    e = 63 - clz64(size) - 20;
    if (e > 31 || size & MAKE_64BIT_MASK(0, e + 11)) {
        return -1;
    }
    return e << 9 | extract64(size, e + 11, 9);
}

static bool spe_check_pow2(const char *name, uint32_t value, uint32_t min,
                           uint32_t max, Error **errp)
{
    if (is_power_of_2(value) && value >= min && value <= max) {
        return true;
    }
    error_setg(errp, "%s=%u is not valid: it must be a power of two "
               "from %u to %u", name, value, min, max);
    return false;
}

static bool spe_needs_pmsver(ARMCPU *cpu, const char *name, bool set,
                             unsigned pmsver, Error **errp)
{
    if (set && cpu->spe.pmsver < pmsver) {
        error_setg(errp, "%s=on needs spe-pmsver=%u or later, not %u",
                   name, pmsver, cpu->spe.pmsver);
        return false;
    }
    return true;
}

bool arm_spe_realize(ARMCPU *cpu, Error **errp)
{
    ARMSPEConfig *spe = &cpu->spe;
    bool fne, fds, af;
    int size, interval = -1;
    uint64_t v;

    if (!spe->enabled) {
        return true;
    }
    if (!arm_feature(&cpu->env, ARM_FEATURE_AARCH64)) {
        error_setg(errp, "spe=on needs a CPU in AArch64 state");
        return false;
    }
    if (spe->pmsver < 1 || spe->pmsver > 5) {
        error_setg(errp, "spe-pmsver=%u is not valid: it must be 1 (SPEv1p0) "
                   "to 5 (SPEv1p4)", spe->pmsver);
        return false;
    }
    size = spe_encode_max_buffer_size(spe->max_buffer_size);
    if (size < 0) {
        error_setg(errp, "spe-max-buffer-size=%" PRIu64 " is not valid: it "
                   "must be 0 (no limit), a multiple of 4096 below 2 MiB, or "
                   "(512 + M) << (E + 11) with M up to 511 and E from 1 to 31",
                   spe->max_buffer_size);
        return false;
    }
    if (!spe_check_pow2("spe-max-record-size", spe->max_record_size, 64,
                        ARM_SPE_MAX_RECORD, errp) ||
        !spe_check_pow2("spe-align", spe->align, 1, ARM_SPE_MAX_RECORD,
                        errp)) {
        return false;
    }
    if (spe->align > spe->max_record_size) {
        error_setg(errp, "spe-align=%u is not valid: it must be at most "
                   "spe-max-record-size, which is %u",
                   spe->align, spe->max_record_size);
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(spe_intervals); i++) {
        if (spe->interval == spe_intervals[i].interval) {
            interval = spe_intervals[i].encoding;
        }
    }
    if (interval < 0) {
        error_setg(errp, "spe-interval=%u is not valid: it must be 256, 512, "
                   "768, 1024, 1536, 2048, 3072 or 4096", spe->interval);
        return false;
    }
    if (spe->count_size != 12 && spe->count_size != 16) {
        error_setg(errp, "spe-count-size=%u is not valid: it must be 12 or 16",
                   spe->count_size);
        return false;
    }
    if (spe->defer > ARM_SPE_MAX_DEFER) {
        error_setg(errp, "spe-defer=%u is not valid: it must be 0 (records "
                   "are written at once) to %u", spe->defer,
                   ARM_SPE_MAX_DEFER);
        return false;
    }
    if (!spe->reset || !strcmp(spe->reset, "zero")) {
        spe->reset_unknown = false;
    } else if (!strcmp(spe->reset, "unknown")) {
        spe->reset_unknown = true;
    } else {
        error_setg(errp, "spe-reset=%s is not valid: it must be 'zero' or "
                   "'unknown'", spe->reset);
        return false;
    }

    /*
     * FnE is mandatory from SPEv1p2 and does not exist before it, FDS exists
     * from SPEv1p4 and is then mandatory if LDS is there, F is mandatory
     * from SPEv1p3. F=0 stays selectable, to see what software makes of it.
     */
    fne = spe->fne == ON_OFF_AUTO_AUTO ? spe->pmsver >= 3 :
                                         spe->fne == ON_OFF_AUTO_ON;
    fds = spe->fds == ON_OFF_AUTO_AUTO ? spe->lds && spe->pmsver >= 5 :
                                         spe->fds == ON_OFF_AUTO_ON;
    af = spe->af != ON_OFF_AUTO_OFF;
    if (!fne && spe->pmsver >= 3) {
        error_setg(errp, "spe-fne=off needs spe-pmsver=2 or earlier: FnE is "
                   "mandatory from SPEv1p2");
        return false;
    }
    if (!fds && spe->lds && spe->pmsver >= 5) {
        error_setg(errp, "spe-fds=off needs spe-lds=off or spe-pmsver=4 or "
                   "earlier: FDS is mandatory from SPEv1p4");
        return false;
    }
    if (fds && !spe->lds) {
        error_setg(errp, "spe-fds=on needs spe-lds=on");
        return false;
    }
    if (!spe_needs_pmsver(cpu, "spe-fne", fne, 3, errp) ||
        !spe_needs_pmsver(cpu, "spe-pbt", spe->pbt, 3, errp) ||
        !spe_needs_pmsver(cpu, "spe-fds", fds, 5, errp)) {
        return false;
    }
    if (spe->pbt && spe->max_record_size < 128) {
        error_setg(errp, "spe-pbt=on needs spe-max-record-size=128 or more");
        return false;
    }
    if (spe->ea == UINT8_MAX) {
        spe->ea = spe->pmsver >= 4 ? 1 : 0;
    } else if (spe->ea > 2 || (spe->ea == 0 && spe->pmsver >= 4)) {
        error_setg(errp, "spe-ea=%u is not valid: it must be %s1 (External "
                   "aborts are ignored) or 2 (they become SErrors)", spe->ea,
                   spe->pmsver >= 4 ? "" : "0 (not described), ");
        return false;
    }

    cpu->isar.id_aa64dfr0 = FIELD_DP64(cpu->isar.id_aa64dfr0, ID_AA64DFR0,
                                       PMSVER, spe->pmsver);
    if (fds && cpu_isar_feature(aa64_fgt, cpu)) {
        cpu->isar.id_aa64mmfr0 = FIELD_DP64(cpu->isar.id_aa64mmfr0,
                                            ID_AA64MMFR0, FGT, 2);
    }

    v = R_PMSIDR_FE_MASK | R_PMSIDR_FT_MASK | R_PMSIDR_FL_MASK |
        R_PMSIDR_ARCHINST_MASK;
    v = FIELD_DP64(v, PMSIDR, LDS, spe->lds);
    v = FIELD_DP64(v, PMSIDR, ERND, spe->ernd);
    v = FIELD_DP64(v, PMSIDR, FNE, fne);
    v = FIELD_DP64(v, PMSIDR, FDS, fds);
    v = FIELD_DP64(v, PMSIDR, INTERVAL, interval);
    v = FIELD_DP64(v, PMSIDR, MAXSIZE, ctz32(spe->max_record_size));
    v = FIELD_DP64(v, PMSIDR, COUNTSIZE, spe->count_size == 16 ? 3 : 2);
    v = FIELD_DP64(v, PMSIDR, PBT, spe->pbt);
    v = FIELD_DP64(v, PMSIDR, CRR, spe->crr);
    v = FIELD_DP64(v, PMSIDR, EFT, spe->eft);
    v = FIELD_DP64(v, PMSIDR, FPF, spe->fpf);
    spe->pmsidr = v;

    v = FIELD_DP64(0, PMBIDR, ALIGN, ctz32(spe->align));
    v = FIELD_DP64(v, PMBIDR, F, af);
    v = FIELD_DP64(v, PMBIDR, EA, spe->ea);
    v = FIELD_DP64(v, PMBIDR, MAXBUFFSIZE, size);
    spe->pmbidr = v;
    return true;
}
