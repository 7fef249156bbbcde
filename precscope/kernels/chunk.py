"""What is done with one chunk of float32 bit patterns, and which passes it needs.

``split`` and ``count`` see every chunk. Exact powers of two are looked for only if there is a
zero mantissa that is neither a zero nor an infinity; chunks with infinities, NaNs or subnormals
are summed value by value, all others by the SIMD loop ``sums``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from precscope.histogram import MIN_EXPONENT
from precscope.kernels import row as slots
from precscope.kernels.passes import (
    COUNTS_BY_FIELD,
    FIELD_SHIFT,
    INFINITY,
    LANES,
    LARGEST_FIELD,
    MAGNITUDE,
    NONE,
    ONE,
    POWERS_BY_FIELD,
    U32,
    U64,
    Bits,
    Row,
    Values,
    compare,
    keep_powers,
    nonfinite,
    scatter,
    split,
    sums,
)
from precscope.kernels.simd import Bytes, compiled, keep_apart, merged
from precscope.kernels.tally import count_wide
from precscope.kernels.wide import has_wide_registers
from precscope.kernels.widen import Codes, widen

Floats = npt.NDArray[np.float64]

SMALLEST_NORMAL: Final = U32(0x00800000)
SMALLEST_SUBNORMAL: Final = 2.0**MIN_EXPONENT

count = count_wide if has_wide_registers() else compare
"""``count(fields, highest, wanted, row, first_slot, following)``: see either."""

FEW: Final = U64(256)
"""One power of two in this many values is still cheaper picked out than compared for."""


@compiled
def raise_amax(floats: Floats, magnitude: float) -> None:
    """Raise the row's amax to at least ``magnitude``."""
    if magnitude > floats[slots.AMAX]:
        floats[slots.AMAX] = magnitude


@compiled
def observe_chunk(
    bits: Bits, values: Values, fields: Bytes, row: Row, floats: Floats, following: Bytes
) -> np.uint32:
    """Add a chunk to the row, except for its amax; gives its largest magnitude as bits."""
    keep_apart()
    top, subnormals = _tally(bits, fields, row, following)
    if subnormals > NONE or top >= INFINITY:
        _value_by_value(bits, values, row, floats)
    else:
        sum_abs, sum_squares = sums(values)
        floats[slots.SUM_ABS] += sum_abs
        floats[slots.SUM_SQUARES] += sum_squares
    return top


@merged
def _tally(bits: Bits, fields: Bytes, row: Row, following: Bytes) -> tuple[np.uint32, np.uint64]:
    """Count a chunk; gives its largest magnitude and the number of subnormals still to count."""
    size = U64(bits.shape[0])
    fields = fields[: (size + LANES - ONE) & ~(LANES - ONE)]
    top, zeros, even = split(bits, fields)
    infinities, nans = nonfinite(bits) if top >= INFINITY else (NONE, NONE)
    row[slots.ZEROS] += np.int64(zeros)
    row[slots.INFINITIES] += np.int64(infinities)
    row[slots.NANS] += np.int64(nans)
    highest = U64(top >> FIELD_SHIFT) if top < INFINITY else LARGEST_FIELD
    wanted = size - zeros - infinities - nans
    subnormals = count(fields, highest, wanted, row, COUNTS_BY_FIELD, following)
    tally_powers(bits, fields, highest, even - zeros - infinities, row)
    return top, subnormals


@compiled
def tally_powers(
    bits: Bits, fields: Bytes, highest: np.uint64, powers: np.uint64, row: Row
) -> None:
    """Count ``powers`` exact powers of two. Overwrites the fields."""
    keep_apart()
    if powers == NONE:
        return
    keep_powers(bits, fields)
    if powers * FEW > U64(bits.shape[0]):
        count(fields, highest, powers, row, POWERS_BY_FIELD, fields)
    else:
        scatter(fields, highest, row, POWERS_BY_FIELD)


@compiled
def _value_by_value(bits: Bits, values: Values, row: Row, floats: Floats) -> None:
    """Sum the finite values of a chunk, raise amax, count the subnormals."""
    keep_apart()
    for i in range(U64(bits.shape[0])):
        magnitude = U32(bits[i] & MAGNITUDE)
        if magnitude == U32(0) or magnitude >= INFINITY:
            continue
        value = np.float64(abs(values[i]))
        if magnitude < SMALLEST_NORMAL:
            if values.itemsize == 4:
                # By integer, because the processor may be told to take subnormals for zeros.
                value = np.float64(magnitude) * SMALLEST_SUBNORMAL
            _count_subnormal(row, value)
        raise_amax(floats, value)
        floats[slots.SUM_ABS] += value
        floats[slots.SUM_SQUARES] += value * value


@compiled
def _count_subnormal(row: Row, magnitude: float) -> None:
    """Count a value below 2^-126; below 2^-149 (float64 only) it goes into the lowest bin."""
    significand, exponent = math.frexp(magnitude)
    place = exponent - 1 - MIN_EXPONENT if exponent > MIN_EXPONENT else 0
    row[slots.COUNTS + place] += 1
    row[slots.POWERS + place] += significand == 0.5


@compiled
def observe_widened_chunk(
    kind: int,
    source: Codes,
    table: Bits,
    bits: Bits,
    buffers: tuple[Bytes, Bytes],
    row: Row,
    floats: Floats,
    following: Bytes,
) -> np.uint32:
    """Add a chunk of a narrow format to the row, except for its amax; gives that as bits."""
    widen(kind, source, table, bits)
    return observe_chunk(bits, bits.view(np.float32), buffers[0], row, floats, following)
