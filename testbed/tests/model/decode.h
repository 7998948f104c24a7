/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A decoder of sample records (Arm ARM D18.1, D18.2), strict: whatever the
 * format does not allow is an error.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#ifndef DECODE_H
#define DECODE_H

#include "harness.h"

#define EV_EXCEPTION	BIT(0)
#define EV_RETIRED	BIT(1)
#define EV_L1D		BIT(2)
#define EV_L1D_MISS	BIT(3)
#define EV_TLB		BIT(4)
#define EV_TLB_WALK	BIT(5)
#define EV_NOT_TAKEN	BIT(6)
#define EV_MISPRED	BIT(7)
#define EV_MISALIGNED	BIT(11)
#define EV_PARTIAL	BIT(17)
#define EV_EMPTY	BIT(18)

#define OP_OTHER	0x48
#define OP_LDST		0x49
#define OP_BRANCH	0x4a

#define CTX_EL1		BIT(0)
#define CTX_EL2		BIT(1)

/* Indexes of address and counter packets; bits of .addrs and .counters */
#define A_PC		0
#define A_TARGET	1
#define A_VA		2
#define A_PA		3
#define A_PREV		4
#define C_TOTAL		0
#define C_ISSUE		1
#define C_XLAT		2

struct record {
	u32 size;		/* up to and with End or Timestamp */
	u32 addrs, counters, ctxs;
	u64 addr[8];
	u16 counter[8];
	u32 ctx[2];
	u64 events;
	u8 has_events, has_ts, has_ds;
	u8 op, opsub;		/* header byte and payload; op 0: no packet */
	u16 ds;
	u64 ts;
};

#define ADDR_EL(a)	((int)((a) >> 61 & 3))
#define ADDR_NS(a)	((int)((a) >> 63))
/* The address part, of the lower VA range */
#define ADDR(a)		((a) & (BIT(56) - 1))

/*
 * Decode one record at *p, below end. Gives 0 and moves *p behind the record
 * and its padding, or an error in words.
 */
const char *decode(const u8 **p, const u8 *end, struct record *r);

/*
 * Decode everything in [start, end) to recs; gives the number of records, or
 * -1 after a diagnostic. More than max are not stored, but counted.
 */
int decode_all(u64 start, u64 end, struct record *recs, int max);

#endif
