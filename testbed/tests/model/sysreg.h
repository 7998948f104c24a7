/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System registers that the tests touch, by name, and the fields of those of
 * the Statistical Profiling Extension (Arm ARM, DDI0487 M.a.a, D24.7).
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#ifndef SYSREG_H
#define SYSREG_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef signed long s64;

#define SYSREG(name, enc)						\
static inline u64 read_##name(void)					\
{									\
	u64 v;								\
	asm volatile("mrs %0, " enc : "=r"(v) : : "memory");		\
	return v;							\
}									\
static inline void write_##name(u64 v)					\
{									\
	asm volatile("msr " enc ", %0" : : "r"(v) : "memory");		\
}

SYSREG(pmscr_el1, "S3_0_C9_C9_0")
SYSREG(pmsnevfr, "S3_0_C9_C9_1")
SYSREG(pmsicr, "S3_0_C9_C9_2")
SYSREG(pmsirr, "S3_0_C9_C9_3")
SYSREG(pmsfcr, "S3_0_C9_C9_4")
SYSREG(pmsevfr, "S3_0_C9_C9_5")
SYSREG(pmslatfr, "S3_0_C9_C9_6")
SYSREG(pmsidr, "S3_0_C9_C9_7")
SYSREG(pmblimitr, "S3_0_C9_C10_0")
SYSREG(pmbptr, "S3_0_C9_C10_1")
SYSREG(pmbsr, "S3_0_C9_C10_3")
SYSREG(pmsdsfr, "S3_0_C9_C10_4")
SYSREG(pmbidr, "S3_0_C9_C10_7")
SYSREG(pmscr_el2, "S3_4_C9_C9_0")
SYSREG(pmscr_el12, "S3_5_C9_C9_0")

SYSREG(id_aa64dfr0, "id_aa64dfr0_el1")
SYSREG(id_aa64pfr0, "id_aa64pfr0_el1")
SYSREG(id_aa64pfr1, "S3_0_C0_C4_1")
SYSREG(id_aa64mmfr0, "id_aa64mmfr0_el1")
SYSREG(id_aa64mmfr1, "id_aa64mmfr1_el1")
SYSREG(id_aa64mmfr2, "id_aa64mmfr2_el1")
SYSREG(id_aa64isar0, "id_aa64isar0_el1")
SYSREG(id_aa64isar2, "id_aa64isar2_el1")
SYSREG(mpidr, "mpidr_el1")
SYSREG(currentel, "CurrentEL")
SYSREG(daif, "daif")
SYSREG(pan, "S3_0_C4_C2_3")

static inline u64 read_dczid(void)
{
	u64 v;

	asm volatile("mrs %0, dczid_el0" : "=r"(v));
	return v;
}

SYSREG(hcr_el2, "hcr_el2")
SYSREG(hcrx_el2, "S3_4_C1_C2_2")
SYSREG(mdcr_el2, "mdcr_el2")
SYSREG(cptr_el2, "cptr_el2")
SYSREG(hdfgrtr_el2, "S3_4_C3_C1_4")
SYSREG(hdfgwtr_el2, "S3_4_C3_C1_5")
SYSREG(hdfgrtr2_el2, "S3_4_C3_C1_0")
SYSREG(hdfgwtr2_el2, "S3_4_C3_C1_1")
SYSREG(vncr_el2, "S3_4_C2_C2_0")
SYSREG(sctlr_el1, "sctlr_el1")
SYSREG(sctlr_el2, "sctlr_el2")
SYSREG(tcr_el1, "tcr_el1")
SYSREG(tcr_el2, "tcr_el2")
SYSREG(mair_el1, "mair_el1")
SYSREG(mair_el2, "mair_el2")
SYSREG(ttbr0_el1, "ttbr0_el1")
SYSREG(ttbr0_el2, "ttbr0_el2")
SYSREG(ttbr1_el1, "ttbr1_el1")
SYSREG(ttbr1_el2, "S3_4_C2_C0_1")
SYSREG(tcr_el12, "S3_5_C2_C0_2")
SYSREG(vttbr_el2, "vttbr_el2")
SYSREG(vtcr_el2, "vtcr_el2")
SYSREG(vbar_el1, "vbar_el1")
SYSREG(vbar_el2, "vbar_el2")
SYSREG(cpacr_el1, "cpacr_el1")
SYSREG(esr_el1, "esr_el1")
SYSREG(esr_el2, "esr_el2")
SYSREG(far_el1, "far_el1")
SYSREG(far_el2, "far_el2")
SYSREG(hpfar_el2, "hpfar_el2")
SYSREG(contextidr_el1, "contextidr_el1")
SYSREG(contextidr_el2, "S3_4_C13_C0_1")
SYSREG(cntvct, "cntvct_el0")
SYSREG(cntpct, "cntpct_el0")
SYSREG(cntvoff_el2, "cntvoff_el2")
SYSREG(cntpoff_el2, "S3_4_C14_C0_6")
SYSREG(cnthctl_el2, "cnthctl_el2")
SYSREG(zcr_el1, "S3_0_C1_C2_0")
SYSREG(zcr_el2, "S3_4_C1_C2_0")
SYSREG(smcr_el1, "S3_0_C1_C2_6")
SYSREG(smcr_el2, "S3_4_C1_C2_6")
SYSREG(icc_sre_el1, "S3_0_C12_C12_5")
SYSREG(icc_sre_el2, "S3_4_C12_C9_5")
SYSREG(icc_pmr, "S3_0_C4_C6_0")
SYSREG(icc_igrpen1, "S3_0_C12_C12_7")
SYSREG(icc_iar1, "S3_0_C12_C12_0")
SYSREG(icc_eoir1, "S3_0_C12_C12_1")
SYSREG(scr_el3, "scr_el3")
SYSREG(mdcr_el3, "mdcr_el3")
SYSREG(gptbr_el3, "S3_6_C2_C1_4")
SYSREG(gpccr_el3, "S3_6_C2_C1_6")

static inline void isb(void) { asm volatile("isb" : : : "memory"); }
static inline void dsb(void) { asm volatile("dsb sy" : : : "memory"); }
static inline void dsb_nsh(void) { asm volatile("dsb nsh" : : : "memory"); }
static inline void psb_csync(void) { asm volatile("hint #17" : : : "memory"); }

#define BIT(n)			(1UL << (n))
#define FIELD(v, hi, lo)	(((v) >> (lo)) & (BIT((hi) - (lo) + 1) - 1))

#define PMSCR_E0SPE		BIT(0)	/* E0HSPE in PMSCR_EL2 */
#define PMSCR_E1SPE		BIT(1)	/* E2SPE in PMSCR_EL2 */
#define PMSCR_CX		BIT(3)
#define PMSCR_PA		BIT(4)
#define PMSCR_TS		BIT(5)
#define PMSCR_PCT(x)		((u64)(x) << 6)

#define PMSIRR_RND		BIT(0)

#define PMSFCR_FE		BIT(0)
#define PMSFCR_FT		BIT(1)
#define PMSFCR_FL		BIT(2)
#define PMSFCR_FNE		BIT(3)
#define PMSFCR_FDS		BIT(4)
#define PMSFCR_B		BIT(16)
#define PMSFCR_LD		BIT(17)
#define PMSFCR_ST		BIT(18)
#define PMSFCR_FP		BIT(19)
#define PMSFCR_SIMD		BIT(20)
#define PMSFCR_BM		BIT(48)
#define PMSFCR_LDM		BIT(49)
#define PMSFCR_STM		BIT(50)
#define PMSFCR_FPM		BIT(51)
#define PMSFCR_SIMDM		BIT(52)

#define PMSIDR_FE		BIT(0)
#define PMSIDR_FT		BIT(1)
#define PMSIDR_FL		BIT(2)
#define PMSIDR_ARCHINST		BIT(3)
#define PMSIDR_LDS		BIT(4)
#define PMSIDR_ERND		BIT(5)
#define PMSIDR_FNE		BIT(6)
#define PMSIDR_FDS		BIT(7)
#define PMSIDR_PBT		BIT(24)
#define PMSIDR_CRR		BIT(25)
#define PMSIDR_EFT		BIT(26)
#define PMSIDR_FPF		BIT(27)
#define PMSIDR_INTERVAL(v)	FIELD(v, 11, 8)
#define PMSIDR_MAXSIZE(v)	FIELD(v, 15, 12)
#define PMSIDR_COUNTSIZE(v)	FIELD(v, 19, 16)

#define PMBIDR_ALIGN(v)		FIELD(v, 3, 0)
#define PMBIDR_P		BIT(4)
#define PMBIDR_F		BIT(5)
#define PMBIDR_EA(v)		FIELD(v, 11, 8)
#define PMBIDR_MAXBUFFSIZE(v)	FIELD(v, 47, 32)

#define PMBLIMITR_E		BIT(0)
#define PMBLIMITR_DISCARD	(2UL << 1)
#define PMBLIMITR_PMFZ		BIT(5)

#define PMBSR_COLL		BIT(16)
#define PMBSR_S			BIT(17)
#define PMBSR_EA		BIT(18)
#define PMBSR_DL		BIT(19)
#define PMBSR_EC(v)		FIELD(v, 31, 26)
#define PMBSR_MSS(v)		FIELD(v, 15, 0)
#define PMBSR_FULL		(PMBSR_S | 1)
#define PMBSR_ABORT(ec, fsc)	((u64)(ec) << 26 | PMBSR_S | (fsc))
#define EC_OTHER		0x00
#define EC_STAGE1		0x24
#define EC_STAGE2		0x25
#define EC_GPC			0x1e

#define HCR_VM			BIT(0)
#define HCR_AMO			BIT(5)
#define HCR_TGE			BIT(27)
#define HCR_RW			BIT(31)
#define HCR_E2H			BIT(34)
#define HCR_NV			BIT(42)
#define HCR_NV1			BIT(43)
#define HCR_NV2			BIT(45)

#define MDCR_E2PB(x)		((u64)(x) << 12)
#define MDCR_TPMS		BIT(14)

/* of HDFGRTR2_EL2 and HDFGWTR2_EL2: not trapped when 1 */
#define HDFG2_NPMSDSFR		BIT(19)

#define SCR_NS			BIT(0)
#define SCR_EEL2		BIT(18)
#define SCR_FGTEN		BIT(27)
#define SCR_FGTEN2		BIT(59)
#define SCR_NSE			BIT(62)

#define ESR_EC(v)		FIELD(v, 31, 26)
#define ESR_UNDEF		0x00
#define ESR_SYSREG		0x18
#define ESR_HVC			0x16
#define ESR_SVC			0x15
#define ESR_SVC32		0x11
#define ESR_HVC32		0x12
#define ESR_SMC			0x17

#endif
