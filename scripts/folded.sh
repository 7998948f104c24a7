# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# What tree, fold and series share: where a folded series lives, and how one is read and written. Sourced after lib.sh.
#
# A folded series is a list of mail-format patches, NNNN-subject.patch: From, Subject, the commit message, a line '---', one
# line 'New-file: PATH' per file that the step brings, and the diff of the files that upstream already has. The new files lie
# whole at their paths. There are no index lines, so that a patch does not depend on the upstream version's blobs.

# The identity of commits that are not anyone's mail yet.
# shellcheck disable=SC2034 # for the scripts that source this file
{
	developers='The kvm-arm64-spe developers'
	developers_mail=kvm-arm64-spe@example.org
}

# series_of linux|qemu: sets the places of that series.
# shellcheck disable=SC2034,SC2154 # for the scripts that source this file; root and build are lib.sh's
series_of() {
	series=$1
	case $1 in
	linux)
		folded=$root title=Linux
		;;
	qemu)
		folded=$root/testbed/qemu title=QEMU
		;;
	*) die "there is no series '$1'" "The series are linux and qemu." ;;
	esac
	patches=$folded/patches
	tree=$build/$1
	state=$tree/.git/folded # what the tree was unfolded from: lines base=, folded=, head=
}

# list_patches [FOLDER]: the patch files in order.
list_patches() {
	for _p in "${1-$patches}"/[0-9][0-9][0-9][0-9]-*.patch; do
		[ ! -e "$_p" ] || printf '%s\n' "$_p"
	done
}

# new_files PATCH...: the paths of the new files that they bring.
new_files() {
	for _p; do
		sed -n '/^diff --git /q; s/^New-file: //p' "$_p"
	done
}

# all_new_files [FOLDER]: those of the whole series.
all_new_files() {
	list_patches "$@" | while IFS= read -r _patch; do
		new_files "$_patch"
	done
}

# shellcheck disable=SC2120 # without PREFIXes it is all
# folded_hash [PREFIX...]: a hash of the folded series; with PREFIXes only of the steps and new files that touch such paths.
folded_hash() {
	{
		list_patches | while IFS= read -r _patch; do
			if [ $# -gt 0 ]; then
				_touches=
				for _prefix; do
					! grep -q -e "^diff --git a/$_prefix" -e "^New-file: $_prefix" "$_patch" || _touches=y
				done
				[ -n "$_touches" ] || continue
			fi
			printf 'patch %s\n' "$(sha256sum <"$_patch")"
			new_files "$_patch" | while IFS= read -r _f; do
				[ -e "$folded/$_f" ] ||
					die "${_patch#"$root"/} names the new file $_f, but it is not there" "Restore it (git checkout), or take the line out of the patch."
				if [ -x "$folded/$_f" ]; then _x=x; else _x=-; fi
				printf 'new %s %s %s\n' "$_f" "$_x" "$(sha256sum <"$folded/$_f")"
			done
		done
	} | hash_stdin
}

get_state() {
	sed -n "s/^$1=//p" "$state" 2>/dev/null || :
}

# set_state BASE HASH HEAD
set_state() {
	printf 'base=%s\nfolded=%s\nhead=%s\n' "$1" "$2" "$3" >"$state"
}

tree_git() {
	git -C "$tree" "$@"
}

# unfolded_work: says why the tree holds work that is not folded; status 1 when it holds none.
unfolded_work() {
	if ! tree_git rev-parse -q --verify pristine >/dev/null; then
		echo "it is not a tree that 'make tree' made (no tag 'pristine')"
	elif [ -n "$(tree_git status --porcelain | head -n 1)" ]; then
		echo "files are changed and not committed"
	elif [ "$(tree_git rev-parse HEAD)" != "$(get_state head)" ]; then
		echo "its commits are not the folded ones"
	else
		return 1
	fi
}

# source_version TREE: the version of an unpacked source.
source_version() {
	if [ -f "$1/VERSION" ]; then
		cat -- "$1/VERSION"
	else
		sed -n -e 's/^VERSION = //p' -e 's/^PATCHLEVEL = //p' -e 's/^SUBLEVEL = //p' "$1/Makefile" | head -n 3 | paste -s -d .
	fi
}
