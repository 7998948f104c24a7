// SPDX-License-Identifier: GPL-2.0-only
/*
 * CH and PAT of the data physical address packet: was the access checked
 * against an Allocation Tag, and with which (Arm ARM D18.2.1)? By the memory's
 * type, TCMA0, and SCTLR_EL1.TCF and TCF0, which is that of LDTR and STTR.
 *
 * Operations on tags (D17.6.4.1): a load or store of tags is an operation type
 * of its own from SPEv1p3 on, one that stores data as well is not. None of them
 * is checked. Which address a record has is IMPLEMENTATION DEFINED: it is that
 * of the operand's granule, and with DC that of the block.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

extern u64 mte_access(u64);
extern char mte_ldr[], mte_str[], mte_ldtr[], mte_sttr[], mte_ld1[],
	mte_ldxr[], mte_stxr[], mte_sp_ldr[], mte_sp_ldur[], mte_sp_ldp[],
	mte_sp_str[], mte_sp_ldxr[], mte_sp_stxr[], mte_sp_ldar[], mte_sp_ldadd[],
	mte_sp_pre[], mte_sp_post[], mte_sp_reg[];

#define MAX_RECS	8192
static struct record recs[MAX_RECS];

#define HCR_ATA		BIT(56)
#define TCR_TBI0	BIT(37)
#define TCR_TCMA0	BIT(57)
#define SCTLR_TCF0	BIT(38)		/* synchronous */
#define SCTLR_TCF	BIT(40)
#define SCTLR_ATA0	BIT(42)
#define SCTLR_ATA	BIT(43)

#define PA_CH		BIT(62)
#define PA_PAT(a)	FIELD(a, 59, 56)

static const struct {
	const char *name;
	char *pc;
	int unpriv;
	int unchecked;		/* SP with an immediate that is not written back */
	u64 offset;
} insns[] = {
	{ "LDR", mte_ldr, 0, 0, 0 }, { "STR", mte_str, 0, 0, 0 },
	{ "LDTR", mte_ldtr, 1, 0, 0 }, { "STTR", mte_sttr, 1, 0, 0 },
	{ "LD1D", mte_ld1, 0, 0, 0 },
	{ "LDXR", mte_ldxr, 0, 0, 0 }, { "STXR", mte_stxr, 0, 0, 0 },
	{ "LDR [SP]", mte_sp_ldr, 0, 1, 0 }, { "LDUR [SP, #1]", mte_sp_ldur, 0, 1, 1 },
	{ "LDP [SP]", mte_sp_ldp, 0, 1, 0 }, { "STR [SP]", mte_sp_str, 0, 1, 0 },
	{ "LDXR [SP]", mte_sp_ldxr, 0, 1, 0 }, { "STXR [SP]", mte_sp_stxr, 0, 1, 0 },
	{ "LDAR [SP]", mte_sp_ldar, 0, 1, 0 }, { "LDADD [SP]", mte_sp_ldadd, 0, 1, 0 },
	{ "LDR [SP, #0]!", mte_sp_pre, 0, 0, 0 }, { "LDR [SP], #0", mte_sp_post, 0, 0, 0 },
	{ "LDR [SP, XZR]", mte_sp_reg, 0, 0, 0 },
};

static void check(int tcf, int tcf0, int tagged, int tag, int tcma)
{
	u64 va = WINDOW | (tagged ? 0 : PAGE_SIZE) | (u64)tag << 56;
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE | PMSCR_PA,
		.pmscr_el2 = PMSCR_PA, .pmbptr = BUF, .limit = BUF + 0x100000,
	};
	u64 sctlr = read_sctlr_el1(), tcr = read_tcr_el1();
	unsigned int k;
	int n, i;

	write_sctlr_el1(sctlr | SCTLR_ATA | SCTLR_ATA0 | (tcf ? SCTLR_TCF : 0) |
			(tcf0 ? SCTLR_TCF0 : 0));
	write_tcr_el1(tcr | TCR_TBI0 | (tcma ? TCR_TCMA0 : 0));
	tlbi_all();
	spe_run(&s, 1, mte_access, va);
	write_sctlr_el1(sctlr);
	write_tcr_el1(tcr);
	tlbi_all();
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (k = 0; k < ARRAY_SIZE(insns); k++) {
		int want = (insns[k].unpriv ? tcf0 : tcf) && tagged && !(tcma && !tag) &&
			   !insns[k].unchecked;
		u64 pa = BUF2 + (va & PAGE_SIZE) + insns[k].offset, first = 0;
		int in = 0, bad = 0;

		pa |= BIT(63) | (want ? PA_CH | (u64)tag << 56 : 0);
		for (i = 0; i < n; i++) {
			if (ADDR(recs[i].addr[A_PC]) != (u64)insns[k].pc)
				continue;
			in++;
			if (!(recs[i].addrs & BIT(A_PA)) || recs[i].addr[A_PA] != pa) {
				if (!bad++)
					first = recs[i].addr[A_PA];
			}
		}
		ok(in > 2 && !bad,
		   "%s, TCF=%d TCF0=%d TCMA0=%d, %s memory, tag %d: %s", insns[k].name,
		   tcf, tcf0, tcma, tagged ? "Tagged" : "other", tag,
		   want ? "checked" : "not checked");
		if (in <= 2 || bad)
			print("# %d of %d wrong, PA %#lx want %#lx\n", bad, in, first, pa);
	}
}

struct op {
	u64 pc;
	const char *name;
	s64 offset;		/* of the address in the page; -1: none */
	u32 class, sub, checked, unused;
};

extern const struct op mte_op_rows[];
extern u64 mte_ops(u64);

/* Those of unspecified registers come with SPEv1p1, of tags and sets with SPEv1p3. */
static u32 op_sub(const struct op *o)
{
	u32 sub = o->sub;

	if (id.pmsver < 4 && sub == 0x25)
		sub = 0x11;
	if (id.pmsver < 4 && (sub & ~1) == 0x14)
		sub = 0x10 | (sub & 1);
	if (id.pmsver < 2 && (sub & ~1) == 0x10)
		sub &= 1;
	return sub;
}

static const char *wrong(const struct op *o, const struct record *r, u64 va,
			 int tcf, int tagged)
{
	u64 pa = BUF2 + (va & PAGE_SIZE) + o->offset;

	if (r->op != o->class || r->opsub != op_sub(o))
		return "operation type";
	if (!(r->events & EV_RETIRED) || (r->events & EV_EXCEPTION))
		return "events";
	if (o->offset < 0)
		return r->addrs & (BIT(A_VA) | BIT(A_PA)) ? "an address" : 0;
	if (!(r->addrs & BIT(A_VA)) || r->addr[A_VA] != va + o->offset)
		return "VA";
	pa |= BIT(63);
	if (o->checked && tcf && tagged)
		pa |= PA_CH | (va >> 56 & 0xf) << 56;
	if (!(r->addrs & BIT(A_PA)) || r->addr[A_PA] != pa)
		return "PA";
	return 0;
}

/* Bits: TCF; ATA, without which no tag is accessed; Tagged memory */
static void check_ops(int tcf, int ata, int tagged)
{
	u64 va = WINDOW | (tagged ? 0 : PAGE_SIZE) | 5UL << 56;
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE | PMSCR_PA,
		.pmscr_el2 = PMSCR_PA, .pmbptr = BUF, .limit = BUF + 0x100000,
	};
	u64 sctlr = read_sctlr_el1(), tcr = read_tcr_el1();
	const struct op *o;
	int n, i;

	write_sctlr_el1(sctlr | (ata ? SCTLR_ATA : 0) | (tcf ? SCTLR_TCF : 0));
	write_tcr_el1(tcr | TCR_TBI0);
	tlbi_all();
	spe_run(&s, 1, mte_ops, va);
	write_sctlr_el1(sctlr);
	write_tcr_el1(tcr);
	tlbi_all();
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	for (o = mte_op_rows; o->pc; o++) {
		const struct record *first = 0;
		const char *err = 0;
		int in = 0, bad = 0;

		for (i = 0; i < n; i++) {
			const char *w;

			if (ADDR(recs[i].addr[A_PC]) != o->pc)
				continue;
			in++;
			w = wrong(o, &recs[i], va, tcf && ata, tagged);
			if (w && !bad++) {
				err = w;
				first = &recs[i];
			}
		}
		ok(in > 1 && !bad, "%s, TCF=%d ATA=%d, %s memory: its record", o->name,
		   tcf, ata, tagged ? "Tagged" : "other");
		if (in <= 1)
			print("# %d records\n", in);
		if (bad)
			print("# %d of %d wrong, %s: op %02x %02x want %02x %02x, VA %#lx PA %#lx\n",
			      bad, in, err, first->op, first->opsub, o->class,
			      op_sub(o), first->addr[A_VA], first->addr[A_PA]);
	}
}

void test_main(void)
{
	struct session s = {
		.owner = 1, .pmbptr = BUF, .limit = BUF + 0x1000,
	};
	int bits;

	if (!ok(FIELD(read_id_aa64pfr1(), 11, 8) >= 2, "FEAT_MTE2 is implemented"))
		return;
	is(FIELD(read_dczid(), 3, 0), 4, "DC ZVA writes 64 bytes");
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	spe_start(&s);		/* fills in id */
	spe_stop(&s);
	hcr_set(HCR_ATA, 0);
	feature("mops", FIELD(read_id_aa64isar2(), 19, 16), 1);
	write_hcrx_el2(read_hcrx_el2() | BIT(11));	/* MSCEn */
	write_zcr_el2(1);
	write_zcr_el1(1);
	write_mair_el1(0xf0ff00);	/* 2: Normal Tagged */
	map(el1_root, 0, WINDOW, BUF2, PAGE_SIZE, 3,
	    (PTE_RW & ~PTE_ATTR(7)) | PTE_ATTR(2) | PTE_USER);
	map(el1_root, 0, WINDOW + PAGE_SIZE, BUF2 + PAGE_SIZE, PAGE_SIZE, 3,
	    PTE_RW | PTE_USER);
	tlbi_all();
	for (bits = 0; bits < 32; bits++)
		check(bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1 ? 5 : 0,
		      bits >> 4);
	for (bits = 0; bits < 8; bits++)
		check_ops(bits & 1, bits >> 1 & 1, bits >> 2);
}
