// SPDX-License-Identifier: GPL-2.0-only
/*
 * The machine under the tests: output, exceptions, Exception levels,
 * translation tables. See harness.h.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include <stdarg.h>
#include "harness.h"

#define UART		0x09000000UL
#define GICD		0x08000000UL
#define GICR		0x080a0000UL
#define GICR_SGI	(GICR + 0x10000)
#define RETURN		0x77

static inline void write32(u64 a, u32 v) { *(volatile u32 *)a = v; }
static inline u32 read32(u64 a) { return *(volatile u32 *)a; }

extern u64 semihost(u64 op, void *block);
extern u64 enter_lower(fn_t fn, u64 arg, u64 spsr, u64 *sp);
extern u64 enter_secure(fn_t fn, u64 arg, u64 spsr, u64 *sp);
extern void leave_lower(u64 result, u64 sp) __attribute__((noreturn));
extern void hvc_return(u64 result, u64 sp) __attribute__((noreturn));
extern void tramp_el0(void);
extern void _start(void);
extern char __text_start[], __data_start[];

/* --- output ------------------------------------------------------------- */

void *memset(void *p, int c, u64 n)
{
	u8 *b = p;

	while (n--)
		*b++ = c;
	return p;
}

void *memcpy(void *d, const void *s, u64 n)
{
	u8 *a = d;
	const u8 *b = s;

	while (n--)
		*a++ = *b++;
	return d;
}

int streq(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void putch(char c)
{
	write32(UART, c);
}

static void put_number(u64 v, int base, int width, char pad)
{
	char buf[24];
	int n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n < width)
		buf[n++] = pad;
	while (n)
		putch(buf[--n]);
}

static void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		int width = 0, lng = 0;
		char pad = ' ';
		const char *s;
		s64 d;

		if (*fmt != '%') {
			putch(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == '#') {
			putch('0');
			putch('x');
			fmt++;
		}
		if (*fmt == '0')
			pad = *fmt++;
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + *fmt++ - '0';
		while (*fmt == 'l') {
			lng = 1;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			for (s = va_arg(ap, const char *); *s; s++)
				putch(*s);
			break;
		case 'c':
			putch(va_arg(ap, int));
			break;
		case 'd':
			d = lng ? va_arg(ap, s64) : va_arg(ap, int);
			if (d < 0) {
				putch('-');
				d = -d;
			}
			put_number(d, 10, width, pad);
			break;
		case 'u':
			put_number(lng ? va_arg(ap, u64) : va_arg(ap, u32),
				   10, width, pad);
			break;
		case 'x':
			put_number(lng ? va_arg(ap, u64) : va_arg(ap, u32),
				   16, width, pad);
			break;
		default:
			putch(*fmt);
		}
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

static u32 tests, failures;

static int vok(int cond, const char *fmt, va_list ap)
{
	tests++;
	failures += !cond;
	print("%sok %u - ", cond ? "" : "not ", tests);
	vprint(fmt, ap);
	putch('\n');
	return cond;
}

int ok(int cond, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vok(cond, fmt, ap);
	va_end(ap);
	return cond;
}

int is(u64 got, u64 want, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vok(got == want, fmt, ap);
	va_end(ap);
	if (got != want)
		print("# got %#lx want %#lx\n", got, want);
	return got == want;
}

int is_masked(u64 got, u64 want, u64 mask, const char *fmt, ...)
{
	int cond = !((got ^ want) & mask);
	va_list ap;

	va_start(ap, fmt);
	vok(cond, fmt, ap);
	va_end(ap);
	if (!cond)
		print("# got %#lx want %#lx in the bits %#lx\n", got, want, mask);
	return cond;
}

static void __attribute__((noreturn)) exit_qemu(u64 code)
{
	u64 block[2] = { 0x20026, code };	/* ADP_Stopped_ApplicationExit */

	semihost(0x20, block);			/* SYS_EXIT_EXTENDED */
	for (;;)
		;
}

void bail(const char *fmt, ...)
{
	va_list ap;

	print("Bail out! ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	putch('\n');
	exit_qemu(2);
}

void hold(void)
{
	print("1..%u\n# ready\n", tests);
	for (;;)
		asm volatile("wfi");
}

static char cmdline[1024];

const char *arg_text(const char *name)
{
	static char value[128];
	const char *p = cmdline;

	while (*p) {
		const char *n = name;
		int i = 0;

		while (*p == ' ')
			p++;
		while (*n && *p == *n)
			p++, n++;
		if (!*n && *p == '=') {
			for (p++; *p && *p != ' ' && i < 127; p++)
				value[i++] = *p;
			value[i] = 0;
			return value;
		}
		while (*p && *p != ' ')
			p++;
	}
	return "";
}

u64 arg(const char *name, u64 def)
{
	const char *p = arg_text(name);
	u64 v = 0;

	if (!*p)
		return def;
	if (p[0] == '0' && p[1] == 'x') {
		for (p += 2; *p; p++)
			v = v * 16 + (*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
		return v;
	}
	for (; *p; p++)
		v = v * 10 + *p - '0';
	return v;
}

int feature(const char *name, int has, int def)
{
	is(!!has, arg(name, def), "%s is as the case says", name);
	return has;
}

/* --- exceptions ----------------------------------------------------------- */

/* By Aff0; the first CPU of the second cluster, of Aff1, is number 2. */
static int cpu_number(void)
{
	u64 mpidr = read_mpidr();

	return (mpidr & 3) | (mpidr >> 8 & 1) << 1;
}

struct frame {
	u64 x[31];
	u64 elr, spsr, esr, far;
};

volatile struct exception exc;
static volatile int expecting;
void (*irq_hook)(void);
static u64 lower_sp[4], secure_sp;

void expect_exceptions(void)
{
	memset((void *)&exc, 0, sizeof(exc));
	expecting = 1;
}

u32 stop_expecting(void)
{
	dsb();
	isb();
	expecting = 0;
	return exc.count;
}

void handle_exception(struct frame *f, int el, int vec);
void handle_exception(struct frame *f, int el, int vec)
{
	u32 ec = ESR_EC(f->esr), imm = f->esr & 0xffff;

	switch (vec & 3) {
	case 1:
		exc.irqs++;
		if (irq_hook) {
			irq_hook();
			return;
		}
		break;
	case 3:
		exc.serrors++;
		if (expecting)
			return;
		break;
	case 0:
		if (el == 2 && imm == RETURN &&
		    (ec == ESR_HVC || ec == ESR_HVC32 || ec == ESR_SVC))
			leave_lower(f->x[0], lower_sp[cpu_number()]);
		if (el == 1 && (ec == ESR_SVC || ec == ESR_SVC32) && imm == RETURN)
			hvc_return(f->x[0], (u64)f + 288);
		if (el == 3 && ec == ESR_SMC && imm == 1) {
			f->x[0] = ((fn_t)f->x[0])(f->x[1]);
			return;
		}
		if (el == 3 && ec == ESR_SMC && imm == 2)
			leave_lower(f->x[0], secure_sp);
		if (ec == ESR_SVC) {
			exc.svcs++;
			return;
		}
		if (!expecting)
			break;
		exc.count++;
		exc.el = el;
		exc.esr = f->esr;
		exc.elr = f->elr;
		exc.spsr = f->spsr;
		exc.far = f->far;
		f->elr += 4;
		return;
	}
	bail("unexpected exception at EL%d vector %d ESR %#lx ELR %#lx FAR %#lx SPSR %#lx",
	     el, vec, f->esr, f->elr, f->far, f->spsr);
}

/* --- Exception levels ----------------------------------------------------- */

u64 run_spsr_bits;
u64 el3_mdcr_reset = -1UL;

u64 run_spsr(u64 spsr, fn_t fn, u64 arg)
{
	return enter_lower(fn, arg, spsr, &lower_sp[cpu_number()]);
}

u64 run_at(int el, fn_t fn, u64 arg)
{
	u64 spsr = 0x3c0 | run_spsr_bits | (el ? (u64)el << 2 | 1 : 0);

	if (el == 2)
		return fn(arg);
	return run_spsr(spsr, fn, arg);
}

int has_vhe(void)
{
	return FIELD(read_id_aa64mmfr1(), 11, 8) != 0;
}

int has_el3(void)
{
	return FIELD(read_id_aa64pfr0(), 15, 12) != 0;
}

struct secure_call {
	int el;
	u64 scr;		/* the Security state */
	fn_t fn;
	u64 arg;
};

static u64 secure_at_el3(u64 p)
{
	struct secure_call *c = (void *)p;
	u64 scr = read_scr_el3(), mdcr = read_mdcr_el3(), r;
	u64 elr, spsr;

	/* enter_secure() comes back by an exception of its own */
	asm volatile("mrs %0, elr_el3" : "=r"(elr));
	asm volatile("mrs %0, spsr_el3" : "=r"(spsr));
	write_scr_el3((scr & ~(SCR_NS | SCR_NSE)) | c->scr);
	isb();
	r = enter_secure(c->fn, c->arg, 0x3c1 | (u64)c->el << 2, &secure_sp);
	write_scr_el3(scr);
	write_mdcr_el3(mdcr);
	asm volatile("msr elr_el3, %0" : : "r"(elr));
	asm volatile("msr spsr_el3, %0" : : "r"(spsr));
	isb();
	return r;
}

u64 run_secure(int el, fn_t fn, u64 arg)
{
	struct secure_call c = { el, el == 2 ? SCR_EEL2 : 0, fn, arg };

	return call_el3(secure_at_el3, (u64)&c);
}

u64 run_realm(int el, fn_t fn, u64 arg)
{
	struct secure_call c = { el, SCR_NS | SCR_NSE, fn, arg };

	return call_el3(secure_at_el3, (u64)&c);
}

void hcr_set(u64 set, u64 clear)
{
	write_hcr_el2((read_hcr_el2() & ~clear) | set);
	isb();
}

/* --- translation ---------------------------------------------------------- */

u64 *el1_root, *el2_root, *s2_root;
int s2_start_level, pa_range;
static u8 pool[128][PAGE_SIZE] __attribute__((aligned(4096)));
static u32 pool_used;

void *alloc_page(void)
{
	if (pool_used == ARRAY_SIZE(pool))
		bail("out of pages for tables");
	return memset(pool[pool_used++], 0, PAGE_SIZE);
}

u32 pool_mark(void)
{
	return pool_used;
}

void pool_release(u32 mark)
{
	pool_used = mark;
}

#define SHIFT(level)	(39 - 9 * (level))

u64 *pte(u64 *root, int start, u64 va, int level)
{
	u64 *t = root;
	int l;

	for (l = start; l < level; l++) {
		u64 *e = &t[va >> SHIFT(l) & 511];

		if (!(*e & PTE_VALID))
			*e = (u64)alloc_page() | PTE_VALID | PTE_TABLE;
		t = (u64 *)(*e & PTE_ADDR);
	}
	return &t[va >> SHIFT(level) & 511];
}

void map(u64 *root, int start, u64 va, u64 pa, u64 size, int level, u64 attr)
{
	u64 step = 1UL << SHIFT(level), off;

	for (off = 0; off < size; off += step)
		*pte(root, start, va + off, level) = (pa + off) | attr |
			PTE_VALID | (level == 3 ? PTE_TABLE : 0);
}

void tlbi_all(void)
{
	dsb();
	asm volatile("tlbi alle2\n\ttlbi alle1\n\t" : : : "memory");
	dsb();
	isb();
}

static u64 *identity(void)
{
	u64 *root = alloc_page();
	u64 text = (u64)__text_start & ~(BIT(21) - 1);
	u64 data = (u64)__data_start;

	map(root, 0, 0, 0, 0x40000000UL, 2, PTE_ATTR(0) | PTE_AF | PTE_XN | PTE_USER);
	map(root, 0, RAM, RAM, 0x8000000, 2, PTE_RW | PTE_USER);
	map(root, 0, text, text, data - text, 2, PTE_NORMAL | PTE_RO | PTE_USER);
	return root;
}

#define TCR_COMMON	(16 | 1 << 8 | 1 << 10 | 3 << 12)	/* T0SZ, WB, IS */
#define SCTLR_EL2_ON	0x30c51835UL	/* RES1, M, C, I */
#define SCTLR_EL2_OFF	0x30c51830UL
/* SPAN, EIS, EOS, LSMAOE, nTLSMD; nTWE, nTWI, UCT, UCI, DZE; M, C, I */
#define SCTLR_EL1_ON	0x34d5d905UL

static u64 tcr_el2_value(int e2h)
{
	if (e2h)	/* EPD1, IPS */
		return TCR_COMMON | BIT(23) | (u64)pa_range << 32;
	return TCR_COMMON | BIT(31) | BIT(23) | (u64)pa_range << 16;
}

static void mmu_init(void)
{
	pa_range = read_id_aa64mmfr0() & 0xf;
	if (pa_range > 5)
		pa_range = 5;

	el1_root = identity();
	el2_root = identity();
	s2_root = alloc_page();
	s2_start_level = pa_range >= 5 ? 0 : 1;
	map(s2_root, s2_start_level, 0, 0, 0x40000000UL, 2, S2_RW & ~S2_MEMATTR);
	map(s2_root, s2_start_level, RAM, RAM, 0x8000000, 2, S2_RW);
}

static void mmu_on_el1(void)
{
	write_mair_el1(0xff00);
	write_tcr_el1(TCR_COMMON | BIT(23) | (u64)pa_range << 32);
	write_ttbr0_el1((u64)el1_root);
	isb();
	write_sctlr_el1(SCTLR_EL1_ON);
	isb();
}

static void mmu_on(void)
{
	u64 parange = pa_range;

	mmu_on_el1();
	/* T0SZ, SL0, WB, IS, PS */
	write_vtcr_el2((s2_start_level ? 25UL | 1 << 6 : 16UL | 2 << 6) |
		       1 << 8 | 1 << 10 | 3 << 12 | parange << 16 | BIT(31));
	write_vttbr_el2((u64)s2_root);

	write_mair_el2(0xff00);
	write_tcr_el2(tcr_el2_value(0));
	write_ttbr0_el2((u64)el2_root);
	tlbi_all();
	write_sctlr_el2(SCTLR_EL2_ON);
	isb();
}

void set_stage2(int on)
{
	hcr_set(on ? HCR_VM : 0, on ? 0 : HCR_VM);
	tlbi_all();
}

void set_vhe(int e2h, int tge)
{
	u64 hcr = read_hcr_el2() & ~(HCR_E2H | HCR_TGE);

	/* The formats of TCR_EL2 and CPTR_EL2 depend on E2H: MMU off between. */
	write_sctlr_el2(SCTLR_EL2_OFF);
	isb();
	write_hcr_el2(hcr | (e2h ? HCR_E2H : 0) | (tge ? HCR_TGE : 0));
	isb();
	write_tcr_el2(tcr_el2_value(e2h));
	write_cptr_el2(e2h ? 3 << 20 | 3 << 16 : 0x32ff);
	tlbi_all();
	write_sctlr_el2(SCTLR_EL2_ON | BIT(23));	/* SPAN */
	isb();
}

/* --- CPUs ----------------------------------------------------------------- */

static struct {
	volatile fn_t fn;
	volatile u64 arg, result;
	volatile int done;
} mailbox[4];

void boot_cpu(void);
void boot_el1(void);
void secondary_cpu(void);

void secondary_cpu(void)
{
	int cpu = cpu_number();
	fn_t fn;

	mmu_on();
	for (;;) {
		while (!(fn = mailbox[cpu].fn))
			asm volatile("yield");
		mailbox[cpu].fn = 0;
		mailbox[cpu].result = fn(mailbox[cpu].arg);
		dsb();
		mailbox[cpu].done = 1;
	}
}

/* CPU numbers are those of QEMU but where the second cluster has a CPU. */
static int two_clusters(void)
{
	return arg("cluster", 0);
}

void cpu_start(int cpu, fn_t fn, u64 arg)
{
	static int up[4];
	int clusters = two_clusters();

	mailbox[cpu].arg = arg;
	mailbox[cpu].done = 0;
	dsb();
	mailbox[cpu].fn = fn;
	if (!up[cpu]) {
		u64 target = cpu == OTHER_CLUSTER && clusters ? 0x100 : cpu;
		u64 r = psci_call(PSCI_CPU_ON, target, (u64)_start, 0);

		if (r)
			bail("PSCI CPU_ON gives %#lx", r);
		up[cpu] = 1;
	}
}

u64 cpu_wait(int cpu)
{
	while (!mailbox[cpu].done)
		asm volatile("yield");
	dsb();
	return mailbox[cpu].result;
}

static void boot(void (*on)(void), void (*test)(void))
{
	u64 block[2] = { (u64)cmdline, sizeof(cmdline) - 1 };

	semihost(0x15, block);			/* SYS_GET_CMDLINE */
	mmu_init();
	on();
	test();
	print("1..%u\n", tests);
	exit_qemu(failures != 0);
}

void boot_cpu(void)
{
	boot(mmu_on, test_main);
}

void __attribute__((weak)) test_el1(void)
{
	bail("this program needs EL2");
}

void boot_el1(void)
{
	boot(mmu_on_el1, test_el1);
}

/* --- GIC ------------------------------------------------------------------ */

static u64 gic_groups(u64 r)
{
	write32(r + 0x10000 + 0x80, ~0U);		/* IGROUPR0 */
	return 0;
}

void gic_init(void)
{
	u64 r = GICR + cpu_number() * 0x20000;

	write32(r + 0x14, read32(r + 0x14) & ~2U);	/* WAKER.ProcessorSleep */
	while (read32(r + 0x14) & 4)
		;
	write32(GICD, 0x12);				/* ARE_NS, EnableGrp1A */
	/* With EL3 only it can: they are Secure out of reset. */
	if (has_el3())
		call_el3(gic_groups, r);
	else
		gic_groups(r);
	write32(r + 0x10000 + 0x100, BIT(PMBIRQ));	/* ISENABLER0 */
	write_icc_sre_el2(0xf);
	isb();
	write_icc_sre_el1(7);
	isb();
	write_icc_pmr(0xff);
	write_icc_igrpen1(1);
	isb();
}

int irq_pending(void)
{
	u64 r = GICR + cpu_number() * 0x20000;

	return read32(r + 0x10000 + 0x200) >> PMBIRQ & 1;
}
