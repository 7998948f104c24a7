# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# A lean machine for work on the Statistical Profiling Extension: -M virt with
# virtio, nothing else. For --with-devices-aarch64=spevirt.

CONFIG_ARM_VIRT=y
CONFIG_PCI_DEVICES=n
CONFIG_TEST_DEVICES=n
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_MMIO=y
CONFIG_SEMIHOSTING=y
CONFIG_ARM_COMPATIBLE_SEMIHOSTING=y
