// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE) in guests: the contract with
 * userspace, buffer management events and the interrupt.
 *
 * Locks, outermost first:
 *
 *   vcpu->mutex
 *     kvm->arch.config_lock		configuration: kvm->arch.spe, irq_num
 *       kvm_spus_lock			spe-host.c: the list of physical SPUs
 *       cpus_read_lock()		the static key of kvm_spe_init()
 *       mm->mmap_lock			charging RLIMIT_MEMLOCK
 *
 * Registers, owner and buffer state of a vCPU belong to the thread that has it
 * loaded; the owner changes with interrupts off, where the host's driver could
 * otherwise cut in (kvm_arm_spe_host_start()). Locks of the pinned buffer are
 * in spe-buffer.c.
 */

#include <linux/kvm_host.h>
#include <linux/perf_event.h>
#include <linux/uaccess.h>

#include <kvm/arm_arch_timer.h>
#include <kvm/arm_spe.h>
#include <kvm/arm_vgic.h>

#include <asm/kvm_emulate.h>
#include <asm/kvm_spe.h>
#include <asm/spe.h>

#include "trace.h"

/* PMBSR_EL1.FSC of an Alignment fault */
#define PMBSR_FSC_ALIGNMENT	0x21

/* A reason why a VM cannot have SPE, or NULL. */
static const char *kvm_spe_unsupported_reason(void)
{
	if (!is_kvm_arm_initialised())
		return "KVM is not initialised";

	if (is_protected_kvm_enabled())
		return "not supported in protected mode";

	/* The driver registers an SPU only if PMBIDR_EL1.P allows its use */
	if (!kvm_spe_have_spu())
		return "no SPU has been probed, or arm_spe_pmu is not loaded";

	return NULL;
}

/**
 * kvm_supports_guest_spe - can a VM made now use SPE?
 *
 * The answer depends on the system only, not on the CPU that asks.
 *
 * Context: process, may sleep.
 * Return: the answer to KVM_CAP_ARM_SPE. A 'no' is explained in the log, once.
 */
bool kvm_supports_guest_spe(void)
{
	const char *reason = kvm_spe_unsupported_reason();

	if (reason)
		pr_info_once("kvm [%i]: SPE is not available to guests: %s\n",
			     task_pid_nr(current), reason);

	return !reason;
}

/* --- Attributes ---------------------------------------------------------- */

static int kvm_spe_set_irq(struct kvm_vcpu *vcpu, int __user *uaddr)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_vcpu *other;
	unsigned long i;
	int irq;

	if (get_user(irq, uaddr))
		return -EFAULT;

	if (!irqchip_in_kernel(kvm) || !irq_is_ppi(kvm, irq))
		return -EINVAL;

	/* A PPI has the same number on every vCPU */
	kvm_for_each_vcpu(i, other, kvm) {
		if (other != vcpu && other->arch.spe.irq_num &&
		    other->arch.spe.irq_num != irq)
			return -EINVAL;
	}

	if (vcpu->arch.spe.irq_num)
		return -EBUSY;

	vcpu->arch.spe.irq_num = irq;
	return 0;
}

static int kvm_spe_set_spu(struct kvm_vcpu *vcpu, int __user *uaddr)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_arm_spu *spu, *assigned = kvm->arch.spe.spu;
	int type, ret;

	if (get_user(type, uaddr))
		return -EFAULT;

	spu = kvm_spe_get_spu(type);
	if (!spu)
		return -ENXIO;

	if (assigned) {
		ret = assigned == spu ? 0 : -EBUSY;
		goto out_put;
	}

	ret = kvm_arm_set_supported_cpus(kvm, kvm->arch.pmu_cpus, spu->cpus);
	if (ret)
		goto out_put;

	kvm_spe_set_id_regs(kvm, spu);
	return 0;

out_put:
	kvm_spe_put_spu(spu);
	return ret;
}

static int kvm_spe_set_max_buffer_size(struct kvm_vcpu *vcpu, u64 __user *uaddr)
{
	struct kvm_arch_spe *spe = &vcpu->kvm->arch.spe;
	u64 size, hw_max;
	u16 field;

	if (!spe->spu)
		return -ENODEV;

	if (get_user(size, uaddr))
		return -EFAULT;

	if (!PAGE_ALIGNED(size))
		return -EINVAL;

	if (spe_decode_max_buff_size(spe_encode_max_buff_size(size)) != size)
		return -EDOM;

	field = FIELD_GET(PMBIDR_EL1_MaxBuffSize, spe->spu->pmbidr);
	hw_max = spe_decode_max_buff_size(field);
	if (hw_max && (!size || size > hw_max))
		return -ERANGE;

	if (spe->max_buffer_size_set)
		return spe->max_buffer_size == size ? 0 : -EINVAL;

	spe->max_buffer_size = size;
	spe->max_buffer_size_set = true;
	kvm_spe_set_id_regs(vcpu->kvm, spe->spu);
	return 0;
}

static int kvm_spe_init(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	int ret;

	if (!spe->irq_num || !kvm->arch.spe.spu ||
	    !kvm->arch.spe.max_buffer_size_set)
		return -ENXIO;

	/* GICv5 gives the interrupt a number of its own; untested, so refused */
	if (!vgic_initialized(kvm) || vgic_is_v5(kvm))
		return -ENXIO;

	/* The timers claim theirs at the first KVM_RUN only, which would fail */
	if (spe->irq_num == timer_irq(vcpu_vtimer(vcpu)) ||
	    spe->irq_num == timer_irq(vcpu_ptimer(vcpu)))
		return -EEXIST;

	ret = kvm_vgic_set_owner(vcpu, spe->irq_num, spe);
	if (ret)
		return ret;

	ret = kvm_spe_pins_create(vcpu);
	if (ret)
		return ret;

	kvm_spe_sanitise_regs(vcpu);
	spe->pmsidr = kvm->arch.spe.pmsidr;
	spe->initialized = true;
	static_branch_inc(&kvm_spe_in_use);

	/* Registers may have been restored already */
	kvm_make_request(KVM_REQ_SPE, vcpu);
	return 0;
}

/*
 * The feature is the VM's from its first KVM_ARM_VCPU_INIT on. A vCPU has it when
 * it was initialised itself.
 */
static bool kvm_spe_vcpu_has_feature(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_initialized(vcpu) && vcpu_has_spe(vcpu);
}

/* What every attribute asks first, in the order of the contract. */
static int kvm_spe_check_vcpu(struct kvm_vcpu *vcpu)
{
	if (!kvm_supports_guest_spe())
		return -ENXIO;

	return kvm_spe_vcpu_has_feature(vcpu) ? 0 : -ENODEV;
}

/**
 * kvm_spe_set_attr - KVM_SET_DEVICE_ATTR of the group KVM_ARM_VCPU_SPE_CTRL
 * @vcpu: the vCPU
 * @attr: the attribute; its address points to user memory
 *
 * Context: process, may sleep; config_lock held.
 * Return: 0 or the errors of Documentation/virt/kvm/devices/vcpu.rst.
 */
int kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	void __user *uaddr = (void __user *)(long)attr->addr;
	int ret;

	lockdep_assert_held(&vcpu->kvm->arch.config_lock);

	ret = kvm_spe_check_vcpu(vcpu);
	if (ret)
		return ret;

	if (kvm_vm_has_ran_once(vcpu->kvm) || vcpu->arch.spe.initialized)
		return -EBUSY;

	switch (attr->attr) {
	case KVM_ARM_VCPU_SPE_IRQ:
		return kvm_spe_set_irq(vcpu, uaddr);
	case KVM_ARM_VCPU_SPE_SET_SPU:
		return kvm_spe_set_spu(vcpu, uaddr);
	case KVM_ARM_VCPU_MAX_BUFFER_SIZE:
		return kvm_spe_set_max_buffer_size(vcpu, uaddr);
	case KVM_ARM_VCPU_SPE_INIT:
		return kvm_spe_init(vcpu);
	}

	return -ENXIO;
}

/**
 * kvm_spe_get_attr - KVM_GET_DEVICE_ATTR of the group KVM_ARM_VCPU_SPE_CTRL
 * @vcpu: the vCPU
 * @attr: the attribute; its address points to user memory
 *
 * Context: process, may sleep; config_lock held.
 * Return: 0, -ENXIO if it has not been set, or as kvm_spe_set_attr().
 */
int kvm_spe_get_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	struct kvm_arch_spe *spe = &vcpu->kvm->arch.spe;
	void __user *uaddr = (void __user *)(long)attr->addr;
	int ret;

	lockdep_assert_held(&vcpu->kvm->arch.config_lock);

	ret = kvm_spe_check_vcpu(vcpu);
	if (ret)
		return ret;

	switch (attr->attr) {
	case KVM_ARM_VCPU_SPE_IRQ:
		if (!vcpu->arch.spe.irq_num)
			return -ENXIO;
		return put_user(vcpu->arch.spe.irq_num, (int __user *)uaddr);
	case KVM_ARM_VCPU_SPE_SET_SPU:
		if (!spe->spu)
			return -ENXIO;
		return put_user(spe->spu->pmu->type, (int __user *)uaddr);
	case KVM_ARM_VCPU_MAX_BUFFER_SIZE:
		if (!spe->max_buffer_size_set)
			return -ENXIO;
		return put_user(spe->max_buffer_size, (u64 __user *)uaddr);
	}

	return -ENXIO;
}

/**
 * kvm_spe_has_attr - KVM_HAS_DEVICE_ATTR of the group KVM_ARM_VCPU_SPE_CTRL
 * @vcpu: the vCPU
 * @attr: the attribute
 *
 * Return: 0 if the vCPU has the feature and the attribute exists, else -ENXIO.
 */
int kvm_spe_has_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	if (!kvm_spe_vcpu_has_feature(vcpu))
		return -ENXIO;

	switch (attr->attr) {
	case KVM_ARM_VCPU_SPE_IRQ:
	case KVM_ARM_VCPU_SPE_SET_SPU:
	case KVM_ARM_VCPU_MAX_BUFFER_SIZE:
	case KVM_ARM_VCPU_SPE_INIT:
		return 0;
	}

	return -ENXIO;
}

/**
 * kvm_spe_first_run - may this vCPU run?
 * @vcpu: the vCPU, about to run for the first time
 *
 * Return: 0, or -EINVAL if it has the feature and lacks KVM_ARM_VCPU_SPE_INIT.
 */
int kvm_spe_first_run(struct kvm_vcpu *vcpu)
{
	if (vcpu_has_spe(vcpu) && !vcpu->arch.spe.initialized)
		return -EINVAL;

	return 0;
}

/**
 * kvm_spe_vcpu_reset - the vCPU's registers have been reset
 * @vcpu: the vCPU; its own thread
 *
 * Context: process.
 */
void kvm_spe_vcpu_reset(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;

	if (!spe->initialized)
		return;

	spe->ready = false;
	spe->blocked = false;
	spe->ptr_written = false;
	spe->s2_fault = false;
	spe->s2_cut = false;
	spe->irq_known = false;
	spe->written_from = 0;
	spe->written_to = 0;
	kvm_spe_pins_drop(vcpu);
	kvm_make_request(KVM_REQ_SPE, vcpu);
}

/**
 * kvm_spe_vcpu_destroy - give back what the vCPU holds
 * @vcpu: the vCPU, which never runs again
 *
 * Context: process, may sleep.
 */
void kvm_spe_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	kvm_spe_pins_destroy(vcpu);

	if (vcpu->arch.spe.initialized) {
		vcpu->arch.spe.initialized = false;
		static_branch_dec(&kvm_spe_in_use);
	}
}

/**
 * kvm_spe_init_vm - prepare what every VM has
 * @kvm: the VM
 */
void kvm_spe_init_vm(struct kvm *kvm)
{
	spin_lock_init(&kvm->arch.spe.resize_lock);
}

/**
 * kvm_spe_destroy_vm - give back what the VM holds
 * @kvm: the VM; its vCPUs are gone
 */
void kvm_spe_destroy_vm(struct kvm *kvm)
{
	if (kvm->arch.spe.spu)
		kvm_spe_put_spu(kvm->arch.spe.spu);
}

/* --- Events and the interrupt -------------------------------------------- */

/*
 * PMBIRQ is a level that follows PMBSR_EL1.S alone (D17.8, I_GRLRX): not E,
 * nor whether the guest profiles.
 */
static void kvm_spe_update_irq(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	bool level = __vcpu_sys_reg(vcpu, PMBSR_EL1) & PMBSR_EL1_S;

	if (spe->irq_known && level == spe->irq_level)
		return;

	spe->irq_level = level;
	spe->irq_known = true;
	kvm_vgic_inject_irq(vcpu->kvm, vcpu, spe->irq_num, level, spe);
}

/* Record an event in the guest's PMBSR_EL1. */
static void kvm_spe_raise_event(struct kvm_vcpu *vcpu, u64 ec, u64 mss, u64 flags)
{
	u64 pmbsr = __vcpu_sys_reg(vcpu, PMBSR_EL1);

	__vcpu_assign_sys_reg(vcpu, PMBSR_EL1,
			      kvm_spe_pmbsr_event(pmbsr, ec, mss, flags));
	vcpu->arch.spe.ready = false;
}

/* Can another mapping help, or is it the memory itself? */
static bool kvm_spe_is_mapping_fault(u8 fsc)
{
	return fsc <= ESR_ELx_FSC_PERM_L(3);
}

/**
 * __kvm_spe_flush_hwstate - before the guest runs
 * @vcpu: the loaded vCPU
 *
 * Context: preemption off.
 */
void __kvm_spe_flush_hwstate(struct kvm_vcpu *vcpu)
{
	if (!vcpu->arch.spe.initialized)
		return;

	kvm_spe_update_irq(vcpu);
	vcpu->arch.spe.entry_ptr = __vcpu_sys_reg(vcpu, PMBPTR_EL1);
}

/* The dirty ring is to know what the SPU wrote, a record that was cut included. */
static void kvm_spe_note_written(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	u64 ptr = __vcpu_sys_reg(vcpu, PMBPTR_EL1);

	if (spe->hw_pmbsr & PMBSR_EL1_DL)
		ptr += BIT_ULL(FIELD_GET(PMSIDR_EL1_MAXSIZE_MASK, spe->pmsidr));

	if (ptr == spe->entry_ptr)
		return;

	spe->written_from = spe->entry_ptr;
	spe->written_to = ptr;
	kvm_make_request(KVM_REQ_SPE, vcpu);
}

/**
 * __kvm_spe_sync_hwstate - after the guest ran
 * @vcpu: the loaded vCPU
 *
 * Takes over what the SPU reported. A stage 2 fault is KVM's to mend and stays
 * hidden from the guest: KVM_REQ_SPE finds out what it is, before the guest can
 * execute another instruction or see a buffer register.
 *
 * Context: interrupts off.
 */
void __kvm_spe_sync_hwstate(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	bool cut;
	u64 hw;

	if (!spe->loaded)
		return;

	spe->loaded = false;
	hw = spe->hw_pmbsr;

	if (vcpu->kvm->dirty_ring_size &&
	    atomic_read(&vcpu->kvm->nr_memslots_dirty_logging))
		kvm_spe_note_written(vcpu);

	/*
	 * Loaded with the guest's value, but S=0 and DL=0, so that a record cut
	 * now can be told from one that the guest has not cleared yet.
	 */
	cut = hw & PMBSR_EL1_DL;
	hw |= __vcpu_sys_reg(vcpu, PMBSR_EL1) & PMBSR_EL1_DL;

	if (!(hw & PMBSR_EL1_S)) {
		__vcpu_assign_sys_reg(vcpu, PMBSR_EL1, hw);
		return;
	}

	host_data_set_flag(SPE_GUEST_EVENT);
	spe->ready = false;

	if (FIELD_GET(PMBSR_EL1_EC_MASK, hw) == PMBSR_EL1_EC_FAULT_S2) {
		vcpu->stat.spe_stage2_fault++;
		trace_kvm_spe_stage2_fault(vcpu->vcpu_id,
					   __vcpu_sys_reg(vcpu, PMBPTR_EL1));

		__vcpu_rmw_sys_reg(vcpu, PMBSR_EL1, |=,
				   hw & (PMBSR_EL1_COLL | PMBSR_EL1_EA));

		if (!kvm_spe_is_mapping_fault(FIELD_GET(PMBSR_EL1_FAULT_FSC_MASK, hw))) {
			kvm_spe_raise_event(vcpu, PMBSR_EL1_EC_BUF,
					    PMBSR_EL1_BUF_BSC_NOT_ALLOWED, PMBSR_EL1_DL);
		} else {
			spe->s2_fault = true;
			spe->s2_cut = cut;
			kvm_make_request(KVM_REQ_SPE, vcpu);
		}

		kvm_spe_update_irq(vcpu);
		return;
	}

	__vcpu_assign_sys_reg(vcpu, PMBSR_EL1, hw);

	/* The SPU was stopped short of a page that it must not write: row 5 */
	if (FIELD_GET(PMBSR_EL1_EC_MASK, hw) == PMBSR_EL1_EC_BUF &&
	    FIELD_GET(PMBSR_EL1_BUF_BSC_MASK, hw) == PMBSR_EL1_BUF_BSC_FULL &&
	    spe->hw_limit < (__vcpu_sys_reg(vcpu, PMBLIMITR_EL1) & PMBLIMITR_EL1_LIMIT_MASK))
		kvm_spe_raise_event(vcpu, PMBSR_EL1_EC_BUF,
				    PMBSR_EL1_BUF_BSC_NOT_ALLOWED, PMBSR_EL1_DL);

	kvm_spe_update_irq(vcpu);
}

/* What a request found out about the guest's buffer. */
struct kvm_spe_event {
	u64	ec;
	u64	mss;
	u64	flags;
};

/*
 * Rows 1 to 3 of the contract: the rules for enabling (D17.7.4, R_HXSYK), and
 * the VM's maximum. Row 2 comes first since LIMIT - PTR is a size only if PTR
 * is below LIMIT.
 */
static bool kvm_spe_check_buffer(struct kvm_vcpu *vcpu, u64 ptr, u64 limit,
				 struct kvm_spe_event *event)
{
	struct kvm_arch_spe *spe = &vcpu->kvm->arch.spe;
	u64 record = BIT_ULL(FIELD_GET(PMSIDR_EL1_MAXSIZE_MASK, spe->pmsidr));
	u64 align = BIT_ULL(FIELD_GET(PMBIDR_EL1_ALIGN_MASK, spe->pmbidr));

	*event = (struct kvm_spe_event){ .ec = PMBSR_EL1_EC_BUF };

	if ((ptr ^ limit) & GENMASK_ULL(63, 56) ||
	    ptr >= limit || limit - ptr < record) {
		event->mss = PMBSR_EL1_BUF_BSC_FULL;
		return false;
	}

	if (spe->max_buffer_size && limit - ptr > spe->max_buffer_size) {
		event->mss = PMBSR_EL1_BUF_BSC_SIZE;
		return false;
	}

	if (vcpu->arch.spe.ptr_written && !IS_ALIGNED(ptr, align)) {
		event->ec = PMBSR_EL1_EC_FAULT_S1;
		event->mss = PMBSR_FSC_ALIGNMENT;
		return false;
	}

	return true;
}

/*
 * Make the buffer ready, or say which event it is. Returns 1 with *event valid
 * if it is not, 0 if it is, or a negative error.
 *
 * Whatever a stage 2 fault turns out to be, the guest learns when it has cut a
 * record (R_YZJQX); if it is mended, by 'buffer full', since the SPU may not go
 * on behind half a record (D17.7.4).
 */
static int kvm_spe_prepare_buffer(struct kvm_vcpu *vcpu,
				  struct kvm_spe_event *event)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	u64 limit = __vcpu_sys_reg(vcpu, PMBLIMITR_EL1) & PMBLIMITR_EL1_LIMIT_MASK;
	u64 ptr = __vcpu_sys_reg(vcpu, PMBPTR_EL1);
	u64 cut = spe->s2_cut ? PMBSR_EL1_DL : 0;
	u8 fsc = 0;
	int ret;

	/*
	 * A stage 2 fault interrupted a buffer that had been checked, and the
	 * pointer may since have come too close to the end for the rules.
	 */
	if (!spe->s2_fault && !kvm_spe_check_buffer(vcpu, ptr, limit, event))
		return 1;

	ret = kvm_spe_pin_buffer(vcpu, ptr, limit, spe->s2_fault, &fsc);
	switch (ret) {
	case KVM_SPE_PIN_OK:
		*event = (struct kvm_spe_event){
			.ec	= PMBSR_EL1_EC_BUF,
			.mss	= PMBSR_EL1_BUF_BSC_FULL,
			.flags	= cut,
		};
		return !!cut;
	case KVM_SPE_PIN_TOO_LARGE:
		*event = (struct kvm_spe_event){
			.ec	= PMBSR_EL1_EC_BUF,
			.mss	= PMBSR_EL1_BUF_BSC_SIZE,
			.flags	= cut,
		};
		return 1;
	case KVM_SPE_PIN_NOT_ALLOWED:
		*event = (struct kvm_spe_event){
			.ec	= PMBSR_EL1_EC_BUF,
			.mss	= PMBSR_EL1_BUF_BSC_NOT_ALLOWED,
			.flags	= PMBSR_EL1_DL,
		};
		return 1;
	case KVM_SPE_PIN_TABLE_ABORT:
		*event = (struct kvm_spe_event){
			.ec	= PMBSR_EL1_EC_FAULT_S1,
			.mss	= fsc,
			.flags	= cut,
		};
		return 1;
	}

	return ret;
}

/* While blocked, the write of PMSCR_EL1 is the moment of the event. */
static void kvm_spe_set_blocked(struct kvm_vcpu *vcpu, bool blocked)
{
	vcpu->arch.spe.blocked = blocked;
	if (!blocked)
		return;

	guard(preempt)();
	scoped_guard(irqsave)
		kvm_spe_release(vcpu);
	kvm_arm_setup_mdcr_el2(vcpu);
}

/* The guest samples into a ready buffer: it must not wait for an access. */
static void kvm_spe_resume(struct kvm_vcpu *vcpu)
{
	guard(preempt)();
	scoped_guard(irqsave)
		kvm_spe_acquire(vcpu);
	kvm_arm_setup_mdcr_el2(vcpu);
}

/**
 * kvm_spe_handle_request - make the guest's buffer ready
 * @vcpu: the loaded vCPU, before it enters the guest
 *
 * Serves KVM_REQ_SPE: a buffer register was written, the vCPU was restored or
 * reset, the SPU met a stage 2 fault, or the host took pinned memory away.
 *
 * Context: process, preemptible, may sleep.
 * Return: 1 to go on, -EINTR with the request still pending when a signal came
 *	   first, or another error.
 */
int kvm_spe_handle_request(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	struct kvm_spe_event event;
	bool discard, faulted;
	u64 pmblimitr;
	int ret;

	if (!spe->initialized)
		return 1;

	spe->ready = false;
	kvm_spe_push_written(vcpu);

	if (!kvm_spe_buffer_enabled(vcpu)) {
		spe->s2_fault = false;
		spe->s2_cut = false;
		kvm_spe_set_blocked(vcpu, false);
		return 1;
	}

	pmblimitr = __vcpu_sys_reg(vcpu, PMBLIMITR_EL1);
	spe->hw_limit = pmblimitr & PMBLIMITR_EL1_LIMIT_MASK;

	/* Discard mode ignores the pointers and writes nothing (D17.5.5) */
	discard = FIELD_GET(PMBLIMITR_EL1_FM_MASK, pmblimitr) == PMBLIMITR_EL1_FM_DISCARD;
	ret = discard ? 0 : kvm_spe_prepare_buffer(vcpu, &event);

	if (ret < 0) {
		kvm_make_request(KVM_REQ_SPE, vcpu);
		/* The dirty ring is full, and has a request of its own */
		if (ret == -EBUSY)
			return 1;
		if (ret == -EINTR) {
			vcpu->run->exit_reason = KVM_EXIT_INTR;
			vcpu->stat.signal_exits++;
		}
		return ret;
	}

	faulted = spe->s2_fault;
	spe->s2_fault = false;
	spe->s2_cut = false;

	if (!ret) {
		spe->ready = true;
		if (!discard)
			spe->ptr_written = false;
		kvm_spe_set_blocked(vcpu, false);
		if (kvm_spe_sampling_enabled(vcpu))
			kvm_spe_resume(vcpu);
		return 1;
	}

	/*
	 * Rows 1 to 3 happen when profiling becomes enabled, not before; what
	 * the SPU met has happened.
	 */
	if (faulted || kvm_spe_sampling_enabled(vcpu)) {
		kvm_spe_set_blocked(vcpu, false);
		kvm_spe_raise_event(vcpu, event.ec, event.mss, event.flags);
		/* A vCPU that is suspended before it enters has to wake up */
		kvm_spe_update_irq(vcpu);
	} else {
		kvm_spe_set_blocked(vcpu, true);
	}

	return 1;
}
