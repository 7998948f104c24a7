// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The pinned buffer of the Statistical Profiling Extension (SPE) in guests:
 * what is pinned and for how long, and every way in which the host can pull the
 * memory away under a guest that profiles. For profiles see spe_test.c, for the
 * ioctls spe_uapi_test.c.
 */
#include <poll.h>
#include <pthread.h>
#include <time.h>

#include <asm/barrier.h>

#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/mempolicy.h>
#include <linux/psci.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "spe.h"
#include "gic.h"
#include "vgic.h"

/* The buffer, at the same address at stage 1 and 2, in a memslot of its own. */
#define BUF_BASE		SZ_1G
#define BUF_SLOT		10
#define BUF_SIZE		SZ_4M

/* A backing of the buffer that enum vm_mem_backing_src_type does not have */
#define SRC_GUEST_MEMFD		NUM_SRC_TYPES

/* How often the host does what the case is about, while the guest profiles */
#define PULLS			24

/* Instructions: the counter is reloaded by one of its own (Arm ARM D17.3) */
#define INTERVAL		4096
#define PER_RECORD		(INTERVAL + 1)

/* What guest_work() executes in one iteration */
#define WORK_INSNS		3

/* Iterations of a round that is not over soon; a part of the buffer may be full first */
#define LONG_ROUND		100000000

/* The other instructions of a round that may be sampled, at most */
#define ROUND_INSNS		64

/* The host has written it to the buffer: no record has such a byte */
#define POISON			0x02

#define MAX_PARTS		32

/* MPIDR_EL1.{Aff3,Aff2,Aff1,Aff0} */
#define MPIDR_AFFINITY		0xff00ffffffUL

#define NUMA_BALANCING		"/proc/sys/kernel/numa_balancing"

/* Tables with the same contents, which the guest takes in turn */
#define NR_PGDS			4

/* What the host asks, and what the guest answers. In guest memory. */
struct guest_ctl {
	u64 ptr, size;		/* the buffer */
	u64 parts;		/* which are enabled in turn */
	u64 toggles;		/* then the guest tells the host; 0: until stop */
	u64 iterations;		/* of the workload, each time */
	u64 stop;
	u64 idle;		/* don't profile */
	u64 offset;		/* of PMBPTR_EL1 in each part */
	u64 gap;		/* behind PMBLIMITR_EL1 in each part */
	u64 hold;		/* don't begin this round, nor a later one */
	u64 pgds[NR_PGDS];	/* 0, or TTBR0_EL1: in turn, or any of them with max */
	u64 max;		/* 0, or the largest of windows that are anywhere */
	u64 flush;		/* TLB entries, before each round */
	u64 pause;		/* tell the host in the middle of a round */
	u64 code;		/* 0, or where to put an instruction, and call it then */
	u64 wfi;		/* ... pause by WFI, until this interrupt is pending */
	u64 go_on;		/* each round behind the last one of its part */
	u64 anywhere;		/* ... or anywhere in it; now and then it is a long one */
	u64 walk_fsc;		/* of row 6 of the contract, where it may happen */
	u64 meet;		/* the round that the second vCPU begins with, or ~0 */
	u64 beside;		/* ... where it then writes */
	u64 delay;		/* ... after so many iterations */

	u64 rounds;
	u64 held;		/* 1 + the round that is not begun, or 0 */
	u64 profiling;		/* the buffer is enabled */
	u64 from[MAX_PARTS];	/* where the last round of a part wrote */
	u64 to[MAX_PARTS];
	u64 insns;		/* of guest_work(), in all */
	u64 full;		/* events: buffer full */
	u64 refused;		/* events: row 5 of the contract */
	u64 no_table;		/* events: row 6 */
	u64 too_large;		/* events: row 1 */
	u64 lost;		/* events with DL */
	u64 other;		/* other events, and the last of them */
	u64 bytes;		/* of records */
	u64 wraps;		/* rounds that began a part anew, with go_on */
	u64 clean;		/* rounds without an event, ... */
	u64 clean_bytes;	/* ... of their records */
	u64 clean_insns;
};

/* In a page of its own: the second vCPU may have another one there */
static struct guest_ctl ctl __aligned(SZ_64K);

static void guest_work(u64 iterations)
{
	asm volatile("1:	nop\n"
		     "	subs	%0, %0, #1\n"
		     "	b.ne	1b"
		     : "+r" (iterations) : : "cc", "memory");
}

static void guest_setup(void)
{
	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	write_sysreg_s(0, SYS_PMSFCR_EL1);
	write_sysreg_s(INTERVAL, SYS_PMSIRR_EL1);
	write_sysreg_s(0, SYS_PMSICR_EL1);
	isb();

	if (ctl.wfi) {
		gic_init(GIC_V3, 1);
		gic_irq_enable(ctl.wfi);
	}
}

static void guest_enable(u64 ptr, u64 limit)
{
	write_sysreg_s(ptr, SYS_PMBPTR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	write_sysreg_s(limit | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	isb();
	write_sysreg_s(PMSCR_EL1_E1SPE, SYS_PMSCR_EL1);
	isb();
}

#define RET_INSN		0xd65f03c0

static void guest_write_code(u64 va)
{
	WRITE_ONCE(*(u32 *)va, RET_INSN);
	asm volatile("dc cvau, %0; dsb ish; ic ivau, %0; dsb ish; isb" : : "r" (va) : "memory");
}

static void guest_call_code(u64 va)
{
	((void (*)(void))va)();
}

/* The host looks at the buffer, which is disabled. */
static void guest_hold(void)
{
	while (ctl.rounds >= READ_ONCE(ctl.hold))
		WRITE_ONCE(ctl.held, ctl.rounds + 1);
	WRITE_ONCE(ctl.held, 0);
}

static void guest_set_pgd(u64 n)
{
	write_sysreg(ctl.pgds[n % NR_PGDS], ttbr0_el1);
	isb();
}

static u64 guest_random(u64 *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

static u64 guest_anywhere(u64 start, u64 limit, u64 *seed)
{
	return start + guest_random(seed) % ((limit - start - SZ_8K) / SZ_2K) * SZ_2K;
}

/* A window of any place and size, by one of several tables. */
static void guest_choose(u64 *ptr, u64 *limit, u64 *seed)
{
	u64 max = ctl.max, size = ctl.size, start;

	guest_random(seed);
	start = (*seed >> 33) % ((size - max) / SZ_2K) * SZ_2K;
	*ptr = ctl.ptr + start;
	*limit = (*ptr + max) & ~(u64)(SZ_4K - 1);
	/* Half of them have the largest size */
	if (*seed & BIT(62))
		*limit = (*ptr + SZ_4K + (*seed >> 20) % (max - SZ_4K)) & ~(u64)(SZ_4K - 1);

	guest_set_pgd(*seed >> 60);
}

/* As Linux does with the buffer of a task: from where the SPU stopped, to the end, and again. */
static u64 guest_go_on(u64 part, u64 start, u64 limit)
{
	u64 ptr = ctl.to[part];

	/* No record is larger */
	if (ptr && ptr + SZ_2K <= limit)
		return ptr;

	ctl.wraps++;
	return start;
}

static void guest_pause(u64 n)
{
	if (ctl.wfi)
		wfi();
	else
		GUEST_SYNC(n);
}

/* Profiles as Linux does per task: the buffer is disabled at every switch. */
static void guest_code(void)
{
	u64 n, part, pmbsr, ptr, limit, iterations, insns, counter, seed = 1;

	guest_setup();
	if (ctl.code)
		guest_write_code(ctl.code);

	for (;;) {
		for (n = 0; READ_ONCE(ctl.toggles) ? n < ctl.toggles : !READ_ONCE(ctl.stop); n++) {
			if (READ_ONCE(ctl.idle)) {
				guest_work(READ_ONCE(ctl.iterations));
				continue;
			}

			guest_hold();
			part = READ_ONCE(ctl.size) / READ_ONCE(ctl.parts);
			ptr = READ_ONCE(ctl.ptr) + n % ctl.parts * part;
			limit = ptr + part - READ_ONCE(ctl.gap);
			ptr += READ_ONCE(ctl.offset);
			if (ctl.go_on)
				ptr = guest_go_on(n % ctl.parts, ptr, limit);
			if (ctl.anywhere)
				ptr = guest_anywhere(ptr, limit, &seed);
			if (ctl.max)
				guest_choose(&ptr, &limit, &seed);
			else if (ctl.pgds[0])
				guest_set_pgd(n);
			if (READ_ONCE(ctl.flush))
				asm volatile("dsb ishst; tlbi vmalle1is; dsb ish; isb"
					     : : : "memory");
			ctl.from[n % ctl.parts] = ptr;
			iterations = READ_ONCE(ctl.iterations);
			/* Over the border of a page */
			if (ctl.anywhere && !(n % 63))
				iterations *= 1000;
			insns = ctl.insns;
			counter = read_sysreg_s(SYS_PMSICR_EL1);

			guest_enable(ptr, limit);
			WRITE_ONCE(ctl.profiling, 1);

			guest_work(iterations);
			if (READ_ONCE(ctl.pause)) {
				guest_pause(n);
				if (ctl.code)
					guest_call_code(ctl.code);
				guest_work(iterations);
				ctl.insns += iterations * WORK_INSNS;
			}

			write_sysreg_s(0, SYS_PMSCR_EL1);
			isb();
			psb_csync();
			dsb(nsh);
			isb();
			pmbsr = read_sysreg_s(SYS_PMBSR_EL1);
			limit = read_sysreg_s(SYS_PMBPTR_EL1);
			write_sysreg_s(0, SYS_PMBLIMITR_EL1);
			isb();
			WRITE_ONCE(ctl.profiling, 0);

			ctl.to[n % ctl.parts] = limit;
			ctl.bytes += limit - ptr;
			ctl.insns += iterations * WORK_INSNS;

			if (pmbsr & PMBSR_EL1_DL)
				ctl.lost++;
			if (pmbsr & PMBSR_EL1_S) {
				u64 ec = FIELD_GET(PMBSR_EL1_EC, pmbsr);
				u64 bsc = pmbsr & 0x3f;

				if (!ec && bsc == 1)
					ctl.full++;
				else if (!ec && !bsc && (pmbsr & PMBSR_EL1_DL))
					ctl.refused++;
				else if (!ec && bsc == 4)
					ctl.too_large++;
				else if (ec == PMBSR_EL1_EC_FAULT_S1 && ctl.walk_fsc == bsc)
					ctl.no_table++;
				else
					ctl.other = pmbsr;
				/* The rounds that have none follow one another */
				write_sysreg_s(counter, SYS_PMSICR_EL1);
			} else {
				ctl.clean++;
				ctl.clean_bytes += limit - ptr;
				ctl.clean_insns += ctl.insns - insns;
			}
			WRITE_ONCE(ctl.rounds, ctl.rounds + 1);
		}
		GUEST_SYNC(n);
	}
}

struct log_mode;
static void log_prepare(struct kvm_vm *vm, const struct log_mode *mode);

/* A VM with one vCPU, or two. */
struct pin_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu, *second;
	struct guest_ctl *ctl;
	void *buf;
	struct kvm_vcpu_init init;
	gpa_t pgd;		/* of its stage 1 */
	u64 record_size;	/* the largest */
	bool fixed_size;	/* all records have it */
	bool arch_insns;	/* instructions are counted */
	int gic_fd, memfd;
};

static void write_file(const char *name, const char *value)
{
	int fd = open(name, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		errno = 0;
	close(fd);
}

/* Swap on a RAM disk, if there is none and the disk is free. */
static bool add_swap(void)
{
	const char *disk = "/dev/ram0";
	char *page = calloc(1, getpagesize());
	u32 *header = (u32 *)(page + 1024);
	int fd;

	if (spe_proc_value("/proc/meminfo", "SwapTotal:"))
		return true;

	fd = open(disk, O_WRONLY | O_EXCL);
	if (fd < 0)
		return false;
	header[0] = 1;				/* version */
	header[1] = SZ_64M / getpagesize() - 1;	/* last page */
	memcpy(page + getpagesize() - 10, "SWAPSPACE2", 10);
	TEST_ASSERT(write(fd, page, getpagesize()) == getpagesize(), "write to %s", disk);
	close(fd);
	free(page);

	return !swapon(disk, 0);
}

static void add_buffer(struct pin_vm *v, int src)
{
	u64 flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

	v->memfd = -1;
	if (src != SRC_GUEST_MEMFD) {
		if (src == VM_MEM_SRC_ANONYMOUS_HUGETLB || src == VM_MEM_SRC_SHARED_HUGETLB) {
			u64 huge = spe_proc_value("/proc/meminfo", "Hugepagesize:") * SZ_1K;

			if (!huge || huge > BUF_SIZE)
				spe_skip("no huge page of hugetlbfs is as small as the buffer");
			write_file("/proc/sys/vm/nr_hugepages", "8");
		}
		vm_userspace_mem_region_add(v->vm, src, BUF_BASE, BUF_SLOT,
					    BUF_SIZE / v->vm->page_size, 0);
		v->buf = addr_gpa2hva(v->vm, BUF_BASE);
		return;
	}

	if ((vm_check_cap(v->vm, KVM_CAP_GUEST_MEMFD_FLAGS) & flags) != flags)
		spe_skip("no guest_memfd that can be mapped");
	v->memfd = vm_create_guest_memfd(v->vm, BUF_SIZE, flags);
	v->buf = mmap(NULL, BUF_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, v->memfd, 0);
	TEST_ASSERT(v->buf != MAP_FAILED, "mmap");
	vm_set_user_memory_region2(v->vm, BUF_SLOT, KVM_MEM_GUEST_MEMFD, BUF_BASE, BUF_SIZE,
				   v->buf, v->memfd, 0);
}

/* @second: what the second vCPU executes, if there is to be one. */
static struct pin_vm pin_vm_create_vcpus(u64 max_size, int src, const struct log_mode *log,
					 void *first, void *second)
{
	struct pin_vm v = {};
	u64 pmsidr, pmbidr;

	/* They take all of a buffer off stage 2 now and then: some cases ask for it */
	write_file(NUMA_BALANCING, "0");
	write_file("/sys/kernel/mm/ksm/run", "0");

	v.vm = __vm_create(VM_SHAPE_DEFAULT, second ? 2 : 1, 4096);
	if (log)
		log_prepare(v.vm, log);
	vm_ioctl(v.vm, KVM_ARM_PREFERRED_TARGET, &v.init);
	v.init.features[0] |= SPE_FEATURE | BIT(KVM_ARM_VCPU_PSCI_0_2);
	v.vcpu = aarch64_vcpu_add(v.vm, 0, &v.init, first);
	vm_init_descriptor_tables(v.vm);
	vcpu_init_descriptor_tables(v.vcpu);
	if (second) {
		v.second = aarch64_vcpu_add(v.vm, 1, &v.init, second);
		vcpu_init_descriptor_tables(v.second);
	}

	add_buffer(&v, src);
	virt_map(v.vm, BUF_BASE, BUF_BASE, BUF_SIZE / v.vm->page_size);

	SPE_OK(spe_set_spu(v.vcpu, spe_spus[0].type));
	SPE_OK(spe_set_size(v.vcpu, max_size));
	pmsidr = vcpu_get_reg(v.vcpu, SPE_REG(PMSIDR_EL1));
	pmbidr = vcpu_get_reg(v.vcpu, SPE_REG(PMBIDR_EL1));
	v.record_size = BIT_ULL(FIELD_GET(PMSIDR_EL1_MAXSIZE, pmsidr));
	v.fixed_size = v.record_size == BIT_ULL(FIELD_GET(PMBIDR_EL1_ALIGN, pmbidr));
	v.arch_insns = pmsidr & PMSIDR_EL1_ARCHINST;
	v.gic_fd = vgic_v3_setup(v.vm, second ? 2 : 1, 64);
	SPE_OK(spe_set_irq(v.vcpu, SPE_PPI));
	if (second)
		SPE_OK(spe_set_irq(v.second, SPE_PPI));

	v.pgd = v.vm->mmu.pgd;
	v.ctl = addr_gva2hva(v.vm, (gva_t)&ctl);
	*v.ctl = (struct guest_ctl) {
		.ptr		= BUF_BASE,
		.size		= BUF_SIZE,
		.parts		= 1,
		.toggles	= 10,
		.iterations	= 20000,
		.hold		= ~0UL,
		.meet		= ~0UL,
	};

	return v;
}

static struct pin_vm pin_vm_create_uninitialised(u64 max_size, int src,
						 const struct log_mode *log)
{
	return pin_vm_create_vcpus(max_size, src, log, guest_code, NULL);
}

static struct pin_vm pin_vm_create_logged(u64 max_size, int src, const struct log_mode *log)
{
	struct pin_vm v = pin_vm_create_uninitialised(max_size, src, log);

	SPE_OK(spe_init(v.vcpu));
	return v;
}

static struct pin_vm pin_vm_create_backed(u64 max_size, int src)
{
	return pin_vm_create_logged(max_size, src, NULL);
}

static struct pin_vm pin_vm_create(void)
{
	return pin_vm_create_backed(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS);
}

/* Copies a page of guest memory; @entry, which pointed to it, then points to the copy. */
static void *copy_guest_page(struct pin_vm *v, void *page, u64 *entry)
{
	gpa_t gpa = vm_alloc_page_table(v->vm);
	void *copy = addr_gpa2hva(v->vm, gpa);

	memcpy(copy, page, v->vm->page_size);
	if (entry)
		*entry += gpa - addr_hva2gpa(v->vm, page);
	return copy;
}

/*
 * Copies the tables that map @gva; *@pgd is the copy of the root then. Returns the
 * descriptor of @gva in them.
 */
static u64 *copy_tables(struct pin_vm *v, gva_t gva, gpa_t *pgd)
{
	u64 mask = v->vm->page_size - 1, *entry = NULL;
	int level;

	for (level = 0; level <= 3; level++) {
		void *old, *copy;

		if (level == 1 && v->vm->mmu.pgtable_levels < 4)
			continue;
		old = virt_get_pte_hva_at_level(v->vm, gva, level);
		copy = copy_guest_page(v, (void *)((u64)old & ~mask), entry);
		entry = copy + ((u64)old & mask);
		if (!level)
			*pgd = addr_hva2gpa(v->vm, copy);
	}

	return entry;
}

/*
 * The second vCPU of a VM, like the vCPU of another one: at the address of ctl it
 * has a page of its own, a copy, by tables of its own.
 */
static struct pin_vm second_of(struct pin_vm *v)
{
	u64 ttbr = KVM_ARM64_SYS_REG(SYS_TTBR0_EL1);
	struct pin_vm second = *v;

	second.vcpu = v->second;
	second.ctl = copy_guest_page(v, v->ctl, copy_tables(v, (gva_t)&ctl, &second.pgd));
	vcpu_set_reg(second.vcpu, ttbr, vcpu_get_reg(v->vcpu, ttbr) - v->pgd + second.pgd);

	return second;
}

static void pin_vm_free(struct pin_vm *v)
{
	close(v->gic_fd);
	if (v->memfd >= 0) {
		munmap(v->buf, BUF_SIZE);
		close(v->memfd);
	}
	kvm_vm_free(v->vm);
}

/* The guest does ctl->toggles rounds. */
static void run(struct pin_vm *v)
{
	TEST_ASSERT(spe_run_vcpu(v->vcpu), "the guest has ended");
}

static void *vcpu_thread(void *arg)
{
	run(arg);
	return NULL;
}

/* The vCPU runs until the guest says something, or the host wants it to stop. */
static void *vcpu_until_stopped(void *arg)
{
	struct pin_vm *v = arg;

	for (;;) {
		int ret = __vcpu_run(v->vcpu);

		if (ret && errno == EINTR)
			return NULL;
		TEST_ASSERT(!ret, "KVM_RUN: %s", strerror(errno));
		if (v->vcpu->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			return v;
		/* The copier empties it */
		usleep(500);
		if (READ_ONCE(v->vcpu->run->immediate_exit))
			return NULL;
	}
}

static void nothing(int sig)
{
}

static u64 pinned(struct pin_vm *v)
{
	return vcpu_get_stat(v->vcpu, spe_pinned_pages);
}

static u64 now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000UL + t.tv_nsec / 1000;
}

static u64 now_ms(void)
{
	return now_us() / 1000;
}

/* Are no more than @pages pinned, @ms after @since, or earlier? */
static bool pinned_falls_since(struct pin_vm *v, u64 pages, u64 since, u64 ms)
{
	for (;;) {
		u64 now = now_ms();

		if (pinned(v) <= pages)
			return now - since <= ms;
		if (now - since > ms)
			return false;
		usleep(1000);
	}
}

/* Waits at most @ms for no more than @pages to be pinned. */
static bool pinned_falls_to(struct pin_vm *v, u64 pages, int ms)
{
	return pinned_falls_since(v, pages, now_ms(), ms);
}

/* Documentation/virt/kvm/arm/spe.rst, written another way. */
static u64 formula(u64 size)
{
	u64 page = getpagesize(), most = 0;
	int shift, levels;

	for (shift = 12, levels = 5; shift <= 16; shift += 2, levels--) {
		u64 tables = 0, covers = 1ULL << shift;
		int level;

		for (level = 0; level < levels; level++) {
			u64 unit = (1ULL << shift) < page ? 1ULL << shift : page;
			__uint128_t span = (__uint128_t)covers * (unit / 8);

			tables += 1 + (u64)((size + span - 1) / span);
			if (covers < 1ULL << 50)
				covers <<= shift - 3;
		}
		most = tables > most ? tables : most;
	}

	return size / page + 1 + most;
}

/*
 * How far a reading of nr_foll_pin_acquired - nr_foll_pin_released can be off
 * while pages are being pinned: what the counters of the CPUs keep to themselves.
 */
static u64 pins_error(void)
{
	char line[256];
	u64 most = 0;
	FILE *f;

	f = fopen("/proc/zoneinfo", "r");
	TEST_ASSERT(f, "/proc/zoneinfo");
	while (fgets(line, sizeof(line), f)) {
		unsigned long val;

		if (sscanf(line, " vm stats threshold: %lu", &val) == 1 && val > most)
			most = val;
	}
	fclose(f);

	/* Those acquired, and those released, on each CPU */
	return 2 * most * get_nprocs();
}

static u64 vm_counter(const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "%s ", name);
	return spe_proc_value("/proc/vmstat", key);
}

/* Bytes that /proc/self/smaps shows as @key for the mapping of @addr */
static u64 mapping_bytes(void *addr, const char *key)
{
	unsigned long from, to;
	bool inside = false;
	char line[512];
	u64 val = 0;
	FILE *f;

	f = fopen("/proc/self/smaps", "r");
	TEST_ASSERT(f, "/proc/self/smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			inside = from <= (u64)addr && (u64)addr < to;
		} else if (inside && !strncmp(line, key, strlen(key))) {
			val = strtoull(line + strlen(key), NULL, 0) * SZ_1K;
			break;
		}
	}
	fclose(f);

	return val;
}

#define PAGEMAP_PFN		GENMASK_ULL(54, 0)
#define PAGEMAP_PRESENT		BIT_ULL(63)

/* The host's page frames, 0 where there is none. The caller frees them. */
static u64 *page_frames(void *addr, size_t len)
{
	u64 page = getpagesize(), n = len / page, i;
	u64 *pfns = calloc(n, sizeof(*pfns));
	int fd = open("/proc/self/pagemap", O_RDONLY);

	TEST_ASSERT(pfns && fd >= 0, "pagemap");
	TEST_ASSERT(pread(fd, pfns, n * 8, (u64)addr / page * 8) == n * 8, "pagemap");
	close(fd);
	for (i = 0; i < n; i++)
		pfns[i] = pfns[i] & PAGEMAP_PRESENT ? pfns[i] & PAGEMAP_PFN : 0;

	return pfns;
}

/* Memory like the guest's that nobody has pinned; no page of it is like another. */
static void *some_memory(size_t len)
{
	u64 page = getpagesize(), i;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	madvise(mem, len, MADV_NOHUGEPAGE);
	for (i = 0; i < len; i += page)
		*(u64 *)(mem + i) = i + 1;

	return mem;
}

/* Has pages merged that are alike: these for a start. */
static void *start_ksm(size_t len)
{
	void *mem = some_memory(len);
	size_t page = getpagesize(), i;

	for (i = 0; i < len; i += page)
		memset(mem + i, 1, page);
	if (madvise(mem, len, MADV_MERGEABLE))
		spe_skip("no KSM");
	write_file("/sys/kernel/mm/ksm/sleep_millisecs", "0");
	write_file("/sys/kernel/mm/ksm/pages_to_scan", "2000");
	write_file("/sys/kernel/mm/ksm/run", "1");

	return mem;
}

static u64 ksm_merged(void)
{
	return spe_proc_value("/proc/self/ksm_merging_pages", "");
}

/* Between pages that stay, every other one is free: the others are moved together. */
static void *fragment(size_t len)
{
	size_t page = getpagesize(), i;
	void *mem = some_memory(len);

	for (i = 0; i < len; i += 2 * page)
		madvise(mem + i, page, MADV_DONTNEED);
	return mem;
}

/* --- Tracepoints ---------------------------------------------------------- */

#define TRACING			"/sys/kernel/tracing"

/* An instance of our own */
static struct {
	char dir[64];
	int fd;
	size_t len;
	char buf[SZ_16K];
} trace = { .fd = -1 };

static void trace_remove(void)
{
	close(trace.fd);
	rmdir(trace.dir);
}

static void trace_enable(const char *event)
{
	char name[128];
	int fd;

	if (trace.fd < 0) {
		snprintf(trace.dir, sizeof(trace.dir), TRACING "/instances/spe-%d", getpid());
		if (mkdir(trace.dir, 0700))
			spe_skip("no tracefs");
		atexit(trace_remove);
		snprintf(name, sizeof(name), "%s/trace_pipe", trace.dir);
		trace.fd = open(name, O_RDONLY | O_NONBLOCK);
		TEST_ASSERT(trace.fd >= 0, "%s", name);
	}

	snprintf(name, sizeof(name), "%s/events/kvm/%s/enable", trace.dir, event);
	fd = open(name, O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, "1", 1) == 1, "%s", name);
	close(fd);
}

/* Calls @fn for each event since the last call, with its name and its fields. */
static void trace_read(void (*fn)(const char *name, const char *fields, void *arg), void *arg)
{
	for (;;) {
		ssize_t n = read(trace.fd, trace.buf + trace.len,
				 sizeof(trace.buf) - 1 - trace.len);
		char *line = trace.buf, *end, *name, *fields;

		if (n <= 0)
			return;
		trace.len += n;
		trace.buf[trace.len] = '\0';
		TEST_ASSERT(!strstr(trace.buf, "LOST"), "events were lost");

		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			name = strstr(line, ": kvm_spe_");
			fields = name ? strstr(name + 2, ": ") : NULL;
			if (!fields)
				continue;
			*fields = '\0';
			fn(name + 2, fields + 2, arg);
		}
		trace.len -= line - trace.buf;
		memmove(trace.buf, line, trace.len);
	}
}

/* What the host took away of a range of guest frames, in pages */
struct taken {
	u64 from, to;
	u64 unmapped, protected;
};

static void count_taken(const char *name, const char *fields, void *arg)
{
	struct taken *t = arg;
	unsigned long start, end;
	unsigned int vcpu;
	char what[32];

	if (strcmp(name, "kvm_spe_stale"))
		return;
	TEST_ASSERT(sscanf(fields, "vcpu %u: pages [%lx, %lx) %31s",
			   &vcpu, &start, &end, what) == 4,
		    "kvm_spe_stale: %s", fields);
	start = max(start, t->from);
	end = min(end, t->to);
	if (start >= end)
		return;
	if (!strcmp(what, "unmapped"))
		t->unmapped += end - start;
	else
		t->protected += end - start;
}

/* Since the last call, of the guest's memory from @gpa on */
static struct taken taken(u64 gpa, size_t len)
{
	u64 page = getpagesize();
	struct taken t = { .from = gpa / page, .to = (gpa + len) / page };

	trace_read(count_taken, &t);
	return t;
}

/* --- What the SPU wrote ---------------------------------------------------- */

/* From the program's link */
extern char __executable_start, etext;

/*
 * Decodes what is in the buffer between two of the guest's addresses, as the host
 * sees it now: wherever the SPU wrote to another page, or did not write, there is
 * no record. Returns how many there are.
 */
static u64 check_records(struct pin_vm *v, u64 from, u64 to)
{
	u64 size = v->record_size, n = 0;
	struct spe_record rec;

	while (from < to) {
		int len = spe_next_record(v->buf + (from - BUF_BASE), to - from, &rec);

		/* Zeroes are padding: a page that is new must not hide behind a record */
		TEST_ASSERT(len > 0 && len <= size, "no record at 0x%lx, before 0x%lx", from, to);
		TEST_ASSERT(rec.has_pc && rec.el == 1 && rec.pc >= (u64)&__executable_start &&
			    rec.pc < (u64)&etext,
			    "a record without a PC of the guest at 0x%lx", from);
		from += len;
		n++;
	}

	return n;
}

/*
 * Is this the number of records for what was executed? Without it in
 * PMSIDR_EL1 that instructions are counted, only that there are some.
 */
static void check_number(struct pin_vm *v, u64 records, u64 insns, u64 rounds)
{
	u64 least = insns / PER_RECORD, most = (insns + rounds * ROUND_INSNS) / PER_RECORD + 1;

	if (!v->arch_insns) {
		least = 1;
		most = ~0UL;
	}
	TEST_ASSERT(records + 1 >= least && records <= most,
		    "%lu records of %lu instructions in %lu rounds, %lu to %lu expected",
		    records, insns, rounds, least - 1, most);
}

/* The guest waits at its next round, with the buffer disabled. */
static void hold(struct pin_vm *v)
{
	int i;

	WRITE_ONCE(v->ctl->hold, 0);
	for (i = 0; i < 20000 && !READ_ONCE(v->ctl->held); i++)
		usleep(500);
	TEST_ASSERT(i < 20000, "the guest hangs");
}

static void release(struct pin_vm *v)
{
	WRITE_ONCE(v->ctl->hold, ~0UL);
	while (READ_ONCE(v->ctl->held))
		usleep(100);
}

/* The guest is in a round that has begun since. */
static void wait_for_profile(struct pin_vm *v)
{
	u64 rounds = READ_ONCE(v->ctl->rounds);

	while (READ_ONCE(v->ctl->rounds) == rounds || !READ_ONCE(v->ctl->profiling))
		usleep(200);
}

/* A guest that waits does @n rounds, and waits again. */
static void step(struct pin_vm *v, u64 n)
{
	u64 round = v->ctl->rounds + n;
	int i;

	WRITE_ONCE(v->ctl->hold, round);
	for (i = 0; i < 20000 && READ_ONCE(v->ctl->held) != round + 1; i++)
		usleep(500);
	TEST_ASSERT(i < 20000, "the guest hangs");
}

/*
 * With the guest waiting: all that it profiles from now on is in the memory that
 * the host has there, no more and no less. It writes to all of [addr, addr + len).
 */
static void check_profile_at(struct pin_vm *v, void *addr, size_t len)
{
	u64 part = v->ctl->size / v->ctl->parts, end, i, records = 0, insns = v->ctl->insns;
	u64 events = v->ctl->refused + v->ctl->lost + v->ctl->full + v->ctl->other;
	u64 faults = vcpu_get_stat(v->vcpu, spe_stage2_fault);
	u64 iterations = v->ctl->iterations;

	v->ctl->offset = addr - v->buf;
	v->ctl->iterations = (len / v->record_size + 4) * PER_RECORD / WORK_INSNS;
	for (i = 0; i < v->ctl->parts; i++)
		memset(v->buf + i * part + v->ctl->offset, POISON, 2 * len);

	step(v, v->ctl->parts);

	for (i = 0; i < v->ctl->parts; i++) {
		TEST_ASSERT_EQ(v->ctl->from[i], BUF_BASE + i * part + v->ctl->offset);
		records += check_records(v, v->ctl->from[i], v->ctl->to[i]);
		/* No byte behind PMBPTR_EL1 */
		for (end = v->ctl->to[i]; end < v->ctl->from[i] + 2 * len; end++)
			TEST_ASSERT(*(u8 *)(v->buf + (end - BUF_BASE)) == POISON,
				    "0x%lx was written, behind PMBPTR_EL1 0x%lx",
				    end, v->ctl->to[i]);
	}
	check_number(v, records, v->ctl->insns - insns, v->ctl->parts);
	TEST_ASSERT_EQ(v->ctl->refused + v->ctl->lost + v->ctl->full + v->ctl->other, events);
	TEST_ASSERT_EQ(vcpu_get_stat(v->vcpu, spe_stage2_fault), faults);

	v->ctl->offset = 0;
	v->ctl->iterations = iterations;
}

/* --- The guest's own doing ------------------------------------------------ */

struct toggle {
	const char *name;
	int parts;
	int src;
	bool apart;		/* the parts do not make up one buffer */
};

static const struct toggle toggles[] = {
	{ "unchanged", 1, VM_MEM_SRC_ANONYMOUS },
	{ "alternating halves", 2, VM_MEM_SRC_ANONYMOUS },
	{ "eight parts in turn", 8, VM_MEM_SRC_ANONYMOUS },
	{ "as many buffers as threads have", MAX_PARTS, VM_MEM_SRC_ANONYMOUS, true },
	{ "THP", 2, VM_MEM_SRC_ANONYMOUS_THP },
	{ "hugetlb", 2, VM_MEM_SRC_ANONYMOUS_HUGETLB },
	{ "shmem", 2, VM_MEM_SRC_SHMEM },
	{ "guest_memfd", 2, SRC_GUEST_MEMFD },
};

/*
 * Bytes of the buffer that stage 2 maps writable by blocks and by pages. False if
 * the host does not show them.
 */
static bool stage2_leaves(struct pin_vm *v, u64 *blocks, u64 *pages)
{
	char name[128], line[256];
	FILE *f;

	snprintf(name, sizeof(name), "/sys/kernel/debug/kvm/%d-%d/stage2_page_tables", getpid(),
		 v->vm->fd);
	f = fopen(name, "r");
	if (!f)
		return false;

	*blocks = 0;
	*pages = 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		int level;

		if (sscanf(line, "0x%lx-0x%lx %*u%*c %d", &from, &to, &level) != 3)
			continue;
		from = max(from, BUF_BASE);
		to = min(to, BUF_BASE + BUF_SIZE);
		if (from >= to || !strstr(line, " R W "))
			continue;
		if (strstr(line, " BLK"))
			*blocks += to - from;
		else if (level == 3)
			*pages += to - from;
	}
	fclose(f);

	return true;
}

/* Stage 2 has leaves of the size that the host's memory has. */
static void check_leaves(struct pin_vm *v, const struct toggle *t)
{
	u64 blocks, pages, huge = 0;

	/* Where a huge page is larger than the buffer, there are none */
	if (getpagesize() != SZ_4K)
		return;

	if (t->src == VM_MEM_SRC_ANONYMOUS_HUGETLB)
		huge = BUF_SIZE;
	else if (t->src == VM_MEM_SRC_ANONYMOUS_THP)
		huge = mapping_bytes(v->buf, "AnonHugePages:");
	if (t->src == VM_MEM_SRC_ANONYMOUS_THP)
		TEST_ASSERT(huge >= SZ_2M, "the host has no huge page for the buffer");

	if (!stage2_leaves(v, &blocks, &pages)) {
		ksft_print_msg("no stage2_page_tables in debugfs: leaves are not looked at\n");
		return;
	}
	TEST_ASSERT(blocks == min(huge, BUF_SIZE) && pages == BUF_SIZE - blocks,
		    "%lu bytes in blocks, %lu in pages; the host has %lu in huge pages",
		    blocks, pages, huge);
}

/* Unchanged enables pin nothing, and what is pinned is bounded. */
static void test_toggle(const void *arg)
{
	const struct toggle *t = arg;
	struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), t->src);
	u64 pin, reuse, pages, size = BUF_SIZE;

	v.ctl->parts = t->parts;
	if (t->apart) {
		v.ctl->gap = getpagesize();
		size -= t->parts * getpagesize();
	}
	v.ctl->toggles = t->parts + 2;
	run(&v);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	reuse = vcpu_get_stat(v.vcpu, spe_pin_reuse);
	pages = pinned(&v);

	if (!t->apart)
		check_leaves(&v, t);
	TEST_ASSERT(pages >= size / getpagesize(), "%lu pages pinned", pages);
	TEST_ASSERT(pages <= formula(spe_valid_size(0)), "%lu pages pinned", pages);
	/* guest_memfd does not move: its pages need no pin */
	if (t->src != SRC_GUEST_MEMFD)
		TEST_ASSERT(spe_pins_outstanding() >= (s64)pages, "fewer are pinned");
	else
		TEST_ASSERT(spe_pins_outstanding() < (s64)pages, "guest_memfd is pinned");

	v.ctl->toggles = 1000;
	run(&v);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), pin);
	TEST_ASSERT_EQ(pinned(&v), pages);
	TEST_ASSERT(vcpu_get_stat(v.vcpu, spe_pin_reuse) >= reuse + 1000, "%lu enables reused pins",
		    vcpu_get_stat(v.vcpu, spe_pin_reuse) - reuse);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other, 0);
	TEST_ASSERT(v.ctl->bytes, "no records");

	pin_vm_free(&v);
}

/* Windows that do not fit together take turns; the maximum is never exceeded. */
static void test_windows(const void *arg)
{
	struct pin_vm v = pin_vm_create_backed(SZ_1M, VM_MEM_SRC_ANONYMOUS);
	u64 i, most = formula(SZ_1M);

	v.ctl->parts = 4;
	v.ctl->toggles = 4;
	for (i = 0; i < 20; i++) {
		run(&v);
		TEST_ASSERT(pinned(&v) <= most, "%lu of %lu pages", pinned(&v), most);
	}
	TEST_ASSERT(vcpu_get_stat(v.vcpu, spe_pin) > BUF_SIZE / getpagesize(),
		    "nothing was evicted");

	/* More of them than KVM remembers, and than fit: 1 MiB takes turns in 4 MiB */
	v.ctl->parts = MAX_PARTS;
	v.ctl->gap = BUF_SIZE / MAX_PARTS / 2;
	v.ctl->toggles = MAX_PARTS;
	for (i = 0; i < 4; i++) {
		run(&v);
		TEST_ASSERT(pinned(&v) <= most, "%lu of %lu pages", pinned(&v), most);
		TEST_ASSERT(pinned(&v) >= most / 4, "only %lu of %lu pages", pinned(&v), most);
	}
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);

	pin_vm_free(&v);
}

/* Profiles in one part of the buffer; returns how many pages had to be pinned. */
static u64 run_part(struct pin_vm *v, u64 part, u64 size)
{
	u64 pin = vcpu_get_stat(v->vcpu, spe_pin);

	v->ctl->ptr = BUF_BASE + part * size;
	v->ctl->size = size;
	v->ctl->toggles = 1;
	run(v);

	return vcpu_get_stat(v->vcpu, spe_pin) - pin;
}

/* What has not been enabled for longest makes room. */
static void test_order(const void *arg)
{
	u64 size = SZ_512K, pages = size / getpagesize() - 1, i;
	struct pin_vm v;

	if (getpagesize() == SZ_64K)
		spe_skip("a fifth part fits into what is allowed for tables");

	v = pin_vm_create_backed(SZ_2M, VM_MEM_SRC_ANONYMOUS);

	/* They are not parts of one buffer, which are one window */
	v.ctl->gap = getpagesize();

	/* Four have room */
	for (i = 0; i < 4; i++)
		TEST_ASSERT(run_part(&v, i, size) >= pages, "part %lu was pinned before", i);
	for (i = 0; i < 4; i++)
		TEST_ASSERT_EQ(run_part(&v, i, size), 0);
	TEST_ASSERT_EQ(run_part(&v, 0, size), 0);

	/* Instead of the second, which is the oldest now; then of the third */
	TEST_ASSERT(run_part(&v, 4, size) >= pages, "part 4 was pinned before");
	TEST_ASSERT_EQ(run_part(&v, 3, size), 0);
	TEST_ASSERT_EQ(run_part(&v, 0, size), 0);
	TEST_ASSERT_EQ(run_part(&v, 4, size), 0);
	TEST_ASSERT(run_part(&v, 1, size) > 0, "the part that is enabled least was kept");
	TEST_ASSERT_EQ(run_part(&v, 3, size), 0);
	TEST_ASSERT_EQ(run_part(&v, 0, size), 0);

	TEST_ASSERT(pinned(&v) <= formula(SZ_2M), "%lu pages", pinned(&v));
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other, 0);
	pin_vm_free(&v);
}

/* What makes the host short of memory, and what it did about it */
struct pressure {
	struct pin_vm *v;
	char cgroup[64];
	bool stop;
	void *alike;
	u64 rounds;
	u64 compacted, swapped;
};

/* What this process uses from now on is limited. */
static void limit_memory(struct pressure *p, const char *max)
{
	char name[128], pid[16];

	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	snprintf(p->cgroup, sizeof(p->cgroup), "/sys/fs/cgroup/spe-%d", getpid());
	snprintf(name, sizeof(name), "%s/memory.max", p->cgroup);
	if (mkdir(p->cgroup, 0700) || access(name, W_OK))
		spe_skip("no memory cgroup");
	write_file(name, max);
	snprintf(name, sizeof(name), "%s/cgroup.procs", p->cgroup);
	snprintf(pid, sizeof(pid), "%d", getpid());
	write_file(name, pid);
}

static u64 limit_value(struct pressure *p, const char *file, const char *key)
{
	char name[128];

	snprintf(name, sizeof(name), "%s/%s", p->cgroup, file);
	return spe_proc_value(name, key);
}

static void unlimit_memory(struct pressure *p)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	write_file("/sys/fs/cgroup/cgroup.procs", pid);
	/* What is swapped out keeps it; it goes with the last page */
	if (rmdir(p->cgroup))
		ksft_print_msg("%s: %s\n", p->cgroup, strerror(errno));
}

/*
 * The host is short of memory: it swaps, merges and compacts what is not pinned
 * of the VM's memory, the buffer, the guest's program and its tables included.
 */
static void *pressure(void *arg)
{
	struct pressure *p = arg;
	struct userspace_mem_region *data = memslot2region(p->v->vm, 0);
	size_t len = SZ_8M;
	char name[128];
	u64 moved;
	void *mem;

	snprintf(name, sizeof(name), "%s/memory.reclaim", p->cgroup);

	p->swapped = vm_counter("pswpout");
	do {
		mem = some_memory(len);
		write_file(name, "4M");
		madvise(p->v->buf, BUF_SIZE, MADV_PAGEOUT);
		madvise(data->host_mem, data->region.memory_size, MADV_PAGEOUT);
		munmap(mem, len);

		mem = fragment(SZ_2M);
		moved = vm_counter("pgmigrate_success");
		write_file("/proc/sys/vm/compact_memory", "1");
		p->compacted += vm_counter("pgmigrate_success") - moved;
		munmap(mem, SZ_2M);

		WRITE_ONCE(p->rounds, p->rounds + 1);
		usleep(100000);
	} while (!READ_ONCE(p->stop));
	p->swapped = vm_counter("pswpout") - p->swapped;

	return NULL;
}

/* As the driver does for a task that is switched in and out, very often. */
static void test_many(const void *arg)
{
	struct pressure p = {};
	u64 pin, reuse, pages, faults, lost, merged, events, i;
	struct taken t = { .to = ~0UL };
	pthread_t thread;
	struct pin_vm v;

	if (!add_swap())
		spe_skip("no swap");
	limit_memory(&p, "14M");
	v = pin_vm_create();
	p.v = &v;

	/* Half of the buffer: the other half is not pinned, and may go */
	for (i = 0; i < BUF_SIZE; i += getpagesize())
		*(u64 *)(v.buf + i) = i % SZ_64K;
	v.ctl->size = BUF_SIZE / 2;
	v.ctl->parts = 2;
	run(&v);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	reuse = vcpu_get_stat(v.vcpu, spe_pin_reuse);
	pages = pinned(&v);

	trace_enable("kvm_spe_stale");
	v.ctl->iterations = 100;
	v.ctl->anywhere = 1;
	v.ctl->toggles = 10;

	/* What is swapped out cannot be merged: that first, while the guest profiles */
	p.alike = start_ksm(SZ_256K);
	madvise(v.buf, BUF_SIZE, MADV_MERGEABLE);
	for (i = 0, merged = 0; i < 20000 && merged <= SZ_256K / getpagesize(); i++) {
		run(&v);
		usleep(1000);
		merged = ksm_merged();
	}

	TEST_ASSERT(!pthread_create(&thread, NULL, pressure, &p), "pthread_create");
	for (; READ_ONCE(p.rounds) < 2; i++)
		run(&v);

	/* Each look at a page that is pinned takes it off stage 2: the guest is to get on */
	write_file("/sys/kernel/mm/ksm/sleep_millisecs", "200");
	write_file("/sys/kernel/mm/ksm/pages_to_scan", "50");
	v.ctl->toggles = spe_opt.enables;
	run(&v);
	WRITE_ONCE(p.stop, true);
	pthread_join(thread, NULL);
	trace_read(count_taken, &t);

	faults = vcpu_get_stat(v.vcpu, spe_stage2_fault);
	lost = v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other;
	pin = vcpu_get_stat(v.vcpu, spe_pin) - pin;
	events = limit_value(&p, "memory.events", "max ");
	ksft_print_msg("%lu enables: pinned anew %lu, taken %lu, reused %lu, stage 2 faults %lu\n",
		       spe_opt.enables + 10 * i, pin, t.unmapped,
		       vcpu_get_stat(v.vcpu, spe_pin_reuse) - reuse, faults);
	ksft_print_msg("swapped out %lu, merged %lu, moved %lu, at the limit %lu, reclaimed %lu\n",
		       p.swapped, merged, p.compacted, events,
		       limit_value(&p, "memory.stat", "pgsteal "));

	/* The host did what it could */
	TEST_ASSERT(p.swapped, "nothing was swapped out");
	/* With larger pages, what is compacted is hundreds of megabytes */
	TEST_ASSERT(p.compacted || getpagesize() != SZ_4K, "nothing was compacted");
	TEST_ASSERT(merged > SZ_256K / getpagesize(), "no page of the guest was merged");
	TEST_ASSERT(limit_value(&p, "memory.stat", "pgsteal "), "no page was reclaimed");

	/* What stage 2 has not lost is not pinned twice */
	TEST_ASSERT(pin <= t.unmapped, "%lu pages pinned anew, %lu were taken", pin, t.unmapped);
	/* ... and what is no longer used is not kept */
	TEST_ASSERT(pinned(&v) <= pages, "%lu pages pinned, %lu at first", pinned(&v), pages);
	TEST_ASSERT_EQ(faults, 0);
	TEST_ASSERT_EQ(lost, 0);
	if (v.fixed_size)
		check_number(&v, v.ctl->bytes / v.record_size, v.ctl->insns, v.ctl->rounds);

	/* Left alone, all of it is pinned again, and nothing else: each page has records */
	write_file("/sys/kernel/mm/ksm/run", "0");
	v.ctl->anywhere = 0;
	v.ctl->toggles = 2 * v.ctl->parts;
	run(&v);
	TEST_ASSERT_EQ(pinned(&v), pages);
	v.ctl->iterations = (v.ctl->size / v.ctl->parts / v.record_size + 4) * PER_RECORD /
			    WORK_INSNS;
	v.ctl->toggles = v.ctl->parts;
	v.ctl->full = 0;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->full, v.ctl->parts);
	for (i = 0; i < v.ctl->parts; i++)
		TEST_ASSERT(check_records(&v, v.ctl->from[i], v.ctl->to[i]), "no records");
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);

	pin_vm_free(&v);
	unlimit_memory(&p);
}

/* Every page of the host's in another place: one range a page. */
static void scatter(struct pin_vm *v)
{
	u64 i, n, host = getpagesize(), all = BUF_SIZE / host;

	for (i = 0; i < BUF_SIZE; i += v->vm->page_size) {
		u64 *pte = virt_get_pte_hva(v->vm, BUF_BASE + i);

		n = i / host;
		*pte += ((n * 97) % all - n) * host;
	}
}

static void test_scattered(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 pin;

	scatter(&v);
	run(&v);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	TEST_ASSERT(pinned(&v) <= formula(spe_valid_size(0)), "%lu pages", pinned(&v));
	v.ctl->toggles = 100;
	run(&v);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), pin);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);

	pin_vm_free(&v);
}

/* The tables that the guest takes in turn */
static void set_pgds(struct pin_vm *v, u64 first, u64 second)
{
	int i;

	for (i = 0; i < NR_PGDS; i++)
		v->ctl->pgds[i] = i % 2 ? second : first;
}

/*
 * Two tables, as of two processes, are the same where the buffer begins, and
 * differ further on: at another TTBR0_EL1, all of the buffer is walked.
 */
static void test_other_tables(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 ttbr = vcpu_get_reg(v.vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1));
	u64 page = v.vm->page_size, other, pin;
	/*
	 * The other one maps a page to the second half of the buffer, far behind
	 * the descriptors that KVM looks at each time.
	 */
	u64 half = BUF_SIZE / 2, offset = half / 8 * 5;
	gva_t far = BUF_BASE + offset;
	gpa_t pgd;

	*copy_tables(&v, far, &pgd) += half;
	other = ttbr - v.pgd + pgd;

	/* What both have in common is known of the other one before */
	set_pgds(&v, other, other);
	v.ctl->flush = 1;
	v.ctl->toggles = 1;
	v.ctl->iterations = 1000;
	v.ctl->size = half / 8 * 4;
	run(&v);

	v.ctl->iterations = ((offset + page) / v.record_size + 4) * PER_RECORD / WORK_INSNS;
	v.ctl->size = half;
	set_pgds(&v, ttbr, ttbr);
	run(&v);
	memset(v.buf + offset + half, POISON, page);
	set_pgds(&v, other, other);
	run(&v);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->too_large + v.ctl->lost +
		       v.ctl->other, 0);

	/* The last round went by the other table */
	if (v.fixed_size) {
		TEST_ASSERT(*(u8 *)(v.buf + offset + half) != POISON, "not written to");
		check_records(&v, BUF_BASE, far);
		check_records(&v, far + half, far + half + page);
		check_number(&v, v.ctl->bytes / v.record_size, v.ctl->insns, v.ctl->rounds);
	}

	/* Both are known now */
	set_pgds(&v, ttbr, other);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	v.ctl->iterations = 1000;
	v.ctl->toggles = 100;
	run(&v);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), pin);
	pin_vm_free(&v);
}

enum idle {
	IDLE_DISABLED,		/* the buffer, and userspace runs something else */
	IDLE_PAUSED,		/* with the buffer enabled */
	IDLE_WFI,		/* with the buffer enabled, in KVM_RUN */
	NR_IDLE,
};

/* An interrupt that nothing else uses */
#define WAKE_INTID		40

/* Pins of vCPUs that do not profile go after some seconds, not earlier. */
static void test_idle(const void *arg)
{
	struct pin_vm v[NR_IDLE];
	struct timespec begin;
	u64 now[NR_IDLE], i, pin;
	pthread_t thread;

	for (i = 0; i < NR_IDLE; i++) {
		v[i] = pin_vm_create();
		v[i].ctl->toggles = 1;
		v[i].ctl->pause = i != IDLE_DISABLED;
	}
	v[IDLE_WFI].ctl->wfi = WAKE_INTID;
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_thread, &v[IDLE_WFI]), "pthread_create");
	while (!READ_ONCE(v[IDLE_WFI].ctl->profiling))
		usleep(1000);
	run(&v[IDLE_PAUSED]);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	run(&v[IDLE_DISABLED]);

	for (;;) {
		for (i = 0; i < NR_IDLE; i++)
			now[i] = pinned(&v[i]);
		/* Not later, however slow the machine is */
		if (timespec_to_ns(timespec_elapsed(begin)) > 2LL * NSEC_PER_SEC)
			break;
		for (i = 0; i < NR_IDLE; i++)
			TEST_ASSERT(now[i] >= BUF_SIZE / getpagesize(), "%lu: %lu pages pinned", i,
				    now[i]);
		usleep(100000);
	}
	for (i = 0; i < NR_IDLE; i++)
		TEST_ASSERT(pinned_falls_to(&v[i], 0, 20000), "%lu: %lu pages still pinned", i,
			    pinned(&v[i]));
	TEST_ASSERT_EQ(v[IDLE_WFI].ctl->rounds, 0);

	/* The profiles go on, or begin */
	v[IDLE_PAUSED].ctl->pause = 0;
	kvm_arm_irq_line(v[IDLE_WFI].vm, WAKE_INTID, 1);
	pthread_join(thread, NULL);
	run(&v[IDLE_PAUSED]);
	run(&v[IDLE_DISABLED]);

	for (i = 0; i < NR_IDLE; i++) {
		struct guest_ctl *c = v[i].ctl;

		pin = vcpu_get_stat(v[i].vcpu, spe_pin);
		TEST_ASSERT(pin >= 2 * BUF_SIZE / getpagesize(), "%lu: %lu pages pinned in all",
			    i, pin);
		/* Those from before as well */
		check_number(&v[i], check_records(&v[i], c->from[0], c->to[0]),
			     i == IDLE_DISABLED ? c->insns / 2 : c->insns, 1);
		TEST_ASSERT_EQ(c->full + c->refused + c->too_large + c->lost + c->other, 0);
		TEST_ASSERT_EQ(vcpu_get_stat(v[i].vcpu, spe_stage2_fault), 0);
		pin_vm_free(&v[i]);
	}
}

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	TEST_ASSERT(!syscall(__NR_capget, &header, caps), "capget");
	caps[0].effective &= ~BIT(CAP_IPC_LOCK);
	TEST_ASSERT(!syscall(__NR_capset, &header, caps), "capset");
}

/* RLIMIT_MEMLOCK, without CAP_IPC_LOCK. */
static void test_rlimit(const void *arg)
{
	u64 before = spe_locked_bytes(), charge = formula(spe_valid_size(0)) * getpagesize();
	struct rlimit limit = { .rlim_cur = before + charge, .rlim_max = before + charge };
	struct pin_vm v;

	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
	drop_ipc_lock();

	v = pin_vm_create();
	TEST_ASSERT_EQ(spe_locked_bytes(), before + charge);
	run(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), before + charge);
	TEST_ASSERT_EQ(v.ctl->too_large, 0);
	pin_vm_free(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);

	/* A page less, and there is no vCPU with SPE */
	limit.rlim_cur -= getpagesize();
	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
	v = pin_vm_create_uninitialised(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, NULL);
	SPE_CHECK(spe_init(v.vcpu), ENOMEM);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
	pin_vm_free(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

/* Without a maximum RLIMIT_MEMLOCK decides, when the guest enables its buffer */
static void test_no_limit_rlimit(const void *arg)
{
	u64 before = spe_locked_bytes();
	struct rlimit limit = { .rlim_cur = before + BUF_SIZE, .rlim_max = before + BUF_SIZE };
	struct pin_vm v;

	if (spe_spus[0].max_buff_size)
		spe_skip("the SPU has a maximum of its own");

	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
	drop_ipc_lock();

	/* The buffer alone would fit, its tables do not */
	v = pin_vm_create_backed(0, VM_MEM_SRC_ANONYMOUS);
	v.ctl->toggles = 3;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 3);
	TEST_ASSERT_EQ(v.ctl->bytes, 0);
	TEST_ASSERT_EQ(pinned(&v), 0);
	TEST_ASSERT(spe_locked_bytes() <= before + BUF_SIZE, "more than the limit is charged");

	/* Half of it does */
	v.ctl->parts = 2;
	v.ctl->toggles = 1;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 3);
	TEST_ASSERT(v.ctl->bytes, "no records");
	TEST_ASSERT(pinned(&v) >= BUF_SIZE / 2 / getpagesize(), "not pinned");
	pin_vm_free(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

/* Without a maximum it is charged when the guest enables its buffer. */
static void test_no_limit(const void *arg)
{
	u64 before = spe_locked_bytes();
	struct pin_vm v;

	if (spe_spus[0].max_buff_size)
		spe_skip("the SPU has a maximum of its own");

	v = pin_vm_create_backed(0, VM_MEM_SRC_ANONYMOUS);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
	run(&v);
	TEST_ASSERT(spe_locked_bytes() >= before + BUF_SIZE, "not charged");
	TEST_ASSERT(pinned(&v) >= BUF_SIZE / getpagesize(), "not pinned");
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);

	pin_vm_free(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);

	/* Many small buffers: those of long ago are not kept */
	v = pin_vm_create_backed(0, VM_MEM_SRC_ANONYMOUS);
	v.ctl->parts = MAX_PARTS;
	v.ctl->gap = BUF_SIZE / MAX_PARTS - getpagesize();
	v.ctl->toggles = 2 * MAX_PARTS;
	run(&v);
	TEST_ASSERT(pinned(&v) < MAX_PARTS, "%lu pages pinned", pinned(&v));
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);
	pin_vm_free(&v);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

/* --- Memory that is pulled away ------------------------------------------- */

enum pull_flags {
	/* In between the pages cannot be had: row 5 is what the guest gets */
	MAY_REFUSE	= BIT(0),
	/* The host's page stays where it is: what is pinned does not move */
	SAME_PAGE	= BIT(1),
	/* Paused, the VM has no pins of it afterwards */
	GIVES_BACK	= BIT(2),
	/* It takes long: a few times are enough */
	SLOW		= BIT(3),
	/* Stage 2 loses the pages, or may no longer write to them, each time */
	UNMAPS		= BIT(4),
	PROTECTS	= BIT(5),
	/* Stage 2 keeps the pages: kvm_spe_stale has nothing to say */
	KEEPS		= BIT(6),
	/* 'acts' counts each time */
	ACTS		= BIT(7),
	/* What was in the pages is lost */
	LOSES		= BIT(8),
	/* In between the guest does not have them, until it has been told */
	WITHDRAWS	= BIT(9),
	/* The pull lets the guest wait, and go on, itself */
	HOLDS		= BIT(10),
	/* Stage 2 loses the pages now and then */
	HITS		= BIT(11),
};

/*
 * How often a pull has done its work, where stage 2 does not show it. One that
 * never does says nothing of the pins.
 */
static u64 acts;

/* What comes of it */
static u64 pages_moved;

struct pull {
	const char *name;
	void (*fn)(struct pin_vm *v, void *addr, size_t len);
	u32 flags;
	int src;
	int level;		/* not the buffer, but its table of this level */
};

/* The round that a pull hits: one that begins before the pages, and ends behind them */
static struct hit {
	bool on;
	bool to_end;		/* what is withdrawn comes back when the round is over */
	u64 rounds, insns, clean;	/* before it */
	size_t size;		/* what it may write to */
	u8 *end;		/* of the pages */
	void *lost;		/* of which the pull loses the contents */
	size_t lost_len;
	u64 early;		/* pulls that came before the SPU was behind the pages */
	u64 anew;		/* rounds that wrote to the new pages */
} hit;

/*
 * A VM that is paused gives back what the host wants within 100 ms. A machine that
 * is emulated, or has too much else to do, gets some tries.
 */
#define GIVE_BACK_TRIES		3

static struct give_back {
	bool on;
	bool soon;
	u64 since, pages, before;
	s64 outstanding;
} give_back;

static void begin_give_back(struct pin_vm *v, u64 pages)
{
	give_back = (struct give_back) {
		.on		= true,
		.pages		= pages,
		.before		= pinned(v),
		.outstanding	= spe_pins_outstanding(),
	};
	give_back.since = now_ms();
}

/* A kernel that checks its locks, and likely its memory, is ten times as slow. */
static u64 give_back_ms(void)
{
	return access("/proc/lockdep", F_OK) ? 100 : 1000;
}

static void end_give_back(struct pin_vm *v)
{
	struct give_back *g = &give_back;
	u64 ms;

	if (!g->on)
		return;

	g->on = false;
	TEST_ASSERT(pinned_falls_since(v, g->before - g->pages, g->since, 4000),
		    "%lu of %lu pages still pinned", pinned(v), g->before);
	ms = now_ms() - g->since;
	ksft_print_msg("%lu pages were given back after %lu ms\n", g->pages, ms);
	g->soon = ms <= give_back_ms();
	/* guest_memfd's are not pinned in the host's sense */
	if (v->memfd < 0)
		TEST_ASSERT(spe_pins_outstanding() <= g->outstanding - (s64)g->pages,
			    "%ld pages given back", g->outstanding - spe_pins_outstanding());
}

/* Only then can something be expected of what follows. */
static bool is_early(struct pin_vm *v)
{
	return !READ_ONCE(v->ctl->held) &&
	       (hit.lost_len > hit.size || READ_ONCE(*hit.end) == POISON);
}

/*
 * The host has taken pages from the guest, and may see them at @view. The SPU
 * must not reach them, whether the guest is told so or waits for them.
 */
static void while_withdrawn(struct pin_vm *v, void *view, size_t len)
{
	int i, most = hit.to_end ? 20000 : 6;
	void *before;

	if (!hit.on) {
		usleep(500);
		end_give_back(v);
		return;
	}

	hit.early += hit.to_end && is_early(v);
	before = malloc(len + 1);
	TEST_ASSERT(before, "malloc");
	if (view)
		memcpy(before, view, len);
	for (i = 0; i < most && !READ_ONCE(v->ctl->held); i++)
		usleep(500);
	TEST_ASSERT(i < 20000, "the guest hangs");
	if (view)
		TEST_ASSERT(!memcmp(before, view, len), "the SPU wrote to what was taken from it");
	free(before);
}

static void *alias_of(struct pin_vm *v, void *addr)
{
	return addr_gpa2alias(v->vm, BUF_BASE + (addr - v->buf));
}

static void pull_dontneed(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!madvise(addr, len, MADV_DONTNEED), "MADV_DONTNEED");
}

static void pull_munmap(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!munmap(addr, len), "munmap");
	while_withdrawn(v, NULL, 0);
	TEST_ASSERT(mmap(addr, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == addr, "mmap");
}

static void pull_mremap(struct pin_vm *v, void *addr, size_t len)
{
	void *to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap");
	while_withdrawn(v, to, len);
	TEST_ASSERT(mremap(to, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr) == addr, "mremap");
}

static void pull_mprotect_read(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!mprotect(addr, len, PROT_READ), "mprotect");
	while_withdrawn(v, addr, len);
	TEST_ASSERT(!mprotect(addr, len, PROT_READ | PROT_WRITE), "mprotect");
}

static void mprotect_none(struct pin_vm *v, void *addr, size_t len, void *view)
{
	TEST_ASSERT(!mprotect(addr, len, PROT_NONE), "mprotect");
	while_withdrawn(v, view, len);
	TEST_ASSERT(!mprotect(addr, len, PROT_READ | PROT_WRITE), "mprotect");
}

static void pull_mprotect_none(struct pin_vm *v, void *addr, size_t len)
{
	mprotect_none(v, addr, len, NULL);
}

static void pull_mprotect_none_alias(struct pin_vm *v, void *addr, size_t len)
{
	mprotect_none(v, addr, len, alias_of(v, addr));
}

/* Memory that nobody has pinned is swapped out by the same call. */
static void pageout(void *addr, size_t len)
{
	size_t some = 16 * getpagesize();
	void *mem = some_memory(some);
	u64 swapped;

	if (!add_swap())
		spe_skip("no swap");
	swapped = vm_counter("pswpout");
	TEST_ASSERT(!madvise(addr, len, MADV_PAGEOUT), "MADV_PAGEOUT");
	TEST_ASSERT(!madvise(mem, some, MADV_PAGEOUT), "MADV_PAGEOUT");
	acts += vm_counter("pswpout") > swapped;
	munmap(mem, some);
}

static void pull_pageout(struct pin_vm *v, void *addr, size_t len)
{
	pageout(addr, len);
}

/* The host's own entries are no longer young. */
static void pull_cold(struct pin_vm *v, void *addr, size_t len)
{
	u64 young, page = getpagesize();
	void *p;

	for (p = addr; p < addr + len; p += page)
		READ_ONCE(*(char *)p);
	young = mapping_bytes(v->buf, "Referenced:");
	TEST_ASSERT(!madvise(addr, len, MADV_COLD), "MADV_COLD");
	acts += mapping_bytes(v->buf, "Referenced:") + len <= young;
}

static void pull_fork(struct pin_vm *v, void *addr, size_t len)
{
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		READ_ONCE(*(char *)addr);
		usleep(500);
		_exit(0);
	}
	/* Writes to the page, and leaves in it what the SPU has written */
	__atomic_fetch_or((char *)addr, 0, __ATOMIC_RELAXED);
	TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");
}

/* More pages than those that were alike for a start: the guest's */
static void wait_for_ksm(u64 alike)
{
	int i;

	for (i = 0; i < 1000 && ksm_merged() <= alike; i++)
		usleep(2000);
	acts += ksm_merged() > alike;
	usleep(20000);
}

static void pull_ksm(struct pin_vm *v, void *addr, size_t len)
{
	static void *mem;

	if (!mem)
		mem = start_ksm(SZ_256K);
	TEST_ASSERT(!madvise(v->buf, BUF_SIZE, MADV_MERGEABLE), "MADV_MERGEABLE");
	wait_for_ksm(SZ_256K / getpagesize());
}

/* Copies of a table, and the table itself */
static void pull_ksm_table(struct pin_vm *v, void *addr, size_t len)
{
	static void *mem;
	size_t i, size = 16 * len;

	if (!mem) {
		mem = start_ksm(size);
		for (i = 0; i < size; i += len)
			memcpy(mem + i, addr, len);
		TEST_ASSERT(!madvise(addr, len, MADV_MERGEABLE), "MADV_MERGEABLE");
	}
	wait_for_ksm(size / len);
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* While the guest waits, the host takes the pages of a block back, all of them. */
static void take_back(struct pin_vm *v, void *block)
{
	u64 others = pinned(v) - SZ_2M / getpagesize();

	pull_dontneed(v, block, SZ_2M);
	TEST_ASSERT(pinned_falls_to(v, others, 1000), "%lu pages still pinned", pinned(v));
}

#define THP_DIR			"/sys/kernel/mm/transparent_hugepage/"

static void write_value(const char *name, u64 value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);
	write_file(name, text);
}

/* By the system call, or by the daemon, which looks all the time. */
static bool collapse(void *block, bool daemon)
{
	u64 scans = spe_proc_value(THP_DIR "khugepaged/full_scans", ""), i;

	TEST_ASSERT(!madvise(block, SZ_2M, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	if (!daemon)
		return !madvise(block, SZ_2M, MADV_COLLAPSE);

	/* One that may have begun before, and one more */
	for (i = 0; i < 2000 && !mapping_bytes(block, "AnonHugePages:") &&
	     spe_proc_value(THP_DIR "khugepaged/full_scans", "") < scans + 2; i++)
		usleep(1000);
	errno = i < 2000 ? EAGAIN : ETIME;
	return mapping_bytes(block, "AnonHugePages:");
}

static u64 collapses(void)
{
	return spe_proc_value(THP_DIR "khugepaged/pages_collapsed", "");
}

/* Stage 2 loses the block, and the guest, which waits, gives it back. */
static void unpin_block(struct pin_vm *v, void *block)
{
	u64 others = pinned(v) - SZ_2M / getpagesize();

	TEST_ASSERT(!mprotect(block, SZ_2M, PROT_READ), "mprotect");
	TEST_ASSERT(!mprotect(block, SZ_2M, PROT_READ | PROT_WRITE), "mprotect");
	TEST_ASSERT(pinned_falls_to(v, others, 1000), "%lu pages still pinned", pinned(v));
}

/* The host splits the huge page itself, not only its mapping. Not if it is pinned. */
static bool split_folio(void *block)
{
	u64 split = vm_counter("thp_split_page");
	char text[64];

	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(), (u64)block, (u64)block + SZ_2M);
	write_file("/sys/kernel/debug/split_huge_pages", text);
	return vm_counter("thp_split_page") > split;
}

/* A huge page for small ones, in a part of the buffer, and small ones again */
static void collapse_and_split(struct pin_vm *v, bool daemon)
{
	void *block = (void *)(((u64)v->buf + SZ_2M - 1) & ~(u64)(SZ_2M - 1));
	u64 i, split, collapsed, page = getpagesize();

	if (page != SZ_4K)
		spe_skip("a huge page is larger than the buffer");

	/* Small pages, pinned: refused */
	hold(v);
	step(v, 2);
	take_back(v, block);
	TEST_ASSERT(!madvise(block, SZ_2M, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
	for (i = 0; i < SZ_2M; i += page)
		*(char *)(block + i) = 0;
	step(v, 2);
	TEST_ASSERT_EQ(mapping_bytes(block, "AnonHugePages:"), 0);
	TEST_ASSERT(!collapse(block, daemon) && errno == EAGAIN, "pinned pages were collapsed");

	/* No longer pinned: collapsed. The guest gets a block, or what is left for it */
	collapsed = collapses();
	unpin_block(v, block);
	for (i = 0; i < 2000 && !collapse(block, daemon); i++)
		usleep(500);
	TEST_ASSERT(mapping_bytes(block, "AnonHugePages:"), "not collapsed");
	/* It counts afterwards */
	for (i = 0; i < 1000 && daemon && collapses() == collapsed; i++)
		usleep(1000);
	TEST_ASSERT(i < 1000, "not by khugepaged");
	step(v, 2);

	if (daemon && !access("/sys/kernel/debug/split_huge_pages", W_OK)) {
		TEST_ASSERT(!split_folio(block), "a pinned page was split");
		unpin_block(v, block);
		/* Somebody else may have a passing reference */
		for (i = 0; i < 100 && !split_folio(block); i++)
			usleep(1000);
		TEST_ASSERT(i < 100, "not split");
		acts++;
		step(v, 2);
		release(v);
		return;
	}
	release(v);

	/* Under a guest that profiles, the host's huge mapping is split */
	split = vm_counter("thp_split_pmd");
	TEST_ASSERT(!mprotect(block, page, PROT_READ), "mprotect");
	TEST_ASSERT(!mprotect(block, page, PROT_READ | PROT_WRITE), "mprotect");
	acts += vm_counter("thp_split_pmd") > split && !mapping_bytes(block, "AnonHugePages:");
}

static void pull_collapse(struct pin_vm *v, void *addr, size_t len)
{
	collapse_and_split(v, false);
}

static void pull_khugepaged(struct pin_vm *v, void *addr, size_t len)
{
	u64 sleep = spe_proc_value(THP_DIR "khugepaged/scan_sleep_millisecs", "");
	u64 pages = spe_proc_value(THP_DIR "khugepaged/pages_to_scan", "");

	write_value(THP_DIR "khugepaged/pages_to_scan", SZ_64M / getpagesize());
	write_value(THP_DIR "khugepaged/scan_sleep_millisecs", 10);
	collapse_and_split(v, true);
	write_value(THP_DIR "khugepaged/pages_to_scan", pages);
	write_value(THP_DIR "khugepaged/scan_sleep_millisecs", sleep);
}

static void pull_compact(struct pin_vm *v, void *addr, size_t len)
{
	void *mem = fragment(SZ_4M);
	u64 moved = vm_counter("pgmigrate_success");

	if (getpagesize() != SZ_4K)
		spe_skip("the blocks that are compacted are hundreds of megabytes");

	write_file("/proc/sys/vm/compact_memory", "1");
	acts += vm_counter("pgmigrate_success") > moved;
	munmap(mem, SZ_4M);
}

static void need_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		spe_skip("one NUMA node");
}

/* To the other node. */
static void pull_move_pages(struct pin_vm *v, void *addr, size_t len)
{
	u64 i, page = getpagesize(), n = len / page;
	int from[4], to[4], status[4];
	u64 moved = pages_moved;
	void *pages[4];
	long ret;

	need_nodes();
	TEST_ASSERT(n <= ARRAY_SIZE(pages), "too many pages");
	for (i = 0; i < n; i++)
		pages[i] = addr + i * page;
	TEST_ASSERT(!syscall(__NR_move_pages, 0, n, pages, NULL, from, 0), "move_pages");
	for (i = 0; i < n; i++)
		to[i] = from[i] == 0;
	ret = syscall(__NR_move_pages, 0, n, pages, to, status, MPOL_MF_MOVE);
	TEST_ASSERT(ret >= 0, "move_pages: %s", strerror(errno));
	TEST_ASSERT(!syscall(__NR_move_pages, 0, n, pages, NULL, status, 0), "move_pages");
	for (i = 0; i < n; i++)
		pages_moved += from[i] >= 0 && status[i] == to[i];
	acts += pages_moved > moved;
}

static void pull_slot(struct pin_vm *v, void *addr, size_t len)
{
	struct userspace_mem_region *region = memslot2region(v->vm, BUF_SLOT);

	vm_mem_region_set_flags(v->vm, BUF_SLOT, 0);
	region->region.memory_size = 0;
	vm_ioctl(v->vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
	while_withdrawn(v, v->buf, min(BUF_SIZE, 64 * getpagesize()));
	region->region.memory_size = BUF_SIZE;
	vm_ioctl(v->vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
}

static void pull_dirty_log(struct pin_vm *v, void *addr, size_t len)
{
	unsigned long *bitmap = calloc(1, BUF_SIZE / v->vm->page_size / 8);
	int i;

	TEST_ASSERT(bitmap, "calloc");

	vm_mem_region_set_flags(v->vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	for (i = 0; i < 4; i++) {
		usleep(500);
		kvm_vm_get_dirty_log(v->vm, BUF_SLOT, bitmap);
	}
	vm_mem_region_set_flags(v->vm, BUF_SLOT, 0);
	free(bitmap);
}

static void pull_punch(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!madvise(addr, len, MADV_REMOVE), "MADV_REMOVE");
}

/* Pinned, it cannot be swapped out, but the kernel tries. */
static void pull_swap(struct pin_vm *v, void *addr, size_t len)
{
	pageout(v->buf, BUF_SIZE);
}

static void pull_reclaim(struct pin_vm *v, void *addr, size_t len)
{
	int fd = open("/sys/fs/cgroup/memory.reclaim", O_WRONLY);
	void *mem = some_memory(SZ_2M);
	u64 scanned, stolen;

	if (fd < 0 || !add_swap())
		spe_skip("no cgroup to reclaim from, or no swap");
	scanned = vm_counter("pgscan_anon");
	stolen = vm_counter("pgsteal_anon");
	/* Less than was asked for is an error */
	if (write(fd, "1M", 2) < 0)
		TEST_ASSERT(errno == EAGAIN || errno == EINTR, "memory.reclaim");
	acts += vm_counter("pgscan_anon") > scanned && vm_counter("pgsteal_anon") > stolen;
	close(fd);
	munmap(mem, SZ_2M);
}

static void pull_reclaim_classic(struct pin_vm *v, void *addr, size_t len)
{
	const char *name = "/sys/kernel/mm/lru_gen/enabled";
	u64 before;

	if (access(name, W_OK))
		spe_skip("no MGLRU");
	before = spe_proc_value(name, "");
	write_file(name, "0");
	TEST_ASSERT_EQ(spe_proc_value(name, ""), 0);
	pull_reclaim(v, addr, len);
	write_value(name, before);
}

static bool mark_idle(int idle, u64 pfn)
{
	u64 bits = BIT(pfn % 64);

	TEST_ASSERT(pwrite(idle, &bits, 8, pfn / 64 * 8) == 8, "page_idle");
	TEST_ASSERT(pread(idle, &bits, 8, pfn / 64 * 8) == 8, "page_idle");
	return bits & BIT(pfn % 64);
}

/* Clears the Access flag of the pages; at stage 2 those that are pinned are young. */
static void pull_idle(struct pin_vm *v, void *addr, size_t len)
{
	u64 *pfns = page_frames(addr, len), *other, i, page = getpagesize();
	int idle = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	void *mem = some_memory(page);

	if (idle < 0)
		spe_skip("no idle page tracking");

	for (i = 0; i < len / page; i++) {
		if (pfns[i])
			TEST_ASSERT(!mark_idle(idle, pfns[i]), "a page that is pinned is idle");
	}
	/* Nobody looks at this one, once it has come to the list of pages in use */
	madvise(mem, page, MADV_COLD);
	other = page_frames(mem, page);
	acts += other[0] && mark_idle(idle, other[0]);
	munmap(mem, page);
	free(other);
	free(pfns);
	close(idle);
}

/* The mapping is scanned, and stage 2 loses all of it. What is pinned is left out. */
static void pull_numa(struct pin_vm *v, void *addr, size_t len)
{
	u64 updates = vm_counter("numa_pte_updates");
	struct taken t;
	int i;

	need_nodes();
	write_file(NUMA_BALANCING, "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "2");
	for (i = 0; i < (acts ? 20 : 2000); i++) {
		usleep(2000);
		t = taken(BUF_BASE, BUF_SIZE);
		if (t.unmapped && vm_counter("numa_pte_updates") > updates) {
			acts++;
			return;
		}
	}
}

/* --- userfaultfd */

struct uffd {
	struct pin_vm *v;
	pthread_t thread;
	int fd, stop[2];
	u64 mode;
	bool wait;		/* don't answer: who asks may ask again */
	u64 faults;
};

static struct uffd uffd;

static void uffd_answer(struct uffd *u, u64 addr)
{
	u64 page = getpagesize();

	addr &= ~(page - 1);
	if (u->mode == UFFDIO_REGISTER_MODE_WP) {
		struct uffdio_writeprotect wp = { .range = { addr, page } };

		TEST_ASSERT(!ioctl(u->fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT");
	} else if (u->mode == UFFDIO_REGISTER_MODE_MINOR) {
		struct uffdio_continue cont = { .range = { addr, page } };

		TEST_ASSERT(!ioctl(u->fd, UFFDIO_CONTINUE, &cont) || errno == EEXIST,
			    "UFFDIO_CONTINUE");
	} else {
		struct uffdio_zeropage zero = { .range = { addr, page } };

		TEST_ASSERT(!ioctl(u->fd, UFFDIO_ZEROPAGE, &zero) || errno == EEXIST,
			    "UFFDIO_ZEROPAGE");
	}
}

static void *uffd_thread(void *arg)
{
	struct uffd *u = arg;
	struct pollfd fds[] = {
		{ .fd = u->fd, .events = POLLIN },
		{ .fd = u->stop[0], .events = POLLIN },
	};
	struct uffd_msg msg;

	for (;;) {
		TEST_ASSERT(poll(fds, 2, -1) > 0 || errno == EINTR, "poll");
		if (fds[1].revents)
			return NULL;
		if (!fds[0].revents || read(u->fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		if (msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		WRITE_ONCE(u->faults, u->faults + 1);
		if (!READ_ONCE(u->wait))
			uffd_answer(u, msg.arg.pagefault.address);
	}
}

static void uffd_start(struct pin_vm *v, u64 mode)
{
	struct uffdio_api api = {
		.api		= UFFD_API,
		.features	= UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (u64)v->buf, BUF_SIZE },
		.mode  = mode,
	};

	uffd.v = v;
	uffd.mode = mode;
	uffd.fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd.fd < 0)
		spe_skip("no userfaultfd");
	TEST_ASSERT(!ioctl(uffd.fd, UFFDIO_API, &api), "UFFDIO_API");
	TEST_ASSERT(!ioctl(uffd.fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	TEST_ASSERT(!pipe(uffd.stop), "pipe");
	TEST_ASSERT(!pthread_create(&uffd.thread, NULL, uffd_thread, &uffd), "pthread_create");
}

static void uffd_stop(void)
{
	TEST_ASSERT(write(uffd.stop[1], "", 1) == 1, "pipe");
	pthread_join(uffd.thread, NULL);
	close(uffd.fd);
	close(uffd.stop[0]);
	close(uffd.stop[1]);
}

static void uffd_take(struct pin_vm *v, void *addr, size_t len)
{
	struct uffdio_writeprotect wp = {
		.range	= { (u64)addr, len },
		.mode	= UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (uffd.mode == UFFDIO_REGISTER_MODE_WP)
		TEST_ASSERT(!ioctl(uffd.fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT");
	else
		TEST_ASSERT(!madvise(addr, len, MADV_DONTNEED), "MADV_DONTNEED");
}

static void pull_uffd(struct pin_vm *v, void *addr, size_t len, u64 mode)
{
	u64 i, page = getpagesize();

	if (!uffd.v)
		uffd_start(v, mode);
	if (mode == UFFDIO_REGISTER_MODE_MISSING || !hit.on) {
		uffd_take(v, addr, len);
		usleep(1000);
	} else {
		/* It takes its time for the answer, until which the round cannot be over */
		hit.to_end = false;
		WRITE_ONCE(uffd.wait, true);
		uffd_take(v, addr, len);
		while_withdrawn(v, mode == UFFDIO_REGISTER_MODE_MINOR ? alias_of(v, addr) : addr,
				len);
		WRITE_ONCE(uffd.wait, false);
		for (i = 0; i < len; i += page)
			uffd_answer(&uffd, (u64)addr + i);
	}
	acts = READ_ONCE(uffd.faults);
}

static void pull_uffd_missing(struct pin_vm *v, void *addr, size_t len)
{
	pull_uffd(v, addr, len, UFFDIO_REGISTER_MODE_MISSING);
}

static void pull_uffd_wp(struct pin_vm *v, void *addr, size_t len)
{
	pull_uffd(v, addr, len, UFFDIO_REGISTER_MODE_WP);
}

static void pull_uffd_minor(struct pin_vm *v, void *addr, size_t len)
{
	pull_uffd(v, addr, len, UFFDIO_REGISTER_MODE_MINOR);
}

/* --- memslots, huge pages, poison */

static void set_slot(struct pin_vm *v, u64 gpa, u64 size, u32 flags)
{
	struct kvm_userspace_memory_region2 region = memslot2region(v->vm, BUF_SLOT)->region;

	region.guest_phys_addr = gpa;
	region.memory_size = size;
	region.flags = flags;
	vm_ioctl(v->vm, KVM_SET_USER_MEMORY_REGION2, &region);
}

static void pull_slot_move(struct pin_vm *v, void *addr, size_t len)
{
	set_slot(v, 2UL * BUF_BASE, BUF_SIZE, 0);
	while_withdrawn(v, v->buf, min(BUF_SIZE, 64 * getpagesize()));
	set_slot(v, BUF_BASE, BUF_SIZE, 0);
}

static void pull_slot_readonly(struct pin_vm *v, void *addr, size_t len)
{
	set_slot(v, BUF_BASE, 0, 0);
	set_slot(v, BUF_BASE, BUF_SIZE, KVM_MEM_READONLY);
	while_withdrawn(v, v->buf, min(BUF_SIZE, 64 * getpagesize()));
	set_slot(v, BUF_BASE, 0, 0);
	set_slot(v, BUF_BASE, BUF_SIZE, 0);
}

static void *huge_page_of(void *addr)
{
	return (void *)((u64)addr & ~(u64)(SZ_2M - 1));
}

static void pull_hugetlb_dontneed(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!madvise(huge_page_of(addr), SZ_2M, MADV_DONTNEED), "MADV_DONTNEED");
}

static void pull_hugetlb_punch(struct pin_vm *v, void *addr, size_t len)
{
	hit.lost = huge_page_of(addr);
	hit.lost_len = SZ_2M;
	TEST_ASSERT(!madvise(hit.lost, SZ_2M, MADV_REMOVE), "MADV_REMOVE");
}

/* The guest loses a page to an error of the memory, and gets another. */
static void pull_poison(struct pin_vm *v, void *addr, size_t len)
{
	u64 page = getpagesize(), lost = spe_proc_value("/proc/meminfo", "HardwareCorrupted:");
	struct sigaction sa = { .sa_handler = nothing };

	hit.lost_len = page;
	/* The VMM is told by a signal */
	sigaction(SIGBUS, &sa, NULL);
	/* Not the page of zeroes, which is where nobody has written yet */
	__atomic_fetch_or((u64 *)addr, 0, __ATOMIC_RELAXED);
	if (madvise(addr, page, MADV_HWPOISON)) {
		if (errno == EPERM || errno == EINVAL)
			spe_skip("no MADV_HWPOISON");
		TEST_ASSERT(errno == EBUSY, "MADV_HWPOISON: %s", strerror(errno));
	}
	usleep(1000);
	acts += spe_proc_value("/proc/meminfo", "HardwareCorrupted:") > lost;
	pull_munmap(v, addr, page);
}

static void pull_memfd_punch(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!fallocate(v->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       addr - v->buf, len), "fallocate");
}

#define WITHDRAWN	(UNMAPS | MAY_REFUSE | GIVES_BACK | WITHDRAWS)

static const struct pull pulls[] = {
	{ "MADV_DONTNEED", pull_dontneed, UNMAPS | GIVES_BACK | LOSES },
	{ "munmap", pull_munmap, WITHDRAWN | LOSES },
	{ "mremap", pull_mremap, WITHDRAWN },
	{ "mprotect to read-only", pull_mprotect_read, WITHDRAWN },
	{ "mprotect to none", pull_mprotect_none, WITHDRAWN },
	{ "shmem mprotect to none", pull_mprotect_none_alias, WITHDRAWN, VM_MEM_SRC_SHMEM },
	{ "MADV_PAGEOUT", pull_pageout, KEEPS | SAME_PAGE | ACTS },
	{ "MADV_COLD", pull_cold, KEEPS | SAME_PAGE | ACTS },
	{ "fork", pull_fork, UNMAPS },
	{ "KSM", pull_ksm, UNMAPS | ACTS | SLOW },
	{ "collapse and split", pull_collapse, UNMAPS | MAY_REFUSE | ACTS | SLOW | HOLDS },
	{ "khugepaged, and split", pull_khugepaged, UNMAPS | ACTS | SLOW | HOLDS },
	{ "compaction", pull_compact, KEEPS | SAME_PAGE | SLOW },
	{ "move_pages", pull_move_pages, UNMAPS | ACTS },
	{ "shmem move_pages", pull_move_pages, UNMAPS | ACTS, VM_MEM_SRC_SHMEM },
	{ "memslot delete and create", pull_slot, WITHDRAWN },
	{ "dirty log", pull_dirty_log, PROTECTS | SAME_PAGE },
	{ "shmem MADV_DONTNEED", pull_dontneed, UNMAPS | GIVES_BACK, VM_MEM_SRC_SHMEM },
	{ "shmem punch hole", pull_punch, UNMAPS | GIVES_BACK | LOSES, VM_MEM_SRC_SHMEM },
	{ "shmem MADV_PAGEOUT", pull_pageout, HITS | ACTS, VM_MEM_SRC_SHMEM },
	{ "THP MADV_DONTNEED", pull_dontneed, UNMAPS | GIVES_BACK | LOSES,
	  VM_MEM_SRC_ANONYMOUS_THP },
	{ "THP mprotect to read-only", pull_mprotect_read, WITHDRAWN, VM_MEM_SRC_ANONYMOUS_THP },
	{ "THP dirty log", pull_dirty_log, PROTECTS | SAME_PAGE, VM_MEM_SRC_ANONYMOUS_THP },
	{ "THP fork", pull_fork, UNMAPS, VM_MEM_SRC_ANONYMOUS_THP },
	{ "guest_memfd punch hole", pull_memfd_punch, UNMAPS | GIVES_BACK | LOSES,
	  SRC_GUEST_MEMFD },
	{ "swap", pull_swap, KEEPS | SAME_PAGE | ACTS | SLOW },
	/* Reclaim asks only anonymous memory for pins before it unmaps */
	{ "shmem swap", pull_swap, UNMAPS | ACTS | SLOW, VM_MEM_SRC_SHMEM },
	{ "THP swap", pull_swap, KEEPS | SAME_PAGE | ACTS | SLOW, VM_MEM_SRC_ANONYMOUS_THP },
	{ "memory.reclaim", pull_reclaim, KEEPS | SAME_PAGE | ACTS | SLOW },
	/* Here it asks whether they are young, and those that are pinned are */
	{ "shmem memory.reclaim", pull_reclaim, KEEPS | SAME_PAGE | ACTS | SLOW,
	  VM_MEM_SRC_SHMEM },
	{ "memory.reclaim without MGLRU", pull_reclaim_classic,
	  KEEPS | SAME_PAGE | ACTS | SLOW },
	{ "idle page tracking", pull_idle, KEEPS | SAME_PAGE | ACTS },
	{ "THP idle page tracking", pull_idle, KEEPS | SAME_PAGE | ACTS,
	  VM_MEM_SRC_ANONYMOUS_THP },
	{ "NUMA balancing", pull_numa, SLOW },
	{ "userfaultfd missing", pull_uffd_missing, UNMAPS | ACTS | LOSES },
	{ "userfaultfd write-protect", pull_uffd_wp, UNMAPS | ACTS },
	{ "shmem userfaultfd minor", pull_uffd_minor, UNMAPS | ACTS, VM_MEM_SRC_SHMEM },
	{ "memslot move", pull_slot_move, WITHDRAWN },
	{ "memslot read-only", pull_slot_readonly, WITHDRAWN },
	{ "hugetlb MADV_DONTNEED", pull_hugetlb_dontneed, UNMAPS | GIVES_BACK,
	  VM_MEM_SRC_SHARED_HUGETLB },
	{ "hugetlb punch hole", pull_hugetlb_punch, UNMAPS | GIVES_BACK | LOSES,
	  VM_MEM_SRC_SHARED_HUGETLB },
	{ "hwpoison", pull_poison, UNMAPS | MAY_REFUSE | ACTS | LOSES },
	{ "shmem hwpoison", pull_poison, UNMAPS | MAY_REFUSE | ACTS | LOSES, VM_MEM_SRC_SHMEM },
	{ "level 3 table: mprotect to read-only", pull_mprotect_read, WITHDRAWN, .level = 3 },
	{ "level 3 table: mprotect to none", pull_mprotect_none, WITHDRAWN, .level = 3 },
	{ "level 3 table: move_pages", pull_move_pages, UNMAPS | ACTS, .level = 3 },
	{ "level 3 table: KSM", pull_ksm_table, UNMAPS | ACTS | SLOW, .level = 3 },
	{ "level 2 table: mprotect to read-only", pull_mprotect_read, WITHDRAWN, .level = 2 },
	{ "level 2 table: mprotect to none", pull_mprotect_none, WITHDRAWN, .level = 2 },
	{ "level 2 table: move_pages", pull_move_pages, UNMAPS | ACTS, .level = 2 },
};

/* The host page that has the guest's table of @level for the buffer, and nothing else. */
static void *table_page(struct pin_vm *v, int level)
{
	u64 page = getpagesize();
	void *table = virt_get_pte_hva_at_level(v->vm, BUF_BASE, level);
	void *other = virt_get_pte_hva_at_level(v->vm, (gva_t)&ctl, level);

	if (page != v->vm->page_size || (u64)table / page == (u64)other / page)
		spe_skip("the page has what the CPU needs as well");
	return (void *)((u64)table & ~(page - 1));
}

/* With a round that begins before the pages, and ends behind them, the guest is in it. */
static void begin_hit(struct pin_vm *v, void *addr, size_t len, bool to_end)
{
	size_t lead = addr == v->buf ? 0 : SZ_16K;
	int i;

	hold(v);
	/* The part that the pages are in */
	if (v->ctl->rounds % v->ctl->parts)
		step(v, 1);

	hit.on = true;
	hit.to_end = to_end;
	hit.rounds = v->ctl->rounds;
	hit.insns = v->ctl->insns;
	hit.clean = v->ctl->clean;
	hit.size = lead + len + SZ_16K;
	hit.end = addr + len;
	v->ctl->offset = addr - v->buf - lead;
	v->ctl->iterations = hit.size / v->record_size * PER_RECORD / WORK_INSNS;
	memset(addr - lead, POISON, hit.size + SZ_4K);

	WRITE_ONCE(v->ctl->hold, hit.rounds + 1);
	for (i = 0; i < 100000 && READ_ONCE(*(u8 *)(addr - lead)) == POISON; i++)
		usleep(100);
	TEST_ASSERT(i < 100000, "the guest hangs");
}

static bool is_zero(const u8 *p, size_t len)
{
	return !*p && !memcmp(p, p + 1, len - 1);
}

/*
 * As check_records(), for pages that the host took and replaced by others: up to
 * where the SPU was then, they are empty. From there on they are not, nor
 * anywhere else.
 */
static void check_rest(struct pin_vm *v, u64 from, u64 to)
{
	u64 size = v->record_size, lost = BUF_BASE + (hit.lost - v->buf), at;
	bool anew = false;

	for (at = from; at < to; at += size) {
		bool inside = lost <= at && at < lost + hit.lost_len;

		if (inside && !anew && is_zero(v->buf + (at - BUF_BASE), size))
			continue;
		check_records(v, at, at + size);
		anew |= inside;
	}
	hit.anew += anew;
}

/* The round is over. All of it is where the host has it, whatever the pull has done. */
static void end_hit(struct pin_vm *v, const struct pull *p)
{
	u64 from, to, at, records, insns;

	hit.on = false;
	hold(v);
	TEST_ASSERT_EQ(v->ctl->rounds, hit.rounds + 1);
	from = v->ctl->from[0];
	to = v->ctl->to[0];
	insns = v->ctl->insns - hit.insns;

	if (!(p->flags & LOSES)) {
		records = check_records(v, from, to);
		for (at = to; at < from + hit.size + SZ_4K; at++)
			TEST_ASSERT(*(u8 *)(v->buf + (at - BUF_BASE)) == POISON,
				    "0x%lx was written, behind PMBPTR_EL1 0x%lx", at, to);
	} else if (v->fixed_size) {
		check_rest(v, from, to);
		records = (to - from) / v->record_size;
	} else {
		return;
	}

	/* With an event, there is nothing behind it */
	if (v->ctl->clean > hit.clean)
		check_number(v, records, insns, 1);
	else if (v->arch_insns)
		TEST_ASSERT(records <= (insns + ROUND_INSNS) / PER_RECORD + 1,
			    "%lu records of %lu instructions", records, insns);
}

/* While the guest profiles, the host pulls pages away from it. */
static void test_pull(const void *arg)
{
	const struct pull *p = arg;
	s64 outstanding = spe_pins_outstanding();
	struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), p->src);
	u64 i, rounds, bytes, insns, most = formula(spe_valid_size(0)), page = getpagesize();
	u64 pulled = p->flags & SLOW ? PULLS / 3 : PULLS, unmapped = 0, protected = 0, times = 0;
	u64 *before, *after, elsewhere = 0, gpa = BUF_BASE, size = BUF_SIZE;
	struct guest_ctl *c = v.ctl;
	void *table = NULL;
	pthread_t thread;

	trace_enable("kvm_spe_stale");
	if (p->level) {
		table = table_page(&v, p->level);
		gpa = addr_hva2gpa(v.vm, table);
		size = page;
		c->walk_fsc = SPE_FSC_EA_WALK(p->level);
	}

	/* Both a buffer that is disabled again and again, and one that stays */
	c->parts = 2;
	c->toggles = 0;
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_thread, &v), "pthread_create");
	while (READ_ONCE(c->rounds) < 3)
		usleep(1000);
	hold(&v);
	before = page_frames(v.buf, BUF_SIZE);
	taken(gpa, size);
	release(&v);

	for (i = 0; i < pulled; i++) {
		/* Where the SPU writes, and elsewhere */
		size_t offset = (i % 5) * 6 * page, len = (1 + i % 3) * page;
		struct taken t;

		hit.lost = v.buf + offset;
		hit.lost_len = len;
		WRITE_ONCE(c->iterations, i % 4 ? 20000 : 1000000);
		if (!(i % 4) && p->flags & HOLDS)
			wait_for_profile(&v);
		else if (!(i % 4))
			begin_hit(&v, v.buf + offset, len, !(i % 8));
		if (p->level)
			p->fn(&v, table, page);
		else
			p->fn(&v, v.buf + offset, len);
		if (hit.on && !(p->flags & WITHDRAWS))
			hit.early += is_early(&v);
		t = taken(gpa, size);
		unmapped += t.unmapped;
		protected += t.protected;
		times += p->flags & PROTECTS ? !!t.protected : !!t.unmapped;
		TEST_ASSERT(pinned(&v) <= most, "%lu pages pinned", pinned(&v));

		if (i % 4) {
			usleep(2000);
			continue;
		}
		/* The pull was in the middle of a round: see where it and the next ones wrote */
		if (p->flags & HOLDS)
			hold(&v);
		else
			end_hit(&v, p);
		TEST_ASSERT(spe_pins_outstanding() - outstanding <= (s64)most,
			    "%ld pages pinned", spe_pins_outstanding() - outstanding);
		check_profile_at(&v, v.buf + offset, len);
		release(&v);
	}

	/* The profile goes on */
	WRITE_ONCE(c->iterations, 20000);
	rounds = READ_ONCE(c->rounds);
	while (READ_ONCE(c->rounds) < rounds + 4)
		usleep(1000);
	hold(&v);
	check_profile_at(&v, v.buf, 16 * page);
	after = page_frames(v.buf, BUF_SIZE);
	WRITE_ONCE(c->stop, 1);
	release(&v);
	pthread_join(thread, NULL);

	for (i = 0; i < BUF_SIZE / page; i++)
		elsewhere += before[i] != after[i];
	ksft_print_msg("%s: %lu of %lu hit pins: unmapped %lu, protected %lu; acts %lu\n",
		       p->name, times, pulled, unmapped, protected, acts);
	ksft_print_msg("%s: %lu pages are elsewhere, %lu were moved\n", p->name, elsewhere,
		       pages_moved);
	ksft_print_msg("%s: %lu of %lu rounds without an event; %lu pulls early, %lu anew\n",
		       p->name, c->clean, c->rounds, hit.early, hit.anew);

	/* Only events of the contract, and each says what is missing */
	TEST_ASSERT_EQ(c->other, 0);
	TEST_ASSERT_EQ(c->too_large, 0);
	TEST_ASSERT_EQ(c->full, 0);
	TEST_ASSERT_EQ(c->lost, c->refused);
	TEST_ASSERT_EQ(c->clean + c->refused + c->no_table, c->rounds);
	if (!(p->flags & MAY_REFUSE) || p->level)
		TEST_ASSERT_EQ(c->refused, 0);
	if (!(p->flags & MAY_REFUSE))
		TEST_ASSERT_EQ(c->no_table, 0);
	if (p->flags & WITHDRAWS && hit.early)
		TEST_ASSERT(c->refused + c->no_table, "the guest was not told");
	/* Nothing is missing anywhere else */
	if (v.fixed_size)
		check_number(&v, c->clean_bytes / v.record_size, c->clean_insns, c->clean);
	if (p->flags & LOSES && !(p->flags & MAY_REFUSE) && v.fixed_size && hit.early)
		TEST_ASSERT(hit.anew, "nothing was written to the new pages");
	/* What cannot be pinned is out of the SPU's reach */
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);

	/* The host did what the case is about */
	if (p->flags & (UNMAPS | PROTECTS))
		TEST_ASSERT(times >= pulled / 2, "%lu of %lu pulls hit what is pinned", times,
			    pulled);
	if (p->flags & HITS)
		TEST_ASSERT(times, "no pull hit what is pinned");
	if (p->flags & ACTS)
		TEST_ASSERT(acts >= pulled / 2, "the host did so %lu times in %lu", acts, pulled);
	else if (!(p->flags & (UNMAPS | PROTECTS)))
		TEST_ASSERT(acts, "the host did nothing");
	if (p->flags & KEEPS)
		TEST_ASSERT_EQ(unmapped + protected, 0);
	if (p->flags & SAME_PAGE)
		TEST_ASSERT_EQ(elsewhere, 0);

	/* And from now on without a gap */
	c->refused = 0;
	c->no_table = 0;
	c->lost = 0;
	bytes = c->bytes;
	insns = c->insns;
	c->toggles = 10;
	run(&v);
	if (v.fixed_size)
		check_number(&v, (c->bytes - bytes) / v.record_size, c->insns - insns, 10);
	TEST_ASSERT_EQ(c->refused + c->no_table + c->lost, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);

	if (uffd.v)
		uffd_stop();

	if (p->flags & GIVES_BACK) {
		u64 nr = p->level ? 1 : 16;

		for (i = 0; !i || (i < GIVE_BACK_TRIES && !give_back.soon); i++) {
			if (i)
				run(&v);
			begin_give_back(&v, nr);
			p->fn(&v, table ?: v.buf, nr * page);
			end_give_back(&v);
		}
		TEST_ASSERT(give_back.soon, "it takes longer than %lu ms",
			    give_back_ms());
	}

	pin_vm_free(&v);
}

/* --- The bound ------------------------------------------------------------- */

/* Windows anywhere, by several tables, with each page in another place. */
static void make_unruly(struct pin_vm *v, u64 max)
{
	u64 ttbr = vcpu_get_reg(v->vcpu, KVM_ARM64_SYS_REG(SYS_TTBR0_EL1)), i;

	v->ctl->pgds[0] = ttbr;
	for (i = 1; i < NR_PGDS; i++) {
		gpa_t pgd = vm_alloc_page_table(v->vm);

		memcpy(addr_gpa2hva(v->vm, pgd), addr_gpa2hva(v->vm, v->pgd),
		       v->vm->page_size);
		v->ctl->pgds[i] = ttbr - v->pgd + pgd;
	}
	v->ctl->max = max;
	v->ctl->toggles = 0;
	v->ctl->iterations = 200;
}

/* Looks all the time: what is pinned anew must not come before what is unpinned. */
struct watch {
	struct pin_vm *v;
	pthread_t thread;
	u64 peak, looks;
	bool stop;
};

static void *watch_thread(void *arg)
{
	struct watch *w = arg;

	while (!READ_ONCE(w->stop)) {
		w->peak = max(w->peak, pinned(w->v));
		w->looks++;
	}
	return NULL;
}

struct bound {
	const char *name;
	int nr;			/* of guests that profile */
	bool one_vm;		/* they are vCPUs of one */
	int src;
	void (*take)(struct pin_vm *v, void *addr, size_t len);
	int times;
};

static const struct bound bounds[] = {
	{ "an unruly guest", 1, false, VM_MEM_SRC_ANONYMOUS, pull_dontneed, 100 },
	{ "two of them", 2, false, VM_MEM_SRC_ANONYMOUS, pull_dontneed, 100 },
	{ "two vCPUs", 2, true, VM_MEM_SRC_ANONYMOUS, pull_dontneed, 50 },
	{ "THP", 1, false, VM_MEM_SRC_ANONYMOUS_THP, pull_dontneed, 50 },
	{ "shmem", 1, false, VM_MEM_SRC_SHMEM, pull_punch, 50 },
	{ "hugetlb", 1, false, VM_MEM_SRC_ANONYMOUS_HUGETLB, pull_hugetlb_dontneed, 50 },
	{ "guest_memfd", 1, false, SRC_GUEST_MEMFD, pull_memfd_punch, 50 },
};

/*
 * The pages that are pinned, as the host counts them, are never more than
 * spe.rst says, whatever the guests do.
 */
static void test_bound(const void *arg)
{
	const struct bound *b = arg;
	u64 nr = b->nr, most = nr * formula(SZ_1M), error = pins_error(), page = getpagesize();
	s64 before = spe_pins_outstanding(), now, peak = 0;
	u64 i, k, pin = 0, rounds = 0;
	struct watch w[2] = {};
	pthread_t thread[2];
	struct pin_vm v[2];

	for (k = 0; k < nr; k++) {
		if (k && b->one_vm) {
			v[k] = second_of(&v[0]);
		} else {
			v[k] = pin_vm_create_vcpus(SZ_1M, b->src, NULL, guest_code,
						   b->one_vm ? guest_code : NULL);
			scatter(&v[k]);
		}
		SPE_OK(spe_init(v[k].vcpu));
		make_unruly(&v[k], SZ_1M);
	}
	/* Each its own buffer */
	for (k = 0; k < nr && b->one_vm; k++) {
		v[k].ctl->size = BUF_SIZE / nr;
		v[k].ctl->ptr = BUF_BASE + k * BUF_SIZE / nr;
	}

	for (k = 0; k < nr; k++) {
		TEST_ASSERT(!pthread_create(&thread[k], NULL, vcpu_thread, &v[k]),
			    "pthread_create");
		w[k].v = &v[k];
		TEST_ASSERT(!pthread_create(&w[k].thread, NULL, watch_thread, &w[k]),
			    "pthread_create");
	}

	for (i = 0; i < b->times; i++) {
		now = spe_pins_outstanding() - before;
		TEST_ASSERT(now <= (s64)(most + error), "%ld pages, %lu allowed", now, most);
		for (k = 0; k < nr; k++)
			TEST_ASSERT(pinned(&v[k]) <= most / nr, "%lu pages, %lu allowed",
				    pinned(&v[k]), most / nr);

		for (k = 0; k < nr && i % 4; k++)
			b->take(&v[k], v[k].buf + random() % (BUF_SIZE / page - 16) * page,
				16 * page);
		/* ... and all of it, most likely while some of it is being pinned */
		for (k = 0; k < nr && !(i % 4); k++)
			b->take(&v[k], v[k].buf, BUF_SIZE);
		if (i % 5)
			continue;

		/* Nobody pins: the count is exact */
		for (k = 0; k < nr; k++)
			hold(&v[k]);
		now = spe_pins_outstanding() - before;
		TEST_ASSERT(now <= (s64)most, "%ld pages, %lu allowed", now, most);
		peak = max(peak, now);
		for (k = 0; k < nr; k++)
			release(&v[k]);
	}

	for (k = 0; k < nr; k++) {
		WRITE_ONCE(v[k].ctl->stop, 1);
		pthread_join(thread[k], NULL);
		WRITE_ONCE(w[k].stop, true);
		pthread_join(w[k].thread, NULL);
		TEST_ASSERT(w[k].peak <= most / nr, "%lu pages in one of %lu looks, %lu allowed",
			    w[k].peak, w[k].looks, most / nr);
		/* They came close */
		TEST_ASSERT(w[k].peak >= SZ_1M / page, "at most %lu pages", w[k].peak);
		TEST_ASSERT_EQ(v[k].ctl->refused + v[k].ctl->too_large + v[k].ctl->lost +
			       v[k].ctl->other, 0);
		TEST_ASSERT_EQ(vcpu_get_stat(v[k].vcpu, spe_stage2_fault), 0);
		pin += vcpu_get_stat(v[k].vcpu, spe_pin);
		rounds += v[k].ctl->rounds;
	}
	for (k = 0; k < (b->one_vm ? 1 : nr); k++)
		pin_vm_free(&v[k]);
	ksft_print_msg("%lu rounds, %lu pages pinned in all, at most %ld of %lu at a time\n",
		       rounds, pin, peak, most);
	/* Of guest_memfd the host counts none */
	if (b->src == SRC_GUEST_MEMFD)
		TEST_ASSERT(peak <= (s64)(most - SZ_1M / page), "%ld pages", peak);
	else
		TEST_ASSERT(peak >= (s64)(nr * (SZ_1M / page)), "at most %ld pages", peak);
}

/* --- What users see --------------------------------------------------------- */

#define MAX_EVENTS		64

struct events {
	int n;
	struct { char name[32]; char fields[160]; } e[MAX_EVENTS];
};

static void note_event(const char *name, const char *fields, void *arg)
{
	struct events *ev = arg;

	TEST_ASSERT(ev->n < MAX_EVENTS, "too many events");
	snprintf(ev->e[ev->n].name, sizeof(ev->e[0].name), "%s", name);
	snprintf(ev->e[ev->n].fields, sizeof(ev->e[0].fields), "%s", fields);
	ev->n++;
}

/* These events, and no others, in this order; NULL ends the list. */
static void check_events(const char *first, ...)
{
	struct events *ev = calloc(1, sizeof(*ev));
	const char *name = first, *fields;
	va_list ap;
	int i = 0;

	TEST_ASSERT(ev, "calloc");
	trace_read(note_event, ev);
	va_start(ap, first);
	for (; name; name = va_arg(ap, const char *), i++) {
		fields = va_arg(ap, const char *);
		TEST_ASSERT(i < ev->n, "no event %s: %s", name, fields);
		TEST_ASSERT(!strcmp(ev->e[i].name, name) && !strcmp(ev->e[i].fields, fields),
			    "%s: %s, expected %s: %s", ev->e[i].name, ev->e[i].fields,
			    name, fields);
	}
	va_end(ap);
	TEST_ASSERT(i == ev->n, "one event more: %s: %s", ev->e[i].name, ev->e[i].fields);
	free(ev);
}

static char *field_text(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	TEST_ASSERT(vasprintf(&text, fmt, ap) > 0, "vasprintf");
	va_end(ap);
	return text;
}

static char *result_text(u64 ptr, u64 limit, u64 fresh, u64 total, int result)
{
	return field_text("vcpu 0: buffer [%#lx, %#lx) newly pinned %lu total %lu pages, result %d",
			  ptr, limit, fresh, total, result);
}

static char *pin_text(u64 ptr, u64 limit, u64 fresh, u64 total)
{
	return result_text(ptr, limit, fresh, total, 0);
}

static char *stale_text(u64 first, u64 nr, const char *what)
{
	return field_text("vcpu 0: pages [%#lx, %#lx) %s", first, first + nr, what);
}

/* Each tracepoint, with what has happened. */
static void test_trace(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 page = getpagesize(), gfn = BUF_BASE / page, total, limit = BUF_BASE + SZ_2M;
	u64 far = BUF_BASE + 20 * v.vm->page_size, *pte;

	trace_enable("kvm_spe_pin");
	trace_enable("kvm_spe_unpin");
	trace_enable("kvm_spe_stale");
	trace_enable("kvm_spe_stage2_fault");

	/* One window; reuse is not an event */
	v.ctl->size = SZ_2M;
	run(&v);
	total = pinned(&v);
	TEST_ASSERT(total > SZ_2M / page, "%lu pages pinned", total);
	check_events("kvm_spe_pin", pin_text(BUF_BASE, limit, total, total), NULL);

	/* The host takes two pages, the guest gets others. All give them back, then pin */
	pull_dontneed(&v, v.buf + 3 * page, 2 * page);
	TEST_ASSERT(pinned_falls_to(&v, total - 2, 1000), "%lu pages pinned", pinned(&v));
	usleep(10000);
	check_events("kvm_spe_stale", stale_text(gfn + 3, 2, "unmapped"),
		     "kvm_spe_unpin", field_text("vcpu 0: unpinned 2, total %lu pages", total - 2),
		     NULL);
	run(&v);
	check_events("kvm_spe_pin", pin_text(BUF_BASE, limit, 2, total), NULL);

	/* The dirty log takes the right to write, not the pages */
	vm_mem_region_set_flags(v.vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	check_events("kvm_spe_stale", stale_text(gfn, BUF_SIZE / page, "write-protected"), NULL);
	run(&v);
	check_events("kvm_spe_pin", pin_text(BUF_BASE, limit, 0, total), NULL);
	vm_mem_region_set_flags(v.vm, BUF_SLOT, 0);

	/* A mapping that the guest changes where KVM does not look, to memory not used yet */
	pte = virt_get_pte_hva(v.vm, far);
	*pte += SZ_2M;
	v.ctl->flush = 1;
	v.ctl->toggles = 1;
	v.ctl->iterations = ((far - BUF_BASE + v.vm->page_size) / v.record_size) *
			    PER_RECORD / WORK_INSNS;
	run(&v);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 1);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);
	check_events("kvm_spe_stage2_fault",
		     field_text("vcpu 0: PMBPTR_EL1 %#lx", far), "kvm_spe_pin",
		     pin_text(far, limit, 1, total + 1), NULL);

	pin_vm_free(&v);
}

/*
 * A buffer is filled bit by bit, as Linux does: it is enabled each time from where
 * the last round has stopped, which is inside of what was walked.
 */
static void test_go_on(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 part = max_t(u64, getpagesize(), SZ_16K), pin, reuse, pages, i, laps = 0;

	trace_enable("kvm_spe_pin");
	v.ctl->parts = 2;
	v.ctl->size = 2 * part;
	v.ctl->go_on = 1;
	v.ctl->toggles = 4;
	run(&v);
	taken(BUF_BASE, BUF_SIZE);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	reuse = vcpu_get_stat(v.vcpu, spe_pin_reuse);
	pages = pinned(&v);

	/* Several times as much as there is room for: about 14 records a round */
	v.ctl->toggles = 50;
	for (i = 0; i < 100 && laps < 3; i++) {
		run(&v);
		/* A walk would find all in place as well, and be as slow as the buffer is large */
		check_events(NULL);
		laps = v.ctl->wraps / v.ctl->parts;
	}
	TEST_ASSERT(laps >= 3, "the buffer was filled %lu times", laps);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), pin);
	TEST_ASSERT_EQ(pinned(&v), pages);
	TEST_ASSERT(vcpu_get_stat(v.vcpu, spe_pin_reuse) >= reuse + 50 * i,
		    "%lu enables reused pins", vcpu_get_stat(v.vcpu, spe_pin_reuse) - reuse);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other, 0);
	/* A part is full once a lap at most; all rounds of the last lap are still there */
	TEST_ASSERT(v.ctl->full <= v.ctl->wraps, "%lu of %lu rounds were full", v.ctl->full,
		    v.ctl->rounds);
	for (i = 0; i < v.ctl->parts; i++)
		check_records(&v, BUF_BASE + i * part, v.ctl->to[i]);

	pin_vm_free(&v);
}

struct uffd_mode {
	const char *name;
	u64 mode;
	int src;
};

static const struct uffd_mode uffd_modes[] = {
	{ "missing", UFFDIO_REGISTER_MODE_MISSING, VM_MEM_SRC_ANONYMOUS },
	{ "write-protect", UFFDIO_REGISTER_MODE_WP, VM_MEM_SRC_ANONYMOUS },
	{ "minor", UFFDIO_REGISTER_MODE_MINOR, VM_MEM_SRC_SHMEM },
};

/* A signal while the page cannot be had: KVM_RUN ends, and nothing is lost. */
static void test_uffd_signal(const void *arg)
{
	const struct uffd_mode *m = arg;
	struct sigaction sa = { .sa_handler = nothing };
	struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), m->src);
	pthread_t thread;
	void *said;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	run(&v);
	uffd_start(&v, m->mode);
	WRITE_ONCE(uffd.wait, true);
	/* Where the first records go */
	uffd_take(&v, v.buf, getpagesize());

	for (i = 0; i < 3; i++) {
		u64 faults = READ_ONCE(uffd.faults);

		v.ctl->toggles = 10;
		TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, &v),
			    "pthread_create");
		while (READ_ONCE(uffd.faults) == faults)
			usleep(1000);
		/* It waits for the page, in KVM_RUN, with the signal or without */
		pthread_kill(thread, SIGUSR1);
		pthread_join(thread, &said);
		TEST_ASSERT(!said, "the guest went on without its page");

		/* The guest has enabled its buffer, and not got any further */
		TEST_ASSERT(vcpu_get_reg(v.vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E,
			    "the buffer is disabled");
		TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu, SPE_REG(PMBPTR_EL1)), BUF_BASE);
		TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu, SPE_REG(PMBSR_EL1)), 0);
		TEST_ASSERT_EQ(v.ctl->rounds, 10);
		TEST_ASSERT_EQ(v.ctl->profiling, 0);
	}

	WRITE_ONCE(uffd.wait, false);
	run(&v);
	TEST_ASSERT_EQ(v.ctl->rounds, 20);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT(check_records(&v, v.ctl->from[0], v.ctl->to[0]), "no records");
	if (v.fixed_size)
		check_number(&v, v.ctl->bytes / v.record_size, v.ctl->insns, v.ctl->rounds);
	uffd_stop();
	pin_vm_free(&v);
}

/* --- Migration ------------------------------------------------------------- */

enum log_kind {
	LOG_BITMAP,
	LOG_MANUAL,		/* KVM_CLEAR_DIRTY_LOG */
	LOG_MANUAL_ALL_SET,	/* ... and all pages are dirty at first */
	LOG_RING,		/* with the backup bitmap */
	LOG_RING_ONLY,
};

struct log_mode {
	const char *name;
	enum log_kind kind;
	u32 entries;		/* of the ring */
	int src;
	bool flags;		/* the SPU sets Access flag and dirty state in the tables */
};

static const struct log_mode log_modes[] = {
	{ "bitmap", LOG_BITMAP },
	{ "manual protect", LOG_MANUAL },
	{ "manual protect, initially set", LOG_MANUAL_ALL_SET },
	{ "ring", LOG_RING, 4096 },
	{ "small ring", LOG_RING, 256 },
	{ "ring without bitmap", LOG_RING_ONLY, 4096 },
	{ "bitmap, THP", LOG_BITMAP, 0, VM_MEM_SRC_ANONYMOUS_THP },
	{ "manual protect, initially set, THP", LOG_MANUAL_ALL_SET, 0, VM_MEM_SRC_ANONYMOUS_THP },
	{ "ring, THP", LOG_RING, 4096, VM_MEM_SRC_ANONYMOUS_THP },
	{ "bitmap, hugetlb", LOG_BITMAP, 0, VM_MEM_SRC_ANONYMOUS_HUGETLB },
	{ "bitmap, shmem", LOG_BITMAP, 0, VM_MEM_SRC_SHMEM },
	{ "bitmap, flags by hardware", LOG_BITMAP, 0, VM_MEM_SRC_ANONYMOUS, true },
	{ "ring, flags by hardware", LOG_RING, 4096, VM_MEM_SRC_ANONYMOUS, true },
	{ "ring without bitmap, flags by hardware", LOG_RING_ONLY, 4096, VM_MEM_SRC_ANONYMOUS,
	  true },
};

/* What is moved: the memslots that the guest writes to */
#define NR_MOVED		2

struct migration {
	struct pin_vm *from;
	const struct log_mode *mode;
	struct userspace_mem_region *region[NR_MOVED];
	unsigned long *bitmap[NR_MOVED];
	u8 *copy[NR_MOVED];
	u64 pages[NR_MOVED];
	u32 fetch;
	u64 from_ring, from_bitmap;	/* pages of the buffer, in the last round */
};

/* A ring has a page at least. */
static u32 ring_entries(const struct log_mode *mode)
{
	return max_t(u32, mode->entries, getpagesize() / sizeof(struct kvm_dirty_gfn));
}

static void log_prepare(struct kvm_vm *vm, const struct log_mode *mode)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);
	u64 manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	u64 size = region->region.memory_size;

	switch (mode->kind) {
	case LOG_BITMAP:
		break;
	case LOG_MANUAL_ALL_SET:
		manual |= KVM_DIRTY_LOG_INITIALLY_SET;
		fallthrough;
	case LOG_MANUAL:
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual);
		break;
	case LOG_RING:
	case LOG_RING_ONLY:
		vm_enable_dirty_ring(vm, ring_entries(mode) * sizeof(struct kvm_dirty_gfn));
		if (mode->kind == LOG_RING_ONLY)
			break;
		/* It wants to come before the memslots */
		region->region.memory_size = 0;
		vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
		vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0);
		region->region.memory_size = size;
		vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
		break;
	}
}

static void copy_page(struct migration *m, int i, u64 n)
{
	size_t page = getpagesize();

	TEST_ASSERT(n < m->pages[i], "page %lu of %lu", n, m->pages[i]);
	memcpy(m->copy[i] + n * page, m->region[i]->host_mem + n * page, page);
}

static void copy_bitmap(struct migration *m, int i)
{
	u32 slot = m->region[i]->region.slot;
	u64 n;

	kvm_vm_get_dirty_log(m->from->vm, slot, m->bitmap[i]);
	if (m->mode->kind == LOG_MANUAL || m->mode->kind == LOG_MANUAL_ALL_SET)
		kvm_vm_clear_dirty_log(m->from->vm, slot, m->bitmap[i], 0, m->pages[i]);

	for (n = 0; n < m->pages[i]; n++) {
		if (!test_bit(n, m->bitmap[i]))
			continue;
		copy_page(m, i, n);
		m->from_bitmap += slot == BUF_SLOT;
	}
}

static void copy_ring(struct migration *m)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(m->from->vcpu), *e;
	struct { u32 slot; u64 offset; } *found;
	u32 n = 0, i, j, entries = ring_entries(m->mode);

	found = calloc(entries, sizeof(*found));
	TEST_ASSERT(found, "calloc");
	for (;;) {
		e = &ring[m->fetch % entries];
		/* The entry is complete when its flag is seen ... */
		if (smp_load_acquire(&e->flags) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		TEST_ASSERT(n < entries, "more entries than the ring has");
		found[n].slot = e->slot;
		found[n++].offset = e->offset;
		/* ... and may be used again when this one is */
		smp_store_release(&e->flags, KVM_DIRTY_GFN_F_RESET);
		m->fetch++;
	}
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(m->from->vm), n);

	/* Only now: what is written from here on is in the ring again */
	for (i = 0; i < n; i++) {
		for (j = 0; j < NR_MOVED; j++) {
			if (found[i].slot == m->region[j]->region.slot)
				copy_page(m, j, found[i].offset);
		}
		m->from_ring += found[i].slot == BUF_SLOT;
	}
	free(found);
}

/* One round; the last one with the guest stopped. */
static void copy_round(struct migration *m, bool last)
{
	bool ring = m->mode->kind >= LOG_RING;
	int i;

	m->from_ring = 0;
	m->from_bitmap = 0;
	if (ring)
		copy_ring(m);
	for (i = 0; i < NR_MOVED && (!ring || (last && m->mode->kind == LOG_RING)); i++)
		copy_bitmap(m, i);
}

#define PTE_RDONLY	BIT_ULL(7)
#define PTE_DBM		BIT_ULL(51)
#define TCR_HD		BIT_ULL(40)

/* Hardware sets the flags in the guest's tables, if it can. */
static void flags_by_hardware(struct pin_vm *v)
{
	u64 id = KVM_ARM64_SYS_REG(SYS_TCR_EL1), mmfr1;

	mmfr1 = vcpu_get_reg(v->vcpu, SPE_REG(ID_AA64MMFR1_EL1));
	if (FIELD_GET(ID_AA64MMFR1_EL1_HAFDBS, mmfr1) < ID_AA64MMFR1_EL1_HAFDBS_DBM ||
	    !(vcpu_get_reg(v->vcpu, SPE_REG(PMBIDR_EL1)) & PMBIDR_EL1_F))
		spe_skip("no hardware management of flags");
	vcpu_set_reg(v->vcpu, id, vcpu_get_reg(v->vcpu, id) | TCR_HA | TCR_HD);
	v->ctl->flush = 1;
}

/*
 * With the guest waiting, and nothing in the log: the first half of the buffer is
 * old, the second one clean, and the copy has the tables as they are now.
 */
static void clear_flags(struct migration *m)
{
	u64 page = m->from->vm->page_size, i, *pte;

	for (i = 0; i < BUF_SIZE; i += page) {
		pte = virt_get_pte_hva(m->from->vm, BUF_BASE + i);
		if (i < BUF_SIZE / 2)
			*pte &= ~PTE_AF;
		else
			*pte |= PTE_DBM | PTE_RDONLY;
		*(u64 *)(m->copy[0] + ((void *)pte - m->region[0]->host_mem)) = *pte;
	}
}

/* Pages that became dirty since. Only the SPU does that; KVM's walk sets Access flags. */
static u64 count_dirty(struct migration *m)
{
	u64 page = m->from->vm->page_size, i, n = 0;

	for (i = BUF_SIZE / 2; i < BUF_SIZE; i += page)
		n += !(*virt_get_pte_hva(m->from->vm, BUF_BASE + i) & PTE_RDONLY);
	return n;
}

static void move_regs(struct kvm_vcpu *to, struct kvm_vcpu *from)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(from);
	u64 i;

	for (i = 0; i < list->n; i++) {
		u8 val[2048 / 8] __aligned(16);
		struct kvm_one_reg reg = { .id = list->reg[i], .addr = (u64)val };

		/* Of its own on each side */
		if (reg.id == KVM_ARM64_SYS_REG(SYS_CNTPCT_EL0) ||
		    reg.id == KVM_REG_ARM_TIMER_CNT || reg.id == KVM_REG_ARM_PTIMER_CNT)
			continue;
		SPE_OK(__vcpu_ioctl(from, KVM_GET_ONE_REG, &reg));
		TEST_ASSERT(!__vcpu_ioctl(to, KVM_SET_ONE_REG, &reg),
			    "register 0x%llx cannot be restored: %s", reg.id, strerror(errno));
	}
	free(list);
}

/* Takes the vCPU out of the guest, in the middle of a profile of @iterations. */
static void stop_in_profile(struct pin_vm *v, pthread_t thread, u64 iterations)
{
	void *said;

	WRITE_ONCE(v->ctl->iterations, iterations);
	for (;;) {
		usleep(20000);
		WRITE_ONCE(v->vcpu->run->immediate_exit, 1);
		pthread_kill(thread, SIGUSR1);
		pthread_join(thread, &said);
		TEST_ASSERT(!said, "the guest has ended");
		v->vcpu->run->immediate_exit = 0;
		if ((vcpu_get_reg(v->vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E) &&
		    (vcpu_get_reg(v->vcpu, SPE_REG(PMSCR_EL1)) & PMSCR_EL1_E1SPE) &&
		    !(vcpu_get_reg(v->vcpu, SPE_REG(PMBSR_EL1)) & PMBSR_EL1_S))
			return;
		/* Just in between, or full */
		TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, v),
			    "pthread_create");
	}
}

/*
 * Decodes the part of the buffer that the guest is in, and what the round before
 * has left in the other one. Returns the records of the first.
 */
static u64 check_profile(struct pin_vm *v)
{
	u64 limit = vcpu_get_reg(v->vcpu, SPE_REG(PMBLIMITR_EL1)) & GENMASK_ULL(63, 12);
	u64 ptr = vcpu_get_reg(v->vcpu, SPE_REG(PMBPTR_EL1));
	u64 part = v->ctl->size / 2, other = limit == v->ctl->ptr + part;

	TEST_ASSERT(check_records(v, v->ctl->from[other], v->ctl->to[other]),
		    "no records in the other part");
	return check_records(v, limit - part, ptr);
}

/* A guest that was moved: its ucalls still point to the first VM's memory. */
static void run_moved(struct pin_vm *v)
{
	struct ucall uc;

	vcpu_run(v->vcpu);
	TEST_ASSERT_EQ(get_ucall(v->vcpu, &uc), UCALL_NONE);
	TEST_ASSERT_KVM_EXIT_REASON(v->vcpu, UCALL_EXIT_REASON);
}

/* The guest profiles while it is copied, and goes on in another VM. */
static void test_migration(const void *arg)
{
	const struct log_mode *mode = arg;
	struct sigaction sa = { .sa_handler = nothing };
	struct pin_vm a = pin_vm_create_logged(spe_valid_size(0), mode->src, mode), b;
	struct migration m = { .from = &a, .mode = mode };
	u64 i, n, round, before, page = getpagesize(), ringed = 0, last;
	u32 flags = KVM_MEM_LOG_DIRTY_PAGES;
	struct guest_ctl *copied;
	pthread_t thread;

	sigaction(SIGUSR1, &sa, NULL);
	if (mode->flags)
		flags_by_hardware(&a);

	/* One buffer that stays enabled for long, then parts of it, in turn */
	a.ctl->parts = 2;
	a.ctl->toggles = 0;
	a.ctl->iterations = 300000;
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, &a), "pthread_create");
	while (READ_ONCE(a.ctl->rounds) < 2)
		usleep(1000);

	m.region[0] = memslot2region(a.vm, a.vm->memslots[MEM_REGION_DATA]);
	m.region[1] = memslot2region(a.vm, BUF_SLOT);
	for (i = 0; i < NR_MOVED; i++) {
		m.pages[i] = m.region[i]->region.memory_size / page;
		m.bitmap[i] = calloc(1, m.pages[i] / 8 + 8);
		m.copy[i] = mmap(NULL, m.pages[i] * page, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		TEST_ASSERT(m.bitmap[i] && m.copy[i] != MAP_FAILED, "no memory");
		/* First the log, then all pages */
		vm_mem_region_set_flags(a.vm, m.region[i]->region.slot, flags);
		memcpy(m.copy[i], m.region[i]->host_mem, m.pages[i] * page);
	}

	for (round = 0; round < 8; round++) {
		u64 rounds = READ_ONCE(a.ctl->rounds);

		if (mode->flags) {
			WRITE_ONCE(a.ctl->hold, 0);
			for (i = 0; i < 10000 && !READ_ONCE(a.ctl->held); i++) {
				usleep(1000);
				/* The guest also needs time to get its pages back */
				if (i % 64 == 63)
					copy_round(&m, false);
			}
			TEST_ASSERT(READ_ONCE(a.ctl->held), "the guest hangs");
			copy_round(&m, false);
			clear_flags(&m);
			release(&a);
		}

		/* Toggling fast, and staying enabled */
		WRITE_ONCE(a.ctl->iterations, round % 2 ? 20000 : 300000);
		for (i = 0; i < 10000 && READ_ONCE(a.ctl->rounds) < rounds + 2; i++) {
			usleep(1000);
			/* A ring that is full stops the guest */
			if (mode->kind >= LOG_RING && i % 4 == 3) {
				copy_round(&m, false);
				ringed += m.from_ring;
			}
		}
		TEST_ASSERT(READ_ONCE(a.ctl->rounds) >= rounds + 2, "the guest hangs");
		copy_round(&m, false);
		ringed += m.from_ring;
	}

	stop_in_profile(&a, thread, LONG_ROUND);
	copy_round(&m, true);
	last = m.from_ring + m.from_bitmap;

	/* The log is of the guest's writes, not of the host's */
	copied = (void *)m.copy[0] + ((void *)a.ctl - m.region[0]->host_mem);
	copied->iterations = a.ctl->iterations;
	for (i = 0; i < NR_MOVED; i++) {
		for (n = 0; n < m.pages[i]; n++)
			TEST_ASSERT(!memcmp(m.copy[i] + n * page,
					    m.region[i]->host_mem + n * page, page),
				    "slot %u: page %lu was written without the log",
				    m.region[i]->region.slot, n);
	}
	TEST_ASSERT_EQ(a.ctl->refused + a.ctl->too_large + a.ctl->lost + a.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(a.vcpu, spe_stage2_fault), 0);
	before = check_profile(&a);
	if (mode->flags)
		TEST_ASSERT(count_dirty(&m), "the SPU has set no flags");
	if (mode->kind >= LOG_RING)
		TEST_ASSERT(ringed, "no page of the buffer was in the ring");

	/* Nobody wrote: nothing is dirty, whatever is pinned */
	copy_round(&m, true);
	TEST_ASSERT_EQ(m.from_ring + m.from_bitmap, 0);

	b = pin_vm_create_logged(spe_valid_size(0), mode->src, mode);
	move_regs(b.vcpu, a.vcpu);
	memcpy(memslot2region(b.vm, b.vm->memslots[MEM_REGION_DATA])->host_mem, m.copy[0],
	       m.pages[0] * page);
	memcpy(b.buf, m.copy[1], m.pages[1] * page);
	TEST_ASSERT_EQ(check_profile(&b), before);

	/* The same profile goes on there: behind the records that came with it */
	n = vcpu_get_reg(b.vcpu, SPE_REG(PMBLIMITR_EL1)) & GENMASK_ULL(63, 12);
	n = (n - BUF_BASE) / (BUF_SIZE / 2) - 1;
	i = b.ctl->rounds;
	b.ctl->iterations = 20000;
	b.ctl->stop = 1;
	run_moved(&b);
	TEST_ASSERT_EQ(b.ctl->rounds, i + 1);
	TEST_ASSERT(check_records(&b, b.ctl->from[n], b.ctl->to[n]) > before, "no new records");
	b.ctl->stop = 0;
	b.ctl->toggles = 20;
	n = b.ctl->bytes;
	i = b.ctl->insns;
	run_moved(&b);
	if (b.fixed_size)
		check_number(&b, (b.ctl->bytes - n) / b.record_size, b.ctl->insns - i, 20);
	for (i = 0; i < b.ctl->parts; i++)
		TEST_ASSERT(check_records(&b, b.ctl->from[i], b.ctl->to[i]), "no records");
	TEST_ASSERT_EQ(b.ctl->refused + b.ctl->too_large + b.ctl->lost + b.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(b.vcpu, spe_stage2_fault), 0);

	ksft_print_msg("%s: %lu pages of the buffer in the last round, %lu through the ring\n",
		       mode->name, last, ringed);
	pin_vm_free(&a);
	pin_vm_free(&b);
}

/* A guest that does not profile any more has pins, but no dirty pages. */
static void test_converge(const void *arg)
{
	const struct log_mode *mode = arg;
	struct pin_vm v = pin_vm_create_logged(spe_valid_size(0), mode->src, mode);
	struct migration m = { .from = &v, .mode = mode };
	u64 i;

	v.ctl->parts = 2;
	v.ctl->toggles = 4;
	run(&v);

	m.region[0] = memslot2region(v.vm, v.vm->memslots[MEM_REGION_DATA]);
	m.region[1] = memslot2region(v.vm, BUF_SLOT);
	for (i = 0; i < NR_MOVED; i++) {
		m.pages[i] = m.region[i]->region.memory_size / getpagesize();
		m.bitmap[i] = calloc(1, m.pages[i] / 8 + 8);
		m.copy[i] = malloc(m.pages[i] * getpagesize());
		TEST_ASSERT(m.bitmap[i] && m.copy[i], "no memory");
		vm_mem_region_set_flags(v.vm, m.region[i]->region.slot, KVM_MEM_LOG_DIRTY_PAGES);
	}

	run(&v);
	TEST_ASSERT(pinned(&v), "nothing is pinned: what follows would say nothing");
	copy_round(&m, true);
	TEST_ASSERT(m.from_ring + m.from_bitmap, "a profile without dirty pages");

	/* The guest runs on, and does not profile */
	v.ctl->toggles = 1;
	v.ctl->idle = 1;
	for (i = 0; i < 4; i++) {
		run(&v);
		copy_round(&m, true);
		TEST_ASSERT_EQ(m.from_ring + m.from_bitmap, 0);
		TEST_ASSERT(pinned(&v), "nothing is pinned: to be clean is no wonder");
	}

	pin_vm_free(&v);
}

/*
 * A memslot of more than two of the chunks, of 1 GiB with 4K pages, between which
 * KVM lets go of the lock when it edits stage 2. Most of it is nowhere in memory.
 * The buffer is on both sides of a border; the guest has used so much in the chunk
 * before that a vCPU can cut in.
 */
#define LARGE_BASE		SZ_4G
#define LARGE_CHUNK		BIT_ULL(30)
#define LARGE_SIZE		(2 * LARGE_CHUNK + SZ_8M)
#define LARGE_BUF		(LARGE_BASE + 2 * LARGE_CHUNK - BUF_SIZE / 2)
#define LARGE_USED		(LARGE_BASE + LARGE_CHUNK)
#define LARGE_USED_SIZE		SZ_32M
#define LARGE_SLOT		11

/* Somewhere else in the same chunk as the buffer's first half */
static void guest_use_code(void)
{
	u64 gva;

	for (gva = LARGE_USED; gva < LARGE_USED + LARGE_USED_SIZE; gva += ctl.size)
		WRITE_ONCE(*(u64 *)gva, gva);
	GUEST_SYNC(0);
}

static void test_large_slot(const void *arg)
{
	struct pin_vm v = pin_vm_create_vcpus(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, NULL,
					      guest_code, guest_use_code);
	u64 page = v.vm->page_size, host = getpagesize(), i, n, rounds, written = 0;
	u64 first = (LARGE_BUF - LARGE_BASE) / host, nr = BUF_SIZE / host;
	unsigned long *bitmap = calloc(1, LARGE_SIZE / host / 8 + 8);
	u8 *mem, *buf, *copy = malloc(BUF_SIZE);
	pthread_t thread;

	mem = mmap(NULL, LARGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED && bitmap && copy, "no memory");
	madvise(mem, LARGE_SIZE, MADV_NOHUGEPAGE);
	vm_set_user_memory_region(v.vm, LARGE_SLOT, 0, LARGE_BASE, LARGE_SIZE, mem);
	buf = mem + (LARGE_BUF - LARGE_BASE);
	virt_map(v.vm, LARGE_BUF, LARGE_BUF, BUF_SIZE / page);
	virt_map(v.vm, LARGE_USED, LARGE_USED, LARGE_USED_SIZE / page);
	SPE_OK(spe_init(v.vcpu));
	SPE_OK(spe_init(v.second));

	v.ctl->size = page;
	TEST_ASSERT(spe_run_vcpu(v.second), "the second vCPU has ended");

	v.ctl->ptr = LARGE_BUF;
	v.ctl->size = BUF_SIZE;
	v.ctl->parts = 2;
	v.ctl->toggles = 0;
	v.ctl->iterations = 300000;
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_thread, &v), "pthread_create");

	for (i = 0; i < PULLS; i++) {
		rounds = READ_ONCE(v.ctl->rounds);
		while (READ_ONCE(v.ctl->rounds) < rounds + 1)
			usleep(500);
		wait_for_profile(&v);
		vm_set_user_memory_region(v.vm, LARGE_SLOT, KVM_MEM_LOG_DIRTY_PAGES, LARGE_BASE,
					  LARGE_SIZE, mem);
		memcpy(copy, buf, BUF_SIZE);
		step(&v, 2);

		/* The guest waits: what it has written to is in the log */
		kvm_vm_get_dirty_log(v.vm, LARGE_SLOT, bitmap);
		for (n = 0; n < nr; n++) {
			if (!memcmp(copy + n * host, buf + n * host, host))
				continue;
			TEST_ASSERT(test_bit(first + n, bitmap),
				    "page %lu of the buffer was written without the log", n);
			written++;
		}
		vm_set_user_memory_region(v.vm, LARGE_SLOT, 0, LARGE_BASE, LARGE_SIZE, mem);
		release(&v);
	}

	hold(&v);
	WRITE_ONCE(v.ctl->stop, 1);
	release(&v);
	pthread_join(thread, NULL);
	TEST_ASSERT(written > PULLS, "%lu pages were written", written);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other, 0);
	pin_vm_free(&v);
	munmap(mem, LARGE_SIZE);
}

/* A vCPU that does not profile */
static void guest_exec_code(u64 va)
{
	guest_call_code(va);
	GUEST_SYNC(0);
}

static const struct log_mode all_set = { .kind = LOG_MANUAL_ALL_SET };

struct exec {
	const char *name;
	bool other;		/* vCPU executes it */
};

static const struct exec execs[] = {
	{ "by the same vCPU", false },
	{ "by another vCPU", true },
};

/* Stage 2 maps half of the memslot, by a block: the buffer, and what is beside it. */
static void check_block(struct pin_vm *v)
{
	u64 blocks, pages;

	TEST_ASSERT(mapping_bytes(v->buf, "AnonHugePages:") >= SZ_2M,
		    "the host has no huge page for the buffer");
	if (!stage2_leaves(v, &blocks, &pages)) {
		ksft_print_msg("no stage2_page_tables in debugfs: leaves are not looked at\n");
		return;
	}
	TEST_ASSERT(blocks == SZ_2M && !pages, "%lu bytes in blocks, %lu in pages", blocks, pages);
}

/*
 * An instruction beside the buffer, in one block, is executed for the first time
 * while the dirty log has not split the block yet. Without CTR_EL0.DIC that is a
 * fault: the SPU must not notice.
 */
static void test_exec(const void *arg)
{
	const struct exec *e = arg;
	pthread_t thread;
	struct pin_vm v;
	u64 now, pin;

	if (getpagesize() != SZ_4K)
		spe_skip("a huge page is larger than the buffer");

	v = pin_vm_create_vcpus(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS_THP, &all_set, guest_code,
				e->other ? guest_exec_code : NULL);
	SPE_OK(spe_init(v.vcpu));
	if (e->other)
		SPE_OK(spe_init(v.second));

	/* It stops in the middle of a profile; the log then takes nothing away */
	v.ctl->size = SZ_1M;
	v.ctl->code = BUF_BASE + SZ_1M;
	v.ctl->toggles = 2;
	v.ctl->pause = 1;
	run(&v);
	v.ctl->pause = 0;
	check_block(&v);
	now = pinned(&v);
	pin = vcpu_get_stat(v.vcpu, spe_pin);

	vm_mem_region_set_flags(v.vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	check_block(&v);

	if (e->other) {
		vcpu_args_set(v.second, 1, v.ctl->code);
		v.ctl->code = 0;
		v.ctl->toggles = 0;
		/* Half of the buffer */
		v.ctl->iterations = SZ_512K / v.record_size * PER_RECORD / WORK_INSNS;
		TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_thread, &v), "pthread_create");
		wait_for_profile(&v);
		TEST_ASSERT(spe_run_vcpu(v.second), "the second vCPU has ended");
		WRITE_ONCE(v.ctl->stop, 1);
		pthread_join(thread, NULL);
	} else {
		run(&v);
	}

	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), pin);
	TEST_ASSERT_EQ(pinned(&v), now);
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->too_large + v.ctl->lost +
		       v.ctl->other, 0);
	TEST_ASSERT(check_records(&v, v.ctl->from[0], v.ctl->to[0]), "no records");
	if (v.fixed_size)
		check_number(&v, v.ctl->bytes / v.record_size, v.ctl->insns, v.ctl->rounds);
	pin_vm_free(&v);
}

/* --- Beside the buffer ----------------------------------------------------- */

/* A vCPU that does not profile, and writes beside the buffer as a round begins */
static void guest_beside_code(void)
{
	while (!READ_ONCE(ctl.stop)) {
		if (READ_ONCE(ctl.hold) <= READ_ONCE(ctl.meet))
			continue;
		guest_work(READ_ONCE(ctl.delay));
		WRITE_ONCE(*(u64 *)READ_ONCE(ctl.beside), ctl.rounds);
		WRITE_ONCE(ctl.meet, ~0UL);
	}
	GUEST_SYNC(0);
}

/* A guest that waits does a round, in which the second vCPU writes to @addr. */
static void begin_with_second(struct pin_vm *v, void *addr, u64 delay)
{
	v->ctl->beside = BUF_BASE + (addr - v->buf);
	v->ctl->delay = delay;
	WRITE_ONCE(v->ctl->meet, v->ctl->rounds);
	WRITE_ONCE(v->ctl->hold, v->ctl->rounds + 1);
}

static void end_with_second(struct pin_vm *v)
{
	int i;

	for (i = 0; i < 20000 && READ_ONCE(v->ctl->held) != v->ctl->hold + 1; i++)
		usleep(500);
	TEST_ASSERT(i < 20000, "the guest hangs");
	for (i = 0; i < 20000 && READ_ONCE(v->ctl->meet) != ~0UL; i++)
		usleep(500);
	TEST_ASSERT(i < 20000, "the second vCPU hangs");
}

/* Stage 2 loses a block. The pages of the buffer go; those of its tables stay pinned. */
static void lose_block(struct pin_vm *v)
{
	u64 pages = pinned(v);

	TEST_ASSERT(!mprotect(v->buf, SZ_2M, PROT_READ), "mprotect");
	TEST_ASSERT(!mprotect(v->buf, SZ_2M, PROT_READ | PROT_WRITE), "mprotect");
	TEST_ASSERT(!pages || pinned_falls_to(v, pages - SZ_1M / getpagesize(), 1000),
		    "%lu pages still pinned", pinned(v));
}

/* ... then one vCPU pins half of it, the other writes to the rest. */
static void beside_block(struct pin_vm *v, u64 delay)
{
	lose_block(v);
	begin_with_second(v, v->buf + SZ_1M, delay);
	end_with_second(v);
}

/* ... and the log begins, or ends: the two may see the memslot with it, or without. */
static void beside_log(struct pin_vm *v, u64 delay, u32 flags)
{
	u64 until;

	vm_mem_region_set_flags(v->vm, BUF_SLOT, flags);
	lose_block(v);
	begin_with_second(v, v->buf + SZ_1M, delay);
	for (until = now_us() + random() % 2000; now_us() < until;)
		;
	vm_mem_region_set_flags(v->vm, BUF_SLOT, flags ^ KVM_MEM_LOG_DIRTY_PAGES);
	end_with_second(v);
}

static void beside_log_begins(struct pin_vm *v, u64 delay)
{
	beside_log(v, delay, 0);
}

static void beside_log_ends(struct pin_vm *v, u64 delay)
{
	beside_log(v, delay, KVM_MEM_LOG_DIRTY_PAGES);
}

/*
 * The dirty log has left pages of a huge page: one vCPU pins them, the other makes
 * a block of them. When the host then takes the other's part, and the block with
 * it, KVM must know that the buffer is hit.
 */
static void beside_pages(struct pin_vm *v, u64 delay)
{
	void *other = v->buf + SZ_2M - getpagesize();
	int i;

	/* No more than one of two fits */
	v->ctl->ptr = BUF_BASE + SZ_2M;
	step(v, 1);
	for (i = 0; i < 2000 && !collapse(v->buf, false); i++)
		usleep(500);
	TEST_ASSERT(mapping_bytes(v->buf, "AnonHugePages:"), "not collapsed");

	vm_mem_region_set_flags(v->vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	v->ctl->ptr = BUF_BASE;
	step(v, 1);
	vm_mem_region_set_flags(v->vm, BUF_SLOT, 0);
	v->ctl->ptr = BUF_BASE + SZ_2M;
	step(v, 1);

	v->ctl->ptr = BUF_BASE;
	begin_with_second(v, v->buf + SZ_1M, delay);
	end_with_second(v);

	TEST_ASSERT(!mprotect(other, getpagesize(), PROT_READ), "mprotect");
	TEST_ASSERT(!mprotect(other, getpagesize(), PROT_READ | PROT_WRITE), "mprotect");
	step(v, 1);
}

/*
 * With the log on, stage 2 lets a vCPU write to what is pinned of the block, and to
 * nothing else: what the second vCPU writes beside the buffer must be in the log.
 */
static void beside_logged(struct pin_vm *v, u64 delay)
{
	u64 host = getpagesize(), nr = BUF_SIZE / host, n, written = 0;
	unsigned long *bitmap = calloc(1, nr / 8 + 8);
	void *addr = v->buf + SZ_1M + random() % (SZ_1M / host) * host;
	u8 *copy = malloc(BUF_SIZE);

	TEST_ASSERT(bitmap && copy, "no memory");
	vm_mem_region_set_flags(v->vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	/* A set that was pinned before the log, and one that was pinned with it */
	if (delay % 2)
		step(v, 1);
	kvm_vm_get_dirty_log(v->vm, BUF_SLOT, bitmap);
	memcpy(copy, v->buf, BUF_SIZE);

	begin_with_second(v, addr, delay);
	end_with_second(v);

	memset(bitmap, 0, nr / 8 + 8);
	kvm_vm_get_dirty_log(v->vm, BUF_SLOT, bitmap);
	for (n = 0; n < nr; n++) {
		if (!memcmp(copy + n * host, v->buf + n * host, host))
			continue;
		TEST_ASSERT(test_bit(n, bitmap), "page %lu was written without the log", n);
		written += n >= SZ_1M / host;
	}
	TEST_ASSERT_EQ(written, 1);

	/* A block again */
	vm_mem_region_set_flags(v->vm, BUF_SLOT, 0);
	lose_block(v);
	step(v, 1);
	check_block(v);
	free(bitmap);
	free(copy);
}

struct beside {
	const char *name;
	void (*act)(struct pin_vm *v, u64 delay);
	int times;
	const struct log_mode *log;
};

static const struct beside besides[] = {
	{ "a block that is pinned", beside_block, 400 },
	{ "a block, and the log begins", beside_log_begins, 200, &all_set },
	{ "a block, and the log ends", beside_log_ends, 200, &all_set },
	{ "a block with a log", beside_logged, 24 },
	{ "pages that become a block", beside_pages, 120 },
};

/*
 * Another vCPU uses memory that stage 2 maps by the same block as the buffer, just
 * as it is pinned. Stage 2 must not lose what is pinned, not for a moment.
 */
static void test_beside(const void *arg)
{
	const struct beside *b = arg;
	struct pin_vm second;
	pthread_t thread[2];
	struct pin_vm v;
	int i;

	if (getpagesize() != SZ_4K)
		spe_skip("a huge page is larger than the buffer");

	v = pin_vm_create_vcpus(SZ_1M, VM_MEM_SRC_ANONYMOUS_THP, b->log, guest_code,
				guest_beside_code);
	SPE_OK(spe_init(v.vcpu));
	SPE_OK(spe_init(v.second));
	second = v;
	second.vcpu = v.second;

	v.ctl->size = SZ_1M;
	v.ctl->toggles = 0;
	v.ctl->hold = 0;
	/* Some pages of the buffer */
	v.ctl->iterations = SZ_32K / v.record_size * PER_RECORD / WORK_INSNS;
	TEST_ASSERT(!pthread_create(&thread[0], NULL, vcpu_thread, &v), "pthread_create");
	TEST_ASSERT(!pthread_create(&thread[1], NULL, vcpu_thread, &second), "pthread_create");
	hold(&v);
	step(&v, 1);
	TEST_ASSERT(mapping_bytes(v.buf, "AnonHugePages:"),
		    "the host has no huge page for the buffer");

	for (i = 0; i < b->times; i++) {
		b->act(&v, random() % 32768);
		TEST_ASSERT(!vcpu_get_stat(v.vcpu, spe_stage2_fault),
			    "a stage 2 fault at turn %d", i);
	}

	WRITE_ONCE(v.ctl->stop, 1);
	release(&v);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->too_large + v.ctl->lost +
		       v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.second, spe_stage2_fault), 0);
	pin_vm_free(&v);
}

/* --- A VM that is paused --------------------------------------------------- */

struct pause {
	const char *name;
	bool signal;		/* wherever the guest is; or the guest exits itself */
	int src;
};

static const struct pause pauses[] = {
	{ "by a signal", true, VM_MEM_SRC_ANONYMOUS },
	{ "by an exit", false, VM_MEM_SRC_ANONYMOUS },
	{ "by a signal, THP", true, VM_MEM_SRC_ANONYMOUS_THP },
	{ "by a signal, hugetlb", true, VM_MEM_SRC_SHARED_HUGETLB },
	{ "by a signal, shmem", true, VM_MEM_SRC_SHMEM },
	{ "by a signal, guest_memfd", true, SRC_GUEST_MEMFD },
};

static void paused(const struct pause *p)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), p->src);
	u64 pages = BUF_SIZE / getpagesize(), iterations, now, pin, ptr;
	pthread_t thread;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	run(&v);
	if (p->signal) {
		/* Half of the buffer */
		iterations = BUF_SIZE / 2 / v.record_size * PER_RECORD / WORK_INSNS;
		v.ctl->toggles = 0;
		/* What the host has wanted to move meanwhile is pinned anew */
		for (i = 0; i < 10 && (!i || pinned(&v) <= pages); i++) {
			TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, &v),
				    "pthread_create");
			stop_in_profile(&v, thread, iterations);
		}
	} else {
		v.ctl->pause = 1;
		run(&v);
		v.ctl->pause = 0;
	}

	TEST_ASSERT(vcpu_get_reg(v.vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E,
		    "the buffer is disabled");
	ptr = vcpu_get_reg(v.vcpu, SPE_REG(PMBPTR_EL1));
	now = pinned(&v);
	TEST_ASSERT(now > pages, "%lu pages pinned", now);
	pin = vcpu_get_stat(v.vcpu, spe_pin);

	begin_give_back(&v, pages);
	if (p->src == SRC_GUEST_MEMFD)
		pull_memfd_punch(&v, v.buf, BUF_SIZE);
	else
		pull_dontneed(&v, v.buf, BUF_SIZE);
	end_give_back(&v);

	/* The profile goes on, in other pages */
	v.ctl->iterations = 20000;
	v.ctl->toggles = 1;
	run(&v);
	TEST_ASSERT(vcpu_get_stat(v.vcpu, spe_pin) > pin, "nothing is pinned again");
	TEST_ASSERT(v.ctl->to[0] > ptr, "no new records");
	TEST_ASSERT(check_records(&v, ptr, v.ctl->to[0]), "no records");
	v.ctl->toggles = 10;
	run(&v);
	TEST_ASSERT(check_records(&v, v.ctl->from[0], v.ctl->to[0]), "no records");
	TEST_ASSERT(pinned(&v) > pages, "%lu pages pinned", pinned(&v));
	if (v.fixed_size)
		check_number(&v, v.ctl->bytes / v.record_size, v.ctl->insns, v.ctl->rounds);
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->too_large + v.ctl->lost +
		       v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	pin_vm_free(&v);
}

/* What is pinned for a buffer that is enabled is given back as well, and soon. */
static void test_paused(const void *arg)
{
	int i;

	for (i = 0; !i || (i < GIVE_BACK_TRIES && !give_back.soon); i++)
		paused(arg);
	TEST_ASSERT(give_back.soon, "it takes longer than %lu ms", give_back_ms());
}

/* --- Memory that cannot be had --------------------------------------------- */

/*
 * With fault injection, the n-th allocation of this thread fails, or it and all
 * that follow: what falls back to something else, or is tried again, fails only
 * then. Each case goes on until nothing was left to fail.
 */
#define DEBUGFS			"/sys/kernel/debug"

/* Each page in a table of its own */
#define FAR_STRIDE		((u64)getpagesize() * getpagesize() / 8)

struct shortage {
	const char *name;
	u64 pages;		/* of a buffer */
	u64 buffers;		/* in turn: only one of them may be pinned */
	u64 lost;		/* pages that stage 2 loses before each enable */
	bool cold;		/* and the guest's memory that is not its buffer */
	bool flat;		/* pages in a row for the guest, not for the host */
	bool all;		/* from the n-th on */
};

static const struct shortage shortages[] = {
	{ "from nothing", 12, 1, 12, .cold = true },
	{ "from nothing", 12, 1, 12, .cold = true, .all = true },
	{ "one page changed", 24, 1, 1 },
	{ "one page changed", 24, 1, 1, .all = true },
	/* Leaving at once, they are more than KVM has room for without memory */
	{ "many ranges leave", 130, 2, 0 },
	{ "many ranges leave", 130, 2, 0, .all = true },
	/* More of them than KVM makes room for when it begins */
	{ "many ranges come", 1024, 1, 1024, .flat = true },
	{ "many ranges come", 1024, 1, 1024, .flat = true, .all = true },
};

static int open_thread_file(const char *file)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/thread-self/%s", file);
	return open(name, O_RDWR);
}

static void need_fault_injection(void)
{
	static const char * const settings[][2] = {
		/* Threads with make-it-fail only */
		{ "task-filter", "Y" },
		{ "probability", "100" },
		{ "interval", "1" },
		{ "times", "-1" },
		{ "space", "0" },
		{ "verbose", "0" },
		/* GFP_KERNEL, user memory and single pages as well */
		{ "ignore-gfp-wait", "N" },
		{ "ignore-gfp-highmem", "N" },
		{ "min-order", "0" },
	};
	static const char * const dirs[] = { DEBUGFS "/failslab", DEBUGFS "/fail_page_alloc" };
	char name[128];
	int i, j;

	if (access("/proc/thread-self/fail-nth", W_OK) || access(dirs[0], W_OK) ||
	    access(dirs[1], W_OK))
		spe_skip("needs CONFIG_FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_DEBUG_FS");

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		for (j = 0; j < ARRAY_SIZE(settings); j++) {
			snprintf(name, sizeof(name), "%s/%s", dirs[i], settings[j][0]);
			write_file(name, settings[j][1]);
		}
	}
}

/*
 * The ioctl while allocation @n fails. Returns 0 or its errno; *@failed says
 * whether there was such an allocation.
 */
static int with_failure(int (*fn)(struct kvm_vcpu *vcpu), struct kvm_vcpu *vcpu, u64 n, bool all,
			bool *failed)
{
	int nth = open_thread_file("fail-nth"), fail = open_thread_file("make-it-fail");
	char val[16] = {};
	int ret, err;

	TEST_ASSERT(nth >= 0 && fail >= 0, "/proc/thread-self");
	if (all)
		TEST_ASSERT(write(fail, "1", 1) == 1, "make-it-fail");
	snprintf(val, sizeof(val), "%lu", n);
	TEST_ASSERT(write(nth, val, strlen(val)) > 0, "fail-nth");

	ret = fn(vcpu);
	err = ret ? errno : 0;

	/* First what makes a page fault of this program fail */
	if (write(fail, "0", 1) != 1 || pread(nth, val, sizeof(val) - 1, 0) <= 0 ||
	    write(nth, "0", 1) != 1)
		TEST_FAIL("/proc/thread-self");
	*failed = !atoi(val);
	close(nth);
	close(fail);

	return err;
}

static void test_short_init(const void *arg)
{
	u64 before = spe_locked_bytes(), charge = formula(SZ_64K) * getpagesize(), n, errors = 0;
	bool all = arg, failed = true;
	struct pin_vm v;
	int err = 0;

	need_fault_injection();
	for (n = 1; failed; n++) {
		/* One that has failed is done again in the same VM */
		if (!err)
			v = pin_vm_create_uninitialised(SZ_64K, VM_MEM_SRC_ANONYMOUS, NULL);
		err = with_failure(spe_init, v.vcpu, n, all, &failed);
		TEST_ASSERT(!err || (failed && err == ENOMEM), "INIT: %s", spe_errname(err));
		TEST_ASSERT_EQ(spe_locked_bytes(), before + (err ? 0 : charge));
		errors += !!err;
		if (err)
			continue;

		v.ctl->size = SZ_64K;
		v.ctl->toggles = 1;
		run(&v);
		TEST_ASSERT(v.ctl->bytes && !v.ctl->too_large, "no profile");
		pin_vm_free(&v);
		TEST_ASSERT_EQ(spe_locked_bytes(), before);
	}
	ksft_print_msg("%lu allocations, %lu errors\n", n - 2, errors);
	/* One failure may be made up for, but not all of them */
	TEST_ASSERT(errors || !all, "no error");
}

static void start_round(struct pin_vm *v, u64 ptr)
{
	struct guest_ctl *c = v->ctl;

	c->ptr = ptr;
	c->rounds = 0;
	c->insns = 0;
	c->bytes = 0;
	c->too_large = 0;
}

/* Is all pinned, and the profile complete? If not, @left is, and the guest knows. */
static bool end_round(struct pin_vm *v, u64 all, u64 left)
{
	struct guest_ctl *c = v->ctl;

	TEST_ASSERT_EQ(c->rounds, 1);
	TEST_ASSERT_EQ(c->full + c->refused + c->lost + c->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v->vcpu, spe_stage2_fault), 0);

	if (!c->too_large) {
		TEST_ASSERT_EQ(pinned(v), all);
		check_number(v, check_records(v, c->from[0], c->to[0]), c->insns, 1);
		return true;
	}

	TEST_ASSERT_EQ(c->bytes, 0);
	/* The buffer before this one may have made room already */
	TEST_ASSERT(pinned(v) == left || !pinned(v), "%lu pages pinned, not %lu", pinned(v), left);
	return false;
}

/* The host's pages stay */
static void unmap_stage2(void *mem, size_t len)
{
	TEST_ASSERT(!mprotect(mem, len, PROT_READ), "mprotect");
	TEST_ASSERT(!mprotect(mem, len, PROT_READ | PROT_WRITE), "mprotect");
}

static void test_shortage(const void *arg)
{
	const struct shortage *s = arg;
	u64 page = getpagesize(), stride = s->flat ? page : FAR_STRIDE;
	u64 nr = s->pages * s->buffers, len = nr * stride, n, i, buf, ptr, left;
	u64 errors = 0, refused = 0, all[2] = {};
	struct userspace_mem_region *data;
	bool failed = true;
	struct pin_vm v;
	void *mem;
	int err;

	need_fault_injection();
	v = pin_vm_create_uninitialised(s->pages * page, VM_MEM_SRC_ANONYMOUS, NULL);
	data = memslot2region(v.vm, 0);

	mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	madvise(mem, len, MADV_NOHUGEPAGE);
	vm_set_user_memory_region(v.vm, LARGE_SLOT, 0, LARGE_BASE, len, mem);
	/* The first page of a buffer, all that a round fills, is mapped flat */
	v.buf = mem - (LARGE_BASE - BUF_BASE);
	for (n = nr; n-- > 0; ) {
		/* The last page of the buffer is the first that the host has */
		*(u64 *)(mem + n * stride) = n;
		ptr = LARGE_BASE + n / s->pages * s->pages * stride + n % s->pages * page;
		for (i = 0; i < page; i += v.vm->page_size)
			virt_pg_map(v.vm, ptr + i, LARGE_BASE + n * stride + i);
	}
	SPE_OK(spe_init(v.vcpu));
	v.ctl->size = s->pages * page;
	v.ctl->toggles = 1;

	/* Each buffer once, then with failures */
	for (n = 0; failed; n++) {
		buf = n % s->buffers;
		left = all[(n + s->buffers - 1) % s->buffers] - s->lost;
		if (s->flat)
			unmap_stage2(mem, len);
		else if (s->lost)
			madvise(mem, s->lost * stride, MADV_DONTNEED);
		if (s->cold) {
			unmap_stage2(data->host_mem, data->region.memory_size);
			left = 0;
		}

		ptr = LARGE_BASE + buf * s->pages * stride;
		start_round(&v, ptr);
		if (n < s->buffers) {
			run(&v);
			all[buf] = pinned(&v);
			TEST_ASSERT(end_round(&v, all[buf], 0), "refused");
			continue;
		}

		err = with_failure(__vcpu_run, v.vcpu, n - s->buffers + 1, s->all, &failed);
		/* No table for a page that the guest itself uses; it tries again */
		if (err) {
			TEST_ASSERT(s->cold && failed && err == ENOMEM, "KVM_RUN: %s",
				    spe_errname(err));
			errors++;
			run(&v);
		} else {
			TEST_ASSERT_EQ(get_ucall(v.vcpu, NULL), UCALL_SYNC);
		}

		if (!end_round(&v, all[buf], left)) {
			refused++;
			start_round(&v, ptr);
			run(&v);
			TEST_ASSERT(end_round(&v, all[buf], 0), "refused without a failure");
		}
	}

	ksft_print_msg("%lu allocations: refused %lu, KVM_RUN failed %lu\n",
		       n - s->buffers - 1, refused, errors);
	TEST_ASSERT(refused || !s->all, "no failure met an enable");
	pin_vm_free(&v);
	munmap(mem, len);
}

/* What an attempt has pinned that a signal ended goes when the next one fails. */
static void test_short_after_signal(const void *arg)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct pin_vm v = pin_vm_create();
	u64 page = getpagesize();
	pthread_t thread;
	bool failed;

	need_fault_injection();
	sigaction(SIGUSR1, &sa, NULL);
	v.ctl->size = 32 * page;
	v.ctl->toggles = 1;
	memset(v.buf, POISON, v.ctl->size);
	uffd_start(&v, UFFDIO_REGISTER_MODE_MISSING);
	WRITE_ONCE(uffd.wait, true);
	uffd_take(&v, v.buf + 16 * page, page);

	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, &v), "pthread_create");
	while (!READ_ONCE(uffd.faults))
		usleep(1000);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	TEST_ASSERT(pinned(&v) >= 16, "%lu pages pinned", pinned(&v));

	TEST_ASSERT(!with_failure(__vcpu_run, v.vcpu, 1, true, &failed) && failed, "KVM_RUN");
	TEST_ASSERT_EQ(v.ctl->too_large, 1);
	TEST_ASSERT_EQ(pinned(&v), 0);

	WRITE_ONCE(uffd.wait, false);
	start_round(&v, BUF_BASE);
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 0);
	TEST_ASSERT(check_records(&v, v.ctl->from[0], v.ctl->to[0]), "no records");
	uffd_stop();
	pin_vm_free(&v);
}

/* --- The end --------------------------------------------------------------- */

/* The guest has done what it was asked for, and nothing of what the host did shows. */
static void check_unaware(struct pin_vm *v)
{
	TEST_ASSERT_EQ(v->ctl->rounds, v->ctl->toggles);
	TEST_ASSERT_EQ(v->ctl->full + v->ctl->refused + v->ctl->too_large + v->ctl->lost +
		       v->ctl->other, 0);
	TEST_ASSERT(v->ctl->bytes, "no records");
	TEST_ASSERT_EQ(vcpu_get_stat(v->vcpu, spe_stage2_fault), 0);
}

/* Starts a guest that profiles until it is told to stop. */
static pthread_t run_in_thread(struct pin_vm *v)
{
	struct sigaction sa = { .sa_handler = nothing };
	pthread_t thread;

	sigaction(SIGUSR1, &sa, NULL);
	v->ctl->parts = 2;
	v->ctl->toggles = 0;
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, v), "pthread_create");

	return thread;
}

static void interrupt(struct pin_vm *v, pthread_t thread)
{
	while (READ_ONCE(v->ctl->rounds) < 3)
		usleep(5000);
	stop_in_profile(v, thread, LONG_ROUND);
}

/* The buffer is enabled, and all of it is pinned. */
static void stop_pinned(struct pin_vm *v)
{
	int i;

	interrupt(v, run_in_thread(v));
	/* A stopped vCPU gives back what the host wants to move, and pins it anew */
	for (i = 0; i < 10 && pinned(v) < BUF_SIZE / getpagesize(); i++)
		interrupt(v, run_in_thread(v));
	TEST_ASSERT(pinned(v) >= BUF_SIZE / getpagesize(), "%lu pages pinned", pinned(v));
}

/* What is pinned, and charged, is as it was, sooner than the pins of an idle vCPU go. */
static void check_given_back(s64 pins, u64 locked)
{
	int ms;

	for (ms = 0; ms < 3000; ms += 10) {
		if (spe_pins_outstanding() == pins && spe_locked_bytes() == locked)
			return;
		usleep(10000);
	}
	TEST_ASSERT_EQ(spe_pins_outstanding(), pins);
	TEST_ASSERT_EQ(spe_locked_bytes(), locked);
}

struct backing {
	const char *name;
	int src;
};

static const struct backing backings[] = {
	{ "anonymous", VM_MEM_SRC_ANONYMOUS },
	{ "THP", VM_MEM_SRC_ANONYMOUS_THP },
	{ "hugetlb", VM_MEM_SRC_ANONYMOUS_HUGETLB },
	{ "shmem", VM_MEM_SRC_SHMEM },
	{ "guest_memfd", SRC_GUEST_MEMFD },
};

/* What a VM with its pins is made of */
enum { END_VCPU, END_VM, END_MEMORY, NR_ENDS };

static void end_part(struct pin_vm *v, int part)
{
	switch (part) {
	case END_VCPU:
		munmap(v->vcpu->run, ioctl(v->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL));
		close(v->vcpu->fd);
		close(v->vcpu->stats.fd);
		break;
	case END_VM:
		close(v->gic_fd);
		close(v->vm->stats.fd);
		close(v->vm->fd);
		break;
	case END_MEMORY:
		munmap(v->buf, BUF_SIZE);
		if (v->memfd >= 0)
			close(v->memfd);
		break;
	}
}

/* A VMM ends with the buffer enabled, and closes and unmaps in some order. */
static void test_destroy(const void *arg)
{
	static const int orders[][NR_ENDS] = {
		{ END_VCPU, END_VM, END_MEMORY },
		{ END_VM, END_MEMORY, END_VCPU },
		{ END_MEMORY, END_VCPU, END_VM },
	};
	const struct backing *b = arg;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		s64 pins = spe_pins_outstanding();
		u64 locked = spe_locked_bytes(), charged;
		struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), b->src);
		/* A guest_memfd also is one of the files with which the VM lives */
		u32 files = BIT(END_VCPU) | BIT(END_VM) | (v.memfd < 0 ? 0 : BIT(END_MEMORY));

		charged = spe_locked_bytes();
		stop_pinned(&v);
		for (j = 0; j < NR_ENDS; j++) {
			end_part(&v, orders[i][j]);
			files &= ~BIT(orders[i][j]);
			if (!files)
				check_given_back(pins, locked);
			else
				TEST_ASSERT_EQ(spe_locked_bytes(), charged);
		}
	}
}

/* One vCPU profiles; another one could not have what it asked for, and never will. */
static void test_half_init(const void *arg)
{
	u64 before = spe_locked_bytes(), charge = formula(spe_valid_size(0)) * getpagesize();
	struct rlimit limit = { .rlim_cur = before + 2 * charge - getpagesize() };
	s64 pins = spe_pins_outstanding();
	struct pin_vm v;
	int i;

	limit.rlim_max = limit.rlim_cur;
	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
	drop_ipc_lock();

	/* Given up at once, and after a profile */
	for (i = 0; i < 2; i++) {
		v = pin_vm_create_vcpus(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, NULL,
					guest_code, guest_code);
		SPE_OK(spe_init(v.vcpu));
		SPE_CHECK(spe_init(v.second), ENOMEM);
		if (i) {
			stop_pinned(&v);
			SPE_CHECK(__vcpu_run(v.second), EINVAL);
		}
		TEST_ASSERT_EQ(spe_locked_bytes(), before + charge);
		pin_vm_free(&v);
		check_given_back(pins, before);
	}
}

/* The memory goes with its process. Another one has the VM's files for longer. */
static void test_orphan(const void *arg)
{
	s64 pins = spe_pins_outstanding();
	u64 locked = spe_locked_bytes();
	int killed, i, status, files[2];
	pid_t pid, heir;
	char c;

	TEST_ASSERT(!prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl");
	for (killed = 0; killed < 2; killed++) {
		TEST_ASSERT(!pipe(files), "pipe");
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork");
		if (!pid) {
			struct pin_vm v = pin_vm_create();

			/* Before anything is pinned: fork() takes it from the guest */
			heir = fork();
			TEST_ASSERT(heir >= 0, "fork");
			close(files[!heir]);
			if (!heir)
				_exit(read(files[0], &c, 1) != 0);
			stop_pinned(&v);
			if (!killed)
				_exit(0);
			v.ctl->iterations = 1000;
			run_in_thread(&v);
			for (;;)
				pause();
		}

		close(files[0]);
		for (i = 0; i < 2000 && killed &&
		     spe_pins_outstanding() < pins + (s64)(BUF_SIZE / getpagesize()); i++)
			usleep(10000);
		usleep(50000);
		if (killed)
			kill(pid, SIGKILL);
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		TEST_ASSERT(killed ? WIFSIGNALED(status) : !status, "status 0x%x", status);
		check_given_back(pins, locked);

		/* The VM itself */
		TEST_ASSERT(!waitpid(-1, NULL, WNOHANG), "the files are closed already");
		close(files[1]);
		TEST_ASSERT(waitpid(-1, &status, 0) > 0 && !status, "status 0x%x", status);
		check_given_back(pins, locked);
	}
}

/* Of a vCPU that is about to execute its first instruction */
static const u64 start_regs[] = {
	ARM64_CORE_REG(regs.pstate),
	ARM64_CORE_REG(sp_el1),
	KVM_ARM64_SYS_REG(SYS_SCTLR_EL1),
	KVM_ARM64_SYS_REG(SYS_TCR_EL1),
	KVM_ARM64_SYS_REG(SYS_TTBR0_EL1),
	KVM_ARM64_SYS_REG(SYS_MAIR_EL1),
	KVM_ARM64_SYS_REG(SYS_VBAR_EL1),
	KVM_ARM64_SYS_REG(SYS_CPACR_EL1),
	KVM_ARM64_SYS_REG(SYS_TPIDR_EL1),
};

struct start {
	u64 val[ARRAY_SIZE(start_regs)];
};

static struct start save_start(struct pin_vm *v)
{
	struct start s;
	int i;

	for (i = 0; i < ARRAY_SIZE(start_regs); i++)
		s.val[i] = vcpu_get_reg(v->vcpu, start_regs[i]);
	return s;
}

/* A vCPU that was reset, and has nothing pinned, profiles as if it were the first time. */
static void check_profile_after_reset(struct pin_vm *v, const struct start *s)
{
	u64 pin = vcpu_get_stat(v->vcpu, spe_pin), i;

	for (i = 0; i < ARRAY_SIZE(start_regs); i++)
		vcpu_set_reg(v->vcpu, start_regs[i], s->val[i]);
	vcpu_arch_set_entry_point(v->vcpu, guest_code);

	v->ctl->parts = 2;
	v->ctl->toggles = 10;
	v->ctl->iterations = 20000;
	start_round(v, BUF_BASE);
	memset(v->buf, POISON, BUF_SIZE);
	run(v);

	for (i = 0; i < v->ctl->parts; i++)
		TEST_ASSERT(check_records(v, v->ctl->from[i], v->ctl->to[i]), "no records");
	if (v->fixed_size)
		check_number(v, v->ctl->bytes / v->record_size, v->ctl->insns, v->ctl->rounds);
	check_unaware(v);
	TEST_ASSERT(pinned(v) >= BUF_SIZE / getpagesize(), "%lu pages pinned", pinned(v));
	TEST_ASSERT_EQ(vcpu_get_stat(v->vcpu, spe_pin), pin + pinned(v));
}

/* A vCPU that is reset, as PSCI does, has no pins. */
static void test_reset(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 locked = spe_locked_bytes();
	struct start start = save_start(&v);

	interrupt(&v, run_in_thread(&v));
	TEST_ASSERT(pinned(&v), "nothing is pinned");
	SPE_OK(__vcpu_ioctl(v.vcpu, KVM_ARM_VCPU_INIT, &v.init));
	TEST_ASSERT(pinned_falls_to(&v, 0, 1000), "%lu pages still pinned", pinned(&v));
	TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E, 0);
	check_profile_after_reset(&v, &start);
	TEST_ASSERT_EQ(spe_locked_bytes(), locked);
	pin_vm_free(&v);
}

static void guest_off_code(void)
{
	struct arm_smccc_res res;

	guest_setup();
	guest_enable(ctl.ptr, ctl.ptr + ctl.size);
	guest_work(ctl.iterations);
	WRITE_ONCE(ctl.rounds, 1);
	/* Profiling */
	smccc_hvc(PSCI_0_2_FN_CPU_OFF, 0, 0, 0, 0, 0, 0, 0, &res);
	GUEST_FAIL("CPU_OFF returned");
}

static void guest_on_code(u64 mpidr, u64 entry, u64 context)
{
	struct arm_smccc_res res;

	smccc_hvc(PSCI_0_2_FN64_CPU_ON, mpidr, entry, context, 0, 0, 0, 0, &res);
	GUEST_ASSERT_EQ(res.a0, PSCI_RET_SUCCESS);
	GUEST_SYNC(0);
}

/* With the MMU off, x0 is what CPU_ON was given: next to it the VMM sees a write, no ucall */
extern char guest_entry;
asm(".pushsection .text\n\t"
	"guest_entry:\n\t"
	"str x0, [x0, #8]\n\t"
	"b .\n\t"
	".popsection\n");

static void *vcpu_to_mmio(void *arg)
{
	struct pin_vm *v = arg;

	vcpu_run(v->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(v->vcpu, KVM_EXIT_MMIO);

	return NULL;
}

/* A vCPU is turned off with its buffer enabled, and on again by another. */
static void test_psci(const void *arg)
{
	struct pin_vm v = pin_vm_create_vcpus(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, NULL,
					      guest_off_code, guest_on_code);
	u64 locked, on = v.vm->ucall_mmio_addr; /* no memory there, nor behind it */
	s64 before = spe_pins_outstanding();
	struct start start = save_start(&v);
	pthread_t thread;

	SPE_OK(spe_init(v.vcpu));
	SPE_OK(spe_init(v.second));
	locked = spe_locked_bytes();

	vcpu_args_set(v.second, 3,
		      vcpu_get_reg(v.vcpu, KVM_ARM64_SYS_REG(SYS_MPIDR_EL1)) & MPIDR_AFFINITY,
		      addr_gva2gpa(v.vm, (gva_t)&guest_entry), on);

	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_to_mmio, &v), "pthread_create");
	while (!READ_ONCE(v.ctl->rounds))
		usleep(1000);
	usleep(50000);
	/* What a vCPU that is off has pinned goes later, as that of an idle one does */
	TEST_ASSERT(pinned(&v) >= BUF_SIZE / getpagesize(), "%lu pages pinned", pinned(&v));
	TEST_ASSERT(spe_pins_outstanding() >= before + BUF_SIZE / getpagesize(),
		    "fewer are pinned");

	TEST_ASSERT(spe_run_vcpu(v.second), "the second vCPU has ended");
	pthread_join(thread, NULL);
	TEST_ASSERT_EQ(v.vcpu->run->mmio.phys_addr, on + 8);
	TEST_ASSERT(pinned_falls_to(&v, 0, 1000), "%lu pages still pinned", pinned(&v));
	TEST_ASSERT_EQ(spe_pins_outstanding(), before);
	TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E, 0);
	TEST_ASSERT_EQ(spe_locked_bytes(), locked);

	/* First the write ends */
	SPE_CHECK(spe_run_nothing(v.vcpu), EINTR);
	check_profile_after_reset(&v, &start);
	TEST_ASSERT_EQ(spe_locked_bytes(), locked);
	pin_vm_free(&v);
}

/* The host wants to know what the guest writes, and no longer */
static void pull_log(struct pin_vm *v, void *addr, size_t len)
{
	vm_mem_region_set_flags(v->vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	usleep(2000);
	vm_mem_region_set_flags(v->vm, BUF_SLOT, 0);
}

struct killed {
	const char *name;
	void (*pull)(struct pin_vm *v, void *addr, size_t len);	/* NULL: a page is missing */
	int src;
	const struct log_mode *log;
	bool two;		/* vCPUs */
};

static const struct log_mode killed_ring = { "", LOG_RING, 1024 };

static const struct killed kills[] = {
	{ "anonymous", pull_dontneed, VM_MEM_SRC_ANONYMOUS },
	{ "THP", pull_dontneed, VM_MEM_SRC_ANONYMOUS_THP },
	{ "hugetlb", pull_hugetlb_dontneed, VM_MEM_SRC_ANONYMOUS_HUGETLB },
	{ "shmem", pull_punch, VM_MEM_SRC_SHMEM },
	{ "guest_memfd", pull_memfd_punch, SRC_GUEST_MEMFD },
	{ "dirty log", pull_dirty_log, VM_MEM_SRC_ANONYMOUS_THP },
	{ "dirty ring", pull_log, VM_MEM_SRC_ANONYMOUS, &killed_ring },
	{ "two vCPUs", pull_dontneed, VM_MEM_SRC_ANONYMOUS, NULL, true },
	{ "waiting for userfaultfd", NULL, VM_MEM_SRC_ANONYMOUS },
};

/* Goes on until it is killed. @waits counts vCPUs that wait for a page, in KVM_RUN. */
static void run_killed(const struct killed *k, u64 *waits)
{
	struct pin_vm v = pin_vm_create_vcpus(spe_valid_size(0), k->src, k->log, guest_code,
					      k->two ? guest_code : NULL);
	struct pin_vm second;

	v.ctl->iterations = 1000;
	SPE_OK(spe_init(v.vcpu));
	if (k->two) {
		second = second_of(&v);
		SPE_OK(spe_init(second.vcpu));
	}

	if (!k->pull) {
		run(&v);
		uffd_start(&v, UFFDIO_REGISTER_MODE_MISSING);
		WRITE_ONCE(uffd.wait, true);
		uffd_take(&v, v.buf + BUF_SIZE / 4, getpagesize());
	}
	run_in_thread(&v);
	if (k->two)
		run_in_thread(&second);
	while (!k->pull && !READ_ONCE(uffd.faults))
		usleep(1000);
	WRITE_ONCE(*waits, *waits + !k->pull);
	for (;;) {
		if (k->pull)
			k->pull(&v, v.buf, SZ_1M);
		else
			pause();
	}
}

/* The VMM is killed, whatever it is about to do. */
static void test_kill(const void *arg)
{
	s64 before = spe_pins_outstanding();
	const struct killed *k = arg;
	u64 locked = spe_locked_bytes(), *waits;
	struct kvm_random_state rng;
	int i, status, pinned = 0;
	struct timespec now;
	pid_t pid;

	/* time(), of which the library makes its seed, may be the same after every boot */
	clock_gettime(CLOCK_MONOTONIC, &now);
	rng = new_kvm_random_state(kvm_random_seed ^ now.tv_nsec);
	ksft_print_msg("random seed of the moments: 0x%x\n", rng.seed);

	waits = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	TEST_ASSERT(waits != MAP_FAILED, "mmap");

	for (i = 0; i < 5 || ((pinned < 2 || *waits < !k->pull) && i < 50); i++) {
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork");
		if (!pid)
			run_killed(k, waits);
		/* From before the VM exists to well into the profile */
		usleep(kvm_random_u32(&rng) % ((i + 1) * 100000));
		pinned += spe_pins_outstanding() > before;
		kill(pid, SIGKILL);
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
			exit(KSFT_SKIP);
		TEST_ASSERT(WIFSIGNALED(status), "status 0x%x", status);
		check_given_back(before, locked);
	}
	TEST_ASSERT(pinned >= 2, "%d of %d had pins when they were killed", pinned, i);
	TEST_ASSERT(k->pull || *waits, "no vCPU was waiting for a page");
}

/* --- Attempts that end early ------------------------------------------------ */

/* Addresses at stage 1 that nothing else has; they begin a table of each level */
#define ALIAS_BASE		(8UL << 39)

/* Guest memory of which nothing else is part */
#define ABOVE_BUF		(3UL * BUF_BASE)

/* In a descriptor, for software to use */
#define PTE_SOFTWARE		BIT_ULL(55)

/* More runs of pages than a buffer may consist of: a million of one page */
#define MANY_RUNS		(BIT_ULL(20) + 1)

/* KVM_RUN ends for the signal, also for one that comes just before. */
static struct kvm_run *interrupted;

static void interrupt_run(int sig)
{
	WRITE_ONCE(interrupted->immediate_exit, 1);
}

static void catch_signal(struct pin_vm *v)
{
	struct sigaction sa = { .sa_handler = interrupt_run };

	interrupted = v->vcpu->run;
	sigaction(SIGUSR1, &sa, NULL);
}

static bool is_enabled(struct pin_vm *v)
{
	return vcpu_get_reg(v->vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E;
}

/* A buffer of @size that has the same memory again and again, with a walk for each page. */
static void map_alias(struct pin_vm *v, u64 size)
{
	u64 page = v->vm->page_size, i;

	for (i = 0; i < size; i += BUF_SIZE)
		virt_map(v->vm, ALIAS_BASE + i, BUF_BASE, BUF_SIZE / page);
	for (i = 0; i < size; i += 2 * page)
		*virt_get_pte_hva(v->vm, ALIAS_BASE + i) |= PTE_SOFTWARE;
	v->ctl->ptr = ALIAS_BASE;
	v->ctl->size = size;
}

struct signals {
	const char *name;
	u64 alias;		/* of this size; 0: no page twice, and each a run */
};

static const struct signals signals[] = {
	{ "tables are walked", SZ_16M },
	{ "pages are pinned" },
};

/* Signals end KVM_RUN while the buffer is made ready, each a bit later than the last one. */
static void test_signals(const void *arg)
{
	const struct signals *s = arg;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec at = {}, never = {};
	u64 size = s->alias ?: spe_valid_size(0), runs = 0, before = 0, now;
	u64 walking = 0, pinning = 0, delay = 10000;
	struct pin_vm v;
	struct ucall uc;
	timer_t timer;
	int ret;

	if (spe_spus[0].max_buff_size && spe_spus[0].max_buff_size < size)
		spe_skip("the SPU's own maximum is too small");

	v = pin_vm_create_backed(size, VM_MEM_SRC_ANONYMOUS);
	if (s->alias)
		map_alias(&v, s->alias);
	else
		scatter(&v);
	v.ctl->toggles = 2;
	catch_signal(&v);
	TEST_ASSERT(!timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create");

	do {
		TEST_ASSERT(runs++ < 500, "the guest does not get on");
		at.it_value.tv_sec = delay / NSEC_PER_SEC;
		at.it_value.tv_nsec = delay % NSEC_PER_SEC;
		TEST_ASSERT(!timer_settime(timer, 0, &at, NULL), "timer_settime");
		ret = __vcpu_run(v.vcpu);
		TEST_ASSERT(!ret || errno == EINTR, "KVM_RUN: %s", strerror(errno));
		timer_settime(timer, 0, &never, NULL);
		WRITE_ONCE(interrupted->immediate_exit, 0);

		now = pinned(&v);
		TEST_ASSERT(now >= before, "%lu of %lu pages are still pinned", now, before);
		if (ret && is_enabled(&v) && !v.ctl->profiling) {
			walking += !now;
			pinning += now > before;
		}
		/* As long as there are new pins the time is enough */
		if (now == before)
			delay += delay / 16;
		before = now;
	} while (ret);
	TEST_ASSERT_EQ(get_ucall(v.vcpu, &uc), UCALL_SYNC);

	ksft_print_msg("%lu KVM_RUNs: %lu ended before a page was pinned, %lu behind one\n", runs,
		       walking, pinning);
	TEST_ASSERT(s->alias ? walking : pinning, "the signals come too early, or too late");
	/* No page was pinned twice */
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), now);
	check_unaware(&v);

	timer_delete(timer);
	pin_vm_free(&v);
}

/* The vCPU waits in KVM_RUN for a page that userspace has, and gets a signal. */
static pthread_t signal_in_fault(struct pin_vm *v)
{
	pthread_t thread;

	catch_signal(v);
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, v), "pthread_create");
	while (!READ_ONCE(uffd.faults))
		usleep(1000);
	usleep(20000);
	pthread_kill(thread, SIGUSR1);

	return thread;
}

/* KVM_RUN has ended for it, and the guest got no further. */
static void check_interrupted(struct pin_vm *v, pthread_t thread)
{
	void *said;

	pthread_join(thread, &said);
	WRITE_ONCE(interrupted->immediate_exit, 0);
	TEST_ASSERT(!said, "the guest went on without its page");
	TEST_ASSERT(is_enabled(v), "the buffer is not enabled");
	TEST_ASSERT_EQ(vcpu_get_reg(v->vcpu, SPE_REG(PMBSR_EL1)), 0);
	TEST_ASSERT_EQ(v->ctl->profiling, 0);
}

/*
 * The walk reads a table, for which it waits whatever signals there are. It is
 * empty when it comes: with a signal, that is not yet the end of the buffer.
 */
static void test_uffd_table(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 page = v.vm->page_size, offset = BUF_SIZE - getpagesize(), i;
	u64 nr = BUF_SIZE / 16 / page;
	u64 *table = v.buf + offset;
	pthread_t thread;

	virt_map(v.vm, ALIAS_BASE, BUF_BASE, 1);
	*virt_get_pte_hva_at_level(v.vm, ALIAS_BASE, 2) += BUF_BASE + offset -
		addr_hva2gpa(v.vm, virt_get_pte_hva(v.vm, ALIAS_BASE));
	v.ctl->ptr = ALIAS_BASE;
	v.ctl->size = nr * page;

	uffd_start(&v, UFFDIO_REGISTER_MODE_MISSING);
	WRITE_ONCE(uffd.wait, true);
	thread = signal_in_fault(&v);
	WRITE_ONCE(uffd.wait, false);
	check_interrupted(&v, thread);

	for (i = 0; i < nr; i++)
		table[i] = *virt_get_pte_hva(v.vm, BUF_BASE + i * page);
	run(&v);
	check_unaware(&v);
	uffd_stop();
	pin_vm_free(&v);
}

/* The guest does ctl->toggles rounds. Returns how often the ring was full, and was emptied. */
static u64 run_ring(struct pin_vm *v, const struct log_mode *mode)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(v->vcpu);
	u32 n, i, entries = ring_entries(mode);
	struct ucall uc;
	u64 full;

	for (full = 0;; full++) {
		TEST_ASSERT(!__vcpu_run(v->vcpu), "KVM_RUN: %s", strerror(errno));
		if (v->vcpu->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		TEST_ASSERT(full < 100, "the guest does not get on");
		for (i = 0, n = 0; i < entries; i++) {
			if (ring[i].flags != KVM_DIRTY_GFN_F_DIRTY)
				continue;
			ring[i].flags = KVM_DIRTY_GFN_F_RESET;
			n++;
		}
		TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(v->vm), n);
	}
	TEST_ASSERT_EQ(get_ucall(v->vcpu, &uc), UCALL_SYNC);

	return full;
}

/* Each Access flag that the walk sets is an entry of the ring. It stops for a full one. */
static void test_ring_walk(const void *arg)
{
	const struct log_mode mode = { "", LOG_RING, 256 };
	struct pin_vm v = pin_vm_create_logged(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, &mode);
	u64 page = v.vm->page_size, nr = BUF_SIZE / page, full, i;

	if (nr <= ring_entries(&mode))
		spe_skip("the buffer has fewer pages than the smallest ring has entries");
	flags_by_hardware(&v);

	for (i = 0; i < nr; i++)
		*virt_get_pte_hva(v.vm, BUF_BASE + i * page) &= ~PTE_AF;
	vm_mem_region_set_flags(v.vm, v.vm->memslots[MEM_REGION_PT], KVM_MEM_LOG_DIRTY_PAGES);
	vm_mem_region_set_flags(v.vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);

	full = run_ring(&v, &mode);
	TEST_ASSERT(full >= nr / ring_entries(&mode), "%lu times", full);
	for (i = 0; i < nr; i++)
		TEST_ASSERT(*virt_get_pte_hva(v.vm, BUF_BASE + i * page) & PTE_AF,
			    "page %lu was not walked", i);
	check_unaware(&v);
	pin_vm_free(&v);
}

/* Without a backup bitmap all of the buffer has to go through the ring, while the log is on. */
static void test_ring_too_large(const void *arg)
{
	const struct log_mode mode = { "", LOG_RING_ONLY, 1024 };
	struct pin_vm v = pin_vm_create_logged(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, &mode);
	u64 half = ring_entries(&mode) / 2, bytes;

	if (BUF_SIZE / getpagesize() <= half)
		spe_skip("half of the smallest ring has as many entries as the buffer has pages");

	v.ctl->toggles = 1;
	run(&v);
	check_unaware(&v);
	bytes = v.ctl->bytes;

	vm_mem_region_set_flags(v.vm, BUF_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	v.ctl->toggles = 3;
	run_ring(&v, &mode);
	TEST_ASSERT_EQ(v.ctl->too_large, 3);
	TEST_ASSERT_EQ(v.ctl->bytes, bytes);

	/* Half of what would fit */
	v.ctl->size = half / 2 * getpagesize();
	run_ring(&v, &mode);
	TEST_ASSERT_EQ(v.ctl->too_large, 3);
	TEST_ASSERT(v.ctl->bytes > bytes, "no records");
	bytes = v.ctl->bytes;

	vm_mem_region_set_flags(v.vm, BUF_SLOT, 0);
	v.ctl->size = BUF_SIZE;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 3);
	TEST_ASSERT(v.ctl->bytes > bytes, "no records");
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->lost + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	pin_vm_free(&v);
}

/* A buffer that has no log is not too large for a ring, wherever its tables are. */
static void test_ring_tables(const void *arg)
{
	const struct log_mode mode = { "", LOG_RING_ONLY, 256 };
	struct pin_vm v = pin_vm_create_logged(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS, &mode);
	u64 page = v.vm->page_size, nr = page / 8, slot = BUF_SLOT + 2, i;
	u64 *table;

	if (nr * page / getpagesize() <= ring_entries(&mode) / 2)
		spe_skip("half of the smallest ring has as many entries as the buffer has pages");

	/* Behind the buffer */
	vm_userspace_mem_region_add(v.vm, VM_MEM_SRC_ANONYMOUS, ABOVE_BUF, slot,
				    getpagesize() / page, KVM_MEM_LOG_DIRTY_PAGES);
	table = addr_gpa2hva(v.vm, ABOVE_BUF);
	for (i = 0; i < nr; i++)
		table[i] = *virt_get_pte_hva(v.vm, BUF_BASE + i * page);
	virt_map(v.vm, ALIAS_BASE, BUF_BASE, 1);
	*virt_get_pte_hva_at_level(v.vm, ALIAS_BASE, 2) += ABOVE_BUF -
		addr_hva2gpa(v.vm, virt_get_pte_hva(v.vm, ALIAS_BASE));

	v.ctl->ptr = ALIAS_BASE;
	v.ctl->size = nr * page;
	v.ctl->toggles = 3;
	run_ring(&v, &mode);
	check_unaware(&v);
	pin_vm_free(&v);
}

/* One page, by one table, at more places than KVM counts. There are few pages to pin. */
static void test_many_runs(const void *arg)
{
	u64 page, block, size, i, *table;
	struct pin_vm v;

	if (spe_spus[0].max_buff_size)
		spe_skip("the SPU has a maximum of its own");

	v = pin_vm_create_backed(0, VM_MEM_SRC_ANONYMOUS);
	page = v.vm->page_size;
	block = page / 8 * page;
	size = roundup(MANY_RUNS * page, block);

	virt_map(v.vm, ALIAS_BASE, BUF_BASE, 1);
	table = virt_get_pte_hva(v.vm, ALIAS_BASE);
	for (i = 1; i < page / 8; i++)
		table[i] = table[0];
	table = virt_get_pte_hva_at_level(v.vm, ALIAS_BASE, 2);
	for (i = block; i < size; i += block) {
		/* It makes all tables on the way */
		if (!(i % (page / 8 * block)))
			virt_map(v.vm, ALIAS_BASE + i, BUF_BASE, 1);
		*virt_get_pte_hva_at_level(v.vm, ALIAS_BASE + i, 2) = *table;
	}

	v.ctl->ptr = ALIAS_BASE;
	v.ctl->size = size;
	v.ctl->toggles = 2;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 2);
	TEST_ASSERT_EQ(v.ctl->bytes, 0);
	TEST_ASSERT_EQ(pinned(&v), 0);

	v.ctl->size = block;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 2);
	TEST_ASSERT(v.ctl->bytes, "no records");
	TEST_ASSERT(pinned(&v) < 10, "%lu pages pinned", pinned(&v));
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->lost + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	pin_vm_free(&v);
}

static struct pin_vm pin_vm_create_traced(u64 max_size)
{
	struct pin_vm v = pin_vm_create_backed(max_size, VM_MEM_SRC_ANONYMOUS);

	v.ctl->size = SZ_2M;
	v.ctl->toggles = 1;
	return v;
}

/* Looked at when it is enabled, and when the guest samples into it: then the guest is told. */
static void check_pin_twice(u64 ptr, u64 fresh, int result)
{
	const char *unpin = "kvm_spe_unpin", *pin = "kvm_spe_pin";
	char *back = field_text("vcpu 0: unpinned %lu, total 0 pages", fresh);
	char *text = result_text(ptr, ptr + SZ_2M, fresh, 0, result);

	if (fresh)
		check_events(unpin, back, pin, text, unpin, back, pin, text, NULL);
	else
		check_events(pin, text, pin, text, NULL);
}

/* kvm_spe_pin where the buffer cannot be had. Nothing stays pinned. */
static void test_trace_results(const void *arg)
{
	struct rlimit none = {};
	struct pin_vm v;
	u64 tables;

	/* How many tables there are */
	v = pin_vm_create_traced(spe_valid_size(0));
	run(&v);
	tables = pinned(&v) - SZ_2M / getpagesize();
	pin_vm_free(&v);

	trace_enable("kvm_spe_pin");
	trace_enable("kvm_spe_unpin");

	/* The first page cannot be pinned. Its tables can: of no use without it */
	v = pin_vm_create_traced(spe_valid_size(0));
	TEST_ASSERT(!mprotect(v.buf, getpagesize(), PROT_READ), "mprotect");
	run(&v);
	TEST_ASSERT_EQ(v.ctl->refused, 1);
	check_pin_twice(BUF_BASE, tables, 2);
	pin_vm_free(&v);

	/* A table where there is no memory */
	v = pin_vm_create_traced(spe_valid_size(0));
	virt_map(v.vm, ALIAS_BASE, BUF_BASE, 1);
	*virt_get_pte_hva_at_level(v.vm, ALIAS_BASE, 2) += ABOVE_BUF -
		addr_hva2gpa(v.vm, virt_get_pte_hva(v.vm, ALIAS_BASE));
	v.ctl->ptr = ALIAS_BASE;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->other, SPE_PMBSR_S1(SPE_FSC_EA_WALK(3)));
	check_pin_twice(ALIAS_BASE, 0, 3);
	pin_vm_free(&v);

	/* More than may be charged */
	if (spe_spus[0].max_buff_size)
		return;
	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &none), "setrlimit");
	drop_ipc_lock();
	v = pin_vm_create_traced(0);
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 1);
	check_pin_twice(BUF_BASE, 0, 1);
	pin_vm_free(&v);
}

/* What is pinned behind a hole in a buffer leaves the pages before it as many as they are. */
static void test_hole(const void *arg)
{
	struct pin_vm v = pin_vm_create_backed(SZ_2M, VM_MEM_SRC_ANONYMOUS);
	u64 most = formula(SZ_2M), hole = SZ_64K, i;
	const struct {
		u64 ptr, size;
	} windows[] = {
		/* Behind the hole, elsewhere, and from before it on */
		{ SZ_1M + hole, SZ_1M - hole },
		{ SZ_2M, SZ_1M - hole },
		{ 0, SZ_2M },
	};

	vm_set_user_memory_region(v.vm, BUF_SLOT, 0, BUF_BASE, 0, NULL);
	vm_set_user_memory_region(v.vm, BUF_SLOT, 0, BUF_BASE, SZ_1M, v.buf);
	vm_set_user_memory_region(v.vm, LARGE_SLOT, 0, BUF_BASE + SZ_1M + hole,
				  BUF_SIZE - SZ_1M - hole, v.buf + SZ_1M + hole);

	v.ctl->toggles = 1;
	for (i = 0; i < ARRAY_SIZE(windows); i++) {
		v.ctl->ptr = BUF_BASE + windows[i].ptr;
		v.ctl->size = windows[i].size;
		run(&v);
		TEST_ASSERT(pinned(&v) <= most, "%lu of %lu pages pinned", pinned(&v), most);
		TEST_ASSERT(spe_pins_outstanding() <= (s64)most, "%ld pages pinned",
			    spe_pins_outstanding());
		check_unaware(&v);
		v.ctl->rounds = 0;
	}
	/* And the buffer is, as far as it goes */
	TEST_ASSERT(pinned(&v) >= SZ_1M / getpagesize(), "%lu pages pinned", pinned(&v));
	pin_vm_free(&v);
}

/*
 * The host's pages, of which no two are contiguous, are more pieces than KVM keeps track of:
 * 1 GiB of them. The same memory is there several times.
 */
#define MANY_RANGES		BIT_ULL(18)

static void test_many_ranges(const void *arg)
{
	u64 host = getpagesize(), part = SZ_256M, size = MANY_RANGES * host + SZ_2M, i, n, *pte;
	u64 block = SZ_2M, left, some = 5 * part / 2;
	struct pin_vm v;
	int fd, lap;
	u8 *mem;

	if (host != SZ_4K)
		spe_skip("it takes more memory than there is");
	if (spe_spus[0].max_buff_size)
		spe_skip("the SPU has a maximum of its own");

	v = pin_vm_create_backed(0, VM_MEM_SRC_ANONYMOUS);
	if (v.vm->page_size != SZ_4K)
		spe_skip("written for tables of 4K pages");

	fd = kvm_memfd_alloc(part, false);
	mem = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	for (i = 0; i < size; i += part)
		TEST_ASSERT(mmap(mem + i, min(part, size - i), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED, "mmap");
	/* In an order in which the host does not give out pages */
	for (i = 0; i < part / host; i++) {
		n = i * 977 % (part / host);
		mem[n * host] = n;
	}
	vm_set_user_memory_region(v.vm, LARGE_SLOT, 0, LARGE_BASE, size, mem);
	for (i = 0; i < size; i += block) {
		/* It makes all tables on the way */
		if (!(i % SZ_1G))
			virt_map(v.vm, ALIAS_BASE + i, LARGE_BASE + i, 1);
		pte = virt_get_pte_hva_at_level(v.vm, ALIAS_BASE + i, 2);
		*pte = (LARGE_BASE + i) | (*virt_get_pte_hva(v.vm, BUF_BASE) & 0xffc);
		*pte |= 1;
	}
	v.ctl->toggles = 1;
	v.buf = mem - (LARGE_BASE - BUF_BASE);

	/* Two that do not fit together take turns */
	v.ctl->size = some;
	for (lap = 0; lap < 3; lap++) {
		v.ctl->ptr = ALIAS_BASE + lap % 2 * (size - some);
		run(&v);
		TEST_ASSERT_EQ(v.ctl->too_large, 0);
		left = pinned(&v) - some / host;
		TEST_ASSERT(pinned(&v) >= some / host && left < some / host / 2,
			    "%lu pages pinned", pinned(&v));
	}

	v.ctl->ptr = ALIAS_BASE;
	v.ctl->size = size;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 1);

	v.ctl->size = some;
	run(&v);
	TEST_ASSERT_EQ(v.ctl->too_large, 1);
	TEST_ASSERT_EQ(v.ctl->full + v.ctl->refused + v.ctl->lost + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	pin_vm_free(&v);
	munmap(mem, size);
	close(fd);
}

int main(int argc, char **argv)
{
	int i;

	spe_parse_options(argc, argv);

	for (i = 0; i < ARRAY_SIZE(toggles); i++)
		spe_add_case(test_toggle, &toggles[i], false, "enable: %s", toggles[i].name);
	spe_add_case(test_go_on, NULL, false, "enable: from where the SPU has stopped");
	spe_add_case(test_windows, NULL, false, "enable: more windows than fit");
	spe_add_case(test_order, NULL, false, "enable: the oldest window makes room");
	spe_add_case(test_other_tables, NULL, false, "enable: other tables");
	spe_add_case(test_many, NULL, false, "enable: many times, under memory pressure");
	spe_add_case(test_scattered, NULL, false, "enable: scattered pages");
	spe_add_case(test_idle, NULL, false, "idle vCPU");
	spe_add_case(test_rlimit, NULL, false, "RLIMIT_MEMLOCK");
	spe_add_case(test_no_limit, NULL, false, "no maximum size");
	spe_add_case(test_no_limit_rlimit, NULL, false, "no maximum size: RLIMIT_MEMLOCK");
	for (i = 0; i < ARRAY_SIZE(pulls); i++)
		spe_add_case(test_pull, &pulls[i], false, "pull: %s", pulls[i].name);
	for (i = 0; i < ARRAY_SIZE(bounds); i++)
		spe_add_case(test_bound, &bounds[i], false, "bound: %s", bounds[i].name);
	spe_add_case(test_hole, NULL, false, "bound: a hole in the buffer");
	spe_add_case(test_trace, NULL, false, "tracepoints");
	spe_add_case(test_trace_results, NULL, false, "tracepoints: results");
	for (i = 0; i < ARRAY_SIZE(pauses); i++)
		spe_add_case(test_paused, &pauses[i], false, "paused: profiling, %s",
			     pauses[i].name);
	for (i = 0; i < ARRAY_SIZE(backings); i++)
		spe_add_case(test_destroy, &backings[i], false, "end: the buffer is enabled, %s",
			     backings[i].name);
	spe_add_case(test_half_init, NULL, false, "end: a vCPU without INIT");
	spe_add_case(test_orphan, NULL, false, "end: the VM outlives its memory");
	spe_add_case(test_reset, NULL, false, "end: vCPU reset");
	spe_add_case(test_psci, NULL, false, "end: CPU_OFF, and CPU_ON by another vCPU");
	for (i = 0; i < ARRAY_SIZE(kills); i++)
		spe_add_case(test_kill, &kills[i], false, "end: VMM killed, %s", kills[i].name);
	for (i = 0; i < ARRAY_SIZE(uffd_modes); i++)
		spe_add_case(test_uffd_signal, &uffd_modes[i], false,
			     "userfaultfd %s: a signal while it waits", uffd_modes[i].name);
	for (i = 0; i < ARRAY_SIZE(log_modes); i++)
		spe_add_case(test_migration, &log_modes[i], false, "migration: %s",
			     log_modes[i].name);
	for (i = 0; i < ARRAY_SIZE(log_modes); i++) {
		if (!log_modes[i].flags)
			spe_add_case(test_converge, &log_modes[i], false, "converge: %s",
				     log_modes[i].name);
	}
	for (i = 0; i < ARRAY_SIZE(execs); i++)
		spe_add_case(test_exec, &execs[i], false,
			     "dirty log: exec fault beside the buffer, %s", execs[i].name);
	for (i = 0; i < ARRAY_SIZE(besides); i++)
		spe_add_case(test_beside, &besides[i], false, "beside the buffer: %s",
			     besides[i].name);
	spe_add_case(test_large_slot, NULL, false, "dirty log: of a large memslot");
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		spe_add_case(test_signals, &signals[i], false, "signals: while %s",
			     signals[i].name);
	spe_add_case(test_uffd_table, NULL, false, "signals: a table is missing");
	spe_add_case(test_ring_walk, NULL, false, "dirty ring: full while tables are walked");
	spe_add_case(test_ring_too_large, NULL, false, "dirty ring: a buffer too large for it");
	spe_add_case(test_ring_tables, NULL, false, "dirty ring: only of the tables");
	spe_add_case(test_many_runs, NULL, false, "no maximum size: too many runs");
	spe_add_case(test_many_ranges, NULL, false, "no maximum size: too many ranges");
	spe_add_case(test_short_init, NULL, false, "no memory: INIT: one failure");
	spe_add_case(test_short_init, (void *)1, false, "no memory: INIT: all from one on");
	for (i = 0; i < ARRAY_SIZE(shortages); i++)
		spe_add_case(test_shortage, &shortages[i], false, "no memory: %s: %s",
			     shortages[i].name,
			     shortages[i].all ? "all from one on" : "one failure");
	spe_add_case(test_short_after_signal, NULL, false, "no memory: after a signal");

	spe_run_cases();
}
