// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * What it costs a guest to use the Statistical Profiling Extension (SPE): the
 * time that the guest sees pass when it enables and disables its buffer, beside
 * what it pays for anything else that makes KVM act. Prints a line of CSV for
 * each figure; it is for others to judge them.
 */
#include <sys/mman.h>

#include "spe.h"
#include "vgic.h"

/* The buffer, and memory to compare with, each in a memslot of its own. */
#define BUF_BASE		SZ_1G
#define BUF_SLOT		10
#define TOUCH_BASE		(2UL * SZ_1G)
#define TOUCH_SLOT		11
#define SPARE_BASE		(3UL * SZ_1G)
#define SPARE_SLOT		12

#define REPEATS			51

enum op {
	OP_TRAP,		/* read a register that always traps */
	OP_ENABLE,		/* parts of the buffer in turn, and disable them */
	OP_TOUCH,		/* write to each page of other memory */
};

/* In guest memory */
struct guest_ctl {
	u64 op;
	u64 repeats;
	u64 size, parts;
	u64 page;
	u64 ticks[REPEATS];
	u64 disable[REPEATS];
};

static struct guest_ctl ctl;

static u64 guest_now(void)
{
	u64 t;

	isb();
	t = read_sysreg(cntvct_el0);
	isb();

	return t;
}

static void guest_code(void)
{
	u64 i, t, ptr, part;

	for (;;) {
		/* As while it profiles: the sampling registers are loaded */
		write_sysreg_s(0, SYS_PMSCR_EL1);
		isb();

		for (i = 0; i < ctl.repeats; i++) {
			switch (ctl.op) {
			case OP_TRAP:
				t = guest_now();
				read_sysreg_s(SYS_PMBPTR_EL1);
				ctl.ticks[i] = guest_now() - t;
				break;
			case OP_ENABLE:
				part = ctl.size / ctl.parts;
				ptr = BUF_BASE + i % ctl.parts * part;
				write_sysreg_s(ptr, SYS_PMBPTR_EL1);
				write_sysreg_s(0, SYS_PMBSR_EL1);

				t = guest_now();
				write_sysreg_s((ptr + part) | PMBLIMITR_EL1_E,
					       SYS_PMBLIMITR_EL1);
				ctl.ticks[i] = guest_now() - t;

				t = guest_now();
				write_sysreg_s(0, SYS_PMBLIMITR_EL1);
				ctl.disable[i] = guest_now() - t;
				GUEST_ASSERT(!(read_sysreg_s(SYS_PMBSR_EL1) & PMBSR_EL1_S));
				break;
			case OP_TOUCH:
				t = guest_now();
				for (ptr = 0; ptr < ctl.size; ptr += ctl.page)
					WRITE_ONCE(*(u64 *)(TOUCH_BASE + ptr), 1);
				ctl.ticks[i] = guest_now() - t;
				break;
			}
		}
		GUEST_SYNC(0);
	}
}

struct backing {
	const char *name;
	int src;
	bool scattered;		/* at stage 1: every page elsewhere */
};

static const struct backing backings[] = {
	{ "4K", VM_MEM_SRC_ANONYMOUS },
	{ "4K scattered", VM_MEM_SRC_ANONYMOUS, true },
	{ "THP", VM_MEM_SRC_ANONYMOUS_THP },
	{ "hugetlb", VM_MEM_SRC_ANONYMOUS_HUGETLB },
};

static const u64 sizes[] = { SZ_64K, SZ_1M, SZ_4M, SZ_16M, SZ_64M };

struct perf_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct guest_ctl *ctl;
	int gic_fd;
	u64 size;
	const struct backing *backing;
};

static void set_hugepages(u64 nr)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	char s[16];
	int n = snprintf(s, sizeof(s), "%lu", nr);

	if (fd < 0)
		return;
	if (write(fd, s, n) < 0)
		errno = 0;
	close(fd);
}

/* @present: the VMM has touched the guest's memory before. */
static struct perf_vm perf_vm_create(const struct backing *b, u64 size, bool present)
{
	struct perf_vm v = { .size = size, .backing = b };
	u64 i, page, block = size < SZ_2M ? SZ_2M : size;
	struct kvm_vcpu_init init;

	v.vm = __vm_create(VM_SHAPE_DEFAULT, 1, 2 * block / SZ_4K / 256 + 4096);
	page = v.vm->page_size;
	vm_ioctl(v.vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= SPE_FEATURE;
	v.vcpu = aarch64_vcpu_add(v.vm, 0, &init, guest_code);

	if (b->src == VM_MEM_SRC_ANONYMOUS_HUGETLB)
		set_hugepages(2 * block / SZ_2M);
	vm_userspace_mem_region_add(v.vm, b->src, BUF_BASE, BUF_SLOT, block / page, 0);
	vm_userspace_mem_region_add(v.vm, b->src, TOUCH_BASE, TOUCH_SLOT, block / page, 0);
	vm_userspace_mem_region_add(v.vm, VM_MEM_SRC_ANONYMOUS, SPARE_BASE, SPARE_SLOT,
				    SZ_2M / page, 0);
	if (present) {
		memset(addr_gpa2hva(v.vm, BUF_BASE), 1, block);
		memset(addr_gpa2hva(v.vm, TOUCH_BASE), 1, block);
	}
	virt_map(v.vm, BUF_BASE, BUF_BASE, block / page);
	virt_map(v.vm, TOUCH_BASE, TOUCH_BASE, block / page);
	for (i = 0; b->scattered && i < size / page; i++) {
		u64 *pte = virt_get_pte_hva(v.vm, BUF_BASE + i * page);

		*pte += ((i * 97) % (size / page) - i) * page;
	}

	SPE_OK(spe_set_spu(v.vcpu, spe_spus[0].type));
	SPE_OK(spe_set_size(v.vcpu, size));
	v.gic_fd = vgic_v3_setup(v.vm, 1, 64);
	SPE_OK(spe_set_irq(v.vcpu, SPE_PPI));
	SPE_OK(spe_init(v.vcpu));

	v.ctl = addr_gva2hva(v.vm, (gva_t)&ctl);
	v.ctl->size = size;
	v.ctl->parts = 1;
	v.ctl->page = page;

	return v;
}

static void perf_vm_free(struct perf_vm *v)
{
	close(v->gic_fd);
	kvm_vm_free(v->vm);
}

static void run(struct perf_vm *v, enum op op, u64 repeats)
{
	v->ctl->op = op;
	v->ctl->repeats = repeats;
	TEST_ASSERT(spe_run_vcpu(v->vcpu), "the guest has ended");
}

static int cmp_u64(const void *a, const void *b)
{
	u64 x = *(u64 *)a, y = *(u64 *)b;

	return x < y ? -1 : x > y;
}

/* Half of the figures are not above the first number, none above the second. */
static void print(struct perf_vm *v, const char *what, u64 *ticks, u64 n)
{
	qsort(ticks, n, sizeof(*ticks), cmp_u64);
	printf("%s,%lu,%s,%lu,%lu\n", v->backing->name, v->size, what, ticks[n / 2], ticks[n - 1]);
	fflush(stdout);
}

/* What the guest pays once for its buffer, and what it pays for other memory. */
static void measure_first(struct perf_vm *v, const char *enable, const char *touch)
{
	u64 ticks;

	/* All else that the guest needs is there after the first run of it */
	run(v, OP_TRAP, REPEATS);

	run(v, OP_ENABLE, 1);
	ticks = v->ctl->ticks[0];
	print(v, enable, &ticks, 1);
	TEST_ASSERT(vcpu_get_stat(v->vcpu, spe_pin) >= v->size / getpagesize(), "not pinned");

	run(v, OP_TOUCH, 1);
	ticks = v->ctl->ticks[0];
	print(v, touch, &ticks, 1);
}

static void measure(const struct backing *b, u64 size)
{
	struct perf_vm v = perf_vm_create(b, size, false);
	u64 ticks, *pte, old;

	measure_first(&v, "enable from nothing without memory", "first touch without memory");
	perf_vm_free(&v);

	v = perf_vm_create(b, size, true);
	measure_first(&v, "enable from nothing", "first touch");

	run(&v, OP_TRAP, REPEATS);
	print(&v, "trapped access", v.ctl->ticks, REPEATS);

	run(&v, OP_ENABLE, REPEATS);
	print(&v, "enable unchanged", v.ctl->ticks, REPEATS);
	print(&v, "disable", v.ctl->disable, REPEATS);

	/* The first page has been replaced by another while it was disabled */
	pte = virt_get_pte_hva(v.vm, BUF_BASE);
	old = *pte;
	*pte = (old & ~GENMASK_ULL(47, 12)) | SPARE_BASE;
	run(&v, OP_ENABLE, 1);
	ticks = v.ctl->ticks[0];
	print(&v, "one page changed", &ticks, 1);
	perf_vm_free(&v);

	/* Of a buffer that was never enabled as a whole */
	v = perf_vm_create(b, size, true);
	v.ctl->parts = 2;
	run(&v, OP_TRAP, REPEATS);
	run(&v, OP_ENABLE, 2);
	run(&v, OP_ENABLE, REPEATS);
	print(&v, "alternating halves", v.ctl->ticks, REPEATS);
	perf_vm_free(&v);
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	u64 largest = SZ_64M;
	int i, j, opt;

	while ((opt = getopt(argc, argv, "b:s:h")) != -1) {
		switch (opt) {
		case 'b':
			only = optarg;
			break;
		case 's':
			largest = atoi_positive("Size", optarg) * SZ_1M;
			break;
		default:
			printf("usage: %s [-b BACKING] [-s SIZE]\n"
			       "  -b  only this backing\n"
			       "  -s  the largest buffer, in MiB (64)\n", argv[0]);
			exit(opt == 'h' ? 0 : 1);
		}
	}

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_ARM_SPE));
	TEST_REQUIRE(kvm_supports_vgic_v3());
	test_disable_default_vgic();
	spe_nr_spus = spe_find_spus(spe_spus, SPE_MAX_SPUS);
	TEST_ASSERT(spe_nr_spus, "no SPU");
	TEST_REQUIRE(!spe_spus[0].max_buff_size || spe_spus[0].max_buff_size >= largest);

	printf("# backing,bytes,what,median,largest: in ticks of %lu Hz\n",
	       read_sysreg(cntfrq_el0));
	for (i = 0; i < ARRAY_SIZE(backings); i++) {
		if (only && strcmp(only, backings[i].name))
			continue;
		for (j = 0; j < ARRAY_SIZE(sizes) && sizes[j] <= largest; j++)
			measure(&backings[i], sizes[j]);
	}

	return 0;
}
