/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copyright (c) 2026 The kvm-arm64-spe developers
 *
 * PMBIDR_EL1.MaxBuffSize of the Statistical Profiling Extension. Hardware reads
 * 0, no limit; a hypervisor that limits the buffer of its guests encodes the
 * maximum, their driver decodes it.
 */

#ifndef __ASM_SPE_H
#define __ASM_SPE_H

#include <linux/bitfield.h>
#include <linux/bitops.h>
#include <linux/types.h>

/* PMBIDR_EL1.MaxBuffSize: a floating point number in units of 4 KiB. */
#define SPE_MAX_BUFF_SIZE_MANTISSA	GENMASK_ULL(8, 0)
#define SPE_MAX_BUFF_SIZE_EXPONENT	GENMASK_ULL(13, 9)

/**
 * spe_decode_max_buff_size - bytes that PMBIDR_EL1.MaxBuffSize stands for
 * @field: the 16 bits of the field
 *
 * Arm ARM D24.7.1. Bits [15:14] of the field are reserved and ignored.
 *
 * Return: the size in bytes; 0 when there is no limit.
 */
static inline u64 spe_decode_max_buff_size(u16 field)
{
	u64 mantissa = FIELD_GET(SPE_MAX_BUFF_SIZE_MANTISSA, field);
	u64 exponent = FIELD_GET(SPE_MAX_BUFF_SIZE_EXPONENT, field);

	if (!exponent)
		return mantissa << 12;

	return (BIT_ULL(9) | mantissa) << (exponent + 11);
}

/**
 * spe_encode_max_buff_size - PMBIDR_EL1.MaxBuffSize for a size
 * @size: bytes; 0 for no limit
 *
 * Return: the field that decodes to the largest expressible size not above
 * @size, so that a caller who needs @size itself compares after decoding. A
 * non-zero @size below 4 KiB gives 0.
 */
static inline u16 spe_encode_max_buff_size(u64 size)
{
	u64 exponent;

	if (size < BIT_ULL(21))
		return size >> 12;

	exponent = fls64(size) - 1 - 20;
	if (exponent > 31)
		return SPE_MAX_BUFF_SIZE_EXPONENT | SPE_MAX_BUFF_SIZE_MANTISSA;

	return FIELD_PREP(SPE_MAX_BUFF_SIZE_EXPONENT, exponent) |
	       ((size >> (exponent + 11)) & SPE_MAX_BUFF_SIZE_MANTISSA);
}

#endif /* __ASM_SPE_H */
