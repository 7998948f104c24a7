# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# What all scripts of this repository share: messages, folders, logged commands with progress, and the cache of built products.
# It is sourced:   . "$(dirname -- "$0")/lib.sh"        (from testbed/: . "$(dirname -- "$0")/../scripts/lib.sh")
#
# After that: $root is the repository, $build its build/, $cache the user's cache folder. Messages go to stderr, results to stdout.

set -eu
LC_ALL=C
export LC_ALL
umask 022

# Variables on make's command line would otherwise override those of the same name in the Makefiles of the kernel and QEMU.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

me=${0##*/}

# The repository: the nearest folder above the script that holds scripts/lib.sh.
root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
while [ ! -f "$root/scripts/lib.sh" ] && [ "$root" != / ]; do
	root=$(dirname -- "$root")
done

# --- messages ---------------------------------------------------------------------------------------------------------

# say TEXT...: one line for the user.
say() {
	printf '%s\n' "$*" >&2
}

# die WHAT [REMEDY [STATUS]]: what happened, what to do about it, and the end.
die() {
	printf '%s: error: %s\n' "$me" "$1" >&2
	[ -z "${2-}" ] || printf '%s: %s\n' "$me" "$2" >&2
	exit "${3-1}"
}

# --- folders ----------------------------------------------------------------------------------------------------------

if [ -n "${XDG_CACHE_HOME-}" ]; then
	cache=$XDG_CACHE_HOME/kvm-arm64-spe
elif [ -n "${HOME-}" ]; then
	cache=$HOME/.cache/kvm-arm64-spe
else
	die "neither HOME nor XDG_CACHE_HOME is set, so there is no place for downloads and caches" \
		"Set XDG_CACHE_HOME to a folder with 10 GB of space."
fi
build=$root/build
# The variables below are for the scripts that source this file.
# shellcheck disable=SC2034
{
	dl=$cache/dl
	products=$cache/products
	logs=$build/log
	bin=$build/bin
	image=$build/image
	out=$build/out
}
: "${JOBS:=$(nproc 2>/dev/null || echo 2)}"

# ccache keeps the objects of variants of one source. Paths are taken relative to the repository, so that clones share it.
CCACHE_DIR=${CCACHE_DIR:-$cache/ccache}
CCACHE_BASEDIR=$root
CCACHE_NOHASHDIR=1
CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CCACHE_MAXSIZE

make_dir() {
	mkdir -p "$@" || die "cannot make the folder $*" "Check its permissions and the space left on that disk."
}

# need_space FOLDER MEGABYTES WHAT-FOR: dies early, with figures, instead of late with half a file.
need_space() {
	make_dir "$1"
	_free=$(df -Pm -- "$1" | awk 'NR == 2 { print $4 }')
	[ "$_free" -ge "$2" ] ||
		die "$3 needs $2 MB, but the disk of $1 has $_free MB left" \
			"Free some space, or put build/ and XDG_CACHE_HOME on another disk. 'make distclean' removes what this repository made."
}

# is_full FOLDER: less than a megabyte is left there. What ended for want of room may have had none to say so.
is_full() {
	[ "$(df -Pm -- "$1" | awk 'NR == 2 { print $4 }')" -lt 1 ]
}

# need_tool COMMAND PACKAGE: a program that the caller cannot do without.
need_tool() {
	command -v "$1" >/dev/null 2>&1 ||
		die "the program $1 is missing" "Run scripts/deps as root, or install the package $2."
}

# --- long commands ----------------------------------------------------------------------------------------------------

# The newest state of a build, from its log: ninja prints [done/total]; for make the lines are counted against an estimate.
_how_far() {
	_done=$(tail -c 4096 -- "$1" | tr '\r' '\n' | sed -n 's/^\[\([0-9]*\/[0-9]*\)\].*/\1/p' | tail -n 1)
	if [ -n "$_done" ]; then
		printf 'step %s' "$(printf '%s' "$_done" | sed 's,/, of ,')"
	elif [ "${STEPS:-0}" -gt 0 ]; then
		printf 'step %s of about %s' "$(wc -l <"$1" | tr -d ' ')" "$STEPS"
	else
		printf '%s lines of log' "$(wc -l <"$1" | tr -d ' ')"
	fi
}

# logged NAME WHAT COMMAND...: runs the command with its output in build/log/NAME.log. Every half minute a line says how far
# it is. STEPS, when set, is about how many lines the log will have. Dies with the log's last lines when the command fails;
# EXPLAIN, when set, is a function that is called with the log before, and may end in words of its own.
logged() {
	_name=$1 _what=$2
	shift 2
	make_dir "$logs"
	_log=$logs/$_name.log
	say "$_what (log: ${_log#"$root"/})"
	_t0=$(date +%s)
	: >"$_log"
	# The monitor must not keep a pipe of the caller open after its end: its sleep has no file but /dev/null.
	(
		while sleep "${PROGRESS_SECONDS:-30}" >/dev/null 2>&1 3>&- 8>&- 9>&-; do
			kill -0 $$ 2>/dev/null || exit 0
			say "  ... $_name: $(_how_far "$_log"), $(($(date +%s) - _t0)) s"
		done
	) </dev/null &
	_monitor=$!
	_status=0
	"$@" >"$_log" 2>&1 </dev/null || _status=$?
	kill "$_monitor" 2>/dev/null || :
	wait "$_monitor" 2>/dev/null || :
	if [ "$_status" -ne 0 ]; then
		grep -n -i -m 10 -e 'error[: ]' -e 'fatal:' -e 'No space left' -- "$_log" | sed 's/^/  /' >&2 || :
		say "  the log ends:"
		tail -n 15 -- "$_log" | sed 's/^/  /' >&2
		if grep -q 'No space left on device' -- "$_log" || is_full "$build"; then
			die "$_name: the disk is full" "Free some space and run the same command again; nothing needs to be cleaned up."
		fi
		[ -z "${EXPLAIN-}" ] || "$EXPLAIN" "$_log"
		die "$_name failed with status $_status" "The whole log: $_log"
	fi
	say "  $_name: done in $(($(date +%s) - _t0)) s"
}

# --- hashes -----------------------------------------------------------------------------------------------------------

# hash_stdin: 24 hexadecimal digits of the SHA-256 of what comes in.
hash_stdin() {
	sha256sum | cut -c 1-24
}

# git_files DIR [TYPES]: the files of a git tree as it is now, each ended by a NUL: what is not committed too, but nothing that its .gitignore names.
# TYPES are find's, all by default.
git_files() {
	(
		cd -- "$1"
		make_dir "$build"
		_list=$build/.git-files.$$
		git ls-files -z --cached --others --exclude-standard | sort -z -u >"$_list"
		# It complains about what is in the index, but was deleted.
		# shellcheck disable=SC2185 # the paths are in that file
		find -files0-from "$_list" -maxdepth 0 -type "${2-f,l}" -print0 2>/dev/null || :
		rm -f -- "$_list"
	)
}

# hash_files PATH...: a line 'checksum path' per file (folders recursively), paths relative to the repository. Missing ones are skipped.
hash_files() {
	(
		cd -- "$root"
		for _p; do
			_p=${_p#"$root"/}
			[ ! -e "$_p" ] || find "$_p" \( -type f -o -type l \) -print
		done | sort -u | while IFS= read -r _f; do
			if [ -x "$_f" ]; then _x=x; else _x=-; fi
			printf '%s %s %s\n' "$(sha256sum <"$_f" | cut -d ' ' -f 1)" "$_x" "$_f"
		done
	)
}

# tool_id COMMAND...: the first line of each tool's --version, as part of a key.
tool_id() {
	for _t; do
		"$_t" --version 2>/dev/null | head -n 1 || echo "no $_t"
	done
}

# --- products ---------------------------------------------------------------------------------------------------------
# A product is a set of files made from inputs whose hash is its key. It is kept as one folder of the cache, written under
# another name and renamed when complete, so that an interrupted or full disk never leaves half a product under a valid name.

: "${KEEP_PRODUCTS:=6}" # of one kind; the least recently used goes first

# product_restore KIND KEY DEST: unpacks a kept product into DEST. Status 1 when there is none (or a damaged one, which goes).
product_restore() {
	_dir=$products/$1-$2
	[ -d "$_dir" ] || return 1
	if ! (cd -- "$_dir" && sha256sum --status -c SHA256SUMS) 2>/dev/null; then
		say "$1: the kept product $_dir is damaged; it is made again"
		rm -rf -- "$_dir"
		return 1
	fi
	make_dir "$3"
	tar -xf "$_dir/files.tar" --no-same-owner -C "$3" ||
		die "cannot unpack $_dir/files.tar into $3" "Check the space left on that disk."
	touch -- "$_dir"
}

# product_store KIND KEY DIR: keeps all files of DIR.
product_store() {
	need_space "$products" $(($(du -sm -- "$3" | cut -f 1) + 10)) "keeping the product $1"
	_tmp=$(mktemp -d "$products/.tmp.XXXXXX")
	if ! { tar -cf "$_tmp/files.tar" --owner=0 --group=0 --numeric-owner --sort=name -C "$3" . &&
		(cd -- "$_tmp" && sha256sum files.tar >SHA256SUMS); }; then
		rm -rf -- "$_tmp"
		die "cannot keep the product $1 in $products" "Check the space left on that disk."
	fi
	chmod 755 "$_tmp"
	mv -T -- "$_tmp" "$products/$1-$2" 2>/dev/null || rm -rf -- "$_tmp" # someone else was first
	# shellcheck disable=SC2012 # names are ours: kind and hexadecimal key
	ls -dt -- "$products/$1-"???????????????????????? 2>/dev/null | tail -n "+$((KEEP_PRODUCTS + 1))" | while IFS= read -r _old; do
		rm -rf -- "$_old"
	done
}

# product KIND KEY DEST FUNCTION FILE...: makes sure that DEST holds the FILEs of the product KIND made from KEY: as they are,
# or from the cache, or by calling FUNCTION with an empty folder as its argument, which it fills. Two runs at once build once.
# Call it plainly (not after if, && or ||): a shell ignores set -e in there.
product() {
	_kind=$1 _key=$2 _dest=$3 _function=$4
	shift 4
	make_dir "$_dest" "$products" "$build"
	_stamp=$_dest/.$_kind.key
	exec 8>"$products/.$_kind.lock"
	flock 8
	if [ "$(cat -- "$_stamp" 2>/dev/null)" = "$_key" ] && _have_all "$_dest" "$@"; then
		exec 8>&-
		return 0
	fi
	_new=$build/.new-$_kind
	rm -rf -- "$_new"
	make_dir "$_new"
	if product_restore "$_kind" "$_key" "$_new"; then
		_have_all "$_new" "$@" || die "the kept product $_kind-$_key lacks a file of: $*" "Remove $products/$_kind-$_key."
		say "$_kind: from the cache"
	else
		(
			set -eu
			"$_function" "$_new"
		)
		_have_all "$_new" "$@" || die "the build of $_kind ended without a file of: $*" "See the logs in $logs."
		product_store "$_kind" "$_key" "$_new"
	fi
	# Moved and not copied: what is in use stays whole, and a folder keeps no file of an older product.
	rm -f -- "$_stamp"
	for _entry in "$_new"/*; do
		rm -rf -- "${_dest:?}/${_entry##*/}"
		mv -- "$_entry" "$_dest/" || die "cannot move $_entry to $_dest" "Check the space left on that disk."
	done
	rm -rf -- "$_new"
	printf '%s\n' "$_key" >"$_stamp"
	exec 8>&-
}

_have_all() {
	_d=$1
	shift
	for _f; do
		[ -e "$_d/$_f" ] || return 1
	done
}

# --- sources ----------------------------------------------------------------------------------------------------------

# source_key linux|qemu [FOLDER...]: names the state of a source tree for product keys, without unpacking anything when it can:
# the upstream source plus what the series changes (below the FOLDERs only, when given), or a hash of build/NAME's contents
# when a developer's work there is not folded yet.
source_key() {
	"$root/scripts/tree" --key "$@"
}

# source_tree linux|qemu: makes sure that the unfolded tree exists and is current, and prints its path.
source_tree() {
	"$root/scripts/tree" --keep "$1" >&2
	printf '%s\n' "$build/$1"
}
