"""The CPU kernel: one pass over memory, the rest over each chunk while it lies in the L1 cache.

A chunk of 4096 values is read once for its exponent fields, as bytes, its largest magnitude and its
sums; then the fields are counted. The usual way, an increment in a table per value, is bound to
about one value per clock.

With wide registers (``wide.py``), ``fold`` and ``count_wide`` do this for ordinary chunks
(``ordinary.py``). Everywhere else, and for chunks with special values, ``observe_chunk`` does
(``chunk.py``): 16-bit formats are widened to float32 bit patterns, float64 is narrowed to patterns of
the same octave, and all fields are compared with one exponent after the other, 64 at a time, from
the largest downwards until every value is found.

The functions below become C functions (``library.py``). They take addresses because building
NumPy arrays would cost more than the work on a small tensor.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba.np.numpy_support import carray

from precscope.kernels.chunk import observe_chunk, observe_widened_chunk, raise_amax
from precscope.kernels.ordinary import (
    observe_any_float32_chunk,
    observe_float32_chunk,
    observe_half_chunk,
)
from precscope.kernels.passes import INFINITY, NONE, ONE, TWO, U32, U64, Row
from precscope.kernels.row import OBSERVATIONS, ROW_SLOTS
from precscope.kernels.simd import BUFFER, CHUNK, bits_on_stack, compiled, pointer
from precscope.kernels.simd import fields_on_stack as fields_
from precscope.kernels.wide import has_wide_registers
from precscope.kernels.widen import BFLOAT16, BY_TABLE, FLOAT16, narrow_double

THREE, FOUR, EIGHT = U64(3), U64(4), U64(8)
DOUBLE_INFINITY: Final = U64(0x7FF0000000000000)

float32_chunk = observe_float32_chunk if has_wide_registers() else observe_any_float32_chunk
half_chunk = observe_half_chunk if has_wide_registers() else observe_widened_chunk


@compiled
def _job(source: Any, size: Any, row: Any, number: Any) -> Any:
    """Address, size and row of one tensor of a call; see ``library.Kernel``."""
    if row != NONE:
        return source, size, row
    jobs = carray(pointer(source), THREE * size, np.uint64)
    return jobs[THREE * number], jobs[THREE * number + ONE], jobs[THREE * number + TWO]


@compiled
def _start(row: Any) -> Row:
    """The row at an address, with one more observation."""
    counts = carray(pointer(row), ROW_SLOTS, np.int64)
    counts[OBSERVATIONS] += 1
    return counts


def observe_float32(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add float32 values to rows."""
    for number in range(ONE if row != NONE else size):
        _float32(*_job(source, size, row, number))


def observe_float64(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add float64 values to rows."""
    for number in range(ONE if row != NONE else size):
        _float64(*_job(source, size, row, number))


def observe_float16(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add float16 values to rows."""
    for number in range(ONE if row != NONE else size):
        _half(FLOAT16, *_job(source, size, row, number))


def observe_bfloat16(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add bfloat16 values to rows."""
    for number in range(ONE if row != NONE else size):
        _half(BFLOAT16, *_job(source, size, row, number))


def observe_float8(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add values of an 8-bit format, whose 256 float32 values are at ``table``, to rows."""
    for number in range(ONE if row != NONE else size):
        _eighth(table, *_job(source, size, row, number))


@compiled
def _float32(source: Any, size: Any, row: Any) -> None:
    bits = carray(pointer(source), size, np.uint32)
    values, memory = bits.view(np.float32), carray(pointer(source), size * FOUR, np.uint8)
    fields, counts = carray(fields_(), BUFFER, np.uint8), _start(row)
    floats, zeros = counts.view(np.float64), NONE
    for start in range(NONE, size, CHUNK):
        end = start + CHUNK
        part, following = bits[start:end], memory[end * FOUR : (end + CHUNK) * FOUR]
        top, zeros = float32_chunk(
            part, values[start:end], fields, counts, floats, following, zeros
        )
        if top < INFINITY:
            raise_amax(floats, np.float64(U32(top).view(np.float32)))


@compiled
def _float64(source: Any, size: Any, row: Any) -> None:
    codes = carray(pointer(source), size, np.uint64)
    values, memory = codes.view(np.float64), carray(pointer(source), size * EIGHT, np.uint8)
    fields, counts = carray(fields_(), BUFFER, np.uint8), _start(row)
    floats, scratch = counts.view(np.float64), carray(bits_on_stack(), CHUNK, np.uint32)
    for start in range(NONE, size, CHUNK):
        end = start + CHUNK
        part, following = values[start:end], memory[end * EIGHT : (end + CHUNK) * EIGHT]
        bits = scratch[: part.shape[0]]
        top = narrow_double(codes[start:end], bits)
        observe_chunk(bits, part, fields, counts, floats, following)
        if top < DOUBLE_INFINITY:
            raise_amax(floats, U64(top).view(np.float64))


@compiled
def _half(kind: int, source: Any, size: Any, row: Any) -> None:
    codes, memory = (
        carray(pointer(source), size, np.uint16),
        carray(pointer(source), size * TWO, np.uint8),
    )
    scratch, powers = carray(bits_on_stack(), CHUNK, np.uint32), carray(fields_(), BUFFER, np.uint8)
    fields, counts = carray(fields_(), BUFFER, np.uint8), _start(row)
    floats = counts.view(np.float64)
    for start in range(NONE, size, CHUNK):
        end = start + CHUNK
        part, following = codes[start:end], memory[end * TWO : (end + CHUNK) * TWO]
        bits, buffers = scratch[: part.shape[0]], (fields, powers)
        top = half_chunk(kind, part, scratch, bits, buffers, counts, floats, following)
        if top < INFINITY:
            raise_amax(floats, np.float64(U32(top).view(np.float32)))


@compiled
def _eighth(table: Any, source: Any, size: Any, row: Any) -> None:
    codes, values = carray(pointer(source), size, np.uint8), carray(pointer(table), 256, np.uint32)
    scratch, fields = carray(bits_on_stack(), CHUNK, np.uint32), carray(fields_(), BUFFER, np.uint8)
    counts, buffers = _start(row), (fields, fields)
    floats = counts.view(np.float64)
    for start in range(NONE, size, CHUNK):
        end = start + CHUNK
        part, following = codes[start:end], codes[end : end + CHUNK]
        bits = scratch[: part.shape[0]]
        top = observe_widened_chunk(
            BY_TABLE, part, values, bits, buffers, counts, floats, following
        )
        if top < INFINITY:
            raise_amax(floats, np.float64(U32(top).view(np.float32)))
