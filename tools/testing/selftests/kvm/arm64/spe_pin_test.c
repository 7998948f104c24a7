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

#include <asm/barrier.h>

#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "spe.h"
#include "vgic.h"

/* The buffer, at the same address at stage 1 and 2, in a memslot of its own. */
#define BUF_BASE		SZ_1G
#define BUF_SLOT		10
#define BUF_SIZE		SZ_4M

/* A backing of the buffer that enum vm_mem_backing_src_type does not have */
#define SRC_GUEST_MEMFD		NUM_SRC_TYPES

/* How often the host does what the case is about, while the guest profiles */
#define PULLS			40

/* What the host asks, and what the guest answers. In guest memory. */
struct guest_ctl {
	u64 ptr, size;		/* the buffer */
	u64 parts;		/* which are enabled in turn */
	u64 toggles;		/* then the guest tells the host; 0: until stop */
	u64 iterations;		/* of the workload, each time */
	u64 stop;
	u64 idle;		/* don't profile */

	u64 rounds;
	u64 full;		/* events: buffer full */
	u64 refused;		/* events: row 5 of the contract */
	u64 too_large;		/* events: row 1 */
	u64 lost;		/* events with DL */
	u64 other;		/* other events, and the last of them */
	u64 bytes;		/* of records */
};

static struct guest_ctl ctl;

static void guest_work(u64 iterations)
{
	u64 i;

	for (i = 0; i < iterations; i++)
		asm volatile("nop" : : "r" (i) : "memory");
}

/* Profiles as Linux does per task: the buffer is disabled at every switch. */
static void guest_code(void)
{
	u64 n, part, pmbsr, ptr;

	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	write_sysreg_s(0, SYS_PMSFCR_EL1);
	write_sysreg_s(4096, SYS_PMSIRR_EL1);
	write_sysreg_s(0, SYS_PMSICR_EL1);
	isb();

	for (;;) {
		for (n = 0; READ_ONCE(ctl.toggles) ? n < ctl.toggles : !READ_ONCE(ctl.stop); n++) {
			if (READ_ONCE(ctl.idle)) {
				guest_work(READ_ONCE(ctl.iterations));
				continue;
			}

			part = READ_ONCE(ctl.size) / READ_ONCE(ctl.parts);
			ptr = READ_ONCE(ctl.ptr) + n % ctl.parts * part;

			write_sysreg_s(ptr, SYS_PMBPTR_EL1);
			write_sysreg_s(0, SYS_PMBSR_EL1);
			write_sysreg_s((ptr + part) | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
			isb();
			write_sysreg_s(PMSCR_EL1_E1SPE, SYS_PMSCR_EL1);
			isb();

			guest_work(READ_ONCE(ctl.iterations));

			write_sysreg_s(0, SYS_PMSCR_EL1);
			isb();
			psb_csync();
			dsb(nsh);
			isb();
			pmbsr = read_sysreg_s(SYS_PMBSR_EL1);
			ctl.bytes += read_sysreg_s(SYS_PMBPTR_EL1) - ptr;
			write_sysreg_s(0, SYS_PMBLIMITR_EL1);
			isb();

			if (pmbsr & PMBSR_EL1_DL)
				ctl.lost++;
			if (pmbsr & PMBSR_EL1_S) {
				u64 ec = FIELD_GET(PMBSR_EL1_EC, pmbsr);
				u64 bsc = pmbsr & 0x3f;

				if (!ec && bsc == 1)
					ctl.full++;
				else if (!ec && !bsc)
					ctl.refused++;
				else if (!ec && bsc == 4)
					ctl.too_large++;
				else
					ctl.other = pmbsr;
			}
			WRITE_ONCE(ctl.rounds, ctl.rounds + 1);
		}
		GUEST_SYNC(n);
	}
}

struct log_mode;
static void log_prepare(struct kvm_vm *vm, const struct log_mode *mode);

/* A VM with one vCPU. */
struct pin_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct guest_ctl *ctl;
	void *buf;
	struct kvm_vcpu_init init;
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
		if (src == VM_MEM_SRC_ANONYMOUS_HUGETLB || src == VM_MEM_SRC_SHARED_HUGETLB)
			write_file("/proc/sys/vm/nr_hugepages", "8");
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

static struct pin_vm pin_vm_create_uninitialised(u64 max_size, int src,
						 const struct log_mode *log)
{
	struct pin_vm v = {};

	v.vm = __vm_create(VM_SHAPE_DEFAULT, 1, 4096);
	if (log)
		log_prepare(v.vm, log);
	vm_ioctl(v.vm, KVM_ARM_PREFERRED_TARGET, &v.init);
	v.init.features[0] |= SPE_FEATURE;
	v.vcpu = aarch64_vcpu_add(v.vm, 0, &v.init, guest_code);
	vm_init_descriptor_tables(v.vm);
	vcpu_init_descriptor_tables(v.vcpu);

	add_buffer(&v, src);
	virt_map(v.vm, BUF_BASE, BUF_BASE, BUF_SIZE / v.vm->page_size);

	SPE_OK(spe_set_spu(v.vcpu, spe_spus[0].type));
	SPE_OK(spe_set_size(v.vcpu, max_size));
	v.gic_fd = vgic_v3_setup(v.vm, 1, 64);
	SPE_OK(spe_set_irq(v.vcpu, SPE_PPI));

	v.ctl = addr_gva2hva(v.vm, (gva_t)&ctl);
	*v.ctl = (struct guest_ctl) {
		.ptr		= BUF_BASE,
		.size		= BUF_SIZE,
		.parts		= 1,
		.toggles	= 10,
		.iterations	= 20000,
	};

	return v;
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

/* Waits at most @ms for no more than @pages to be pinned. */
static bool pinned_falls_to(struct pin_vm *v, u64 pages, int ms)
{
	for (; ms > 0; ms -= 5) {
		if (pinned(v) <= pages)
			return true;
		usleep(5000);
	}

	return pinned(v) <= pages;
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

/* --- The guest's own doing ------------------------------------------------ */

struct toggle {
	const char *name;
	int parts;
	int src;
};

static const struct toggle toggles[] = {
	{ "unchanged", 1, VM_MEM_SRC_ANONYMOUS },
	{ "alternating halves", 2, VM_MEM_SRC_ANONYMOUS },
	{ "eight parts in turn", 8, VM_MEM_SRC_ANONYMOUS },
	{ "THP", 2, VM_MEM_SRC_ANONYMOUS_THP },
	{ "hugetlb", 2, VM_MEM_SRC_ANONYMOUS_HUGETLB },
	{ "shmem", 2, VM_MEM_SRC_SHMEM },
	{ "guest_memfd", 2, SRC_GUEST_MEMFD },
};

/* Unchanged enables pin nothing, and what is pinned is bounded. */
static void test_toggle(const void *arg)
{
	const struct toggle *t = arg;
	struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), t->src);
	u64 pin, reuse, pages;

	v.ctl->parts = t->parts;
	v.ctl->toggles = 10;
	run(&v);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	reuse = vcpu_get_stat(v.vcpu, spe_pin_reuse);
	pages = pinned(&v);

	TEST_ASSERT(pages >= BUF_SIZE / getpagesize(), "%lu pages pinned", pages);
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
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);

	pin_vm_free(&v);
}

static bool pressure_stop;

/* The host is short of memory: it swaps, merges and compacts what is not pinned. */
static void *pressure(void *arg)
{
	size_t len = SZ_16M;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap");
	write_file("/sys/kernel/mm/ksm/sleep_millisecs", "20");
	write_file("/sys/kernel/mm/ksm/pages_to_scan", "500");
	write_file("/sys/kernel/mm/ksm/run", "1");
	madvise(mem, len, MADV_MERGEABLE);
	while (!READ_ONCE(pressure_stop)) {
		memset(mem, 1, len);
		write_file("/proc/sys/vm/compact_memory", "1");
		madvise(mem, len, MADV_PAGEOUT);
		usleep(20000);
	}
	munmap(mem, len);

	return NULL;
}

/* As the driver does for a task that is switched in and out, very often. */
static void test_many(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 pin, reuse, faults, lost;
	pthread_t thread;
	bool swap = add_swap();

	v.ctl->parts = 2;
	run(&v);
	pin = vcpu_get_stat(v.vcpu, spe_pin);
	reuse = vcpu_get_stat(v.vcpu, spe_pin_reuse);

	TEST_ASSERT(!pthread_create(&thread, NULL, pressure, NULL), "pthread_create");
	v.ctl->iterations = 100;
	v.ctl->toggles = spe_opt.enables;
	run(&v);
	WRITE_ONCE(pressure_stop, true);
	pthread_join(thread, NULL);

	faults = vcpu_get_stat(v.vcpu, spe_stage2_fault);
	lost = v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other;
	ksft_print_msg("%d enables, %s swap: %lu pages pinned at first, %lu later\n",
		       spe_opt.enables, swap ? "with" : "without", pin,
		       vcpu_get_stat(v.vcpu, spe_pin) - pin);
	ksft_print_msg("%lu enables reused pins, %lu stage 2 faults\n",
		       vcpu_get_stat(v.vcpu, spe_pin_reuse) - reuse, faults);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_pin), pin);
	TEST_ASSERT_EQ(faults, 0);
	TEST_ASSERT_EQ(lost, 0);

	pin_vm_free(&v);
}

/* Every page in another place: one range a page. */
static void test_scattered(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 i, n = BUF_SIZE / v.vm->page_size, page = v.vm->page_size;
	u64 pin;

	for (i = 0; i < n; i++) {
		u64 *pte = virt_get_pte_hva(v.vm, BUF_BASE + i * page);

		*pte += ((i * 97) % n - i) * page;
	}

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

/* Pins of a vCPU that does not profile any more go, after some seconds. */
static void test_idle(const void *arg)
{
	struct pin_vm v = pin_vm_create();

	run(&v);
	TEST_ASSERT(pinned(&v), "nothing is pinned");
	TEST_ASSERT(pinned_falls_to(&v, 0, 20000), "%lu pages still pinned", pinned(&v));
	run(&v);
	TEST_ASSERT(pinned(&v), "nothing is pinned again");
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->other, 0);

	pin_vm_free(&v);
}

/* RLIMIT_MEMLOCK, without CAP_IPC_LOCK. */
static void test_rlimit(const void *arg)
{
	u64 before = spe_locked_bytes(), charge = formula(spe_valid_size(0)) * getpagesize();
	struct rlimit limit = { .rlim_cur = before + charge, .rlim_max = before + charge };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
	struct pin_vm v;

	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
	TEST_ASSERT(!syscall(__NR_capget, &header, caps), "capget");
	caps[0].effective &= ~BIT(CAP_IPC_LOCK);
	TEST_ASSERT(!syscall(__NR_capset, &header, caps), "capset");

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
}

/* --- Memory that is pulled away ------------------------------------------- */

enum pull_flags {
	/* In between the pages cannot be had: row 5 is what the guest gets */
	MAY_REFUSE	= BIT(0),
	/* The page stays what it is: no gap in the profile for it */
	SAME_PAGE	= BIT(1),
	/* Paused, the VM has no pins of it afterwards */
	GIVES_BACK	= BIT(2),
	/* It takes long: a few times are enough */
	SLOW		= BIT(3),
};

struct pull {
	const char *name;
	void (*fn)(struct pin_vm *v, void *addr, size_t len);
	u32 flags;
	int src;
};

static void pull_dontneed(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!madvise(addr, len, MADV_DONTNEED), "MADV_DONTNEED");
}

static void pull_munmap(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!munmap(addr, len), "munmap");
	usleep(500);
	TEST_ASSERT(mmap(addr, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == addr, "mmap");
}

static void pull_mremap(struct pin_vm *v, void *addr, size_t len)
{
	void *to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mremap(addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap");
	usleep(500);
	TEST_ASSERT(mremap(to, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr) == addr, "mremap");
}

static void pull_mprotect_read(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!mprotect(addr, len, PROT_READ), "mprotect");
	usleep(500);
	TEST_ASSERT(!mprotect(addr, len, PROT_READ | PROT_WRITE), "mprotect");
}

static void pull_mprotect_none(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!mprotect(addr, len, PROT_NONE), "mprotect");
	usleep(500);
	TEST_ASSERT(!mprotect(addr, len, PROT_READ | PROT_WRITE), "mprotect");
}

static void pull_pageout(struct pin_vm *v, void *addr, size_t len)
{
	if (madvise(addr, len, MADV_PAGEOUT))
		TEST_ASSERT(errno == EINVAL, "MADV_PAGEOUT");
}

static void pull_cold(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!madvise(addr, len, MADV_COLD), "MADV_COLD");
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
	WRITE_ONCE(*(char *)addr, 0);
	TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");
}

static void pull_ksm(struct pin_vm *v, void *addr, size_t len)
{
	if (madvise(addr, len, MADV_MERGEABLE))
		spe_skip("no KSM");
	write_file("/sys/kernel/mm/ksm/sleep_millisecs", "0");
	write_file("/sys/kernel/mm/ksm/pages_to_scan", "2000");
	write_file("/sys/kernel/mm/ksm/run", "1");
	usleep(2000);
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

static void pull_collapse(struct pin_vm *v, void *addr, size_t len)
{
	void *block = (void *)((u64)v->buf & ~(u64)(SZ_2M - 1));

	/* Refused for pinned pages, but stage 2 loses them for a moment */
	madvise(block + SZ_2M, SZ_2M, MADV_HUGEPAGE);
	madvise(block + SZ_2M, SZ_2M, MADV_COLLAPSE);
	/* Splits the huge page of the host, if there is one */
	TEST_ASSERT(!mprotect(addr, getpagesize(), PROT_READ), "mprotect");
	TEST_ASSERT(!mprotect(addr, getpagesize(), PROT_READ | PROT_WRITE), "mprotect");
}

static void pull_compact(struct pin_vm *v, void *addr, size_t len)
{
	write_file("/proc/sys/vm/compact_memory", "1");
}

static void pull_move_pages(struct pin_vm *v, void *addr, size_t len)
{
	int node = 0, status;

	TEST_ASSERT(!syscall(__NR_move_pages, 0, 1UL, &addr, &node, &status, MPOL_MF_MOVE),
		    "move_pages");
}

static void pull_slot(struct pin_vm *v, void *addr, size_t len)
{
	struct userspace_mem_region *region = memslot2region(v->vm, BUF_SLOT);

	vm_mem_region_set_flags(v->vm, BUF_SLOT, 0);
	region->region.memory_size = 0;
	vm_ioctl(v->vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
	usleep(500);
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

/* Pinned, it cannot be swapped out, but the kernel tries; the neighbours go. */
static void pull_swap(struct pin_vm *v, void *addr, size_t len)
{
	if (!add_swap())
		spe_skip("no swap");
	TEST_ASSERT(!madvise(v->buf, BUF_SIZE, MADV_PAGEOUT), "MADV_PAGEOUT");
}

static void pull_reclaim(struct pin_vm *v, void *addr, size_t len)
{
	int fd = open("/sys/fs/cgroup/memory.reclaim", O_WRONLY);

	if (fd < 0 || !add_swap())
		spe_skip("no cgroup to reclaim from, or no swap");
	/* Less than was asked for is an error */
	if (write(fd, "1M", 2) < 0)
		TEST_ASSERT(errno == EAGAIN || errno == EINTR, "memory.reclaim");
	close(fd);
}

static void pull_reclaim_classic(struct pin_vm *v, void *addr, size_t len)
{
	write_file("/sys/kernel/mm/lru_gen/enabled", "0");
	pull_reclaim(v, addr, len);
	write_file("/sys/kernel/mm/lru_gen/enabled", "7");
}

/* Clears the Access flag of the pages, at stage 2 as well. */
static void pull_idle(struct pin_vm *v, void *addr, size_t len)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int idle = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	u64 page = getpagesize(), entry, bits;
	void *p;

	if (pagemap < 0 || idle < 0)
		spe_skip("no idle page tracking");

	for (p = addr; p < addr + len; p += page) {
		TEST_ASSERT(pread(pagemap, &entry, 8, (u64)p / page * 8) == 8, "pagemap");
		entry &= GENMASK_ULL(54, 0);
		if (!entry)
			continue;
		bits = BIT(entry % 64);
		TEST_ASSERT(pwrite(idle, &bits, 8, entry / 64 * 8) == 8, "page_idle");
		TEST_ASSERT(pread(idle, &bits, 8, entry / 64 * 8) == 8, "page_idle");
	}
	close(pagemap);
	close(idle);
}

static void pull_numa(struct pin_vm *v, void *addr, size_t len)
{
	write_file("/proc/sys/kernel/numa_balancing", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "2");
	usleep(2000);
}

/* --- userfaultfd */

struct uffd {
	struct pin_vm *v;
	pthread_t thread;
	int fd, stop[2];
	u64 mode;
	bool wait;		/* don't answer yet */
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
		while (READ_ONCE(u->wait))
			usleep(1000);
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
	if (!uffd.v)
		uffd_start(v, mode);
	uffd_take(v, addr, len);
	usleep(1000);
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
	usleep(500);
	set_slot(v, BUF_BASE, BUF_SIZE, 0);
}

static void pull_slot_readonly(struct pin_vm *v, void *addr, size_t len)
{
	set_slot(v, BUF_BASE, 0, 0);
	set_slot(v, BUF_BASE, BUF_SIZE, KVM_MEM_READONLY);
	usleep(500);
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
	TEST_ASSERT(!madvise(huge_page_of(addr), SZ_2M, MADV_REMOVE), "MADV_REMOVE");
}

/* The guest loses a page to an error of the memory, and gets another. */
static void pull_poison(struct pin_vm *v, void *addr, size_t len)
{
	struct sigaction sa = { .sa_handler = nothing };
	u64 page = getpagesize();

	/* The VMM is told by a signal */
	sigaction(SIGBUS, &sa, NULL);
	if (madvise(addr, page, MADV_HWPOISON)) {
		if (errno == EPERM || errno == EINVAL)
			spe_skip("no MADV_HWPOISON");
		TEST_ASSERT(errno == EBUSY, "MADV_HWPOISON: %s", strerror(errno));
	}
	usleep(1000);
	pull_munmap(v, addr, page);
}

static void pull_memfd_punch(struct pin_vm *v, void *addr, size_t len)
{
	TEST_ASSERT(!fallocate(v->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       addr - v->buf, len), "fallocate");
}

static const struct pull pulls[] = {
	{ "MADV_DONTNEED", pull_dontneed, GIVES_BACK },
	{ "munmap", pull_munmap, MAY_REFUSE | GIVES_BACK },
	{ "mremap", pull_mremap, MAY_REFUSE | GIVES_BACK },
	{ "mprotect to read-only", pull_mprotect_read, MAY_REFUSE | GIVES_BACK },
	{ "mprotect to none", pull_mprotect_none, MAY_REFUSE | GIVES_BACK },
	{ "MADV_PAGEOUT", pull_pageout, SAME_PAGE },
	{ "MADV_COLD", pull_cold, SAME_PAGE },
	{ "fork", pull_fork, 0 },
	{ "KSM", pull_ksm, SAME_PAGE },
	{ "collapse and split", pull_collapse, MAY_REFUSE },
	{ "compaction", pull_compact, SAME_PAGE },
	{ "move_pages", pull_move_pages, SAME_PAGE },
	{ "memslot delete and create", pull_slot, MAY_REFUSE | GIVES_BACK },
	{ "dirty log", pull_dirty_log, SAME_PAGE },
	{ "shmem MADV_DONTNEED", pull_dontneed, GIVES_BACK, VM_MEM_SRC_SHMEM },
	{ "shmem punch hole", pull_punch, GIVES_BACK, VM_MEM_SRC_SHMEM },
	{ "shmem MADV_PAGEOUT", pull_pageout, SAME_PAGE, VM_MEM_SRC_SHMEM },
	{ "THP MADV_DONTNEED", pull_dontneed, GIVES_BACK, VM_MEM_SRC_ANONYMOUS_THP },
	{ "THP mprotect to read-only", pull_mprotect_read, MAY_REFUSE | GIVES_BACK,
	  VM_MEM_SRC_ANONYMOUS_THP },
	{ "THP dirty log", pull_dirty_log, SAME_PAGE, VM_MEM_SRC_ANONYMOUS_THP },
	{ "THP fork", pull_fork, 0, VM_MEM_SRC_ANONYMOUS_THP },
	{ "guest_memfd punch hole", pull_memfd_punch, GIVES_BACK, SRC_GUEST_MEMFD },
	{ "swap", pull_swap, SAME_PAGE | SLOW },
	{ "shmem swap", pull_swap, SAME_PAGE | SLOW, VM_MEM_SRC_SHMEM },
	{ "THP swap", pull_swap, SAME_PAGE | SLOW, VM_MEM_SRC_ANONYMOUS_THP },
	{ "memory.reclaim", pull_reclaim, SAME_PAGE | SLOW },
	{ "memory.reclaim without MGLRU", pull_reclaim_classic, SAME_PAGE | SLOW },
	{ "idle page tracking", pull_idle, SAME_PAGE },
	{ "THP idle page tracking", pull_idle, SAME_PAGE, VM_MEM_SRC_ANONYMOUS_THP },
	{ "NUMA balancing", pull_numa, SAME_PAGE },
	{ "userfaultfd missing", pull_uffd_missing, 0 },
	{ "userfaultfd write-protect", pull_uffd_wp, 0 },
	{ "shmem userfaultfd minor", pull_uffd_minor, 0, VM_MEM_SRC_SHMEM },
	{ "memslot move", pull_slot_move, MAY_REFUSE | GIVES_BACK },
	{ "memslot read-only", pull_slot_readonly, MAY_REFUSE | GIVES_BACK },
	{ "hugetlb MADV_DONTNEED", pull_hugetlb_dontneed, GIVES_BACK, VM_MEM_SRC_SHARED_HUGETLB },
	{ "hugetlb punch hole", pull_hugetlb_punch, GIVES_BACK, VM_MEM_SRC_SHARED_HUGETLB },
	{ "hwpoison", pull_poison, MAY_REFUSE },
};

static void *vcpu_thread(void *arg)
{
	run(arg);
	return NULL;
}

/* While the guest profiles, the host pulls pages away from it. */
static void test_pull(const void *arg)
{
	const struct pull *p = arg;
	struct pin_vm v = pin_vm_create_backed(spe_valid_size(0), p->src);
	u64 i, rounds, bytes, most = formula(spe_valid_size(0)), page = getpagesize();
	pthread_t thread;

	/* Both a buffer that is disabled again and again, and one that stays */
	v.ctl->parts = 2;
	v.ctl->toggles = 0;
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_thread, &v), "pthread_create");
	while (READ_ONCE(v.ctl->rounds) < 3)
		usleep(1000);

	for (i = 0; i < (p->flags & SLOW ? PULLS / 5 : PULLS); i++) {
		WRITE_ONCE(v.ctl->iterations, i % 4 ? 20000 : 1000000);
		/* Where the SPU writes, and elsewhere */
		p->fn(&v, v.buf + (i % 5) * 7 * page, (1 + i % 3) * page);
		TEST_ASSERT(pinned(&v) <= most, "%lu pages pinned", pinned(&v));
		usleep(2000);
	}

	/* The profile goes on */
	WRITE_ONCE(v.ctl->iterations, 20000);
	rounds = READ_ONCE(v.ctl->rounds);
	while (READ_ONCE(v.ctl->rounds) < rounds + 4)
		usleep(1000);
	WRITE_ONCE(v.ctl->stop, 1);
	pthread_join(thread, NULL);

	TEST_ASSERT_EQ(v.ctl->other, 0);
	TEST_ASSERT_EQ(v.ctl->too_large, 0);
	if (!(p->flags & MAY_REFUSE)) {
		TEST_ASSERT_EQ(v.ctl->refused, 0);
		TEST_ASSERT_EQ(v.ctl->lost, 0);
		TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
	}

	/* And from now on without a gap */
	v.ctl->refused = 0;
	v.ctl->lost = 0;
	bytes = v.ctl->bytes;
	i = vcpu_get_stat(v.vcpu, spe_stage2_fault);
	v.ctl->toggles = 10;
	run(&v);
	TEST_ASSERT(v.ctl->bytes > bytes, "no records");
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->lost, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), i);

	if (uffd.v)
		uffd_stop();

	/* A VM that is paused gives back what the host wants, and soon */
	if (p->flags & GIVES_BACK) {
		u64 now = pinned(&v);

		p->fn(&v, v.buf, 16 * page);
		TEST_ASSERT(pinned_falls_to(&v, now - 16, 100), "%lu of %lu pages still pinned",
			    pinned(&v), now);
	}

	pin_vm_free(&v);
}

/* A signal while the page is not there: KVM_RUN ends, and nothing is lost. */
static void test_uffd_signal(const void *arg)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct pin_vm v = pin_vm_create();
	pthread_t thread;
	void *said;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	run(&v);
	uffd_start(&v, UFFDIO_REGISTER_MODE_MISSING);
	WRITE_ONCE(uffd.wait, true);
	uffd_take(&v, v.buf + 16 * getpagesize(), getpagesize());

	for (i = 0; i < 3; i++) {
		v.ctl->toggles = 10;
		TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, &v),
			    "pthread_create");
		while (!READ_ONCE(uffd.faults))
			usleep(1000);
		usleep(20000);
		/* It waits for the page, in KVM_RUN, with the signal or without */
		pthread_kill(thread, SIGUSR1);
		pthread_join(thread, &said);
		TEST_ASSERT(!said, "the guest went on without its page");
	}

	WRITE_ONCE(uffd.wait, false);
	run(&v);
	TEST_ASSERT(v.ctl->rounds == 20, "%lu rounds", v.ctl->rounds);
	TEST_ASSERT_EQ(v.ctl->refused + v.ctl->too_large + v.ctl->lost + v.ctl->other, 0);
	TEST_ASSERT_EQ(vcpu_get_stat(v.vcpu, spe_stage2_fault), 0);
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
	{ "bitmap, shmem", LOG_BITMAP, 0, VM_MEM_SRC_SHMEM },
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
		vm_enable_dirty_ring(vm, mode->entries * sizeof(struct kvm_dirty_gfn));
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
	u32 n = 0, i, j;

	found = calloc(m->mode->entries, sizeof(*found));
	TEST_ASSERT(found, "calloc");
	for (;;) {
		e = &ring[m->fetch % m->mode->entries];
		/* The entry is complete when its flag is seen ... */
		if (smp_load_acquire(&e->flags) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		TEST_ASSERT(n < m->mode->entries, "more entries than the ring has");
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

/* Takes the vCPU out of the guest, in the middle of a profile. */
static void stop_in_profile(struct pin_vm *v, pthread_t thread)
{
	void *said;

	WRITE_ONCE(v->ctl->iterations, 100000000);
	for (;;) {
		usleep(20000);
		WRITE_ONCE(v->vcpu->run->immediate_exit, 1);
		pthread_kill(thread, SIGUSR1);
		pthread_join(thread, &said);
		TEST_ASSERT(!said, "the guest has ended");
		v->vcpu->run->immediate_exit = 0;
		if (vcpu_get_reg(v->vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E)
			return;
		/* Just in between */
		TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_until_stopped, v),
			    "pthread_create");
	}
}

/* Decodes the part of the buffer that the guest is in. Returns the records. */
static u64 check_profile(struct pin_vm *v)
{
	u64 limit = vcpu_get_reg(v->vcpu, SPE_REG(PMBLIMITR_EL1)) & GENMASK_ULL(63, 12);
	u64 ptr = vcpu_get_reg(v->vcpu, SPE_REG(PMBPTR_EL1)), n = 0;
	u64 start = limit - v->ctl->size / v->ctl->parts;
	struct spe_record rec;

	while (start < ptr) {
		int len = spe_next_record(v->buf + (start - BUF_BASE), ptr - start, &rec);

		TEST_ASSERT(len > 0, "no record at 0x%lx, before 0x%lx", start, ptr);
		TEST_ASSERT(rec.has_pc && rec.el == 1,
			    "a record without a PC of EL1 at 0x%lx", start);
		start += len;
		n++;
	}

	return n;
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

	stop_in_profile(&a, thread);
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

	/* The same profile goes on there */
	i = b.ctl->rounds;
	b.ctl->iterations = 20000;
	n = b.ctl->bytes;
	b.ctl->stop = 1;
	run_moved(&b);
	TEST_ASSERT_EQ(b.ctl->rounds, i + 1);
	TEST_ASSERT(b.ctl->bytes > n + before * 16, "no new records");
	b.ctl->stop = 0;
	b.ctl->toggles = 20;
	run_moved(&b);
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
	}

	pin_vm_free(&v);
}

/* --- The end --------------------------------------------------------------- */

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
	stop_in_profile(v, thread);
}

static void test_destroy(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	int i;

	interrupt(&v, run_in_thread(&v));
	/* A stopped vCPU gives back what the host wants to move, and pins it anew */
	for (i = 0; i < 10 && spe_pins_outstanding() < BUF_SIZE / getpagesize(); i++)
		interrupt(&v, run_in_thread(&v));
	TEST_ASSERT(spe_pins_outstanding() >= BUF_SIZE / getpagesize(), "nothing is pinned");
	/* What was pinned is looked at when the case has ended */
	pin_vm_free(&v);
}

/* A vCPU that is reset, as PSCI does, has no pins. */
static void test_reset(const void *arg)
{
	struct pin_vm v = pin_vm_create();
	u64 locked = spe_locked_bytes();

	interrupt(&v, run_in_thread(&v));
	TEST_ASSERT(pinned(&v), "nothing is pinned");
	SPE_OK(__vcpu_ioctl(v.vcpu, KVM_ARM_VCPU_INIT, &v.init));
	TEST_ASSERT(pinned_falls_to(&v, 0, 1000), "%lu pages still pinned", pinned(&v));
	TEST_ASSERT_EQ(vcpu_get_reg(v.vcpu, SPE_REG(PMBLIMITR_EL1)) & PMBLIMITR_EL1_E, 0);
	TEST_ASSERT_EQ(spe_locked_bytes(), locked);
	pin_vm_free(&v);
}

/* The VMM is killed, whatever it is about to do. */
static void test_kill(const void *arg)
{
	s64 before = spe_pins_outstanding();
	int i, ms, status;
	pid_t pid;

	for (i = 0; i < 12; i++) {
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork");
		if (!pid) {
			struct pin_vm v = pin_vm_create();

			v.ctl->iterations = 1000;
			run_in_thread(&v);
			for (;;)
				pull_dontneed(&v, v.buf, SZ_1M);
		}
		/* From before the VM exists to well into the profile */
		usleep(i * 30000 + random() % 30000);
		kill(pid, SIGKILL);
		TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
		TEST_ASSERT(WIFSIGNALED(status), "status 0x%x", status);

		for (ms = 0; ms < 5000 && spe_pins_outstanding() != before; ms += 10)
			usleep(10000);
		TEST_ASSERT_EQ(spe_pins_outstanding(), before);
	}
}

int main(int argc, char **argv)
{
	int i;

	spe_parse_options(argc, argv);

	for (i = 0; i < ARRAY_SIZE(toggles); i++)
		spe_add_case(test_toggle, &toggles[i], false, "enable: %s", toggles[i].name);
	spe_add_case(test_windows, NULL, false, "enable: more windows than fit");
	spe_add_case(test_many, NULL, false, "enable: many times, under memory pressure");
	spe_add_case(test_scattered, NULL, false, "enable: scattered pages");
	spe_add_case(test_idle, NULL, false, "idle vCPU");
	spe_add_case(test_rlimit, NULL, false, "RLIMIT_MEMLOCK");
	spe_add_case(test_no_limit, NULL, false, "no maximum size");
	for (i = 0; i < ARRAY_SIZE(pulls); i++)
		spe_add_case(test_pull, &pulls[i], false, "pull: %s", pulls[i].name);
	spe_add_case(test_destroy, NULL, false, "end: the buffer is enabled");
	spe_add_case(test_reset, NULL, false, "end: vCPU reset");
	spe_add_case(test_kill, NULL, false, "end: VMM killed");
	spe_add_case(test_uffd_signal, NULL, false, "userfaultfd: a signal while it waits");
	for (i = 0; i < ARRAY_SIZE(log_modes); i++)
		spe_add_case(test_migration, &log_modes[i], false, "migration: %s",
			     log_modes[i].name);
	for (i = 0; i < ARRAY_SIZE(log_modes); i++)
		spe_add_case(test_converge, &log_modes[i], false, "converge: %s",
			     log_modes[i].name);

	spe_run_cases();
}
