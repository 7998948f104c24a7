# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# What `run` does to a running machine by QMP, for cases with the argument monitor=ACTION. Sourced by run, and called by run_case, which
# has set $name and $build. The program and the action keep step by lines of the program's output: '# go', '# ready'. An action's
# own results are lines 'ok - TEXT' in $build/$name.tap; its status is that of the emulator.

# The variables name, build, cpu are run's; what is in single quotes is for another shell; an option of the machine may be added.
# shellcheck disable=SC2154,SC2016,SC2119,SC2120

verdict() {
	echo "$1 - $name: $2" >>"$build/$name.tap"
	[ "$1" = ok ] || [ -z "${3-}" ] || echo "# $3" >>"$build/$name.tap"
}

# judge TEXT REASON COMMAND...
judge() {
	_text=$1 _reason=$2
	shift 2
	if "$@"; then
		verdict ok "$_text"
	else
		verdict "not ok" "$_text" "$_reason"
	fi
}

# machine_start OPTION...: the emulator in the background, with a monitor; its output is added to $build/$name.out.
machine_start() {
	pipe=$build/$name.qmp
	rm -f -- "$pipe.in" "$pipe.out"
	mkfifo "$pipe.in" "$pipe.out"
	: >"$pipe.log"
	emulate -chardev "pipe,id=qmp,path=$pipe" -mon chardev=qmp,mode=control "$@" >>"$build/$name.out" 2>>"$build/$name.err" &
	machine_pid=$!
	# Open for both, which waits for nobody: a machine that ends early leaves no one waiting.
	exec 3<>"$pipe.in" 4<>"$pipe.out"
	cat <&4 >"$pipe.log" 3>&- &
	reader=$!
	request=0
	qmp '"execute": "qmp_capabilities"'
}

# machine_end: waits for its end; gives its status.
machine_end() {
	_rc=0
	wait "$machine_pid" || _rc=$?
	kill "$reader" 2>/dev/null || :
	wait "$reader" 2>/dev/null || :
	exec 3>&- 4>&-
	rm -f -- "$pipe.in" "$pipe.out"
	return "$_rc"
}

# appears FILE REGEX [SECONDS]: waits for a line, no longer than the machine lives.
appears() {
	_n=$((${3-100} * 10))
	until grep -q -e "$2" -- "$1" 2>/dev/null; do
		_n=$((_n - 1))
		if [ "$_n" -le 0 ] || ! kill -0 "$machine_pid" 2>/dev/null; then
			grep -q -e "$2" -- "$1" 2>/dev/null
			return
		fi
		sleep 0.1
	done
}

# qmp MEMBERS: one command; its answer is in $answer.
qmp() {
	request=$((request + 1))
	echo "{ $1, \"id\": $request }" >&3
	answer=
	appears "$pipe.log" "\"id\": ${request}[,}]" 30 || {
		verdict "not ok" "the monitor answers" "$1"
		return 1
	}
	answer=$(grep -e "\"id\": ${request}[,}]" -- "$pipe.log")
	case $answer in
	*'"error":'*)
		verdict "not ok" "the monitor accepts a command" "$answer"
		return 1
		;;
	esac
}

# counters CPU: what the model has counted, in $answer
counters() {
	qmp '"execute": "query-cpus-fast"' || return 1
	_path=$(printf '%s' "$answer" | sed 's/}, {/}\n{/g' | sed -n "/\"cpu-index\": $1[,}]/s/.*\"qom-path\": \"\([^\"]*\)\".*/\1/p")
	qmp "\"execute\": \"qom-get\", \"arguments\": { \"path\": \"$_path\", \"property\": \"spe-stats\" }"
}

# counter NAME: of $answer
counter() {
	printf '%s\n' "$answer" | sed -n "s/.*\"$1\": \([0-9]*\)[,}].*/\1/p"
}

monitored() {
	: >"$build/$name.out"
	: >"$build/$name.err"
	"action_$1"
}

# The program says '# want CPU COUNTER AT-LEAST AT-MOST', from what it has seen of its buffer.
# shellcheck disable=SC2317 # monitored calls it
action_stats() {
	machine_start
	appears "$build/$name.out" '^# ready'
	for _cpu in 0 1; do
		counters "$_cpu" || break
		tr -d '\r' <"$build/$name.out" | sed -n "s/^# want $_cpu //p" >"$build/$name.want"
		judge "CPU $_cpu: the program says what to count" "see $name.out" test -s "$build/$name.want"
		while read -r _what _least _most; do
			_has=$(counter "$_what")
			judge "CPU $_cpu: $_what" "counted ${_has:-nothing}, not $_least to $_most" \
				test "${_has:--1}" -ge "$_least" -a "${_has:--1}" -le "$_most"
		done <"$build/$name.want"
	done
	qmp '"execute": "quit"' || kill "$machine_pid"
	machine_end
}

# save: the running machine goes to a file.
save() {
	machine_start
	appears "$build/$name.out" '^# go' || :
	qmp "\"execute\": \"migrate\", \"arguments\": { \"uri\": \"file:$build/$name.state\" }" || :
	_n=300
	while [ "$_n" -gt 0 ] && qmp '"execute": "query-migrate"'; do
		case $answer in
		*'"status": "completed"'*) break ;;
		*'"status": "failed"'*) _n=0 ;;
		esac
		_n=$((_n - 1))
		sleep 0.1
	done
	judge "the machine is saved" "$answer" test "$_n" -gt 0
	judge "... while its program is at work" "it was too slow, or the program too quick" \
		sh -c '! grep -q -e "^1[.][.]" -e "^# end" "$1"' sh "$build/$name.out"
	qmp '"execute": "quit"' || kill "$machine_pid"
	machine_end
}

# shellcheck disable=SC2317 # monitored calls it
action_migrate() {
	save || return
	_rc=0
	emulate -incoming "file:$build/$name.state" >>"$build/$name.out" 2>>"$build/$name.err" || _rc=$?
	rm -f -- "$build/$name.state"
	return "$_rc"
}

# Software must not see its SPU change.
# shellcheck disable=SC2317 # monitored calls it
action_refuse() {
	save || return
	_first=$cpu
	for _more in spe-pmsver=4 spe-align=16 spe-max-buffer-size=4M spe-defer=4; do
		cpu=$_first,$_more
		_rc=0
		emulate -incoming "file:$build/$name.state" >"$build/$name.refused" 2>&1 || _rc=$?
		judge "a machine with $_more does not take it, and says why" "status $_rc: $(head -n 1 "$build/$name.refused")" \
			sh -c 'test "$1" -eq 1 && grep -q "spe-.* must be the same on both sides" "$2"' sh "$_rc" "$build/$name.refused"
	done
	cpu=$_first
	_rc=0
	emulate -incoming "file:$build/$name.state" >>"$build/$name.out" 2>>"$build/$name.err" || _rc=$?
	rm -f -- "$build/$name.state"
	return "$_rc"
}

# shellcheck disable=SC2317 # monitored calls it
action_reset() {
	machine_start
	appears "$build/$name.out" '^# go' || :
	counters 0
	_before=$(counter records)
	qmp '"execute": "system_reset"' || :
	appears "$build/$name.out" '^# ready' || :
	counters 0
	judge "the counters survive a reset" "records: ${_before:-none}, then $(counter records)" \
		test "${_before:-0}" -gt 0 -a "$(counter records)" -gt "${_before:-0}"
	qmp '"execute": "quit"' || kill "$machine_pid"
	machine_end
}
