// SPDX-License-Identifier: GPL-2.0-only
/*
 * The decoder of decode.h.
 *
 * Copyright (c) 2026 The kvm-arm64-spe developers
 */
#include "decode.h"

static u64 payload(const u8 *p, int n)
{
	u64 v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

const char *decode(const u8 **pp, const u8 *end, struct record *r)
{
	const u8 *start = *pp, *p = start, *pad;

	memset(r, 0, sizeof(*r));
	for (;;) {
		int h, n = 0, ext = 0;
		u64 v;

		if (p >= end)
			return "no End or Timestamp packet before the end";
		h = *p++;
		if (h >= 0x20 && h < 0x40) {
			if (h & 0x1c)
				return "bits 4:2 of an extended header are not 0";
			ext = h & 3;
			h = *p++;
		}
		if (h == 0x00)
			return "padding inside a record";
		if (h == 0x01)
			break;
		if (h < 0x40)
			return "unknown header";
		n = 1 << (h >> 4 & 3);
		if (p + n > end)
			return "packet runs over the end";
		v = payload(p, n);
		p += n;
		if (h == 0x71) {
			r->has_ts = 1;
			r->ts = v;
			break;
		}
		if ((h & 0xcf) == 0x42) {
			if (r->has_events)
				return "two Events packets";
			r->has_events = 1;
			r->events = v;
		} else if ((h & 0xef) == 0x43) {
			r->has_ds = 1;
			r->ds = v;
		} else if (h == 0x64 || h == 0x65) {
			if (r->ctxs & BIT(h & 1))
				return "two Context packets of one index";
			r->ctxs |= BIT(h & 1);
			r->ctx[h & 1] = v;
		} else if (h >= 0x48 && h <= 0x4a) {
			if (r->op)
				return "two Operation Type packets";
			r->op = h;
			r->opsub = v;
		} else if ((h & 0xf8) == 0xb0) {
			if (ext || (h & 7) > 4)
				return "reserved or IMPLEMENTATION DEFINED address";
			if (r->addrs & BIT(h & 7))
				return "two Address packets of one index";
			r->addrs |= BIT(h & 7);
			r->addr[h & 7] = v;
		} else if ((h & 0xf8) == 0x98) {
			if (ext || (h & 7) > 2)
				return "reserved or IMPLEMENTATION DEFINED counter";
			if (r->counters & BIT(h & 7))
				return "two Counter packets of one index";
			r->counters |= BIT(h & 7);
			r->counter[h & 7] = v;
		} else {
			return "unknown packet";
		}
	}
	r->size = p - start;
	/* padding up to PMBIDR_EL1.Align, counted from the record's start */
	for (pad = p; (u64)pad & (id.align - 1); pad++)
		if (pad >= end || *pad)
			return "padding is not 0";
	if (pad - start > (s64)id.max)
		return "longer than PMSIDR_EL1.MaxSize";
	if (!r->has_events)
		return "no Events packet";
	*pp = pad;
	return 0;
}

int decode_all(u64 start, u64 end, struct record *recs, int max)
{
	const u8 *p = (const u8 *)start;
	struct record spare;
	int n = 0, i;

	while (p < (const u8 *)end) {
		const u8 *at = p;
		const char *err = decode(&p, (const u8 *)end,
					 n < max ? &recs[n] : &spare);

		if (err) {
			print("# record %d at %#lx: %s:", n, (u64)at, err);
			for (i = 0; i < 64 && at + i < (const u8 *)end; i++)
				print(" %02x", at[i]);
			print("\n");
			return -1;
		}
		n++;
	}
	return n;
}
