/*
 * ARM KVM: the Statistical Profiling Extension of guests
 *
 * KVM gives a guest the SPU of the physical CPU. What is left to do here: to
 * name the SPU and the largest profiling buffer before anything reads the
 * vCPU's registers, to give it an interrupt once the GIC is there, and to say
 * in words what KVM says in errno. The registers, all that is to be migrated,
 * go through the cpreg list.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/resource.h>

#include <linux/kvm.h>

#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "cpu.h"
#include "kvm_arm.h"

#define SPE_SYSFS "/sys/bus/event_source/devices"
#define SPE_PREFIX "arm_spe_"

#define SPE_ID_AA64DFR0 ARM64_SYS_REG(3, 0, 0, 5, 0)
#define SPE_PMSIDR      ARM64_SYS_REG(3, 0, 9, 9, 7)
#define SPE_PMBIDR      ARM64_SYS_REG(3, 0, 9, 10, 7)

/* A vCPU with SPE has at most so many registers more than one without. */
#define SPE_REGS 13

typedef struct SPESpu {
    char *name;                 /* in sysfs; of a bare number, the number */
    int type;                   /* of the perf PMU */
} SPESpu;

/* The VM's SPU, once KVM has accepted it */
static const SPESpu *spe_spu;

/* --- SPUs in sysfs ------------------------------------------------------ */

/* A file of an SPU without its newline, or NULL. */
static char *spe_sysfs(const char *spu, const char *file)
{
    g_autofree char *path = g_build_filename(SPE_SYSFS, spu, file, NULL);
    char *text;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return NULL;
    }
    return g_strchomp(text);
}

static SPESpu *spe_spu_new(const char *name)
{
    g_autofree char *text = spe_sysfs(name, "type");
    SPESpu *spu;
    int type;

    if (!text || qemu_strtoi(text, NULL, 10, &type) < 0) {
        return NULL;
    }
    spu = g_new(SPESpu, 1);
    spu->name = g_strdup(name);
    spu->type = type;
    return spu;
}

/* arm_spe_2 comes before arm_spe_10. */
static gint spe_spu_compare(gconstpointer a, gconstpointer b)
{
    const SPESpu *const *x = a, *const *y = b;
    size_t lx = strlen((*x)->name), ly = strlen((*y)->name);

    return lx != ly ? (lx < ly ? -1 : 1) : strcmp((*x)->name, (*y)->name);
}

/* The SPUs of the host in the order of their names, read once. */
static const GPtrArray *spe_host_spus(void)
{
    static GPtrArray *spus;
    const char *name;
    GDir *dir;

    if (spus) {
        return spus;
    }
    spus = g_ptr_array_new();
    dir = g_dir_open(SPE_SYSFS, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        SPESpu *spu = g_str_has_prefix(name, SPE_PREFIX) ?
                      spe_spu_new(name) : NULL;

        if (spu) {
            g_ptr_array_add(spus, spu);
        }
    }
    if (dir) {
        g_dir_close(dir);
    }
    g_ptr_array_sort(spus, spe_spu_compare);
    return spus;
}

static char *spe_host_spu_names(void)
{
    const GPtrArray *spus = spe_host_spus();
    GString *names = g_string_new(NULL);

    for (unsigned i = 0; i < spus->len; i++) {
        const SPESpu *spu = g_ptr_array_index(spus, i);

        g_string_append_printf(names, "%s%s (type %d)", i ? ", " : "",
                               spu->name, spu->type);
    }
    return g_string_free(names, FALSE);
}

/* The SPU that spe-spu= names, by its name in sysfs or the type of its PMU. */
static const SPESpu *spe_named_spu(const char *which)
{
    const GPtrArray *spus = spe_host_spus();
    static SPESpu unknown;
    int type;

    if (qemu_strtoi(which, NULL, 10, &type) < 0) {
        type = -1;
    }
    for (unsigned i = 0; i < spus->len; i++) {
        const SPESpu *spu = g_ptr_array_index(spus, i);

        if (spu->type == type || !strcmp(spu->name, which)) {
            return spu;
        }
    }
    if (type < 0) {
        return NULL;
    }
    /* Without sysfs a number is all there is: KVM knows whether it is one. */
    g_free(unknown.name);
    unknown.name = g_strdup(which);
    unknown.type = type;
    return &unknown;
}

/* --- Properties --------------------------------------------------------- */

static const Property spe_kvm_properties[] = {
    DEFINE_PROP_BOOL("spe", ARMCPU, spe.enabled, false),
    DEFINE_PROP_SIZE("spe-max-buffer-size", ARMCPU, spe.max_buffer_size,
                     4 * MiB),
    DEFINE_PROP_STRING("spe-spu", ARMCPU, kvm_spe_spu),
};

void kvm_arm_spe_add_properties(Object *obj)
{
    for (size_t i = 0; i < ARRAY_SIZE(spe_kvm_properties); i++) {
        qdev_property_add_static(DEVICE(obj), &spe_kvm_properties[i]);
    }
    object_property_set_description(obj, "spe",
        "Set on to give the guest the Statistical Profiling Extension.");
    object_property_set_description(obj, "spe-max-buffer-size",
        "The largest profiling buffer of a vCPU, 0 for no limit "
        "(default 4 MiB).");
    object_property_set_description(obj, "spe-spu",
        "The SPU, by its name in " SPE_SYSFS " or its PMU type "
        "(default the first).");
}

void kvm_arm_spe_set_irq(ARMCPU *cpu, int irq)
{
    cpu->kvm_spe_irq = irq;
}

bool kvm_arm_spe_realize(ARMCPU *cpu, Error **errp)
{
    if (!cpu->spe.enabled) {
        return true;
    }
    if (!kvm_check_extension(kvm_state, KVM_CAP_ARM_SPE)) {
        error_setg(errp, "spe=on: KVM cannot give SPE to guests here");
        error_append_hint(errp, "The host's kernel log says why ('SPE is not "
                          "available to guests'). If it does not, the kernel "
                          "lacks CONFIG_KVM_ARM_SPE.\n");
        return false;
    }
    if (!arm_feature(&cpu->env, ARM_FEATURE_AARCH64)) {
        error_setg(errp, "spe=on needs aarch64=on");
        return false;
    }
    if (!kvm_irqchip_in_kernel()) {
        error_setg(errp, "spe=on needs KVM's own interrupt controller: "
                   "-machine kernel-irqchip=on");
        return false;
    }
    if (!cpu->kvm_spe_irq) {
        error_setg(errp, "spe=on: the machine '%s' has no interrupt for SPE: "
                   "use -machine virt",
                   MACHINE_GET_CLASS(qdev_get_machine())->name);
        return false;
    }
    if (cpu->kvm_spe_spu ? !spe_named_spu(cpu->kvm_spe_spu) :
                           !spe_host_spus()->len) {
        g_autofree char *names = spe_host_spu_names();

        error_setg(errp, "spe-spu=%s: there is no such SPU",
                   cpu->kvm_spe_spu ?: "");
        error_append_hint(errp, "SPUs in " SPE_SYSFS ": %s.\n",
                          *names ? names : "none (is sysfs mounted?)");
        return false;
    }
    return true;
}

/* --- What KVM says ------------------------------------------------------ */

static int spe_set_attr(ARMCPU *cpu, uint64_t attr, void *addr)
{
    struct kvm_device_attr a = {
        .group = KVM_ARM_VCPU_SPE_CTRL,
        .attr = attr,
        .addr = (uintptr_t)addr,
    };

    return kvm_vcpu_ioctl(CPU(cpu), KVM_SET_DEVICE_ATTR, &a);
}

/*
 * Host pages that KVM may pin for a buffer, which it charges to
 * RLIMIT_MEMLOCK: Documentation/virt/kvm/arm/spe.rst.
 */
static uint64_t spe_max_pages(uint64_t size)
{
    static const struct {
        unsigned shift;
        unsigned levels;
    } granules[] = {
        { 12, 5 }, { 14, 4 }, { 16, 3 },
    };
    unsigned page_shift = ctz64(qemu_real_host_page_size());
    uint64_t tables = 0;

    for (size_t i = 0; i < ARRAY_SIZE(granules); i++) {
        unsigned shift = granules[i].shift;
        uint64_t n = 0;

        for (unsigned level = 0; level < granules[i].levels; level++) {
            unsigned span = shift + level * (shift - 3) +
                            MIN(shift, page_shift) - 3;

            n += 2 + ((size - 1) >> span);
        }
        tables = MAX(tables, n);
    }
    return (size >> page_shift) + 1 + tables;
}

/* The largest size that PMBIDR_EL1.MaxBuffSize has, from SIZE down. */
static uint64_t spe_expressible(uint64_t size)
{
    unsigned unit = size < 2 * MiB ? 12 : 63 - clz64(size) - 9;

    return size >> unit << unit;
}

static void spe_report_size(uint64_t size, int err)
{
    g_autofree char *max = spe_sysfs(spe_spu->name, "caps/max_buff_size");
    uint64_t page = qemu_real_host_page_size();
    uint64_t limit = 0;

    if (max) {
        qemu_strtou64(max, NULL, 0, &limit);
    }
    switch (err) {
    case -ERANGE:
        if (limit) {
            error_report("spe-max-buffer-size=%" PRIu64 ": the SPU %s allows "
                         "at most %" PRIu64 " bytes%s", size, spe_spu->name,
                         limit, size ? "" : ", so there must be a limit");
        } else {
            error_report("spe-max-buffer-size=%" PRIu64 ": the SPU %s allows "
                         "less; see " SPE_SYSFS "/%s/caps/max_buff_size",
                         size, spe_spu->name, spe_spu->name);
        }
        break;
    case -EDOM:
        error_report("spe-max-buffer-size=%" PRIu64 ": PMBIDR_EL1.MaxBuffSize "
                     "cannot say this size; the next smaller one is %" PRIu64,
                     size, spe_expressible(size));
        break;
    case -EINVAL:
        error_report("spe-max-buffer-size=%" PRIu64 " must be a multiple of "
                     "the host's page size, %" PRIu64, size, page);
        break;
    case -EBUSY:
        error_report("spe-max-buffer-size=%" PRIu64 ": %s: the VM has run, or "
                     "has another size", size, strerror(-err));
        break;
    default:
        error_report("spe-max-buffer-size=%" PRIu64 ": %s", size,
                     strerror(-err));
        break;
    }
}

static void spe_report_spu(const SPESpu *spu, int err)
{
    g_autofree char *names = spe_host_spu_names();

    switch (err) {
    case -ENXIO:
        error_report("spe-spu=%s: KVM knows no SPU with the PMU type %d. "
                     "SPUs in " SPE_SYSFS ": %s",
                     spu->name, spu->type, *names ? names : "none");
        break;
    case -EBUSY:
        error_report("spe-spu=%s: %s: the VM has run, or has another SPU",
                     spu->name, strerror(-err));
        break;
    case -EINVAL:
        error_report("spe-spu=%s: none of the CPUs that the VM may run on has "
                     "this SPU; choose another with spe-spu", spu->name);
        break;
    default:
        error_report("spe-spu=%s: %s", spu->name, strerror(-err));
        break;
    }
}

/* Of all SPUs, or of the named one, the first that KVM accepts */
static int spe_choose_spu(ARMCPU *cpu)
{
    const GPtrArray *spus = spe_host_spus();
    int ret = -ENXIO;

    if (cpu->kvm_spe_spu) {
        const SPESpu *spu = spe_named_spu(cpu->kvm_spe_spu);
        int type = spu->type;

        ret = spe_set_attr(cpu, KVM_ARM_VCPU_SPE_SET_SPU, &type);
        if (ret) {
            spe_report_spu(spu, ret);
        } else {
            spe_spu = spu;
        }
        return ret;
    }
    for (unsigned i = 0; i < spus->len; i++) {
        const SPESpu *spu = g_ptr_array_index(spus, i);
        int type = spu->type;

        ret = spe_set_attr(cpu, KVM_ARM_VCPU_SPE_SET_SPU, &type);
        if (!ret) {
            spe_spu = spu;
            return 0;
        }
        if ((ret != -ENXIO && ret != -EINVAL) || i + 1 == spus->len) {
            spe_report_spu(spu, ret);
            break;
        }
    }
    return ret;
}

int kvm_arm_spe_init_vcpu(ARMCPU *cpu)
{
    uint64_t size = cpu->spe.max_buffer_size;
    int ret;

    if (!cpu->spe.enabled) {
        return 0;
    }
    /* One VM has one SPU and one size: the first vCPU sets them. */
    if (spe_spu) {
        return 0;
    }
    ret = spe_choose_spu(cpu);
    if (ret) {
        return ret;
    }
    ret = spe_set_attr(cpu, KVM_ARM_VCPU_MAX_BUFFER_SIZE, &size);
    if (ret) {
        spe_report_size(size, ret);
    }
    return ret;
}

/* Bytes that count against RLIMIT_MEMLOCK now */
static uint64_t spe_locked(void)
{
    g_autofree char *status = NULL;
    const char *locked;
    uint64_t kib = 0;

    if (g_file_get_contents("/proc/self/status", &status, NULL, NULL)) {
        locked = strstr(status, "VmLck:");
        if (locked) {
            kib = g_ascii_strtoull(locked + strlen("VmLck:"), NULL, 10);
        }
    }
    return kib * KiB;
}

void kvm_arm_spe_init(ARMCPU *cpu)
{
    uint64_t size = cpu->spe.max_buffer_size;
    struct rlimit rl = { .rlim_cur = RLIM_INFINITY };
    int irq = cpu->kvm_spe_irq;
    uint64_t need = 0;
    int ret;

    if (!cpu->spe.enabled) {
        return;
    }
    ret = spe_set_attr(cpu, KVM_ARM_VCPU_SPE_IRQ, &irq);
    if (ret) {
        error_report("spe=on: KVM refuses the interrupt %d: %s: it must be a "
                     "PPI, the same for all vCPUs; see the machine's spe-ppi",
                     irq, strerror(-ret));
        exit(1);
    }
    ret = spe_set_attr(cpu, KVM_ARM_VCPU_SPE_INIT, NULL);
    getrlimit(RLIMIT_MEMLOCK, &rl);
    if (size) {
        need = spe_max_pages(size) * qemu_real_host_page_size();
    }
    /* Memory can also have run out in the host */
    if (ret == -ENOMEM && size && rl.rlim_cur != RLIM_INFINITY &&
        spe_locked() + need > rl.rlim_cur) {
        unsigned cpus = MACHINE(qdev_get_machine())->smp.cpus;

        error_report("spe=on: RLIMIT_MEMLOCK, %" PRIu64 " KiB, is too low for "
                     "buffers of %" PRIu64 " bytes: raise it by 'ulimit -l' to "
                     "%" PRIu64 " KiB (%u vCPUs, %" PRIu64 " KiB each) and what "
                     "else is locked, run with CAP_IPC_LOCK, or choose a "
                     "smaller spe-max-buffer-size",
                     (uint64_t)rl.rlim_cur / KiB, size, cpus * need / KiB, cpus,
                     need / KiB);
        exit(1);
    }
    if (ret == -EEXIST) {
        error_report("spe=on: the interrupt %d already belongs to another "
                     "device of the vCPU; see the machine's spe-ppi", irq);
        exit(1);
    }
    if (ret) {
        error_report("spe=on: KVM cannot initialise SPE of vCPU %d: %s%s",
                     CPU(cpu)->cpu_index, strerror(-ret),
                     ret == -ENXIO ? " (it needs a GICv2 or GICv3)" :
                     ret == -ENOMEM ? " (the host has none left; try a smaller "
                     "spe-max-buffer-size)" : "");
        exit(1);
    }
}

void kvm_arm_spe_report_fail_entry(const ARMCPU *cpu, unsigned host_cpu)
{
    g_autofree char *cpus = spe_spu ? spe_sysfs(spe_spu->name, "cpumask") :
                                      NULL;

    if (cpu->spe.enabled && cpus) {
        error_report("KVM: vCPU %d cannot run on CPU %u: the SPU %s is that of "
                     "CPUs %s. Keep QEMU on those ('taskset -c %s'), or choose "
                     "another SPU with spe-spu",
                     CPU(cpu)->cpu_index, host_cpu, spe_spu->name, cpus, cpus);
    } else {
        error_report("KVM: vCPU %d cannot run on CPU %u",
                     CPU(cpu)->cpu_index, host_cpu);
    }
}

/* --- Migration ---------------------------------------------------------- */

static const uint64_t *spe_find_reg(uint64_t id, const uint64_t *indexes,
                                    const uint64_t *values, int n)
{
    for (int i = 0; i < n; i++) {
        if (indexes[i] == id) {
            return &values[i];
        }
    }
    return NULL;
}

static uint64_t spe_decode_size(uint64_t pmbidr)
{
    uint64_t field = FIELD_EX64(pmbidr, PMBIDR, MAXBUFFSIZE);
    unsigned e = extract64(field, 9, 5), m = extract64(field, 0, 9);

    return e ? (512ull + m) << (e + 11) : m * 4 * KiB;
}

/* What differs, by the names of the Arm ARM. "" if nothing does. */
static char *spe_differences(uint64_t id, uint64_t theirs, uint64_t ours)
{
    static const struct {
        uint64_t id;
        const char *name;
        unsigned shift;
        unsigned length;
    } fields[] = {
#define SPE_FIELD(reg, field, name) \
        { SPE_##reg, name, R_##reg##_##field##_SHIFT, \
          R_##reg##_##field##_LENGTH }
        { SPE_ID_AA64DFR0, "PMSVer", R_ID_AA64DFR0_PMSVER_SHIFT,
          R_ID_AA64DFR0_PMSVER_LENGTH },
        SPE_FIELD(PMSIDR, FE, "FE"),
        SPE_FIELD(PMSIDR, FT, "FT"),
        SPE_FIELD(PMSIDR, FL, "FL"),
        SPE_FIELD(PMSIDR, ARCHINST, "ArchInst"),
        SPE_FIELD(PMSIDR, LDS, "LDS"),
        SPE_FIELD(PMSIDR, ERND, "ERnd"),
        SPE_FIELD(PMSIDR, FNE, "FnE"),
        SPE_FIELD(PMSIDR, FDS, "FDS"),
        SPE_FIELD(PMSIDR, INTERVAL, "Interval"),
        SPE_FIELD(PMSIDR, MAXSIZE, "MaxSize"),
        SPE_FIELD(PMSIDR, COUNTSIZE, "CountSize"),
        SPE_FIELD(PMSIDR, FORMAT, "Format"),
        SPE_FIELD(PMSIDR, PBT, "PBT"),
        SPE_FIELD(PMSIDR, CRR, "CRR"),
        SPE_FIELD(PMSIDR, EFT, "EFT"),
        SPE_FIELD(PMSIDR, FPF, "FPF"),
        SPE_FIELD(PMBIDR, ALIGN, "Align"),
        SPE_FIELD(PMBIDR, F, "F"),
        SPE_FIELD(PMBIDR, EA, "EA"),
#undef SPE_FIELD
    };
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t t = extract64(theirs, fields[i].shift, fields[i].length);
        uint64_t o = extract64(ours, fields[i].shift, fields[i].length);

        if (fields[i].id == id && t != o) {
            g_string_append_printf(s, "%s%s is %" PRIu64 " there, %" PRIu64
                                   " here", s->len ? ", " : "",
                                   fields[i].name, t, o);
        }
    }
    if (id == SPE_PMBIDR && spe_decode_size(theirs) != spe_decode_size(ours)) {
        g_string_append_printf(s, "%sspe-max-buffer-size is %" PRIu64
                               " there, %" PRIu64 " here", s->len ? ", " : "",
                               spe_decode_size(theirs), spe_decode_size(ours));
    }
    return g_string_free(s, FALSE);
}

/*
 * A list longer than the arrays fails to load before anything can tell why:
 * there must be room for the registers of a source that has SPE.
 */
void kvm_arm_spe_pre_load(ARMCPU *cpu)
{
    int n = cpu->cpreg_array_len;

    if (!cpu->spe.enabled) {
        n += SPE_REGS;
    }
    cpu->cpreg_vmstate_indexes = g_renew(uint64_t, cpu->cpreg_vmstate_indexes,
                                         n);
    cpu->cpreg_vmstate_values = g_renew(uint64_t, cpu->cpreg_vmstate_values,
                                        n);
    cpu->cpreg_vmstate_array_len = n;
}

bool kvm_arm_spe_check_incoming(ARMCPU *cpu)
{
    static const struct {
        uint64_t id;
        const char *name;
    } regs[] = {
        { SPE_ID_AA64DFR0, "ID_AA64DFR0_EL1" },
        { SPE_PMSIDR, "PMSIDR_EL1" },
        { SPE_PMBIDR, "PMBIDR_EL1" },
    };
    bool here = cpu->spe.enabled;
    bool there = spe_find_reg(SPE_PMSIDR, cpu->cpreg_vmstate_indexes,
                              cpu->cpreg_vmstate_values,
                              cpu->cpreg_vmstate_array_len);
    bool ok = true;

    if (here != there) {
        error_report("SPE: the source of the migration has spe=%s, this side "
                     "must have the same", there ? "on" : "off");
        return false;
    }
    for (size_t i = 0; here && i < ARRAY_SIZE(regs); i++) {
        const uint64_t *theirs, *ours;
        g_autofree char *what = NULL;

        theirs = spe_find_reg(regs[i].id, cpu->cpreg_vmstate_indexes,
                              cpu->cpreg_vmstate_values,
                              cpu->cpreg_vmstate_array_len);
        ours = spe_find_reg(regs[i].id, cpu->cpreg_indexes, cpu->cpreg_values,
                            cpu->cpreg_array_len);
        if (!theirs || !ours) {
            continue;
        }
        what = spe_differences(regs[i].id, *theirs, *ours);
        if (*what) {
            error_report("SPE: the source of the migration has another %s: %s",
                         regs[i].name, what);
            ok = false;
        }
    }
    return ok;
}
