// SPDX-License-Identifier: GPL-2.0-only
/*
 * Operation Type packets of what record.c leaves out: each group of Advanced
 * SIMD with FEAT_SPE_FPF, pointer authentication, atomics to XZR, instructions
 * that generate an exception, SME and its predicates (Arm ARM D17.6.6,
 * D18.2.6, D18.2.7).
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

/* A row of ops-code.S */
struct op {
	u64 pc;
	const char *name;
	u64 va, target, events;
	u32 class, sub;
};

extern const struct op ops_simd[], ops_misc[], ops_sme[];
extern u64 code_simd(u64), code_misc(u64), code_sme(u64);

#define MAX_RECS	30000
static struct record recs[MAX_RECS];

/* The subclass without features that the CPU does not have */
static u32 subclass(const struct op *o)
{
	if (o->class == OP_BRANCH && !(id.pmsidr & PMSIDR_CRR))
		return o->sub & ~0x18;
	if (o->class == OP_OTHER && o->sub < 8 && !(id.pmsidr & PMSIDR_FPF))
		return o->sub & ~0x06;
	return o->sub;
}

static const char *wrong(const struct op *o, const struct record *r)
{
	u64 care = EV_EXCEPTION | EV_RETIRED | EV_PARTIAL | EV_EMPTY;

	if (ADDR_EL(r->addr[A_PC]) != 1)
		return "EL of the PC";
	/* Of one that takes an exception only E[0] is sure, D17.6.10. */
	if (o->events & EV_EXCEPTION)
		return !(r->events & EV_EXCEPTION) ? "no E[0]" :
		       r->addrs & BIT(A_TARGET) ? "a branch target" : 0;
	if ((r->events ^ o->events) & care)
		return "events";
	if (r->op != o->class || r->opsub != subclass(o))
		return "operation type";
	if (!!(r->addrs & BIT(A_VA)) != !!o->va ||
	    (o->va && ADDR(r->addr[A_VA]) != o->va))
		return "VA";
	if (!!(r->addrs & BIT(A_TARGET)) != !!o->target ||
	    (o->target && ADDR(r->addr[A_TARGET]) != o->target))
		return "branch target";
	return 0;
}

static void check(const struct op *ops, fn_t fn, u64 loops)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + BUF_SIZE,
	};
	const struct op *o;
	int n, i;

	spe_run(&s, 1, fn, loops);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	ok(n > 0 && n <= MAX_RECS && !s.end_pmbsr, "the stream of records decodes");
	for (o = ops; o->pc; o++) {
		const char *err = 0;
		const struct record *r = 0;
		int seen = 0;

		for (i = 0; i < n && !err; i++) {
			if (ADDR(recs[i].addr[A_PC]) != o->pc)
				continue;
			seen++;
			r = &recs[i];
			err = wrong(o, r);
		}
		ok(seen && !err, "the record of %s", o->name);
		if (!seen)
			print("# never sampled at %#lx\n", o->pc);
		if (err)
			print("# %s: op %02x %02x want %02x %02x, addresses %#x VA %#lx target %#lx, events %#lx\n",
			      err, r->op, r->opsub, o->class, subclass(o),
			      r->addrs, r->addr[A_VA], r->addr[A_TARGET], r->events);
	}
}

void test_main(void)
{
	struct session s = {
		.owner = 1, .pmbptr = BUF, .limit = BUF + 0x1000,
	};

	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	check(ops_simd, code_simd, 3000);
	expect_exceptions();
	check(ops_misc, code_misc, 3000);
	stop_expecting();
	if (FIELD(read_id_aa64pfr1(), 27, 24)) {
		write_cptr_el2(read_cptr_el2() & ~BIT(12));	/* TSM */
		write_cpacr_el1(read_cpacr_el1() | 3 << 24);	/* SMEN */
		write_smcr_el2(1);				/* 256 bits */
		write_smcr_el1(1);
		isb();
		check(ops_sme, code_sme, 6000);
	} else {
		ok(!arg("sme", 1), "FEAT_SME is as the case says");
	}
}
