// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * The Statistical Profiling Extension (SPE): what its tests share. The host's
 * SPUs, KVM's attributes, the registers, the decoding of records, and how the
 * cases of a test are run.
 */
#include <dirent.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "spe.h"
#include "gic.h"
#include "gic_v3.h"
#include "vgic.h"

struct spe_spu spe_spus[SPE_MAX_SPUS];
int spe_nr_spus;
bool spe_supported;

/* --- SPUs ---------------------------------------------------------------- */

#define PMU_DIR		"/sys/bus/event_source/devices"

static bool read_pmu_file(const char *pmu, const char *file, char *buf, size_t len)
{
	char path[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), PMU_DIR "/%s/%s", pmu, file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	n = read(fd, buf, len - 1);
	close(fd);
	if (n < 0)
		return false;
	buf[n] = '\0';
	return true;
}

void spe_parse_cpulist(const char *list, cpu_set_t *cpus)
{
	CPU_ZERO(cpus);
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last; first++)
			CPU_SET(first, cpus);
		list = *end == ',' ? end + 1 : end;
	}
}

/*
 * The SPUs that the host's driver has probed, in the order of their PMU types.
 * Returns their number.
 */
int spe_find_spus(struct spe_spu *spus, int max)
{
	struct dirent *ent;
	char buf[1024];
	int n = 0, i;
	DIR *dir;

	dir = opendir(PMU_DIR);
	if (!dir)
		return 0;

	while (n < max && (ent = readdir(dir))) {
		struct spe_spu spu = {};

		if (strncmp(ent->d_name, "arm_spe_", 8))
			continue;
		if (!read_pmu_file(ent->d_name, "type", buf, sizeof(buf)))
			continue;
		snprintf(spu.name, sizeof(spu.name), "%.63s", ent->d_name);
		spu.type = atoi(buf);
		if (!read_pmu_file(ent->d_name, "cpumask", buf, sizeof(buf)))
			continue;
		spe_parse_cpulist(buf, &spu.cpus);
		if (read_pmu_file(ent->d_name, "caps/max_buff_size", buf, sizeof(buf)))
			spu.max_buff_size = strtoull(buf, NULL, 0);

		for (i = n; i > 0 && spus[i - 1].type > spu.type; i--)
			spus[i] = spus[i - 1];
		spus[i] = spu;
		n++;
	}
	closedir(dir);
	return n;
}

/* The host's core PMUs: they are the ones that list their 'cpus'. */
int spe_find_pmus(struct spe_pmu *pmus, int max)
{
	struct dirent *ent;
	char buf[1024];
	int n = 0;
	DIR *dir;

	dir = opendir(PMU_DIR);
	if (!dir)
		return 0;

	while (n < max && (ent = readdir(dir))) {
		if (!read_pmu_file(ent->d_name, "cpus", buf, sizeof(buf)))
			continue;
		spe_parse_cpulist(buf, &pmus[n].cpus);
		TEST_ASSERT(read_pmu_file(ent->d_name, "type", buf, sizeof(buf)),
			    "%s has no type", ent->d_name);
		pmus[n++].type = atoi(buf);
	}
	closedir(dir);
	return n;
}

/* A size that every host and SPU accepts. */
u64 spe_valid_size(int spu)
{
	u64 max = spe_spus[spu].max_buff_size;

	return max && max < SPE_DEFAULT_SIZE ? max : SPE_DEFAULT_SIZE;
}

/* Bytes that PMBIDR_EL1.MaxBuffSize stands for (Arm ARM D24.7.1). */
u64 spe_size_of(u16 field)
{
	u64 m = field & 0x1ff, e = (field >> 9) & 0x1f;

	return e ? (0x200 + m) << (e + 11) : m << 12;
}

/* Finds the field by trying: the kernel's arithmetic is not repeated here. */
bool spe_size_field(u64 size, u16 *field)
{
	u32 f;

	for (f = 0; f < BIT(14); f++) {
		if (spe_size_of(f) == size) {
			*field = f;
			return true;
		}
	}
	return false;
}

/* --- Records ------------------------------------------------------------- */

static u64 payload(const u8 *buf, int len)
{
	u64 val = 0;

	while (len--)
		val = val << 8 | buf[len];
	return val;
}

static void decode_address(struct spe_record *rec, int index, u64 val)
{
	u64 addr = val & GENMASK_ULL(55, 0);

	switch (index) {
	case 0:
		rec->has_pc = true;
		rec->pc = addr;
		rec->ns = val >> 63;
		rec->el = (val >> 61) & 3;
		break;
	case 1:
		rec->has_target = true;
		rec->target = addr;
		break;
	case 2:
		rec->has_va = true;
		rec->va = addr;
		break;
	case 3:
		rec->has_pa = true;
		break;
	}
}

static void decode_op(struct spe_record *rec, int class, u8 val)
{
	switch (class) {
	case 0:
		rec->op = SPE_OP_OTHER;
		break;
	case 1:
		rec->op = val & 1 ? SPE_OP_STORE : SPE_OP_LOAD;
		break;
	case 2:
		rec->op = SPE_OP_BRANCH;
		break;
	}
}

/*
 * Decodes the record at @buf and the padding after it (Arm ARM D18.2).
 *
 * Returns the bytes consumed, 0 if there is only padding, -1 if the bytes are
 * not a complete record.
 */
int spe_next_record(const u8 *buf, size_t len, struct spe_record *rec)
{
	size_t pos = 0, size;
	bool any = false;

	memset(rec, 0, sizeof(*rec));

	while (pos < len) {
		u8 hdr = buf[pos], ext = 0;

		if (hdr == 0x00) {			/* padding */
			pos++;
			continue;
		}
		any = true;
		if (hdr == 0x01) {			/* end */
			pos++;
			goto padding;
		}
		if (hdr < 0x20)
			return -1;
		if (hdr < 0x40) {			/* extended header */
			ext = hdr & 3;
			pos++;
			if (pos >= len)
				return -1;
			hdr = buf[pos];
			/* 0x20 to 0x23, 0x00 is an alignment packet of old */
			if (hdr < 0x40)
				return -1;
		}
		pos++;
		size = 1 << ((hdr >> 4) & 3);
		if (pos + size > len)
			return -1;

		if (hdr == 0x71 && !ext) {
			rec->has_ts = true;
			rec->ts = payload(buf + pos, 8);
			pos += size;
			goto padding;
		} else if ((hdr & 0xcf) == 0x42 && !ext) {
			rec->has_events = true;
			rec->events = payload(buf + pos, size);
		} else if ((hdr & 0xf8) == 0xb0) {
			decode_address(rec, ext << 3 | (hdr & 7), payload(buf + pos, 8));
		} else if (hdr == 0x64 && !ext) {
			rec->has_ctx_el1 = true;
			rec->ctx_el1 = payload(buf + pos, 4);
		} else if (hdr == 0x65 && !ext) {
			rec->has_ctx_el2 = true;
			rec->ctx_el2 = payload(buf + pos, 4);
		} else if ((hdr & 0xfc) == 0x48 && !ext) {
			decode_op(rec, hdr & 3, buf[pos]);
		}
		pos += size;
	}

	/* Without an end or a timestamp the record was cut short */
	return any ? -1 : 0;

padding:
	while (pos < len && !buf[pos])
		pos++;
	return pos;
}

/* --- KVM ----------------------------------------------------------------- */

const char *spe_errname(int err)
{
	static const struct { int err; const char *name; } names[] = {
#define E(e)	{ e, #e }
		E(EPERM), E(ENOENT), E(EINTR), E(ENXIO), E(E2BIG), E(EAGAIN),
		E(ENOMEM), E(EFAULT), E(EBUSY), E(EEXIST), E(ENODEV),
		E(EINVAL), E(EDOM), E(ERANGE), E(ENOEXEC),
#undef E
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (names[i].err == err)
			return names[i].name;
	}
	return strerror(err);
}

int spe_set_attr(struct kvm_vcpu *vcpu, u64 attr, void *addr)
{
	return __vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_SPE_CTRL, attr, addr);
}

int spe_get_attr(struct kvm_vcpu *vcpu, u64 attr, void *addr)
{
	return __vcpu_device_attr_get(vcpu, KVM_ARM_VCPU_SPE_CTRL, attr, addr);
}

int spe_set_irq(struct kvm_vcpu *vcpu, int irq)
{
	return spe_set_attr(vcpu, KVM_ARM_VCPU_SPE_IRQ, &irq);
}

int spe_set_spu(struct kvm_vcpu *vcpu, int type)
{
	return spe_set_attr(vcpu, KVM_ARM_VCPU_SPE_SET_SPU, &type);
}

int spe_set_pmu(struct kvm_vcpu *vcpu, int type)
{
	return __vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL,
				      KVM_ARM_VCPU_PMU_V3_SET_PMU, &type);
}

int spe_set_size(struct kvm_vcpu *vcpu, u64 size)
{
	return spe_set_attr(vcpu, KVM_ARM_VCPU_MAX_BUFFER_SIZE, &size);
}

int spe_init(struct kvm_vcpu *vcpu)
{
	return spe_set_attr(vcpu, KVM_ARM_VCPU_SPE_INIT, NULL);
}

int spe_vcpu_init(struct kvm_vcpu *vcpu, u32 features)
{
	struct kvm_vcpu_init init;
	int ret;

	vm_ioctl(vcpu->vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= features;
	ret = __vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	if (!ret)
		vcpu->init = init;
	return ret;
}

/* A GICv3 at the place that the guest library expects; not initialised. */
int spe_gic_create(struct kvm_vm *vm, int nr_vcpus)
{
	u64 attr = GICD_BASE_GPA;
	u32 nr_irqs = 64;
	int fd;

	fd = kvm_create_device(vm, KVM_DEV_TYPE_ARM_VGIC_V3);
	kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &nr_irqs);
	kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
			    KVM_VGIC_V3_ADDR_TYPE_DIST, &attr);
	attr = REDIST_REGION_ATTR_ADDR(nr_vcpus, GICR_BASE_GPA, 0, 0);
	kvm_device_attr_set(fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
			    KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &attr);
	return fd;
}

/*
 * Enters the kernel's run loop without the guest: all that is checked at the
 * first KVM_RUN is. -1 with EINTR is what success looks like.
 */
int spe_run_nothing(struct kvm_vcpu *vcpu)
{
	int ret;

	vcpu->run->immediate_exit = 1;
	ret = __vcpu_run(vcpu);
	vcpu->run->immediate_exit = 0;
	return ret;
}

/* Arm ARM D24.7; bits in neither mask depend on version or implementation */
const struct spe_reg_desc spe_regs[SPE_NR_REGS] = {
	/* PCT[1] is there with FEAT_ECV */
	{ "PMSCR_EL1",	SYS_PMSCR_EL1, GENMASK_ULL(6, 3) | GENMASK_ULL(1, 0),
	  GENMASK_ULL(63, 8) | BIT(2), .other = BIT(7) },
	{ "PMSNEVFR_EL1", SYS_PMSNEVFR_EL1, BIT(3) | BIT(5) | BIT(7),
	  BIT(0), .only_if = PMSIDR_EL1_FnE },
	{ "PMSICR_EL1",	SYS_PMSICR_EL1, GENMASK_ULL(31, 0), GENMASK_ULL(55, 32) },
	{ "PMSIRR_EL1",	SYS_PMSIRR_EL1, GENMASK_ULL(31, 8) | BIT(0),
	  GENMASK_ULL(63, 32) | GENMASK_ULL(7, 1) },
	{ "PMSFCR_EL1",	SYS_PMSFCR_EL1, GENMASK_ULL(18, 16) | GENMASK_ULL(2, 0),
	  GENMASK_ULL(63, 53) | GENMASK_ULL(47, 21) | GENMASK_ULL(15, 5) },
	{ "PMSEVFR_EL1", SYS_PMSEVFR_EL1, BIT(3) | BIT(5) | BIT(7), BIT(0) },
	{ "PMSLATFR_EL1", SYS_PMSLATFR_EL1, GENMASK_ULL(11, 0), GENMASK_ULL(63, 16) },
	{ "PMSIDR_EL1",	SYS_PMSIDR_EL1, .id = true },
	{ "PMBLIMITR_EL1", SYS_PMBLIMITR_EL1, GENMASK_ULL(63, 16) | BIT(0),
	  GENMASK_ULL(11, 6) | GENMASK_ULL(4, 3) },
	{ "PMBPTR_EL1",	SYS_PMBPTR_EL1, GENMASK_ULL(55, 11), 0 },
	{ "PMBSR_EL1",	SYS_PMBSR_EL1, GENMASK_ULL(31, 26) | GENMASK_ULL(19, 0),
	  GENMASK_ULL(63, 56) | GENMASK_ULL(25, 20) },
	{ "PMSDSFR_EL1", SYS_PMSDSFR_EL1, 0, 0, .only_if = PMSIDR_EL1_FDS },
	{ "PMBIDR_EL1",	SYS_PMBIDR_EL1, .id = true },
};

/* --- Cases --------------------------------------------------------------- */

struct spe_options spe_opt = {
	.vcpus = 2,
	.events = 2000,
	.create = 50,
	.enables = 2000,
	.timeout = 300,
};

struct spe_case {
	const char *name;
	spe_case_fn fn;
	const void *arg;
	bool always;		/* also where SPE is not available */
};

static struct spe_case cases[512];
static int nr_cases;

/* From the command line: parts of names */
static const char *names[16], *others[16];
static int nr_names, nr_others;
static bool list_only;

/* The reason of a skip, from the case's process to the runner's */
static char *skip_reason;

#define SKIP_REASON_LEN		256

/* Ends the case: what it needs is not there. */
void spe_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(skip_reason, SKIP_REASON_LEN, fmt, ap);
	va_end(ap);
	exit(KSFT_SKIP);
}

/* A line of a file in /proc that holds a number */
u64 spe_proc_value(const char *file, const char *key)
{
	char line[256];
	u64 val = 0;
	FILE *f;

	f = fopen(file, "r");
	TEST_ASSERT(f, "%s", file);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, strlen(key))) {
			val = strtoull(line + strlen(key), NULL, 0);
			break;
		}
	}
	fclose(f);
	return val;
}

u64 spe_locked_bytes(void)
{
	return spe_proc_value("/proc/self/status", "VmLck:") * 1024;
}

/* How often the kernel log says @what */
int spe_klog_count(const char *what)
{
	/* Not static: the guest has a copy of the program's data */
	char *log = malloc(SZ_1M), *p;
	int n = 0, len;

	TEST_ASSERT(log, "malloc");
	len = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, SZ_1M - 1);
	TEST_ASSERT(len > 0, "the kernel log cannot be read");
	log[len] = '\0';
	for (p = log; (p = strstr(p, what)); p++)
		n++;
	free(log);
	return n;
}

/*
 * Adds a case, if the command line asks for it. @always: it is run also where
 * SPE is not available to guests.
 */
void spe_add_case(spe_case_fn fn, const void *arg, bool always, const char *fmt, ...)
{
	struct spe_case *c = &cases[nr_cases];
	bool wanted = !nr_names;
	char name[200];
	va_list ap;
	int i;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);

	for (i = 0; i < nr_names; i++)
		wanted |= !!strstr(name, names[i]);
	for (i = 0; i < nr_others; i++)
		wanted &= !strstr(name, others[i]);
	if (!wanted)
		return;

	TEST_ASSERT(nr_cases < ARRAY_SIZE(cases), "too many cases");
	c->name = strdup(name);
	c->fn = fn;
	c->arg = arg;
	c->always = always;
	nr_cases++;
}

/* Runs a vCPU until its next sync (returns true) or its end (false). */
bool spe_run_vcpu(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			return true;
		case UCALL_DONE:
			return false;
		case UCALL_PRINTF:
			REPORT_GUEST_PRINTF(uc);
			break;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		default:
			TEST_FAIL("Unknown ucall %lu, exit reason %u", uc.cmd,
				  vcpu->run->exit_reason);
		}
	}
}

/* Pages pinned and not released, in the whole system */
s64 spe_pins_outstanding(void)
{
	int fd = open("/proc/sys/vm/stat_refresh", O_RDONLY);
	char c;

	/* Folds the counters of all CPUs */
	if (fd >= 0) {
		if (read(fd, &c, 1) < 0)
			errno = 0;
		close(fd);
	}
	return spe_proc_value("/proc/vmstat", "nr_foll_pin_acquired ") -
	       spe_proc_value("/proc/vmstat", "nr_foll_pin_released ");
}

static void run_case(const struct spe_case *c)
{
	s64 pins = spe_pins_outstanding();
	int status, sig;
	pid_t pid;

	if (!spe_supported && !c->always) {
		ksft_test_result_skip("%s # SPE is not available to guests\n", c->name);
		return;
	}

	skip_reason[0] = '\0';
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		alarm(spe_opt.timeout);
		c->fn(c->arg);
		exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");

	sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (sig) {
		ksft_test_result_fail("%s # %s\n", c->name,
				      sig == SIGALRM ? "timeout" : strsignal(sig));
	} else if (WEXITSTATUS(status) == KSFT_SKIP && skip_reason[0]) {
		ksft_test_result_skip("%s # %s\n", c->name, skip_reason);
	} else if (WEXITSTATUS(status)) {
		ksft_test_result_fail("%s # status %d\n", c->name, WEXITSTATUS(status));
	} else if (spe_pins_outstanding() != pins) {
		ksft_test_result_fail("%s # %lld pages are still pinned\n", c->name,
				      (long long)(spe_pins_outstanding() - pins));
	} else {
		ksft_test_result_pass("%s\n", c->name);
	}
}

static void print_usage(const char *name)
{
	printf("usage: %s [-l] [-t NAME]... [-x NAME]... [-v VCPUS] [-n EVENTS] [-c VMS]\n"
	       "       [-e ENABLES] [-T SECONDS]\n"
	       "  -l  list the cases\n"
	       "  -t  run the cases whose name contains NAME\n"
	       "  -x  ... but not those whose name contains NAME\n"
	       "  -v  vCPUs of the cases with several, up to %d (default %d)\n"
	       "  -n  events of the case with many (default %d)\n"
	       "  -c  VMs to create (default %d)\n"
	       "  -e  enables of the case with many (default %d)\n"
	       "  -T  seconds that a case may take (default %d)\n",
	       name, SPE_MAX_VCPUS, spe_opt.vcpus, spe_opt.events, spe_opt.create, spe_opt.enables,
	       spe_opt.timeout);
}

void spe_parse_options(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "lt:x:v:n:c:e:T:h")) != -1) {
		switch (opt) {
		case 'l':
			list_only = true;
			break;
		case 't':
			if (nr_names == ARRAY_SIZE(names))
				ksft_exit_fail_msg("too many names\n");
			names[nr_names++] = optarg;
			break;
		case 'x':
			if (nr_others == ARRAY_SIZE(others))
				ksft_exit_fail_msg("too many names\n");
			others[nr_others++] = optarg;
			break;
		case 'v':
			spe_opt.vcpus = atoi_positive("Number of vCPUs", optarg);
			break;
		case 'n':
			spe_opt.events = atoi_positive("Number of events", optarg);
			break;
		case 'c':
			spe_opt.create = atoi_positive("Number of VMs", optarg);
			break;
		case 'e':
			spe_opt.enables = atoi_positive("Number of enables", optarg);
			break;
		case 'T':
			spe_opt.timeout = atoi_positive("Seconds", optarg);
			break;
		default:
			print_usage(argv[0]);
			exit(opt == 'h' ? 0 : 1);
		}
	}
	if (spe_opt.vcpus > SPE_MAX_VCPUS)
		ksft_exit_fail_msg("at most %d vCPUs\n", SPE_MAX_VCPUS);
}

/*
 * Runs the cases that were added, each in a process of its own, so that none of
 * them hides another, and ends the program.
 */
void spe_run_cases(void)
{
	int i;

	if (list_only) {
		for (i = 0; i < nr_cases; i++)
			printf("%s\n", cases[i].name);
		exit(0);
	}
	if (!nr_cases)
		ksft_exit_fail_msg("no case has such a name\n");

	ksft_print_header();
	TEST_REQUIRE(kvm_supports_vgic_v3());
	test_disable_default_vgic();

	skip_reason = mmap(NULL, SKIP_REASON_LEN, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(skip_reason != MAP_FAILED, "mmap");
	spe_nr_spus = spe_find_spus(spe_spus, SPE_MAX_SPUS);
	spe_supported = kvm_check_cap(KVM_CAP_ARM_SPE);

	ksft_set_plan(nr_cases);
	for (i = 0; i < spe_nr_spus; i++)
		ksft_print_msg("%s: type %d, %d CPUs, maximum buffer size 0x%lx\n",
			       spe_spus[i].name, spe_spus[i].type,
			       CPU_COUNT(&spe_spus[i].cpus), spe_spus[i].max_buff_size);
	for (i = 0; i < nr_cases; i++)
		run_case(&cases[i]);
	ksft_finished();
}
