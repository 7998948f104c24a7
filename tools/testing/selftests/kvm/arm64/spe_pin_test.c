// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The pinned buffer of the Statistical Profiling Extension (SPE) in guests:
 * what is pinned and for how long, and every way in which the host can pull the
 * memory away under a guest that profiles. For profiles see spe_test.c, for the
 * ioctls spe_uapi_test.c.
 */
#include <pthread.h>

#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
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
	u64 remap_from;		/* a page of the buffer that moves ... */
	u64 remap_pte;		/* ... by this descriptor */

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

/* A VM with one vCPU. */
struct pin_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct guest_ctl *ctl;
	void *buf;
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

static void add_buffer(struct pin_vm *v, int src)
{
	u64 flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

	v->memfd = -1;
	if (src != SRC_GUEST_MEMFD) {
		if (src == VM_MEM_SRC_ANONYMOUS_HUGETLB)
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

static struct pin_vm pin_vm_create_uninitialised(u64 max_size, int src)
{
	struct pin_vm v = {};
	struct kvm_vcpu_init init;

	v.vm = __vm_create(VM_SHAPE_DEFAULT, 1, 4096);
	vm_ioctl(v.vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= SPE_FEATURE;
	v.vcpu = aarch64_vcpu_add(v.vm, 0, &init, guest_code);
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

static struct pin_vm pin_vm_create_backed(u64 max_size, int src)
{
	struct pin_vm v = pin_vm_create_uninitialised(max_size, src);

	SPE_OK(spe_init(v.vcpu));
	return v;
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
	struct ucall uc;

	vcpu_run(v->vcpu);
	switch (get_ucall(v->vcpu, &uc)) {
	case UCALL_SYNC:
		return;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("ucall %lu, exit reason %u", uc.cmd, v->vcpu->run->exit_reason);
	}
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
	v = pin_vm_create_uninitialised(spe_valid_size(0), VM_MEM_SRC_ANONYMOUS);
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

	for (i = 0; i < PULLS; i++) {
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

	/* A VM that is paused gives back what the host wants, and soon */
	if (p->flags & GIVES_BACK) {
		u64 now = pinned(&v);

		p->fn(&v, v.buf, 16 * page);
		TEST_ASSERT(pinned_falls_to(&v, now - 16, 100), "%lu of %lu pages still pinned",
			    pinned(&v), now);
	}

	pin_vm_free(&v);
}

int main(int argc, char **argv)
{
	int i;

	spe_parse_options(argc, argv);

	for (i = 0; i < ARRAY_SIZE(toggles); i++)
		spe_add_case(test_toggle, &toggles[i], false, "enable: %s", toggles[i].name);
	spe_add_case(test_windows, NULL, false, "enable: more windows than fit");
	spe_add_case(test_scattered, NULL, false, "enable: scattered pages");
	spe_add_case(test_idle, NULL, false, "idle vCPU");
	spe_add_case(test_rlimit, NULL, false, "RLIMIT_MEMLOCK");
	spe_add_case(test_no_limit, NULL, false, "no maximum size");
	for (i = 0; i < ARRAY_SIZE(pulls); i++)
		spe_add_case(test_pull, &pulls[i], false, "pull: %s", pulls[i].name);

	spe_run_cases();
}
