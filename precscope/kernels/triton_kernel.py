# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
# ruff: noqa: RUF005 (Triton's compiler does not unpack tuples)
"""The observation as a Triton kernel: one read of the tensor, integer counts, a row on the device.

Every value is widened to float32 in registers, which is exact for the 16-bit formats and makes
their subnormals normal. What limits it is instructions. Tiles whose values lie in a window of 32
octaves, or are zero, are counted in bit planes (``triton_planes``). Only a tile that holds something
else (an exponent far away, a float32 subnormal, an infinity, a NaN) is looked at in full, by
``tl.histogram``, whose size is its cost before Triton 3.9: one instruction of every warp for each bit
of a place.

Imported only where a kernel is launched: it needs ``triton``.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl

from precscope.kernels import triton_planes as planes
from precscope.kernels.triton_planes import add_sixteen, eighths, no_planes, quarters, totals_of

WARPS: Final = 8
"""Warps in a program."""

TILE: Final = planes.VALUES * 32 * WARPS
"""Values at a time in one program, 16 for each thread; below 2^16: the counts of a tile fit 16 bits."""

CODES_TILE: Final = 2048
"""The same for 8-bit formats."""

PLANES: Final = 6
"""Planes beyond the 4 inside a tile: 63 tiles are counted before their counts come to the row."""

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

ROOM = tl.constexpr(3)
"""Octaves of the window above the largest value of its first tile."""

FIELD_BITS = tl.constexpr(23)
"""Where the exponent field of a float32 begins."""

INFINITY_BITS = tl.constexpr(0x7F800000)
VALUES = tl.constexpr(planes.VALUES)
INNER = tl.constexpr(planes.INNER)

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
        value = raw.to(tl.float32, bitcast=True)
    elif KIND == 1:
        value = raw.to(tl.float16, bitcast=True).to(tl.float32)
    else:
        value = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    # By a mask of the bits, LLVM would make two instructions of each minimum with 1 below.
    return tl.abs(value).to(tl.int32, bitcast=True)


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
def _add_tile(source, start, size, totals, KIND: tl.constexpr, WIDTH: tl.constexpr):
    """The totals with the values ``start`` to below ``start + WIDTH``, zeros from ``size`` on."""
    # A float16 widened to float32 has one of 40 fields, 103 to 142. Of the others 2^-45 to 2^16
    # is near.
    BELOW: tl.constexpr = 96 if KIND == 1 else 81
    PART: tl.constexpr = WIDTH // 2
    for part in range(2):
        place = start + part * PART + tl.arange(0, PART)
        raw = tl.load(source + place, mask=place < size, other=0)
        totals = _add_part(_float32_bits(raw, KIND), totals, KIND, BELOW)
    return totals


@triton.jit
def _load_sixteen(source, start, KIND: tl.constexpr, LANES: tl.constexpr):
    """Two times eight values of each lane as float32 bits, in loads of 16 bytes."""
    if KIND == 0:
        place = source + start + tl.arange(0, 4 * LANES)
        a = quarters(_float32_bits(tl.load(place), KIND))
        b = quarters(_float32_bits(tl.load(place + 4 * LANES), KIND))
        c = quarters(_float32_bits(tl.load(place + 8 * LANES), KIND))
        d = quarters(_float32_bits(tl.load(place + 12 * LANES), KIND))
        first, second = a + b, c + d
    else:
        place = source + start + tl.arange(0, 8 * LANES)
        first = eighths(_float32_bits(tl.load(place), KIND))
        second = eighths(_float32_bits(tl.load(place + 8 * LANES), KIND))
    return first, second


@triton.jit
def _above(bits, drop):
    """How far a value is above the window's lower end: 0 if it is 0, from 2^28 on if outside."""
    return bits + tl.minimum(bits, 1) * drop


@triton.jit
def _highest(eight, drop):
    top = _above(eight[0], drop).to(tl.uint32, bitcast=True)
    for i in tl.static_range(1, 8):
        top = tl.maximum(top, _above(eight[i], drop).to(tl.uint32, bitcast=True))
    return top


@triton.jit
def _one_hots(eight, drop):
    """One bit for the octave of each value, none for a zero; and again for the powers of two."""
    every = ()
    powers = ()
    for i in tl.static_range(8):
        bits = eight[i]
        hot = tl.minimum(bits, 1) << (_above(bits, drop) >> FIELD_BITS)
        every = every + (hot,)
        powers = powers + (tl.where((bits & 0x7FFFFF) == 0, hot, 0),)
    return every, powers


@triton.jit
def _add_values(eight, total, squares):
    for i in tl.static_range(8):
        wide = eight[i].to(tl.float32, bitcast=True).to(tl.float64)
        total += wide
        squares += wide * wide
    return total, squares


@triton.jit
def _window(source, start, KIND: tl.constexpr, LANES: tl.constexpr):
    """The lowest of 32 octaves, as bits, with room above for what is a little larger."""
    bits = _float32_bits(tl.load(source + start + tl.arange(0, 4 * LANES)), KIND)
    field = tl.max(tl.where(bits < INFINITY_BITS, bits, 0)) >> 23
    # Negative from the start, so that each value takes one multiplication and addition.
    drop = 31 - ROOM - tl.where(field == 0, 127, field)
    LEAST: tl.constexpr = 103 if KIND == 1 else 1
    MOST: tl.constexpr = 142 - 31 if KIND == 1 else 254 - 31
    return tl.maximum(tl.minimum(drop, -LEAST), -MOST) << 23


@triton.jit
def _observe_span(
    source,
    size,
    row,
    first,
    step,
    KIND: tl.constexpr,
    WIDTH: tl.constexpr,
    PLANES: tl.constexpr,
):
    """Add tiles ``first``, ``first + step``, ... of ``size`` values to the row.

    Complete tiles are loaded without a mask, in the widest words that their address allows.
    """
    LANES: tl.constexpr = WIDTH // VALUES
    # A tile carries at most one out of its inner planes, for each octave: no counter overflows.
    ROUND: tl.constexpr = (1 << PLANES) - 1
    zero = tl.zeros([], dtype=tl.int64)
    totals = (
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
    complete = size // WIDTH
    for start in range(first, complete, step * ROUND):
        last = tl.minimum(start + zero + step * ROUND, complete)
        totals = _add_round(
            source, start + zero, last, step, size, row, totals, KIND, WIDTH, LANES, PLANES
        )
    padding = 0
    if (complete % step == first) & (complete * WIDTH < size):
        totals = _add_tile(source, (complete + zero) * WIDTH, size, totals, KIND, WIDTH)
        padding += ((complete + 1) * WIDTH - size).to(tl.int32)
    _add_totals_to_row(row, totals, padding, KIND)


@triton.jit
def _add_round(
    source,
    start,
    last,
    step,
    size,
    row,
    totals,
    KIND: tl.constexpr,
    WIDTH: tl.constexpr,
    LANES: tl.constexpr,
    PLANES: tl.constexpr,
):
    """Add complete tiles to the row, as many as the planes can count.

    Those with values outside the window come to the totals, which are returned.
    """
    drop = _window(source, start * WIDTH, KIND, LANES)
    inner, outer = no_planes(LANES, INNER), no_planes(LANES, PLANES)
    inner_powers, outer_powers = no_planes(LANES, INNER), no_planes(LANES, PLANES)
    highest = tl.zeros([LANES], dtype=tl.uint32)
    total = tl.zeros([LANES], dtype=tl.float64)
    squares = tl.zeros([LANES], dtype=tl.float64)
    tiles = 0
    for tile in range(start, last, step):
        first_eight, second_eight = _load_sixteen(source, tile * WIDTH, KIND, LANES)
        top = tl.maximum(_highest(first_eight, drop), _highest(second_eight, drop))
        if tl.max((top >> (FIELD_BITS + 5)).to(tl.int32)) == 0:
            hot, hot_powers = _one_hots(first_eight, drop)
            more, more_powers = _one_hots(second_eight, drop)
            inner, outer = add_sixteen(inner, outer, hot, more, PLANES)
            inner_powers, outer_powers = add_sixteen(
                inner_powers, outer_powers, hot_powers, more_powers, PLANES
            )
            total, squares = _add_values(first_eight, total, squares)
            total, squares = _add_values(second_eight, total, squares)
            highest = tl.maximum(highest, top)
            tiles += 1
        else:
            totals = _add_tile(source, tile * WIDTH, size, totals, KIND, WIDTH)
    found = _add_octaves(row + COUNTS, totals_of(inner + outer, INNER + PLANES), drop)
    _add_octaves(row + POWERS, totals_of(inner_powers + outer_powers, INNER + PLANES), drop)
    tl.atomic_add(row + ZEROS, (tiles * WIDTH - found).to(tl.int64))
    # Where nothing was found but zeros, the largest is not the window's lower end.
    above = tl.max(highest.to(tl.int32, bitcast=True))
    amax = tl.where(found > 0, above - drop, 0).to(tl.float32, bitcast=True)
    _add_sums_to_row(row, amax, tl.sum(total), tl.sum(squares))
    return totals


@triton.jit
def _add_totals_to_row(row, totals, padding, KIND: tl.constexpr):
    pairs, counts, powers, small, small_powers, zeros, nans, amax, sum_abs, sum_squares = totals
    _add_near_to_row(row, pairs, padding, 96 if KIND == 1 else 81)
    if KIND != 1:
        _add_far_to_row(row, counts, powers, small, small_powers, zeros, nans)
    _add_sums_to_row(row, amax, sum_abs, sum_squares)


@triton.jit
def _add_octaves(slots, counts, drop):
    """Add the counts of a window to the row; how many there are."""
    found = 0
    for part in tl.static_range(4):
        slot = slots + FIRST_NORMAL - (drop >> 23) + 8 * part + tl.arange(0, 8)
        tl.atomic_add(slot, counts[part].to(tl.int64), mask=counts[part] > 0)
        found += tl.sum(counts[part])
    return found


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
    widened = amax.to(tl.float64)
    tl.atomic_max(row + AMAX, widened.to(tl.int64, bitcast=True))
    floats = row.to(tl.pointer_type(tl.float64))
    tl.atomic_add(floats + SUM_ABS, sum_abs)
    tl.atomic_add(floats + SUM_SQUARES, sum_squares)


@triton.jit(do_not_specialize=["size"])
def observe_one(source, size, row, KIND: tl.constexpr, WIDTH: tl.constexpr, PLANES: tl.constexpr):
    """Add one observation of ``size`` values to ``row``; any number of programs.

    Not specialised on the size: a step with a new one would wait for the compiler.
    """
    size = size.to(tl.int64)
    first = tl.program_id(0)
    if first == 0:
        tl.atomic_add(row + OBSERVATIONS, 1)
    _observe_span(source, size, row, first, tl.num_programs(0), KIND, WIDTH, PLANES)


@triton.jit
def observe_jobs(jobs, KIND: tl.constexpr, WIDTH: tl.constexpr, PLANES: tl.constexpr):
    """A job for each program: address, size, address of the row, observations to add.

    Addresses are multiples of 16.
    """
    job = jobs + tl.program_id(0) * 4
    size = tl.load(job + 1)
    row = tl.load(job + 2).to(tl.pointer_type(tl.int64))
    tl.atomic_add(row + OBSERVATIONS, tl.load(job + 3))
    if KIND == 0:
        source = tl.load(job).to(tl.pointer_type(tl.int32))
    else:
        source = tl.load(job).to(tl.pointer_type(tl.int16))
    source = tl.multiple_of(source, 16)
    _observe_span(source, size, row, 0, 1, KIND, WIDTH, PLANES)


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
