# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# What the tests with perf share: recordings in a machine, or in a guest of it, and what their records have to fulfil. To be sourced behind
# scripts/lib.sh and tap.sh, after tap_begin. The script sets $guest to options of 'guest' for recordings in a guest, and $mode to that of KVM.

# 'A && B || complain' is meant as it stands: a complaint about either. What is in single quotes is for the machine's shell, or awk.
# shellcheck disable=SC2015,SC2016

# shellcheck disable=SC2154 # root is lib.sh's, tap_dir tap.sh's
vm=$root/testbed/vm
# shellcheck disable=SC2154
files=$tap_dir/files
make_dir "$files"
cp -- "$root/testbed/tests/perf/guest" "$files/guest"

# --- running and reading ----------------------------------------------------------------------------------------------

# boot NAME VM-OPTION...: runs $files/NAME in a machine; the sections of its output become the files $tap_dir/NAME/SECTION (blanks
# become '.'), those with packets also SECTION.tsv, by records.awk.
boot() {
	_boot=$1
	shift
	# What an earlier boot of this name has recorded must not be judged again.
	rm -rf -- "${tap_dir:?}/$_boot"
	make_dir "$tap_dir/$_boot"
	set -- --mode "${mode:-vhe}" "$@"
	if [ -n "${guest-}" ]; then
		# shellcheck disable=SC2086 # a list of options
		set -- --guests --memory 3072 "$@" -- guest --timeout 900 --files /files $guest --
	else
		set -- "$@" --
	fi
	_status=0
	"$vm" --timeout 900 --files "$files" "$@" sh "/files/$_boot" >"$tap_dir/$_boot/.out" 2>"$tap_dir/$_boot/.err" || _status=$?
	sections "$_boot" || return 1
	[ "$_status" -eq 0 ] && [ ! -s "$tap_dir/$_boot/.err" ] || {
		echo "status $_status"
		cat -- "$tap_dir/$_boot/.err"
		return 1
	}
}

# sections NAME: cuts a machine's output $tap_dir/NAME/.out.
sections() {
	_boot=$1
	awk -v dir="$tap_dir/$_boot" '
		/^@@ / { name = substr($0, 4); gsub(/[ \/]/, ".", name); file = dir "/" name; printf "" >file; next }
		file { print >file }' "$tap_dir/$_boot/.out"
	for _s in "$tap_dir/$_boot"/*; do
		[ -f "$_s" ] && grep -q -a '^\.  [0-9a-f]*: ' "$_s" || continue
		awk -f "$root/testbed/tests/perf/records.awk" "$_s" >"$_s.tsv"
	done
}

# The names that conditions use for a record's fields; addresses of the map are in m["insn load"], m["loop loads"] and
# m["end loads"] and so on.
prelude='
	BEGIN {
		FS = "\t"
		while ((getline line <map) > 0) {
			split(line, w, " ")
			m[w[1] " " w[2]] = hex16(w[3])
			if (w[4])
				m["end " w[2]] = hex16(w[4])
		}
	}
	function hex16(s) {
		sub(/^0x/, "", s)
		return substr("0000000000000000", 1, 16 - length(s)) s
	}
	function in_loop(k) { return pc >= m["loop " k] && pc < m["end " k] }
	function in_data(d, a) { return a >= m["data " d] && a < m["end " d] }
	function at(i) { return pc == m["insn " i] }
	function has(e) { return index(ev, "," e ",") > 0 }
	function off(a) { return substr(a, 14) }
	$1 == "bad" { bad++; if (bad < 4) print "not decoded: " $0; next }
	{
		pc = $1; el = $2; ns = $3; op = $4; ev = $5; va = $6; pa = $7; tgt = $8; tot = $9; issue = $10; xlat = $11
		ctx = $12; ts = $13; src = $14
		records++
	}'

# each FILE MINIMUM CONDITION: the condition holds for each of at least MINIMUM records.
each() {
	_condition=$(printf '%s' "$3" | tr '\n\t' '  ')
	[ -f "$1.tsv" ] || {
		echo "no records at all; perf said:"
		head -n 5 -- "$1"
		return 1
	}
	awk -v map="$tap_dir/map" -v minimum="$2" "$prelude"'
		!('"$_condition"') { wrong++; if (wrong < 4) print "wrong: " $0 }
		END {
			if (wrong || bad || records < minimum)
				print records + 0 " records (at least " minimum "), " wrong + 0 " wrong, " bad + 0 " not decoded"
			exit wrong || bad || records < minimum
		}' "$1.tsv"
}

# some FILE MINIMUM CONDITION: the condition holds for at least MINIMUM records.
some() {
	[ "$(count "$1" "$3")" -ge "$2" ] || {
		echo "it holds for $(count "$1" "$3") records of $(count "$1" 1) only: $3"
		return 1
	}
}

# count FILE CONDITION
count() {
	if [ -f "$1.tsv" ]; then
		awk -v map="$tap_dir/map" "$prelude"' '"$2"' { n++ } END { print n + 0 }' "$1.tsv"
	else
		echo 0
	fi
}

# about VALUE EXPECTED PERCENT WHAT
about() {
	awk -v v="$1" -v e="$2" -v p="$3" 'BEGIN { d = v - e; if (d < 0) d = -d; exit !(d * 100 <= e * p) }' || {
		echo "$4: $1, expected $2 within $3%"
		return 1
	}
}

# says FILE REGEX
says() {
	grep -a -E -q -e "$2" -- "$1" || {
		echo "lacks: $2"
		head -n 15 -- "$1"
		return 1
	}
}
