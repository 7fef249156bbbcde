"""The SIMD passes over one chunk of float32 bit patterns.

Every index is unsigned: a signed one has to be tested for being negative, which stops both
vectorisation and the plain addressing modes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from precscope.histogram import MIN_EXPONENT
from precscope.kernels import row as slots
from precscope.kernels.simd import (
    BLOCK,
    Bytes,
    compiled,
    keep_apart,
    match_mask,
    popcount,
    prefetch,
    trailing_zeros,
)

Bits = npt.NDArray[np.uint32]
Values = npt.NDArray[Any]
Row = npt.NDArray[np.int64]

U8, U32, U64 = np.uint8, np.uint32, np.uint64
MAGNITUDE: Final = U32(0x7FFFFFFF)
MANTISSA: Final = U32(0x007FFFFF)
INFINITY: Final = U32(0x7F800000)
FIELD_SHIFT: Final = U32(23)
LARGEST_FIELD: Final = U64(254)

FIELD_ZERO: Final = -127 - MIN_EXPONENT
COUNTS_BY_FIELD: Final = U64(slots.COUNTS + FIELD_ZERO)
POWERS_BY_FIELD: Final = U64(slots.POWERS + FIELD_ZERO)
CACHE_LINE: Final = U64(64)
NONE, ONE, TWO, LANES = U64(0), U64(1), U64(2), U64(BLOCK)

MOST_COMPARES: Final = U64(48)
"""Exponents to look for one by one; a chunk spread wider is finished value by value."""


@compiled
def split(bits: Bits, fields: Bytes) -> tuple[np.uint32, np.uint64, np.uint64]:
    """Write the exponent fields; give the top magnitude, the zeros and the zero mantissas.

    ``fields`` may be longer than ``bits``: the rest becomes 0, which is never counted.
    """
    keep_apart()
    top, zeros, even = U32(0), U32(0), U32(0)
    for i in range(U64(bits.shape[0])):
        magnitude = U32(bits[i] & MAGNITUDE)
        fields[i] = U8(magnitude >> FIELD_SHIFT)
        top = magnitude if magnitude > top else top
        zeros = U32(zeros + U32(magnitude == U32(0)))
        even = U32(even + U32((bits[i] & MANTISSA) == U32(0)))
    for i in range(U64(bits.shape[0]), U64(fields.shape[0])):
        fields[i] = U8(0)
    return top, U64(zeros), U64(even)


@compiled
def keep_powers(bits: Bits, fields: Bytes) -> None:
    """Write the exponent fields of the normal powers of two, 0 for all other values."""
    keep_apart()
    for i in range(U64(bits.shape[0])):
        magnitude = U32(bits[i] & MAGNITUDE)
        power = (magnitude & MANTISSA) == U32(0) and magnitude < INFINITY
        fields[i] = U8(magnitude >> FIELD_SHIFT) if power else U8(0)
    for i in range(U64(bits.shape[0]), U64(fields.shape[0])):
        fields[i] = U8(0)


@compiled
def nonfinite(bits: Bits) -> tuple[np.uint64, np.uint64]:
    """Infinities and NaNs."""
    keep_apart()
    infinities, nans = U32(0), U32(0)
    for i in range(U64(bits.shape[0])):
        magnitude = U32(bits[i] & MAGNITUDE)
        infinities = U32(infinities + U32(magnitude == INFINITY))
        nans = U32(nans + U32(magnitude > INFINITY))
    return U64(infinities), U64(nans)


@compiled
def sums(values: Values) -> tuple[float, float]:
    """Sum of magnitudes and of squares, in float64."""
    sum_abs, sum_squares = 0.0, 0.0
    for i in range(U64(values.shape[0])):
        magnitude = np.float64(abs(values[i]))
        sum_abs += magnitude
        sum_squares += magnitude * magnitude
    return sum_abs, sum_squares


@compiled
def scatter(fields: Bytes, highest: np.uint64, row: Row, first_slot: np.uint64) -> np.uint64:
    """Count the fields from 1 to ``highest`` one by one; gives how many there were."""
    keep_apart()
    found = NONE
    for block in range(U64(fields.shape[0]) // LANES):
        occupied = ~match_mask(fields, block, U8(0))
        while occupied:
            field = U64(fields[U64(block) * LANES + trailing_zeros(occupied)])
            if field <= highest:
                row[first_slot + field] += 1
                found += ONE
            occupied &= occupied - ONE
    return found


@compiled
def compare(
    fields: Bytes,
    highest: np.uint64,
    wanted: np.uint64,
    row: Row,
    first_slot: np.uint64,
    following: Bytes,
) -> np.uint64:
    """Count ``wanted`` fields from ``highest`` down to 1; gives how many are not among them.

    ``following`` is the memory that is needed next: it is brought into L1 on the side, a cache
    line for every 256 compares, for which neither the loads nor the compares have to wait.
    """
    ahead, end = NONE, U64(following.shape[0])
    lowest = highest - MOST_COMPARES if highest > MOST_COMPARES else NONE
    while wanted > NONE and highest > lowest:
        upper, lower = NONE, NONE
        for block in range(U64(fields.shape[0]) // LANES):
            upper += popcount(match_mask(fields, block, U8(highest)))
            lower += popcount(match_mask(fields, block, U8(highest - ONE)))
            if block & ONE == NONE:
                prefetch(following, ahead if ahead < end else end)
                ahead += CACHE_LINE
        if highest == ONE:
            lower = NONE
        row[first_slot + highest] += np.int64(upper)
        row[first_slot + highest - ONE] += np.int64(lower)
        wanted -= upper + lower
        highest = highest - TWO if highest > ONE else NONE
    if wanted > NONE and highest > NONE:
        wanted -= scatter(fields, highest, row, first_slot)
    return wanted
