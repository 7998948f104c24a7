/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * Switching the Statistical Profiling Extension between host and guest, for
 * VHE and nVHE.
 *
 * The invariant: PMBLIMITR_EL1.E is 1 with EL1 as the owner only while
 * HCR_EL2.VM is 1 with the guest's VTTBR_EL2. The SPU writes records long after
 * the sampled instruction; one that drained later would skip stage 2 and take
 * a guest's address for a physical one. Hence the order:
 *
 *   entry  __spe_disable_host_buffer()	the host's buffer is drained and
 *					disabled under its own owner
 *	    stage 1, stage 2, HCR_EL2 of the guest
 *	    __spe_switch_to_guest()	owner EL1, pointers, enable
 *
 *   exit   __spe_switch_to_host()	drain, read back, disable
 *	    __deactivate_traps(), stage 1 of the host
 *	    __spe_enable_host_buffer()
 *
 * On nVHE the host's buffer is handled for every guest, with or without SPE,
 * by __debug_{save,restore}_host_buffers_nvhe() in the same two places.
 */

#ifndef __ARM64_KVM_HYP_SPE_SR_H__
#define __ARM64_KVM_HYP_SPE_SR_H__

#include <linux/bitfield.h>
#include <linux/kvm_host.h>

#include <asm/barrier.h>
#include <asm/kvm_asm.h>
#include <asm/kvm_emulate.h>
#include <asm/kvm_hyp.h>
#include <asm/kvm_spe.h>
#include <asm/sysreg.h>

/*
 * Sampling registers: PMSCR_EL1 decides whether anything happens, so it is
 * written last and cleared first. The caller is at EL2, or at EL1 with the
 * buffer disabled, where the counter does not move.
 */
static inline void __spe_save_guest_sampling(struct kvm_vcpu *vcpu)
{
	struct kvm_cpu_context *ctxt = &vcpu->arch.ctxt;
	u64 pmsidr = vcpu->arch.spe.pmsidr;

	/* What the guest does not know of, it can write, but to no effect */
	ctxt_sys_reg(ctxt, PMSCR_EL1) = read_sysreg_el1(SYS_PMSCR) & KVM_SPE_PMSCR_MASK;

	/*
	 * VHE: with the host as the owner of the buffer, a stale E1SPE would
	 * sample the next guest into the host's buffer. nVHE: it would sample
	 * the host itself, as soon as kvm_arm_spe_host_start() lets the driver
	 * enable its buffer; hence the ISB.
	 */
	write_sysreg_el1(0, SYS_PMSCR);
	isb();

	ctxt_sys_reg(ctxt, PMSICR_EL1) = read_sysreg_s(SYS_PMSICR_EL1);
	ctxt_sys_reg(ctxt, PMSIRR_EL1) = read_sysreg_s(SYS_PMSIRR_EL1);
	ctxt_sys_reg(ctxt, PMSFCR_EL1) = read_sysreg_s(SYS_PMSFCR_EL1);
	ctxt_sys_reg(ctxt, PMSEVFR_EL1) = read_sysreg_s(SYS_PMSEVFR_EL1);
	ctxt_sys_reg(ctxt, PMSLATFR_EL1) = read_sysreg_s(SYS_PMSLATFR_EL1);
	if (pmsidr & PMSIDR_EL1_FnE)
		ctxt_sys_reg(ctxt, PMSNEVFR_EL1) = read_sysreg_s(SYS_PMSNEVFR_EL1);
	if (pmsidr & PMSIDR_EL1_FDS)
		ctxt_sys_reg(ctxt, PMSDSFR_EL1) = read_sysreg_s(SYS_PMSDSFR_EL1);
}

static inline void __spe_load_guest_sampling(struct kvm_vcpu *vcpu)
{
	struct kvm_cpu_context *ctxt = &vcpu->arch.ctxt;
	u64 pmsidr = vcpu->arch.spe.pmsidr;

	write_sysreg_s(ctxt_sys_reg(ctxt, PMSICR_EL1), SYS_PMSICR_EL1);
	write_sysreg_s(ctxt_sys_reg(ctxt, PMSIRR_EL1), SYS_PMSIRR_EL1);
	write_sysreg_s(ctxt_sys_reg(ctxt, PMSFCR_EL1), SYS_PMSFCR_EL1);
	write_sysreg_s(ctxt_sys_reg(ctxt, PMSEVFR_EL1), SYS_PMSEVFR_EL1);
	write_sysreg_s(ctxt_sys_reg(ctxt, PMSLATFR_EL1), SYS_PMSLATFR_EL1);
	if (pmsidr & PMSIDR_EL1_FnE)
		write_sysreg_s(ctxt_sys_reg(ctxt, PMSNEVFR_EL1), SYS_PMSNEVFR_EL1);
	if (pmsidr & PMSIDR_EL1_FDS)
		write_sysreg_s(ctxt_sys_reg(ctxt, PMSDSFR_EL1), SYS_PMSDSFR_EL1);
	/* All take effect with the exception return: no sample before it */
	write_sysreg_el1(ctxt_sys_reg(ctxt, PMSCR_EL1), SYS_PMSCR);
}

/*
 * The host's own. Its PMSCR has been cleared with its buffer; nVHE hosts use
 * PMSCR_EL1, which the guest's value replaces meanwhile.
 */
static inline void __spe_save_host_sampling(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_host_regs *host = host_data_ptr(host_spe);
	u64 pmsidr = vcpu->arch.spe.pmsidr;

	host->pmscr_el1 = read_sysreg_el1(SYS_PMSCR);
	host->pmsicr = read_sysreg_s(SYS_PMSICR_EL1);
	host->pmsirr = read_sysreg_s(SYS_PMSIRR_EL1);
	host->pmsfcr = read_sysreg_s(SYS_PMSFCR_EL1);
	host->pmsevfr = read_sysreg_s(SYS_PMSEVFR_EL1);
	host->pmslatfr = read_sysreg_s(SYS_PMSLATFR_EL1);
	if (pmsidr & PMSIDR_EL1_FnE)
		host->pmsnevfr = read_sysreg_s(SYS_PMSNEVFR_EL1);
	if (pmsidr & PMSIDR_EL1_FDS)
		host->pmsdsfr = read_sysreg_s(SYS_PMSDSFR_EL1);
}

static inline void __spe_load_host_sampling(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_host_regs *host = host_data_ptr(host_spe);
	u64 pmsidr = vcpu->arch.spe.pmsidr;

	write_sysreg_s(host->pmsicr, SYS_PMSICR_EL1);
	write_sysreg_s(host->pmsirr, SYS_PMSIRR_EL1);
	write_sysreg_s(host->pmsfcr, SYS_PMSFCR_EL1);
	write_sysreg_s(host->pmsevfr, SYS_PMSEVFR_EL1);
	write_sysreg_s(host->pmslatfr, SYS_PMSLATFR_EL1);
	if (pmsidr & PMSIDR_EL1_FnE)
		write_sysreg_s(host->pmsnevfr, SYS_PMSNEVFR_EL1);
	if (pmsidr & PMSIDR_EL1_FDS)
		write_sysreg_s(host->pmsdsfr, SYS_PMSDSFR_EL1);
	write_sysreg_el1(host->pmscr_el1, SYS_PMSCR);
}

/*
 * VHE. The host samples itself at EL2 and EL0 by PMSCR_EL2, into a buffer of
 * its own regime: both have to be gone before the owner can become EL1. As on
 * nVHE, the hardware says whether the buffer is enabled.
 *
 * The owner of a guest that does not profile stays EL2, and its PMSCR_EL1 is 0:
 * such a guest is to the host's buffer what one without SPE is.
 */
static inline void __spe_disable_host_buffer_common(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_host_regs *host = host_data_ptr(host_spe);

	host->pmblimitr = 0;
	if (vcpu->arch.spe.owner == VCPU_SPE_FREE && cpus_have_final_cap(ARM64_HAS_FGT))
		return;

	host->pmblimitr = read_sysreg_s(SYS_PMBLIMITR_EL1);
	if (!(host->pmblimitr & PMBLIMITR_EL1_E))
		return;

	host->pmscr = read_sysreg_el2(SYS_PMSCR);
	write_sysreg_el2(0, SYS_PMSCR);
	/* No more samples after this ... */
	isb();

	/* ... and those that were taken are in memory after this (D17.9). */
	psb_csync();
	dsb(nsh);

	write_sysreg_s(0, SYS_PMBLIMITR_EL1);
	isb();
}

static inline void __spe_enable_host_buffer_common(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_host_regs *host = host_data_ptr(host_spe);

	if (!(host->pmblimitr & PMBLIMITR_EL1_E))
		return;

	/* The host's owner and regime have to be in place before the enable */
	isb();
	write_sysreg_s(host->pmblimitr, SYS_PMBLIMITR_EL1);
	isb();
	write_sysreg_el2(host->pmscr, SYS_PMSCR);
}

/*
 * The last thing before the guest runs: its stage 1, stage 2 and HCR_EL2 are
 * in place.
 */
static inline void __spe_switch_to_guest_common(struct kvm_vcpu *vcpu)
{
	struct kvm_spe_host_regs *host = host_data_ptr(host_spe);
	struct kvm_cpu_context *ctxt = &vcpu->arch.ctxt;
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;
	bool load;
	u64 limitr;

	/*
	 * Nothing to do as long as the guest does not profile, unless it could
	 * see the host's sampling registers (SHARED), or reads the physical
	 * PMBIDR_EL1 for lack of FEAT_FGT: its P bit is 0 only if EL1 owns the
	 * buffer.
	 */
	load = spe->ready && spe->owner != VCPU_SPE_FREE;
	if (!load && spe->owner != VCPU_SPE_SHARED &&
	    cpus_have_final_cap(ARM64_HAS_FGT))
		return;

	host->pmbsr = read_sysreg_s(SYS_PMBSR_EL1);
	if (host->pmbsr & PMBSR_EL1_S) {
		/*
		 * An event of the host's that it has yet to take: PMBIRQ is
		 * high and ends this run at once. Don't lose it.
		 */
		load = false;
	}

	write_sysreg(vcpu->arch.mdcr_el2 |
		     FIELD_PREP(MDCR_EL2_E2PB_MASK, MDCR_EL2_E2PB_EL1_TRAP),
		     mdcr_el2);
	spe->switched = true;

	/* No physical addresses or time, no CONTEXTIDR_EL2 for the guest */
	host->pmscr_el2 = read_sysreg_el2(SYS_PMSCR);
	write_sysreg_el2(0, SYS_PMSCR);

	if (spe->owner == VCPU_SPE_SHARED) {
		__spe_save_host_sampling(vcpu);
		__spe_load_guest_sampling(vcpu);
	}

	if (!load)
		return;

	host->pmbptr = read_sysreg_s(SYS_PMBPTR_EL1);

	/* Not PMFZ, which would freeze the counters of the host */
	limitr = ctxt_sys_reg(ctxt, PMBLIMITR_EL1) &
		 (PMBLIMITR_EL1_FM_MASK | PMBLIMITR_EL1_E);
	limitr |= spe->hw_limit & PMBLIMITR_EL1_LIMIT_MASK;

	write_sysreg_s(ctxt_sys_reg(ctxt, PMBPTR_EL1), SYS_PMBPTR_EL1);
	/* S is 0, or it would not be ready. DL: __kvm_spe_sync_hwstate() */
	write_sysreg_s(ctxt_sys_reg(ctxt, PMBSR_EL1) & ~PMBSR_EL1_DL, SYS_PMBSR_EL1);
	/*
	 * E=1 finds EL1 as the owner, the guest's regime, the pointer and S=0,
	 * not what the host left there.
	 */
	isb();
	write_sysreg_s(limitr, SYS_PMBLIMITR_EL1);
	spe->loaded = true;
}

/*
 * With PMBIDR_EL1.EA, an External abort on a write of the SPU's becomes an
 * SError. One that the guest's buffer has caused is the guest's, like one that
 * was pending when the guest exited: see __guest_exit().
 */
static inline void __spe_take_serror(struct kvm_vcpu *vcpu, u64 *exit_code)
{
	u64 disr;

	if (!cpus_have_final_cap(ARM64_HAS_RAS_EXTN))
		return;

	/* ESB */
	asm volatile("hint #16" : : : "memory");
	disr = read_sysreg_s(SYS_DISR_EL1);
	if (likely(!disr))
		return;

	write_sysreg_s(0, SYS_DISR_EL1);
	vcpu->arch.fault.disr_el1 = disr;

	/* As __fixup_guest_exit(): an HVC is executed again after the SError */
	if (!ARM_SERROR_PENDING(*exit_code) &&
	    ARM_EXCEPTION_CODE(*exit_code) == ARM_EXCEPTION_TRAP) {
		u8 ec = kvm_vcpu_trap_get_class(vcpu);

		if (ec == ESR_ELx_EC_HVC32 || ec == ESR_ELx_EC_HVC64)
			write_sysreg_el2(read_sysreg_el2(SYS_ELR) - 4, SYS_ELR);
	}
	*exit_code |= 1U << ARM_EXIT_WITH_SERROR_BIT;
}

/*
 * The first thing after the guest ran: its stage 1, stage 2 and HCR_EL2 are
 * still in place. The exception entry was the Context synchronization event
 * that PSB CSYNC wants. @exit_code is NULL on the way to a panic.
 */
static inline void __spe_switch_to_host_common(struct kvm_vcpu *vcpu, u64 *exit_code)
{
	struct kvm_spe_host_regs *host = host_data_ptr(host_spe);
	struct kvm_cpu_context *ctxt = &vcpu->arch.ctxt;
	struct kvm_vcpu_spe *spe = &vcpu->arch.spe;

	if (!spe->switched)
		return;

	if (spe->loaded) {
		psb_csync();
		dsb(nsh);
		/* See where the SPU stopped */
		isb();

		ctxt_sys_reg(ctxt, PMBPTR_EL1) = read_sysreg_s(SYS_PMBPTR_EL1);
		spe->hw_pmbsr = read_sysreg_s(SYS_PMBSR_EL1);

		write_sysreg_s(0, SYS_PMBLIMITR_EL1);
		/* S=0 and another pointer must not meet E=1 */
		isb();

		/*
		 * An event of the guest's must not reach the host as PMBIRQ:
		 * an ISB or an exception return comes before the host unmasks
		 * interrupts.
		 */
		write_sysreg_s(host->pmbsr, SYS_PMBSR_EL1);
		write_sysreg_s(host->pmbptr, SYS_PMBPTR_EL1);

		if (exit_code)
			__spe_take_serror(vcpu, exit_code);
	}

	if (spe->owner == VCPU_SPE_SHARED) {
		__spe_save_guest_sampling(vcpu);
		__spe_load_host_sampling(vcpu);
	}

	write_sysreg_el2(host->pmscr_el2, SYS_PMSCR);

	/*
	 * VHE: MDCR_EL2 stays as it is while the host runs, and the host's
	 * driver expects to own the buffer. nVHE restores it all in a moment.
	 */
	write_sysreg(vcpu->arch.mdcr_el2, mdcr_el2);
	spe->switched = false;
}

#endif /* __ARM64_KVM_HYP_SPE_SR_H__ */
