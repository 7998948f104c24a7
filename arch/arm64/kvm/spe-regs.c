// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE) in guests: the registers as the
 * guest and userspace see them, and who owns the physical ones.
 *
 * The buffer registers always trap and live in memory, since the virtual
 * interrupt follows PMBSR_EL1.S. The sampling registers trap until the guest's
 * first access, see enum vcpu_spe_owner. A trap only records what the guest
 * wrote: everything that takes time is left to KVM_REQ_SPE.
 */

#include <linux/kvm_host.h>

#include <kvm/arm_spe.h>

#include <asm/kvm_emulate.h>
#include <asm/kvm_spe.h>
#include <asm/spe.h>

#include "hyp/include/hyp/spe-sr.h"
#include "sys_regs.h"

/**
 * kvm_spe_set_id_regs - assign an SPU: what the guest can identify
 * @kvm: the VM; its maximum size may be set already
 * @spu: the SPU, the one that is assigned if there is one
 *
 * PMSIDR_EL1 is the SPU's own, since without FEAT_FGT the guest reads the
 * physical one as soon as it owns the sampling registers. Of PMBIDR_EL1, P and
 * AddrMode are 0: EL1 owns the buffer, by virtual addresses. PMSVer stops at
 * v1p4: of v1p5, FEAT_SPE_EXC and FEAT_SPE_nVM are not offered.
 *
 * Context: config_lock held, the VM has not run. Other threads may access the
 *	    registers of its vCPUs meanwhile.
 */
void kvm_spe_set_id_regs(struct kvm *kvm, struct kvm_arm_spu *spu)
{
	struct kvm_arch_spe *spe = &kvm->arch.spe;
	u64 pmbidr, val;

	lockdep_assert_held(&kvm->arch.config_lock);

	pmbidr = spu->pmbidr & (PMBIDR_EL1_MaxBuffSize |
				PMBIDR_EL1_EA_MASK |
				PMBIDR_EL1_F |
				PMBIDR_EL1_ALIGN_MASK);
	if (spe->max_buffer_size_set) {
		u16 field = spe_encode_max_buff_size(spe->max_buffer_size);

		pmbidr &= ~PMBIDR_EL1_MaxBuffSize;
		pmbidr |= FIELD_PREP(PMBIDR_EL1_MaxBuffSize, field);
	}

	WRITE_ONCE(spe->pmsidr, spu->pmsidr);
	WRITE_ONCE(spe->pmbidr, pmbidr);
	spe->pmsver = min_t(u8, spu->pmsver, ID_AA64DFR0_EL1_PMSVer_V1P4);

	val = kvm_read_vm_id_reg(kvm, SYS_ID_AA64DFR0_EL1);
	val &= ~ID_AA64DFR0_EL1_PMSVer_MASK;
	val |= SYS_FIELD_PREP(ID_AA64DFR0_EL1, PMSVer, spe->pmsver);
	kvm_set_vm_id_reg(kvm, SYS_ID_AA64DFR0_EL1, val);

	/* Pairs with kvm_spe_reg_mask(): who sees the SPU sees what it implies */
	smp_store_release(&spe->spu, spu);
}

/* Bits that the guest's version and PMSIDR_EL1 define; the others are RES0. */
static u64 kvm_spe_reg_mask(const struct kvm *kvm, int reg)
{
	const struct kvm_arch_spe *spe = &kvm->arch.spe;
	/* Pairs with kvm_spe_set_id_regs() */
	const struct kvm_arm_spu *spu = smp_load_acquire(&spe->spu);
	u64 mask;

	/* Nothing is known yet; userspace restores what it saved from a VM */
	if (!spu)
		return U64_MAX;

	switch (reg) {
	case PMSCR_EL1:
		return KVM_SPE_PMSCR_MASK;
	case PMSICR_EL1:
		mask = PMSICR_EL1_COUNT_MASK;
		if (spe->pmsidr & PMSIDR_EL1_ERND)
			mask |= PMSICR_EL1_ECOUNT_MASK;
		return mask;
	case PMSIRR_EL1:
		return PMSIRR_EL1_INTERVAL_MASK | PMSIRR_EL1_RND;
	case PMSFCR_EL1:
		mask = PMSFCR_EL1_FE | PMSFCR_EL1_FT | PMSFCR_EL1_FL |
		       PMSFCR_EL1_B | PMSFCR_EL1_LD | PMSFCR_EL1_ST;
		if (spe->pmsidr & PMSIDR_EL1_FnE)
			mask |= PMSFCR_EL1_FnE;
		if (spe->pmsidr & PMSIDR_EL1_FDS)
			mask |= PMSFCR_EL1_FDS;
		if (spe->pmsidr & PMSIDR_EL1_EFT)
			mask |= PMSFCR_EL1_FP | PMSFCR_EL1_SIMD |
				PMSFCR_EL1_Bm | PMSFCR_EL1_LDm |
				PMSFCR_EL1_STm | PMSFCR_EL1_FPm |
				PMSFCR_EL1_SIMDm;
		return mask;
	case PMSEVFR_EL1:
	case PMSNEVFR_EL1:
		return spu->pmsevfr_mask;
	case PMSLATFR_EL1:
		/* A 12-bit counter never reaches more */
		if (FIELD_GET(PMSIDR_EL1_COUNTSIZE, spe->pmsidr) ==
		    PMSIDR_EL1_COUNTSIZE_12_BIT_SAT)
			return GENMASK_ULL(11, 0);
		return PMSLATFR_EL1_MINLAT_MASK;
	case PMBLIMITR_EL1:
		mask = PMBLIMITR_EL1_LIMIT_MASK | PMBLIMITR_EL1_E;
		if (spe->pmsver >= ID_AA64DFR0_EL1_PMSVer_V1P2)
			mask |= PMBLIMITR_EL1_FM_MASK | PMBLIMITR_EL1_PMFZ;
		return mask;
	case PMBSR_EL1:
		return PMBSR_EL1_EC_MASK | PMBSR_EL1_DL | PMBSR_EL1_EA |
		       PMBSR_EL1_S | PMBSR_EL1_COLL | PMBSR_EL1_MSS_MASK |
		       PMBSR_EL1_MSS2_MASK;
	default:
		return U64_MAX;
	}
}

/* --- Owner of the sampling registers ------------------------------------- */

/**
 * kvm_spe_acquire - let the guest access the sampling registers
 * @vcpu: the vCPU, loaded or being loaded
 *
 * Context: interrupts off. Followed by kvm_arm_setup_mdcr_el2().
 */
void kvm_spe_acquire(struct kvm_vcpu *vcpu)
{
	lockdep_assert_irqs_disabled();

	if (vcpu->arch.spe.owner != VCPU_SPE_FREE)
		return;

	/* A CPU without the SPU: KVM_RUN fails, its registers may not exist */
	if (!cpumask_test_cpu(smp_processor_id(), vcpu->kvm->arch.supported_cpus))
		return;

	if (host_data_test_flag(SPE_HOST_SESSION)) {
		vcpu->arch.spe.owner = VCPU_SPE_SHARED;
	} else {
		__spe_load_guest_sampling(vcpu);
		vcpu->arch.spe.owner = VCPU_SPE_GUEST;
	}
}

/**
 * kvm_spe_release - bring the guest's sampling registers to memory
 * @vcpu: the vCPU, loaded or being put
 *
 * Context: interrupts off. Followed by kvm_arm_setup_mdcr_el2(), unless the
 *	    vCPU is being put.
 */
void kvm_spe_release(struct kvm_vcpu *vcpu)
{
	lockdep_assert_irqs_disabled();

	if (vcpu->arch.spe.owner == VCPU_SPE_GUEST)
		__spe_save_guest_sampling(vcpu);

	vcpu->arch.spe.owner = VCPU_SPE_FREE;
}

/**
 * kvm_spe_sampling_enabled - does PMSCR_EL1 let EL1 or EL0 be sampled?
 * @vcpu: the vCPU, by its own thread
 */
bool kvm_spe_sampling_enabled(struct kvm_vcpu *vcpu)
{
	u64 pmscr;

	scoped_guard(irqsave) {
		if (vcpu->arch.spe.owner == VCPU_SPE_GUEST)
			pmscr = read_sysreg_el1(SYS_PMSCR);
		else
			pmscr = __vcpu_sys_reg(vcpu, PMSCR_EL1);
	}

	return pmscr & (PMSCR_EL1_E0SPE | PMSCR_EL1_E1SPE);
}

/**
 * kvm_spe_buffer_enabled - is the guest's buffer enabled and not stopped?
 * @vcpu: the vCPU, by its own thread
 */
bool kvm_spe_buffer_enabled(struct kvm_vcpu *vcpu)
{
	return (__vcpu_sys_reg(vcpu, PMBLIMITR_EL1) & PMBLIMITR_EL1_E) &&
	       !(__vcpu_sys_reg(vcpu, PMBSR_EL1) & PMBSR_EL1_S);
}

/**
 * __kvm_spe_vcpu_load - the vCPU comes to this CPU
 * @vcpu: the vCPU; its MDCR_EL2 is set up afterwards
 *
 * A guest that was profiling goes on without touching a register, so its
 * registers are loaded now; every other waits for the first access.
 *
 * Context: preemption off.
 */
void __kvm_spe_vcpu_load(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;

	if (!spe->initialized || !vcpu->wants_to_run || spe->blocked ||
	    !kvm_spe_buffer_enabled(vcpu) ||
	    !kvm_spe_sampling_enabled(vcpu))
		return;

	scoped_guard(irqsave)
		kvm_spe_acquire(vcpu);
}

/**
 * __kvm_spe_vcpu_put - the vCPU leaves this CPU
 * @vcpu: the vCPU
 *
 * Context: preemption off.
 */
void __kvm_spe_vcpu_put(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.spe.owner == VCPU_SPE_FREE)
		return;

	scoped_guard(irqsave)
		kvm_spe_release(vcpu);
}

/**
 * kvm_spe_sanitise_regs - drop RES0 bits of what was restored too early
 * @vcpu: the vCPU; its VM has an SPU now
 *
 * Context: config_lock held, the VM has not run.
 */
void kvm_spe_sanitise_regs(struct kvm_vcpu *vcpu)
{
	for (int reg = PMSCR_EL1; reg <= PMBSR_EL1; reg++)
		__vcpu_rmw_sys_reg(vcpu, reg, &=, kvm_spe_reg_mask(vcpu->kvm, reg));
}

/* --- Accesses by the guest and by userspace ------------------------------ */

/**
 * kvm_spe_access_sampling - the guest accesses a sampling register
 * @vcpu: the loaded vCPU
 * @p: the access
 * @r: the register's descriptor
 *
 * The access traps since the guest does not own the registers. It does from
 * here on, unless the buffer is so wrong that the write which enables
 * profiling has to be seen.
 *
 * Return: true: the instruction is done.
 */
bool kvm_spe_access_sampling(struct kvm_vcpu *vcpu, struct sys_reg_params *p,
			     const struct sys_reg_desc *r)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	u64 val;

	/*
	 * Preempted after the trap, the vCPU may come back with its registers
	 * loaded if it profiles.
	 */
	guard(preempt)();
	scoped_guard(irqsave) {
		kvm_spe_release(vcpu);

		if (p->is_write) {
			val = p->regval & kvm_spe_reg_mask(vcpu->kvm, r->reg);
			__vcpu_assign_sys_reg(vcpu, r->reg, val);
		} else {
			p->regval = __vcpu_sys_reg(vcpu, r->reg);
		}

		if (!spe->blocked)
			kvm_spe_acquire(vcpu);
	}
	kvm_arm_setup_mdcr_el2(vcpu);

	if (spe->blocked && p->is_write && r->reg == PMSCR_EL1)
		kvm_make_request(KVM_REQ_SPE, vcpu);

	return true;
}

/**
 * kvm_spe_access_buffer - the guest accesses PMBLIMITR_EL1, PMBPTR_EL1 or PMBSR_EL1
 * @vcpu: the loaded vCPU
 * @p: the access
 * @r: the register's descriptor
 *
 * Writes with E=1 are honoured: Linux rearms the buffer that way and clears
 * PMBSR_EL1 last.
 *
 * Return: true: the instruction is done; false: it is to be executed again.
 */
bool kvm_spe_access_buffer(struct kvm_vcpu *vcpu, struct sys_reg_params *p,
			   const struct sys_reg_desc *r)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;

	/*
	 * The SPU has met a stage 2 fault before this instruction. KVM_REQ_SPE
	 * decides whether it is an event for the guest, and which.
	 */
	if (spe->s2_fault)
		return false;

	if (!p->is_write) {
		p->regval = __vcpu_sys_reg(vcpu, r->reg);
		return true;
	}

	__vcpu_assign_sys_reg(vcpu, r->reg,
			      p->regval & kvm_spe_reg_mask(vcpu->kvm, r->reg));

	/* The rule on alignment is for a pointer that software made (D17.7.4) */
	if (r->reg == PMBPTR_EL1)
		spe->ptr_written = true;

	spe->ready = false;
	kvm_make_request(KVM_REQ_SPE, vcpu);
	return true;
}

/**
 * kvm_spe_access_id - the guest reads PMSIDR_EL1 or PMBIDR_EL1
 * @vcpu: the loaded vCPU
 * @p: the access
 * @r: the register's descriptor
 *
 * Return: true: the instruction is done. A write is UNDEFINED.
 */
bool kvm_spe_access_id(struct kvm_vcpu *vcpu, struct sys_reg_params *p,
		       const struct sys_reg_desc *r)
{
	if (p->is_write) {
		kvm_inject_undefined(vcpu);
		return false;
	}

	return !kvm_spe_get_id(vcpu, r, &p->regval);
}

/**
 * kvm_spe_get_id - the VM's PMSIDR_EL1 or PMBIDR_EL1
 * @vcpu: a vCPU with SPE
 * @r: the register's descriptor
 * @val: where it goes; 0 before the SPU is assigned
 *
 * Return: 0.
 */
int kvm_spe_get_id(struct kvm_vcpu *vcpu, const struct sys_reg_desc *r, u64 *val)
{
	struct kvm_arch_spe *spe = &vcpu->kvm->arch.spe;

	if (reg_to_encoding(r) == SYS_PMSIDR_EL1)
		*val = READ_ONCE(spe->pmsidr);
	else
		*val = READ_ONCE(spe->pmbidr);
	return 0;
}

/**
 * kvm_spe_set_id - userspace restores PMSIDR_EL1 or PMBIDR_EL1
 * @vcpu: a vCPU with SPE
 * @r: the register's descriptor
 * @val: must be the VM's own value: both sides of a migration need the same
 *	 SPU, alignment and size
 *
 * Return: 0, or -EINVAL for any other value.
 */
int kvm_spe_set_id(struct kvm_vcpu *vcpu, const struct sys_reg_desc *r, u64 val)
{
	u64 own;

	kvm_spe_get_id(vcpu, r, &own);
	return val == own ? 0 : -EINVAL;
}

/**
 * kvm_spe_pmbsr_event - PMBSR_EL1 with an event
 * @pmbsr: PMBSR_EL1 before; what the event does not set it keeps (D17.8)
 * @ec: PMBSR_EL1.EC
 * @mss: PMBSR_EL1.MSS
 * @flags: PMBSR_EL1_DL or 0
 */
u64 kvm_spe_pmbsr_event(u64 pmbsr, u64 ec, u64 mss, u64 flags)
{
	pmbsr &= ~(PMBSR_EL1_EC_MASK | PMBSR_EL1_MSS_MASK | PMBSR_EL1_MSS2_MASK);

	return pmbsr | FIELD_PREP(PMBSR_EL1_EC_MASK, ec) |
	       FIELD_PREP(PMBSR_EL1_MSS_MASK, mss) |
	       PMBSR_EL1_S | flags;
}

/**
 * kvm_spe_get_reg - userspace saves a register
 * @vcpu: a vCPU with SPE, not running
 * @r: the register's descriptor
 * @val: where it goes
 *
 * A stage 2 fault that has not been looked at stays behind when the vCPU is
 * saved: where it is restored, its buffer is made ready from PMBPTR_EL1 on. Half
 * a record before that would not be noticed, so the saved state says so.
 *
 * Return: 0.
 */
int kvm_spe_get_reg(struct kvm_vcpu *vcpu, const struct sys_reg_desc *r, u64 *val)
{
	*val = __vcpu_sys_reg(vcpu, r->reg);

	if (r->reg == PMBSR_EL1 && vcpu->arch.spe.s2_cut)
		*val = kvm_spe_pmbsr_event(*val, PMBSR_EL1_EC_BUF,
					   PMBSR_EL1_BUF_BSC_FULL, PMBSR_EL1_DL);
	return 0;
}

/**
 * kvm_spe_set_reg - userspace restores a register
 * @vcpu: a vCPU with SPE, not running
 * @r: the register's descriptor
 * @val: the value; RES0 bits are dropped
 *
 * Return: 0.
 */
int kvm_spe_set_reg(struct kvm_vcpu *vcpu, const struct sys_reg_desc *r, u64 val)
{
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;

	__vcpu_assign_sys_reg(vcpu, r->reg,
			      val & kvm_spe_reg_mask(vcpu->kvm, r->reg));

	/* The first KVM_RUN looks at the buffer as a whole. */
	spe->ready = false;
	spe->blocked = false;

	/* The two that say where the SPU is replace what it met there. */
	if (r->reg == PMBPTR_EL1 || r->reg == PMBSR_EL1) {
		spe->s2_fault = false;
		spe->s2_cut = false;
	}

	/*
	 * A pointer that is restored was made by the SPU, as far as the rule on
	 * alignment goes.
	 */
	if (r->reg == PMBPTR_EL1)
		spe->ptr_written = false;

	/* The VGIC may be restored to another level, before or after */
	if (r->reg == PMBSR_EL1)
		spe->irq_known = false;

	kvm_make_request(KVM_REQ_SPE, vcpu);
	return 0;
}

/**
 * kvm_spe_visibility - is the register there?
 * @vcpu: the vCPU
 * @r: the register's descriptor
 *
 * Return: REG_HIDDEN if not, or 0. PMSNEVFR_EL1 and PMSDSFR_EL1 depend on the
 *	   assigned SPU.
 */
unsigned int kvm_spe_visibility(const struct kvm_vcpu *vcpu,
				const struct sys_reg_desc *r)
{
	u64 pmsidr = READ_ONCE(vcpu->kvm->arch.spe.pmsidr);

	if (!vcpu_has_spe(vcpu))
		return REG_HIDDEN;

	switch (r->reg) {
	case PMSNEVFR_EL1:
		return pmsidr & PMSIDR_EL1_FnE ? 0 : REG_HIDDEN;
	case PMSDSFR_EL1:
		return pmsidr & PMSIDR_EL1_FDS ? 0 : REG_HIDDEN;
	default:
		return 0;
	}
}
