// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * Runs a VMM to which KVM refuses one attribute of SPE, whatever the reason could be: what the VMM says to errors that this machine
 * has no cause for.
 *
 *	refuse ATTRIBUTE ERRNO COMMAND [ARGUMENT]...	the attribute by its number in uapi/asm/kvm.h; ERRNO as a number
 *
 * The status is the command's. The call never reaches KVM: a seccomp filter stops KVM_SET_DEVICE_ATTR, and this program looks at its
 * argument before it lets it go on.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KVM_ARM_VCPU_SPE_CTRL 3

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

/* The kernel's end of the filter, where stopped calls wait for an answer. */
static int stop_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_SET_DEVICE_ATTR, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };
	int fd;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("refuse: PR_SET_NO_NEW_PRIVS");
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
	if (fd < 0)
		fail("refuse: seccomp");
	return fd;
}

/* Other devices have a group of this number, too: the file must be a vCPU. */
static int is_attribute(pid_t pid, const struct seccomp_data *data, uint64_t attribute)
{
	static const char vcpu[] = "anon_inode:kvm-vcpu";
	struct kvm_device_attr attr;
	char path[64], link[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, (int)data->args[0]);
	if (readlink(path, link, sizeof(link)) < (ssize_t)strlen(vcpu) || strncmp(link, vcpu, strlen(vcpu)))
		return 0;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	n = pread(fd, &attr, sizeof(attr), data->args[2]);
	close(fd);
	if (n != sizeof(attr))
		fail("refuse: the argument of KVM_SET_DEVICE_ATTR");
	return attr.group == KVM_ARM_VCPU_SPE_CTRL && attr.attr == attribute;
}

static void answer(int fd, uint64_t attribute, int error)
{
	struct seccomp_notif call = { 0 };
	struct seccomp_notif_resp reply = { 0 };

	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &call))
		return; /* its thread has gone */
	reply.id = call.id;
	if (is_attribute(call.pid, &call.data, attribute))
		reply.error = -error;
	else
		reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &reply) && errno != ENOENT)
		fail("refuse: SECCOMP_IOCTL_NOTIF_SEND");
}

int main(int argc, char **argv)
{
	int fd, status;
	pid_t child;

	if (argc < 4) {
		fputs("usage: refuse ATTRIBUTE ERRNO COMMAND [ARGUMENT]...\n", stderr);
		return 125;
	}
	fd = stop_calls();
	child = fork();
	if (child < 0)
		fail("refuse: fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		close(fd);
		execvp(argv[3], argv + 3);
		fail(argv[3]);
	}
	/* This process has the filter, too: the end of the child does not show at the listener. */
	while (waitpid(child, &status, WNOHANG) != child) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (poll(&p, 1, 100) == 1 && p.revents & POLLIN)
			answer(fd, strtoull(argv[1], NULL, 0), strtoul(argv[2], NULL, 0));
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
