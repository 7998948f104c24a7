// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * Out of line, so that the run loop of a guest without SPE stays small.
 */

#include <hyp/spe-sr.h>

#include <linux/kprobes.h>
#include <linux/kvm_host.h>

#include <asm/kvm_hyp.h>

void __spe_disable_host_buffer(struct kvm_vcpu *vcpu)
{
	__spe_disable_host_buffer_common(vcpu);
}
NOKPROBE_SYMBOL(__spe_disable_host_buffer);

void __spe_enable_host_buffer(struct kvm_vcpu *vcpu)
{
	__spe_enable_host_buffer_common(vcpu);
}
NOKPROBE_SYMBOL(__spe_enable_host_buffer);

void __spe_switch_to_guest(struct kvm_vcpu *vcpu)
{
	__spe_switch_to_guest_common(vcpu);
}
NOKPROBE_SYMBOL(__spe_switch_to_guest);

void __spe_switch_to_host(struct kvm_vcpu *vcpu, u64 *exit_code)
{
	__spe_switch_to_host_common(vcpu, exit_code);
}
NOKPROBE_SYMBOL(__spe_switch_to_host);
