// SPDX-License-Identifier: GPL-2.0-only
/*
 * One profiling session, programmed and drained in the order that D17.9 of
 * the Arm ARM asks for, so that it is right with records in flight too.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "harness.h"

struct spe_id id;

static void write_pmscr1(u64 v)
{
	if (read_hcr_el2() & HCR_E2H)
		write_pmscr_el12(v);
	else
		write_pmscr_el1(v);
}

void spe_start(struct session *s)
{
	u64 mdcr = read_mdcr_el2() & ~MDCR_E2PB(3);

	if (!id.max) {
		id.pmsver = FIELD(read_id_aa64dfr0(), 35, 32);
		id.pmsidr = read_pmsidr();
		id.pmbidr = read_pmbidr();
		id.max = 1UL << PMSIDR_MAXSIZE(id.pmsidr);
		id.align = 1UL << PMBIDR_ALIGN(id.pmbidr);
	}
	write_pmscr1(0);
	write_pmscr_el2(0);
	isb();
	write_pmblimitr(0);
	isb();
	write_mdcr_el2(mdcr | MDCR_E2PB(s->owner == 1 ? 3 : 0));
	write_pmsirr(s->pmsirr ? s->pmsirr : 0x100);
	write_pmsicr(s->pmsicr);
	write_pmsfcr(s->pmsfcr);
	write_pmsevfr(s->pmsevfr);
	if (id.pmsidr & PMSIDR_FNE)
		write_pmsnevfr(s->pmsnevfr);
	write_pmslatfr(s->pmslatfr);
	if (id.pmsidr & PMSIDR_FDS)
		write_pmsdsfr(s->pmsdsfr);
	write_pmbptr(s->pmbptr);
	write_pmbsr(s->pmbsr);
	isb();
	write_pmblimitr(s->limit | s->limit_bits | PMBLIMITR_E);
	isb();
	write_pmscr1(s->pmscr_el1);
	write_pmscr_el2(s->pmscr_el2);
	isb();
}

void spe_stop(struct session *s)
{
	write_pmscr_el2(0);
	write_pmscr1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	s->end_pmbptr = read_pmbptr();
	s->end_pmbsr = read_pmbsr();
	s->end_pmsicr = read_pmsicr();
	write_pmblimitr(0);
	isb();
	write_pmbsr(0);
	isb();
}

void spe_run(struct session *s, int el, fn_t fn, u64 arg)
{
	spe_start(s);
	run_at(el, fn, arg);
	spe_stop(s);
}

void buf_paint(u64 pa, u64 size)
{
	u64 *p = (u64 *)pa;

	for (size /= 8; size; size--)
		*p++ = 0x0101010101010101UL * CANARY;
	dsb();
}

u64 buf_dirty(u64 pa, u64 size)
{
	u64 a;

	for (a = pa; a < pa + size; a++)
		if (*(volatile u8 *)a != CANARY)
			break;
	return a;
}
