/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE): what its tests share. The host's
 * SPUs, KVM's attributes, the registers, the decoding of records, and how the
 * cases of a test are run.
 */
#ifndef SELFTEST_KVM_SPE_H
#define SELFTEST_KVM_SPE_H

#include <sched.h>

#include <linux/bitfield.h>
#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* The INTID that Arm's Base System Architecture recommends for PMBIRQ */
#define SPE_PPI			21

/* PMBSR_EL1.MSS: Arm ARM D24.7.5, Data Abort fault status codes */
#define SPE_FSC_TRANSLATION(level)	(0x04 + (level))
#define SPE_FSC_ACCESS(level)		(0x08 + (level))
#define SPE_FSC_PERMISSION(level)	(0x0c + (level))
#define SPE_FSC_EA_WALK(level)		(0x14 + (level))
#define SPE_FSC_ALIGNMENT		0x21

/* PMBSR_EL1 with an event */
#define SPE_PMBSR_BUF(bsc)	(PMBSR_EL1_S | (bsc))
#define SPE_PMBSR_S1(fsc)						\
	(PMBSR_EL1_S | FIELD_PREP(PMBSR_EL1_EC, PMBSR_EL1_EC_FAULT_S1) | (fsc))

static inline void psb_csync(void)
{
	asm volatile("hint #17" : : : "memory");
}

/* A physical SPU as perf shows it. */
struct spe_spu {
	char name[64];
	int type;
	cpu_set_t cpus;
	u64 max_buff_size;	/* bytes, 0: no limit */
};

#define SPE_MAX_SPUS		8

/* A core PMU of the host's. */
struct spe_pmu {
	int type;
	cpu_set_t cpus;
};

#define SPE_MAX_PMUS		8

enum spe_op {
	SPE_OP_NONE,
	SPE_OP_OTHER,
	SPE_OP_LOAD,
	SPE_OP_STORE,
	SPE_OP_BRANCH,
};

/* Events packet (D18.2.5) */
#define SPE_EVENT_EXCEPTION	BIT(0)

/* One record (Arm ARM D18.2), as much of it as the tests look at. */
struct spe_record {
	bool has_pc, has_va, has_pa, has_ts, has_events;
	bool has_ctx_el1, has_ctx_el2, has_target;
	u64 pc;			/* address bits [55:0] */
	u8 el;
	bool ns;
	u64 target;
	u64 va;			/* address bits [55:0] */
	u64 ts;
	u64 events;
	u32 ctx_el1, ctx_el2;
	enum spe_op op;
};

/* Found by spe_run_cases() */
extern struct spe_spu spe_spus[SPE_MAX_SPUS];
extern int spe_nr_spus;
extern bool spe_supported;	/* KVM_CAP_ARM_SPE */

/* perf's default for a privileged user, and the contract's advice */
#define SPE_DEFAULT_SIZE	SZ_4M

int spe_find_spus(struct spe_spu *spus, int max);
int spe_find_pmus(struct spe_pmu *pmus, int max);
u64 spe_valid_size(int spu);
int spe_next_record(const u8 *buf, size_t len, struct spe_record *rec);
u64 spe_size_of(u16 field);
bool spe_size_field(u64 size, u16 *field);

/* --- KVM ----------------------------------------------------------------- */

#define SPE_FEATURE		BIT(KVM_ARM_VCPU_HAS_SPE)
#define SPE_FEATURE_PMU		BIT(KVM_ARM_VCPU_PMU_V3)
#define SPE_BAD_ADDR		((void *)1)

const char *spe_errname(int err);

/* An ioctl's result is 0, or -1 with this errno; 0 stands for success. */
#define SPE_CHECK(call, err)						\
do {									\
	int __err = (err), __ret, __got;				\
									\
	errno = 0;							\
	__ret = (call);							\
	__got = __ret ? errno : 0;					\
	errno = 0;							\
	TEST_ASSERT(__got == __err && !__ret == !__err,			\
		    "%s: got %s, expected %s", #call,			\
		    __got ? spe_errname(__got) : "success",		\
		    __err ? spe_errname(__err) : "success");		\
} while (0)

#define SPE_OK(call)	SPE_CHECK(call, 0)

int spe_set_attr(struct kvm_vcpu *vcpu, u64 attr, void *addr);
int spe_get_attr(struct kvm_vcpu *vcpu, u64 attr, void *addr);
int spe_set_irq(struct kvm_vcpu *vcpu, int irq);
int spe_set_spu(struct kvm_vcpu *vcpu, int type);
int spe_set_pmu(struct kvm_vcpu *vcpu, int type);
int spe_set_size(struct kvm_vcpu *vcpu, u64 size);
int spe_init(struct kvm_vcpu *vcpu);
int spe_vcpu_init(struct kvm_vcpu *vcpu, u32 features);
int spe_gic_create(struct kvm_vm *vm, int nr_vcpus);
int spe_run_nothing(struct kvm_vcpu *vcpu);

/* A register as Arm ARM D24.7 defines it, up to v1p4 */
struct spe_reg_desc {
	const char *name;
	u32 sysreg;
	u64 rw;		/* bits that every implementation can write */
	u64 res0;	/* bits that no version defines */
	u64 other;	/* bits that depend on a feature other than SPE */
	u64 only_if;	/* bit in PMSIDR_EL1 */
	bool id;	/* read-only */
};

#define SPE_NR_REGS		13

extern const struct spe_reg_desc spe_regs[SPE_NR_REGS];

#define SPE_REG(r)		KVM_ARM64_SYS_REG(SYS_##r)

static inline u64 spe_reg_id(const struct spe_reg_desc *r)
{
	return KVM_ARM64_SYS_REG(r->sysreg);
}

/* --- Cases --------------------------------------------------------------- */

/* From the command line */
struct spe_options {
	int vcpus;
	int events;
	int create;
	int enables;
	int timeout;
};

extern struct spe_options spe_opt;

#define SPE_MAX_VCPUS		8

typedef void (*spe_case_fn)(const void *arg);

void spe_parse_options(int argc, char **argv);
void __printf(4, 5) spe_add_case(spe_case_fn fn, const void *arg, bool always,
				 const char *fmt, ...);
void __noreturn __printf(1, 2) spe_skip(const char *fmt, ...);
void __noreturn spe_run_cases(void);

bool spe_run_vcpu(struct kvm_vcpu *vcpu);

void spe_parse_cpulist(const char *list, cpu_set_t *cpus);
u64 spe_proc_value(const char *file, const char *key);
u64 spe_locked_bytes(void);
s64 spe_pins_outstanding(void);
int spe_klog_count(const char *what);

#endif /* SELFTEST_KVM_SPE_H */
