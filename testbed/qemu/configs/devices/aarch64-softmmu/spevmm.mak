# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# The smallest machine that runs Linux guests under KVM: -M virt with virtio
# disk, console and balloon. For --with-devices-aarch64=spevmm --disable-tcg.

CONFIG_ARM_VIRT=y
CONFIG_PCI_DEVICES=n
CONFIG_TEST_DEVICES=n
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_MMIO=y
