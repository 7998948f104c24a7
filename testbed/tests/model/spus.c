// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which CPUs of the machine have an SPU, which kind, and to which PPI it
 * raises PMBIRQ: the machine properties spe-cpus, spe-spus, spe-ppi, spe-spuN.
 *
 * Arguments, each with one number for each CPU, separated by colons: ppi=, 0 for
 * a CPU without SPE; pmsver= and align= (log2), where they are not 5 and 6.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"
#include "speregs.h"

#define GICR		0x080a0000UL
/* All that spe-ppi allows */
#define PPIS		(7U << 16 | 3U << 21 | 1U << 24 | 1U << 31)

#define MAX_RECS	128
static struct record recs[MAX_RECS];
static int cpus;

/* The N-th number of an argument, -1 behind the last */
static int nth(const char *name, int n, int def)
{
	const char *p = arg_text(name);
	int v = 0;

	if (!*p)
		return def;
	for (; n; n--) {
		while (*p && *p != ':')
			p++;
		if (!*p++)
			return -1;
	}
	while (*p >= '0' && *p <= '9')
		v = v * 10 + *p++ - '0';
	return v;
}

static volatile u32 *gicr(int cpu, u64 reg)
{
	return (u32 *)(GICR + cpu * 0x20000UL + 0x10000 + reg);
}

static u32 pending(int cpu)
{
	return *gicr(cpu, 0x200) & PPIS;
}

static volatile int irqs;
static u64 intid, seen;

static void on_irq(void)
{
	intid = read_icc_iar1();
	irqs++;
	seen = read_pmbsr();
	write_pmbsr(0);
	isb();
	write_icc_eoir1(intid);
	isb();
}

static void without(int cpu)
{
	int k, read, undef = 0, all = 0;

	is(FIELD(read_id_aa64dfr0(), 35, 32), 0, "CPU %d has no SPE", cpu);
	for (k = 0; k < spe_nregs; k++)
		for (read = 0; read < 2; read++) {
			all++;
			undef += probe(2, &spe_regs[k], read) &&
				 ESR_EC(exc.esr) == ESR_UNDEF;
		}
	is(undef, all, "CPU %d: all registers are UNDEFINED", cpu);
	expect_exceptions();
	psb_csync();
	is(stop_expecting(), 0, "CPU %d: PSB CSYNC does nothing", cpu);
	is(pending(cpu), 0, "CPU %d: no PPI is pending", cpu);
}

static void with(int cpu, u32 ppi)
{
	struct session s = {
		.owner = 1, .pmscr_el1 = PMSCR_E1SPE,
		.pmbptr = BUF, .limit = BUF + 0x1000,
	};
	int i, others = 0, n;

	is(FIELD(read_id_aa64dfr0(), 35, 32), nth("pmsver", cpu, 5),
	   "CPU %d has the PMSVer of its SPU", cpu);
	is(PMBIDR_ALIGN(read_pmbidr()), nth("align", cpu, 6),
	   "CPU %d has the PMBIDR_EL1.Align of its SPU", cpu);
	write_pmscr_el1(0);
	write_pmscr_el2(0);
	write_pmbsr(0);
	isb();
	/* spe_start() looks at this CPU */
	id.max = 0;
	is(pending(cpu), 0, "CPU %d: no PPI is pending before the event", cpu);
	spe_start(&s);
	run_at(1, wl_spin, 257 * 64);
	write_pmscr_el1(0);
	isb();
	psb_csync();
	dsb_nsh();
	isb();
	is(read_pmbsr(), PMBSR_FULL, "CPU %d: the buffer is full", cpu);
	is(pending(cpu), BIT(ppi), "CPU %d: PPI %u is pending, no other", cpu, ppi);
	for (i = 0; i < cpus; i++)
		others += i != cpu && pending(i);
	is(others, 0, "CPU %d: nor is one of another CPU", cpu);

	irqs = 0;
	irq_hook = on_irq;
	hcr_set(BIT(4), 0);			/* IMO */
	asm volatile("msr daifclr, #2");
	isb();
	asm volatile("msr daifset, #2");
	hcr_set(0, BIT(4));
	irq_hook = 0;
	ok(irqs == 1 && intid == ppi && seen == PMBSR_FULL,
	   "CPU %d: PMBIRQ is taken as INTID %u, once", cpu, ppi);
	if (irqs != 1 || intid != ppi)
		print("# %d times, INTID %lu, PMBSR_EL1 %#lx\n", irqs, intid, seen);
	is(pending(cpu), 0, "CPU %d: PPI %u is low after the handler", cpu, ppi);
	spe_stop(&s);
	n = decode_all(BUF, s.end_pmbptr, recs, MAX_RECS);
	/* they are shorter with a smaller alignment */
	ok(n >= (int)(0x1000 / id.max), "CPU %d: the buffer has its records", cpu);
	write_mdcr_el2(read_mdcr_el2() & ~MDCR_E2PB(3));
	isb();
}

static u64 on_cpu(u64 cpu)
{
	int ppi = nth("ppi", cpu, PMBIRQ);

	gic_init();
	*gicr(cpu, 0x100) = PPIS;		/* ISENABLER0 */
	if (ppi)
		with(cpu, ppi);
	else
		without(cpu);
	return read_mpidr() & 3;
}

void test_main(void)
{
	int cpu;

	while (nth("ppi", cpus, PMBIRQ) >= 0)
		cpus++;
	for (cpu = 1; cpu < cpus; cpu++) {
		cpu_start(cpu, on_cpu, cpu);
		is(cpu_wait(cpu), cpu, "CPU %d has run", cpu);
	}
	is(on_cpu(0), 0, "CPU 0 has run");
}
