"""Products of FP16 matrices whose partial sums are rounded to FP16, compiled by numba.

The inner loops run over the columns of the result, which are independent: they become SIMD without
any sum being reassociated. Everything is in this one file because numba's disk cache looks at no
other.
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

U32, U64, F32 = np.uint32, np.uint64, np.float32
NONE, ONE, FOUR = U64(0), U64(1), U64(4)

COLUMNS: Final = U64(512)
"""Columns worked on at once: their accumulators and five rows of operands fit into L1."""

MAGNITUDE, SIGN, INFINITY = U32(0x7FFFFFFF), U32(0x80000000), U32(0x7F800000)
SMALLEST_NORMAL: Final = U32(113 << 23)
LAST_PLACES: Final = U32((13 << 23) | 0x400000)
OVERFLOW: Final = U32(0x477FF000)

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
def _add_product(total: Floats, row: Floats, factor: np.float32) -> None:
    for j in range(U64(total.shape[0])):
        total[j] = _to_half(F32(total[j] + F32(factor * row[j])))


@_compiled
def _add_block(total: Floats, block: Floats) -> None:
    for j in range(U64(total.shape[0])):
        total[j] = _to_half(F32(total[j] + block[j]))


@_compiled
def _add_one(block: Floats, row: Floats, factor: np.float32) -> None:
    for j in range(U64(block.shape[0])):
        block[j] += factor * row[j]


@_compiled
def _add_four(block: Floats, rows: Floats, start: int, factors: Floats) -> None:
    end = start + U64(block.shape[0])
    row0, row1 = rows[NONE, start:end], rows[ONE, start:end]
    row2, row3 = rows[U64(2), start:end], rows[U64(3), start:end]
    factor0, factor1, factor2, factor3 = factors[0], factors[1], factors[2], factors[3]
    for j in range(U64(block.shape[0])):
        part = block[j] + factor0 * row0[j]
        part = part + factor1 * row1[j]
        part = part + factor2 * row2[j]
        block[j] = part + factor3 * row3[j]


@_compiled
def _accumulate(
    total: Floats, scratch: Floats, factors: Floats, rows: Floats, start: int, size: int
) -> None:
    """One row of the result, columns from ``start`` on: blocks of ``size`` in float32."""
    length, end = U64(factors.shape[0]), start + U64(total.shape[0])
    total[:] = F32(0.0)
    for first in range(NONE, length, size):
        if size == ONE:
            _add_product(total, rows[first, start:end], factors[first])
            continue
        scratch[:] = F32(0.0)
        last = first + size if first + size < length else length
        fours = last - U64(last - first) % FOUR
        for k in range(first, fours, FOUR):
            _add_four(scratch, rows[k : k + FOUR], start, factors[k : k + FOUR])
        for k in range(fours, last):
            _add_one(scratch, rows[k, start:end], factors[k])
        _add_block(total, scratch)


def _products(left: Any, right: Any, result: Any, size: int, first: int, last: int) -> None:
    """Rows ``first`` to ``last``, counted over all matrices, of ``result = left @ right``."""
    rows, columns = U64(left.shape[1]), U64(right.shape[2])
    scratch = np.empty(COLUMNS, np.float32)
    for start in range(NONE, columns, COLUMNS):
        end = min(start + COLUMNS, columns)
        for number in range(first, last):
            matrix, row = number // rows, number % rows
            total = result[matrix, row, start:end]
            part = scratch[: end - start]
            _accumulate(total, part, left[matrix, row], right[matrix], start, size)


@cache
def products() -> Callable[..., None]:
    """The compiled ``products(left, right, result, block, first_row, last_row)``; frees the GIL.

    Args of it: float32 arrays of shapes (B, M, K), (B, K, N) and (B, M, N), contiguous; the rest
    unsigned.
    """
    from numba.core import types

    array = types.Array(types.float32, 3, "C")
    signature = types.void(array, array, array, types.uint64, types.uint64, types.uint64)
    options: dict[str, Any] = {"nogil": True}
    try:
        compiled = numba.njit(signature, cache=True, **options)(_products)
    except CACHE_ERRORS:
        compiled = numba.njit(signature, **options)(_products)
    return cast("Callable[..., None]", compiled)
