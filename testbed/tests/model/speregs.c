// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of speregs.h.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "speregs.h"

#define ACCESS(fn, enc)							\
static u64 rd_##fn(u64 unused)						\
{									\
	register u64 x7 asm("x7") = unused;				\
	asm volatile("mrs %0, " enc : "+r"(x7) : : "memory");		\
	return x7;							\
}									\
static u64 wr_##fn(u64 v)						\
{									\
	register u64 x7 asm("x7") = v;					\
	asm volatile("msr " enc ", %0" : : "r"(x7) : "memory");		\
	return 0;							\
}

ACCESS(pmscr, "S3_0_C9_C9_0")
ACCESS(pmsnevfr, "S3_0_C9_C9_1")
ACCESS(pmsicr, "S3_0_C9_C9_2")
ACCESS(pmsirr, "S3_0_C9_C9_3")
ACCESS(pmsfcr, "S3_0_C9_C9_4")
ACCESS(pmsevfr, "S3_0_C9_C9_5")
ACCESS(pmslatfr, "S3_0_C9_C9_6")
ACCESS(pmsidr, "S3_0_C9_C9_7")
ACCESS(pmblimitr, "S3_0_C9_C10_0")
ACCESS(pmbptr, "S3_0_C9_C10_1")
ACCESS(pmbsr, "S3_0_C9_C10_3")
ACCESS(pmsdsfr, "S3_0_C9_C10_4")
ACCESS(pmbidr, "S3_0_C9_C10_7")
ACCESS(pmscr_el2, "S3_4_C9_C9_0")
ACCESS(pmscr_el12, "S3_5_C9_C9_0")
ACCESS(hdfgrtr2, "S3_4_C3_C1_0")
ACCESS(hdfgwtr2, "S3_4_C3_C1_1")
ACCESS(hfgrtr2, "S3_4_C3_C1_2")
ACCESS(hfgwtr2, "S3_4_C3_C1_3")
ACCESS(hfgitr2, "S3_4_C3_C1_7")

#define ROW(n, f, op1, crm, op2, ...) \
	{ n, rd_##f, wr_##f, op1, 9, crm, op2, __VA_ARGS__ }

const struct spe_reg spe_regs[] = {
	/*                                           ro group fgt n vncr */
	ROW("PMSCR_EL1",    pmscr,     0,  9, 0,     0, TRAP_TPMS, 26, 0, 0x828, 1),
	ROW("PMSNEVFR_EL1", pmsnevfr,  0,  9, 1,     0, TRAP_TPMS, 62, 1, 0x850, 0),
	ROW("PMSICR_EL1",   pmsicr,    0,  9, 2,     0, TRAP_TPMS, 29, 0, 0x838, 0),
	ROW("PMSIRR_EL1",   pmsirr,    0,  9, 3,     0, TRAP_TPMS, 31, 0, 0x840, 0),
	ROW("PMSFCR_EL1",   pmsfcr,    0,  9, 4,     0, TRAP_TPMS, 28, 0, 0, 0),
	ROW("PMSEVFR_EL1",  pmsevfr,   0,  9, 5,     0, TRAP_TPMS, 27, 0, 0x830, 0),
	ROW("PMSLATFR_EL1", pmslatfr,  0,  9, 6,     0, TRAP_TPMS, 32, 0, 0x848, 0),
	ROW("PMSIDR_EL1",   pmsidr,    0,  9, 7,     1, TRAP_TPMS, 30, 0, 0, 0),
	ROW("PMBLIMITR_EL1", pmblimitr, 0, 10, 0,    0, TRAP_E2PB, 23, 0, 0x800, 0),
	ROW("PMBPTR_EL1",   pmbptr,    0, 10, 1,     0, TRAP_E2PB, 24, 0, 0x810, 0),
	ROW("PMBSR_EL1",    pmbsr,     0, 10, 3,     0, TRAP_E2PB, 25, 0, 0x820, 0),
	ROW("PMSDSFR_EL1",  pmsdsfr,   0, 10, 4,     0, TRAP_TPMS, -1, 0, 0x858, 0),
	ROW("PMBIDR_EL1",   pmbidr,    0, 10, 7,     1, TRAP_NONE, 63, 0, 0, 0),
	ROW("PMSCR_EL2",    pmscr_el2, 4,  9, 0,     0, TRAP_NONE, -1, 0, 0, 0),
	ROW("PMSCR_EL12",   pmscr_el12, 5, 9, 0,     0, TRAP_NONE, -1, 0, 0, 0),
};
const int spe_nregs = ARRAY_SIZE(spe_regs);

#define ROW_FGT2(n, f, op2, vncr) \
	{ n, rd_##f, wr_##f, 4, 3, 1, op2, 0, TRAP_NONE, -1, 0, vncr, 0 }

const struct spe_reg fgt2_regs[5] = {
	ROW_FGT2("HDFGRTR2_EL2", hdfgrtr2, 0, 0x1a0),
	ROW_FGT2("HDFGWTR2_EL2", hdfgwtr2, 1, 0x1b0),
	ROW_FGT2("HFGRTR2_EL2",  hfgrtr2,  2, 0x2c0),
	ROW_FGT2("HFGWTR2_EL2",  hfgwtr2,  3, 0x2c8),
	ROW_FGT2("HFGITR2_EL2",  hfgitr2,  7, 0x310),
};

int reg_exists(const struct spe_reg *r)
{
	static u64 pmsidr;

	/* once: it may be trapped later */
	if (!pmsidr)
		pmsidr = read_pmsidr();
	if (r == &spe_regs[R_PMSNEVFR])
		return !!(pmsidr & PMSIDR_FNE);
	if (r == &spe_regs[R_PMSDSFR])
		return !!(pmsidr & PMSIDR_FDS);
	return 1;
}

u64 sysreg_esr(const struct spe_reg *r, int read)
{
	return (u64)ESR_SYSREG << 26 | BIT(25) | 3UL << 20 |
	       (u64)r->op2 << 17 | (u64)r->op1 << 14 | (u64)r->crn << 10 |
	       7 << 5 | r->crm << 1 | !!read;
}

int probe(int el, const struct spe_reg *r, int read)
{
	expect_exceptions();
	run_at(el, read ? r->rd : r->wr, 0);
	return stop_expecting();
}
