# SPDX-License-Identifier: GPL-2.0-only
# Copyright (c) 2026 The kvm-arm64-spe developers
#
# Turns the packets that `perf report -D` prints into one line per record, fields separated by tabs:
#
#	1 PC  2 EL  3 NS  4 op type  5 events  6 VA  7 PA  8 branch target  9 total  10 issue  11 translation latency
#	12 context  13 timestamp  14 data source  15 target's EL  16 previous branch target
#
# Addresses have 16 hexadecimal digits, so that they compare as strings; those of PC and targets get the top byte that the packet
# leaves out. Events stand between commas: ',RETIRED,L1D-ACCESS,'. A field without its packet is '-'. A packet that perf cannot
# decode becomes a line 'bad'.
#
# A packet's line: offset, up to 16 bytes in hexadecimal, the description.

function clear(i) {
	for (i = 1; i <= 16; i++)
		f[i] = "-"
	packets = 0
}

function hex16(s) {
	sub(/^0x/, "", s)
	return substr("0000000000000000", 1, 16 - length(s)) s
}

# The packet holds bits 55:0: those above are copies of bit 55 for a kernel's address.
function code(s) {
	s = hex16(s)
	if (substr(s, 3, 1) ~ /[89a-f]/)
		s = "ff" substr(s, 3)
	return s
}

function finish(i, line) {
	line = f[1]
	for (i = 2; i <= 16; i++)
		line = line "\t" f[i]
	print line
	clear()
}

BEGIN {
	clear()
}

/^\.  [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]: / {
	text = substr($0, 62)
	sub(/^ +/, "", text)
	n = split(text, w, " ")
	packets++
	if (w[1] == "PC") {
		f[1] = code(w[2])
		f[2] = substr(w[3], 3)
		f[3] = substr(w[4], 4)
	} else if (w[1] == "TGT") {
		f[8] = code(w[2])
		f[15] = substr(w[3], 3)
	} else if (w[1] == "PBT") {
		f[16] = code(w[2])
	} else if (w[1] == "VA") {
		f[6] = hex16(w[2])
	} else if (w[1] == "PA") {
		f[7] = hex16(w[2])
	} else if (w[1] == "EV") {
		f[5] = ","
		for (i = 2; i <= n; i++)
			f[5] = f[5] w[i] ","
	} else if (w[1] == "LAT") {
		if (w[3] == "TOT")
			f[9] = w[2]
		else if (w[3] == "ISSUE")
			f[10] = w[2]
		else if (w[3] == "XLAT")
			f[11] = w[2]
	} else if (w[1] == "CONTEXT") {
		f[12] = hex16(w[2])
	} else if (w[1] == "DATA-SOURCE") {
		f[14] = w[2]
	} else if (w[1] == "TS") {
		f[13] = w[2]
		finish()
	} else if (w[1] == "END") {
		finish()
	} else if (w[1] == "PAD") {
		packets--
	} else if (text ~ /^(LD|ST|B|OTHER|SVE-OTHER|SME-OTHER)( |$)/) {
		f[4] = text
		sub(/ +$/, "", f[4])
	} else {
		print "bad\t" $0
	}
}

END {
	# A record that does not end is one that the buffer's end cut.
	if (packets)
		print "bad\tunfinished"
}
