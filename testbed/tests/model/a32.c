// SPDX-License-Identifier: GPL-2.0-only
/*
 * Profiling is disabled in AArch32 state: nothing counts and nothing is
 * sampled (Arm ARM D17.4, ASL StatisticalProfilingEnabled()).
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

extern u64 a32_spin(u64);

#define LOOPS	100000

void test_main(void)
{
	int owner, el1;

	ok(FIELD(read_id_aa64pfr0(), 3, 0) == 2, "EL0 can use AArch32");
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	for (owner = 1; owner <= 2; owner++)
		for (el1 = 0; el1 < 2; el1++) {
			struct session s = {
				.owner = owner, .pmsicr = 0x40000000,
				.pmscr_el1 = PMSCR_E0SPE | (el1 ? PMSCR_E1SPE : 0),
				.pmbptr = BUF, .limit = BUF + 0x10000,
			};
			u64 used;

			spe_run(&s, 1, a32_spin, LOOPS);
			used = 0x40000000 - s.end_pmsicr;
			ok(el1 ? used > 0 && used < 200 : !used,
			   "owner EL%d, E0SPE%s: EL0 in AArch32 state does not step the counter",
			   owner, el1 ? " and E1SPE" : "");
			print("# %lu steps\n", used);
			s.pmsicr = 1000;
			spe_run(&s, 1, a32_spin, LOOPS);
			ok(s.end_pmbptr == BUF && !s.end_pmbsr,
			   "owner EL%d, E0SPE%s: EL0 in AArch32 state is not sampled",
			   owner, el1 ? " and E1SPE" : "");

			/* The same enables, in AArch64 state */
			s.pmsicr = 0x40000000;
			spe_run(&s, 0, wl_spin, LOOPS);
			used = 0x40000000 - s.end_pmsicr;
			ok(used >= 2 * LOOPS && used < 2 * LOOPS + 300,
			   "owner EL%d, E0SPE%s: EL0 in AArch64 state steps the counter",
			   owner, el1 ? " and E1SPE" : "");
		}
}
