/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every test program shares: output in TAP, exceptions that a test
 * expects, code run at a lower Exception level, translation tables, and one
 * profiling session from programming to drain.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "sysreg.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE_SIZE	4096UL

/* --- output ------------------------------------------------------------- */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* One TAP line. Each gives cond back. */
int ok(int cond, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* ok() if got equals want, else a diagnostic with both. */
int is(u64 got, u64 want, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* ok() if got equals want in the bits of mask. */
int is_masked(u64 got, u64 want, u64 mask, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void bail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *memset(void *p, int c, u64 n);
void *memcpy(void *d, const void *s, u64 n);
int streq(const char *a, const char *b);

/*
 * Arguments NAME=VALUE that the run script passes with -semihosting-config;
 * a number, or the default if it is not there.
 */
u64 arg(const char *name, u64 def);
/*
 * A feature of the CPU, by what an ID register says. The case says NAME=0 or 1
 * where it is not the default, so that no test is left out unnoticed. Gives has.
 */
int feature(const char *name, int has, int def);
/* The text of an argument, "" if it is not there. */
const char *arg_text(const char *name);

/* The test program. Runs at EL2 on CPU 0 with the MMU on. */
void test_main(void);
/* The same on a machine without EL2, at EL1; few programs have it. */
void test_el1(void);
/* The last line of a program that the monitor of `run` ends: see monitor.sh. */
void hold(void) __attribute__((noreturn));

/* PSCI, to which the machine answers. Gives back what PSCI does. */
u64 psci_call(u64 fn, u64 a, u64 b, u64 c);
#define PSCI_SYSTEM_RESET	0x84000009
#define PSCI_CPU_OFF		0x84000002
#define PSCI_CPU_ON		0xc4000003

/* --- exceptions ----------------------------------------------------------- */

struct exception {
	u32 count;		/* since expect_exceptions() */
	u32 serrors;
	u32 irqs;
	u32 svcs;		/* SVCs that a workload makes on purpose */
	int el;			/* of the last one: where it was taken */
	u64 esr, elr, spsr, far;
};
extern volatile struct exception exc;
/* From here on synchronous exceptions are recorded and stepped over. */
void expect_exceptions(void);
/* No longer; gives how many there were. */
u32 stop_expecting(void);
/* Called with the INTID when an IRQ is taken, before it is acknowledged. */
extern void (*irq_hook)(void);

/* --- Exception levels ----------------------------------------------------- */

typedef u64 (*fn_t)(u64);
/* Run fn(arg) at EL0, EL1 or EL2 and give its result. */
u64 run_at(int el, fn_t fn, u64 arg);
/* The same with all of SPSR_EL2; in AArch32 state fn is A32 code. */
u64 run_spsr(u64 spsr, fn_t fn, u64 arg);
extern u64 run_spsr_bits;		/* OR'd into SPSR: PAN, for instance */
u64 call_el3(fn_t fn, u64 arg);
/* At Secure EL1 (or EL2 with SCR_EL3.EEL2) by way of EL3. */
u64 run_secure(int el, fn_t fn, u64 arg);
/* At Realm EL1 or EL2 (FEAT_RME) by way of EL3. */
u64 run_realm(int el, fn_t fn, u64 arg);
int has_el3(void);
int has_vhe(void);
extern u64 el3_mdcr_reset;

/* HCR_EL2.E2H (and TGE): moves EL2 to the EL2&0 regime and back. */
void set_vhe(int e2h, int tge);
void hcr_set(u64 set, u64 clear);

/*
 * CPU 1, or 2, the first of another cluster where there are more than 16, runs
 * fn(arg) at EL2; cpu_wait() gives its result.
 */
#define OTHER_CLUSTER	2
void cpu_start(int cpu, fn_t fn, u64 arg);
u64 cpu_wait(int cpu);

/* --- translation ---------------------------------------------------------- */

#define PTE_VALID	BIT(0)
#define PTE_TABLE	BIT(1)		/* or page, at level 3 */
#define PTE_ATTR(n)	((u64)(n) << 2)	/* 0 Device-nGnRnE, 1 Normal WB */
#define PTE_USER	BIT(6)		/* AP[1] */
#define PTE_RO		BIT(7)		/* AP[2] */
#define PTE_SH		(3UL << 8)
#define PTE_AF		BIT(10)
#define PTE_DBM		BIT(51)
#define PTE_XN		(3UL << 53)
#define PTE_NORMAL	(PTE_ATTR(1) | PTE_SH | PTE_AF)
#define PTE_RW		(PTE_NORMAL | PTE_XN)
#define PTE_ADDR	0x0000fffffffff000UL

#define S2_MEMATTR	(0xfUL << 2)
#define S2_READ		BIT(6)
#define S2_WRITE	BIT(7)
#define S2_RW		(S2_MEMATTR | S2_READ | S2_WRITE | PTE_SH | PTE_AF)

/* Root tables of the identity maps, level 0 (s2_start_level for stage 2). */
extern u64 *el1_root, *el2_root, *s2_root;
extern int s2_start_level;
extern int pa_range;			/* ID_AA64MMFR0_EL1.PARange, at most 5 */
/* A zeroed table or page of its own. */
void *alloc_page(void);
/* Give back all pages allocated since the mark. */
u32 pool_mark(void);
void pool_release(u32 mark);
/* Map with blocks of the given level (1, 2: blocks, 3: pages). */
void map(u64 *root, int start, u64 va, u64 pa, u64 size, int level, u64 attr);
/* The descriptor that va uses at a level; the levels above must exist. */
u64 *pte(u64 *root, int start, u64 va, int level);
void tlbi_all(void);
/* Stage 2 on with the tables of s2_root, or off. */
void set_stage2(int on);

/* The buffers. Identity mapped; free for tests to use. */
#define RAM		0x40000000UL
#define BUF		0x42000000UL
#define BUF_SIZE	0x01000000UL
#define BUF2		0x44000000UL
/* No memory and no device. */
#define NOWHERE		0x100000000UL
/* An unmapped part of the address space under a level 0 entry of its own. */
#define WINDOW		0x8000000000UL

/* --- SPE ------------------------------------------------------------------ */

struct spe_id {
	int pmsver;
	u64 pmsidr, pmbidr;
	u64 max, align;		/* record sizes, bytes */
};
extern struct spe_id id;

struct session {
	/* to program; zero is a plain session of INTERVAL 1 without filters */
	int owner;		/* 1 or 2 */
	u64 pmscr_el1, pmscr_el2;
	u64 pmsirr;		/* 0: INTERVAL 1 */
	u64 pmsicr;
	u64 pmsfcr, pmsevfr, pmsnevfr, pmslatfr, pmsdsfr;
	u64 pmbptr, limit;	/* limit without FM and E */
	u64 limit_bits;		/* FM, PMFZ; E is added */
	u64 pmbsr;		/* to start with */
	/* results */
	u64 end_pmbptr, end_pmbsr, end_pmsicr;
};
/* Program all registers and start; sampling begins if EL2 is enabled. */
void spe_start(struct session *s);
/* Stop, drain, read the results, disable the buffer. */
void spe_stop(struct session *s);
/* start; run_at(el, fn, arg); stop */
void spe_run(struct session *s, int el, fn_t fn, u64 arg);
/* Fill the buffer memory with a pattern that is no record. */
#define CANARY		0xee
void buf_paint(u64 pa, u64 size);
/* First byte in [pa, pa + size) that is not the pattern; pa + size if none. */
u64 buf_dirty(u64 pa, u64 size);
/* The SPE interrupt's pending state at the redistributor. */
int irq_pending(void);
void gic_init(void);
#define PMBIRQ		21

/* --- workloads (workload.S) ---------------------------------------------- */

#define WL_LONG_INSNS	4099
u64 wl_long(u64 loops);		/* loops of WL_LONG_INSNS instructions */
extern char wl_long_loop[];
#define WL_DEVICE_INSNS	4102
u64 wl_device(u64 loops);	/* loops of WL_DEVICE_INSNS instructions */
extern char wl_device_loop[];
u64 wl_spin(u64 loops);		/* 2 instructions a loop */
extern char wl_spin_loop[], wl_spin_end[];
u64 wl_access(u64 va);		/* loads of va and stores of va + 8, 5000 */
extern char wl_access_ldr[];
u64 wl_mix(u64 loops);		/* loads, stores, branches, FP; about 60 a loop */
extern char wl_mix_start[], wl_mix_end[];
u64 wl_rare(u64 loops);		/* many misses, walks and mispredicted branches */
extern char wl_rare_start[], wl_rare_end[];

#endif
