// SPDX-License-Identifier: GPL-2.0-only
/*
 * Profiling is disabled in AArch32 state: nothing counts and nothing is
 * sampled (Arm ARM D17.4, ASL StatisticalProfilingEnabled()). And an SError of
 * the buffer can be taken there.
 *
 * Argument: serror=1 where PMBIDR_EL1.EA is 2, and only then.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

extern u64 a32_spin(u64), a32_serror(u64);
extern char a32_vectors[];

#define LOOPS	100000

/*
 * With PMBIDR_EL1.EA=2 an External abort on a write of the buffer is an SError.
 * One that EL2's buffer raised is taken to EL1, in AArch32 state there.
 */
static void check_serror(void)
{
	struct session s = {
		.owner = 2, .pmscr_el2 = PMSCR_E1SPE,
		.pmbptr = WINDOW, .limit = WINDOW + 0x1000,
	};
	u64 sctlr = read_sctlr_el1(), vbar = read_vbar_el1();
	u64 want = 0x406 | (FIELD(read_id_aa64pfr0(), 31, 28) ? 2 << 14 : 0);
	int i;

	if (PMBIDR_EA(read_pmbidr()) != 2) {
		ok(!arg("serror", 0), "PMBIDR_EL1.EA is as the case says");
		return;
	}
	map(el2_root, 0, WINDOW, NOWHERE, PAGE_SIZE, 3, PTE_RW);
	tlbi_all();
	write_vbar_el1((u64)a32_vectors);
	write_sctlr_el1(sctlr & ~BIT(0));
	for (i = 0; i < 2; i++) {
		u64 got;

		if (!i)
			spe_run(&s, 2, wl_spin, 200);
		hcr_set(0, HCR_RW);
		/* Supervisor mode, I and F masked, A not */
		got = run_spsr(0xd3, a32_serror, 0);
		hcr_set(HCR_RW, 0);
		if (!i)
			is(got, want, "an SError of the buffer is an asynchronous data abort in AArch32 state");
		else
			is(got, 1, "it is taken once");
	}
	write_sctlr_el1(sctlr);
	write_vbar_el1(vbar);
	tlbi_all();
}

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
	check_serror();
}
