/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The workload of model-cost: a bare-metal program at EL2 that computes for a
 * while, on its own or with SPE sampling it.
 *
 * Arguments, by -semihosting-config arg=: rounds=N (default 200), sample.
 * Prints a checksum, the virtual time (under -icount shift=0 a nanosecond is
 * an instruction), and with 'sample' the number of records.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

#define PMSCR_EL2	"S3_4_C9_C9_0"
#define PMSICR_EL1	"S3_0_C9_C9_2"
#define PMSIRR_EL1	"S3_0_C9_C9_3"
#define PMSFCR_EL1	"S3_0_C9_C9_4"
#define PMBLIMITR_EL1	"S3_0_C9_C10_0"
#define PMBPTR_EL1	"S3_0_C9_C10_1"
#define PMBSR_EL1	"S3_0_C9_C10_3"

#define write_sysreg(v, r) \
	asm volatile("msr " r ", %0" : : "r"((u64)(v)) : "memory")
#define read_sysreg(r) ({					\
	u64 __v;						\
	asm volatile("mrs %0, " r : "=r"(__v) : : "memory");	\
	__v; })
#define isb()	asm volatile("isb" : : : "memory")

#define INTERVAL	1024
#define BUFFER_SIZE	(4UL << 20)
#define PMBSR_S		(1UL << 17)

asm(	".section .text.start, \"ax\"\n"
	".globl _start\n"
	"_start:\n"
	"	adrp	x0, stack_top\n"
	"	mov	sp, x0\n"
	"	bl	cmain\n"
	"	b	.\n"
	".globl semihost\n"
	"semihost:\n"
	"	hlt	#0xf000\n"
	"	ret\n"
	".bss\n"
	".balign 4096\n"
	"	.skip	16384\n"
	"stack_top:\n"
	"	.skip	4096\n"
	".text\n");

u64 semihost(u64 op, const void *arg);

static u64 table[512] __attribute__((aligned(4096)));
static u8 buffer[BUFFER_SIZE] __attribute__((aligned(4096)));
static u32 data[1 << 14];
static char cmdline[256];

static void print(const char *name, u64 value)
{
	char text[64], digits[24];
	int n = 0, i = 0;

	while (*name)
		text[i++] = *name++;
	do
		digits[n++] = '0' + value % 10;
	while (value /= 10);
	while (n)
		text[i++] = digits[--n];
	text[i++] = '\n';
	text[i] = 0;
	semihost(4, text);	/* SYS_WRITE0 */
}

/* The text after NAME in the command line, or 0. */
static const char *arg(const char *name)
{
	for (const char *p = cmdline; *p; p++) {
		int i = 0;

		while (name[i] && p[i] == name[i])
			i++;
		if (!name[i])
			return p + i;
	}
	return 0;
}

/* Normal memory: accesses to Device memory take QEMU's slow path. */
static void mmu_on(void)
{
	table[0] = 0x705 | 1UL << 54;		/* devices, not executable */
	table[1] = 0x40000000 | 0x701;
	write_sysreg(0x00ff, "mair_el2");
	write_sysreg((u64)table, "ttbr0_el2");
	/* 39 bits of VA, 40 of PA, RES1 */
	write_sysreg(25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16 | 1UL << 31 |
		     1 << 23, "tcr_el2");
	isb();
	asm volatile("tlbi alle2; dsb sy; isb" : : : "memory");
	write_sysreg(0x30c50830 | 1 | 1 << 2 | 1 << 12, "sctlr_el2");
	isb();
}

/* Long blocks: arithmetic only. */
static u32 __attribute__((noinline)) mix(u32 h, u32 n)
{
	while (n--) {
		h ^= h << 13;
		h ^= h >> 17;
		h ^= h << 5;
		h = h * 0x9e3779b1 + (h >> 15 | h << 17);
		h += n ^ (h >> 7);
	}
	return h;
}

/* Short blocks: loads, stores, branches that depend on data. */
static u32 __attribute__((noinline)) sift(u32 seed)
{
	u32 swaps = 0;

	for (u32 i = 0; i < sizeof(data) / sizeof(data[0]) - 1; i++) {
		data[i] += seed;
		if (data[i] > data[i + 1]) {
			u32 t = data[i];

			data[i] = data[i + 1];
			data[i + 1] = t;
			swaps++;
		}
	}
	return swaps;
}

/* Calls and returns. */
static u32 __attribute__((noinline)) fib(u32 n)
{
	asm volatile("" : "+r"(n));
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static u64 records;

static void arm_buffer(void)
{
	write_sysreg(buffer, PMBPTR_EL1);
	write_sysreg(0, PMBSR_EL1);
	write_sysreg((u64)(buffer + BUFFER_SIZE) | 1, PMBLIMITR_EL1);
	isb();
}

static void sampling_on(void)
{
	write_sysreg(0, PMSICR_EL1);
	write_sysreg(INTERVAL, PMSIRR_EL1);
	write_sysreg(0, PMSFCR_EL1);
	arm_buffer();
	write_sysreg(1 << 1 | 1 << 5, PMSCR_EL2);	/* E2SPE, TS */
	isb();
}

/* What a driver does when the buffer is full, without the interrupt. */
static void collect(int more)
{
	write_sysreg(0, PMSCR_EL2);
	isb();
	asm volatile("hint #17; dsb sy" : : : "memory");	/* PSB CSYNC */
	isb();
	/* Records are of one size: spe-align is spe-max-record-size. */
	records += (read_sysreg(PMBPTR_EL1) - (u64)buffer) / 64;
	if (read_sysreg(PMBSR_EL1) & PMBSR_S)
		print("# PMBSR_EL1 ", read_sysreg(PMBSR_EL1));
	if (more) {
		arm_buffer();
		write_sysreg(1 << 1 | 1 << 5, PMSCR_EL2);
		isb();
	}
}

void cmain(void)
{
	const char *p;
	u64 rounds = 200, exit_args[2] = { 0x20026, 0 };
	struct { char *p; u64 len; } get = { cmdline, sizeof(cmdline) };
	u64 start;
	u32 sum = 1;
	int sample;

	semihost(0x15, &get);		/* SYS_GET_CMDLINE */
	p = arg("rounds=");
	if (p)
		for (rounds = 0; *p >= '0' && *p <= '9'; p++)
			rounds = rounds * 10 + *p - '0';
	sample = !!arg("sample");

	mmu_on();
	for (u32 i = 0; i < sizeof(data) / sizeof(data[0]); i++)
		data[i] = mix(i, 1);
	start = read_sysreg("cntvct_el0");
	if (sample)
		sampling_on();
	for (u64 i = 0; i < rounds; i++) {
		sum = mix(sum, 60000);
		sum += sift(sum);
		sum += fib(20);
		/* About a million instructions a round: 64 KB of records. */
		if (sample && i % 32 == 31)
			collect(1);
	}
	if (sample) {
		collect(0);
		print("records ", records);
	}
	print("ns ", (read_sysreg("cntvct_el0") - start) * 1000 /
		     (read_sysreg("cntfrq_el0") / 1000000));
	print("sum ", sum);
	semihost(0x20, exit_args);	/* SYS_EXIT_EXTENDED */
}
