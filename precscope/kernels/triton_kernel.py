# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
# ruff: noqa: RUF005 (Triton's compiler does not unpack tuples)
"""The observation as a Triton kernel: one read of the tensor, integer counts, a row on the device.

Every value is widened to float32 in registers, which is exact for the 16-bit formats and makes
their subnormals normal. What limits it is instructions. Tiles whose values lie in a window of 32
octaves, or are zero, are counted in bit planes (``triton_planes``). Only a tile that holds something
else is looked at in full (``triton_histograms``).

Imported only where a kernel is launched: it needs ``triton``.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl

from precscope.kernels import triton_planes as planes
from precscope.kernels.triton_histograms import add_tile, add_totals_to_row, no_totals
from precscope.kernels.triton_planes import add_sixteen, eighths, no_planes, quarters, totals_of
from precscope.kernels.triton_row import (
    COUNTS,
    FIRST_NORMAL,
    INFINITY_BITS,
    OBSERVATIONS,
    POWERS,
    ZEROS,
    add_sums_to_row,
    float32_bits,
)

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

ROOM = tl.constexpr(3)
"""Octaves of the window above the largest value of its first tile."""

FIELD_BITS = tl.constexpr(23)
"""Where the exponent field of a float32 begins."""

VALUES = tl.constexpr(planes.VALUES)
INNER = tl.constexpr(planes.INNER)


@triton.jit
def _load_sixteen(source, start, KIND: tl.constexpr, LANES: tl.constexpr):
    """Two times eight values of each lane as float32 bits, in loads of 16 bytes."""
    if KIND == 0:
        place = source + start + tl.arange(0, 4 * LANES)
        a = quarters(float32_bits(tl.load(place), KIND))
        b = quarters(float32_bits(tl.load(place + 4 * LANES), KIND))
        c = quarters(float32_bits(tl.load(place + 8 * LANES), KIND))
        d = quarters(float32_bits(tl.load(place + 12 * LANES), KIND))
        first, second = a + b, c + d
    else:
        place = source + start + tl.arange(0, 8 * LANES)
        first = eighths(float32_bits(tl.load(place), KIND))
        second = eighths(float32_bits(tl.load(place + 8 * LANES), KIND))
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
    bits = float32_bits(tl.load(source + start + tl.arange(0, 4 * LANES)), KIND)
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
    totals = no_totals()
    complete = size // WIDTH
    for start in range(first, complete, step * ROUND):
        last = tl.minimum(start + zero + step * ROUND, complete)
        totals = _add_round(
            source, start + zero, last, step, size, row, totals, KIND, WIDTH, LANES, PLANES
        )
    padding = 0
    if (complete % step == first) & (complete * WIDTH < size):
        totals = add_tile(source, (complete + zero) * WIDTH, size, totals, KIND, WIDTH)
        padding += ((complete + 1) * WIDTH - size).to(tl.int32)
    add_totals_to_row(row, totals, padding, KIND)


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
            totals = add_tile(source, tile * WIDTH, size, totals, KIND, WIDTH)
    found = _add_octaves(row + COUNTS, totals_of(inner + outer, INNER + PLANES), drop)
    _add_octaves(row + POWERS, totals_of(inner_powers + outer_powers, INNER + PLANES), drop)
    tl.atomic_add(row + ZEROS, (tiles * WIDTH - found).to(tl.int64))
    # Where nothing was found but zeros, the largest is not the window's lower end.
    above = tl.max(highest.to(tl.int32, bitcast=True))
    amax = tl.where(found > 0, above - drop, 0).to(tl.float32, bitcast=True)
    add_sums_to_row(row, amax, tl.sum(total), tl.sum(squares))
    return totals


@triton.jit
def _add_octaves(slots, counts, drop):
    """Add the counts of a window to the row; how many there are."""
    found = 0
    for part in tl.static_range(4):
        slot = slots + FIRST_NORMAL - (drop >> 23) + 8 * part + tl.arange(0, 8)
        tl.atomic_add(slot, counts[part].to(tl.int64), mask=counts[part] > 0)
        found += tl.sum(counts[part])
    return found


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
