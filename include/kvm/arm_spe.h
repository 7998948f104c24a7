/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * What the SPE driver (drivers/perf/arm_spe_pmu.c) tells KVM.
 */

#ifndef __ASM_ARM_KVM_SPE_H
#define __ASM_ARM_KVM_SPE_H

#include <linux/cpumask.h>
#include <linux/list.h>
#include <linux/types.h>

struct pmu;

/**
 * struct kvm_arm_spu - one physical SPU, as the driver probed it
 * @pmu:	the PMU that the driver registered with perf; its type is the
 *		name by which userspace assigns the SPU, its module is held
 *		while a VM has the SPU
 * @cpus:	the CPUs that have this SPU
 * @pmsidr:	PMSIDR_EL1
 * @pmbidr:	PMBIDR_EL1
 * @pmsevfr_mask: the bits of PMSEVFR_EL1 that are not RAZ/WI
 * @pmsver:	ID_AA64DFR0_EL1.PMSVer
 * @entry:	KVM's list
 */
struct kvm_arm_spu {
	struct pmu		*pmu;
	const cpumask_t		*cpus;
	u64			pmsidr;
	u64			pmbidr;
	u64			pmsevfr_mask;
	u8			pmsver;
	struct list_head	entry;
};

#ifdef CONFIG_KVM_ARM_SPE
void kvm_arm_spu_register(struct kvm_arm_spu *spu);
void kvm_arm_spu_unregister(struct kvm_arm_spu *spu);
void kvm_arm_spe_host_start(void);
void kvm_arm_spe_host_stop(void);
bool kvm_arm_spe_claim_irq(void);
#else
static inline void kvm_arm_spu_register(struct kvm_arm_spu *spu) {}
static inline void kvm_arm_spu_unregister(struct kvm_arm_spu *spu) {}
static inline void kvm_arm_spe_host_start(void) {}
static inline void kvm_arm_spe_host_stop(void) {}
static inline bool kvm_arm_spe_claim_irq(void) { return false; }
#endif

#endif /* __ASM_ARM_KVM_SPE_H */
