# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# The front door. Each target is one script under scripts/; `make` alone prints them.

# Variables that the scripts read, when they are given on make's command line.
export LINUX QEMU_SRC DEBIAN_MIRROR SOB REVISION T FULL MODE SIZE VCPUS GUEST JOBS

.PHONY: help tree fold series build run test check bench clean distclean

help:
	@echo 'Guest SPE for KVM/arm64: the kernel series, folded, and the machine to run it on. README.md says more.'
	@echo
	@echo '  make tree        unfold the series into build/linux and build/qemu, git trees with one commit a step'
	@echo '  make fold        write the commits of these trees back into the repository'
	@echo '  make series      write mails for git am, with a cover letter, into build/series (SOB="Name <address>")'
	@echo '  make build       build the emulator, the kernel and the root file system'
	@echo '  make run         build what is missing, boot the machine, and in it a guest that shows a profile taken with SPE'
	@echo '  make test        run the tests (T="model perf" names suites; make test T=list lists them; FULL=1 runs each as a whole)'
	@echo '  make check       static checks: each step builds, checkpatch, sparse, shellcheck, fold round trip'
	@echo '  make bench       measure, and print the figures beside their goals'
	@echo '  make clean       remove what was built from build/, but not the trees and not the caches'
	@echo '  make distclean   remove build/ and the caches; refuses when a tree holds work that is not folded'
	@echo
	@echo 'LINUX= and QEMU_SRC= (a tree or tarball) take the place of the sources that come from Debian.'

tree fold series build run test check bench clean distclean:
	@scripts/$@
