"""Sums in several formats at once, compiled by numba; ``reference.py`` says the same slowly.

The inner loops run over the samples, which are independent: they become SIMD without any sum being
reassociated. Everything is in this one file because numba's disk cache looks at no other.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

U32, U64, F32, F64 = np.uint32, np.uint64, np.float32, np.float64
NONE, ONE = U64(0), U64(1)

MAGNITUDE, SIGN, INFINITY = U32(0x7FFFFFFF), U32(0x80000000), U32(0x7F800000)
SMALLEST_NORMAL: Final = U32(113 << 23)
LAST_PLACES: Final = U32((13 << 23) | 0x400000)
OVERFLOW: Final = U32(0x477FF000)
ELEVEN_OCTAVES: Final = U32(11 << 23)

FEW: Final = 8
"""Samples up to which a column at a time is faster than a row at a time."""

CACHE_ERRORS: Final = (RuntimeError, OSError, EOFError, pickle.PickleError)
"""What numba raises where no cache directory is writable, or the cache is full or damaged."""


def _compiled(function: Function) -> Function:
    """Compile with IEEE arithmetic: a reassociated sum would be another accumulation."""
    return cast("Function", numba.njit(function))


@_compiled
def _to_half(x: np.float32) -> np.float32:
    """The float32 value of ``fp16(x)``: round to nearest even, infinity from 65520 on, NaN kept.

    Adding 1.5 * 2^(e + 13), where e is the exponent of x but at least -14, leaves FP16's 11
    bits (fewer where it is subnormal) in the sum, rounded; subtracting it is exact.
    """
    bits = F32(x).view(np.uint32)
    shift = U32(max(U32(bits & INFINITY), SMALLEST_NORMAL) + LAST_PLACES).view(np.float32)
    nearest = F32(F32(x + shift) - shift).view(np.uint32)
    magnitude = U32(bits & MAGNITUDE)
    overflows = (magnitude >= OVERFLOW) & (magnitude <= INFINITY)
    result = U32(U32((bits & SIGN) | INFINITY) if overflows else nearest)
    return result.view(np.float32)


@_compiled
def _half_ulp(x: np.float32) -> np.float32:
    """Half the distance of FP16 numbers around ``x``: 2^(e - 11), e at least -14."""
    bits = F32(x).view(np.uint32)
    return U32(max(U32(bits & INFINITY), SMALLEST_NORMAL) - ELEVEN_OCTAVES).view(np.float32)


@_compiled
def _exact_rows(addends: Floats, exact: Doubles, magnitude: Doubles, peak: Doubles) -> None:
    for k in range(U64(addends.shape[0])):
        for j in range(U64(addends.shape[1])):
            addend = F64(addends[k, j])
            total = exact[j] + addend
            exact[j] = total
            magnitude[j] += abs(addend)
            peak[j] = max(peak[j], abs(total))


@_compiled
def _add_row(addends: Floats, k: Any, part: Floats) -> None:
    for j in range(U64(part.shape[0])):
        part[j] += addends[k, j]


@_compiled
def _store_half(
    part: Floats, total: Floats, energy: Doubles, swamped: Doubles, walk: Doubles
) -> None:
    for j in range(U64(part.shape[0])):
        addend, before = part[j], total[j]
        square, limit = F64(addend) * F64(addend), _half_ulp(before)
        after = _to_half(F32(before + addend))
        place = F64(_half_ulp(after))
        energy[j] += square
        swamped[j] += square if abs(addend) < limit else F64(0.0)
        walk[j] += place * place if addend != F32(0.0) else F64(0.0)
        total[j] = after
        part[j] = F32(0.0)


@_compiled
def _half_rows(
    addends: Floats, block: np.uint64, part: Floats, total: Floats, tallies: Doubles
) -> None:
    length = U64(addends.shape[0])
    energy, swamped, walk = tallies[0], tallies[1], tallies[2]
    for k in range(NONE, length):
        _add_row(addends, k, part)
        if k + ONE == length or ((k + ONE) & (block - ONE)) == NONE:
            _store_half(part, total, energy, swamped, walk)


@_compiled
def _half_column(
    addends: Floats, j: Any, block: np.uint64, total: Floats, tallies: Doubles
) -> None:
    """As ``_half_rows``, down one column: a short row would not fill a SIMD register."""
    length, part, sum_ = U64(addends.shape[0]), F32(0.0), F32(0.0)
    energy, swamped, walk = F64(0.0), F64(0.0), F64(0.0)
    for k in range(NONE, length):
        part = F32(part + addends[k, j])
        if k + ONE == length or ((k + ONE) & (block - ONE)) == NONE:
            square, limit = F64(part) * F64(part), _half_ulp(sum_)
            sum_ = _to_half(F32(sum_ + part))
            place = F64(_half_ulp(sum_))
            energy += square
            swamped += square if abs(part) < limit else F64(0.0)
            walk += place * place if part != F32(0.0) else F64(0.0)
            part = F32(0.0)
    total[j] = sum_
    tallies[0, j], tallies[1, j], tallies[2, j] = energy, swamped, walk


@_compiled
def _wide_rows(addends: Floats, block: np.uint64, part: Floats, total: Floats) -> None:
    length = U64(addends.shape[0])
    for k in range(NONE, length):
        _add_row(addends, k, part)
        if k + ONE == length or ((k + ONE) & (block - ONE)) == NONE:
            for j in range(U64(part.shape[0])):
                total[j] = F32(total[j] + part[j])
                part[j] = F32(0.0)


def _sums(addends: Any, blocks: Any, halves: Any, wide: Any, exact: Any, tallies: Any) -> None:
    samples, kinds = U64(addends.shape[1]), U64(blocks.shape[0])
    part = np.zeros(samples, np.float32)
    _exact_rows(addends, exact[0], exact[1], exact[2])
    for i in range(NONE, kinds):
        if samples < FEW:
            for j in range(NONE, samples):
                _half_column(addends, j, blocks[i], halves[i], tallies[i])
        else:
            _half_rows(addends, blocks[i], part, halves[i], tallies[i])
    _wide_rows(addends, blocks[kinds - ONE], part, wide)


@cache
def sums() -> Callable[..., None]:
    """The compiled loop, as ``sums.py`` calls it; compiled or loaded on the first call."""
    from numba.core import types

    floats, doubles = types.Array(types.float32, 2, "C"), types.Array(types.float64, 2, "C")
    signature = types.void(
        floats,
        types.Array(types.uint64, 1, "C"),
        floats,
        types.Array(types.float32, 1, "C"),
        doubles,
        types.Array(types.float64, 3, "C"),
    )
    try:
        compiled = numba.njit(signature, cache=True)(_sums)
    except CACHE_ERRORS:
        compiled = numba.njit(signature)(_sums)
    return cast("Callable[..., None]", compiled)
