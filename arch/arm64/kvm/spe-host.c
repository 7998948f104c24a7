// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE) in guests: what the host's driver
 * (drivers/perf/arm_spe_pmu.c) tells KVM. The physical SPUs that it probed, its
 * own sessions, and interrupts that it cannot explain.
 */

#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/perf_event.h>

#include <kvm/arm_spe.h>

#include <asm/kvm_spe.h>

#include "hyp/include/hyp/spe-sr.h"

DEFINE_STATIC_KEY_FALSE(kvm_spe_in_use);

static LIST_HEAD(kvm_spus);
static DEFINE_MUTEX(kvm_spus_lock);

/* --- Physical SPUs ------------------------------------------------------- */

/**
 * kvm_arm_spu_register - tell KVM of a physical SPU
 * @spu: what the driver probed; stays valid until kvm_arm_spu_unregister()
 *
 * Context: process, may sleep. The PMU must be registered with perf before.
 */
void kvm_arm_spu_register(struct kvm_arm_spu *spu)
{
	guard(mutex)(&kvm_spus_lock);
	list_add_tail(&spu->entry, &kvm_spus);
}
EXPORT_SYMBOL_GPL(kvm_arm_spu_register);

/**
 * kvm_arm_spu_unregister - the driver is about to go
 * @spu: as given to kvm_arm_spu_register()
 *
 * No VM has the SPU assigned: each of them holds the driver's module, and the
 * driver cannot be unbound without it.
 *
 * Context: process, may sleep.
 */
void kvm_arm_spu_unregister(struct kvm_arm_spu *spu)
{
	guard(mutex)(&kvm_spus_lock);
	list_del(&spu->entry);
}
EXPORT_SYMBOL_GPL(kvm_arm_spu_unregister);

/**
 * kvm_spe_have_spu - has the driver probed a physical SPU?
 *
 * Context: process, may sleep.
 */
bool kvm_spe_have_spu(void)
{
	guard(mutex)(&kvm_spus_lock);
	return !list_empty(&kvm_spus);
}

/**
 * kvm_spe_get_spu - find a physical SPU, and hold its driver's module
 * @type: the perf type of its PMU
 *
 * Context: process, may sleep.
 * Return: the SPU, for kvm_spe_put_spu(); NULL if there is none, or if its
 *	   module is on its way out.
 */
struct kvm_arm_spu *kvm_spe_get_spu(int type)
{
	struct kvm_arm_spu *spu;

	guard(mutex)(&kvm_spus_lock);
	list_for_each_entry(spu, &kvm_spus, entry) {
		if (spu->pmu->type == type)
			return try_module_get(spu->pmu->module) ? spu : NULL;
	}

	return NULL;
}

/**
 * kvm_spe_put_spu - undo kvm_spe_get_spu()
 * @spu: the SPU
 */
void kvm_spe_put_spu(struct kvm_arm_spu *spu)
{
	module_put(spu->pmu->module);
}

/* --- The host's sessions and interrupts ---------------------------------- */

/**
 * kvm_arm_spe_host_start - the driver is about to program this CPU's SPU
 *
 * From here until kvm_arm_spe_host_stop() KVM keeps the host's registers apart
 * from a guest's. A guest's values that are loaded are saved first.
 *
 * Context: interrupts off.
 */
void kvm_arm_spe_host_start(void)
{
	struct kvm_vcpu *vcpu;

	lockdep_assert_irqs_disabled();

	if (!is_kvm_arm_initialised() || is_protected_kvm_enabled())
		return;

	vcpu = kvm_get_running_vcpu();
	if (vcpu && vcpu_spe_in_use(vcpu) &&
	    vcpu->arch.spe.owner == VCPU_SPE_GUEST) {
		__spe_save_guest_sampling(vcpu);
		vcpu->arch.spe.owner = VCPU_SPE_SHARED;
	}

	host_data_set_flag(SPE_HOST_SESSION);
}
EXPORT_SYMBOL_GPL(kvm_arm_spe_host_start);

/**
 * kvm_arm_spe_host_stop - the driver has drained and disabled this CPU's SPU
 *
 * Context: interrupts off.
 */
void kvm_arm_spe_host_stop(void)
{
	lockdep_assert_irqs_disabled();

	if (!is_kvm_arm_initialised() || is_protected_kvm_enabled())
		return;

	host_data_clear_flag(SPE_HOST_SESSION);
}
EXPORT_SYMBOL_GPL(kvm_arm_spe_host_stop);

/**
 * kvm_arm_spe_claim_irq - was PMBIRQ raised by an event of a guest's?
 *
 * The switch clears PMBSR_EL1.S of the guest before interrupts are enabled.
 * An interrupt controller may deliver the interrupt all the same.
 *
 * Context: the driver's interrupt handler, when PMBSR_EL1.S is 0 or it has no
 *	    session.
 * Return: true if so.
 */
bool kvm_arm_spe_claim_irq(void)
{
	if (!is_kvm_arm_initialised() || is_protected_kvm_enabled())
		return false;

	if (!host_data_test_flag(SPE_GUEST_EVENT))
		return false;

	host_data_clear_flag(SPE_GUEST_EVENT);
	return true;
}
EXPORT_SYMBOL_GPL(kvm_arm_spe_claim_irq);
