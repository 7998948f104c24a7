/*
 * virt board: Statistical Profiling Units
 *
 * Which CPUs have an SPU, how many SPUs there are, to which PPI each raises
 * PMBIRQ, and what the device tree says about it.
 *
 * One SPU is what the CPUs of one kind have in common: they share an
 * interrupt number and a device tree node, and may differ from the CPUs of
 * another SPU in every value that the spe-* CPU properties select. A machine
 * with one SPU on every CPU has an ordinary node and interrupt. Otherwise a
 * node has to say which CPUs it is for, by a PPI partition of the GICv3 node:
 * that takes a fourth cell in every interrupt specifier of the tree.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "hw/arm/bsa.h"
#include "hw/arm/fdt.h"
#include "hw/arm/virt.h"
#include "hw/cpu/cluster.h"
#include "hw/irq.h"
#include "hw/qdev-properties.h"
#include "system/device_tree.h"
#include "system/kvm.h"
#include "qapi/visitor.h"
#include "target/arm/cpu.h"

#include <libfdt.h>

/* PPIs that the board uses for something else */
static bool virt_spe_ppi_taken(unsigned ppi)
{
    switch (ppi) {
    case ARCH_TIMER_S_EL2_VIRT_IRQ:
    case ARCH_TIMER_S_EL2_IRQ:
    case VIRTUAL_PMU_IRQ:
    case ARCH_GIC_MAINT_IRQ ... ARCH_TIMER_NS_EL1_IRQ:
        return true;
    default:
        return false;
    }
}

static bool virt_spe_parse_ppis(VirtSPE *spe, Error **errp)
{
    g_auto(GStrv) list = g_strsplit(spe->ppi ?: stringify(ARCH_SPE_IRQ),
                                    ":", -1);
    unsigned n = g_strv_length(list);

    if (n != 1 && n != spe->spus) {
        error_setg(errp, "spe-ppi=%s is not valid: it must be one PPI, or "
                   "one for each of the %u SPUs, separated by colons",
                   spe->ppi, spe->spus);
        return false;
    }
    for (unsigned i = 0; i < spe->spus; i++) {
        unsigned ppi;

        if (qemu_strtoui(list[n == 1 ? 0 : i], NULL, 10, &ppi) < 0 ||
            ppi < 16 || ppi > 31 || virt_spe_ppi_taken(ppi)) {
            error_setg(errp, "spe-ppi=%s is not valid: a PPI must be 16, 17, "
                       "18, 21, 22, 24 or 31", list[n == 1 ? 0 : i]);
            return false;
        }
        spe->ppis[i] = ppi;
    }
    return true;
}

/* LIST is CPUs and ranges of CPUs, separated by colons: 0:2-3 */
static bool virt_spe_parse_cpus(VirtSPE *spe, unsigned smp_cpus, Error **errp)
{
    g_auto(GStrv) list = NULL;

    if (!spe->cpus) {
        bitmap_set(spe->map, 0, smp_cpus);
        return true;
    }
    list = g_strsplit(spe->cpus, ":", -1);
    for (char **s = list; *s; s++) {
        unsigned first, last;
        const char *end;

        if (qemu_strtoui(*s, &end, 10, &first) < 0) {
            goto bad;
        }
        last = first;
        if (*end == '-' && qemu_strtoui(end + 1, &end, 10, &last) < 0) {
            goto bad;
        }
        if (*end || last < first || last >= smp_cpus) {
            goto bad;
        }
        bitmap_set(spe->map, first, last - first + 1);
    }
    if (bitmap_empty(spe->map, smp_cpus)) {
        goto bad;
    }
    return true;
bad:
    error_setg(errp, "spe-cpus=%s is not valid: it must be CPUs from 0 to %u "
               "and ranges of them, separated by colons, such as 0:2-3",
               spe->cpus, smp_cpus - 1);
    return false;
}

/* Before the first CPU is realized, when all properties are known. */
static void virt_spe_init(VirtMachineState *vms, Error **errp)
{
    VirtSPE *spe = &vms->spe;
    unsigned smp_cpus = MACHINE(vms)->smp.cpus;
    unsigned n, nth = 0;

    spe->map = bitmap_new(smp_cpus);
    spe->spu_of_cpu = g_new(int, smp_cpus);
    if (!virt_spe_parse_cpus(spe, smp_cpus, errp)) {
        return;
    }
    n = bitmap_count_one(spe->map, smp_cpus);
    if (spe->spus < 1 || spe->spus > MIN(n, VIRT_SPE_MAX)) {
        g_autofree char *allowed = n == 1 ? g_strdup("1") :
            g_strdup_printf("1 to %u", MIN(n, VIRT_SPE_MAX));

        error_setg(errp, "spe-spus=%u is not valid: it must be %s, as %u "
                   "CPU%s SPE", spe->spus, allowed, n,
                   n == 1 ? " has" : "s have");
        return;
    }
    for (unsigned i = spe->spus; i < VIRT_SPE_MAX; i++) {
        if (spe->props[i]) {
            error_setg(errp, "spe-spu%u is not valid: there are %u SPUs",
                       i, spe->spus);
            return;
        }
    }
    if (!virt_spe_parse_ppis(spe, errp)) {
        return;
    }
    /* SPU 0 has the first CPUs, and so on; sizes differ by one at most. */
    for (unsigned i = 0; i < smp_cpus; i++) {
        spe->spu_of_cpu[i] = test_bit(i, spe->map) ?
                             nth++ * spe->spus / n : -1;
    }
    spe->partitioned = spe->spus > 1 || n < smp_cpus;
    if (spe->partitioned && kvm_enabled()) {
        /* All vCPUs of a VM have the same SPU. */
        error_setg(errp, "spe-spus and spe-cpus need -accel tcg");
        return;
    }
    if (spe->partitioned && vms->gic_version == VIRT_GIC_VERSION_2) {
        error_setg(errp, "several SPUs, and CPUs without SPE, need "
                   "gic-version=3 or 4");
    }
}

/* "spe-pmsver=3:spe-align=16": set on a CPU of the SPU */
static void virt_spe_override(Object *cpuobj, const char *props, Error **errp)
{
    g_auto(GStrv) list = g_strsplit(props, ":", -1);

    for (char **s = list; *s; s++) {
        char *value = strchr(*s, '=');

        if (!value || !g_str_has_prefix(*s, "spe-")) {
            error_setg(errp, "'%s' is not valid: it must be spe-PROPERTY=VALUE",
                       *s);
            return;
        }
        *value++ = 0;
        if (!object_property_parse(cpuobj, *s, value, errp)) {
            return;
        }
    }
}

void virt_spe_pre_realize_cpu(VirtMachineState *vms, Object *cpuobj, int n)
{
    VirtSPE *spe = &vms->spe;
    bool have = object_property_find(cpuobj, "spe") &&
                object_property_get_bool(cpuobj, "spe", &error_abort);
    int spu, cluster;

    if (!have) {
        bool used = spe->cpus || spe->ppi || spe->spus != 1;

        for (int i = 0; i < VIRT_SPE_MAX; i++) {
            used |= spe->props[i] != NULL;
        }
        if (used) {
            error_report("spe-cpus, spe-spus, spe-ppi and spe-spu0 to "
                         "spe-spu%d need a CPU with spe=on", VIRT_SPE_MAX - 1);
            exit(1);
        }
        return;
    }
    if (!spe->map) {
        virt_spe_init(vms, &error_fatal);
        spe->enabled = true;
    }
    spu = spe->spu_of_cpu[n];
    if (spu < 0) {
        object_property_set_bool(cpuobj, "spe", false, &error_abort);
    } else if (spe->props[spu]) {
        virt_spe_override(cpuobj, spe->props[spu], &error_fatal);
    }
    if (!spe->partitioned) {
        return;
    }

    /*
     * CPUs that differ must be in different clusters, or they would share
     * translated code, and with it the values of ID registers.
     */
    cluster = spu < 0 ? spe->spus : spu;
    if (!spe->clusters[cluster]) {
        g_autofree char *name = g_strdup_printf("spe-cluster[%d]", cluster);
        Object *obj = object_new(TYPE_CPU_CLUSTER);

        object_property_add_child(OBJECT(vms), name, obj);
        qdev_prop_set_uint32(DEVICE(obj), "cluster-id", cluster);
        spe->clusters[cluster] = obj;
        object_unref(obj);
    }
    object_property_add_child(spe->clusters[cluster], "cpu[*]", cpuobj);
    CPU(cpuobj)->cluster_index = cluster;
}

void virt_spe_cpus_done(VirtMachineState *vms)
{
    for (unsigned i = 0; i < ARRAY_SIZE(vms->spe.clusters); i++) {
        if (vms->spe.clusters[i]) {
            qdev_realize(DEVICE(vms->spe.clusters[i]), NULL, &error_fatal);
        }
    }
}

int virt_spe_ppi(const VirtMachineState *vms, int n)
{
    const VirtSPE *spe = &vms->spe;

    return spe->enabled && spe->spu_of_cpu[n] >= 0 ?
           spe->ppis[spe->spu_of_cpu[n]] : 0;
}

void virt_spe_connect(VirtMachineState *vms, DeviceState *cpudev, int n,
                      int intidbase)
{
    int ppi = virt_spe_ppi(vms, n);

    if (ppi) {
        qdev_connect_gpio_out_named(cpudev, "spe-interrupt", 0,
                                    qdev_get_gpio_in(vms->gic,
                                                     intidbase + ppi));
    }
}

/* --- Device tree -------------------------------------------------------- */

static char *virt_spe_nodename(const VirtSPE *spe, unsigned spu)
{
    return spe->spus == 1 ? g_strdup("/spe-pmu") :
                            g_strdup_printf("/spe-pmu-%u", spu);
}

/*
 * Insert a zero cell after each group of STRIDE cells of a property, which is
 * what a third cell becomes when specifiers have four.
 */
static void virt_spe_widen(void *fdt, int node, const char *prop,
                           unsigned stride)
{
    int len;
    const fdt32_t *old = fdt_getprop(fdt, node, prop, &len);
    unsigned n;
    g_autofree fdt32_t *new = NULL;

    if (!old) {
        return;
    }
    n = len / sizeof(*old) / stride;
    g_assert(n * stride * sizeof(*old) == len);
    new = g_new0(fdt32_t, n * (stride + 1));
    for (unsigned i = 0; i < n; i++) {
        memcpy(&new[i * (stride + 1)], &old[i * stride],
               stride * sizeof(*old));
    }
    if (fdt_setprop(fdt, node, prop, new,
                    n * (stride + 1) * sizeof(*new)) < 0) {
        error_report("device tree: no room for four cells in '%s'", prop);
        exit(1);
    }
}

/*
 * The last step in making the tree: four cells for each interrupt, the
 * partitions, and the partition of each SPU in its own fourth cell. Linux
 * takes the affinity of a PPI from there (drivers/irqchip/irq-gic-v3.c).
 */
static void virt_spe_modify_dtb(const struct arm_boot_info *info, void *fdt)
{
    VirtMachineState *vms = container_of(info, VirtMachineState, bootinfo);
    VirtSPE *spe = &vms->spe;
    g_autofree char *gic = g_strdup_printf("/intc@%" PRIx64,
                                           vms->memmap[VIRT_GIC_DIST].base);
    g_autofree char *parts = g_strdup_printf("%s/ppi-partitions", gic);
    int node;

    if (info->dtb_filename) {
        /* The user's own tree is taken as it is. */
        return;
    }
    for (node = fdt_next_node(fdt, -1, NULL); node >= 0;
         node = fdt_next_node(fdt, node, NULL)) {
        virt_spe_widen(fdt, node, "interrupts", 3);
        /* unit address 3, pin 1, phandle 1, parent address 2, specifier 3 */
        virt_spe_widen(fdt, node, "interrupt-map", 10);
    }
    qemu_fdt_setprop_cell(fdt, gic, "#interrupt-cells", 4);
    qemu_fdt_add_subnode(fdt, parts);

    for (unsigned spu = 0; spu < spe->spus; spu++) {
        g_autofree char *name = virt_spe_nodename(spe, spu);
        g_autofree char *part = g_strdup_printf("%s/spu-%u", parts, spu);
        g_autoptr(GArray) cpus = g_array_new(false, false, sizeof(fdt32_t));
        uint32_t phandle = qemu_fdt_alloc_phandle(fdt);

        for (int i = 0; i < MACHINE(vms)->smp.cpus; i++) {
            if (spe->spu_of_cpu[i] == spu) {
                g_autofree char *cpu = g_strdup_printf("/cpus/cpu@%d", i);
                fdt32_t ref = cpu_to_fdt32(qemu_fdt_get_phandle(fdt, cpu));

                g_array_append_val(cpus, ref);
            }
        }
        qemu_fdt_add_subnode(fdt, part);
        qemu_fdt_setprop(fdt, part, "affinity", cpus->data,
                         cpus->len * sizeof(fdt32_t));
        qemu_fdt_setprop_cell(fdt, part, "phandle", phandle);
        qemu_fdt_setprop_cells(fdt, name, "interrupts", GIC_FDT_IRQ_TYPE_PPI,
                               INTID_TO_PPI(spe->ppis[spu]),
                               GIC_FDT_IRQ_FLAGS_LEVEL_HI, phandle);
    }
}

void virt_spe_add_fdt(VirtMachineState *vms)
{
    static const char compat[] = "arm,statistical-profiling-extension-v1";
    VirtSPE *spe = &vms->spe;
    MachineState *ms = MACHINE(vms);
    uint32_t irqflags = GIC_FDT_IRQ_FLAGS_LEVEL_HI;

    if (!spe->enabled) {
        return;
    }
    if (vms->gic_version == VIRT_GIC_VERSION_2) {
        irqflags = deposit32(irqflags, GIC_FDT_IRQ_PPI_CPU_START,
                             GIC_FDT_IRQ_PPI_CPU_WIDTH,
                             (1 << ms->smp.cpus) - 1);
    }
    /* The tree lists nodes in reverse order of creation. */
    for (int spu = spe->spus - 1; spu >= 0; spu--) {
        g_autofree char *name = virt_spe_nodename(spe, spu);

        qemu_fdt_add_subnode(ms->fdt, name);
        qemu_fdt_setprop(ms->fdt, name, "compatible", compat, sizeof(compat));
        qemu_fdt_setprop_cells(ms->fdt, name, "interrupts",
                               GIC_FDT_IRQ_TYPE_PPI,
                               INTID_TO_PPI(spe->ppis[spu]), irqflags);
    }
    if (spe->partitioned) {
        vms->bootinfo.modify_dtb = virt_spe_modify_dtb;
    }
}

/* --- Machine properties ------------------------------------------------- */

static char *virt_get_spe_ppi(Object *obj, Error **errp)
{
    return g_strdup(VIRT_MACHINE(obj)->spe.ppi);
}

static void virt_set_spe_ppi(Object *obj, const char *value, Error **errp)
{
    g_free(VIRT_MACHINE(obj)->spe.ppi);
    VIRT_MACHINE(obj)->spe.ppi = g_strdup(value);
}

static char *virt_get_spe_cpus(Object *obj, Error **errp)
{
    return g_strdup(VIRT_MACHINE(obj)->spe.cpus);
}

static void virt_set_spe_cpus(Object *obj, const char *value, Error **errp)
{
    g_free(VIRT_MACHINE(obj)->spe.cpus);
    VIRT_MACHINE(obj)->spe.cpus = g_strdup(value);
}

static void virt_get_spe_spus(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &VIRT_MACHINE(obj)->spe.spus, errp);
}

static void virt_set_spe_spus(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &VIRT_MACHINE(obj)->spe.spus, errp);
}

static void virt_get_spe_spu(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    char *props = VIRT_MACHINE(obj)->spe.props[(uintptr_t)opaque];
    g_autofree char *value = g_strdup(props ?: "");

    visit_type_str(v, name, &value, errp);
}

static void virt_set_spe_spu(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    char **props = &VIRT_MACHINE(obj)->spe.props[(uintptr_t)opaque];
    char *value;

    if (visit_type_str(v, name, &value, errp)) {
        g_free(*props);
        *props = value;
    }
}

void virt_spe_class_init(ObjectClass *oc)
{
    object_class_property_add_str(oc, "spe-ppi", virt_get_spe_ppi,
                                  virt_set_spe_ppi);
    object_class_property_set_description(oc, "spe-ppi",
        "INTID of the PPI that the SPUs use (default 21), or one for each "
        "SPU, separated by colons");
    object_class_property_add_str(oc, "spe-cpus", virt_get_spe_cpus,
                                  virt_set_spe_cpus);
    object_class_property_set_description(oc, "spe-cpus",
        "CPUs that have SPE when the CPU model has spe=on, such as 0:2-3 "
        "(default all)");
    object_class_property_add(oc, "spe-spus", "uint32", virt_get_spe_spus,
                              virt_set_spe_spus, NULL, NULL);
    object_class_property_set_description(oc, "spe-spus",
        "Number of SPUs among which those CPUs are divided (default 1)");
    for (uintptr_t i = 0; i < VIRT_SPE_MAX; i++) {
        g_autofree char *name = g_strdup_printf("spe-spu%u", (unsigned)i);

        object_class_property_add(oc, name, "str", virt_get_spe_spu,
                                  virt_set_spe_spu, NULL, (void *)i);
        object_class_property_set_description(oc, name,
            "CPU properties in which this SPU differs, such as "
            "spe-pmsver=3:spe-align=16");
    }
}

void virt_spe_instance_init(VirtMachineState *vms)
{
    vms->spe.spus = 1;
}
