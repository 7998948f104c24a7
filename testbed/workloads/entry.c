// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * What it costs to leave a VM that has no SPE and to enter it again. Runs on any kernel with KVM: the selftests are only for kernels with
 * the series.
 *
 *	entry
 *
 * Prints lines 'WHAT,MEDIAN,LEAST,HZ': ticks of a counter of HZ that the VM sees pass during a call that the kernel answers ('kernel'), and
 * during a write that goes to the VMM ('VMM').
 */

#include <assert.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define RAM 0x40000000
#define NOWHERE 0x10000000
/* From the start of RAM */
#define TICKS 0x10000
#define SIZE 0x20000
#define TRIPS 501
static_assert(TICKS + 2 * TRIPS * 8 <= SIZE, "no room for the ticks");

#define STRING(x) #x
#define NUMBER(x) "#" STRING(x)

extern const char vm_start[], vm_end[];

/*
 * Runs at the start of RAM, without an MMU. Each write to NOWHERE goes to the VMM; that of a 1 says that all is done. The same
 * instructions stand between the two reads of the counter in both loops, but for the one that leaves.
 */
asm(".pushsection .rodata\n"
    ".globl vm_start, vm_end\n"
    "vm_start:\n"
    "mov x20, " NUMBER(NOWHERE) "\n"
    "mov x21, " NUMBER(RAM) "\n"
    "add x21, x21, " NUMBER(TICKS) "\n"
    "mov x22, " NUMBER(TRIPS) "\n"
    "1:\n"
    /* PSCI_VERSION, which changes nothing */
    "movz x0, #0x8400, lsl #16\n"
    "isb\n"
    "mrs x23, cntvct_el0\n"
    "isb\n"
    "hvc #0\n"
    "isb\n"
    "mrs x24, cntvct_el0\n"
    "sub x24, x24, x23\n"
    "str x24, [x21], #8\n"
    "subs x22, x22, #1\n"
    "b.ne 1b\n"
    "mov x22, " NUMBER(TRIPS) "\n"
    "2:\n"
    "isb\n"
    "mrs x23, cntvct_el0\n"
    "isb\n"
    "str wzr, [x20]\n"
    "isb\n"
    "mrs x24, cntvct_el0\n"
    "sub x24, x24, x23\n"
    "str x24, [x21], #8\n"
    "subs x22, x22, #1\n"
    "b.ne 2b\n"
    "mov w0, #1\n"
    "str w0, [x20]\n"
    "b .\n"
    "vm_end:\n"
    ".popsection\n");

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report(const char *what, uint64_t *took)
{
	uint64_t hz;

	asm volatile("mrs %0, cntfrq_el0" : "=r" (hz));
	qsort(took, TRIPS, sizeof(*took), by_size);
	printf("%s,%lu,%lu,%lu\n", what, took[TRIPS / 2], took[0], hz);
}

static int ioctl_or_fail(int fd, unsigned long request, const char *what, void *argument)
{
	int r = ioctl(fd, request, argument);

	if (r < 0)
		fail(what);
	return r;
}

int main(void)
{
	uint64_t pc = RAM;
	struct kvm_one_reg reg = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pc),
		.addr = (uintptr_t)&pc,
	};
	struct kvm_userspace_memory_region slot = { .guest_phys_addr = RAM, .memory_size = SIZE };
	struct kvm_vcpu_init init;
	struct kvm_run *run;
	int kvm, vm, vcpu, run_size;
	char *ram;

	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0)
		fail("entry: /dev/kvm");
	vm = ioctl_or_fail(kvm, KVM_CREATE_VM, "entry: KVM_CREATE_VM", NULL);
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		fail("entry: mmap");
	/* All of it is there. */
	memset(ram, 0, SIZE);
	memcpy(ram, vm_start, vm_end - vm_start);
	__builtin___clear_cache(ram, ram + (vm_end - vm_start));
	slot.userspace_addr = (uintptr_t)ram;
	ioctl_or_fail(vm, KVM_SET_USER_MEMORY_REGION, "entry: KVM_SET_USER_MEMORY_REGION", &slot);
	vcpu = ioctl_or_fail(vm, KVM_CREATE_VCPU, "entry: KVM_CREATE_VCPU", NULL);
	ioctl_or_fail(vm, KVM_ARM_PREFERRED_TARGET, "entry: KVM_ARM_PREFERRED_TARGET", &init);
	init.features[0] |= 1U << KVM_ARM_VCPU_PSCI_0_2;
	ioctl_or_fail(vcpu, KVM_ARM_VCPU_INIT, "entry: KVM_ARM_VCPU_INIT", &init);
	ioctl_or_fail(vcpu, KVM_SET_ONE_REG, "entry: KVM_SET_ONE_REG", &reg);
	run_size = ioctl_or_fail(kvm, KVM_GET_VCPU_MMAP_SIZE, "entry: KVM_GET_VCPU_MMAP_SIZE", NULL);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		fail("entry: mmap of a vCPU");

	do {
		ioctl_or_fail(vcpu, KVM_RUN, "entry: KVM_RUN", NULL);
		if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != NOWHERE || !run->mmio.is_write) {
			fprintf(stderr, "entry: an exit with reason %u\n", run->exit_reason);
			return 1;
		}
	} while (!run->mmio.data[0]);

	report("kernel", (uint64_t *)(ram + TICKS));
	report("VMM", (uint64_t *)(ram + TICKS) + TRIPS);
	return 0;
}
