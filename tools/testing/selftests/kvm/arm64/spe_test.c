// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE) in guests: guests that profile
 * themselves, take the interrupt, program the buffer in good and bad ways, are
 * saved and restored, and share the SPU with the host. Their records are decoded
 * and compared with what they executed. For the ioctls see spe_uapi_test.c.
 */
#include <linux/mempolicy.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "spe.h"
#include "gic.h"
#include "gic_v3.h"
#include "guest_modes.h"
#include "vgic.h"

#define MAX_VCPUS		SPE_MAX_VCPUS

/* Guest memory of a vCPU, both at the same address at stage 1 and 2. */
#define BUF_BASE(cpu)		(SZ_1G + (u64)(cpu) * SZ_16M)
#define BUF_SIZE		SZ_4M
#define ARRAY_BASE(cpu)		(SZ_512M + (u64)(cpu) * SZ_1M)
#define ARRAY_SIZE_BYTES	SZ_64K
#define BUF_SLOT(cpu)		(10 + (cpu))
#define ARRAY_SLOT(cpu)		(20 + (cpu))
#define ODD_SLOT		30	/* for pages that cannot be pinned */
#define ODD_BASE		(SZ_1G + SZ_512M)
#define HOLE_BASE		(SZ_1G + SZ_512M + SZ_256M)

#define CANARY			0xa5

/* --- Guests -------------------------------------------------------------- */

/* What the host asks of a vCPU, and what that answers. In guest memory. */
struct guest_ctl {
	/* From the host */
	u64 ptr, limit;		/* the buffer; E not included */
	u64 pmbsr_held;		/* PMBSR_EL1 before profiling is enabled */
	u64 pmscr, pmsfcr;
	u64 interval;		/* 0: the smallest that PMSIDR_EL1 recommends */
	u64 iterations;
	u64 wanted;		/* events */
	u64 half;		/* bytes of each half of the buffer */
	char program[16];	/* how the handler re-arms, see guest_rearm() */
	u64 arg;
	u32 nr_cpus;
	u32 ppi;		/* PMBIRQ */
	bool sync_events;	/* the handler tells the host of each event */

	/* From the guest */
	u64 events;
	u64 spurious;
	u64 start;		/* where the profile of the last event started */
	u64 pmbsr, pmbptr, pmblimitr;	/* at the last event */
	u64 cnt[2];		/* CNTVCT_EL0 around the profile */
	u64 used_interval;
	u64 at_event;		/* iterations of the loop when the last event came */
	u64 el0_return;
	u64 val[32];
};

static struct guest_ctl ctl[MAX_VCPUS];

/*
 * The workload: @x2 times, a load, an addition and a store in the array at @x0
 * with the index masked by @x1. It clobbers x2 to x5.
 */
#define WORK_INSNS	7
#define WORK_LOOP						\
	"	mov	x4, xzr\n"				\
	"1:	and	x5, x4, x1\n"				\
	"	ldr	x3, [x0, x5, lsl #3]\n"			\
	"	add	x3, x3, #1\n"				\
	"	str	x3, [x0, x5, lsl #3]\n"			\
	"	add	x4, x4, #1\n"				\
	"	subs	x2, x2, #1\n"				\
	"	b.ne	1b\n"

/*
 * guest_profile(array, mask, iterations, pmscr): the loop with PMSCR_EL1 = @x3
 * around it, so that whatever is sampled is here.
 * guest_loop(array, mask, iterations): the loop alone.
 * guest_el0_loop(array, mask, iterations): for EL0.
 */
asm("	.pushsection .text\n"
"	.balign	64\n"
"	.global	guest_profile, guest_profile_end\n"
"guest_profile:\n"
"	msr	" __stringify(S3_0_C9_C9_0) ", x3\n"
"	isb\n"
	WORK_LOOP
"	msr	" __stringify(S3_0_C9_C9_0) ", xzr\n"
"	isb\n"
"	hint	#17\n"		/* psb csync */
"	dsb	nsh\n"
"	isb\n"
"	ret\n"
"guest_profile_end:\n"
"	.global	guest_loop, guest_loop_end\n"
"guest_loop:\n"
	WORK_LOOP
"	ret\n"
"guest_loop_end:\n"
"	.global	guest_el0_loop, guest_el0_loop_end\n"
"guest_el0_loop:\n"
	WORK_LOOP
"	svc	#0\n"
"guest_el0_loop_end:\n"
"	.popsection\n"
);

/*
 * guest_regime(tcr, ttbr0, ttbr1, ptr, limit, pmscr, iterations, half): a
 * profile while TCR_EL1 and both TTBRs are others. Half of the address space
 * may be useless then: the code runs in the half at @half, 0 or the upper one's
 * base, and touches no memory. Returns PMBSR_EL1 and PMBPTR_EL1.
 *
 * guest_flat: with stage 1 off. Loops x0 times, leaves PMBSR_EL1, PMBPTR_EL1
 * and PMBLIMITR_EL1 in x1 to x3, and exits by a store to x4.
 */
asm("	.pushsection .text\n"
"	.balign	256\n"
"	.global	guest_regime\n"
"guest_regime:\n"
"	mrs	x8, tcr_el1\n"
"	mrs	x9, ttbr0_el1\n"
"	mrs	x10, ttbr1_el1\n"
"	adr	x11, 1f\n"
"	orr	x11, x11, x7\n"
"	adr	x12, 3f\n"
"	br	x11\n"
"1:	msr	ttbr0_el1, x1\n"
"	msr	ttbr1_el1, x2\n"
"	msr	tcr_el1, x0\n"
"	isb\n"
"	tlbi	vmalle1\n"
"	dsb	nsh\n"
"	isb\n"
"	msr	" __stringify(S3_0_C9_C10_1) ", x3\n"	/* PMBPTR_EL1 */
"	msr	" __stringify(S3_0_C9_C10_3) ", xzr\n"	/* PMBSR_EL1 */
"	msr	" __stringify(S3_0_C9_C10_0) ", x4\n"	/* PMBLIMITR_EL1 */
"	isb\n"
"	msr	" __stringify(S3_0_C9_C9_0) ", x5\n"	/* PMSCR_EL1 */
"	isb\n"
"2:	subs	x6, x6, #1\n"
"	b.ne	2b\n"
"	msr	" __stringify(S3_0_C9_C9_0) ", xzr\n"
"	isb\n"
"	hint	#17\n"		/* psb csync */
"	dsb	nsh\n"
"	isb\n"
"	mrs	x13, " __stringify(S3_0_C9_C10_3) "\n"
"	mrs	x14, " __stringify(S3_0_C9_C10_1) "\n"
"	msr	" __stringify(S3_0_C9_C10_0) ", xzr\n"
"	msr	" __stringify(S3_0_C9_C10_3) ", xzr\n"
"	isb\n"
"	msr	ttbr0_el1, x9\n"
"	msr	ttbr1_el1, x10\n"
"	msr	tcr_el1, x8\n"
"	isb\n"
"	tlbi	vmalle1\n"
"	dsb	nsh\n"
"	isb\n"
"	mov	x0, x13\n"
"	mov	x1, x14\n"
"	br	x12\n"
"3:	ret\n"
"	.balign	256\n"
"	.global	guest_flat, guest_flat_loop, guest_flat_loop_end\n"
"guest_flat:\n"
"guest_flat_loop:\n"
"	subs	x0, x0, #1\n"
"	b.ne	guest_flat_loop\n"
"guest_flat_loop_end:\n"
"	msr	" __stringify(S3_0_C9_C9_0) ", xzr\n"
"	isb\n"
"	hint	#17\n"		/* psb csync */
"	dsb	nsh\n"
"	isb\n"
"	mrs	x1, " __stringify(S3_0_C9_C10_3) "\n"
"	mrs	x2, " __stringify(S3_0_C9_C10_1) "\n"
"	mrs	x3, " __stringify(S3_0_C9_C10_0) "\n"
"	str	xzr, [x4]\n"
"	b	.\n"
"	.popsection\n"
);

void guest_profile(u64 array, u64 mask, u64 iterations, u64 pmscr);
void guest_loop(u64 array, u64 mask, u64 iterations);
/* Returned in two registers, without memory */
struct guest_stopped {
	u64 pmbsr, pmbptr;
};

struct guest_stopped guest_regime(u64 tcr, u64 ttbr0, u64 ttbr1, u64 ptr, u64 limit, u64 pmscr,
				  u64 iterations, u64 half);
extern char guest_flat[], guest_flat_loop[], guest_flat_loop_end[];
extern char guest_profile_end[], guest_loop_end[];
extern char guest_el0_loop[], guest_el0_loop_end[];
extern char __executable_start[], etext[];

#define ARRAY_MASK	(ARRAY_SIZE_BYTES / 8 - 1)

static struct guest_ctl *guest_ctl(void)
{
	return &ctl[guest_get_vcpuid()];
}

static u64 guest_array(void)
{
	return ARRAY_BASE(guest_get_vcpuid());
}

static void guest_drain(void)
{
	psb_csync();
	dsb(nsh);
	isb();
}

static u64 guest_min_interval(void)
{
	switch (FIELD_GET(PMSIDR_EL1_INTERVAL, read_sysreg_s(SYS_PMSIDR_EL1))) {
	case PMSIDR_EL1_INTERVAL_256:
		return 256;
	case PMSIDR_EL1_INTERVAL_512:
		return 512;
	case PMSIDR_EL1_INTERVAL_768:
		return 768;
	case PMSIDR_EL1_INTERVAL_1024:
		return 1024;
	case PMSIDR_EL1_INTERVAL_1536:
		return 1536;
	case PMSIDR_EL1_INTERVAL_2048:
		return 2048;
	case PMSIDR_EL1_INTERVAL_3072:
		return 3072;
	default:
		return 4096;
	}
}

static void guest_irq_setup(struct guest_ctl *c)
{
	gic_init(GIC_V3, c->nr_cpus);
	gic_irq_enable(c->ppi);
	local_irq_enable();
}

/* The sampling registers; PMSCR_EL1 = 0. */
static void guest_program(struct guest_ctl *c)
{
	u64 pmsidr = read_sysreg_s(SYS_PMSIDR_EL1);

	c->used_interval = c->interval ?: guest_min_interval();

	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	write_sysreg_s(c->pmsfcr, SYS_PMSFCR_EL1);
	write_sysreg_s(0, SYS_PMSEVFR_EL1);
	write_sysreg_s(0, SYS_PMSLATFR_EL1);
	if (pmsidr & PMSIDR_EL1_FnE)
		write_sysreg_s(0, SYS_PMSNEVFR_EL1);
	write_sysreg_s(c->used_interval, SYS_PMSIRR_EL1);
	write_sysreg_s(0, SYS_PMSICR_EL1);
	write_sysreg(0x5be0 + guest_get_vcpuid(), contextidr_el1);
	isb();
}

static void guest_buffer(u64 ptr, u64 limit)
{
	write_sysreg_s(ptr, SYS_PMBPTR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	write_sysreg_s(limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	isb();
}

static void guest_off(void)
{
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	guest_drain();
	write_sysreg_s(0, SYS_PMBLIMITR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
}

static void guest_results(struct guest_ctl *c)
{
	guest_drain();
	c->pmbptr = read_sysreg_s(SYS_PMBPTR_EL1);
	c->pmbsr = read_sysreg_s(SYS_PMBSR_EL1);
	c->pmblimitr = read_sysreg_s(SYS_PMBLIMITR_EL1);
}

static u64 guest_iterations(struct guest_ctl *c, u64 records)
{
	return c->iterations ?: records * c->used_interval / WORK_INSNS;
}

/*
 * Re-arms the buffer by a program, one letter a register:
 *  P	PMBPTR_EL1 = start of the next half
 *  L	PMBLIMITR_EL1 = its end, with E
 *  E	PMBLIMITR_EL1.E = 0
 *  S	PMBSR_EL1 = 0
 *  C	PMSCR_EL1 = 0
 *  c	PMSCR_EL1 as it was
 */
static void guest_rearm(struct guest_ctl *c)
{
	u64 start = c->ptr + (c->half && c->events & 1 ? c->half : 0);
	u64 limit = c->half ? start + c->half : c->limit;
	const char *p;

	for (p = c->program; *p; p++) {
		switch (*p) {
		case 'P':
			write_sysreg_s(start, SYS_PMBPTR_EL1);
			break;
		case 'L':
			write_sysreg_s(limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
			break;
		case 'E':
			write_sysreg_s(limit, SYS_PMBLIMITR_EL1);
			break;
		case 'S':
			write_sysreg_s(0, SYS_PMBSR_EL1);
			break;
		case 'C':
			write_sysreg_s(0, SYS_PMSCR_EL1);
			isb();
			break;
		case 'c':
			write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
			break;
		}
		isb();
	}
	c->start = start;
}

static void guest_irq_handler(struct ex_regs *spe_regs)
{
	struct guest_ctl *c = guest_ctl();
	unsigned int intid = gic_get_and_ack_irq();

	if (intid == IAR_SPURIOUS) {
		c->spurious++;
		return;
	}
	GUEST_ASSERT_EQ(intid, c->ppi);
	guest_results(c);
	c->at_event = spe_regs->regs[4];

	/* The level has gone before the interrupt was taken: not an event */
	if (!(c->pmbsr & PMBSR_EL1_S)) {
		c->spurious++;
		gic_set_eoi(intid);
		return;
	}

	if (c->sync_events)
		GUEST_SYNC(c->events);
	c->events++;
	guest_rearm(c);
	gic_set_eoi(intid);
}

/* Returns from EL0: to where guest_run_el0() left, at EL1. */
static void guest_svc_handler(struct ex_regs *spe_regs)
{
	spe_regs->pc = guest_ctl()->el0_return;
	spe_regs->pstate = PSR_MODE_EL1h;
}

static noinline void guest_run_el0(u64 array, u64 mask, u64 iterations)
{
	struct guest_ctl *c = guest_ctl();
	register u64 x0 asm("x0") = array;
	register u64 x1 asm("x1") = mask;
	register u64 x2 asm("x2") = iterations;

	asm volatile("	adr	x3, 1f\n"
	"	str	x3, [%[ret]]\n"
	"	msr	elr_el1, %[fn]\n"
	"	msr	spsr_el1, xzr\n"
	"	isb\n"
	"	eret\n"
	"1:\n"
	: "+r" (x0), "+r" (x1), "+r" (x2)
	: [ret] "r" (&c->el0_return), [fn] "r" (guest_el0_loop)
	: "x3", "x4", "x5", "memory", "cc");
}

/* A VM whose vCPUs have SPE, memory for buffer and array, and a GICv3. */
struct spe_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu[MAX_VCPUS];
	int nr, gic_fd;
	u64 pmsidr, pmbidr;
};

static struct guest_ctl *host_ctl(struct spe_vm *v, int cpu)
{
	return addr_gva2hva(v->vm, (gva_t)&ctl[cpu]);
}

static u64 page_max(struct spe_vm *v)
{
	return max_t(u64, v->vm->page_size, getpagesize());
}

static u64 record_size(struct spe_vm *v)
{
	return BIT_ULL(FIELD_GET(PMSIDR_EL1_MAXSIZE, v->pmsidr));
}

static u64 record_align(struct spe_vm *v)
{
	return BIT_ULL(FIELD_GET(PMBIDR_EL1_ALIGN, v->pmbidr));
}

static void add_memory(struct kvm_vm *vm, u32 slot, u64 base, u64 size)
{
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, base, slot,
				    size / vm->page_size, 0);
	virt_map(vm, base, base, size / vm->page_size);
}

/* EL0 may use these pages; what EL0 may write, EL1 cannot execute. */
#define PTE_AP_USER	BIT(6)
#define PTE_AP_RDONLY	BIT(7)

static void map_for_el0(struct kvm_vm *vm, u64 from, u64 to, u64 flags)
{
	for (from &= ~(u64)(vm->page_size - 1); from < to; from += vm->page_size)
		*virt_get_pte_hva(vm, from) |= PTE_AP_USER | flags;
}

/* PMBIRQ of the VMs that are created */
static int vm_ppi = SPE_PPI;

static struct spe_vm spe_vm_create_on(int spu, int nr, void *guest_code, u64 size, u32 features)
{
	struct spe_vm v = { .nr = nr };
	int i;

	/* Where the SPU is, vCPUs can run */
	if (features & SPE_FEATURE)
		TEST_ASSERT(!sched_setaffinity(0, sizeof(cpu_set_t), &spe_spus[spu].cpus),
			    "sched_setaffinity");

	TEST_ASSERT(nr <= MAX_VCPUS, "too many vCPUs");

	v.vm = __vm_create(VM_SHAPE_DEFAULT, nr, nr * 4096);
	for (i = 0; i < nr; i++) {
		struct kvm_vcpu_init init;

		vm_ioctl(v.vm, KVM_ARM_PREFERRED_TARGET, &init);
		init.features[0] |= features;
		v.vcpu[i] = aarch64_vcpu_add(v.vm, i, &init, guest_code);
		add_memory(v.vm, BUF_SLOT(i), BUF_BASE(i), BUF_SIZE);
		add_memory(v.vm, ARRAY_SLOT(i), ARRAY_BASE(i), ARRAY_SIZE_BYTES);
	}

	vm_init_descriptor_tables(v.vm);
	for (i = 0; i < nr; i++)
		vcpu_init_descriptor_tables(v.vcpu[i]);
	vm_install_exception_handler(v.vm, VECTOR_IRQ_CURRENT, guest_irq_handler);
	vm_install_exception_handler(v.vm, VECTOR_IRQ_LOWER_64, guest_irq_handler);
	vm_install_sync_handler(v.vm, VECTOR_SYNC_LOWER_64, ESR_ELx_EC_SVC64, guest_svc_handler);

	if (features & SPE_FEATURE) {
		SPE_OK(spe_set_spu(v.vcpu[0], spe_spus[spu].type));
		SPE_OK(spe_set_size(v.vcpu[0], size));
		v.pmsidr = vcpu_get_reg(v.vcpu[0], SPE_REG(PMSIDR_EL1));
		v.pmbidr = vcpu_get_reg(v.vcpu[0], SPE_REG(PMBIDR_EL1));
	}
	v.gic_fd = vgic_v3_setup(v.vm, nr, 64);
	for (i = 0; i < nr; i++) {
		struct guest_ctl *c = host_ctl(&v, i);

		if (features & SPE_FEATURE) {
			SPE_OK(spe_set_irq(v.vcpu[i], vm_ppi));
			SPE_OK(spe_init(v.vcpu[i]));
		}
		c->ppi = vm_ppi;
		memset(addr_gpa2hva(v.vm, BUF_BASE(i)), CANARY, BUF_SIZE);
		c->nr_cpus = nr;
		c->ptr = BUF_BASE(i);
		c->limit = BUF_BASE(i) + SZ_256K;
		if (features & SPE_FEATURE)
			c->limit = BUF_BASE(i) + max_t(u64, SZ_256K, 512 * record_size(&v));
		c->pmscr = PMSCR_EL1_E1SPE | PMSCR_EL1_TS | PMSCR_EL1_CX;
	}
	return v;
}

static struct spe_vm spe_vm_create(int nr, void *guest_code)
{
	return spe_vm_create_on(0, nr, guest_code, spe_valid_size(0), SPE_FEATURE);
}

static void spe_vm_free(struct spe_vm *v)
{
	close(v->gic_fd);
	kvm_vm_free(v->vm);
}

/* Runs a vCPU until its empty ucall */
static void run_to_exit(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_NONE);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, UCALL_EXIT_REASON);
}

#define WANTED_RECORDS	200

/* A place that may have been sampled. */
struct range {
	u64 from, to;
};

#define RANGE(a, b)	{ (u64)(a), (u64)(b) }

/* What the records of a profile have to be. */
struct expect {
	struct range pc[2];
	u8 els;			/* BIT(0): EL0, BIT(1): EL1 */
	u8 ops;			/* BIT(enum spe_op), 0: any */
	bool cut;		/* PMBSR_EL1.DL: the last record is not complete */
	bool any_pc;		/* all of the program's code, its data anywhere */
	u64 pmscr;
	u64 from_cnt, to_cnt;
	u64 ctx;
};

/* Decodes and checks what is in the buffer; returns the number of records. */
static u64 check_records(struct spe_vm *v, int cpu, u64 from, u64 to, const struct expect *e)
{
	u64 n = 0, in_loop = 0, first_ts = 0, last_ts = 0, array = ARRAY_BASE(cpu);
	u64 at_el[2] = {};
	struct spe_record r;
	const u8 *p, *end;
	int len;

	TEST_ASSERT(from <= to, "PMBPTR_EL1 0x%lx is below 0x%lx", to, from);
	if (from == to)
		return 0;
	TEST_ASSERT(from >= BUF_BASE(cpu) && to <= BUF_BASE(cpu) + BUF_SIZE,
		    "PMBPTR_EL1 0x%lx", to);
	p = addr_gpa2hva(v->vm, from);
	end = p + (to - from);

	while (p < end) {
		bool loop, known;
		int i;

		len = spe_next_record(p, end - p, &r);
		if (len <= 0 && e->cut && end - p < record_size(v))
			break;
		TEST_ASSERT(len > 0,
			    "record %lu at 0x%lx (0x%lx to 0x%lx) does not decode: %02x %02x", n,
			    to - (end - p), from, to, p[0], p[1]);
		TEST_ASSERT(!(len % record_align(v)), "record of %d bytes", len);
		p += len;
		n++;

		/* A record without PC: its instruction was abandoned */
		if (!r.has_pc)
			continue;

		TEST_ASSERT(r.ns, "record %lu: NS is 0", n);
		TEST_ASSERT(BIT(r.el) & e->els, "record %lu: EL%d at 0x%lx", n, r.el, r.pc);
		at_el[r.el]++;
		TEST_ASSERT(!r.has_pa, "record %lu has a physical address", n);
		TEST_ASSERT(!r.has_ctx_el2, "record %lu has CONTEXTIDR_EL2", n);

		loop = false;
		for (i = 0; i < ARRAY_SIZE(e->pc); i++)
			loop |= r.pc >= e->pc[i].from && r.pc < e->pc[i].to;
		in_loop += loop;
		known = loop || (e->any_pc && r.pc >= (u64)__executable_start && r.pc < (u64)etext);
		TEST_ASSERT(known, "record %lu: PC 0x%lx is not in 0x%lx to 0x%lx", n, r.pc,
			    e->pc[0].from, e->pc[0].to);

		if (r.op == SPE_OP_LOAD || r.op == SPE_OP_STORE) {
			/* One that took an exception may lack it (D17.6) */
			TEST_ASSERT(r.has_va || r.events & SPE_EVENT_EXCEPTION,
				    "record %lu: a load or store without address", n);
			if (loop && r.has_va)
				TEST_ASSERT(r.va >= array && r.va < array + ARRAY_SIZE_BYTES,
					    "record %lu: VA 0x%lx, array at 0x%lx", n, r.va, array);
		} else {
			TEST_ASSERT(!r.has_va, "record %lu: address 0x%lx", n, r.va);
		}
		if (e->ops)
			TEST_ASSERT(BIT(r.op) & e->ops, "record %lu: operation %d", n, r.op);

		TEST_ASSERT(r.has_ctx_el1 == !!(e->pmscr & PMSCR_EL1_CX), "record %lu: context", n);
		if (r.has_ctx_el1)
			TEST_ASSERT(r.ctx_el1 == e->ctx, "record %lu: CONTEXTIDR_EL1 0x%x", n,
				    r.ctx_el1);

		/* PMSCR_EL2.PCT is 0: virtual time, whatever the guest asks for */
		TEST_ASSERT(r.has_ts == !!(e->pmscr & PMSCR_EL1_TS), "record %lu: timestamp", n);
		if (r.has_ts) {
			TEST_ASSERT(r.ts >= last_ts, "record %lu: time 0x%lx after 0x%lx", n, r.ts,
				    last_ts);
			TEST_ASSERT(r.ts >= e->from_cnt && r.ts <= e->to_cnt,
				    "record %lu: time 0x%lx is not in 0x%lx to 0x%lx", n,
				    r.ts, e->from_cnt, e->to_cnt);
			last_ts = r.ts;
			first_ts = first_ts ?: r.ts;
		}
	}
	TEST_ASSERT(in_loop || !n, "%lu records, none of the loop", n);
	if (n > WANTED_RECORDS / 4) {
		TEST_ASSERT(last_ts > first_ts || !(e->pmscr & PMSCR_EL1_TS),
			    "the time stands still at 0x%lx", last_ts);
		TEST_ASSERT(!(e->els & BIT(0)) || at_el[0] > n / 4, "%lu of %lu records at EL0",
			    at_el[0], n);
		TEST_ASSERT(!(e->els & BIT(1)) || at_el[1] > n / 4, "%lu of %lu records at EL1",
			    at_el[1], n);
	}
	return n;
}

static struct expect expect_profile(struct spe_vm *v, int cpu)
{
	struct guest_ctl *c = host_ctl(v, cpu);

	return (struct expect) {
		.pc = { RANGE(guest_profile, guest_profile_end),
			RANGE(guest_loop, guest_loop_end) },
		.els = BIT(1),
		.pmscr = c->pmscr,
		.from_cnt = c->cnt[0],
		.to_cnt = c->cnt[1],
		.ctx = 0x5be0 + cpu,
	};
}

/* A profile without events left the buffer as this says */
static void check_quiet(struct guest_ctl *c)
{
	TEST_ASSERT(!(c->pmbsr & ~PMBSR_EL1_COLL), "PMBSR_EL1 0x%lx, PMBPTR_EL1 0x%lx", c->pmbsr,
		    c->pmbptr);
	TEST_ASSERT(!c->events, "%lu events", c->events);
	TEST_ASSERT_EQ(c->pmblimitr, c->limit | PMBLIMITR_EL1_E);
}

/* Nothing at and after LIMIT is ever written */
static void check_canary(struct spe_vm *v, int cpu, u64 limit)
{
	u8 *p = addr_gpa2hva(v->vm, limit), *end = addr_gpa2hva(v->vm, BUF_BASE(cpu)) + BUF_SIZE;

	for (; p < end; p++)
		TEST_ASSERT(*p == CANARY, "byte %ld after LIMIT is 0x%x",
			    (long)(p - (u8 *)addr_gpa2hva(v->vm, limit)), *p);
}

/* --- Guests: profiles ---------------------------------------------------- */

#define GUEST_EL0	BIT(0)	/* the loop at EL0 ... */
#define GUEST_EL1	BIT(1)	/* ... and at EL1 */

struct profile_row {
	const char *name;
	u64 pmscr, pmsfcr;
	u64 arg;		/* which loops */
	u8 els, ops;
	u8 share;		/* records in hundredths of those without a filter */
};

#define SCR(x)	PMSCR_EL1_##x
#define FCR(x)	PMSFCR_EL1_##x

static const struct profile_row profile_rows[] = {
	{ "EL1",		SCR(E1SPE) | SCR(TS) | SCR(CX), 0, GUEST_EL1, BIT(1), 0, 100 },
	{ "EL1 without time and context", SCR(E1SPE), 0, GUEST_EL1, BIT(1), 0, 100 },
	{ "EL1, physical address asked for", SCR(E1SPE) | SCR(PA) | SCR(TS), 0, GUEST_EL1, BIT(1),
	  0, 100 },
	{ "EL1, physical time asked for", SCR(E1SPE) | SCR(TS) | (1 << 6), 0, GUEST_EL1, BIT(1), 0,
	  100 },
	{ "EL1, virtual time by CNTPOFF asked for", SCR(E1SPE) | SCR(TS) | (3 << 6), 0, GUEST_EL1,
	  BIT(1), 0, 100 },
	{ "EL0 only",		SCR(E0SPE) | SCR(TS) | SCR(CX), 0, GUEST_EL0 | GUEST_EL1, BIT(0), 0,
	  100 },
	{ "EL1 only",		SCR(E1SPE) | SCR(TS) | SCR(CX), 0, GUEST_EL0 | GUEST_EL1, BIT(1), 0,
	  100 },
	{ "EL0 and EL1",	SCR(E0SPE) | SCR(E1SPE) | SCR(TS) | SCR(CX), 0,
	  GUEST_EL0 | GUEST_EL1,
	  BIT(0) | BIT(1), 0, 200 },
	{ "loads",		SCR(E1SPE) | SCR(TS), FCR(FT) | FCR(LD), GUEST_EL1, BIT(1),
	  BIT(SPE_OP_LOAD), 14 },
	{ "stores",		SCR(E1SPE) | SCR(TS), FCR(FT) | FCR(ST), GUEST_EL1, BIT(1),
	  BIT(SPE_OP_STORE), 14 },
	{ "branches",		SCR(E1SPE) | SCR(TS), FCR(FT) | FCR(B), GUEST_EL1, BIT(1),
	  BIT(SPE_OP_BRANCH), 14 },
};

static void guest_profile_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 iterations;

	guest_irq_setup(c);
	guest_program(c);
	iterations = guest_iterations(c, WANTED_RECORDS);
	guest_buffer(c->ptr, c->limit);
	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	if (c->arg & GUEST_EL1)
		guest_profile(guest_array(), ARRAY_MASK, iterations, c->pmscr);
	if (c->arg & GUEST_EL0) {
		/* EL1's way to EL0 and back is sampled too if E1SPE is set */
		write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
		isb();
		guest_run_el0(guest_array(), ARRAY_MASK, iterations);
		write_sysreg_s(0, SYS_PMSCR_EL1);
		isb();
	}
	guest_drain();
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

/* An interval that does not beat with the loop of seven instructions */
static u64 odd_interval(struct spe_vm *v)
{
	static const u16 min[] = { 256, 256, 512, 768, 1024, 1536, 2048, 3072, 4096 };
	u64 field = FIELD_GET(PMSIDR_EL1_INTERVAL, v->pmsidr);
	u64 interval = field < ARRAY_SIZE(min) ? min[field] : 4096;

	while (interval % WORK_INSNS != 1)
		interval += 256;
	return interval;
}

static void setup_profile(struct spe_vm *v, const struct profile_row *row, int cpu)
{
	struct guest_ctl *c = host_ctl(v, cpu);

	c->pmscr = row->pmscr;
	c->pmsfcr = row->pmsfcr;
	c->arg = row->arg;
	c->interval = odd_interval(v);
	map_for_el0(v->vm, (u64)guest_el0_loop, (u64)guest_el0_loop_end, PTE_AP_RDONLY);
	map_for_el0(v->vm, ARRAY_BASE(cpu), ARRAY_BASE(cpu) + ARRAY_SIZE_BYTES, 0);
}

static void check_profile(struct spe_vm *v, const struct profile_row *row, int cpu)
{
	struct guest_ctl *c = host_ctl(v, cpu);
	struct expect e = expect_profile(v, cpu);
	u64 n, wanted = WANTED_RECORDS * row->share / 100;

	check_quiet(c);
	e.els = row->els;
	e.ops = row->ops;
	if (row->arg & GUEST_EL0) {
		e.pc[1] = (struct range)RANGE(guest_el0_loop, guest_el0_loop_end);
		e.any_pc = true;
	}
	n = check_records(v, cpu, c->ptr, c->pmbptr, &e);
	TEST_ASSERT(n >= wanted / 2 && n <= wanted * 5 / 4 + 10,
		    "%lu records, expected about %lu", n, wanted);
	check_canary(v, cpu, c->limit);
}

static void test_profile(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_profile_code);

	setup_profile(&v, arg, 0);
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	check_profile(&v, arg, 0);
	spe_vm_free(&v);
}

/* Each SPU in turn */
static void test_profile_spus(const void *arg)
{
	int i;

	if (spe_nr_spus < 2)
		spe_skip("the machine has %d SPU only", spe_nr_spus);

	for (i = 0; i < spe_nr_spus; i++) {
		struct spe_vm v = spe_vm_create_on(i, 1, guest_profile_code,
						   spe_valid_size(i), SPE_FEATURE);

		setup_profile(&v, arg, 0);
		TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
		check_profile(&v, arg, 0);
		spe_vm_free(&v);
	}
}

struct vcpu_thread {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	bool done;
};

static void *vcpu_thread_fn(void *arg)
{
	struct vcpu_thread *t = arg;

	while (spe_run_vcpu(t->vcpu))
		;
	WRITE_ONCE(t->done, true);
	return NULL;
}

/* Several vCPUs at a time, each with a context of its own */
static void test_vcpus(const void *arg)
{
	struct vcpu_thread t[MAX_VCPUS] = {};
	struct spe_vm v = spe_vm_create(spe_opt.vcpus, guest_profile_code);
	int i;

	for (i = 0; i < spe_opt.vcpus; i++) {
		setup_profile(&v, arg, i);
		t[i].vcpu = v.vcpu[i];
	}
	for (i = 0; i < spe_opt.vcpus; i++)
		kvm_pthread_create(&t[i].thread, NULL, vcpu_thread_fn, &t[i]);
	for (i = 0; i < spe_opt.vcpus; i++)
		kvm_pthread_join(t[i].thread, NULL);
	for (i = 0; i < spe_opt.vcpus; i++)
		check_profile(&v, arg, i);
	spe_vm_free(&v);
}

/* vCPUs that the host moves between the SPU's CPUs while they profile */
static void test_migrate_cpus(const void *arg)
{
	struct vcpu_thread t[MAX_VCPUS] = {};
	struct spe_vm v = spe_vm_create(spe_opt.vcpus, guest_profile_code);
	int i, cpu = 0, moves = 0;
	bool done;

	if (CPU_COUNT(&spe_spus[0].cpus) < 2)
		spe_skip("the SPU has one CPU only");

	for (i = 0; i < spe_opt.vcpus; i++) {
		setup_profile(&v, arg, i);
		/* A hundred times as long: there is time to move */
		host_ctl(&v, i)->interval = 64 * SZ_1K;
		t[i].vcpu = v.vcpu[i];
	}
	for (i = 0; i < spe_opt.vcpus; i++)
		kvm_pthread_create(&t[i].thread, NULL, vcpu_thread_fn, &t[i]);
	do {
		done = true;
		for (i = 0; i < spe_opt.vcpus; i++) {
			if (READ_ONCE(t[i].done))
				continue;
			done = false;
			do {
				cpu = (cpu + 1) % CPU_SETSIZE;
			} while (!CPU_ISSET(cpu, &spe_spus[0].cpus));
			__pin_task_to_cpu(t[i].thread, cpu);
			moves++;
		}
		usleep(2000);
	} while (!done);
	for (i = 0; i < spe_opt.vcpus; i++)
		kvm_pthread_join(t[i].thread, NULL);
	TEST_ASSERT(moves > 2 * spe_opt.vcpus, "moved %d times only", moves);
	for (i = 0; i < spe_opt.vcpus; i++)
		check_profile(&v, arg, i);
	spe_vm_free(&v);
}

/* CPUs that lack the VM's SPU */
static void test_fail_entry(const void *arg)
{
	cpu_set_t online, old;
	struct kvm_vcpu *vcpu;
	int cpu, tested = 0;
	struct spe_vm v;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(old), &old), "sched_getaffinity");
	v = spe_vm_create(1, guest_profile_code);
	vcpu = v.vcpu[0];
	setup_profile(&v, arg, 0);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		CPU_ZERO(&online);
		CPU_SET(cpu, &online);
		if (!CPU_ISSET(cpu, &old) || CPU_ISSET(cpu, &spe_spus[0].cpus) ||
		    sched_setaffinity(0, sizeof(online), &online))
			continue;
		SPE_OK(_vcpu_run(vcpu));
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_FAIL_ENTRY);
		TEST_ASSERT_EQ(vcpu->run->fail_entry.hardware_entry_failure_reason,
			       KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED);
		TEST_ASSERT_EQ(vcpu->run->fail_entry.cpu, cpu);
		tested++;
	}
	if (!tested)
		spe_skip("every CPU has the SPU");

	/* On one that has it, the same vCPU runs */
	TEST_ASSERT(!sched_setaffinity(0, sizeof(spe_spus[0].cpus), &spe_spus[0].cpus),
		    "sched_setaffinity");
	TEST_ASSERT(!spe_run_vcpu(vcpu), "unexpected sync");
	check_profile(&v, arg, 0);
	spe_vm_free(&v);
}

/* An SPU and a PMU chosen for one VM: its vCPUs run on the CPUs that have both */
static void guest_sync_code(void)
{
	for (;;)
		GUEST_SYNC(0);
}

static int run_on_both(const struct spe_spu *spu, const struct spe_pmu *pmu, bool spu_first,
		       const cpu_set_t *all)
{
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, 1, 512);
	int cpu, gic_fd, ppi = 23, outside = 0;
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu;

	vm_ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= SPE_FEATURE | SPE_FEATURE_PMU;
	vcpu = aarch64_vcpu_add(vm, 0, &init, guest_sync_code);
	if (spu_first)
		SPE_OK(spe_set_spu(vcpu, spu->type));
	SPE_OK(spe_set_pmu(vcpu, pmu->type));
	if (!spu_first)
		SPE_OK(spe_set_spu(vcpu, spu->type));
	SPE_OK(spe_set_size(vcpu, 0));
	gic_fd = vgic_v3_setup(vm, 1, 64);
	SPE_OK(spe_set_irq(vcpu, SPE_PPI));
	SPE_OK(spe_init(vcpu));
	vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ, &ppi);
	vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, NULL);

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, all))
			continue;
		pin_self_to_cpu(cpu);
		if (CPU_ISSET(cpu, &spu->cpus) && CPU_ISSET(cpu, &pmu->cpus)) {
			TEST_ASSERT(spe_run_vcpu(vcpu), "the guest ended on CPU %d", cpu);
			continue;
		}
		SPE_OK(_vcpu_run(vcpu));
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_FAIL_ENTRY);
		TEST_ASSERT_EQ(vcpu->run->fail_entry.hardware_entry_failure_reason,
			       KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED);
		TEST_ASSERT_EQ(vcpu->run->fail_entry.cpu, cpu);
		outside++;
	}
	close(gic_fd);
	kvm_vm_free(vm);
	return outside;
}

static void test_fail_entry_pmu(const void *arg)
{
	struct spe_pmu pmus[SPE_MAX_PMUS];
	int i, j, nr, outside = 0;
	cpu_set_t all, both;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	nr = kvm_check_cap(KVM_CAP_ARM_PMU_V3) ? spe_find_pmus(pmus, SPE_MAX_PMUS) : 0;
	for (i = 0; i < nr; i++) {
		for (j = 0; j < spe_nr_spus; j++) {
			CPU_AND(&both, &pmus[i].cpus, &spe_spus[j].cpus);
			if (spe_spus[j].max_buff_size || !CPU_COUNT(&both) ||
			    CPU_EQUAL(&both, &spe_spus[j].cpus))
				continue;
			outside += run_on_both(&spe_spus[j], &pmus[i], true, &all);
			outside += run_on_both(&spe_spus[j], &pmus[i], false, &all);
		}
	}
	if (!outside)
		spe_skip("no SPU shares some of its CPUs with a PMU");
}

/* --- Guests: identification and registers -------------------------------- */

static void guest_id_code(void)
{
	struct guest_ctl *c = guest_ctl();

	c->val[0] = read_sysreg(id_aa64dfr0_el1);
	c->val[1] = read_sysreg_s(SYS_PMSIDR_EL1);
	c->val[2] = read_sysreg_s(SYS_PMBIDR_EL1);
	GUEST_SYNC(0);

	/* Again when the sampling registers are the guest's own */
	write_sysreg_s(0x100, SYS_PMSIRR_EL1);
	c->val[3] = read_sysreg_s(SYS_PMSIDR_EL1);
	c->val[4] = read_sysreg_s(SYS_PMBIDR_EL1);
	GUEST_DONE();
}

static bool host_has_fgt(void)
{
	return spe_klog_count("detected: Fine Grained Traps");
}

static void test_guest_ids(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_id_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	u64 size_mask = PMBIDR_EL1_MaxBuffSize;
	int i;

	while (spe_run_vcpu(v.vcpu[0]))
		;
	TEST_ASSERT_EQ(c->val[0], vcpu_get_reg(v.vcpu[0], SPE_REG(ID_AA64DFR0_EL1)));
	for (i = 0; i < 2; i++) {
		u64 pmbidr = c->val[2 + 2 * i];

		TEST_ASSERT_EQ(c->val[1 + 2 * i], v.pmsidr);
		TEST_ASSERT(!(pmbidr & PMBIDR_EL1_P), "PMBIDR_EL1 0x%lx", pmbidr);
		if (host_has_fgt()) {
			TEST_ASSERT_EQ(pmbidr, v.pmbidr);
		} else {
			/* The guest reads hardware's */
			TEST_ASSERT_EQ(pmbidr & ~size_mask, v.pmbidr & ~size_mask);
			TEST_ASSERT_EQ(spe_size_of(FIELD_GET(PMBIDR_EL1_MaxBuffSize, pmbidr)),
				       spe_spus[0].max_buff_size);
		}
	}
	TEST_ASSERT_EQ(spe_size_of(FIELD_GET(PMBIDR_EL1_MaxBuffSize, v.pmbidr)), spe_valid_size(0));
	spe_vm_free(&v);
}

static u64 undefs;

static void guest_undef_handler(struct ex_regs *spe_regs)
{
	undefs++;
	spe_regs->pc += 4;
}

#define TEST_UNDEF(c, n, r)						\
do {									\
	u64 *__val = &(c)->val[(n) * 2];				\
									\
	undefs = 0;							\
	isb();								\
	__val[0] = read_sysreg_s(SYS_##r);				\
	__val[0] = undefs;						\
	write_sysreg_s(0, SYS_##r);					\
	isb();								\
	__val[1] = undefs - __val[0];					\
} while (0)

static const char * const undef_names[] = {
	"PMSCR_EL1", "PMSNEVFR_EL1", "PMSICR_EL1", "PMSIRR_EL1", "PMSFCR_EL1", "PMSEVFR_EL1",
	"PMSLATFR_EL1", "PMSIDR_EL1", "PMBLIMITR_EL1", "PMBPTR_EL1", "PMBSR_EL1",
	"PMSDSFR_EL1", "PMBMAR_EL1", "PMBIDR_EL1", "PMSCR_EL2", "PMSCR_EL12",
};

static void guest_undef_code(void)
{
	struct guest_ctl *c = guest_ctl();

	TEST_UNDEF(c, 0, PMSCR_EL1);
	TEST_UNDEF(c, 1, PMSNEVFR_EL1);
	TEST_UNDEF(c, 2, PMSICR_EL1);
	TEST_UNDEF(c, 3, PMSIRR_EL1);
	TEST_UNDEF(c, 4, PMSFCR_EL1);
	TEST_UNDEF(c, 5, PMSEVFR_EL1);
	TEST_UNDEF(c, 6, PMSLATFR_EL1);
	TEST_UNDEF(c, 7, PMSIDR_EL1);
	TEST_UNDEF(c, 8, PMBLIMITR_EL1);
	TEST_UNDEF(c, 9, PMBPTR_EL1);
	TEST_UNDEF(c, 10, PMBSR_EL1);
	TEST_UNDEF(c, 11, PMSDSFR_EL1);
	TEST_UNDEF(c, 12, PMBMAR_EL1);
	TEST_UNDEF(c, 13, PMBIDR_EL1);
	TEST_UNDEF(c, 14, PMSCR_EL2);
	TEST_UNDEF(c, 15, PMSCR_EL12);
	c->arg = read_sysreg(id_aa64dfr0_el1);
	GUEST_DONE();
}

/* Which of them a guest with (@arg set) or without the feature must not see */
static void test_guest_undef(const void *arg)
{
	struct spe_vm v = spe_vm_create_on(0, 1, guest_undef_code,
					   arg ? spe_valid_size(0) : 0, arg ? SPE_FEATURE : 0);
	struct guest_ctl *c = host_ctl(&v, 0);
	int i;

	vm_install_sync_handler(v.vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_UNKNOWN, guest_undef_handler);
	while (spe_run_vcpu(v.vcpu[0]))
		;
	for (i = 0; i < ARRAY_SIZE(undef_names); i++) {
		bool read = true, write = true;

		if (arg) {
			read = i >= 14 || i == 12 ||
			       (i == 1 && !(v.pmsidr & PMSIDR_EL1_FnE)) ||
			       (i == 11 && !(v.pmsidr & PMSIDR_EL1_FDS));
			write = read || i == 7 || i == 13;
		} else if (i == 13 && spe_nr_spus && !host_has_fgt()) {
			/* Only FEAT_FGT can trap it */
			read = false;
		}
		TEST_ASSERT(c->val[2 * i] == read, "%s read: UNDEF %lu, expected %d",
			    undef_names[i], c->val[2 * i], read);
		TEST_ASSERT(c->val[2 * i + 1] == write, "%s write: UNDEF %lu, expected %d",
			    undef_names[i], c->val[2 * i + 1], write);
	}
	TEST_ASSERT(!FIELD_GET(ID_AA64DFR0_EL1_PMSVer, c->arg) == !arg, "ID_AA64DFR0_EL1 0x%lx",
		    c->arg);
	spe_vm_free(&v);
}

/* Each register holds what is written, whoever holds it at the moment */
#define GUEST_WRITE_READ(c, n, r, v)					\
do {									\
	write_sysreg_s(v, SYS_##r);					\
	isb();								\
	(c)->val[n] = read_sysreg_s(SYS_##r);				\
} while (0)

static void guest_regs_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 pmsidr = read_sysreg_s(SYS_PMSIDR_EL1);

	for (;;) {
		u64 v = c->arg;

		GUEST_WRITE_READ(c, 0, PMSCR_EL1, v);
		if (pmsidr & PMSIDR_EL1_FnE)
			GUEST_WRITE_READ(c, 1, PMSNEVFR_EL1, v);
		GUEST_WRITE_READ(c, 2, PMSICR_EL1, v);
		GUEST_WRITE_READ(c, 3, PMSIRR_EL1, v);
		GUEST_WRITE_READ(c, 4, PMSFCR_EL1, v);
		GUEST_WRITE_READ(c, 5, PMSEVFR_EL1, v);
		GUEST_WRITE_READ(c, 6, PMSLATFR_EL1, v);
		/* Disabled: reserved values of FM are none of this test's business */
		GUEST_WRITE_READ(c, 8, PMBLIMITR_EL1, v & ~(PMBLIMITR_EL1_E | PMBLIMITR_EL1_FM));
		GUEST_WRITE_READ(c, 9, PMBPTR_EL1, v);
		GUEST_WRITE_READ(c, 10, PMBSR_EL1, v);
		if (pmsidr & PMSIDR_EL1_FDS)
			GUEST_WRITE_READ(c, 11, PMSDSFR_EL1, v);
		GUEST_SYNC(0);
	}
}

/* What an earlier event may have left in PMBSR_EL1, of which software has cleared S only */
#define OLD_PMBSR	(FIELD_PREP(PMBSR_EL1_EC_MASK, PMBSR_EL1_EC_FAULT_S1) | \
			 PMBSR_EL1_COLL | FIELD_PREP(PMBSR_EL1_FAULT_FSC_MASK, 0x21))

static void guest_old_event_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 values[] = { OLD_PMBSR, OLD_PMBSR | PMBSR_EL1_DL, PMBSR_EL1_DL, 0 };
	int i, n;

	guest_program(c);
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		guest_buffer(c->ptr, c->limit);
		write_sysreg_s(values[i], SYS_PMBSR_EL1);
		write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
		isb();
		for (n = 0; n < 3; n++) {
			guest_loop(guest_array(), ARRAY_MASK, 4 * c->used_interval / WORK_INSNS);
			GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), values[i]);
			/* In hardware, and back */
			GUEST_SYNC(n);
		}
		guest_results(c);
		GUEST_ASSERT_EQ(c->pmbsr, values[i]);
		GUEST_ASSERT(c->pmbptr > c->ptr);
		guest_off();
	}
	GUEST_DONE();
}

static void test_guest_old_event(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_old_event_code);
	int n = 0;

	while (spe_run_vcpu(v.vcpu[0]))
		n++;
	TEST_ASSERT_EQ(n, 12);
	spe_vm_free(&v);
}

/* Many accesses to a register of the sampling, then to one of the buffer */
static void guest_exits_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 i;

	guest_program(c);
	GUEST_SYNC(0);
	for (i = 0; i < c->iterations; i++) {
		write_sysreg_s(i << 8, SYS_PMSIRR_EL1);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSIRR_EL1) & 0xffffff00, i << 8);
	}
	GUEST_SYNC(1);
	for (i = 0; i < c->iterations; i++)
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), 0);
	GUEST_SYNC(2);
}

/*
 * Linux writes the sampling registers at each switch of a profiled task: they do
 * not trap once the guest has used them. Those of the buffer do.
 */
static void test_guest_exits(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_exits_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	u64 exits[3];
	int i;

	c->iterations = 5000;
	for (i = 0; i < ARRAY_SIZE(exits); i++) {
		TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "the guest ended");
		exits[i] = vcpu_get_stat(v.vcpu[0], exits);
	}
	TEST_ASSERT(exits[1] - exits[0] < c->iterations / 2, "%lu exits",
		    exits[1] - exits[0]);
	TEST_ASSERT(exits[2] - exits[1] >= c->iterations, "%lu exits", exits[2] - exits[1]);
	spe_vm_free(&v);
}

static void test_guest_regs(const void *arg)
{
	static const u64 patterns[] = {
		0x5555555555555555, 0xaaaaaaaaaaaaaaaa, ~0ULL, 0, 0x123456789abcdef0,
	};
	struct spe_vm v = spe_vm_create(1, guest_regs_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	int p, i, round;
	u64 val;

	for (round = 0; round < 2; round++) {
		for (p = 0; p < ARRAY_SIZE(patterns); p++) {
			c->arg = patterns[p];
			TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "the guest ended");
			for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
				const struct spe_reg_desc *r = &spe_regs[i];
				u64 written = patterns[p];

				if (r->id || (r->only_if && !(v.pmsidr & r->only_if)))
					continue;
				if (r->sysreg == SYS_PMBLIMITR_EL1)
					written &= ~(PMBLIMITR_EL1_E | PMBLIMITR_EL1_FM);
				TEST_ASSERT(!(c->val[i] & r->res0), "%s: 0x%lx, RES0 are 0x%lx",
					    r->name, c->val[i], r->res0);
				TEST_ASSERT((c->val[i] & r->rw) == (written & r->rw),
					    "%s: wrote 0x%lx, read 0x%lx", r->name, written,
					    c->val[i]);

				/* Userspace sees the same, and what it writes back is taken */
				val = vcpu_get_reg(v.vcpu[0], spe_reg_id(r));
				TEST_ASSERT(val == c->val[i], "%s: guest 0x%lx, ONE_REG 0x%lx",
					    r->name, c->val[i], val);
				vcpu_set_reg(v.vcpu[0], spe_reg_id(r), written);
				val = vcpu_get_reg(v.vcpu[0], spe_reg_id(r));
				TEST_ASSERT(!((val ^ c->val[i]) & ~r->other),
					    "%s: guest 0x%lx, ONE_REG 0x%lx after a write",
					    r->name, c->val[i], val);
			}
		}
	}
	spe_vm_free(&v);
}

/* --- Guests: events ------------------------------------------------------ */

/* Fills the buffer without taking the interrupt. */
static void guest_fill_polled_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	local_irq_disable();
	guest_program(c);
	guest_buffer(c->ptr, c->limit);
	GUEST_ASSERT(!gic_irq_get_pending(SPE_PPI));
	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, c->iterations, c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	GUEST_ASSERT(gic_irq_get_pending(SPE_PPI));

	/* While S is set nothing is profiled */
	guest_profile(guest_array(), ARRAY_MASK, c->iterations, c->pmscr);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), c->pmbptr);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), c->pmbsr);

	/* The level follows S */
	guest_off();
	GUEST_ASSERT(!gic_irq_get_pending(SPE_PPI));
	local_irq_enable();
	isb();
	GUEST_ASSERT(!c->events);
	GUEST_DONE();
}

/* ... and with the interrupt, whose handler disables the buffer. */
static void guest_fill_irq_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	guest_program(c);
	guest_buffer(c->ptr, c->limit);
	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, c->iterations, c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	GUEST_DONE();
}

/* A buffer of @arg times 4 KiB, exactly full */
static void test_fill(const void *arg)
{
	bool irq = (long)arg & 1;
	u64 size = ((long)arg >> 1) * SZ_4K, end, n, sampled, executed;
	struct spe_vm v = spe_vm_create(1, irq ? guest_fill_irq_code : guest_fill_polled_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	struct expect e;

	c->limit = c->ptr + size;
	c->interval = odd_interval(&v);
	/* A record has 24 bytes at least */
	c->iterations = size / 24 * c->interval / WORK_INSNS;
	strcpy(c->program, "ES");
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");

	TEST_ASSERT_EQ(c->events, irq);
	TEST_ASSERT_EQ(c->spurious, 0);
	TEST_ASSERT_EQ(c->pmbsr & ~PMBSR_EL1_COLL, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
	TEST_ASSERT_EQ(c->pmblimitr, c->limit | PMBLIMITR_EL1_E);
	end = c->limit;
	TEST_ASSERT(c->pmbptr <= end && c->pmbptr > end - record_size(&v),
		    "PMBPTR_EL1 0x%lx, LIMIT 0x%lx, records of up to %lu bytes",
		    c->pmbptr, end, record_size(&v));
	if (record_size(&v) == record_align(&v))
		TEST_ASSERT_EQ(c->pmbptr, end);

	e = expect_profile(&v, 0);
	n = check_records(&v, 0, c->ptr, c->pmbptr, &e);
	TEST_ASSERT(n >= size / record_size(&v), "%lu records in 0x%lx bytes", n, size);
	check_canary(&v, 0, end);

	/*
	 * The interrupt comes when the last record is written, not with the next
	 * exit of the guest's, after a tick of the host's at the latest.
	 */
	sampled = n * c->used_interval;
	executed = c->at_event * WORK_INSNS;
	if (irq && v.pmsidr & PMSIDR_EL1_ARCHINST)
		TEST_ASSERT(executed < sampled + 64 * c->used_interval,
			    "the last record at %lu instructions, the interrupt at %lu",
			    sampled, executed);
	spe_vm_free(&v);
}

static void test_ppi(const void *arg)
{
	vm_ppi = 23;
	test_fill((void *)(1L << 1 | 1));
}

/* Profiles until as many events as wanted have come. */
static void guest_events_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 rounds = 0, last = 0;

	guest_irq_setup(c);
	guest_program(c);
	c->start = c->ptr;
	c->cnt[0] = read_sysreg(cntvct_el0);
	guest_buffer(c->ptr, c->half ? c->ptr + c->half : c->limit);
	while (READ_ONCE(c->events) < c->wanted) {
		guest_profile(guest_array(), ARRAY_MASK, c->iterations, c->pmscr);
		/* Each round fills the buffer several times */
		__GUEST_ASSERT(READ_ONCE(c->events) > last || ++rounds < 20,
			       "no event in %lu rounds: PMBSR 0x%lx PMBPTR 0x%lx PMBLIMITR 0x%lx",
			       rounds, read_sysreg_s(SYS_PMBSR_EL1),
			       read_sysreg_s(SYS_PMBPTR_EL1), read_sysreg_s(SYS_PMBLIMITR_EL1));
		last = READ_ONCE(c->events);
	}
	guest_off();
	GUEST_DONE();
}

struct rearm_row {
	const char *name;
	const char *program;	/* see guest_rearm() */
	bool same;		/* the same memory each time, not two halves in turn */
};

/*
 * With S clear, E set and PMSCR_EL1 not 0 the pointers must be good: orders
 * that break this are wrong on hardware, too, and not here.
 */
static const struct rearm_row rearm_rows[] = {
	{ "PTR, LIMIT, PMBSR (Linux)",		"PLS" },
	{ "LIMIT, PTR, PMBSR",			"LPS" },
	{ "PTR, PMBSR, LIMIT unchanged",	"PSL", true },
	{ "PTR, PMBSR; LIMIT stays",		"PS", true },
	{ "clear E, PTR, LIMIT, PMBSR",		"EPLS" },
	{ "clear E, PMBSR, PTR, LIMIT",		"ESPL" },
	{ "clear E, PTR, PMBSR, LIMIT",		"EPSL" },
	{ "PMBSR after clear E, then all again", "ESPLS" },
	{ "clear PMSCR, PMBSR, PTR, LIMIT",	"CSPLc" },
	{ "clear PMSCR, PMBSR, LIMIT, PTR",	"CSLPc" },
	{ "clear PMSCR, LIMIT, PMBSR, PTR",	"CLSPc" },
	{ "clear PMSCR, PTR, LIMIT, PMBSR",	"CPLSc" },
	{ "clear PMSCR, LIMIT, PTR, PMBSR",	"CLPSc" },
	{ "clear E, then PMSCR, PMBSR, LIMIT, PTR", "ECSLPc" },
	{ "clear PMSCR, then E, PTR, PMBSR, LIMIT", "CEPSLc" },
	{ "PMSCR written back before PMBSR",	"CPLcS" },
	{ "PMBSR cleared twice",		"PLSS" },
};

static void test_rearm(const void *arg)
{
	const struct rearm_row *row = arg;
	struct spe_vm v = spe_vm_create(1, guest_events_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	u64 events = 0, size = 2 * SZ_4K, start;
	struct expect e;

	c->half = row->same ? 0 : size;
	c->limit = c->ptr + size;
	c->wanted = 6;
	c->interval = odd_interval(&v);
	c->iterations = 4 * size / 24 * c->interval / WORK_INSNS;
	c->sync_events = true;
	strcpy(c->program, row->program);

	/* The handler stops before it re-arms */
	while (spe_run_vcpu(v.vcpu[0])) {
		start = c->ptr + (!row->same && events & 1 ? size : 0);
		TEST_ASSERT_EQ(c->start, start);
		TEST_ASSERT_EQ(c->pmbsr & ~PMBSR_EL1_COLL, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
		TEST_ASSERT(c->pmbptr <= start + size && c->pmbptr > start + size - record_size(&v),
			    "event %lu: PMBPTR_EL1 0x%lx, buffer at 0x%lx", events, c->pmbptr,
			    start);
		TEST_ASSERT_EQ(c->pmblimitr, (start + size) | PMBLIMITR_EL1_E);

		c->cnt[1] = ~0ULL;
		e = expect_profile(&v, 0);
		e.any_pc = true;
		check_records(&v, 0, start, c->pmbptr, &e);
		memset(addr_gpa2hva(v.vm, start), CANARY, size);
		events++;
	}
	TEST_ASSERT(events >= c->wanted, "%lu events", events);
	TEST_ASSERT_EQ(c->events, events);
	check_canary(&v, 0, c->ptr + (row->same ? size : 2 * size));
	spe_vm_free(&v);
}

/* The SPU's lines of /proc/interrupts: the interrupt, and how many came on @cpu */
static u64 host_irqs(int cpu, int *irq)
{
	char *line = NULL, *p;
	int i, column = -1;
	size_t size = 0;
	u64 n = 0, val;
	FILE *f;

	f = fopen("/proc/interrupts", "r");
	TEST_ASSERT(f, "/proc/interrupts");

	/* CPUs that are offline have no column */
	TEST_ASSERT(getline(&line, &size, f) > 0, "/proc/interrupts");
	for (i = 0, p = strstr(line, "CPU"); p; i++, p = strstr(p + 1, "CPU")) {
		if (atoi(p + 3) == cpu)
			column = i;
	}
	while (getline(&line, &size, f) > 0) {
		p = strchr(line, ':');
		if (!p || !strstr(line, "arm_spe"))
			continue;
		if (irq)
			*irq = atoi(line);
		for (i = 0, p++, val = 0; i <= column; i++)
			val = strtoull(p, &p, 10);
		n += val;
	}
	free(line);
	fclose(f);
	return n;
}

/*
 * The host's interrupts around a profile of the guest's. A PPI has no counter of
 * those that no handler took, so perf counts them by the tracepoint.
 */
struct irq_count {
	int cpu, fd;
	u64 taken;
};

static struct irq_count irq_count_open(int cpu)
{
	struct perf_event_attr attr = {
		.type		= PERF_TYPE_TRACEPOINT,
		.size		= sizeof(attr),
		.disabled	= 1,
	};
	struct irq_count c = { .cpu = cpu };
	char filter[64];
	FILE *f;
	int irq = 0;

	c.taken = host_irqs(cpu, &irq);
	TEST_ASSERT(irq, "the SPU's interrupt is not in /proc/interrupts");

	f = fopen("/sys/kernel/tracing/events/irq/irq_handler_exit/id", "r");
	if (!f) {
		ksft_print_msg("no tracefs: interrupts without a handler are not counted\n");
		c.fd = -1;
		return c;
	}
	TEST_ASSERT(fscanf(f, "%llu", &attr.config) == 1, "irq_handler_exit/id");
	fclose(f);

	snprintf(filter, sizeof(filter), "irq == %d && ret == 0", irq);
	c.fd = syscall(__NR_perf_event_open, &attr, -1, cpu, -1, 0);
	TEST_ASSERT(c.fd >= 0, "perf_event_open");
	TEST_ASSERT(!ioctl(c.fd, PERF_EVENT_IOC_SET_FILTER, filter), "filter '%s'", filter);
	TEST_ASSERT(!ioctl(c.fd, PERF_EVENT_IOC_ENABLE, 0), "PERF_EVENT_IOC_ENABLE");
	return c;
}

/* None was without a handler, and no more came than the guest had @events. */
static void irq_count_check(struct irq_count *c, u64 events)
{
	u64 taken = host_irqs(c->cpu, NULL) - c->taken, unhandled = 0;

	if (c->fd >= 0) {
		TEST_ASSERT(read(c->fd, &unhandled, sizeof(unhandled)) == sizeof(unhandled),
			    "read");
		close(c->fd);
	}
	TEST_ASSERT(!unhandled, "no handler took %lu of %lu interrupts", unhandled, taken);
	TEST_ASSERT(taken <= events, "%lu interrupts of %lu events", taken, events);
}

/* --- The host's own profiles --------------------------------------------- */

#define AUX_PAGES	64

struct host_session {
	int fd;
	struct perf_event_mmap_page *mp;
	u8 *aux;
	size_t mp_len, aux_len;
};

/* perf's terms, as the driver lists them in its 'format' folder */
#define TERM_TS		BIT(0)
#define TERM_PA		BIT(1)
#define TERM_PCT	BIT(2)

/* @attr: what is not the same for all sessions */
static struct host_session host_session_open_attr(int cpu, struct perf_event_attr attr, int pages)
{
	struct host_session s = {
		.mp_len = 9 * getpagesize(),
		.aux_len = pages * getpagesize(),
	};

	attr.type = spe_spus[0].type;
	attr.size = sizeof(attr);
	attr.disabled = 1;
	s.fd = syscall(__NR_perf_event_open, &attr, -1, cpu, -1, 0);
	TEST_ASSERT(s.fd >= 0, "perf_event_open on CPU %d", cpu);
	s.mp = mmap(NULL, s.mp_len, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	TEST_ASSERT(s.mp != MAP_FAILED, "mmap of the event");
	s.mp->aux_offset = s.mp_len;
	s.mp->aux_size = s.aux_len;
	s.aux = mmap(NULL, s.aux_len, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, s.mp_len);
	TEST_ASSERT(s.aux != MAP_FAILED, "mmap of the AUX area");
	return s;
}

static struct host_session host_session_open(int cpu, u64 period)
{
	return host_session_open_attr(cpu, (struct perf_event_attr) {
		.config = TERM_TS,
		.sample_period = period,
	}, AUX_PAGES);
}

static void host_session_enable(struct host_session *s, bool on)
{
	TEST_ASSERT(!ioctl(s->fd, on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0),
		    "perf event %s", on ? "enable" : "disable");
}

/* What the host has recorded: of all, of the kernel, and of host_loop() */
struct host_records {
	u64 all, kernel;
	u64 loop, branches, loads;
	u64 addresses, pas;	/* loads and stores, and their physical addresses */
};

/*
 * Decodes what the host has recorded and frees the room. The guest is this
 * program at EL1: an address at EL1 that is not the kernel's is the guest's.
 */
static struct host_records host_session_read(struct host_session *s)
{
	u64 head = READ_ONCE(s->mp->aux_head), tail = s->mp->aux_tail;
	size_t i, len = head - tail;
	struct host_records h = {};
	struct spe_record r;
	u8 *data;
	int ret;

	asm volatile("dmb ish" : : : "memory");
	TEST_ASSERT(len <= s->aux_len, "AUX area: 0x%lx to 0x%lx", tail, head);
	data = malloc(s->aux_len);
	TEST_ASSERT(data, "malloc");
	for (i = 0; i < len; i++)
		data[i] = s->aux[(tail + i) % s->aux_len];
	for (i = 0; i < len; i += ret) {
		ret = spe_next_record(data + i, len - i, &r);
		TEST_ASSERT(ret >= 0, "the host's record at 0x%lx of 0x%lx does not decode", i,
			    len);
		if (!ret)
			break;
		h.all++;
		if (!r.has_pc)
			continue;
		TEST_ASSERT(r.el != 1 || r.pc & BIT_ULL(55),
			    "the host's record %lu has a PC of the guest's, 0x%lx", h.all, r.pc);
		TEST_ASSERT(r.el != 1 || !r.has_va || r.va & BIT_ULL(55) ||
			    r.va < BUF_BASE(0) || r.va >= BUF_BASE(MAX_VCPUS),
			    "the host's record %lu has an address of the guest's, 0x%lx", h.all,
			    r.va);
		h.kernel += !!(r.pc & BIT_ULL(55));
		if (r.pc < (u64)guest_loop || r.pc >= (u64)guest_loop_end)
			continue;
		h.loop++;
		h.branches += r.op == SPE_OP_BRANCH;
		h.loads += r.op == SPE_OP_LOAD;
		h.addresses += r.has_va;
		h.pas += r.has_pa;
	}
	free(data);
	WRITE_ONCE(s->mp->aux_tail, head);
	return h;
}

static u64 host_session_check(struct host_session *s)
{
	return host_session_read(s).all;
}

static void host_session_close(struct host_session *s)
{
	munmap(s->aux, s->aux_len);
	munmap(s->mp, s->mp_len);
	close(s->fd);
}

static int pin_to_spu(void)
{
	int cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &spe_spus[0].cpus)) {
			pin_self_to_cpu(cpu);
			return cpu;
		}
	}
	TEST_FAIL("the SPU has no CPU");
}

static void host_work(u64 n)
{
	while (n--)
		asm volatile("" : : "r" (n) : "memory");
}

/* The host still gets its own interrupts: a session fills its buffer. */
static void check_host_line(int cpu)
{
	struct host_session s = host_session_open(cpu, 1024);
	u64 before = host_irqs(cpu, NULL), n = 0;
	int i;

	host_session_enable(&s, true);
	for (i = 0; i < 2000 && host_irqs(cpu, NULL) < before + 2; i++) {
		host_work(1000000);
		n += host_session_check(&s);
	}
	host_session_enable(&s, false);
	n += host_session_check(&s);
	TEST_ASSERT(host_irqs(cpu, NULL) >= before + 2, "the host gets no interrupts of the SPU");
	TEST_ASSERT(n, "the host has no records");
	host_session_close(&s);
}

/* Several vCPUs that take interrupts, beside a session of the host's on one of the CPUs */
static void test_vcpus_events(const void *arg)
{
	struct vcpu_thread t[MAX_VCPUS] = {};
	struct spe_vm v = spe_vm_create(spe_opt.vcpus, guest_events_code);
	struct host_session s;
	int i;

	for (i = 0; i < spe_opt.vcpus; i++) {
		struct guest_ctl *c = host_ctl(&v, i);

		c->limit = c->ptr + SZ_4K;
		c->wanted = 50;
		c->interval = odd_interval(&v);
		c->iterations = SZ_4K / 24 * c->interval / WORK_INSNS;
		strcpy(c->program, "PS");
		t[i].vcpu = v.vcpu[i];
	}
	if (arg) {
		for (i = 0; !CPU_ISSET(i, &spe_spus[0].cpus); i++)
			;
		s = host_session_open(i, 1024);
		host_session_enable(&s, true);
	}
	for (i = 0; i < spe_opt.vcpus; i++)
		kvm_pthread_create(&t[i].thread, NULL, vcpu_thread_fn, &t[i]);
	for (i = 0; i < spe_opt.vcpus; i++)
		kvm_pthread_join(t[i].thread, NULL);
	if (arg) {
		host_session_enable(&s, false);
		host_session_check(&s);
		host_session_close(&s);
	}
	for (i = 0; i < spe_opt.vcpus; i++) {
		struct guest_ctl *c = host_ctl(&v, i);

		TEST_ASSERT(c->events >= c->wanted, "vCPU %d: %lu events", i, c->events);
		TEST_ASSERT(c->spurious <= c->events / 10,
			    "vCPU %d: %lu of %lu interrupts were spurious", i, c->spurious,
			    c->events);
		TEST_ASSERT_EQ(c->pmbsr & ~PMBSR_EL1_COLL, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
		check_canary(&v, i, c->limit);
	}
	spe_vm_free(&v);
}

/*
 * As many events as asked for, one record each: no more interrupts than that, all of
 * them handled, and the host's line stays enabled.
 */
static void test_many_events(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_events_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	int cpu = pin_to_spu();
	struct irq_count irqs = irq_count_open(cpu);
	u64 events;

	c->ptr = BUF_BASE(0) + SZ_4K - record_size(&v);
	c->limit = BUF_BASE(0) + SZ_4K;
	c->wanted = spe_opt.events;
	c->interval = odd_interval(&v);
	c->iterations = 64 * c->interval / WORK_INSNS;
	strcpy(c->program, "PS");
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	TEST_ASSERT(c->events >= spe_opt.events, "%lu events", c->events);
	TEST_ASSERT(c->spurious <= c->events / 100, "%lu of %lu interrupts were spurious",
		    c->spurious, c->events);
	TEST_ASSERT_EQ(c->pmbsr & ~PMBSR_EL1_COLL, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
	events = c->events;
	spe_vm_free(&v);

	irq_count_check(&irqs, events);
	check_host_line(cpu);
}

/* A session of the host's that runs while the guest profiles on the same CPU */
static void test_host_session(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_profile_code);
	struct profile_row row = profile_rows[0];
	struct host_session s;
	int cpu = pin_to_spu();
	u64 n;

	setup_profile(&v, &row, 0);
	s = host_session_open_attr(cpu, (struct perf_event_attr) {
		.config = (long)arg,
		.sample_period = 1024,
	}, AUX_PAGES);
	host_session_enable(&s, true);
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	host_work(200000);
	host_session_enable(&s, false);
	n = host_session_check(&s);
	TEST_ASSERT(n, "the host has no records");
	host_session_close(&s);
	check_profile(&v, &row, 0);
	spe_vm_free(&v);
}

/* The same until the guest has had many events */
static void test_host_session_events(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_events_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	int cpu = pin_to_spu();
	struct irq_count irqs = irq_count_open(cpu);
	struct host_session s;
	u64 n = 0;

	c->limit = c->ptr + SZ_4K;
	c->wanted = 100;
	c->interval = odd_interval(&v);
	c->iterations = SZ_4K / 24 * c->interval / WORK_INSNS;
	c->sync_events = true;
	strcpy(c->program, "PS");
	s = host_session_open(cpu, 1024);
	host_session_enable(&s, true);
	while (spe_run_vcpu(v.vcpu[0])) {
		struct expect e;

		TEST_ASSERT_EQ(c->pmbsr & ~PMBSR_EL1_COLL, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
		c->cnt[1] = ~0ULL;
		e = expect_profile(&v, 0);
		e.any_pc = true;
		check_records(&v, 0, c->ptr, c->pmbptr, &e);
		n += host_session_check(&s);
		/* Every other time the session stops and starts in between */
		if (c->events & 1) {
			host_session_enable(&s, false);
			host_work(1000);
			if (c->events & 2)
				host_session_enable(&s, true);
		} else {
			host_session_enable(&s, true);
		}
	}
	host_session_enable(&s, false);
	n += host_session_check(&s);
	TEST_ASSERT(n, "the host has no records");
	irq_count_check(&irqs, ~0UL);
	host_session_close(&s);
	spe_vm_free(&v);
}

/* Holds values in all sampling registers over a return to the host. */
static void guest_hold_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 pmsidr = read_sysreg_s(SYS_PMSIDR_EL1);
	int i;

	for (i = 0; i < 4; i++) {
		u64 v = 0x5a0 + i;

		/* PMSCR_EL1 enables sampling, but there is no buffer */
		write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
		write_sysreg_s(v, SYS_PMSICR_EL1);
		write_sysreg_s(v << 8, SYS_PMSIRR_EL1);
		write_sysreg_s(7, SYS_PMSFCR_EL1);
		write_sysreg_s(0xa8, SYS_PMSEVFR_EL1);
		if (pmsidr & PMSIDR_EL1_FnE)
			write_sysreg_s(0x28, SYS_PMSNEVFR_EL1);
		write_sysreg_s(v, SYS_PMSLATFR_EL1);
		if (pmsidr & PMSIDR_EL1_FDS)
			write_sysreg_s(v, SYS_PMSDSFR_EL1);
		write_sysreg_s(c->ptr + i * 2048, SYS_PMBPTR_EL1);
		isb();

		GUEST_SYNC(i);

		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSCR_EL1), c->pmscr);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSICR_EL1), v);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSIRR_EL1), v << 8);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSFCR_EL1), 7);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSEVFR_EL1) & 0xa8, 0xa8);
		if (pmsidr & PMSIDR_EL1_FnE)
			GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSNEVFR_EL1) & 0x28, 0x28);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSLATFR_EL1), v);
		if (pmsidr & PMSIDR_EL1_FDS)
			GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSDSFR_EL1), v);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), c->ptr + i * 2048);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), 0);
	}
	GUEST_DONE();
}

/* A session between two entries, and one that stays, change nothing for the guest */
static void test_host_between(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_hold_code);
	struct host_session s;
	int cpu = pin_to_spu(), i = 0;
	u64 n = 0;

	s = host_session_open(cpu, 4096);
	while (spe_run_vcpu(v.vcpu[0])) {
		host_session_enable(&s, true);
		host_work(100000);
		n += host_session_check(&s);
		if (++i & 1)
			host_session_enable(&s, false);
	}
	host_session_enable(&s, false);
	n += host_session_check(&s);
	TEST_ASSERT(n, "the host has no records");
	host_session_close(&s);
	spe_vm_free(&v);
}

/* Two VMs take turns on one CPU: neither sees the other's values or records */
static void test_two_vms(const void *arg)
{
	struct spe_vm v[2] = {
		spe_vm_create(1, guest_events_code), spe_vm_create(1, guest_hold_code),
	};
	struct guest_ctl *c = host_ctl(&v[0], 0);
	bool more = true, more_hold = true;

	pin_to_spu();
	c->limit = c->ptr + SZ_4K;
	c->wanted = 20;
	c->interval = odd_interval(&v[0]);
	c->iterations = SZ_4K / 24 * c->interval / WORK_INSNS;
	c->sync_events = true;
	strcpy(c->program, "PS");
	while (more) {
		more = spe_run_vcpu(v[0].vcpu[0]);
		if (more_hold)
			more_hold = spe_run_vcpu(v[1].vcpu[0]);
		if (more) {
			struct expect e;

			c->cnt[1] = ~0ULL;
			e = expect_profile(&v[0], 0);
			e.any_pc = true;
			check_records(&v[0], 0, c->ptr, c->pmbptr, &e);
		}
	}
	check_canary(&v[0], 0, c->limit);
	check_canary(&v[1], 0, BUF_BASE(0));
	spe_vm_free(&v[0]);
	spe_vm_free(&v[1]);
}

/* From another CPU, sessions start and stop while the vCPU stays in KVM_RUN */
static void test_host_toggled(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_profile_code);
	struct vcpu_thread t = { .vcpu = v.vcpu[0] };
	struct profile_row row = profile_rows[0];
	cpu_set_t others = spe_spus[0].cpus;
	int cpu = pin_to_spu(), toggles = 0;
	struct host_session s;
	u64 n = 0;

	CPU_CLR(cpu, &others);
	if (!CPU_COUNT(&others))
		spe_skip("the SPU has one CPU only");

	setup_profile(&v, &row, 0);
	/* There is time for it, and the host's period in its place would be seen */
	host_ctl(&v, 0)->interval = 256 * SZ_1K;
	s = host_session_open(cpu, 1024);
	kvm_pthread_create(&t.thread, NULL, vcpu_thread_fn, &t);
	__pin_task_to_cpu(t.thread, cpu);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(others), &others), "sched_setaffinity");
	while (!READ_ONCE(t.done)) {
		host_session_enable(&s, true);
		usleep(1000);
		host_session_enable(&s, false);
		n += host_session_check(&s);
		usleep(1000);
		toggles++;
	}
	kvm_pthread_join(t.thread, NULL);
	TEST_ASSERT(toggles > 2 && n, "%d sessions, %lu records", toggles, n);
	host_session_close(&s);
	check_profile(&v, &row, 0);
	spe_vm_free(&v);
}

/* Waits until the session's buffer is full: as nobody empties it, perf stops the session */
static void host_session_fill(struct host_session *s)
{
	u64 last = ~0ULL;
	int i;

	for (i = 0; i < 1000 && last != READ_ONCE(s->mp->aux_head); i++) {
		last = READ_ONCE(s->mp->aux_head);
		host_work(2000000);
	}
	TEST_ASSERT(i < 1000 && last, "the host's buffer does not fill");
}

/* A session that perf has stopped stays so, whatever the guests do with the SPU */
static void test_host_stopped(const void *arg)
{
	struct spe_vm v[3] = {
		spe_vm_create(1, guest_events_code), spe_vm_create(1, guest_hold_code),
		spe_vm_create(1, guest_sync_code),
	};
	struct guest_ctl *c = host_ctl(&v[0], 0);
	int cpu = pin_to_spu();
	struct irq_count irqs = irq_count_open(cpu);
	bool more = true, more_hold = true;
	struct host_session s;
	void *aux;
	u64 head;

	s = host_session_open_attr(cpu, (struct perf_event_attr) {
		.config = TERM_TS,
		.sample_period = 1024,
	}, 4);
	aux = malloc(s.aux_len);
	TEST_ASSERT(aux, "malloc");

	c->limit = c->ptr + SZ_4K;
	c->wanted = 20;
	c->interval = odd_interval(&v[0]);
	c->iterations = SZ_4K / 24 * c->interval / WORK_INSNS;
	c->sync_events = true;
	strcpy(c->program, "PS");

	/* KVM sees it enabled, and no more */
	host_session_enable(&s, true);
	TEST_ASSERT(spe_run_vcpu(v[0].vcpu[0]) && spe_run_vcpu(v[1].vcpu[0]), "a guest has ended");
	host_session_fill(&s);
	head = s.mp->aux_head;
	memcpy(aux, s.aux, s.aux_len);

	while (more || more_hold) {
		/* At first the guest that does not touch the SPU: nothing is read from it */
		TEST_ASSERT(spe_run_vcpu(v[2].vcpu[0]), "a guest has ended");
		if (more)
			more = spe_run_vcpu(v[0].vcpu[0]);
		if (more_hold)
			more_hold = spe_run_vcpu(v[1].vcpu[0]);
		host_work(100000);
	}
	TEST_ASSERT_EQ(s.mp->aux_head, head);
	TEST_ASSERT(!memcmp(aux, s.aux, s.aux_len), "the host's buffer was written");
	irq_count_check(&irqs, ~0UL);

	/* It can be started again */
	host_session_enable(&s, false);
	host_session_check(&s);
	host_session_enable(&s, true);
	host_work(200000);
	host_session_enable(&s, false);
	TEST_ASSERT(host_session_check(&s), "the host has no records");
	host_session_close(&s);
	free(aux);
	spe_vm_free(&v[0]);
	spe_vm_free(&v[1]);
	spe_vm_free(&v[2]);
}

/* --- What the switch owes to a session of the host's --------------------- */

#define HOST_PERIOD	1024
#define HOST_PAGES	4096	/* room for all records: nobody empties it meanwhile */
#define HOST_LOOPS	150000

/* The guest's loop, at EL0 of the host: the records that it leaves are known */
static void host_loop(void)
{
	static u64 data[512];

	guest_loop((u64)data, ARRAY_SIZE(data) - 1, HOST_LOOPS);
}

/*
 * Runs the host's loop under a session, alone and after the guest has run. The
 * session starts with registers of its own: it must keep them.
 */
static struct host_records host_session_around(struct spe_vm *v, struct perf_event_attr attr)
{
	struct host_records before, after;
	struct host_session s;
	int cpu = pin_to_spu();

	attr.sample_period = HOST_PERIOD;
	s = host_session_open_attr(cpu, attr, HOST_PAGES);
	host_session_enable(&s, true);
	host_loop();
	host_session_enable(&s, false);
	before = host_session_read(&s);
	/* With a filter on events, the branches may be filtered out */
	TEST_ASSERT(before.loop > 200 && before.loads > 50 &&
		    (before.branches > 50 || attr.config1),
		    "%lu records without the guest, %lu loads, %lu branches", before.loop,
		    before.loads, before.branches);

	host_session_enable(&s, true);
	while (spe_run_vcpu(v->vcpu[0]))
		;
	host_loop();
	host_session_enable(&s, false);
	after = host_session_read(&s);
	host_session_close(&s);

	TEST_ASSERT(after.loop * 5 > before.loop * 4 && after.loop * 4 < before.loop * 5,
		    "%lu records after the guest, %lu without", after.loop, before.loop);
	TEST_ASSERT(after.loads * 3 > before.loads * 2 && after.loads * 2 < before.loads * 3,
		    "%lu loads after the guest, %lu without", after.loads, before.loads);
	TEST_ASSERT(after.branches * 3 >= before.branches * 2 &&
		    after.branches * 2 <= before.branches * 3,
		    "%lu branches after the guest, %lu without", after.branches,
		    before.branches);
	return after;
}

/* Values in the sampling registers that leave nothing of another's profile. */
static void guest_spoil(struct guest_ctl *c)
{
	u64 pmsidr = read_sysreg_s(SYS_PMSIDR_EL1);

	write_sysreg_s(0xffffffff, SYS_PMSICR_EL1);
	write_sysreg_s(0xffffff00, SYS_PMSIRR_EL1);
	write_sysreg_s(PMSFCR_EL1_FE | PMSFCR_EL1_FT | PMSFCR_EL1_FL | PMSFCR_EL1_ST,
		       SYS_PMSFCR_EL1);
	/* With all events there are, after 4095 cycles, without any event, from nowhere */
	write_sysreg_s(~0ULL, SYS_PMSEVFR_EL1);
	write_sysreg_s(0xfff, SYS_PMSLATFR_EL1);
	if (pmsidr & PMSIDR_EL1_FnE)
		write_sysreg_s(~0ULL, SYS_PMSNEVFR_EL1);
	if (pmsidr & PMSIDR_EL1_FDS)
		write_sysreg_s(0, SYS_PMSDSFR_EL1);
	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
}

/* Many exits that never leave the kernel; @arg: with sampling registers in use */
static void guest_traps_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 i;

	if (c->arg)
		guest_spoil(c);
	for (i = 0; i < c->iterations; i++)
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), 0);
	GUEST_DONE();
}

/* On nVHE, where EL2 is not sampled, there is less of the host in a trap */
#define TRAPS			10000
#define TRAP_INSNS		500

/* The host's session sees what the host does for a guest that only traps */
static void test_host_traps(const void *arg)
{
	u64 traps = TRAPS / 100, most = HOST_PAGES * getpagesize() / 64;
	struct host_records h;
	int i;

	/* A kernel that looks for its mistakes executes much more for each: first a few */
	for (i = 0; i < 2; i++) {
		struct spe_vm v = spe_vm_create(1, guest_traps_code);
		struct guest_ctl *c = host_ctl(&v, 0);

		c->arg = !!arg;
		c->iterations = traps;
		h = host_session_around(&v, (struct perf_event_attr) { .config = TERM_TS });
		TEST_ASSERT(h.kernel > traps * TRAP_INSNS / HOST_PERIOD,
			    "%lu records of the kernel in %lu traps", h.kernel, traps);
		traps = min_t(u64, TRAPS, most / 4 / (h.kernel / traps + 1));
		spe_vm_free(&v);
	}
}

/* The guest enables sampling, but has no buffer, or one that is stopped. */
static void guest_unready_code(void)
{
	struct guest_ctl *c = guest_ctl();
	int i;

	for (i = 0; i < 3; i++) {
		u64 s = i ? PMBSR_EL1_S : 0, e = i < 2 ? 0 : PMBLIMITR_EL1_E;

		guest_program(c);
		write_sysreg_s(c->ptr, SYS_PMBPTR_EL1);
		write_sysreg_s(s, SYS_PMBSR_EL1);
		write_sysreg_s(c->limit | e, SYS_PMBLIMITR_EL1);
		write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
		isb();
		guest_loop(guest_array(), ARRAY_MASK, 20 * HOST_PERIOD / WORK_INSNS);
		/* On from the host, and from its interrupts */
		GUEST_SYNC(i);
		guest_loop(guest_array(), ARRAY_MASK, c->iterations);
		guest_results(c);
		GUEST_ASSERT_EQ(c->pmbptr, c->ptr);
		GUEST_ASSERT_EQ(c->pmbsr, s);
		guest_off();
	}
	GUEST_DONE();
}

static void test_host_unready(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_unready_code);
	int faults = spe_klog_count("Unexpected buffer fault");

	/* Longer than the host's tick */
	host_ctl(&v, 0)->iterations = 1000000;
	host_session_around(&v, (struct perf_event_attr) { .config = TERM_TS });
	/* The host's buffer, enabled in the guest's address space */
	TEST_ASSERT_EQ(spe_klog_count("Unexpected buffer fault"), faults);
	check_canary(&v, 0, BUF_BASE(0));
	spe_vm_free(&v);
}

/* A guest that has sampling registers of its own, and goes to the host with them */
static void guest_spoil_code(void)
{
	struct guest_ctl *c = guest_ctl();
	int i;

	for (i = 0; i < 3; i++) {
		guest_spoil(c);
		GUEST_SYNC(i);
		guest_loop(guest_array(), ARRAY_MASK, 1000);
	}
	GUEST_DONE();
}

/* All of the host's filters are in use if @arg is set, and let loads and stores pass */
static void test_host_filters(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_spoil_code);
	struct perf_event_attr attr = { .config = TERM_TS };
	u64 dfr0 = vcpu_get_reg(v.vcpu[0], SPE_REG(ID_AA64DFR0_EL1));

	if (arg) {
		/* L1D cache access, a cycle of latency, not mispredicted, not from 63 */
		if (FIELD_GET(ID_AA64DFR0_EL1_PMSVer, dfr0) >= ID_AA64DFR0_EL1_PMSVer_V1P4)
			attr.config1 = BIT(2);
		attr.config2 = 1;
		if (v.pmsidr & PMSIDR_EL1_FnE)
			attr.config3 = BIT(7);
		if (v.pmsidr & PMSIDR_EL1_FDS)
			attr.config4 = BIT_ULL(63);
	}
	host_session_around(&v, attr);
	spe_vm_free(&v);
}

/* The guest has PMSCR_EL2 with PA=0 and PCT=0, the host what it asks for */
static void test_host_pa(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_spoil_code);
	struct host_records h;

	h = host_session_around(&v, (struct perf_event_attr) {
		.config = TERM_TS | TERM_PA | TERM_PCT,
	});
	TEST_ASSERT(h.addresses > 100 && h.pas == h.addresses,
		    "%lu loads and stores, %lu physical addresses", h.addresses, h.pas);
	spe_vm_free(&v);
}

/*
 * A vCPU that leaves with PMSCR_EL1.E1SPE set; then, on this CPU and under a
 * session of the host's, another VM's, which has no SPE.
 */
static void guest_plain_code(void)
{
	guest_loop(guest_array(), ARRAY_MASK, guest_ctl()->iterations);
	GUEST_DONE();
}

static void test_host_other_vm(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_hold_code);
	struct spe_vm plain = spe_vm_create_on(0, 1, guest_plain_code, 0, 0);

	pin_to_spu();
	host_ctl(&plain, 0)->iterations = 200 * HOST_PERIOD / WORK_INSNS;
	TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "no sync");
	TEST_ASSERT(vcpu_get_reg(v.vcpu[0], SPE_REG(PMSCR_EL1)) & PMSCR_EL1_E1SPE,
		    "the guest does not sample");
	/* host_session_read() looks for addresses of the guest's */
	host_session_around(&plain, (struct perf_event_attr) { .config = TERM_TS });
	while (spe_run_vcpu(v.vcpu[0]))
		;
	spe_vm_free(&plain);
	spe_vm_free(&v);
}

/* --- Guests: a buffer that is programmed in unusual ways ----------------- */

/* Bad pointers with E=1 are nobody's business while PMSCR_EL1 is 0. */
static void guest_intermediate_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 bad[][2] = {
		{ c->limit, c->limit },			/* no room */
		{ c->limit + SZ_64K, c->limit },	/* PTR above LIMIT */
		{ c->ptr + 1, c->limit },		/* misaligned */
		{ c->ptr | BIT(60), c->limit },		/* top bytes differ */
		{ c->ptr, BIT(46) },			/* larger than the maximum */
		{ 0, 0 },
		{ BIT(45), BIT(45) + SZ_64K },		/* not mapped */
		{ HOLE_BASE, HOLE_BASE + SZ_64K },
	};
	int i;

	guest_irq_setup(c);
	guest_program(c);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		/* E is set before, between and after */
		write_sysreg_s(bad[i][1] | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
		isb();
		write_sysreg_s(bad[i][0], SYS_PMBPTR_EL1);
		isb();
		write_sysreg_s(0, SYS_PMBSR_EL1);
		isb();
		guest_loop(guest_array(), ARRAY_MASK, 100);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), 0);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBLIMITR_EL1), bad[i][1] | PMBLIMITR_EL1_E);
	}
	write_sysreg_s(c->limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	write_sysreg_s(c->ptr, SYS_PMBPTR_EL1);
	isb();

	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS), c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

/* Reads PMBPTR_EL1 while it profiles. */
static void guest_poll_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 ptr, last = c->ptr, moves = 0;
	int i;

	guest_irq_setup(c);
	guest_program(c);
	c->cnt[0] = read_sysreg(cntvct_el0);
	guest_buffer(c->ptr, c->limit);
	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
	for (i = 0; i < WANTED_RECORDS; i++) {
		guest_loop(guest_array(), ARRAY_MASK, 2 * c->used_interval / WORK_INSNS);
		ptr = read_sysreg_s(SYS_PMBPTR_EL1);
		__GUEST_ASSERT(ptr >= last && ptr < c->limit, "0x%lx after 0x%lx", ptr, last);
		moves += ptr > last;
		last = ptr;
	}
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	guest_drain();
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	__GUEST_ASSERT(moves > WANTED_RECORDS / 2, "PMBPTR_EL1 moved %lu times", moves);
	guest_off();
	GUEST_DONE();
}

/* Writes PMBPTR_EL1 and PMBLIMITR_EL1 while it profiles, PMBSR_EL1.S being 0. */
static void guest_live_code(void)
{
	struct guest_ctl *c = guest_ctl();
	int i;

	guest_irq_setup(c);
	guest_program(c);
	c->cnt[0] = read_sysreg(cntvct_el0);
	guest_buffer(c->ptr, c->limit);
	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
	for (i = 0; i < 20; i++) {
		guest_loop(guest_array(), ARRAY_MASK, 2 * c->used_interval / WORK_INSNS);
		guest_drain();
		write_sysreg_s(c->ptr, SYS_PMBPTR_EL1);
		isb();
		GUEST_ASSERT(read_sysreg_s(SYS_PMBPTR_EL1) - c->ptr < SZ_4K);
		write_sysreg_s((c->limit + (i & 1) * SZ_64K) | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
		isb();
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1) & ~PMBSR_EL1_COLL, 0);
	}
	write_sysreg_s(c->limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	isb();
	guest_loop(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS));
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	guest_drain();
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

/* Enables and disables for each piece of work, as the driver's task mode does. */
static void guest_toggle_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 ptr = c->ptr;
	int i;

	guest_irq_setup(c);
	guest_program(c);
	c->cnt[0] = read_sysreg(cntvct_el0);
	for (i = 0; i < WANTED_RECORDS / 4; i++) {
		write_sysreg_s(ptr, SYS_PMBPTR_EL1);
		write_sysreg_s(c->limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
		isb();
		guest_profile(guest_array(), ARRAY_MASK,
			      4 * c->used_interval / WORK_INSNS, c->pmscr);
		write_sysreg_s(0, SYS_PMBLIMITR_EL1);
		isb();
		ptr = read_sysreg_s(SYS_PMBPTR_EL1);
		GUEST_ASSERT(ptr >= c->ptr && ptr < c->limit);
	}
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	c->pmblimitr |= c->limit | PMBLIMITR_EL1_E;
	GUEST_DONE();
}

static void test_quiet(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, (void *)arg);
	struct guest_ctl *c = host_ctl(&v, 0);
	struct expect e;
	u64 n;

	c->interval = odd_interval(&v);
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	check_quiet(c);
	e = expect_profile(&v, 0);
	e.any_pc = true;
	n = check_records(&v, 0, c->ptr, c->pmbptr, &e);
	TEST_ASSERT(n >= WANTED_RECORDS / 2, "%lu records", n);
	check_canary(&v, 0, c->limit);
	spe_vm_free(&v);
}

/* Discard mode: no pointer is looked at, nothing is written, no event. */
static void guest_discard_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	guest_program(c);
	write_sysreg_s(c->ptr, SYS_PMBPTR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	write_sysreg_s(c->limit | PMBLIMITR_EL1_E |
		       FIELD_PREP(PMBLIMITR_EL1_FM, PMBLIMITR_EL1_FM_DISCARD), SYS_PMBLIMITR_EL1);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS), c->pmscr);
	guest_results(c);
	GUEST_ASSERT(!gic_irq_get_pending(SPE_PPI));

	/* From there to a real buffer */
	GUEST_SYNC(0);
	guest_off();
	c->cnt[0] = read_sysreg(cntvct_el0);
	guest_buffer(c->ptr, c->limit);
	guest_profile(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS), c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

static void test_discard(const void *arg)
{
	static const u64 pointers[][2] = {
		{ 0, 0 }, { 0x1235, 0 }, { BIT_ULL(60) + 3, BIT_ULL(40) }, { SZ_1G, SZ_1G + SZ_4K },
	};
	s64 pinned;
	u64 dfr0;
	int i;

	for (i = 0; i < ARRAY_SIZE(pointers); i++) {
		struct spe_vm v = spe_vm_create(1, guest_discard_code);
		struct guest_ctl *c = host_ctl(&v, 0);

		dfr0 = vcpu_get_reg(v.vcpu[0], SPE_REG(ID_AA64DFR0_EL1));
		if (FIELD_GET(ID_AA64DFR0_EL1_PMSVer, dfr0) < ID_AA64DFR0_EL1_PMSVer_V1P2)
			spe_skip("discard mode needs SPEv1p2");

		c->ptr = pointers[i][0];
		c->limit = pointers[i][1];
		c->interval = odd_interval(&v);
		pinned = spe_pins_outstanding();
		TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "no sync");
		TEST_ASSERT(!(c->pmbsr & ~PMBSR_EL1_COLL), "PMBSR_EL1 0x%lx", c->pmbsr);
		TEST_ASSERT_EQ(c->pmbptr, c->ptr);
		TEST_ASSERT_EQ(c->pmblimitr, c->limit | PMBLIMITR_EL1_E |
			       FIELD_PREP(PMBLIMITR_EL1_FM, PMBLIMITR_EL1_FM_DISCARD));
		check_canary(&v, 0, BUF_BASE(0));
		TEST_ASSERT_EQ(spe_pins_outstanding(), pinned);

		c->ptr = BUF_BASE(0);
		c->limit = BUF_BASE(0) + SZ_256K;
		TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
		check_quiet(c);
		struct expect e = expect_profile(&v, 0);

		TEST_ASSERT(check_records(&v, 0, c->ptr, c->pmbptr, &e) > WANTED_RECORDS / 2,
			    "no profile after discard mode");
		spe_vm_free(&v);
	}
}

/* PMBSR_EL1.S as software writes it is the interrupt, too. */
static void guest_soft_s_code(void)
{
	struct guest_ctl *c = guest_ctl();
	int i;

	guest_irq_setup(c);
	guest_program(c);
	for (i = 0; i < 10; i++) {
		u64 val = PMBSR_EL1_S | (i & 1 ? PMBSR_EL1_DL | 0x21 : 0);

		/* With the buffer disabled, and enabled */
		write_sysreg_s(i & 2 ? c->limit | PMBLIMITR_EL1_E : 0, SYS_PMBLIMITR_EL1);
		local_irq_disable();
		write_sysreg_s(val, SYS_PMBSR_EL1);
		isb();
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), val);
		GUEST_ASSERT(gic_irq_get_pending(SPE_PPI));
		GUEST_ASSERT_EQ(c->events, i);
		local_irq_enable();
		isb();
		guest_loop(guest_array(), ARRAY_MASK, 1000);
		GUEST_ASSERT_EQ(c->events, i + 1);
		GUEST_ASSERT_EQ(c->pmbsr, val);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), 0);
		GUEST_ASSERT(!gic_irq_get_pending(SPE_PPI));
	}
	guest_off();
	GUEST_DONE();
}

static void test_soft_s(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_soft_s_code);

	strcpy(host_ctl(&v, 0)->program, "S");
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	TEST_ASSERT_EQ(host_ctl(&v, 0)->spurious, 0);
	spe_vm_free(&v);
}

/* --- Guests: misprogramming, by the rows of the contract's table --------- */

enum bad {
	BAD_NONE,
	/* 1: larger than the maximum */
	BAD_SIZE, BAD_SIZE_HUGE, BAD_SCATTERED,
	/* 2: no room */
	BAD_EMPTY, BAD_ABOVE, BAD_ABOVE_FAR, BAD_SHORT, BAD_TOP_PTR, BAD_TOP_LIMIT,
	/* 3: misaligned */
	BAD_ALIGN, BAD_ALIGN_HALF,
	/* 4: stage 1 */
	BAD_S1_FIRST, BAD_S1, BAD_S1_L2, BAD_S1_RO_FIRST, BAD_S1_RO, BAD_S1_AF_FIRST, BAD_S1_AF,
	BAD_S1_WIDE, BAD_S1_TOP,
	/* 5: not RAM, or not to be pinned */
	BAD_HOLE_FIRST, BAD_HOLE, BAD_RO_SLOT, BAD_MPROTECT, BAD_MUNMAP, BAD_SECRET, BAD_POISON,
	BAD_DEVICE, BAD_DEVICE_USED,
	/* 6: tables outside RAM */
	BAD_TABLE_FIRST, BAD_TABLE, BAD_TABLE_L2,
};

struct bad_row {
	const char *name;
	enum bad bad;
	u8 row;
	bool modes;		/* also with other granules */
};

static const struct bad_row bad_rows[] = {
	{ "1: larger than the maximum by 4 KiB", BAD_SIZE, 1 },
	{ "1: larger than any maximum",		BAD_SIZE_HUGE, 1 },
	{ "1: scattered over more host pages",	BAD_SCATTERED, 1 },
	{ "2: PTR at LIMIT",			BAD_EMPTY, 2 },
	{ "2: PTR above LIMIT",			BAD_ABOVE, 2 },
	{ "2: PTR far above LIMIT",		BAD_ABOVE_FAR, 2 },
	{ "2: no room for a record",		BAD_SHORT, 2 },
	{ "2: top byte of PTR",			BAD_TOP_PTR, 2 },
	{ "2: top byte of LIMIT",		BAD_TOP_LIMIT, 2 },
	{ "3: PTR off by one",			BAD_ALIGN, 3 },
	{ "3: PTR off by half the alignment",	BAD_ALIGN_HALF, 3 },
	{ "4: first page not mapped",		BAD_S1_FIRST, 4 },
	{ "4: a page not mapped",		BAD_S1, 4, true },
	{ "4: a level 2 block not mapped",	BAD_S1_L2, 4 },
	{ "4: first page read-only",		BAD_S1_RO_FIRST, 4 },
	{ "4: a page read-only",		BAD_S1_RO, 4 },
	{ "4: first page without Access flag",	BAD_S1_AF_FIRST, 4 },
	{ "4: a page without Access flag",	BAD_S1_AF, 4, true },
	{ "4: PTR and LIMIT wider than TCR.T0SZ", BAD_S1_WIDE, 4 },
	{ "4: PTR and LIMIT with a tag, TCR.TBI0 0", BAD_S1_TOP, 4 },
	{ "5: first page without memslot",	BAD_HOLE_FIRST, 5 },
	{ "5: a page without memslot",		BAD_HOLE, 5, true },
	{ "5: a page in a read-only memslot",	BAD_RO_SLOT, 5 },
	{ "5: a page that the host may only read", BAD_MPROTECT, 5 },
	{ "5: a page that the host has unmapped", BAD_MUNMAP, 5 },
	{ "5: a page that cannot be pinned",	BAD_SECRET, 5 },
	{ "5: a poisoned page",			BAD_POISON, 5 },
	{ "5: device memory",			BAD_DEVICE, 5 },
	{ "5: device memory that the guest uses", BAD_DEVICE_USED, 5 },
	{ "6: last table outside RAM",		BAD_TABLE_FIRST, 6, true },
	{ "6: last table outside RAM, later",	BAD_TABLE, 6 },
	{ "6: level 2 table outside RAM",	BAD_TABLE_L2, 6 },
};

/*
 * Enables a bad buffer with interrupts masked, sees the event, takes the
 * interrupt, and then profiles with a good one.
 */
static void guest_bad_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	local_irq_disable();
	guest_program(c);
	if (c->arg)
		READ_ONCE(*(u32 *)c->arg);

	write_sysreg_s(c->pmbsr_held, SYS_PMBSR_EL1);
	write_sysreg_s(c->ptr, SYS_PMBPTR_EL1);
	write_sysreg_s(c->limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	isb();
	c->val[0] = read_sysreg_s(SYS_PMBSR_EL1);

	/* Profiling becomes enabled */
	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
	c->val[1] = read_sysreg_s(SYS_PMBSR_EL1);
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();

	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, c->iterations, c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	c->val[2] = c->pmbsr;
	c->val[3] = c->pmbptr;
	c->val[4] = c->pmblimitr;
	c->val[5] = gic_irq_get_pending(SPE_PPI);
	c->val[6] = c->events;
	local_irq_enable();
	isb();
	guest_loop(guest_array(), ARRAY_MASK, 1000);
	c->val[7] = c->events;
	c->val[8] = gic_irq_get_pending(SPE_PPI);
	guest_off();

	/* The host has repaired what it broke, and set good pointers */
	GUEST_SYNC(0);
	asm volatile("dsb ishst; tlbi vmalle1is; dsb ish; isb" : : : "memory");

	c->events = 0;
	guest_program(c);
	guest_buffer(c->ptr, c->limit);
	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS), c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

static void ignore_sigbus(int sig)
{
}

/* Maps the RTC's registers, and returns its match register, RTCMR. */
static u32 map_device(void *hva, u64 len)
{
	static const char * const names[] = { "rtc-pl031", "pl031", "arm-pl031" };
	unsigned long phys = 0, from;
	char line[256];
	FILE *f;
	int i, fd;

	f = fopen("/proc/iomem", "r");
	TEST_ASSERT(f, "/proc/iomem");
	while (fgets(line, sizeof(line), f) && !phys) {
		for (i = 0; i < ARRAY_SIZE(names); i++) {
			if (strstr(line, names[i]) && sscanf(line, " %lx-", &from) == 1)
				phys = from;
		}
	}
	fclose(f);
	fd = open("/dev/mem", O_RDWR);
	if (!phys || fd < 0)
		spe_skip("no device in /proc/iomem that is known to be harmless, or no /dev/mem");
	if (mmap(hva, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, phys) != hva)
		spe_skip("/dev/mem: %s", strerror(errno));
	close(fd);
	return READ_ONCE(((u32 *)hva)[1]);
}

static void test_bad(const void *arg)
{
	const struct bad_row *row = arg;
	enum bad bad = row->bad;
	struct spe_vm v = spe_vm_create_on(0, 1, guest_bad_code, SZ_2M, SPE_FEATURE);
	struct guest_ctl *c = host_ctl(&v, 0);
	u64 base = BUF_BASE(0), pg = page_max(&v), rec = record_size(&v), align = record_align(&v);
	u64 stop, pmbsr, *pte = NULL, old_pte = 0, slack = 0, n, dl_mask;
	struct expect e;
	void *hva = NULL;
	u32 device = 0;
	int fd;

	if (spe_spus[0].max_buff_size && spe_spus[0].max_buff_size < SZ_2M)
		spe_skip("the SPU's own maximum is too small");

	c->interval = odd_interval(&v);
	c->ptr = base;
	c->limit = base + SZ_1M;
	c->pmbsr_held = PMBSR_EL1_COLL;
	strcpy(c->program, "ES");

	/* Where the SPU stops: the second page, unless a row says otherwise */
	stop = base + pg;

	switch (row->row) {
	case 1:
		c->pmbsr_held |= PMBSR_EL1_DL | PMBSR_EL1_EA;
		pmbsr = SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_SIZE);
		break;
	case 2:
		c->pmbsr_held |= PMBSR_EL1_DL | PMBSR_EL1_EA;
		pmbsr = SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL);
		break;
	case 3:
		c->pmbsr_held |= PMBSR_EL1_DL | PMBSR_EL1_EA;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_ALIGNMENT);
		break;
	case 5:
		pmbsr = SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_NOT_ALLOWED) | PMBSR_EL1_DL;
		slack = rec - 1;
		break;
	default:
		pmbsr = 0;
	}

	switch (bad) {
	case BAD_NONE:
		break;
	case BAD_SIZE:
		c->limit = base + SZ_2M + SZ_4K;
		break;
	case BAD_SIZE_HUGE:
		c->limit = base + BIT_ULL(46);
		break;
	case BAD_SCATTERED:
		/* Each of the guest's pages in a page of the host's, of which there are too few */
		if (v.vm->page_size >= getpagesize())
			spe_skip("the host's pages are not larger than the guest's");
		c->limit = base + SZ_2M;
		for (n = 0; n < SZ_2M / v.vm->page_size; n++) {
			pte = virt_get_pte_hva(v.vm, base + n * v.vm->page_size);
			*pte = (*pte & ~GENMASK_ULL(47, v.vm->page_shift)) |
			       (base + n * getpagesize() % BUF_SIZE);
		}
		pte = NULL;
		break;
	case BAD_EMPTY:
		c->ptr = c->limit;
		break;
	case BAD_ABOVE:
		c->ptr = c->limit + SZ_4K;
		break;
	case BAD_ABOVE_FAR:
		c->ptr = c->limit + BIT_ULL(40);
		break;
	case BAD_SHORT:
		if (rec == align)
			spe_skip("the alignment is the size of a record");
		c->ptr = c->limit - rec + align;
		break;
	case BAD_TOP_PTR:
		c->ptr |= BIT_ULL(56);
		break;
	case BAD_TOP_LIMIT:
		c->limit |= BIT_ULL(56);
		break;
	case BAD_ALIGN:
		if (align == 1)
			spe_skip("the SPU has no alignment");
		c->ptr = base + 1;
		break;
	case BAD_ALIGN_HALF:
		if (align == 1)
			spe_skip("the SPU has no alignment");
		c->ptr = base + SZ_4K + align / 2;
		break;
	case BAD_S1_FIRST:
	case BAD_S1:
		stop = base + (bad == BAD_S1 ? pg : 0);
		pte = virt_get_pte_hva(v.vm, stop);
		old_pte = *pte;
		*pte = 0;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_TRANSLATION(3));
		break;
	case BAD_S1_RO_FIRST:
	case BAD_S1_RO:
		stop = base + (bad == BAD_S1_RO ? pg : 0);
		pte = virt_get_pte_hva(v.vm, stop);
		old_pte = *pte;
		*pte |= PTE_AP_RDONLY;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_PERMISSION(3));
		break;
	case BAD_S1_AF_FIRST:
	case BAD_S1_AF:
		/* TCR_EL1.HA is 0 */
		stop = base + (bad == BAD_S1_AF ? pg : 0);
		pte = virt_get_pte_hva(v.vm, stop);
		old_pte = *pte;
		*pte &= ~PTE_AF;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_ACCESS(3));
		break;
	case BAD_S1_WIDE:
	case BAD_S1_TOP:
		c->ptr |= BIT_ULL(bad == BAD_S1_WIDE ? 52 : 58);
		c->limit |= BIT_ULL(bad == BAD_S1_WIDE ? 52 : 58);
		stop = c->ptr;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_TRANSLATION(0));
		break;
	case BAD_S1_L2:
	case BAD_TABLE:
		if (v.vm->page_size != SZ_4K)
			spe_skip("a level 2 entry maps more than the buffer");
		stop = base + SZ_2M;
		c->ptr = stop - SZ_8K;
		c->limit = stop + SZ_64K;
		pte = virt_get_pte_hva_at_level(v.vm, stop, 2);
		old_pte = *pte;
		*pte = bad == BAD_S1_L2 ? 0 : HOLE_BASE | PMD_TYPE_TABLE | PTE_VALID;
		pmbsr = SPE_PMBSR_S1(bad == BAD_S1_L2 ? SPE_FSC_TRANSLATION(2) :
							SPE_FSC_EA_WALK(3));
		slack = bad == BAD_TABLE ? rec - 1 : 0;
		break;
	case BAD_TABLE_FIRST:
		stop = base;
		pte = virt_get_pte_hva_at_level(v.vm, base, 2);
		old_pte = *pte;
		*pte = HOLE_BASE | PMD_TYPE_TABLE | PTE_VALID;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_EA_WALK(3));
		break;
	case BAD_TABLE_L2:
		if (v.vm->page_size != SZ_4K)
			spe_skip("a level 1 entry maps the program, too");
		stop = base;
		pte = virt_get_pte_hva_at_level(v.vm, base, 1);
		old_pte = *pte;
		*pte = HOLE_BASE | PUD_TYPE_TABLE | PTE_VALID;
		pmbsr = SPE_PMBSR_S1(SPE_FSC_EA_WALK(2));
		break;
	case BAD_HOLE_FIRST:
	case BAD_HOLE:
		stop = base + (bad == BAD_HOLE ? pg : 0);
		pte = virt_get_pte_hva(v.vm, stop);
		old_pte = *pte;
		*pte = (old_pte & ~GENMASK_ULL(47, v.vm->page_shift)) | HOLE_BASE;
		break;
	case BAD_RO_SLOT:
		vm_userspace_mem_region_add(v.vm, VM_MEM_SRC_ANONYMOUS, ODD_BASE, ODD_SLOT,
					    pg / v.vm->page_size, KVM_MEM_READONLY);
		pte = virt_get_pte_hva(v.vm, stop);
		old_pte = *pte;
		*pte = (old_pte & ~GENMASK_ULL(47, v.vm->page_shift)) | ODD_BASE;
		break;
	case BAD_MPROTECT:
		hva = addr_gpa2hva(v.vm, stop);
		TEST_ASSERT(!mprotect(hva, pg, PROT_READ), "mprotect");
		break;
	case BAD_MUNMAP:
		hva = addr_gpa2hva(v.vm, stop);
		TEST_ASSERT(!munmap(hva, pg), "munmap");
		break;
	case BAD_DEVICE:
	case BAD_DEVICE_USED:
		/* The guest has it at stage 2 already: only LIMIT keeps the SPU from it */
		hva = addr_gpa2hva(v.vm, stop);
		device = map_device(hva, pg);
		if (bad == BAD_DEVICE_USED)
			c->arg = stop;
		break;
	case BAD_SECRET:
		/* Long-term pins are refused for memory that only its owner may see */
		fd = syscall(__NR_memfd_secret, 0);
		if (fd < 0)
			spe_skip("memfd_secret: %s", strerror(errno));
		hva = addr_gpa2hva(v.vm, stop);
		TEST_ASSERT(!ftruncate(fd, pg), "ftruncate");
		TEST_ASSERT(mmap(hva, pg, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 fd, 0) == hva, "mmap of secret memory");
		close(fd);
		break;
	case BAD_POISON:
		/* The kernel tells who injects it, too */
		sigaction(SIGBUS, &(struct sigaction){ .sa_handler = ignore_sigbus }, NULL);
		hva = addr_gpa2hva(v.vm, stop);
		if (madvise(hva, pg, MADV_HWPOISON))
			spe_skip("MADV_HWPOISON: %s", strerror(errno));
		break;
	}

	/* Enough to come there */
	n = (row->row >= 4 ? stop - c->ptr : 0) / 24 + 100;
	c->iterations = n * c->interval / WORK_INSNS;
	e = expect_profile(&v, 0);
	TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "no sync");

	TEST_ASSERT(c->val[0] == c->pmbsr_held,
		    "PMBSR_EL1 0x%lx, not 0x%lx, while PMSCR_EL1 is 0", c->val[0], c->pmbsr_held);

	/* Fields that the event does not set are as they were */
	dl_mask = row->row != 5 && row->row >= 4 && rec != align ? PMBSR_EL1_DL : 0;
	pmbsr |= c->pmbsr_held;
	if (row->row <= 3)
		TEST_ASSERT(c->val[1] == pmbsr,
			    "as profiling becomes enabled: PMBSR_EL1 0x%lx, expected 0x%lx",
			    c->val[1], pmbsr);
	TEST_ASSERT((c->val[2] & ~dl_mask) == pmbsr,
		    "PMBSR_EL1 0x%lx, expected 0x%lx; PMBPTR_EL1 0x%lx",
		    c->val[2], pmbsr, c->val[3]);
	if (row->row <= 3)
		TEST_ASSERT(c->val[3] == c->ptr, "PMBPTR_EL1 0x%lx, not 0x%lx", c->val[3], c->ptr);
	else
		TEST_ASSERT(c->val[3] <= stop && c->val[3] >= max(c->ptr, stop - slack),
			    "PMBPTR_EL1 0x%lx, expected 0x%lx", c->val[3], stop);
	TEST_ASSERT_EQ(c->val[4], c->limit | PMBLIMITR_EL1_E);
	TEST_ASSERT(c->val[5], "the interrupt is not pending");
	TEST_ASSERT_EQ(c->val[6], 0);
	TEST_ASSERT_EQ(c->val[7], 1);
	TEST_ASSERT(!c->val[8], "the interrupt is still pending");
	TEST_ASSERT_EQ(c->spurious, 0);

	/* Nothing is written in rows 1 to 3; up to where it stopped in the others */
	if (pte)
		*pte = old_pte;
	if (row->row <= 3) {
		check_canary(&v, 0, base);
	} else if (stop > c->ptr) {
		e.to_cnt = c->cnt[1];
		e.any_pc = true;
		e.from_cnt = 0;
		e.cut = c->val[2] & PMBSR_EL1_DL;
		n = check_records(&v, 0, c->ptr, c->val[3], &e);
		TEST_ASSERT(n, "no records before the event");
	}

	if (bad == BAD_DEVICE || bad == BAD_DEVICE_USED) {
		TEST_ASSERT_EQ(READ_ONCE(((u32 *)hva)[1]), device);
		TEST_ASSERT(mmap(hva, pg, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == hva, "mmap");
		memset(hva, CANARY, pg);
	}

	/* It costs the guest nothing else */
	if (bad == BAD_MPROTECT)
		mprotect(hva, pg, PROT_READ | PROT_WRITE);
	c->ptr = base + SZ_2M + SZ_1M;
	c->limit = c->ptr + SZ_256K;
	c->iterations = 0;
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	check_quiet(c);
	e = expect_profile(&v, 0);
	n = check_records(&v, 0, c->ptr, c->pmbptr, &e);
	TEST_ASSERT(n > WANTED_RECORDS / 2, "%lu records after the event", n);
	check_canary(&v, 0, c->limit);

	if (bad == BAD_POISON)
		exit(0);	/* the library reads all memory in freeing */
	spe_vm_free(&v);
}

/* --- Guests: stage 1 as no guest has it ---------------------------------- */

/* TCR_EL1.TxSZ: too small, or too large, for any granule, and in between */
static const u8 odd_txsz[] = { 0, 6, 15, 40, 48, 52, 63 };

#define TCR_HALF_MASK	GENMASK_ULL(15, 0)	/* T0SZ to TG0; T1SZ to TG1 are 16 bits above */
#define UPPER_HALF	GENMASK_ULL(63, 48)

/*
 * The table of one half of the address space is empty, and TCR_EL1 says odd
 * things about it, all granules and the reserved value included. The buffer is
 * there. What KVM makes of it must not depend on tables that nobody has read.
 */
static void guest_odd_regime_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 tcr = read_sysreg(tcr_el1), ttbr = read_sysreg(ttbr0_el1), empty = ODD_BASE;
	/* At level 3 of the least range that there is, and far outside of it */
	static const u32 offsets[] = { SZ_4K, SZ_4M, SZ_1G };
	bool upper = c->arg & 1;
	u64 tg = c->arg >> 1;
	int i, j;

	guest_irq_setup(c);
	local_irq_disable();
	guest_program(c);

	/* The upper half is the lower one again */
	tcr &= ~(TCR_HALF_MASK << 16 | TCR_EPD1_MASK | TCR_TBI1);
	tcr |= (tcr & TCR_HALF_MASK & ~TCR_TG0_MASK) << 16 | 2ULL << 30;
	write_sysreg(ttbr, ttbr1_el1);
	write_sysreg(tcr, tcr_el1);
	isb();

	for (i = 0; i < ARRAY_SIZE(odd_txsz); i++) {
		u64 odd = tg << 14 | odd_txsz[i];

		odd = (tcr & ~((TCR_TG0_MASK | GENMASK_ULL(5, 0)) << (upper ? 16 : 0))) |
		      odd << (upper ? 16 : 0);
		for (j = 0; j < ARRAY_SIZE(offsets); j++) {
			u64 ptr = upper ? -2ULL * offsets[j] : offsets[j];
			struct guest_stopped s;
			bool known;
			u64 fsc;

			s = guest_regime(odd, upper ? ttbr : empty, upper ? empty : ttbr, ptr,
					 (ptr + SZ_4K) | PMBLIMITR_EL1_E, c->pmscr,
					 4 * c->used_interval, upper ? 0 : UPPER_HALF);
			/* Address size or translation, whatever level it began at: -1 to 3 */
			fsc = s.pmbsr & PMBSR_EL1_MSS;
			known = fsc <= SPE_FSC_TRANSLATION(3) || fsc == 0x29 || fsc == 0x2b;
			__GUEST_ASSERT(known && (s.pmbsr & ~PMBSR_EL1_COLL) == SPE_PMBSR_S1(fsc),
				       "TxSZ %u, TGx %lu, 0x%lx: PMBSR_EL1 0x%lx",
				       odd_txsz[i], tg, ptr, s.pmbsr);
			__GUEST_ASSERT(s.pmbptr == ptr,
				       "TxSZ %u, TGx %lu, 0x%lx: PMBPTR_EL1 0x%lx",
				       odd_txsz[i], tg, ptr, s.pmbptr);
			c->wanted++;
		}
	}

	/* It costs the guest nothing else */
	guest_buffer(c->ptr, c->limit);
	c->cnt[0] = read_sysreg(cntvct_el0);
	isb();
	guest_profile(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS), c->pmscr);
	c->cnt[1] = read_sysreg(cntvct_el0);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

/* @arg: TCR_EL1.TG0 or TG1, and which of the two */
static void test_odd_regime(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_odd_regime_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	struct expect e;

	/* The largest granule's table */
	vm_userspace_mem_region_add(v.vm, VM_MEM_SRC_ANONYMOUS, ODD_BASE, ODD_SLOT,
				    SZ_64K / v.vm->page_size, 0);
	c->interval = odd_interval(&v);
	c->arg = (long)arg;
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	TEST_ASSERT_EQ(c->wanted, 3 * ARRAY_SIZE(odd_txsz));
	check_quiet(c);
	e = expect_profile(&v, 0);
	TEST_ASSERT(check_records(&v, 0, c->ptr, c->pmbptr, &e) > WANTED_RECORDS / 2,
		    "no profile afterwards");
	check_canary(&v, 0, c->limit);
	spe_vm_free(&v);
}

/* Forms of stage 1 that the library does not make, for a buffer at BUF_BASE(0) */
enum form {
	FORM_BLOCK, FORM_CONTIGUOUS, FORM_AF, FORM_DBM, FORM_LEVELS, FORM_TAG, FORM_TTBR1,
	FORM_TTBR1_TAG,
};

struct form_row {
	const char *name;
	enum form form;
	bool modes;		/* also with other granules */
};

static const struct form_row form_rows[] = {
	{ "a block of 2 MiB",		FORM_BLOCK },
	{ "the contiguous bit",		FORM_CONTIGUOUS, true },
	{ "Access flags by hardware",	FORM_AF, true },
	{ "dirty state by hardware",	FORM_DBM },
	{ "a table less",		FORM_LEVELS, true },
	{ "a tag, TCR.TBI0",		FORM_TAG },
	{ "TTBR1",			FORM_TTBR1, true },
	{ "TTBR1 and a tag, TCR.TBI1",	FORM_TTBR1_TAG },
};

#define PTE_DBM		BIT_ULL(51)
#define PTE_CONT	BIT_ULL(52)
#define TCR_TBI0	BIT_ULL(37)
#define TCR_HD		BIT_ULL(40)

static void test_form(const void *arg)
{
	const struct form_row *row = arg;
	struct spe_vm v = spe_vm_create(1, guest_profile_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	u64 id = KVM_ARM64_SYS_REG(SYS_TCR_EL1), tcr = vcpu_get_reg(v.vcpu[0], id);
	u64 base = BUF_BASE(0), pg = v.vm->page_size, *pte, mmfr1, n, ptr, or = 0;
	unsigned int shift = v.vm->page_shift;
	struct expect e;

	mmfr1 = vcpu_get_reg(v.vcpu[0], SPE_REG(ID_AA64MMFR1_EL1));
	mmfr1 = FIELD_GET(ID_AA64MMFR1_EL1_HAFDBS, mmfr1);
	setup_profile(&v, &profile_rows[0], 0);

	switch (row->form) {
	case FORM_BLOCK:
		if (pg != SZ_4K)
			spe_skip("a level 2 block is larger than the buffer");
		pte = virt_get_pte_hva(v.vm, base);
		*virt_get_pte_hva_at_level(v.vm, base, 2) = *pte & ~PTE_TYPE_PAGE;
		break;
	case FORM_CONTIGUOUS:
		for (n = 0; n < BUF_SIZE; n += pg)
			*virt_get_pte_hva(v.vm, base + n) |= PTE_CONT;
		break;
	case FORM_AF:
	case FORM_DBM:
		if (mmfr1 < (row->form == FORM_AF ? 1 : 2))
			spe_skip("the guest has no hardware management of it");
		if (!(v.pmbidr & PMBIDR_EL1_F))
			spe_skip("the SPU does not manage flags (PMBIDR_EL1.F)");
		tcr |= TCR_HA | (row->form == FORM_DBM ? TCR_HD : 0);
		for (n = 0; n < BUF_SIZE; n += pg) {
			pte = virt_get_pte_hva(v.vm, base + n);
			if (row->form == FORM_AF)
				*pte &= ~PTE_AF;
			else
				*pte |= PTE_DBM | PTE_AP_RDONLY;
		}
		break;
	case FORM_LEVELS:
		/* All that the guest has is below the first entry of its first table */
		shift += (v.vm->mmu.pgtable_levels - 1) * (shift - 3);
		if (v.vm->va_bits <= shift || v.vm->pa_bits > 48)
			spe_skip("the first table has one entry, or 52 bits in it");
		tcr = (tcr & ~GENMASK_ULL(5, 0)) | TCR_T0SZ(shift);
		pte = virt_get_pte_hva_at_level(v.vm, 0, 0);
		vcpu_set_reg(v.vcpu[0], KVM_ARM64_SYS_REG(SYS_TTBR0_EL1),
			     *pte & PTE_ADDR_MASK(v.vm->page_shift));
		break;
	case FORM_TTBR1:
	case FORM_TTBR1_TAG:
		/* The upper half is the lower one again */
		or = GENMASK_ULL(63, v.vm->va_bits);
		tcr &= ~(TCR_HALF_MASK << 16 | TCR_EPD1_MASK | TCR_TBI1);
		tcr |= (tcr & TCR_HALF_MASK & ~TCR_TG0_MASK) << 16;
		/* TG1 has 16K, 4K and 64K as 1 to 3 */
		tcr |= (pg == SZ_16K ? 1ULL : pg == SZ_4K ? 2 : 3) << 30;
		if (row->form == FORM_TTBR1_TAG) {
			tcr |= TCR_TBI1;
			or &= ~(0x5aULL << 56);
		}
		vcpu_set_reg(v.vcpu[0], KVM_ARM64_SYS_REG(SYS_TTBR1_EL1),
			     vcpu_get_reg(v.vcpu[0], KVM_ARM64_SYS_REG(SYS_TTBR0_EL1)));
		break;
	case FORM_TAG:
		or = 0x5aULL << 56;
		tcr |= TCR_TBI0;
		break;
	}
	vcpu_set_reg(v.vcpu[0], id, tcr);
	ptr = c->ptr;
	c->ptr |= or;
	c->limit |= or;

	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	check_quiet(c);
	e = expect_profile(&v, 0);
	TEST_ASSERT((c->pmbptr & or) == or, "PMBPTR_EL1 0x%lx", c->pmbptr);
	n = check_records(&v, 0, ptr, c->pmbptr & ~or, &e);
	TEST_ASSERT(n > WANTED_RECORDS / 2, "%lu records", n);
	/* All was pinned before: no gap in the profile */
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu[0], spe_stage2_fault), 0);
	TEST_ASSERT(vcpu_get_stat(v.vcpu[0], spe_pin) >= (c->limit - c->ptr) / page_max(&v),
		    "%lu pages pinned", vcpu_get_stat(v.vcpu[0], spe_pin));
	check_canary(&v, 0, c->limit & ~or);

	/* The SPU's own walk has set the flags of what it wrote to */
	pte = virt_get_pte_hva(v.vm, base);
	if (row->form == FORM_AF)
		TEST_ASSERT(*pte & PTE_AF, "descriptor 0x%lx", *pte);
	if (row->form == FORM_DBM)
		TEST_ASSERT(!(*pte & PTE_AP_RDONLY), "descriptor 0x%lx", *pte);
	spe_vm_free(&v);
}

struct flat_row {
	const char *name;
	u64 ptr;
	bool huge;	/* in a VM without a maximum, as many pages as a u32 cannot count */
};

static const struct flat_row flat_rows[] = {
	{ "in memory",			BUF_BASE(0) },
	{ "in memory, LIMIT far above",	BUF_BASE(0), true },
	{ "without memslot",		HOLE_BASE },
	{ "BIT(39)",			BIT_ULL(39) },
	{ "BIT(47)",			BIT_ULL(47) },
	{ "BIT(48)",			BIT_ULL(48) },
	{ "BIT(51)",			BIT_ULL(51) },
	{ "BIT(52)",			BIT_ULL(52) },
	{ "BIT(54)",			BIT_ULL(54) },
	{ "the upper half",		GENMASK_ULL(63, 47) },
	{ "the last page but some",	-(u64)SZ_128K },
};

/* A vCPU that is restored with stage 1 off and a profile under way */
static void test_flat(const void *arg)
{
	const struct flat_row *row = arg;
	u64 limit = row->ptr + (row->huge ? (u64)getpagesize() << 32 : SZ_64K);
	static const u8 pa_bits[] = { 32, 36, 40, 42, 44, 48, 52, 56 };
	u64 pmbsr, pmbptr, sctlr, n;
	u64 expected = 0, parange;
	struct kvm_vcpu *vcpu;
	struct guest_ctl *c;
	struct spe_vm v;
	struct expect e;

	if (row->huge && spe_spus[0].max_buff_size)
		spe_skip("the SPU has a maximum of its own");

	v = spe_vm_create_on(0, 1, guest_profile_code, row->huge ? 0 : spe_valid_size(0),
			     SPE_FEATURE);
	vcpu = v.vcpu[0];
	c = host_ctl(&v, 0);
	parange = vcpu_get_reg(vcpu, SPE_REG(ID_AA64MMFR0_EL1));
	parange = FIELD_GET(ID_AA64MMFR0_EL1_PARANGE, parange);
	if (row->ptr >> pa_bits[parange])
		expected = SPE_PMBSR_S1(0);	/* Address size fault, level 0 */
	else if (row->ptr != BUF_BASE(0))
		expected = SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_NOT_ALLOWED) | PMBSR_EL1_DL;
	else if (row->huge)
		expected = SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_SIZE);

	c->interval = odd_interval(&v);
	sctlr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1));
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_SCTLR_EL1), sctlr & ~(u64)SCTLR_ELx_M);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.pc), addr_gva2gpa(v.vm, (gva_t)guest_flat));
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[0]), WANTED_RECORDS * c->interval / 2);
	vcpu_set_reg(vcpu, ARM64_CORE_REG(regs.regs[4]), v.vm->ucall_mmio_addr);
	vcpu_set_reg(vcpu, SPE_REG(PMSIRR_EL1), c->interval);
	vcpu_set_reg(vcpu, SPE_REG(PMSCR_EL1), PMSCR_EL1_E1SPE);
	vcpu_set_reg(vcpu, SPE_REG(PMBPTR_EL1), row->ptr);
	vcpu_set_reg(vcpu, SPE_REG(PMBLIMITR_EL1), limit | PMBLIMITR_EL1_E);

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, v.vm->ucall_mmio_addr);
	pmbsr = vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.regs[1])) & ~PMBSR_EL1_COLL;
	pmbptr = vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.regs[2]));
	TEST_ASSERT(pmbsr == expected, "PMBSR_EL1 0x%lx, not 0x%lx; PMBPTR_EL1 0x%lx", pmbsr,
		    expected, pmbptr);
	TEST_ASSERT_EQ(vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.regs[3])), limit | PMBLIMITR_EL1_E);
	if (expected) {
		TEST_ASSERT(pmbptr == row->ptr, "PMBPTR_EL1 0x%lx", pmbptr);
		check_canary(&v, 0, BUF_BASE(0));
	} else {
		u64 pa = addr_gva2gpa(v.vm, (gva_t)guest_flat);

		e = (struct expect){
			.pc = { RANGE(pa, pa + 256) },
			.els = BIT(1),
			.pmscr = PMSCR_EL1_E1SPE,
		};
		n = check_records(&v, 0, row->ptr, pmbptr, &e);
		TEST_ASSERT(n > WANTED_RECORDS / 2, "%lu records", n);
		check_canary(&v, 0, limit);
	}
	spe_vm_free(&v);
}

/*
 * The guest changes the mapping of an enabled buffer, so that the SPU meets a
 * stage 2 fault: what becomes of it depends on what is there now. Or a stage 1
 * fault, which is the SPU's to report.
 */
enum remap {
	REMAP_RAM,		/* memory that stage 2 does not map yet */
	REMAP_HOLE,		/* no memory */
	REMAP_TABLE,		/* the last table is not memory */
	REMAP_NONE,		/* nothing at stage 1 */
	REMAP_RDONLY,		/* what was there, but read-only */
};

enum remap_look {
	LOOK_POLL,		/* the guest reads the registers */
	LOOK_STOP,		/* the guest disables the buffer first */
	LOOK_CLEAR,		/* the guest clears PMBSR_EL1 first */
	LOOK_IRQ,		/* the guest waits for the interrupt */
	LOOK_SAVE,		/* the VMM reads the registers */
	LOOK_RESTORE,		/* ... and writes them back */
	/* The guest unmaps the page after the stage 2 fault, before KVM looks */
	LOOK_UNMAP,		/* and leaves it so */
	LOOK_UNMAP_RAM,		/* maps memory there, and all is well */
	LOOK_UNMAP_TWICE,	/* maps it, and unmaps it after the next fault */
};

struct remap_row {
	const char *name;
	enum remap what;
	enum remap_look look;
	bool modes;		/* also with other granules */
};

static const struct remap_row remap_rows[] = {
	{ "to other memory, polled",		REMAP_RAM, LOOK_POLL, true },
	{ "to other memory, disabled",		REMAP_RAM, LOOK_STOP },
	{ "to other memory, interrupt",		REMAP_RAM, LOOK_IRQ },
	{ "away from memory, polled",		REMAP_HOLE, LOOK_POLL },
	{ "away from memory, disabled",		REMAP_HOLE, LOOK_STOP },
	{ "away from memory, cleared",		REMAP_HOLE, LOOK_CLEAR },
	{ "away from memory, interrupt",	REMAP_HOLE, LOOK_IRQ },
	{ "away from memory, saved",		REMAP_HOLE, LOOK_SAVE },
	{ "away from memory, restored",		REMAP_HOLE, LOOK_RESTORE },
	{ "with a table away from memory, polled", REMAP_TABLE, LOOK_POLL },
	{ "with a table away from memory, disabled", REMAP_TABLE, LOOK_STOP },
	{ "to nothing, polled",			REMAP_NONE, LOOK_POLL },
	{ "to nothing, disabled",		REMAP_NONE, LOOK_STOP },
	{ "to nothing, interrupt",		REMAP_NONE, LOOK_IRQ },
	{ "to nothing, saved",			REMAP_NONE, LOOK_SAVE },
	{ "read-only, polled",			REMAP_RDONLY, LOOK_POLL },
	{ "to other memory, to nothing after the fault", REMAP_RAM, LOOK_UNMAP },
	{ "away from memory, to nothing after the fault", REMAP_HOLE, LOOK_UNMAP },
	{ "to other memory, to nothing and back", REMAP_RAM, LOOK_UNMAP_RAM },
	{ "to other memory, to nothing after each fault", REMAP_RAM, LOOK_UNMAP_TWICE },
	{ "away from memory, to nothing after each fault", REMAP_HOLE, LOOK_UNMAP_TWICE },
};

/* Where a buffer is that was always good: the others end below it, or are far above */
#define REMAP_NEXT	(BUF_BASE(0) + SZ_1M)

static void guest_remap_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	local_irq_disable();
	guest_program(c);
	guest_buffer(c->ptr, c->limit);

	/* The host changes the tables. Other ucalls have loops that end if nobody steps them */
	GUEST_UCALL_NONE();
	asm volatile("dsb ishst; tlbi vmalle1is; dsb ish; isb" : : : "memory");

	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
	if (c->arg == LOOK_IRQ)
		local_irq_enable();
	guest_loop(guest_array(), ARRAY_MASK, c->iterations);
	if (c->arg == LOOK_STOP)
		write_sysreg_s(c->limit, SYS_PMBLIMITR_EL1);
	if (c->arg == LOOK_CLEAR)
		write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
	if (c->arg != LOOK_IRQ)
		guest_results(c);
	local_irq_disable();
	c->val[0] = c->pmbsr;
	c->val[1] = c->pmbptr;
	c->val[2] = c->events;
	guest_off();

	/* It costs the guest nothing else */
	guest_buffer(REMAP_NEXT, REMAP_NEXT + SZ_256K);
	guest_profile(guest_array(), ARRAY_MASK, 20 * c->used_interval / WORK_INSNS, c->pmscr);
	guest_results(c);
	guest_off();
	GUEST_DONE();
}

/* Where the complete records of a profile end */
static u64 records_end(struct spe_vm *v, u64 from, u64 to)
{
	struct spe_record r;
	int len;

	while (from < to) {
		len = spe_next_record(addr_gpa2hva(v->vm, from), to - from, &r);
		if (len <= 0)
			break;
		from += len;
	}
	return from;
}

/*
 * Steps the guest until something is in PMBSR_EL1, or the SPU has met so many
 * stage 2 faults. The exception of a step goes before PMBIRQ: that is how a VMM
 * comes to see a vCPU after the SPU has met a stage 2 fault, and before KVM has
 * looked at it.
 */
static u64 step_to_event(struct kvm_vcpu *vcpu, u64 faults)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};
	u64 pmbsr;
	int i;

	vcpu_guest_debug_set(vcpu, &debug);
	for (i = 0; i < 20000; i++) {
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_DEBUG);
		pmbsr = vcpu_get_reg(vcpu, SPE_REG(PMBSR_EL1)) & ~PMBSR_EL1_COLL;
		if (pmbsr || vcpu_get_stat(vcpu, spe_stage2_fault) >= faults)
			break;
	}
	debug.control = 0;
	vcpu_guest_debug_set(vcpu, &debug);
	return pmbsr;
}

#define REMAP_NOT_ALLOWED	(SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_NOT_ALLOWED) | PMBSR_EL1_DL)
#define REMAP_FULL		(SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL) | PMBSR_EL1_DL)

/* The event that the guest gets, @cut: the fault was in the middle of a record */
static u64 remap_event(const struct remap_row *row, bool cut)
{
	u64 dl = cut ? PMBSR_EL1_DL : 0;

	switch (row->what) {
	case REMAP_NONE:
		return SPE_PMBSR_S1(SPE_FSC_TRANSLATION(3)) | dl;
	case REMAP_RDONLY:
		return SPE_PMBSR_S1(SPE_FSC_PERMISSION(3)) | dl;
	case REMAP_TABLE:
		return SPE_PMBSR_S1(SPE_FSC_EA_WALK(3)) | dl;
	default:
		break;
	}

	if (cut && (row->what == REMAP_RAM || row->look >= LOOK_RESTORE))
		return REMAP_FULL;
	/* Unmapped: the SPU meets that itself. When it does not, it is in the same place twice */
	if (row->look == LOOK_UNMAP)
		return SPE_PMBSR_S1(SPE_FSC_TRANSLATION(3));
	if (row->what == REMAP_HOLE || row->look == LOOK_UNMAP_TWICE)
		return REMAP_NOT_ALLOWED;
	return 0;
}

static u64 remap_faults(const struct remap_row *row, bool cut)
{
	if (row->what == REMAP_NONE || row->what == REMAP_RDONLY)
		return 0;
	return row->look > LOOK_UNMAP && !cut ? 2 : 1;
}

enum remap_result {
	REMAP_WHOLE,		/* the fault was between two records */
	REMAP_CUT,		/* ... or in the middle of one */
	REMAP_LATE,		/* KVM looked before the guest was seen to step */
};

/* One attempt */
static enum remap_result remap_once(const struct remap_row *row, u64 offset, bool may_cut)
{
	struct spe_vm v = spe_vm_create_on(0, 1, guest_remap_code, SZ_2M, SPE_FEATURE);
	u64 base = BUF_BASE(0), pg = page_max(&v), rec = record_size(&v);
	u64 id = SPE_REG(PMBSR_EL1), stop, pmbsr, expected, mapped, pins, *pte;
	struct guest_ctl *c = host_ctl(&v, 0);
	struct spe_record r;
	struct expect e;
	bool cut;

	if (row->what == REMAP_TABLE && v.vm->page_size != SZ_4K)
		spe_skip("a level 2 entry maps more than the buffer");

	stop = base + (row->what == REMAP_TABLE ? SZ_2M : pg);
	/* A few records before: steps are slow */
	c->ptr = stop - 4 * max_t(u64, record_align(&v), 64) + offset * record_align(&v);
	c->limit = stop + max_t(u64, SZ_64K, 64 * rec);
	c->interval = odd_interval(&v);
	c->arg = row->look;
	strcpy(c->program, "ES");
	vm_userspace_mem_region_add(v.vm, VM_MEM_SRC_ANONYMOUS, ODD_BASE, ODD_SLOT,
				    c->limit / v.vm->page_size - stop / v.vm->page_size, 0);

	run_to_exit(v.vcpu[0]);
	pins = vcpu_get_stat(v.vcpu[0], spe_pin);
	pte = virt_get_pte_hva_at_level(v.vm, stop, row->what == REMAP_TABLE ? 2 : 3);
	if (row->what == REMAP_NONE)
		*pte = 0;
	else if (row->what == REMAP_RDONLY)
		*pte |= PTE_AP_RDONLY;
	else
		*pte = (*pte & ~GENMASK_ULL(47, v.vm->page_shift)) |
		       (row->what == REMAP_RAM ? ODD_BASE : HOLE_BASE);
	mapped = *pte;

	c->iterations = ((stop - c->ptr) / 24 + 10) * c->interval / WORK_INSNS;

	if (row->look >= LOOK_SAVE) {
		pmbsr = step_to_event(v.vcpu[0], row->look >= LOOK_UNMAP ? 1 : ~0UL);
		TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu[0], SPE_REG(PMBPTR_EL1)), stop);
		TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu[0], SPE_REG(PMBLIMITR_EL1)),
			       c->limit | PMBLIMITR_EL1_E);
		cut = records_end(&v, c->ptr, stop) != stop;
		/* An interrupt of the host's between the fault and the step */
		if (row->look >= LOOK_UNMAP && !cut &&
		    (pmbsr || vcpu_get_stat(v.vcpu[0], spe_pin) != pins)) {
			spe_vm_free(&v);
			return REMAP_LATE;
		}
		if (row->what == REMAP_NONE)
			TEST_ASSERT_EQ(pmbsr, remap_event(row, cut));
		else if (row->look >= LOOK_UNMAP)
			TEST_ASSERT_EQ(pmbsr, cut ? REMAP_FULL : 0);
		else
			TEST_ASSERT_EQ(pmbsr, cut ? REMAP_FULL : REMAP_NOT_ALLOWED);
		if (row->look == LOOK_RESTORE)
			vcpu_set_reg(v.vcpu[0], id, pmbsr);
		if (row->look >= LOOK_UNMAP)
			*pte = 0;
		if (row->look > LOOK_UNMAP && !cut) {
			/* KVM finds nothing, and the SPU goes on; it does not write at once */
			TEST_ASSERT_EQ(step_to_event(v.vcpu[0], 0), 0);
			*pte = mapped;
		}
		if (row->look == LOOK_UNMAP_TWICE && !cut) {
			TEST_ASSERT_EQ(step_to_event(v.vcpu[0], 2), 0);
			TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu[0], SPE_REG(PMBPTR_EL1)), stop);
			*pte = 0;
		}
	}

	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	cut = records_end(&v, c->ptr, stop) != stop;
	TEST_ASSERT(may_cut || !cut, "half a record");
	/* What the VMM has written back is not KVM's to mend any more */
	if (row->look != LOOK_RESTORE || !cut)
		TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu[0], spe_stage2_fault), remap_faults(row, cut));
	expected = remap_event(row, cut);
	if (row->look == LOOK_IRQ)
		TEST_ASSERT_EQ(c->val[2], !!expected);
	if (row->look != LOOK_IRQ || expected)
		TEST_ASSERT((c->val[0] & ~PMBSR_EL1_COLL) == expected,
			    "PMBSR_EL1 0x%lx, expected 0x%lx; PMBPTR_EL1 0x%lx",
			    c->val[0], expected, c->val[1]);
	if (expected) {
		TEST_ASSERT(c->val[1] == stop, "PMBPTR_EL1 0x%lx, not 0x%lx", c->val[1], stop);
	} else if (row->look == LOOK_POLL || row->look == LOOK_UNMAP_RAM) {
		/* It went on in the other memory */
		TEST_ASSERT(c->val[1] > stop, "PMBPTR_EL1 0x%lx", c->val[1]);
		TEST_ASSERT(spe_next_record(addr_gpa2hva(v.vm, ODD_BASE), rec, &r) > 0 && r.has_pc,
			    "no record in the new page");
	}

	TEST_ASSERT(!(c->pmbsr & ~PMBSR_EL1_COLL), "PMBSR_EL1 0x%lx afterwards", c->pmbsr);
	c->cnt[1] = ~0ULL;
	e = expect_profile(&v, 0);
	TEST_ASSERT(check_records(&v, 0, REMAP_NEXT, c->pmbptr, &e) > 10, "no profile afterwards");
	spe_vm_free(&v);
	return cut ? REMAP_CUT : REMAP_WHOLE;
}

static void test_remap(const void *arg)
{
	const struct remap_row *row = arg;
	struct spe_vm v = spe_vm_create(1, guest_remap_code);
	bool may_cut = record_size(&v) != record_align(&v);
	int i, late = 0;
	enum remap_result result = REMAP_LATE;

	spe_vm_free(&v);
	/* With each attempt records end elsewhere */
	for (i = 0; i < (may_cut ? 3 : 1) && result != REMAP_CUT;) {
		result = remap_once(row, i, may_cut);
		if (result != REMAP_LATE)
			i++;
		else
			TEST_ASSERT(++late < 20, "KVM is always quicker than the steps");
	}
	TEST_ASSERT(result == REMAP_CUT || !may_cut, "no record was cut");
}

/* --- Guests: other granules ---------------------------------------------- */

struct mode_row {
	const char *name;
	enum vm_guest_mode mode;
};

/* Those that the host has */
static const struct mode_row mode_rows[] = {
	{ "16K pages",			VM_MODE_P40V48_16K },
	{ "64K pages",			VM_MODE_P40V48_64K },
	{ "16K pages, 47 bits",		VM_MODE_P36V47_16K },
	{ "4K pages, 52 bits",		VM_MODE_P52V48_4K },
	{ "16K pages, 52 bits",		VM_MODE_P52V48_16K },
	{ "64K pages, 52 bits",		VM_MODE_P52V48_64K },
};

/* A case of those above, in a VM of another mode */
struct mode_case {
	enum vm_guest_mode mode;
	spe_case_fn fn;
	const void *arg;
};

static void test_mode(const void *arg)
{
	const struct mode_case *m = arg;

	vm_mode_default = m->mode;
	m->fn(m->arg);
}

static void __printf(3, 4) add_mode_cases(spe_case_fn fn, const void *arg,
					  const char *fmt, ...)
{
	char name[128];
	va_list ap;
	int i;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);

	for (i = 0; i < ARRAY_SIZE(mode_rows); i++) {
		const struct guest_mode *mode = &guest_modes[mode_rows[i].mode];
		struct mode_case *m;

		if (!mode->supported || !mode->enabled)
			continue;
		m = malloc(sizeof(*m));
		TEST_ASSERT(m, "malloc");
		*m = (struct mode_case) { mode_rows[i].mode, fn, arg };
		spe_add_case(test_mode, m, false, "guest: mapped by %s: %s", mode_rows[i].name,
			     name);
	}
}

/* The maximum is a limit for LIMIT - PTR, and can be used up to the last byte */
static void guest_max_code(void)
{
	struct guest_ctl *c = guest_ctl();
	u64 too_large = SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_SIZE);
	u64 max = c->arg, i;
	/* PTR and LIMIT relative to the start, and whether they are too far apart */
	struct { u64 ptr, limit; bool bad; } rows[] = {
		{ 0, max, false },
		{ 0, max + SZ_4K, true },
		{ SZ_4K, max + SZ_4K, false },
		{ SZ_16K, max, false },
		{ SZ_16K, max + SZ_16K + SZ_4K, true },
		{ max, 2 * max, false },
		{ 2048, max + SZ_4K, true },
	};

	guest_irq_setup(c);
	local_irq_disable();
	guest_program(c);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		guest_buffer(c->ptr + rows[i].ptr, c->ptr + rows[i].limit);
		guest_profile(guest_array(), ARRAY_MASK, 10 * c->used_interval / WORK_INSNS,
			      c->pmscr);
		guest_results(c);
		if (rows[i].bad) {
			__GUEST_ASSERT((c->pmbsr & ~PMBSR_EL1_COLL) == too_large,
				       "0x%lx to 0x%lx: PMBSR_EL1 0x%lx", rows[i].ptr,
				       rows[i].limit, c->pmbsr);
			GUEST_ASSERT_EQ(c->pmbptr, c->ptr + rows[i].ptr);
		} else {
			__GUEST_ASSERT(!(c->pmbsr & ~PMBSR_EL1_COLL),
				       "0x%lx to 0x%lx: PMBSR_EL1 0x%lx",
				       rows[i].ptr, rows[i].limit, c->pmbsr);
			GUEST_ASSERT(c->pmbptr > c->ptr + rows[i].ptr);
		}
		guest_off();
	}
	GUEST_DONE();
}

static void test_max(const void *arg)
{
	u64 size = SZ_64K;
	struct spe_vm v;

	v = spe_vm_create_on(0, 1, guest_max_code, size, SPE_FEATURE);
	host_ctl(&v, 0)->arg = size;
	host_ctl(&v, 0)->interval = odd_interval(&v);
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	spe_vm_free(&v);
}

/* PMBSR_EL1 cleared first, profiling enabled and the buffer full: full again */
static void guest_clear_first_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	local_irq_disable();
	guest_program(c);
	guest_buffer(c->ptr, c->limit);
	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
	guest_loop(guest_array(), ARRAY_MASK, c->iterations);
	guest_results(c);
	GUEST_ASSERT_EQ(c->pmbsr & ~PMBSR_EL1_COLL, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));

	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1) & ~PMBSR_EL1_COLL,
			SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), c->pmbptr);

	/* More room, and it goes on from where it stopped */
	write_sysreg_s((c->limit + SZ_4K) | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	isb();
	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
	guest_loop(guest_array(), ARRAY_MASK, 8 * c->used_interval / WORK_INSNS);
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	c->val[0] = c->pmbptr;
	guest_results(c);
	GUEST_ASSERT(c->pmbptr > c->val[0]);
	guest_off();
	GUEST_DONE();
}

static void test_clear_first(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_clear_first_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	struct expect e;

	c->limit = c->ptr + SZ_4K;
	c->interval = odd_interval(&v);
	c->iterations = SZ_4K / 24 * c->interval / WORK_INSNS;
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	c->cnt[0] = 0;
	c->cnt[1] = ~0ULL;
	e = expect_profile(&v, 0);
	e.any_pc = true;
	TEST_ASSERT(check_records(&v, 0, c->ptr, c->pmbptr, &e), "no records");
	spe_vm_free(&v);
}

/* --- Restore ------------------------------------------------------------- */

/*
 * Enables everything, goes to the host, and only works on from there. An empty
 * ucall, since others hold addresses of the VMM that the guest started in.
 */
static void guest_restore_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_program(c);
	guest_buffer(c->ptr, c->limit);
	write_sysreg_s(c->pmscr, SYS_PMSCR_EL1);
	isb();
	guest_loop(guest_array(), ARRAY_MASK, 20 * c->used_interval / WORK_INSNS);
	GUEST_UCALL_NONE();
	guest_loop(guest_array(), ARRAY_MASK, guest_iterations(c, WANTED_RECORDS));
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	guest_results(c);
	for (;;)
		GUEST_UCALL_NONE();
}

/* Registers that the destination has of its own */
static bool restore_skips(u64 id)
{
	return id == KVM_ARM64_SYS_REG(SYS_CNTPCT_EL0) || id == KVM_REG_ARM_TIMER_CNT ||
	       id == KVM_REG_ARM_PTIMER_CNT;
}

static void copy_vm(struct spe_vm *to, struct spe_vm *from)
{
	const u32 slots[] = { from->vm->memslots[MEM_REGION_DATA], BUF_SLOT(0), ARRAY_SLOT(0) };
	struct kvm_reg_list *list = vcpu_get_reg_list(from->vcpu[0]);
	u64 i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		struct userspace_mem_region *a = memslot2region(from->vm, slots[i]);
		struct userspace_mem_region *b = memslot2region(to->vm, slots[i]);

		TEST_ASSERT_EQ(a->region.memory_size, b->region.memory_size);
		memcpy(b->host_mem, a->host_mem, a->region.memory_size);
	}

	for (i = 0; i < list->n; i++) {
		u8 val[2048 / 8] __aligned(16);
		struct kvm_one_reg reg = { .id = list->reg[i], .addr = (u64)val };

		if (restore_skips(reg.id))
			continue;
		SPE_OK(__vcpu_ioctl(from->vcpu[0], KVM_GET_ONE_REG, &reg));
		TEST_ASSERT(!__vcpu_ioctl(to->vcpu[0], KVM_SET_ONE_REG, &reg),
			    "register 0x%llx cannot be restored: %s", reg.id, strerror(errno));
	}
	free(list);
}

static void test_restore(const void *arg)
{
	struct spe_vm a = spe_vm_create(1, guest_restore_code);
	struct spe_vm b;
	struct guest_ctl *c = host_ctl(&a, 0);
	u64 ptr, n;
	struct expect e;

	c->interval = odd_interval(&a);
	/* Another timestamp base: none is asked for */
	c->pmscr = PMSCR_EL1_E1SPE | PMSCR_EL1_CX;
	run_to_exit(a.vcpu[0]);
	vcpu_run_complete_io(a.vcpu[0]);
	ptr = vcpu_get_reg(a.vcpu[0], SPE_REG(PMBPTR_EL1));
	TEST_ASSERT(ptr > c->ptr, "PMBPTR_EL1 0x%lx", ptr);
	TEST_ASSERT_EQ(vcpu_get_reg(a.vcpu[0], SPE_REG(PMBLIMITR_EL1)), c->limit | PMBLIMITR_EL1_E);
	TEST_ASSERT_EQ(vcpu_get_reg(a.vcpu[0], SPE_REG(PMSCR_EL1)), c->pmscr);

	b = spe_vm_create(1, guest_restore_code);
	copy_vm(&b, &a);
	TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], SPE_REG(PMBPTR_EL1)), ptr);
	if (arg)
		spe_vm_free(&a);

	c = host_ctl(&b, 0);
	run_to_exit(b.vcpu[0]);
	TEST_ASSERT(!(c->pmbsr & ~PMBSR_EL1_COLL), "PMBSR_EL1 0x%lx", c->pmbsr);
	c->cnt[1] = ~0ULL;
	e = expect_profile(&b, 0);
	e.any_pc = true;
	n = check_records(&b, 0, ptr, c->pmbptr, &e);
	TEST_ASSERT(n > WANTED_RECORDS / 2, "%lu records after the restore", n);
	check_records(&b, 0, c->ptr, ptr, &e);
	check_canary(&b, 0, c->limit);

	/* The source, if it is still there, has gone on by itself */
	if (!arg) {
		c = host_ctl(&a, 0);
		run_to_exit(a.vcpu[0]);
		c->cnt[1] = ~0ULL;
		e = expect_profile(&a, 0);
		e.any_pc = true;
		TEST_ASSERT(check_records(&a, 0, ptr, c->pmbptr, &e) > WANTED_RECORDS / 2,
			    "the source has no more records");
		spe_vm_free(&a);
	}
	spe_vm_free(&b);
}

/* A pending event is state, too: it raises the interrupt where it is restored */
static void guest_pending_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	GUEST_SYNC(0);
	guest_loop(guest_array(), ARRAY_MASK, 1000);
	GUEST_ASSERT_EQ(c->events, 1);
	GUEST_ASSERT_EQ(c->pmbsr, SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
	GUEST_DONE();
}

static void test_restore_pending(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_pending_code);

	strcpy(host_ctl(&v, 0)->program, "ES");
	TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "no sync");
	vcpu_set_reg(v.vcpu[0], SPE_REG(PMBPTR_EL1), BUF_BASE(0) + SZ_4K);
	vcpu_set_reg(v.vcpu[0], SPE_REG(PMBLIMITR_EL1), (BUF_BASE(0) + SZ_4K) | PMBLIMITR_EL1_E);
	vcpu_set_reg(v.vcpu[0], SPE_REG(PMBSR_EL1), SPE_PMBSR_BUF(PMBSR_EL1_BUF_BSC_FULL));
	TEST_ASSERT(!spe_run_vcpu(v.vcpu[0]), "unexpected sync");
	spe_vm_free(&v);
}

/*
 * A VM that is reset to an earlier state in place, as by QEMU's loadvm: the
 * level in the VGIC and PMBSR_EL1 are restored in any order, and neither is what
 * it was. At the next entry the level is what PMBSR_EL1.S says.
 */
static void guest_level_code(void)
{
	struct guest_ctl *c = guest_ctl();

	guest_irq_setup(c);
	local_irq_disable();
	for (;;) {
		c->val[0] = read_sysreg_s(SYS_PMBSR_EL1);
		c->val[1] = gic_irq_get_pending(SPE_PPI);
		GUEST_SYNC(0);
	}
}

static void restore_level(struct spe_vm *v, bool level)
{
	u64 attr = (u64)VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;
	u32 val = 0;

	/* Of the other PPIs, nothing changes */
	kvm_device_attr_get(v->gic_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, attr, &val);
	val = (val & ~BIT(SPE_PPI)) | (level ? BIT(SPE_PPI) : 0);
	kvm_device_attr_set(v->gic_fd, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, attr, &val);
}

static void test_restore_level(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_level_code);
	struct guest_ctl *c = host_ctl(&v, 0);
	u64 id = SPE_REG(PMBSR_EL1);
	int i;

	TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "the guest ended");
	for (i = 0; i < 16; i++) {
		u64 old = i & 1 ? PMBSR_EL1_S : 0, new = i & 2 ? PMBSR_EL1_S : 0;

		/* The state that is replaced, as the guest has run with it */
		vcpu_set_reg(v.vcpu[0], id, old);
		TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "the guest ended");
		TEST_ASSERT_EQ(c->val[0], old);
		TEST_ASSERT_EQ(c->val[1], !!old);

		if (i & 8)
			vcpu_set_reg(v.vcpu[0], id, new);
		restore_level(&v, i & 4);
		if (!(i & 8))
			vcpu_set_reg(v.vcpu[0], id, new);
		TEST_ASSERT(spe_run_vcpu(v.vcpu[0]), "the guest ended");
		TEST_ASSERT_EQ(c->val[0], new);
		TEST_ASSERT(c->val[1] == !!new,
			    "S was %d, is %d, the VGIC restored to %d %s it: level %lu", !!old,
			    !!new, !!(i & 4), i & 8 ? "after" : "before", c->val[1]);
	}
	spe_vm_free(&v);
}

/* A vCPU that is reset while its buffer is enabled has it disabled, and no pins */
static void test_vcpu_reset(const void *arg)
{
	struct spe_vm v = spe_vm_create(1, guest_restore_code);
	u64 id = SPE_REG(PMBLIMITR_EL1);
	struct guest_ctl *c = host_ctl(&v, 0);

	c->interval = odd_interval(&v);
	run_to_exit(v.vcpu[0]);
	vcpu_run_complete_io(v.vcpu[0]);
	TEST_ASSERT(vcpu_get_reg(v.vcpu[0], id) & PMBLIMITR_EL1_E, "the buffer is not enabled");
	SPE_OK(__vcpu_ioctl(v.vcpu[0], KVM_ARM_VCPU_INIT, &v.vcpu[0]->init));
	TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu[0], id), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu[0], SPE_REG(PMSCR_EL1)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu[0], SPE_REG(PMBSR_EL1)), 0);
	SPE_CHECK(spe_run_nothing(v.vcpu[0]), EINTR);
	spe_vm_free(&v);
}

/* A process that is killed with the buffer enabled: main() looks for leaks */
static void test_killed(const void *arg)
{
	int status;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		struct spe_vm v = spe_vm_create(1, guest_restore_code);

		host_ctl(&v, 0)->interval = odd_interval(&v);
		run_to_exit(v.vcpu[0]);
		kill(getpid(), SIGKILL);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status 0x%x", status);
}

/* The charge and the pins while the buffer is enabled, and after the VM's end */
static void test_pins(const void *arg)
{
	u64 locked = spe_locked_bytes(), pinned;
	struct spe_vm v = spe_vm_create(1, guest_restore_code);
	struct guest_ctl *c = host_ctl(&v, 0);

	TEST_ASSERT(spe_locked_bytes() > locked, "nothing is charged to RLIMIT_MEMLOCK");
	c->interval = odd_interval(&v);
	pinned = spe_pins_outstanding();
	run_to_exit(v.vcpu[0]);
	pinned = spe_pins_outstanding() - pinned;
	TEST_ASSERT(pinned >= (c->limit - c->ptr) / getpagesize(), "%lu pages pinned", pinned);
	TEST_ASSERT(pinned <= spe_valid_size(0) / getpagesize() + 64, "%lu pages pinned", pinned);
	spe_vm_free(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), locked);
}

/* --- main ---------------------------------------------------------------- */

int main(int argc, char **argv)
{
	int i;

	spe_parse_options(argc, argv);

	/*
	 * With a policy of its own a process is left alone by NUMA balancing, which takes
	 * pages off stage 2: KVM would walk again where a case expects it not to.
	 */
	syscall(SYS_set_mempolicy, MPOL_LOCAL, NULL, 0);

	spe_add_case(test_guest_undef, NULL, true, "guest without the feature: UNDEF");
	spe_add_case(test_guest_ids, NULL, false, "guest: ID registers");
	spe_add_case(test_guest_undef, "feature", false, "guest: registers that are not there");
	spe_add_case(test_guest_regs, NULL, false, "guest: registers hold what is written");
	spe_add_case(test_guest_old_event, NULL, false, "guest: PMBSR_EL1 holds an old event");
	spe_add_case(test_guest_exits, NULL, false, "guest: which registers exit");
	for (i = 0; i < ARRAY_SIZE(profile_rows); i++)
		spe_add_case(test_profile, &profile_rows[i], false, "guest: profile %s",
			     profile_rows[i].name);
	spe_add_case(test_vcpus, &profile_rows[0], false, "guest: profile on %d vCPUs",
		     spe_opt.vcpus);
	spe_add_case(test_vcpus, &profile_rows[7], false, "guest: profile EL0 and EL1 on %d vCPUs",
		     spe_opt.vcpus);
	spe_add_case(test_vcpus_events, NULL, false, "guest: events on %d vCPUs", spe_opt.vcpus);
	spe_add_case(test_vcpus_events, "host", false,
		     "host: session while %d vCPUs take events", spe_opt.vcpus);
	spe_add_case(test_migrate_cpus, &profile_rows[0], false,
		     "guest: profile on %d vCPUs that move", spe_opt.vcpus);
	spe_add_case(test_profile_spus, &profile_rows[0], false, "guest: profile on each SPU");
	spe_add_case(test_fail_entry, &profile_rows[0], false, "guest: CPUs without the SPU");
	spe_add_case(test_fail_entry_pmu, NULL, false, "guest: CPUs without the SPU or the PMU");
	spe_add_case(test_fill, (void *)(1L << 1), false, "guest: fill 4 KiB, polled");
	spe_add_case(test_fill, (void *)(1L << 1 | 1), false, "guest: fill 4 KiB, interrupt");
	spe_add_case(test_fill, (void *)(20L << 1), false, "guest: fill 80 KiB, polled");
	spe_add_case(test_fill, (void *)(20L << 1 | 1), false, "guest: fill 80 KiB, interrupt");
	spe_add_case(test_ppi, NULL, false, "guest: fill 4 KiB, another interrupt");
	for (i = 0; i < ARRAY_SIZE(rearm_rows); i++)
		spe_add_case(test_rearm, &rearm_rows[i], false, "guest: re-arm %s",
			     rearm_rows[i].name);
	spe_add_case(test_clear_first, NULL, false,
		     "guest: PMBSR cleared with the buffer full, then more room");
	spe_add_case(test_quiet, guest_intermediate_code, false,
		     "guest: bad values while PMSCR is 0");
	spe_add_case(test_quiet, guest_poll_code, false, "guest: PMBPTR polled");
	spe_add_case(test_quiet, guest_live_code, false,
		     "guest: PTR and LIMIT written while profiling");
	spe_add_case(test_quiet, guest_toggle_code, false, "guest: buffer enabled and disabled");
	spe_add_case(test_discard, NULL, false, "guest: discard mode");
	spe_add_case(test_soft_s, NULL, false, "guest: PMBSR.S by software");
	for (i = 0; i < ARRAY_SIZE(bad_rows); i++)
		spe_add_case(test_bad, &bad_rows[i], false, "guest: misprogramming %s",
			     bad_rows[i].name);
	for (i = 0; i < 8; i++)
		spe_add_case(test_odd_regime, (void *)(long)i, false,
			     "guest: misprogramming 4: odd TCR.T%dSZ, TG%d %d", i & 1, i & 1,
			     i >> 1);
	for (i = 0; i < ARRAY_SIZE(form_rows); i++)
		spe_add_case(test_form, &form_rows[i], false, "guest: buffer mapped by %s",
			     form_rows[i].name);
	for (i = 0; i < ARRAY_SIZE(flat_rows); i++)
		spe_add_case(test_flat, &flat_rows[i], false, "restore: stage 1 off, PTR %s",
			     flat_rows[i].name);
	for (i = 0; i < ARRAY_SIZE(remap_rows); i++)
		spe_add_case(test_remap, &remap_rows[i], false, "guest: buffer remapped %s",
			     remap_rows[i].name);
	add_mode_cases(test_profile, &profile_rows[7], "profile %s", profile_rows[7].name);
	add_mode_cases(test_fill, (void *)(20L << 1 | 1), "fill 80 KiB, interrupt");
	for (i = 0; i < ARRAY_SIZE(form_rows); i++) {
		if (form_rows[i].modes)
			add_mode_cases(test_form, &form_rows[i], "%s", form_rows[i].name);
	}
	for (i = 0; i < ARRAY_SIZE(bad_rows); i++) {
		if (bad_rows[i].modes)
			add_mode_cases(test_bad, &bad_rows[i], "misprogramming %s",
				       bad_rows[i].name);
	}
	for (i = 0; i < ARRAY_SIZE(remap_rows); i++) {
		if (remap_rows[i].modes)
			add_mode_cases(test_remap, &remap_rows[i], "buffer remapped %s",
				       remap_rows[i].name);
	}
	spe_add_case(test_max, NULL, false, "guest: up to the maximum and above");
	spe_add_case(test_restore, NULL, false, "restore: into a second VM");
	spe_add_case(test_restore, "alone", false, "restore: into a second VM, the first gone");
	spe_add_case(test_restore_pending, NULL, false, "restore: a pending event");
	spe_add_case(test_restore_level, NULL, false, "restore: PMBSR.S and the VGIC's level");
	spe_add_case(test_vcpu_reset, NULL, false, "reset of a vCPU that profiles");
	spe_add_case(test_killed, NULL, false, "VMM killed while its guest profiles");
	spe_add_case(test_pins, NULL, false, "pins and charge");
	spe_add_case(test_two_vms, NULL, false, "two VMs on one CPU");
	spe_add_case(test_host_between, NULL, false, "host: sessions between entries");
	spe_add_case(test_host_session, (void *)TERM_TS, false,
		     "host: session while the guest profiles");
	spe_add_case(test_host_session, (void *)(TERM_TS | TERM_PA | TERM_PCT), false,
		     "host: session with physical addresses and time while the guest profiles");
	spe_add_case(test_host_session_events, NULL, false,
		     "host: sessions and the guest's events");
	spe_add_case(test_host_toggled, NULL, false,
		     "host: sessions from another CPU while the guest profiles");
	spe_add_case(test_host_stopped, NULL, false, "host: session that perf has stopped");
	spe_add_case(test_host_traps, NULL, false, "host: session while the guest traps");
	spe_add_case(test_host_traps, "sampling", false,
		     "host: session while a guest with sampling registers traps");
	spe_add_case(test_host_unready, NULL, false,
		     "host: session while the guest samples to no buffer");
	spe_add_case(test_host_filters, NULL, false, "host: session and the guest's filters");
	spe_add_case(test_host_filters, "filters", false,
		     "host: session with filters and the guest's filters");
	spe_add_case(test_host_pa, NULL, false, "host: session with physical addresses");
	spe_add_case(test_host_other_vm, NULL, false,
		     "host: session while a VM without SPE runs after one with it");
	spe_add_case(test_many_events, NULL, false, "events: %d", spe_opt.events);

	spe_run_cases();
}
