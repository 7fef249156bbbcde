# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""The observation as a Triton kernel: one read of the tensor, integer counts, a row on the device.

Every value is widened to float32 in registers, which is exact for the 16-bit formats and makes
their subnormals normal. A tile of ordinary values becomes one small histogram, whose size is its cost
before Triton 3.9: one instruction of every warp for each bit of a place. Only a tile that holds
something else (an exponent far away, a float32 subnormal, an infinity, a NaN) is looked at in full. A
program adds up its tiles in registers and the row is touched once by each program, atomically.

Imported only where a kernel is launched: it needs ``triton``.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl

TILE: Final = 2048
"""Values at a time in one program; below 2^16, so that the counts of a tile fit 16 bits."""

WARPS: Final = 8
"""Warps in a program: each thread has 8 values of a tile, one load of 16 bytes in float16."""

REGISTERS: Final = 128
"""Of a thread, at most: with more, a processor of NVIDIA's holds one program, and waits for its loads."""

LAUNCH: Final = {
    "num_warps": WARPS,
    "enable_fp_fusion": True,
    **({} if torch.version.hip else {"maxnreg": REGISTERS}),
}
"""Options of every launch. Fusion is named because its default changes between versions."""

NEAR = tl.constexpr(64)
"""Places of the histogram for ordinary values: zeros, 62 octaves, and one for what is not finite."""

FIELDS = tl.constexpr(256)
"""Exponent fields of float32."""

SUBNORMALS = tl.constexpr(32)
"""Room for the 23 octaves below float32's normal numbers."""

# The row, as in precscope.kernels.row; a kernel can only read constants of this kind.
OBSERVATIONS = tl.constexpr(0)
ZEROS = tl.constexpr(1)
INFINITIES = tl.constexpr(2)
NANS = tl.constexpr(3)
AMAX = tl.constexpr(4)
SUM_ABS = tl.constexpr(5)
SUM_SQUARES = tl.constexpr(6)
COUNTS = tl.constexpr(8)
POWERS = tl.constexpr(285)
FIRST_NORMAL = tl.constexpr(22)
"""What to add to a field to get its place among the counts: field 1 is 2^-126, place 23."""


@triton.jit
def _float32_bits(raw, KIND: tl.constexpr):
    """Bits of the value as float32, without its sign. KIND: 0 float32, 1 float16, 2 bfloat16."""
    if KIND == 0:
        bits = raw
    elif KIND == 1:
        bits = raw.to(tl.float16, bitcast=True).to(tl.float32).to(tl.int32, bitcast=True)
    else:
        bits = raw.to(tl.int32) << 16
    return bits & 0x7FFFFFFF


@triton.jit
def _add_tile(bits, totals, KIND: tl.constexpr, BELOW: tl.constexpr):
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
        tl.maximum(amax, values),
        sum_abs + wide,
        sum_squares + wide * wide,
    )


@triton.jit
def _observe_span(
    source,
    size,
    row,
    first,
    step,
    KIND: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Add tiles ``first``, ``first + step``, ... of ``size`` values to the row.

    Complete tiles are loaded without a mask, in the widest words that their address allows.
    """
    # A float16 widened to float32 has one of 40 fields, 103 to 142. Of the others 2^-45 to 2^16
    # is near.
    BELOW: tl.constexpr = 96 if KIND == 1 else 81
    lanes = tl.arange(0, WIDTH).to(tl.int64)
    wide = tl.zeros([1], dtype=tl.int64)
    totals = (
        tl.zeros([2 * NEAR], dtype=tl.int32),
        tl.zeros([FIELDS], dtype=tl.int32),
        tl.zeros([FIELDS], dtype=tl.int32),
        tl.zeros([SUBNORMALS], dtype=tl.int32),
        tl.zeros([SUBNORMALS], dtype=tl.int32),
        tl.zeros([], dtype=tl.int64),
        tl.zeros([], dtype=tl.int64),
        tl.zeros([WIDTH], dtype=tl.float32),
        tl.zeros([WIDTH], dtype=tl.float64),
        tl.zeros([WIDTH], dtype=tl.float64),
    )
    complete = size // WIDTH
    for tile in range(first, complete, step):
        raw = tl.load(source + (wide + tile) * WIDTH + lanes)
        totals = _add_tile(_float32_bits(raw, KIND), totals, KIND, BELOW)
    padding = 0
    if (complete % step == first) & (complete * WIDTH < size):
        place = (wide + complete) * WIDTH + lanes
        raw = tl.load(source + place, mask=place < size, other=0)
        totals = _add_tile(_float32_bits(raw, KIND), totals, KIND, BELOW)
        padding += tl.sum((place >= size).to(tl.int32))
    pairs, counts, powers, small, small_powers, zeros, nans, amax, sum_abs, sum_squares = totals
    _add_near_to_row(row, pairs, padding, BELOW)
    if KIND != 1:
        _add_far_to_row(row, counts, powers, small, small_powers, zeros, nans)
    _add_sums_to_row(row, amax, sum_abs, sum_squares)


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


@triton.jit
def _add_sums_to_row(row, amax, sum_abs, sum_squares):
    # Positive float64s are ordered as their bits are.
    widened = tl.max(amax).to(tl.float64)
    tl.atomic_max(row + AMAX, widened.to(tl.int64, bitcast=True))
    floats = row.to(tl.pointer_type(tl.float64))
    tl.atomic_add(floats + SUM_ABS, tl.sum(sum_abs))
    tl.atomic_add(floats + SUM_SQUARES, tl.sum(sum_squares))


@triton.jit(do_not_specialize=["size"])
def observe_one(source, size, row, KIND: tl.constexpr, WIDTH: tl.constexpr):
    """Add one observation of ``size`` values to ``row``; any number of programs.

    Not specialised on the size: a step with a new one would wait for the compiler.
    """
    size = size.to(tl.int64)
    first = tl.program_id(0)
    if first == 0:
        tl.atomic_add(row + OBSERVATIONS, 1)
    _observe_span(source, size, row, first, tl.num_programs(0), KIND, WIDTH)


@triton.jit
def observe_jobs(jobs, KIND: tl.constexpr, WIDTH: tl.constexpr):
    """A job for each program: address, size, address of the row, observations to add."""
    job = jobs + tl.program_id(0) * 4
    size = tl.load(job + 1)
    row = tl.load(job + 2).to(tl.pointer_type(tl.int64))
    tl.atomic_add(row + OBSERVATIONS, tl.load(job + 3))
    if KIND == 0:
        source = tl.load(job).to(tl.pointer_type(tl.int32))
    else:
        source = tl.load(job).to(tl.pointer_type(tl.int16))
    _observe_span(source, size, row, 0, 1, KIND, WIDTH)


@triton.jit(do_not_specialize=["size"])
def count_codes(source, size, codes, WIDTH: tl.constexpr):
    """Add to ``codes``, 256 counts, how often each byte occurs."""
    # In 32 bits the rounding up below overflows for the last sizes before 2^31.
    size = size.to(tl.int64)
    lanes = tl.arange(0, WIDTH).to(tl.int64)
    bins = tl.arange(0, 256)
    counts = tl.zeros([256], dtype=tl.int32)
    for tile in range(tl.program_id(0), (size + WIDTH - 1) // WIDTH, tl.num_programs(0)):
        place = (tl.zeros([1], dtype=tl.int64) + tile) * WIDTH + lanes
        code = tl.load(source + place, mask=place < size, other=0).to(tl.int32)
        padding = tl.sum((place >= size).to(tl.int32))
        counts += tl.histogram(code, 256) - tl.where(bins == 0, padding, 0)
    tl.atomic_add(codes + bins, counts.to(tl.int64), mask=counts != 0)
