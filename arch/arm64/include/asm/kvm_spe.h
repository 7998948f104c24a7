/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE) in guests: what KVM's own files,
 * the hypervisor code included, need to know of each other.
 */

#ifndef __ARM64_KVM_SPE_H__
#define __ARM64_KVM_SPE_H__

#include <linux/bitfield.h>
#include <linux/jump_label.h>
#include <linux/kvm_types.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>

struct kvm;
struct kvm_arm_spu;
struct kvm_device_attr;
struct kvm_spe_pins;
struct kvm_vcpu;

/*
 * Who owns the sampling registers (PMSCR_EL1, PMSICR_EL1, ...) of the physical
 * CPU that the vCPU is loaded on. They exist once per CPU and the host's
 * driver uses them too:
 *
 *  - VCPU_SPE_FREE: the guest's values are in memory and its accesses trap.
 *    A vCPU that does not profile costs the host nothing.
 *
 *  - VCPU_SPE_GUEST: the host has no session on this CPU. The guest's values
 *    were loaded at its first access and stay until vcpu_put().
 *
 *  - VCPU_SPE_SHARED: the host has a session on this CPU. Host and guest are
 *    swapped at each entry and exit.
 */
enum vcpu_spe_owner {
	VCPU_SPE_FREE,
	VCPU_SPE_GUEST,
	VCPU_SPE_SHARED,
};

/*
 * Per VM. Written under config_lock before the first KVM_RUN, then constant, but
 * for the lock.
 */
struct kvm_arch_spe {
	/* The assigned physical SPU; its module is held while this is set */
	struct kvm_arm_spu	*spu;
	/* Bytes; 0: no limit */
	u64			max_buffer_size;
	bool			max_buffer_size_set;
	/* What the guest reads; 0 before the SPU is assigned */
	u64			pmsidr;
	u64			pmbidr;
	u8			pmsver;
	/*
	 * Inside mmu_lock: no page becomes pinned while a leaf of stage 2 that
	 * could map it is about to be replaced by one of another size
	 */
	spinlock_t		resize_lock;
};

/* Per vCPU. Written by the vCPU's own thread unless it says otherwise. */
struct kvm_vcpu_spe {
	int			irq_num;	/* 0: not set; a PPI otherwise */
	bool			initialized;	/* KVM_ARM_VCPU_SPE_INIT */
	bool			irq_level;	/* as last given to the vgic ... */
	bool			irq_known;	/* ... which still has it */
	enum vcpu_spe_owner	owner;		/* interrupts off to change */

	/* PMBPTR_EL1 was written by the guest since it last profiled (row 3) */
	bool			ptr_written;
	/* A check of the buffer failed while PMSCR_EL1 was 0: keep it trapped */
	bool			blocked;
	/* The buffer in memory has been checked and pinned: load it at entry */
	bool			ready;
	/* The switch has made EL1 the owner for this run of the guest ... */
	bool			switched;
	/* ... and has loaded the buffer */
	bool			loaded;
	/*
	 * The SPU met a stage 2 fault that KVM_REQ_SPE has yet to look at: the
	 * buffer registers hold what an SPU without stage 2 would not show
	 */
	bool			s2_fault;
	/* ... in the middle of a record */
	bool			s2_cut;
	/*
	 * What the switch loads as PMBLIMITR_EL1.LIMIT: the guest's, or the
	 * first page below it that the SPU must not write
	 */
	u64			hw_limit;
	/* PMBSR_EL1 as hardware left it at the last exit */
	u64			hw_pmbsr;
	/* PMSIDR_EL1 of the assigned SPU, where the hypervisor can read it */
	u64			pmsidr;

	/* Where stage 1 stopped KVM's walk, but not the SPU; U64_MAX: nowhere */
	u64			s1_stop;

	/* PMBPTR_EL1 at the last entry */
	u64			entry_ptr;
	/* What the SPU wrote to and the dirty ring has yet to know */
	u64			written_from;
	u64			written_to;

	/* spe-buffer.c: what is pinned; NULL before INIT */
	struct kvm_spe_pins	*pins;
};

/* The fields of PMSCR_EL1 that a guest knows of */
#define KVM_SPE_PMSCR_MASK						\
	(PMSCR_EL1_E0SPE | PMSCR_EL1_E1SPE | PMSCR_EL1_CX |		\
	 PMSCR_EL1_PA | PMSCR_EL1_TS | PMSCR_EL1_PCT_MASK)

/* The host's registers while a guest with SPE runs. */
struct kvm_spe_host_regs {
	u64	pmscr;		/* VHE: PMSCR_EL2 with the host's buffer */
	u64	pmscr_el1;	/* PMSCR_EL1, nVHE: of the host's session */
	u64	pmscr_el2;	/* PMSCR_EL2 just before the guest runs */
	u64	pmsicr;
	u64	pmsirr;
	u64	pmsfcr;
	u64	pmsevfr;
	u64	pmsnevfr;
	u64	pmslatfr;
	u64	pmsdsfr;
	u64	pmblimitr;
	u64	pmbptr;
	u64	pmbsr;
};

/* At least one vCPU with SPE exists: the switch has to look. */
DECLARE_STATIC_KEY_FALSE(kvm_spe_in_use);

/* Costs a VM without SPE nothing while no VM uses it. */
#define vcpu_spe_in_use(vcpu)						\
	(IS_ENABLED(CONFIG_KVM_ARM_SPE) &&				\
	 static_branch_unlikely(&kvm_spe_in_use) &&			\
	 (vcpu)->arch.spe.initialized)

#ifdef CONFIG_KVM_ARM_SPE

/* --- spe-host.c: what the host's driver tells KVM ------------------------- */

bool kvm_spe_have_spu(void);
struct kvm_arm_spu *kvm_spe_get_spu(int type);
void kvm_spe_put_spu(struct kvm_arm_spu *spu);

/* --- spe-regs.c: registers, owner of the sampling registers --------------- */

void kvm_spe_set_id_regs(struct kvm *kvm, struct kvm_arm_spu *spu);
void kvm_spe_acquire(struct kvm_vcpu *vcpu);
void kvm_spe_release(struct kvm_vcpu *vcpu);
bool kvm_spe_sampling_enabled(struct kvm_vcpu *vcpu);
bool kvm_spe_buffer_enabled(struct kvm_vcpu *vcpu);
void kvm_spe_sanitise_regs(struct kvm_vcpu *vcpu);
u64 kvm_spe_pmbsr_event(u64 pmbsr, u64 ec, u64 mss, u64 flags);
void __kvm_spe_vcpu_load(struct kvm_vcpu *vcpu);
void __kvm_spe_vcpu_put(struct kvm_vcpu *vcpu);

/* --- spe.c: contract, events, interrupt ----------------------------------- */

bool kvm_supports_guest_spe(void);
int kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int kvm_spe_get_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int kvm_spe_has_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int kvm_spe_first_run(struct kvm_vcpu *vcpu);
void kvm_spe_vcpu_reset(struct kvm_vcpu *vcpu);
void kvm_spe_vcpu_destroy(struct kvm_vcpu *vcpu);
void kvm_spe_init_vm(struct kvm *kvm);
void kvm_spe_destroy_vm(struct kvm *kvm);
void __kvm_spe_flush_hwstate(struct kvm_vcpu *vcpu);
void __kvm_spe_sync_hwstate(struct kvm_vcpu *vcpu);
int kvm_spe_handle_request(struct kvm_vcpu *vcpu);

/* --- spe-buffer.c: stage 1 walk, pins, stage 2 --------------------------- */

/* How far the guest's buffer could be made ready. */
enum kvm_spe_pin_result {
	/*
	 * Every page that the SPU can reach is pinned and mapped. Where stage 1
	 * ends (row 4), the SPU itself reports the fault on reaching it.
	 */
	KVM_SPE_PIN_OK,
	/* Row 1: more host pages than may be pinned, or no memory */
	KVM_SPE_PIN_TOO_LARGE,
	/* Row 5, and PMBPTR_EL1 already is in the page that cannot be pinned */
	KVM_SPE_PIN_NOT_ALLOWED,
	/* Row 6: a stage 1 table that translates PMBPTR_EL1 is outside RAM */
	KVM_SPE_PIN_TABLE_ABORT,
};

int kvm_spe_pins_create(struct kvm_vcpu *vcpu);
void kvm_spe_pins_destroy(struct kvm_vcpu *vcpu);
void kvm_spe_pins_drop(struct kvm_vcpu *vcpu);
int kvm_spe_pin_buffer(struct kvm_vcpu *vcpu, u64 ptr, u64 limit, bool fault,
		       u8 *fsc);
void kvm_spe_push_written(struct kvm_vcpu *vcpu);

void __kvm_spe_unmap_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end);
void __kvm_spe_wp_gfn_range(struct kvm *kvm, gfn_t start, gfn_t end);
bool __kvm_spe_gfn_range_pinned(struct kvm *kvm, gfn_t start, gfn_t end);
bool __kvm_spe_lock_resize(struct kvm *kvm);
void kvm_spe_unlock_resize(struct kvm *kvm);
void kvm_spe_flush_all(struct kvm *kvm);

/* --- What every VM passes: a static key while none uses SPE --------------- */

static inline void kvm_spe_vcpu_load(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_in_use))
		__kvm_spe_vcpu_load(vcpu);
}

static inline void kvm_spe_vcpu_put(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_in_use))
		__kvm_spe_vcpu_put(vcpu);
}

static inline void kvm_spe_flush_hwstate(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_in_use))
		__kvm_spe_flush_hwstate(vcpu);
}

static inline void kvm_spe_sync_hwstate(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_in_use))
		__kvm_spe_sync_hwstate(vcpu);
}

static inline void kvm_spe_unmap_gfn_range(struct kvm *kvm, gfn_t start,
					   gfn_t end)
{
	if (static_branch_unlikely(&kvm_spe_in_use))
		__kvm_spe_unmap_gfn_range(kvm, start, end);
}

static inline void kvm_spe_wp_gfn_range(struct kvm *kvm, gfn_t start,
					gfn_t end)
{
	if (static_branch_unlikely(&kvm_spe_in_use))
		__kvm_spe_wp_gfn_range(kvm, start, end);
}

static inline bool kvm_spe_gfn_range_pinned(struct kvm *kvm, gfn_t start,
					    gfn_t end)
{
	return static_branch_unlikely(&kvm_spe_in_use) &&
	       __kvm_spe_gfn_range_pinned(kvm, start, end);
}

static inline bool kvm_spe_lock_resize(struct kvm *kvm)
{
	return static_branch_unlikely(&kvm_spe_in_use) &&
	       __kvm_spe_lock_resize(kvm);
}

#else /* !CONFIG_KVM_ARM_SPE */

static inline bool kvm_spe_buffer_enabled(struct kvm_vcpu *vcpu) { return false; }
static inline bool kvm_supports_guest_spe(void) { return false; }

static inline int kvm_spe_set_attr(struct kvm_vcpu *vcpu,
				   struct kvm_device_attr *attr)
{
	return -ENXIO;
}

static inline int kvm_spe_get_attr(struct kvm_vcpu *vcpu,
				   struct kvm_device_attr *attr)
{
	return -ENXIO;
}

static inline int kvm_spe_has_attr(struct kvm_vcpu *vcpu,
				   struct kvm_device_attr *attr)
{
	return -ENXIO;
}

static inline int kvm_spe_first_run(struct kvm_vcpu *vcpu) { return 0; }
static inline void kvm_spe_vcpu_reset(struct kvm_vcpu *vcpu) {}
static inline void kvm_spe_vcpu_destroy(struct kvm_vcpu *vcpu) {}
static inline void kvm_spe_init_vm(struct kvm *kvm) {}
static inline void kvm_spe_destroy_vm(struct kvm *kvm) {}
static inline void kvm_spe_vcpu_load(struct kvm_vcpu *vcpu) {}
static inline void kvm_spe_vcpu_put(struct kvm_vcpu *vcpu) {}
static inline void kvm_spe_flush_hwstate(struct kvm_vcpu *vcpu) {}
static inline void kvm_spe_sync_hwstate(struct kvm_vcpu *vcpu) {}
static inline int kvm_spe_handle_request(struct kvm_vcpu *vcpu) { return 1; }

static inline void kvm_spe_unmap_gfn_range(struct kvm *kvm, gfn_t start,
					   gfn_t end) {}

static inline void kvm_spe_wp_gfn_range(struct kvm *kvm, gfn_t start,
					gfn_t end) {}

static inline bool kvm_spe_gfn_range_pinned(struct kvm *kvm, gfn_t start,
					    gfn_t end)
{
	return false;
}

static inline bool kvm_spe_lock_resize(struct kvm *kvm) { return false; }
static inline void kvm_spe_unlock_resize(struct kvm *kvm) {}
static inline void kvm_spe_flush_all(struct kvm *kvm) {}

#endif /* CONFIG_KVM_ARM_SPE */

#endif /* __ARM64_KVM_SPE_H__ */
