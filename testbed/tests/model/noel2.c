// SPDX-License-Identifier: GPL-2.0-only
/*
 * A machine without EL2: PMSCR_EL1.PCT, the owner, and what of a record
 * PMSCR_EL1 alone decides (Arm ARM D17.6.9, D24.7.8). All of it runs at EL1.
 *
 * Argument: reset=zero or unknown.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "speregs.h"
#include "decode.h"

#define MAX_RECS	4096
static struct record recs[MAX_RECS];
static u64 end_pmbsr;

/* fn(arg) at EL1 with PMSCR_EL1 = pmscr; gives the number of records. */
static int profile(u64 pmscr, fn_t fn, u64 arg)
{
	u64 end;

	write_pmscr_el1(0);
	isb();
	write_pmblimitr(0);
	write_pmsirr(0x100);
	write_pmsicr(0);
	write_pmsfcr(0);
	write_pmbptr(BUF);
	write_pmbsr(0);
	isb();
	write_pmblimitr((BUF + 0x100000) | PMBLIMITR_E);
	isb();
	write_pmscr_el1(pmscr);
	isb();
	fn(arg);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	end = read_pmbptr();
	end_pmbsr = read_pmbsr();
	write_pmblimitr(0);
	isb();
	return decode_all(BUF, end, recs, MAX_RECS);
}

static void check_registers(void)
{
	static const u64 values[] = { 0, ~0UL, 2UL << 6, 3UL << 6, 0x3b };
	u64 pct = PMSCR_PCT(1);
	unsigned int i;
	int k, read;

	is(read_pmscr_el1() & PMSCR_PCT(3), pct, "reset: PMSCR_EL1.PCT is 0b01");
	if (!streq(arg_text("reset"), "unknown"))
		is(read_pmscr_el1(), pct, "reset: the rest of PMSCR_EL1 is 0");
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		write_pmscr_el1(values[i]);
		isb();
		is(read_pmscr_el1(), (values[i] & 0x3b) | pct,
		   "PMSCR_EL1 written with %#lx: PCT reads as 0b01", values[i]);
	}
	write_pmscr_el1(0);
	isb();
	is(read_pmbidr() & PMBIDR_P, 0, "PMBIDR_EL1.P is 0");
	for (k = R_PMSCR_EL2; k <= R_PMSCR_EL12; k++)
		for (read = 0; read < 2; read++) {
			expect_exceptions();
			(read ? spe_regs[k].rd : spe_regs[k].wr)(0);
			stop_expecting();
			ok(exc.count == 1 && exc.el == 1 && ESR_EC(exc.esr) == ESR_UNDEF,
			   "%s of %s is UNDEFINED", read ? "a read" : "a write",
			   spe_regs[k].name);
		}
	for (k = R_PMSICR; k < R_PMSCR_EL2; k++) {
		if (!reg_exists(&spe_regs[k]))
			continue;
		expect_exceptions();
		spe_regs[k].rd(0);
		is(stop_expecting(), 0, "%s is accessible", spe_regs[k].name);
	}
}

static void check_records(void)
{
	int bits;

	for (bits = 0; bits < 8; bits++) {
		int pa = bits & 1, cx = bits >> 1 & 1, ts = bits >> 2;
		u64 before, after;
		int n, i, in = 0, bad = 0;

		write_contextidr_el1(0x11223344);
		isb();
		before = read_cntpct();
		n = profile(PMSCR_E1SPE | (pa ? PMSCR_PA : 0) | (cx ? PMSCR_CX : 0) |
			    (ts ? PMSCR_TS : 0), wl_access, BUF2);
		isb();
		after = read_cntpct();
		for (i = 0; i < n; i++) {
			struct record *r = &recs[i];

			if (ADDR(r->addr[A_PC]) != (u64)wl_access_ldr)
				continue;
			in++;
			bad += ADDR_EL(r->addr[A_PC]) != 1 || !ADDR_NS(r->addr[A_PC]) ||
			       ADDR(r->addr[A_VA]) != BUF2 ||
			       !!(r->addrs & BIT(A_PA)) != pa ||
			       (pa && (ADDR(r->addr[A_PA]) != BUF2 ||
				       !ADDR_NS(r->addr[A_PA]))) ||
			       r->ctxs != (cx ? CTX_EL1 : 0) ||
			       (cx && r->ctx[0] != 0x11223344) ||
			       r->has_ts != ts ||
			       (ts && (r->ts < before || r->ts > after));
		}
		ok(in > 5 && !bad && !end_pmbsr,
		   "PMSCR_EL1.{PA,CX,TS} = {%d,%d,%d} decides alone", pa, cx, ts);
		if (in <= 5 || bad || end_pmbsr)
			print("# %d of %d records, %d wrong, PMBSR %#lx\n", in, n, bad,
			      end_pmbsr);
	}
	is(profile(PMSCR_E0SPE | PMSCR_PA, wl_access, BUF2), 0,
	   "E1SPE=0: EL1 is not sampled");
}

void test_el1(void)
{
	is(FIELD(read_id_aa64pfr0(), 11, 8), 0, "EL2 is not implemented");
	id.pmsver = FIELD(read_id_aa64dfr0(), 35, 32);
	id.pmsidr = read_pmsidr();
	id.max = 1UL << PMSIDR_MAXSIZE(id.pmsidr);
	id.align = 1UL << PMBIDR_ALIGN(read_pmbidr());
	check_registers();
	check_records();
}

void test_main(void)
{
	ok(0, "EL2 is not implemented");
}
