/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One row for each register of the extension: encoding, trap controls and
 * NV2 offset (Arm ARM D24.7, D24.2.35-36 HDFG*, D8.9 for VNCR offsets).
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#ifndef SPEREGS_H
#define SPEREGS_H

#include "harness.h"

enum trap_group { TRAP_NONE, TRAP_TPMS, TRAP_E2PB };

struct spe_reg {
	const char *name;
	fn_t rd, wr;		/* through x7, so that ESR_ELx.ISS.Rt is 7 */
	u8 op1, crn, crm, op2;
	u8 ro;
	u8 group;		/* of MDCR_EL2 */
	s64 fgt;		/* bit of HDFGRTR_EL2/HDFGWTR_EL2; -1: none */
	u8 fgt_n;		/* the bit traps when it is 0 */
	u16 vncr;		/* offset in the page of VNCR_EL2, 0: none */
	u8 vncr_nv1;		/* only with HCR_EL2.NV1 = 1 */
};

extern const struct spe_reg spe_regs[];
extern const int spe_nregs;
/* FEAT_FGT2, which comes with FEAT_SPE_FDS: HDFG*TR2_EL2, then the others */
extern const struct spe_reg fgt2_regs[5];
enum {
	R_PMSCR, R_PMSNEVFR, R_PMSICR, R_PMSIRR, R_PMSFCR, R_PMSEVFR,
	R_PMSLATFR, R_PMSIDR, R_PMBLIMITR, R_PMBPTR, R_PMBSR, R_PMSDSFR,
	R_PMBIDR, R_PMSCR_EL2, R_PMSCR_EL12,
};

/* PMSNEVFR_EL1 and PMSDSFR_EL1 exist only with FEAT_SPE_FnE and _FDS. */
int reg_exists(const struct spe_reg *r);
/* ESR_ELx of a trapped access. */
u64 sysreg_esr(const struct spe_reg *r, int read);
/* One access at an Exception level; true if it took an exception. */
int probe(int el, const struct spe_reg *r, int read);

#endif
