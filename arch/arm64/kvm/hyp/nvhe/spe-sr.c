// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * Out of line, so that the run loop of a guest without SPE stays small.
 */

#include <hyp/spe-sr.h>

#include <linux/kvm_host.h>

#include <asm/kvm_hyp.h>

void __spe_switch_to_guest(struct kvm_vcpu *vcpu)
{
	__spe_switch_to_guest_common(vcpu);
}

void __spe_switch_to_host(struct kvm_vcpu *vcpu, u64 *exit_code)
{
	__spe_switch_to_host_common(vcpu, exit_code);
}
