# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
"""Counting by ``tl.histogram``: for tiles that hold what bit planes have no place for.

An exponent far from the others, a float32 subnormal, an infinity, a NaN. Counts lie in registers, the
totals of one program, and come to the row once, when it has seen all of its tiles. The size of a
histogram is its cost before Triton 3.9: one instruction of every warp for each bit of a place.
"""

from __future__ import annotations

import triton
import triton.language as tl

from precscope.kernels.triton_row import (
    COUNTS,
    FIRST_NORMAL,
    INFINITIES,
    NANS,
    POWERS,
    ZEROS,
    add_sums_to_row,
    float32_bits,
)

NEAR = tl.constexpr(64)
"""Places of the histogram for ordinary values: zeros, 62 octaves, and one for what is not finite."""

FIELDS = tl.constexpr(256)
"""Exponent fields of float32."""

SUBNORMALS = tl.constexpr(32)
"""Room for the 23 octaves below float32's normal numbers."""


@triton.jit
def no_totals():
    """Totals of nothing."""
    zero = tl.zeros([], dtype=tl.int64)
    return (
        tl.zeros([2 * NEAR], dtype=tl.int32),
        tl.zeros([FIELDS], dtype=tl.int32),
        tl.zeros([FIELDS], dtype=tl.int32),
        tl.zeros([SUBNORMALS], dtype=tl.int32),
        tl.zeros([SUBNORMALS], dtype=tl.int32),
        zero,
        zero,
        tl.zeros([], dtype=tl.float32),
        tl.zeros([], dtype=tl.float64),
        tl.zeros([], dtype=tl.float64),
    )


@triton.jit
def _add_part(bits, totals, KIND: tl.constexpr, BELOW: tl.constexpr):
    """The totals with the values of one tile.

    Near values, those of 62 octaves, are told by one histogram: by exponent, and whether the
    mantissa is zero. A widened float16 is always near: it has no subnormals, and what is not finite
    has the last place.
    """
    pairs, counts, powers, small, small_powers, zeros, nans, amax, sum_abs, sum_squares = totals
    field = bits >> 23
    mantissa = bits & 0x7FFFFF
    place = tl.where(field == 255, NEAR - 1, tl.maximum(field - BELOW, 0))
    if KIND == 1:
        pairs += tl.histogram(place * 2 + (mantissa == 0).to(tl.int32), 2 * NEAR)
    else:
        is_near = (bits == 0) | ((field > BELOW) & (field < BELOW + NEAR - 1))
        if tl.min(is_near.to(tl.int32)) > 0:
            pairs += tl.histogram(place * 2 + (mantissa == 0).to(tl.int32), 2 * NEAR)
        else:
            # One reduction across the program: four counts of 16 bits in one sum.
            is_power = (mantissa == 0) & (bits != 0)
            is_small = (field == 0) & (bits != 0)
            corners = (bits == 0).to(tl.int64) + (is_power.to(tl.int64) << 16)
            corners += (is_small.to(tl.int64) << 32) + ((field == 255).to(tl.int64) << 48)
            found = tl.sum(corners)
            zeros += found & 0xFFFF
            counts += tl.histogram(field, FIELDS)
            if ((found >> 16) & 0xFFFF) > 0:
                powers += tl.histogram(tl.where(mantissa == 0, field, 0), FIELDS)
            if ((found >> 32) & 0xFFFF) > 0:
                # A mantissa below 2^23 is exact in float32: its exponent is the octave, 0 to 22.
                octave = (mantissa.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
                small += tl.histogram(tl.where(is_small, octave, SUBNORMALS - 1), SUBNORMALS)
                one_bit = is_small & ((mantissa & (mantissa - 1)) == 0)
                small_powers += tl.histogram(tl.where(one_bit, octave, SUBNORMALS - 1), SUBNORMALS)
            if (found >> 48) > 0:
                nans += tl.sum(((field == 255) & (mantissa != 0)).to(tl.int32))
    values = tl.where(field == 255, 0, bits).to(tl.float32, bitcast=True)
    wide = values.to(tl.float64)
    return (
        pairs,
        counts,
        powers,
        small,
        small_powers,
        zeros,
        nans,
        tl.maximum(amax, tl.max(values)),
        sum_abs + tl.sum(wide),
        sum_squares + tl.sum(wide * wide),
    )


@triton.jit
def add_tile(source, start, size, totals, KIND: tl.constexpr, WIDTH: tl.constexpr):
    """The totals with the values ``start`` to below ``start + WIDTH``, zeros from ``size`` on."""
    # A float16 widened to float32 has one of 40 fields, 103 to 142. Of the others 2^-45 to 2^16
    # is near.
    BELOW: tl.constexpr = 96 if KIND == 1 else 81
    PART: tl.constexpr = WIDTH // 2
    for part in range(2):
        place = start + part * PART + tl.arange(0, PART)
        raw = tl.load(source + place, mask=place < size, other=0)
        totals = _add_part(float32_bits(raw, KIND), totals, KIND, BELOW)
    return totals


@triton.jit
def add_totals_to_row(row, totals, padding, KIND: tl.constexpr):
    """Add the totals of a program to the row, less the zeros by which its last tile was padded."""
    pairs, counts, powers, small, small_powers, zeros, nans, amax, sum_abs, sum_squares = totals
    _add_near_to_row(row, pairs, padding, 96 if KIND == 1 else 81)
    if KIND != 1:
        _add_far_to_row(row, counts, powers, small, small_powers, zeros, nans)
    add_sums_to_row(row, amax, sum_abs, sum_squares)


@triton.jit
def _add_near_to_row(row, pairs, padding, BELOW: tl.constexpr):
    pairs = tl.reshape(pairs, [NEAR, 2])
    counts = tl.sum(pairs, 1).to(tl.int64)
    powers = tl.sum(pairs * tl.arange(0, 2)[None, :], 1).to(tl.int64)
    bins = tl.arange(0, NEAR)
    normal = (bins > 0) & (bins < NEAR - 1)
    slot = row + FIRST_NORMAL + BELOW + bins
    tl.atomic_add(slot + COUNTS, counts, mask=normal & (counts > 0))
    tl.atomic_add(slot + POWERS, powers, mask=normal & (powers > 0))
    infinities = tl.sum(tl.where(bins == NEAR - 1, powers, 0))
    nans = tl.sum(tl.where(bins == NEAR - 1, counts, 0)) - infinities
    tl.atomic_add(row + ZEROS, tl.sum(tl.where(bins == 0, counts, 0)) - padding)
    tl.atomic_add(row + INFINITIES, infinities)
    tl.atomic_add(row + NANS, nans)


@triton.jit
def _add_far_to_row(row, counts, powers, small, small_powers, zeros, nans):
    bins = tl.arange(0, FIELDS)
    normal = (bins > 0) & (bins < FIELDS - 1)
    slot = row + FIRST_NORMAL + bins
    tl.atomic_add(slot + COUNTS, counts.to(tl.int64), mask=normal & (counts > 0))
    tl.atomic_add(slot + POWERS, powers.to(tl.int64), mask=normal & (powers > 0))
    octaves = tl.arange(0, SUBNORMALS)
    below = octaves < 23
    tl.atomic_add(row + COUNTS + octaves, small.to(tl.int64), mask=below & (small > 0))
    one_bit = below & (small_powers > 0)
    tl.atomic_add(row + POWERS + octaves, small_powers.to(tl.int64), mask=one_bit)
    not_finite = tl.sum(tl.where(bins == FIELDS - 1, counts, 0)).to(tl.int64)
    tl.atomic_add(row + ZEROS, zeros)
    tl.atomic_add(row + NANS, nans)
    tl.atomic_add(row + INFINITIES, not_finite - nans)
