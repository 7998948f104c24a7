# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# What the shell tests share: TAP lines on stdout, and a folder for what a test writes. To be sourced behind scripts/lib.sh.

_tap_count=0
_tap_failed=0
tap_dir=

# tap_begin: the head of the output, and $tap_dir.
tap_begin() {
	# shellcheck disable=SC2154 # from lib.sh
	make_dir "$build/tmp"
	tap_dir=$(mktemp -d "$build/tmp/${1-test}.XXXXXX")
	trap 'rm -rf -- "$tap_dir"' EXIT
	trap 'exit 130' INT TERM HUP
	echo "TAP version 13"
}

# ok NAME / not_ok NAME [FILE]: one result; FILE is shown as the reason.
ok() {
	_tap_count=$((_tap_count + 1))
	echo "ok $_tap_count - $1"
}

not_ok() {
	_tap_count=$((_tap_count + 1))
	_tap_failed=$((_tap_failed + 1))
	echo "not ok $_tap_count - $1"
	[ -z "${2-}" ] || head -n 20 -- "$2" | sed 's/^/# /'
}

# check NAME COMMAND...: the command's status decides; what it prints is the reason when it fails.
check() {
	_name=$1
	shift
	if "$@" >"$tap_dir/.reason" 2>&1; then
		ok "$_name"
	else
		not_ok "$_name" "$tap_dir/.reason"
	fi
}

# took WHAT SINCE: the seconds since date +%s was SINCE, for who wants to know where a suite's time goes.
took() {
	echo "# $1: $(($(date +%s) - $2)) s"
}

# tap_end: the plan, and the script's status.
tap_end() {
	echo "1..$_tap_count"
	[ "$_tap_failed" -eq 0 ]
}
