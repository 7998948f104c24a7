// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE) in guests, as a VMM sees it: every
 * errno of every attribute in the order of the contract, sizes, what may be
 * pinned, registers, and many VMs. No guest runs; for those see spe_test.c.
 *
 * Where SPE is not available to guests, the refusals are tested and the other
 * cases skipped for that reason.
 */
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "spe.h"
#include "vgic.h"

/* --- VMs ----------------------------------------------------------------- */

/* A VM without memory, enough for ioctls. */
struct bare_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu[2];
	int gic_fd;
};

#define BARE_GIC	BIT(0)	/* has a GICv3 */
#define BARE_GIC_INIT	BIT(1)	/* ... which is initialised */
#define BARE_SPU	BIT(2)	/* the first SPU is assigned */
#define BARE_SIZE	BIT(3)	/* the maximum buffer size is set */
#define BARE_IRQ	BIT(4)	/* the interrupt of every vCPU is set */
#define BARE_INIT0	BIT(5)	/* the first vCPU is initialised */
#define BARE_INIT1	BIT(6)	/* the second vCPU is initialised */
#define BARE_RUN	BIT(7)	/* the first vCPU has run */
#define BARE_PMU	BIT(8)	/* the vCPUs have a PMU */
#define BARE_NO_SPE	BIT(9)	/* the vCPUs lack the feature */
#define BARE_ONE	BIT(10)	/* one vCPU only */
#define BARE_IRQ0	BIT(11)	/* the interrupt of the first vCPU is set */

#define BARE_READY	(BARE_GIC | BARE_GIC_INIT | BARE_SPU | BARE_SIZE | BARE_IRQ)
#define BARE_DONE	(BARE_READY | BARE_INIT0 | BARE_INIT1)

static struct bare_vm bare_vm_create(u32 flags)
{
	u32 features = flags & BARE_NO_SPE ? 0 : SPE_FEATURE;
	int i, nr = flags & BARE_ONE ? 1 : 2;
	struct bare_vm b = {};

	if (flags & BARE_PMU)
		features |= SPE_FEATURE_PMU;

	b.vm = vm_create_barebones();
	for (i = 0; i < nr; i++) {
		b.vcpu[i] = __vm_vcpu_add(b.vm, i);
		SPE_OK(spe_vcpu_init(b.vcpu[i], features));
	}

	b.gic_fd = -1;
	if (flags & BARE_GIC)
		b.gic_fd = spe_gic_create(b.vm, nr);
	if (flags & BARE_SPU)
		SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
	if (flags & BARE_SIZE)
		SPE_OK(spe_set_size(b.vcpu[0], spe_valid_size(0)));
	if (flags & BARE_GIC_INIT)
		__vgic_v3_init(b.gic_fd);
	for (i = 0; i < nr && flags & BARE_IRQ; i++)
		SPE_OK(spe_set_irq(b.vcpu[i], SPE_PPI));
	if (flags & BARE_IRQ0)
		SPE_OK(spe_set_irq(b.vcpu[0], SPE_PPI));
	if (flags & BARE_INIT0)
		SPE_OK(spe_init(b.vcpu[0]));
	if (flags & BARE_INIT1)
		SPE_OK(spe_init(b.vcpu[1]));
	if (flags & BARE_RUN)
		SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);

	return b;
}

static void bare_vm_free(struct bare_vm *b)
{
	if (b->gic_fd >= 0)
		close(b->gic_fd);
	kvm_vm_free(b->vm);
}

/* --- Refusals where SPE is not available --------------------------------- */

/* -ENOENT of KVM_ARM_VCPU_INIT comes before what is refused by -EINVAL. */
#define UNKNOWN_FEATURE		BIT(31)

/* Does the kernel's command line say so? */
static bool host_mode(const char *mode)
{
	char line[4096] = "";
	FILE *f = fopen("/proc/cmdline", "r");

	TEST_ASSERT(f, "/proc/cmdline");
	TEST_ASSERT(fgets(line, sizeof(line), f), "/proc/cmdline");
	fclose(f);
	return strstr(line, mode);
}

/* Is CONFIG_KVM_ARM_SPE set? A kernel that hides its symbols is taken to have it. */
static bool host_has_option(void)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	bool found = false;
	char line[512];

	if (!f)
		return true;
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, " kvm_arm_spu_register");
	fclose(f);
	return found;
}

static void test_cap(const void *arg)
{
	bool protected = host_mode("kvm-arm.mode=protected"), option = host_has_option();
	static const char no[] = "SPE is not available to guests";
	bool expected = spe_nr_spus && !protected && option;
	struct kvm_vm *vm = vm_create_barebones();
	char line[160];

	/* The driver shows an SPU only if EL1 may own its buffer */
	TEST_ASSERT(spe_supported == expected, "KVM_CAP_ARM_SPE is %d with %d SPUs",
		    spe_supported, spe_nr_spus);

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_ARM_SPE), spe_supported ? 1 : 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_ARM_SPE), spe_supported ? 1 : 0);

	/* One line says why, however often it is asked; without the option no code could */
	if (!spe_supported && option) {
		snprintf(line, sizeof(line), "%s: %s", no, protected ?
			 "not supported in protected mode" :
			 "no SPU has been probed, or arm_spe_pmu is not loaded");
		TEST_ASSERT_EQ(spe_klog_count(no), 1);
		TEST_ASSERT_EQ(spe_klog_count(line), 1);
	}
	kvm_vm_free(vm);
}

/* -ENXIO comes before all else: a vCPU without the feature, a VM that has run ... */
static void check_attrs_refused(int vcpu_fd)
{
	int i, val = SPE_PPI;
	u64 attr;

	for (attr = KVM_ARM_VCPU_SPE_IRQ; attr <= KVM_ARM_VCPU_SPE_INIT; attr++) {
		for (i = 0; i < 2; i++) {
			void *addr = i ? &val : SPE_BAD_ADDR;

			SPE_CHECK(__kvm_device_attr_set(vcpu_fd, KVM_ARM_VCPU_SPE_CTRL, attr, addr),
				  ENXIO);
			SPE_CHECK(__kvm_device_attr_get(vcpu_fd, KVM_ARM_VCPU_SPE_CTRL, attr, addr),
				  ENXIO);
		}
	}
}

static void check_no_attrs(int vcpu_fd)
{
	u64 attr;

	for (attr = KVM_ARM_VCPU_SPE_IRQ; attr <= KVM_ARM_VCPU_SPE_INIT; attr++)
		SPE_CHECK(__kvm_has_device_attr(vcpu_fd, KVM_ARM_VCPU_SPE_CTRL, attr), ENXIO);
}

static void test_refused(const void *arg)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct bare_vm b;
	u64 reg;

	if (spe_supported)
		spe_skip("SPE is available to guests");

	vm = vm_create_barebones();
	vcpu = __vm_vcpu_add(vm, 0);
	SPE_CHECK(spe_vcpu_init(vcpu, SPE_FEATURE | UNKNOWN_FEATURE), ENOENT);
	SPE_CHECK(spe_vcpu_init(vcpu, SPE_FEATURE), EINVAL);
	check_attrs_refused(vcpu->fd);
	check_no_attrs(vcpu->fd);
	SPE_OK(spe_vcpu_init(vcpu, 0));
	kvm_vm_free(vm);

	b = bare_vm_create(BARE_NO_SPE | BARE_GIC | BARE_GIC_INIT);
	check_attrs_refused(b.vcpu[0]->fd);
	check_no_attrs(b.vcpu[0]->fd);
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
	check_attrs_refused(b.vcpu[0]->fd);
	check_no_attrs(b.vcpu[0]->fd);

	SPE_CHECK(__vcpu_get_reg(b.vcpu[0], SPE_REG(PMSCR_EL1), &reg), ENOENT);
	reg = vcpu_get_reg(b.vcpu[0], SPE_REG(ID_AA64DFR0_EL1));
	TEST_ASSERT_EQ(FIELD_GET(ID_AA64DFR0_EL1_PMSVer, reg), 0);
	bare_vm_free(&b);
}

/* A protected VM, where there are any. The library has only VMs of the default type. */
static void test_protected_vm(const void *arg)
{
	int kvm_fd = open_kvm_dev_path_or_exit(), vm_fd, vcpu_fd;
	struct kvm_vcpu_init init;

	vm_fd = __kvm_ioctl(kvm_fd, KVM_CREATE_VM, (void *)KVM_VM_TYPE_ARM_PROTECTED);
	if (vm_fd < 0)
		spe_skip("no protected VMs (KVM_CREATE_VM: %s)", spe_errname(errno));

	TEST_ASSERT_EQ(__kvm_ioctl(vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_ARM_SPE), 0);
	vcpu_fd = __kvm_ioctl(vm_fd, KVM_CREATE_VCPU, NULL);
	TEST_ASSERT(vcpu_fd >= 0, KVM_IOCTL_ERROR(KVM_CREATE_VCPU, vcpu_fd));

	SPE_OK(__kvm_ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] = SPE_FEATURE;
	SPE_CHECK(__kvm_ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init), EINVAL);
	check_attrs_refused(vcpu_fd);
	check_no_attrs(vcpu_fd);

	/* What was refused is the feature */
	init.features[0] = 0;
	SPE_OK(__kvm_ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init));
	check_attrs_refused(vcpu_fd);
	check_no_attrs(vcpu_fd);

	close(vcpu_fd);
	close(vm_fd);
	close(kvm_fd);
}

/*
 * The capability goes while a VM has the feature, but no SPU yet that would hold
 * the driver. Who runs the test unloads it once this is asked for.
 */
static void test_driver_gone(const void *arg)
{
	struct bare_vm b;
	u64 attr;
	int i;

	if (access("/sys/module/arm_spe_pmu/refcnt", F_OK))
		spe_skip("the SPE driver is not a module");

	b = bare_vm_create(BARE_GIC | BARE_GIC_INIT | BARE_IRQ);
	ksft_print_msg("arm_spe_pmu can be unloaded\n");
	fflush(stdout);
	for (i = 0; i < 100 && kvm_check_cap(KVM_CAP_ARM_SPE); i++)
		usleep(100000);
	if (kvm_check_cap(KVM_CAP_ARM_SPE))
		spe_skip("the SPE driver was not unloaded");

	for (i = 0; i < 2; i++) {
		check_attrs_refused(b.vcpu[i]->fd);
		/* The vCPU has the feature still */
		for (attr = KVM_ARM_VCPU_SPE_IRQ; attr <= KVM_ARM_VCPU_SPE_INIT; attr++)
			SPE_OK(__vcpu_has_device_attr(b.vcpu[i], KVM_ARM_VCPU_SPE_CTRL, attr));
		SPE_CHECK(spe_vcpu_init(b.vcpu[i], SPE_FEATURE), EINVAL);
		SPE_CHECK(spe_run_nothing(b.vcpu[i]), EINVAL);
	}
	bare_vm_free(&b);
}

/* --- The attributes' errors ---------------------------------------------- */

enum val_kind {
	VAL,		/* .val */
	VAL_BAD_ADDR,	/* memory that cannot be read */
	VAL_SPU,	/* type of SPU number .val */
	VAL_NO_SPU,	/* a PMU type that is no SPU's */
	VAL_SIZE,	/* the VM's size plus .val */
	VAL_PAGE_SIZE,	/* .val times the host's page size */
	VAL_HW_MAX,	/* the SPU's own maximum plus .val pages */
	VAL_HW_MAX_ODD,	/* ... plus .val bytes */
	VAL_HW_NONE,	/* .val, where the SPU has a maximum of its own */
};

struct errno_row {
	const char *name;
	u32 flags;		/* state of the VM */
	u8 vcpu;		/* which vCPU is asked */
	u8 attr;
	u8 kind;
	s64 val;
	int err;
};

#define IRQ	KVM_ARM_VCPU_SPE_IRQ
#define SPU	KVM_ARM_VCPU_SPE_SET_SPU
#define SIZE	KVM_ARM_VCPU_MAX_BUFFER_SIZE
#define INIT	KVM_ARM_VCPU_SPE_INIT

/*
 * One row per errno. A row named 'x before y' is a call to which both errors
 * apply: the first in the order of the contract must be given.
 */
static const struct errno_row errno_rows[] = {
	/* all attributes: the feature */
	{ "irq: no feature",	BARE_NO_SPE | BARE_GIC, 0, IRQ, VAL, SPE_PPI, ENODEV },
	{ "spu: no feature",	BARE_NO_SPE | BARE_GIC, 0, SPU, VAL_SPU, 0, ENODEV },
	{ "size: no feature",	BARE_NO_SPE | BARE_GIC, 0, SIZE, VAL, SPE_DEFAULT_SIZE, ENODEV },
	{ "init: no feature",	BARE_NO_SPE | BARE_GIC, 0, INIT, VAL, 0, ENODEV },
	{ "irq: no feature before VM has run",	BARE_NO_SPE | BARE_GIC | BARE_GIC_INIT | BARE_RUN,
	  0, IRQ, VAL, SPE_PPI, ENODEV },
	{ "init: no feature before VM has run",	BARE_NO_SPE | BARE_GIC | BARE_GIC_INIT | BARE_RUN,
	  0, INIT, VAL, 0, ENODEV },
	{ "spu: no feature before VM has run",	BARE_NO_SPE | BARE_GIC | BARE_GIC_INIT | BARE_RUN,
	  0, SPU, VAL_SPU, 0, ENODEV },
	{ "size: no feature before VM has run",	BARE_NO_SPE | BARE_GIC | BARE_GIC_INIT | BARE_RUN,
	  0, SIZE, VAL, SPE_DEFAULT_SIZE, ENODEV },
	{ "irq: no feature before no irqchip",	BARE_NO_SPE, 0, IRQ, VAL, SPE_PPI, ENODEV },
	{ "spu: no feature before no such SPU",	BARE_NO_SPE | BARE_GIC, 0, SPU, VAL_NO_SPU, 0,
	  ENODEV },
	{ "size: no feature before odd size",	BARE_NO_SPE | BARE_GIC, 0, SIZE, VAL, 1, ENODEV },
	{ "init: no feature before nothing set", BARE_NO_SPE, 0, INIT, VAL, 0, ENODEV },
	{ "irq: no feature before bad address",	BARE_NO_SPE | BARE_GIC, 0, IRQ, VAL_BAD_ADDR, 0,
	  ENODEV },
	{ "spu: no feature before bad address",	BARE_NO_SPE | BARE_GIC, 0, SPU, VAL_BAD_ADDR, 0,
	  ENODEV },
	{ "size: no feature before bad address", BARE_NO_SPE | BARE_GIC, 0, SIZE, VAL_BAD_ADDR, 0,
	  ENODEV },

	/* all attributes: the VM has run; asked on a vCPU that has not been initialised */
	{ "irq: VM has run",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, IRQ, VAL, SPE_PPI, EBUSY },
	{ "spu: VM has run",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, SPU, VAL_SPU, 0, EBUSY },
	{ "size: VM has run",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, SIZE, VAL_SIZE, 0, EBUSY },
	{ "init: VM has run",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, INIT, VAL, 0, EBUSY },
	{ "irq: VM has run before bad address",	 BARE_READY | BARE_INIT0 | BARE_RUN, 1, IRQ,
	  VAL_BAD_ADDR, 0, EBUSY },
	{ "spu: VM has run before no such SPU",	 BARE_READY | BARE_INIT0 | BARE_RUN, 1, SPU,
	  VAL_NO_SPU, 0, EBUSY },
	{ "size: VM has run before bad address", BARE_READY | BARE_INIT0 | BARE_RUN, 1, SIZE,
	  VAL_BAD_ADDR, 0, EBUSY },
	{ "irq: VM has run before no PPI",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, IRQ, VAL, 32,
	  EBUSY },
	{ "irq: VM has run before differs",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, IRQ, VAL, 22,
	  EBUSY },
	{ "spu: VM has run before bad address",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, SPU,
	  VAL_BAD_ADDR, 0, EBUSY },
	{ "size: VM has run before odd size",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, SIZE, VAL, 1,
	  EBUSY },
	{ "size: VM has run before unrepresentable", BARE_READY | BARE_INIT0 | BARE_RUN, 1, SIZE,
	  VAL, SZ_1G + SZ_64K, EBUSY },
	{ "size: VM has run before too large",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, SIZE,
	  VAL_HW_MAX, 1, EBUSY },
	{ "size: VM has run before different",	BARE_READY | BARE_INIT0 | BARE_RUN, 1, SIZE,
	  VAL_PAGE_SIZE, 1, EBUSY },
	{ "init: VM has run before no interrupt", (BARE_READY & ~BARE_IRQ) | BARE_IRQ0 |
	  BARE_INIT0 | BARE_RUN, 1, INIT, VAL, 0, EBUSY },

	/* all attributes: INIT done on this vCPU */
	{ "irq: initialised",	BARE_READY | BARE_INIT0, 0, IRQ, VAL, SPE_PPI, EBUSY },
	{ "spu: initialised",	BARE_READY | BARE_INIT0, 0, SPU, VAL_SPU, 0, EBUSY },
	{ "size: initialised",	BARE_READY | BARE_INIT0, 0, SIZE, VAL_SIZE, 0, EBUSY },
	{ "init: initialised",	BARE_READY | BARE_INIT0, 0, INIT, VAL, 0, EBUSY },
	{ "irq: initialised before bad address", BARE_READY | BARE_INIT0, 0, IRQ, VAL_BAD_ADDR, 0,
	  EBUSY },
	{ "irq: initialised before no PPI",	BARE_READY | BARE_INIT0, 0, IRQ, VAL, 32, EBUSY },
	{ "irq: initialised before differs",	BARE_READY | BARE_INIT0, 0, IRQ, VAL, 22, EBUSY },
	{ "spu: initialised before bad address", BARE_READY | BARE_INIT0, 0, SPU, VAL_BAD_ADDR, 0,
	  EBUSY },
	{ "spu: initialised before no such SPU", BARE_READY | BARE_INIT0, 0, SPU, VAL_NO_SPU, 0,
	  EBUSY },
	{ "size: initialised before bad address", BARE_READY | BARE_INIT0, 0, SIZE, VAL_BAD_ADDR, 0,
	  EBUSY },
	{ "size: initialised before odd size",	BARE_READY | BARE_INIT0, 0, SIZE, VAL, 1, EBUSY },
	{ "size: initialised before unrepresentable", BARE_READY | BARE_INIT0, 0, SIZE, VAL,
	  SZ_1G + SZ_64K, EBUSY },
	{ "size: initialised before too large",	BARE_READY | BARE_INIT0, 0, SIZE, VAL_HW_MAX, 1,
	  EBUSY },
	{ "size: initialised before different",	BARE_READY | BARE_INIT0, 0, SIZE, VAL_PAGE_SIZE, 1,
	  EBUSY },
	{ "spu: another vCPU initialised, same SPU", BARE_READY | BARE_INIT0, 1, SPU, VAL_SPU, 0,
	  0 },
	{ "size: another vCPU initialised, same size", BARE_READY | BARE_INIT0, 1, SIZE, VAL_SIZE,
	  0, 0 },
	{ "init: another vCPU initialised",	BARE_READY | BARE_INIT0, 1, INIT, VAL, 0, 0 },

	/* the interrupt */
	{ "irq: success",		BARE_GIC, 0, IRQ, VAL, SPE_PPI, 0 },
	{ "irq: lowest PPI",		BARE_GIC, 0, IRQ, VAL, 16, 0 },
	{ "irq: highest PPI",		BARE_GIC, 0, IRQ, VAL, 31, 0 },
	{ "irq: bad address",		BARE_GIC, 0, IRQ, VAL_BAD_ADDR, 0, EFAULT },
	{ "irq: bad address before no irqchip", 0, 0, IRQ, VAL_BAD_ADDR, 0, EFAULT },
	{ "irq: no irqchip",		0, 0, IRQ, VAL, SPE_PPI, EINVAL },
	{ "irq: an SGI",		BARE_GIC, 0, IRQ, VAL, 15, EINVAL },
	{ "irq: an SPI",		BARE_GIC, 0, IRQ, VAL, 32, EINVAL },
	{ "irq: 0",			BARE_GIC, 0, IRQ, VAL, 0, EINVAL },
	{ "irq: -1",			BARE_GIC, 0, IRQ, VAL, -1, EINVAL },
	{ "irq: INT_MAX",		BARE_GIC, 0, IRQ, VAL, INT_MAX, EINVAL },
	{ "irq: already set",		BARE_GIC | BARE_IRQ, 0, IRQ, VAL, SPE_PPI, EBUSY },
	{ "irq: already set, another PPI", BARE_GIC | BARE_IRQ | BARE_ONE, 0, IRQ, VAL, 22, EBUSY },
	{ "irq: no PPI before already set", BARE_GIC | BARE_IRQ | BARE_ONE, 0, IRQ, VAL, 32,
	  EINVAL },
	{ "irq: differs before already set", BARE_GIC | BARE_IRQ, 0, IRQ, VAL, 22, EINVAL },
	{ "irq: bad address before already set", BARE_GIC | BARE_IRQ, 0, IRQ, VAL_BAD_ADDR, 0,
	  EFAULT },

	/* the SPU */
	{ "spu: success",		0, 0, SPU, VAL_SPU, 0, 0 },
	{ "spu: bad address",		0, 0, SPU, VAL_BAD_ADDR, 0, EFAULT },
	{ "spu: bad address before assigned", BARE_SPU, 0, SPU, VAL_BAD_ADDR, 0, EFAULT },
	{ "spu: no such type",		0, 0, SPU, VAL_NO_SPU, 0, ENXIO },
	{ "spu: 0",			0, 0, SPU, VAL, 0, ENXIO },
	{ "spu: -1",			0, 0, SPU, VAL, -1, ENXIO },
	{ "spu: no such type before another assigned", BARE_SPU, 0, SPU, VAL_NO_SPU, 0, ENXIO },
	{ "spu: same again",		BARE_SPU, 0, SPU, VAL_SPU, 0, 0 },
	{ "spu: same again on another vCPU", BARE_SPU, 1, SPU, VAL_SPU, 0, 0 },
	{ "spu: another one",		BARE_SPU, 0, SPU, VAL_SPU, 1, EBUSY },
	{ "spu: another one on another vCPU", BARE_SPU, 1, SPU, VAL_SPU, 1, EBUSY },

	/* the size */
	{ "size: success",		BARE_SPU, 0, SIZE, VAL_SIZE, 0, 0 },
	{ "size: no SPU",		0, 0, SIZE, VAL, SPE_DEFAULT_SIZE, ENODEV },
	{ "size: no SPU before bad address", 0, 0, SIZE, VAL_BAD_ADDR, 0, ENODEV },
	{ "size: no SPU before odd size", 0, 0, SIZE, VAL, 1, ENODEV },
	{ "size: no SPU before unrepresentable", 0, 0, SIZE, VAL, SZ_1G + SZ_64K, ENODEV },
	{ "size: bad address",		BARE_SPU, 0, SIZE, VAL_BAD_ADDR, 0, EFAULT },
	{ "size: bad address before a different size", BARE_SPU | BARE_SIZE, 0, SIZE, VAL_BAD_ADDR,
	  0, EFAULT },
	{ "size: 1",			BARE_SPU, 0, SIZE, VAL, 1, EINVAL },
	{ "size: 2048",			BARE_SPU, 0, SIZE, VAL, 2048, EINVAL },
	{ "size: a page and a byte",	BARE_SPU, 0, SIZE, VAL_SIZE, 1, EINVAL },
	{ "size: one byte less",	BARE_SPU, 0, SIZE, VAL_SIZE, -1, EINVAL },
	{ "size: U64_MAX",		BARE_SPU, 0, SIZE, VAL, -1, EINVAL },
	{ "size: odd before unrepresentable", BARE_SPU, 0, SIZE, VAL, SZ_1G + 1, EINVAL },
	{ "size: odd before too large",	BARE_SPU, 0, SIZE, VAL_HW_MAX_ODD, 1, EINVAL },
	{ "size: odd before different",	BARE_SPU | BARE_SIZE, 0, SIZE, VAL_SIZE, 1, EINVAL },
	{ "size: unrepresentable",	BARE_SPU, 0, SIZE, VAL, SZ_1G + SZ_64K, EDOM },
	{ "size: unrepresentable before different", BARE_SPU | BARE_SIZE, 0, SIZE, VAL,
	  SZ_1G + SZ_64K, EDOM },
	{ "size: unrepresentable before too large", BARE_SPU, 0, SIZE, VAL, (1LL << 52) + SZ_64K,
	  EDOM },
	{ "size: 1 << 52",		BARE_SPU, 0, SIZE, VAL, 1LL << 52, EDOM },
	{ "size: 1 << 63",		BARE_SPU, 0, SIZE, VAL, (s64)(1ULL << 63), EDOM },
	{ "size: same again",		BARE_SPU | BARE_SIZE, 0, SIZE, VAL_SIZE, 0, 0 },
	{ "size: same again on another vCPU", BARE_SPU | BARE_SIZE, 1, SIZE, VAL_SIZE, 0, 0 },
	{ "size: different",		BARE_SPU | BARE_SIZE, 0, SIZE, VAL_PAGE_SIZE, 1, EINVAL },
	{ "size: different on another vCPU", BARE_SPU | BARE_SIZE, 1, SIZE, VAL_PAGE_SIZE, 1,
	  EINVAL },
	{ "size: the SPU's own maximum", BARE_SPU, 0, SIZE, VAL_HW_MAX, 0, 0 },
	{ "size: above the SPU's own maximum", BARE_SPU, 0, SIZE, VAL_HW_MAX, 1, ERANGE },
	{ "size: too large before different", BARE_SPU | BARE_SIZE, 0, SIZE, VAL_HW_MAX, 1,
	  ERANGE },
	{ "size: 0 before different",	BARE_SPU | BARE_SIZE, 0, SIZE, VAL_HW_NONE, 0, ERANGE },

	/* initialisation */
	{ "init: success",	BARE_READY, 0, INIT, VAL, 0, 0 },
	{ "init: no interrupt",	BARE_READY & ~BARE_IRQ, 0, INIT, VAL, 0, ENXIO },
	{ "init: no SPU",	BARE_READY & ~(BARE_SPU | BARE_SIZE), 0, INIT, VAL, 0, ENXIO },
	{ "init: no size",	BARE_READY & ~BARE_SIZE, 0, INIT, VAL, 0, ENXIO },
	{ "init: GIC not initialised", BARE_READY & ~BARE_GIC_INIT, 0, INIT, VAL, 0, ENXIO },
	{ "init: nothing set",	0, 0, INIT, VAL, 0, ENXIO },
};

static int do_attr_row(struct bare_vm *b, const struct errno_row *row)
{
	struct kvm_vcpu *vcpu = b->vcpu[row->vcpu];
	union { int i; u64 u; } val = {};
	s64 v = row->val;

	switch (row->kind) {
	case VAL_BAD_ADDR:
		return spe_set_attr(vcpu, row->attr, SPE_BAD_ADDR);
	case VAL_SPU:
		if (v >= spe_nr_spus)
			spe_skip("the machine has %d SPU only", spe_nr_spus);
		v = spe_spus[v].type;
		break;
	case VAL_NO_SPU:
		v = 0x7ffffff0;
		break;
	case VAL_SIZE:
		v += spe_valid_size(0);
		break;
	case VAL_PAGE_SIZE:
		v *= getpagesize();
		break;
	case VAL_HW_MAX:
	case VAL_HW_MAX_ODD:
	case VAL_HW_NONE:
		if (!spe_spus[0].max_buff_size)
			spe_skip("the SPU has no maximum of its own");
		if (row->kind == VAL_HW_NONE)
			break;
		/* One step of the mantissa */
		if (row->kind == VAL_HW_MAX_ODD) {
			v += spe_spus[0].max_buff_size;
		} else if (v) {
			u16 field;

			TEST_ASSERT(spe_size_field(spe_spus[0].max_buff_size, &field),
				    "caps/max_buff_size cannot be encoded");
			v = max_t(u64, spe_size_of(field + 1),
				  spe_spus[0].max_buff_size + getpagesize());
		} else {
			v = spe_spus[0].max_buff_size;
		}
		break;
	}

	if (row->attr == SIZE)
		val.u = v;
	else
		val.i = v;
	return spe_set_attr(vcpu, row->attr, row->attr == INIT ? NULL : &val);
}

static void test_errno_row(const void *arg)
{
	const struct errno_row *row = arg;
	struct bare_vm b = bare_vm_create(row->flags);

	SPE_CHECK(do_attr_row(&b, row), row->err);

	/* A refusal changes nothing: the VM can still be completed */
	if (row->err && !(row->flags & (BARE_NO_SPE | BARE_RUN))) {
		if (!(row->flags & BARE_GIC))
			b.gic_fd = spe_gic_create(b.vm, b.vcpu[1] ? 2 : 1);
		if (!(row->flags & BARE_INIT0)) {
			SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
			SPE_OK(spe_set_size(b.vcpu[0], spe_valid_size(0)));
			if (!(row->flags & BARE_GIC_INIT))
				__vgic_v3_init(b.gic_fd);
			if (!(row->flags & BARE_IRQ))
				SPE_OK(spe_set_irq(b.vcpu[0], SPE_PPI));
			SPE_OK(spe_init(b.vcpu[0]));
		}
		SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
	}
	bare_vm_free(&b);
}

/* --- Interrupt, SPU, size ------------------------------------------------ */

static void test_irq_two_vcpus(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_GIC);

	SPE_OK(spe_set_irq(b.vcpu[0], 20));
	SPE_CHECK(spe_set_irq(b.vcpu[1], SPE_PPI), EINVAL);
	SPE_CHECK(spe_set_irq(b.vcpu[1], 32), EINVAL);
	SPE_OK(spe_set_irq(b.vcpu[1], 20));
	SPE_CHECK(spe_set_irq(b.vcpu[1], 20), EBUSY);
	SPE_CHECK(spe_set_irq(b.vcpu[0], SPE_PPI), EINVAL);
	bare_vm_free(&b);
}

/* Any order that the contract allows: IRQ first, size before the GIC ... */
static void test_init_orders(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_GIC);
	int i;

	for (i = 0; i < 2; i++)
		SPE_OK(spe_set_irq(b.vcpu[i], SPE_PPI));
	SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);
	SPE_OK(spe_set_spu(b.vcpu[1], spe_spus[0].type));
	SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);
	SPE_OK(spe_set_size(b.vcpu[1], spe_valid_size(0)));
	SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);
	__vgic_v3_init(b.gic_fd);
	SPE_OK(spe_init(b.vcpu[1]));
	SPE_CHECK(spe_init(b.vcpu[1]), EBUSY);
	SPE_OK(spe_init(b.vcpu[0]));
	SPE_CHECK(spe_run_nothing(b.vcpu[1]), EINTR);
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
	bare_vm_free(&b);
}

/* Each thing that INIT can miss, besides the interrupt */
static const u32 init_missing[] = { BARE_SPU | BARE_SIZE, BARE_SIZE, BARE_GIC_INIT };

/* The interrupt is one that the PMU owns */
static void set_irq_of_pmu(struct kvm_vcpu *vcpu)
{
	int irq = 23;

	SPE_OK(__vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ,
				      &irq));
	SPE_OK(__vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
				      NULL));
	SPE_OK(spe_set_irq(vcpu, irq));
}

/* An interrupt that something else owns */
static void test_init_eexist_pmu(const void *arg)
{
	struct bare_vm b;

	if (!kvm_check_cap(KVM_CAP_ARM_PMU_V3))
		spe_skip("no PMU");

	b = bare_vm_create((BARE_READY & ~BARE_IRQ) | BARE_PMU);
	set_irq_of_pmu(b.vcpu[0]);
	SPE_CHECK(spe_init(b.vcpu[0]), EEXIST);
	SPE_CHECK(spe_init(b.vcpu[0]), EEXIST);
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINVAL);
	bare_vm_free(&b);
}

/* ... the other way around: it is SPE's, and the PMU is refused */
static void test_init_then_pmu(const void *arg)
{
	struct bare_vm b;
	int irq = 23;

	if (!kvm_check_cap(KVM_CAP_ARM_PMU_V3))
		spe_skip("no PMU");

	b = bare_vm_create((BARE_READY & ~BARE_IRQ) | BARE_PMU);
	SPE_OK(spe_set_irq(b.vcpu[0], irq));
	SPE_OK(spe_init(b.vcpu[0]));
	SPE_OK(__vcpu_device_attr_set(b.vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL,
				      KVM_ARM_VCPU_PMU_V3_IRQ, &irq));
	SPE_CHECK(__vcpu_device_attr_set(b.vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL,
					 KVM_ARM_VCPU_PMU_V3_INIT, NULL), EEXIST);
	bare_vm_free(&b);
}

static void test_init_eexist_timer(const void *arg)
{
	static const u64 timers[] = {
		KVM_ARM_VCPU_TIMER_IRQ_VTIMER, KVM_ARM_VCPU_TIMER_IRQ_PTIMER,
	};
	int i, irq;

	for (i = 0; i < ARRAY_SIZE(timers); i++) {
		struct bare_vm b = bare_vm_create(BARE_READY & ~BARE_IRQ);

		SPE_OK(__vcpu_device_attr_get(b.vcpu[0], KVM_ARM_VCPU_TIMER_CTRL, timers[i],
					      &irq));
		SPE_OK(spe_set_irq(b.vcpu[0], irq));
		SPE_CHECK(spe_init(b.vcpu[0]), EEXIST);
		bare_vm_free(&b);
	}
}

/* What INIT misses is reported before the interrupt's owner */
static void test_enxio_before_eexist(const void *arg)
{
	struct bare_vm b;
	int i, irq;

	for (i = 0; i < ARRAY_SIZE(init_missing); i++) {
		b = bare_vm_create(BARE_READY & ~BARE_IRQ & ~init_missing[i]);
		SPE_OK(__vcpu_device_attr_get(b.vcpu[0], KVM_ARM_VCPU_TIMER_CTRL,
					      KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq));
		SPE_OK(spe_set_irq(b.vcpu[0], irq));
		SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);

		if (init_missing[i] & BARE_SPU)
			SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
		if (init_missing[i] & BARE_SIZE)
			SPE_OK(spe_set_size(b.vcpu[0], spe_valid_size(0)));
		if (init_missing[i] & BARE_GIC_INIT)
			__vgic_v3_init(b.gic_fd);
		SPE_CHECK(spe_init(b.vcpu[0]), EEXIST);
		bare_vm_free(&b);
	}

	/* The PMU's is known to the GIC, which must be initialised for that */
	if (!kvm_check_cap(KVM_CAP_ARM_PMU_V3))
		return;
	for (i = 0; i < ARRAY_SIZE(init_missing); i++) {
		if (init_missing[i] & BARE_GIC_INIT)
			continue;
		b = bare_vm_create((BARE_READY & ~BARE_IRQ & ~init_missing[i]) | BARE_PMU);
		set_irq_of_pmu(b.vcpu[0]);
		SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);
		bare_vm_free(&b);
	}
}

/* Two SPUs: each can be had, none can be changed, on any vCPU */
static void test_two_spus(const void *arg)
{
	struct bare_vm b;
	int i, type;

	if (spe_nr_spus < 2)
		spe_skip("the machine has %d SPU only", spe_nr_spus);

	for (i = 0; i < spe_nr_spus; i++) {
		b = bare_vm_create(0);
		SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[i].type));
		SPE_OK(spe_set_spu(b.vcpu[1], spe_spus[i].type));
		SPE_CHECK(spe_set_spu(b.vcpu[0], spe_spus[!i].type), EBUSY);
		SPE_CHECK(spe_set_spu(b.vcpu[1], spe_spus[!i].type), EBUSY);
		SPE_CHECK(spe_set_spu(b.vcpu[1], -1), ENXIO);
		SPE_OK(spe_get_attr(b.vcpu[1], SPU, &type));
		TEST_ASSERT_EQ(type, spe_spus[i].type);
		bare_vm_free(&b);
	}
}

/*
 * A PMU and an SPU for one VM, chosen in either order. The one that leaves no CPU
 * is refused and changes nothing: one that leaves some can still be chosen.
 */
static void test_spu_and_pmu(const void *arg)
{
	struct spe_pmu pmus[SPE_MAX_PMUS];
	int i, j, k, order, nr;
	struct bare_vm b;

	if (!kvm_check_cap(KVM_CAP_ARM_PMU_V3))
		spe_skip("no PMU");
	nr = spe_find_pmus(pmus, SPE_MAX_PMUS);
	if (!nr)
		spe_skip("perf shows no core PMU");

	for (i = 0; i < nr; i++) {
		for (j = 0; j < spe_nr_spus; j++) {
			cpu_set_t both;
			bool fits;

			CPU_AND(&both, &pmus[i].cpus, &spe_spus[j].cpus);
			fits = CPU_COUNT(&both);

			for (order = 0; order < 2; order++) {
				b = bare_vm_create(BARE_GIC | BARE_PMU);
				if (order)
					SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[j].type));
				else
					SPE_OK(spe_set_pmu(b.vcpu[0], pmus[i].type));

				/* No such SPU before no CPU that has it */
				if (!order)
					SPE_CHECK(spe_set_spu(b.vcpu[0], -1), ENXIO);

				if (fits && order) {
					SPE_OK(spe_set_pmu(b.vcpu[0], pmus[i].type));
				} else if (fits) {
					SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[j].type));
				} else if (order) {
					SPE_CHECK(spe_set_pmu(b.vcpu[0], pmus[i].type), EINVAL);
				} else {
					u64 val;
					int type;

					SPE_CHECK(spe_set_spu(b.vcpu[0], spe_spus[j].type), EINVAL);
					SPE_CHECK(spe_get_attr(b.vcpu[0], SPU, &type), ENXIO);
					val = vcpu_get_reg(b.vcpu[0], SPE_REG(ID_AA64DFR0_EL1));
					TEST_ASSERT_EQ(FIELD_GET(ID_AA64DFR0_EL1_PMSVer, val), 0);
				}

				/* Another one assigned before no CPU that has this one */
				for (k = 0; k < spe_nr_spus && fits; k++)
					SPE_CHECK(spe_set_spu(b.vcpu[0], spe_spus[k].type),
						  k == j ? 0 : EBUSY);

				for (k = 0; k < (order ? nr : spe_nr_spus) && !fits; k++) {
					CPU_AND(&both, order ? &pmus[k].cpus : &pmus[i].cpus,
						order ? &spe_spus[j].cpus : &spe_spus[k].cpus);
					if (!CPU_COUNT(&both))
						continue;
					if (order)
						SPE_OK(spe_set_pmu(b.vcpu[0], pmus[k].type));
					else
						SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[k].type));
					break;
				}
				bare_vm_free(&b);
			}
		}
	}
}

/*
 * Every size that the field can express, and its neighbours. A size can be set
 * only once, but the tests before 'a different size was set' tell all apart.
 */
static void test_size_all(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_SPU | BARE_SIZE);
	u64 page = getpagesize(), hw_max = spe_spus[0].max_buff_size;
	u64 *sizes = malloc(BIT(14) * sizeof(*sizes));
	u32 f, n = 0;
	int d;

	/* In rising order, since each exponent starts where the last one ended */
	for (f = 0; f < BIT(14); f++) {
		sizes[n] = spe_size_of(f);
		TEST_ASSERT(!n || sizes[n] > sizes[n - 1], "field 0x%x", f);
		n++;
	}

	for (f = 0; f < n; f++) {
		for (d = -1; d <= 1; d++) {
			u64 size = sizes[f] + d * (s64)page;
			bool representable = !d ||
				(d < 0 && f && sizes[f - 1] == size) ||
				(d > 0 && f + 1 < n && sizes[f + 1] == size);
			int err;

			if (d < 0 && sizes[f] < page)
				continue;
			/* Not at the ends of the array: somewhere inside for 64K pages */
			if (d && !representable && page != SZ_4K) {
				u16 field;

				representable = spe_size_field(size, &field);
			}

			if (size % page)
				err = EINVAL;
			else if (!representable)
				err = EDOM;
			else if (hw_max && (!size || size > hw_max))
				err = ERANGE;
			else if (size != spe_valid_size(0))
				err = EINVAL;
			else
				err = 0;

			errno = 0;
			TEST_ASSERT((spe_set_size(b.vcpu[f & 1], size) ? errno : 0) == err,
				    "size 0x%lx: got %s, expected %s", size,
				    spe_errname(errno), spe_errname(err));
		}
	}
	bare_vm_free(&b);
}

/* A sample of them really set: what PMBIDR_EL1 and GET_DEVICE_ATTR show */
static void test_size_set(const void *arg)
{
	static const u16 mantissas[] = { 0, 1, 16, 255, 511 };
	u64 hw_max = spe_spus[0].max_buff_size, size, got;
	struct bare_vm b;
	int e, m;

	for (e = 0; e < 32; e++) {
		for (m = 0; m < ARRAY_SIZE(mantissas); m++) {
			u16 field = e << 9 | mantissas[m];

			size = spe_size_of(field);
			if (size % getpagesize() || (hw_max && (!size || size > hw_max)))
				continue;

			b = bare_vm_create(BARE_SPU | BARE_ONE);
			SPE_CHECK(spe_get_attr(b.vcpu[0], SIZE, &got), ENXIO);
			SPE_OK(spe_set_size(b.vcpu[0], size));
			SPE_OK(spe_set_size(b.vcpu[0], size));
			SPE_OK(spe_get_attr(b.vcpu[0], SIZE, &got));
			TEST_ASSERT_EQ(got, size);
			got = vcpu_get_reg(b.vcpu[0], SPE_REG(PMBIDR_EL1));
			TEST_ASSERT(FIELD_GET(PMBIDR_EL1_MaxBuffSize, got) == field,
				    "size 0x%lx: PMBIDR_EL1 0x%lx, expected field 0x%x",
				    size, got, field);
			bare_vm_free(&b);
		}
	}
}

static void test_size_zero(const void *arg)
{
	struct bare_vm b = bare_vm_create((BARE_READY & ~BARE_SIZE) | BARE_ONE);
	u64 size = 1;

	if (spe_spus[0].max_buff_size) {
		SPE_CHECK(spe_set_size(b.vcpu[0], 0), ERANGE);
	} else {
		SPE_OK(spe_set_size(b.vcpu[0], 0));
		SPE_OK(spe_get_attr(b.vcpu[0], SIZE, &size));
		TEST_ASSERT_EQ(size, 0);
		SPE_OK(spe_set_size(b.vcpu[0], 0));
		SPE_CHECK(spe_set_size(b.vcpu[0], SPE_DEFAULT_SIZE), EINVAL);
		SPE_OK(spe_init(b.vcpu[0]));
		SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
	}
	bare_vm_free(&b);
}

static void test_get_attr(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_GIC);
	int i, irq, type;
	u64 size, attr;

	for (i = 0; i < 2; i++) {
		/* Not set comes before an address that cannot be written */
		SPE_CHECK(spe_get_attr(b.vcpu[i], IRQ, SPE_BAD_ADDR), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], SPU, SPE_BAD_ADDR), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], SIZE, SPE_BAD_ADDR), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], INIT, SPE_BAD_ADDR), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], IRQ, &irq), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], SPU, &type), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], SIZE, &size), ENXIO);
		SPE_CHECK(spe_get_attr(b.vcpu[i], INIT, &irq), ENXIO);
	}

	SPE_OK(spe_set_irq(b.vcpu[0], SPE_PPI));
	SPE_OK(spe_get_attr(b.vcpu[0], IRQ, &irq));
	TEST_ASSERT_EQ(irq, SPE_PPI);
	/* The interrupt is the vCPU's, the others are the VM's */
	SPE_CHECK(spe_get_attr(b.vcpu[1], IRQ, &irq), ENXIO);
	SPE_OK(spe_set_irq(b.vcpu[1], SPE_PPI));
	SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
	SPE_OK(spe_set_size(b.vcpu[1], spe_valid_size(0)));
	__vgic_v3_init(b.gic_fd);

	/* Before and after INIT, and after KVM_RUN */
	for (i = 0; i < 3; i++) {
		int v;

		for (v = 0; v < 2; v++) {
			irq = 0;
			type = 0;
			size = 0;
			SPE_OK(spe_get_attr(b.vcpu[v], IRQ, &irq));
			TEST_ASSERT_EQ(irq, SPE_PPI);
			SPE_OK(spe_get_attr(b.vcpu[v], SPU, &type));
			TEST_ASSERT_EQ(type, spe_spus[0].type);
			SPE_OK(spe_get_attr(b.vcpu[v], SIZE, &size));
			TEST_ASSERT_EQ(size, spe_valid_size(0));
			SPE_CHECK(spe_get_attr(b.vcpu[v], IRQ, SPE_BAD_ADDR), EFAULT);
			SPE_CHECK(spe_get_attr(b.vcpu[v], SPU, SPE_BAD_ADDR), EFAULT);
			SPE_CHECK(spe_get_attr(b.vcpu[v], SIZE, SPE_BAD_ADDR), EFAULT);
			if (i == 0)
				SPE_OK(spe_init(b.vcpu[v]));
			else if (i == 1)
				SPE_CHECK(spe_run_nothing(b.vcpu[v]), EINTR);
		}
	}
	bare_vm_free(&b);

	/* Which attributes exist */
	b = bare_vm_create(0);
	for (attr = 0; attr < 8; attr++)
		SPE_CHECK(__vcpu_has_device_attr(b.vcpu[attr & 1], KVM_ARM_VCPU_SPE_CTRL, attr),
			  attr <= KVM_ARM_VCPU_SPE_INIT ? 0 : ENXIO);
	for (attr = 4; attr < 8; attr++)
		SPE_CHECK(spe_set_attr(b.vcpu[0], attr, &size), ENXIO);
	bare_vm_free(&b);

	b = bare_vm_create(BARE_NO_SPE);
	for (attr = 0; attr < 8; attr++) {
		SPE_CHECK(__vcpu_has_device_attr(b.vcpu[0], KVM_ARM_VCPU_SPE_CTRL, attr), ENXIO);
		if (attr > KVM_ARM_VCPU_SPE_INIT)
			continue;
		SPE_CHECK(spe_get_attr(b.vcpu[0], attr, &size), ENODEV);
		SPE_CHECK(spe_get_attr(b.vcpu[0], attr, SPE_BAD_ADDR), ENODEV);
	}
	bare_vm_free(&b);
}

/* The feature is a vCPU's only when that vCPU was initialised */
static void test_uninitialised_vcpu(const void *arg)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu[2];
	u64 attr, val = SPE_PPI;
	int i, gic_fd;

	for (i = 0; i < 2; i++)
		vcpu[i] = __vm_vcpu_add(vm, i);
	SPE_OK(spe_vcpu_init(vcpu[0], SPE_FEATURE));
	gic_fd = spe_gic_create(vm, 2);

	/* Before and after the VM has an SPU and a size */
	for (i = 0; i < 2; i++) {
		for (attr = KVM_ARM_VCPU_SPE_IRQ; attr <= KVM_ARM_VCPU_SPE_INIT; attr++) {
			SPE_CHECK(spe_set_attr(vcpu[1], attr, &val), ENODEV);
			SPE_CHECK(spe_set_attr(vcpu[1], attr, SPE_BAD_ADDR), ENODEV);
			SPE_CHECK(spe_get_attr(vcpu[1], attr, &val), ENODEV);
			SPE_CHECK(spe_get_attr(vcpu[1], attr, SPE_BAD_ADDR), ENODEV);
			SPE_CHECK(__vcpu_has_device_attr(vcpu[1], KVM_ARM_VCPU_SPE_CTRL, attr),
				  ENXIO);
			SPE_OK(__vcpu_has_device_attr(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, attr));
		}
		SPE_OK(spe_set_spu(vcpu[0], spe_spus[0].type));
		SPE_OK(spe_set_size(vcpu[0], spe_valid_size(0)));
	}

	SPE_OK(spe_vcpu_init(vcpu[1], SPE_FEATURE));
	__vgic_v3_init(gic_fd);
	for (i = 0; i < 2; i++) {
		SPE_OK(spe_set_irq(vcpu[i], SPE_PPI));
		SPE_OK(spe_init(vcpu[i]));
	}
	close(gic_fd);
	kvm_vm_free(vm);
}

/* --- RLIMIT_MEMLOCK ------------------------------------------------------ */

static void drop_cap_ipc_lock(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	TEST_ASSERT(!syscall(__NR_capget, &hdr, data), "capget");
	data[0].effective &= ~BIT(CAP_IPC_LOCK);
	data[0].permitted &= ~BIT(CAP_IPC_LOCK);
	TEST_ASSERT(!syscall(__NR_capset, &hdr, data), "capset");
}

static void set_memlock(u64 bytes)
{
	struct rlimit rl = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };

	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &rl), "setrlimit");
}

static void test_memlock(const void *arg)
{
	u64 before = spe_locked_bytes(), charged, size = spe_valid_size(0);
	struct bare_vm b;
	int i;

	drop_cap_ipc_lock();

	/* Nothing fits; what is missing is reported first */
	set_memlock(0);
	for (i = 0; i < ARRAY_SIZE(init_missing); i++) {
		b = bare_vm_create(BARE_READY & ~init_missing[i]);
		SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);
		bare_vm_free(&b);
	}
	b = bare_vm_create(BARE_READY & ~BARE_IRQ);
	SPE_CHECK(spe_init(b.vcpu[0]), ENXIO);
	SPE_OK(spe_set_irq(b.vcpu[0], SPE_PPI));
	SPE_OK(spe_set_irq(b.vcpu[1], SPE_PPI));
	SPE_CHECK(spe_init(b.vcpu[0]), ENOMEM);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINVAL);

	/* The buffer alone is not all */
	set_memlock(before + size);
	SPE_CHECK(spe_init(b.vcpu[0]), ENOMEM);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);

	/* Enough for one vCPU, found by the charge itself */
	set_memlock(before + 4 * size + SZ_16M);
	SPE_OK(spe_init(b.vcpu[0]));
	charged = spe_locked_bytes() - before;
	TEST_ASSERT(charged > size, "charged 0x%lx for a maximum of 0x%lx", charged, size);
	TEST_ASSERT(charged <= 2 * size + 64 * getpagesize(),
		    "charged 0x%lx for a maximum of 0x%lx", charged, size);

	set_memlock(before + 2 * charged - 1);
	SPE_CHECK(spe_init(b.vcpu[1]), ENOMEM);
	SPE_CHECK(spe_init(b.vcpu[0]), EBUSY);
	TEST_ASSERT_EQ(spe_locked_bytes(), before + charged);
	set_memlock(before + 2 * charged);
	SPE_OK(spe_init(b.vcpu[1]));
	TEST_ASSERT_EQ(spe_locked_bytes(), before + 2 * charged);

	/* The charge is once, and for as long as the VM lives */
	for (i = 0; i < 2; i++)
		SPE_CHECK(spe_run_nothing(b.vcpu[i]), EINTR);
	TEST_ASSERT_EQ(spe_locked_bytes(), before + 2 * charged);
	bare_vm_free(&b);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);

	/* The VM has run: the limit does not matter any more */
	b = bare_vm_create(BARE_READY | BARE_INIT0 | BARE_RUN);
	set_memlock(0);
	SPE_CHECK(spe_init(b.vcpu[1]), EBUSY);
	bare_vm_free(&b);
	set_memlock(before + 2 * charged);

	/* Again, ended halfway: only one of two initialised */
	b = bare_vm_create(BARE_READY | BARE_INIT1);
	TEST_ASSERT_EQ(spe_locked_bytes(), before + charged);
	bare_vm_free(&b);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

static void wait_for_end(pid_t pid)
{
	int status;

	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "status 0x%x", status);
}

/* Sleeps until the other end of a pipe is closed */
static void wait_for_close(int fd[2])
{
	char c;

	close(fd[1]);
	TEST_ASSERT(!read(fd[0], &c, 1), "read from a pipe");
}

/* The charge is the VM's creator's, whoever closes it */
static void test_memlock_fork(const void *arg)
{
	u64 before = spe_locked_bytes(), charged;
	struct bare_vm b = bare_vm_create(BARE_DONE);
	int fd[2];
	pid_t pid;

	charged = spe_locked_bytes() - before;
	TEST_ASSERT(charged, "nothing is charged");
	TEST_ASSERT(!pipe(fd), "pipe");

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		u64 own = spe_locked_bytes();

		wait_for_close(fd);
		TEST_ASSERT_EQ(spe_locked_bytes(), own);
		_exit(0);
	}

	/* The VM lives on in the child */
	bare_vm_free(&b);
	TEST_ASSERT_EQ(spe_locked_bytes(), before + charged);
	close(fd[0]);
	close(fd[1]);
	wait_for_end(pid);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

/* ... also when that is gone first: what it was charged has no place to go back to */
static void test_memlock_orphan(const void *arg)
{
	u64 before = spe_locked_bytes();
	int fd[2], ids[2];
	pid_t pid;

	TEST_ASSERT(!prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl");
	TEST_ASSERT(!pipe(fd) && !pipe(ids), "pipe");
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		bare_vm_create(BARE_DONE);
		TEST_ASSERT(spe_locked_bytes() > before, "nothing is charged");
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork");
		if (!pid) {
			wait_for_close(fd);
			_exit(0);
		}
		TEST_ASSERT(write(ids[1], &pid, sizeof(pid)) == sizeof(pid), "write");
		_exit(0);
	}
	TEST_ASSERT(read(ids[0], &pid, sizeof(pid)) == sizeof(pid), "read");
	TEST_ASSERT(wait(NULL) > 0, "the creator");
	close(fd[0]);
	close(fd[1]);
	wait_for_end(pid);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

/* CAP_IPC_LOCK is exempt, as everywhere */
static void test_memlock_exempt(const void *arg)
{
	u64 before = spe_locked_bytes();
	struct bare_vm b;

	set_memlock(0);
	b = bare_vm_create(BARE_DONE);
	bare_vm_free(&b);
	TEST_ASSERT_EQ(spe_locked_bytes(), before);
}

static void test_eexist_before_enomem(const void *arg)
{
	struct bare_vm b;
	int timer;

	drop_cap_ipc_lock();
	set_memlock(0);
	b = bare_vm_create(BARE_READY & ~BARE_IRQ);
	SPE_OK(__vcpu_device_attr_get(b.vcpu[0], KVM_ARM_VCPU_TIMER_CTRL,
				      KVM_ARM_VCPU_TIMER_IRQ_PTIMER, &timer));
	SPE_OK(spe_set_irq(b.vcpu[0], timer));
	SPE_CHECK(spe_init(b.vcpu[0]), EEXIST);
	bare_vm_free(&b);

	if (!kvm_check_cap(KVM_CAP_ARM_PMU_V3))
		return;
	b = bare_vm_create((BARE_READY & ~BARE_IRQ) | BARE_PMU);
	set_irq_of_pmu(b.vcpu[0]);
	SPE_CHECK(spe_init(b.vcpu[0]), EEXIST);
	bare_vm_free(&b);
}

/* Refused for want of memory, SPE keeps its interrupt, which cannot be changed */
static void test_enomem_irq(const void *arg)
{
	struct bare_vm b;
	int irq = SPE_PPI;

	if (!kvm_check_cap(KVM_CAP_ARM_PMU_V3))
		spe_skip("no PMU");

	drop_cap_ipc_lock();
	set_memlock(0);
	b = bare_vm_create(BARE_READY | BARE_PMU);
	SPE_CHECK(spe_init(b.vcpu[0]), ENOMEM);
	SPE_CHECK(spe_set_irq(b.vcpu[0], SPE_PPI), EBUSY);
	SPE_OK(__vcpu_device_attr_set(b.vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL,
				      KVM_ARM_VCPU_PMU_V3_IRQ, &irq));
	SPE_CHECK(__vcpu_device_attr_set(b.vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL,
					 KVM_ARM_VCPU_PMU_V3_INIT, NULL), EEXIST);
	SPE_CHECK(spe_init(b.vcpu[0]), ENOMEM);
	set_memlock(SZ_1G);
	SPE_OK(spe_init(b.vcpu[0]));
	bare_vm_free(&b);
}

/* --- KVM_ARM_VCPU_INIT and KVM_RUN --------------------------------------- */

static void test_run_without_init(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_GIC);
	u64 val = 0x1234500;
	int i;

	SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
	vcpu_set_reg(b.vcpu[0], SPE_REG(PMSIRR_EL1), val);
	vcpu_set_reg(b.vcpu[0], ARM64_CORE_REG(regs.regs[3]), 0x33);

	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINVAL);
	SPE_CHECK(__vcpu_run(b.vcpu[0]), EINVAL);

	/* No state is lost, and the rest can still be set */
	TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], SPE_REG(PMSIRR_EL1)), val);
	TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], ARM64_CORE_REG(regs.regs[3])), 0x33);
	SPE_OK(spe_set_size(b.vcpu[0], spe_valid_size(0)));
	__vgic_v3_init(b.gic_fd);
	for (i = 0; i < 2; i++)
		SPE_OK(spe_set_irq(b.vcpu[i], SPE_PPI));
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINVAL);
	SPE_OK(spe_init(b.vcpu[0]));
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
	TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], SPE_REG(PMSIRR_EL1)), val);

	/* The other one was never initialised, and now it is too late */
	SPE_CHECK(spe_run_nothing(b.vcpu[1]), EINVAL);
	SPE_CHECK(spe_init(b.vcpu[1]), EBUSY);
	SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
	bare_vm_free(&b);
}

static void test_vcpu_init_refused(const void *arg)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm;
	int i;

	/* On only some of a VM's vCPUs */
	for (i = 0; i < 2; i++) {
		vm = vm_create_barebones();
		vcpu[0] = __vm_vcpu_add(vm, 0);
		vcpu[1] = __vm_vcpu_add(vm, 1);
		SPE_OK(spe_vcpu_init(vcpu[0], i ? SPE_FEATURE : 0));
		SPE_CHECK(spe_vcpu_init(vcpu[1], i ? 0 : SPE_FEATURE), EINVAL);
		SPE_OK(spe_vcpu_init(vcpu[1], i ? SPE_FEATURE : 0));
		kvm_vm_free(vm);
	}

	/* A refused feature does not stick */
	vm = vm_create_barebones();
	vcpu[0] = __vm_vcpu_add(vm, 0);
	SPE_CHECK(spe_vcpu_init(vcpu[0], SPE_FEATURE | UNKNOWN_FEATURE), ENOENT);
	SPE_CHECK(spe_vcpu_init(vcpu[0], SPE_FEATURE | BIT(KVM_ARM_VCPU_HAS_EL2) |
				 UNKNOWN_FEATURE), ENOENT);
	SPE_CHECK(spe_vcpu_init(vcpu[0], SPE_FEATURE | BIT(KVM_ARM_VCPU_EL1_32BIT)), EINVAL);
	SPE_CHECK(spe_vcpu_init(vcpu[0], SPE_FEATURE | BIT(KVM_ARM_VCPU_HAS_EL2)), EINVAL);
	SPE_CHECK(spe_vcpu_init(vcpu[0], SPE_FEATURE | BIT(KVM_ARM_VCPU_HAS_EL2) |
				 BIT(KVM_ARM_VCPU_HAS_EL2_E2H0)), EINVAL);
	SPE_OK(spe_vcpu_init(vcpu[0], 0));
	kvm_vm_free(vm);
}

/* The refusals above prove something only where the other half is allowed */
static void test_vcpu_init_refused_el2(const void *arg)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	/* A host that was started for nested guests on CPUs that can have them */
	if (host_mode("kvm-arm.mode=nested") &&
	    spe_klog_count("detected: Nested Virtualization Support"))
		TEST_ASSERT(kvm_check_cap(KVM_CAP_ARM_EL2), "KVM_CAP_ARM_EL2 is 0");
	if (!kvm_check_cap(KVM_CAP_ARM_EL2))
		spe_skip("no nested virtualization (KVM_CAP_ARM_EL2)");

	vm = vm_create_barebones();
	spe_gic_create(vm, 1);
	vcpu = __vm_vcpu_add(vm, 0);
	SPE_CHECK(spe_vcpu_init(vcpu, SPE_FEATURE | BIT(KVM_ARM_VCPU_HAS_EL2)), EINVAL);
	SPE_OK(spe_vcpu_init(vcpu, BIT(KVM_ARM_VCPU_HAS_EL2)));
	kvm_vm_free(vm);
}

static void test_vcpu_init_refused_32bit(const void *arg)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	if (!kvm_check_cap(KVM_CAP_ARM_EL1_32BIT))
		spe_skip("no 32-bit EL1 (KVM_CAP_ARM_EL1_32BIT)");

	vm = vm_create_barebones();
	vcpu = __vm_vcpu_add(vm, 0);
	SPE_CHECK(spe_vcpu_init(vcpu, SPE_FEATURE | BIT(KVM_ARM_VCPU_EL1_32BIT)), EINVAL);
	SPE_OK(spe_vcpu_init(vcpu, BIT(KVM_ARM_VCPU_EL1_32BIT)));
	kvm_vm_free(vm);
}

/* --- Registers as userspace sees them ------------------------------------ */

static bool in_reg_list(struct kvm_vcpu *vcpu, u64 id)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	bool found = false;
	u64 i;

	for (i = 0; i < list->n; i++)
		found |= list->reg[i] == id;
	free(list);
	return found;
}

static void test_reg_list(const void *arg)
{
	struct bare_vm b;
	u64 val, pmsidr;
	u64 n[2];
	int i;

	/* Without the feature: none, and the list is as long as it ever was */
	b = bare_vm_create(BARE_NO_SPE | BARE_GIC);
	for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
		TEST_ASSERT(!in_reg_list(b.vcpu[0], spe_reg_id(&spe_regs[i])), "%s is in the list",
			    spe_regs[i].name);
		SPE_CHECK(__vcpu_get_reg(b.vcpu[0], spe_reg_id(&spe_regs[i]), &val), ENOENT);
		SPE_CHECK(__vcpu_set_reg(b.vcpu[0], spe_reg_id(&spe_regs[i]), 0), ENOENT);
	}
	n[0] = vcpu_get_reg_list(b.vcpu[0])->n;
	bare_vm_free(&b);

	/* Before the SPU is assigned: those that depend on it are absent */
	b = bare_vm_create(BARE_GIC);
	TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], SPE_REG(PMSIDR_EL1)), 0);
	TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], SPE_REG(PMBIDR_EL1)), 0);
	val = vcpu_get_reg(b.vcpu[0], SPE_REG(ID_AA64DFR0_EL1));
	TEST_ASSERT_EQ(FIELD_GET(ID_AA64DFR0_EL1_PMSVer, val), 0);
	n[1] = n[0];
	for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
		bool there = !spe_regs[i].only_if;

		TEST_ASSERT(in_reg_list(b.vcpu[0], spe_reg_id(&spe_regs[i])) == there,
			    "%s before SET_SPU", spe_regs[i].name);
		SPE_CHECK(__vcpu_get_reg(b.vcpu[0], spe_reg_id(&spe_regs[i]), &val),
			  there ? 0 : ENOENT);
		n[1] += there;
	}
	TEST_ASSERT_EQ(vcpu_get_reg_list(b.vcpu[0])->n, n[1]);

	SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
	for (int v = 0; v < 2; v++) {
		pmsidr = vcpu_get_reg(b.vcpu[v], SPE_REG(PMSIDR_EL1));
		TEST_ASSERT((pmsidr & 7) == 7, "PMSIDR_EL1 0x%lx", pmsidr);
		val = vcpu_get_reg(b.vcpu[v], SPE_REG(ID_AA64DFR0_EL1));
		val = FIELD_GET(ID_AA64DFR0_EL1_PMSVer, val);
		TEST_ASSERT(val >= 1 && val <= ID_AA64DFR0_EL1_PMSVer_V1P4, "PMSVer %lu", val);
		/* FnE is mandatory from v1p2 */
		TEST_ASSERT(!!(pmsidr & PMSIDR_EL1_FnE) == (val >= ID_AA64DFR0_EL1_PMSVer_V1P2),
			    "PMSIDR_EL1 0x%lx, PMSVer %lu", pmsidr, val);
		val = vcpu_get_reg(b.vcpu[v], SPE_REG(PMBIDR_EL1));
		TEST_ASSERT(!(val & PMBIDR_EL1_P), "PMBIDR_EL1 0x%lx", val);
		n[1] = n[0];
		for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
			bool there = !spe_regs[i].only_if || pmsidr & spe_regs[i].only_if;

			TEST_ASSERT(in_reg_list(b.vcpu[v], spe_reg_id(&spe_regs[i])) == there,
				    "%s after SET_SPU, PMSIDR_EL1 0x%lx", spe_regs[i].name, pmsidr);
			SPE_CHECK(__vcpu_get_reg(b.vcpu[v], spe_reg_id(&spe_regs[i]), &val),
				  there ? 0 : ENOENT);
			n[1] += there;
		}
		TEST_ASSERT_EQ(vcpu_get_reg_list(b.vcpu[v])->n, n[1]);
	}
	bare_vm_free(&b);
}

static void test_one_reg(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_SPU | BARE_SIZE);
	static const u64 patterns[] = { 0, ~0ULL, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa };
	u64 pmsidr = vcpu_get_reg(b.vcpu[0], SPE_REG(PMSIDR_EL1)), val;
	int i, p;

	for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
		const struct spe_reg_desc *r = &spe_regs[i];

		if (r->id || (r->only_if && !(pmsidr & r->only_if)))
			continue;

		/* Reset */
		val = vcpu_get_reg(b.vcpu[0], spe_reg_id(r));
		TEST_ASSERT(!val, "%s resets to 0x%lx", r->name, val);

		for (p = 0; p < ARRAY_SIZE(patterns); p++) {
			vcpu_set_reg(b.vcpu[0], spe_reg_id(r), patterns[p]);
			val = vcpu_get_reg(b.vcpu[0], spe_reg_id(r));
			TEST_ASSERT(!(val & r->res0), "%s: 0x%lx, RES0 are 0x%lx", r->name, val,
				    r->res0);
			TEST_ASSERT((val & r->rw) == (patterns[p] & r->rw),
				    "%s: wrote 0x%lx, read 0x%lx",
				    r->name, patterns[p], val);
			TEST_ASSERT(!(val & ~patterns[p]), "%s: wrote 0x%lx, read 0x%lx",
				    r->name, patterns[p], val);
		}
		/* The other vCPU has registers of its own */
		TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[1], spe_reg_id(r)), 0);
	}

	/* A reset of the vCPU resets them */
	SPE_OK(spe_vcpu_init(b.vcpu[0], SPE_FEATURE));
	for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
		if (spe_regs[i].id || (spe_regs[i].only_if && !(pmsidr & spe_regs[i].only_if)))
			continue;
		TEST_ASSERT(!vcpu_get_reg(b.vcpu[0], spe_reg_id(&spe_regs[i])), "%s",
			    spe_regs[i].name);
	}
	bare_vm_free(&b);
}

/* Restored before the SPU is known, registers keep all bits; INIT drops RES0 */
static void test_early_regs(const void *arg)
{
	struct bare_vm b = bare_vm_create(BARE_GIC);
	int i, round;
	u64 val;

	for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
		if (spe_regs[i].id || spe_regs[i].only_if)
			continue;
		vcpu_set_reg(b.vcpu[0], spe_reg_id(&spe_regs[i]), ~0ULL);
		vcpu_set_reg(b.vcpu[1], spe_reg_id(&spe_regs[i]), 0);
	}

	for (round = 0; round < 2; round++) {
		for (i = 0; i < ARRAY_SIZE(spe_regs); i++) {
			const struct spe_reg_desc *r = &spe_regs[i];

			if (r->id || r->only_if)
				continue;
			val = vcpu_get_reg(b.vcpu[0], spe_reg_id(r));
			TEST_ASSERT((val & r->rw) == r->rw, "%s 0x%lx", r->name, val);
			if (!round)
				TEST_ASSERT(val == ~0ULL, "%s 0x%lx", r->name, val);
			else
				TEST_ASSERT(!(val & r->res0), "%s 0x%lx", r->name, val);
			val = vcpu_get_reg(b.vcpu[1], spe_reg_id(r));
			TEST_ASSERT(!val, "%s 0x%lx", r->name, val);
		}
		if (round)
			break;
		SPE_OK(spe_set_spu(b.vcpu[1], spe_spus[0].type));
		SPE_OK(spe_set_size(b.vcpu[1], spe_valid_size(0)));
		__vgic_v3_init(b.gic_fd);
		for (i = 0; i < 2; i++) {
			SPE_OK(spe_set_irq(b.vcpu[i], SPE_PPI));
			SPE_OK(spe_init(b.vcpu[i]));
		}
	}
	bare_vm_free(&b);
}

/*
 * Two threads configure the vCPUs of a VM while two others restore registers and
 * read the list. Whatever comes first, nothing is refused and no bit gets lost.
 */
struct race {
	struct kvm_vcpu *vcpu;
	pthread_barrier_t *barrier;
	pthread_t thread[2];
	bool done;
};

static const struct {
	u64 id, val;
} race_regs[] = {
	{ KVM_ARM64_SYS_REG(SYS_PMSFCR_EL1), GENMASK_ULL(18, 16) | GENMASK_ULL(2, 0) },
	{ KVM_ARM64_SYS_REG(SYS_PMSICR_EL1), GENMASK_ULL(31, 0) },
	{ KVM_ARM64_SYS_REG(SYS_PMBLIMITR_EL1), GENMASK_ULL(63, 16) | BIT(0) },
};

static void *race_attrs(void *arg)
{
	struct race *r = arg;

	pthread_barrier_wait(r->barrier);
	SPE_OK(spe_set_spu(r->vcpu, spe_spus[0].type));
	SPE_OK(spe_set_size(r->vcpu, spe_valid_size(0)));
	SPE_OK(spe_set_irq(r->vcpu, SPE_PPI));
	SPE_OK(spe_init(r->vcpu));
	WRITE_ONCE(r->done, true);
	return NULL;
}

static void *race_restore(void *arg)
{
	struct kvm_reg_list *list = malloc(sizeof(*list) + 4096 * sizeof(u64));
	struct race *r = arg;
	bool done;
	u64 val;
	int i;

	TEST_ASSERT(list, "malloc");
	pthread_barrier_wait(r->barrier);
	do {
		done = READ_ONCE(r->done);
		for (i = 0; i < ARRAY_SIZE(race_regs); i++)
			SPE_OK(__vcpu_set_reg(r->vcpu, race_regs[i].id, race_regs[i].val));
		list->n = 4096;
		SPE_OK(__vcpu_ioctl(r->vcpu, KVM_GET_REG_LIST, list));
		for (i = 0; i < ARRAY_SIZE(race_regs); i++) {
			SPE_OK(__vcpu_get_reg(r->vcpu, race_regs[i].id, &val));
			TEST_ASSERT((val & race_regs[i].val) == race_regs[i].val,
				    "register 0x%lx: 0x%lx", race_regs[i].id, val);
		}
	} while (!done);
	free(list);
	return NULL;
}

static void test_race(const void *arg)
{
	int round, i;

	for (round = 0; round < 100; round++) {
		struct bare_vm b = bare_vm_create(BARE_GIC | BARE_GIC_INIT);
		struct race r[2] = {};
		pthread_barrier_t barrier;

		TEST_ASSERT(!pthread_barrier_init(&barrier, NULL, 4), "pthread_barrier_init");
		for (i = 0; i < 2; i++) {
			r[i].vcpu = b.vcpu[i];
			r[i].barrier = &barrier;
			kvm_pthread_create(&r[i].thread[0], NULL, race_attrs, &r[i]);
			kvm_pthread_create(&r[i].thread[1], NULL, race_restore, &r[i]);
		}
		for (i = 0; i < 4; i++)
			kvm_pthread_join(r[i / 2].thread[i % 2], NULL);
		pthread_barrier_destroy(&barrier);
		for (i = 0; i < 2; i++)
			SPE_CHECK(spe_init(b.vcpu[i]), EBUSY);
		bare_vm_free(&b);
	}
}

static void test_id_regs(const void *arg)
{
	static const u32 ids[] = { SYS_PMSIDR_EL1, SYS_PMBIDR_EL1, SYS_ID_AA64DFR0_EL1 };
	struct bare_vm b = bare_vm_create(BARE_SPU | BARE_SIZE);
	int i, v, ver, bit;
	u64 val, id, dfr0;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		for (v = 0; v < 2; v++) {
			id = KVM_ARM64_SYS_REG(ids[i]);
			val = vcpu_get_reg(b.vcpu[v], id);
			SPE_OK(__vcpu_set_reg(b.vcpu[v], id, val));
			TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[v], id), val);
			if (ids[i] == SYS_ID_AA64DFR0_EL1)
				continue;
			for (bit = 0; bit < 64; bit++) {
				SPE_CHECK(__vcpu_set_reg(b.vcpu[v], id, val ^ BIT_ULL(bit)),
					  EINVAL);
				TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[v], id), val);
			}
			SPE_CHECK(__vcpu_set_reg(b.vcpu[v], id, 0), EINVAL);
		}
	}

	id = SPE_REG(ID_AA64DFR0_EL1);
	dfr0 = vcpu_get_reg(b.vcpu[0], id);
	for (ver = 0; ver < 16; ver++) {
		val = (dfr0 & ~ID_AA64DFR0_EL1_PMSVer) | FIELD_PREP(ID_AA64DFR0_EL1_PMSVer, ver);
		SPE_CHECK(__vcpu_set_reg(b.vcpu[1], id, val), val == dfr0 ? 0 : EINVAL);
		TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], id), dfr0);
	}

	/* Other fields of the same register stay writable, PMSVer stays */
	val = dfr0 & ~ID_AA64DFR0_EL1_WRPs;
	if (!__vcpu_set_reg(b.vcpu[0], id, val))
		TEST_ASSERT_EQ(vcpu_get_reg(b.vcpu[0], id) & ID_AA64DFR0_EL1_PMSVer,
			       dfr0 & ID_AA64DFR0_EL1_PMSVer);
	bare_vm_free(&b);

	/* Without the feature, and before the SPU is assigned, PMSVer is 0 */
	for (i = 0; i < 2; i++) {
		b = bare_vm_create(i ? BARE_NO_SPE : 0);
		dfr0 = vcpu_get_reg(b.vcpu[0], id);
		for (ver = 0; ver < 16; ver++) {
			val = dfr0 | FIELD_PREP(ID_AA64DFR0_EL1_PMSVer, ver);
			SPE_CHECK(__vcpu_set_reg(b.vcpu[0], id, val), ver ? EINVAL : 0);
		}
		bare_vm_free(&b);
	}
}

/* An ID register that userspace wrote first keeps PMSVer right */
static void test_id_order(const void *arg)
{
	struct bare_vm b = bare_vm_create(0);
	u64 id = SPE_REG(ID_AA64DFR0_EL1), dfr0, val;

	dfr0 = vcpu_get_reg(b.vcpu[0], id);
	SPE_OK(__vcpu_set_reg(b.vcpu[0], id, dfr0));
	SPE_OK(spe_set_spu(b.vcpu[0], spe_spus[0].type));
	val = vcpu_get_reg(b.vcpu[1], id);
	TEST_ASSERT(FIELD_GET(ID_AA64DFR0_EL1_PMSVer, val), "ID_AA64DFR0_EL1 0x%lx", val);
	TEST_ASSERT_EQ(val & ~ID_AA64DFR0_EL1_PMSVer, dfr0);
	SPE_CHECK(__vcpu_set_reg(b.vcpu[0], id, dfr0), EINVAL);
	bare_vm_free(&b);
}

static u64 spu_cap(const struct spe_spu *spu, const char *cap)
{
	char name[160];
	u64 val;
	FILE *f;

	snprintf(name, sizeof(name), "/sys/bus/event_source/devices/%s/caps/%s", spu->name, cap);
	f = fopen(name, "r");
	TEST_ASSERT(f && fscanf(f, "%lu", &val) == 1, "caps/%s of %s", cap, spu->name);
	fclose(f);
	return val;
}

/* What the guest reads is of the VM's SPU, where SPUs differ */
static void test_spus_id_regs(const void *arg)
{
	static const u16 intervals[] = { 256, 0, 512, 768, 1024, 1536, 2048, 3072, 4096 };
	static const u8 counts[] = { [2] = 12, [3] = 16 };
	struct bare_vm b;
	u64 val, val2;
	int i;

	for (i = 0; i < spe_nr_spus; i++) {
		const struct spe_spu *spu = &spe_spus[i];

		b = bare_vm_create(0);
		SPE_OK(spe_set_spu(b.vcpu[1], spu->type));
		val = vcpu_get_reg(b.vcpu[0], SPE_REG(PMSIDR_EL1));
		TEST_ASSERT_EQ(intervals[FIELD_GET(PMSIDR_EL1_INTERVAL, val)],
			       spu_cap(spu, "min_interval"));
		TEST_ASSERT_EQ(counts[FIELD_GET(PMSIDR_EL1_COUNTSIZE, val)],
			       spu_cap(spu, "count_size"));
		TEST_ASSERT_EQ(FIELD_GET(PMSIDR_EL1_ARCHINST, val), spu_cap(spu, "arch_inst"));
		TEST_ASSERT_EQ(FIELD_GET(PMSIDR_EL1_ERND, val), spu_cap(spu, "ernd"));
		/* On every vCPU */
		val2 = vcpu_get_reg(b.vcpu[1], SPE_REG(PMSIDR_EL1));
		TEST_ASSERT_EQ(val2, val);
		bare_vm_free(&b);
	}
}

/* --- Creating VMs -------------------------------------------------------- */

static int created;

static void *create_thread(void *arg)
{
	struct kvm_random_state rng = new_kvm_random_state((u32)(long)arg);
	cpu_set_t all, one;
	int cpu;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	while (__atomic_add_fetch(&created, 1, __ATOMIC_RELAXED) <= spe_opt.create) {
		struct bare_vm b = { .gic_fd = -1 };
		int i, spu = kvm_random_u32(&rng) % spe_nr_spus, nr = 1 + kvm_random_u32(&rng) % 2;
		u64 size, hw_max = spe_spus[spu].max_buff_size;

		do {
			size = spe_size_of(kvm_random_u32(&rng) % BIT(14));
		} while (size % getpagesize() ||
			 (hw_max && (!size || size > hw_max)));

		/* Any CPU may ask, also one without the SPU, and in between another */
		cpu = kvm_pick_random_cpu(&all);
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);

		TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_ARM_SPE), 1);
		b.vm = vm_create_barebones();
		for (i = 0; i < nr; i++) {
			b.vcpu[i] = __vm_vcpu_add(b.vm, i);
			SPE_OK(spe_vcpu_init(b.vcpu[i], SPE_FEATURE));
		}
		cpu = kvm_pick_random_cpu(&all);
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);

		b.gic_fd = spe_gic_create(b.vm, nr);
		SPE_OK(spe_set_spu(b.vcpu[kvm_random_u32(&rng) % nr], spe_spus[spu].type));
		SPE_OK(spe_set_size(b.vcpu[kvm_random_u32(&rng) % nr], size));
		__vgic_v3_init(b.gic_fd);
		for (i = 0; i < nr; i++) {
			SPE_OK(spe_set_irq(b.vcpu[i], 16 + 5));
			SPE_OK(spe_init(b.vcpu[i]));
		}
		SPE_CHECK(spe_run_nothing(b.vcpu[0]), EINTR);
		bare_vm_free(&b);
		sched_setaffinity(0, sizeof(all), &all);
	}
	return NULL;
}

static void test_create(const void *arg)
{
	pthread_t threads[4];
	long i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		kvm_pthread_create(&threads[i], NULL, create_thread,
				   (void *)(long)(kvm_random_seed + i));
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		kvm_pthread_join(threads[i], NULL);
}

/* --- main ---------------------------------------------------------------- */

int main(int argc, char **argv)
{
	int i;

	spe_parse_options(argc, argv);

	spe_add_case(test_cap, NULL, true, "capability");
	spe_add_case(test_refused, NULL, true, "refusals where SPE is not available");
	spe_add_case(test_protected_vm, NULL, true, "refusals of a protected VM");
	spe_add_case(test_driver_gone, NULL, false, "refusals when the driver has gone");
	for (i = 0; i < ARRAY_SIZE(errno_rows); i++)
		spe_add_case(test_errno_row, &errno_rows[i], false, "attr %s", errno_rows[i].name);
	spe_add_case(test_irq_two_vcpus, NULL, false, "attr irq: two vCPUs");
	spe_add_case(test_init_orders, NULL, false, "attr init: what comes first");
	spe_add_case(test_init_eexist_pmu, NULL, false, "attr init: interrupt of the PMU");
	spe_add_case(test_init_then_pmu, NULL, false, "attr init: PMU with SPE's interrupt");
	spe_add_case(test_init_eexist_timer, NULL, false, "attr init: interrupt of the timer");
	spe_add_case(test_enxio_before_eexist, NULL, false,
		     "attr init: what is missing before interrupt's owner");
	spe_add_case(test_memlock, NULL, false, "attr init: RLIMIT_MEMLOCK");
	spe_add_case(test_memlock_fork, NULL, false, "attr init: charge, VM closed by a child");
	spe_add_case(test_memlock_orphan, NULL, false,
		     "attr init: charge, VM closed after its creator's end");
	spe_add_case(test_memlock_exempt, NULL, false, "attr init: CAP_IPC_LOCK");
	spe_add_case(test_eexist_before_enomem, NULL, false,
		     "attr init: interrupt's owner before RLIMIT_MEMLOCK");
	spe_add_case(test_enomem_irq, NULL, false, "attr init: interrupt after RLIMIT_MEMLOCK");
	spe_add_case(test_two_spus, NULL, false, "attr spu: two SPUs");
	spe_add_case(test_spu_and_pmu, NULL, false, "attr spu: with a chosen PMU, both orders");
	spe_add_case(test_size_all, NULL, false,
		     "attr size: all that can be expressed and their neighbours");
	spe_add_case(test_size_set, NULL, false, "attr size: PMBIDR_EL1");
	spe_add_case(test_size_zero, NULL, false, "attr size: 0");
	spe_add_case(test_get_attr, NULL, false, "attr has and get");
	spe_add_case(test_uninitialised_vcpu, NULL, false, "attr of a vCPU without a feature yet");
	spe_add_case(test_run_without_init, NULL, false, "KVM_RUN without INIT");
	spe_add_case(test_vcpu_init_refused, NULL, false, "KVM_ARM_VCPU_INIT refusals");
	spe_add_case(test_vcpu_init_refused_el2, NULL, false, "KVM_ARM_VCPU_INIT refusals: EL2");
	spe_add_case(test_vcpu_init_refused_32bit, NULL, false,
		     "KVM_ARM_VCPU_INIT refusals: 32-bit");
	spe_add_case(test_reg_list, NULL, false, "registers: list");
	spe_add_case(test_one_reg, NULL, false, "registers: reset, ONE_REG, RES0");
	spe_add_case(test_early_regs, NULL, false,
		     "registers: restored before the SPU is assigned");
	spe_add_case(test_race, NULL, false, "registers: restored while threads configure");
	spe_add_case(test_id_regs, NULL, false,
		     "registers: ID registers take their own value only");
	spe_add_case(test_id_order, NULL, false,
		     "registers: ID register written before the SPU is assigned");
	spe_add_case(test_spus_id_regs, NULL, false, "registers: ID registers of each SPU");
	spe_add_case(test_create, NULL, false, "create %d VMs", spe_opt.create);

	spe_run_cases();
}
