"""The CPU kernel: one pass over memory, several over each chunk while it lies in the L1 cache.

A chunk of 4096 values is worked on as float32 bit patterns: 16-bit formats are widened to them,
float64 is narrowed to patterns of the same octave. Then, per chunk,

1. ``split`` writes the exponent fields as bytes and finds the largest magnitude, the zeros and
   the zero mantissas; ``sums`` adds magnitudes and squares in float64;
2. ``count`` compares all bytes with one exponent after the other, 64 at a time, from the largest
   downwards until every value is found: about 15 exponents for natural data. The usual way, an
   increment in a table per value, is bound to about one value per clock; this does four. While
   it computes it prefetches the next chunk, which hides most of the memory behind it.

The functions below become C functions (``library.py``). They take addresses because building
NumPy arrays would cost more than the work on a small tensor.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba.np.numpy_support import carray

from precscope.kernels.chunk import observe_chunk, raise_amax
from precscope.kernels.passes import INFINITY, NONE, TWO, U32, U64, Bits, Row, Values
from precscope.kernels.row import OBSERVATIONS, ROW_SLOTS
from precscope.kernels.simd import Bytes, compiled
from precscope.kernels.widen import BFLOAT16, BY_TABLE, FLOAT16, narrow_double, widen

CHUNK: Final = U64(4096)
FOUR, EIGHT = U64(4), U64(8)
DOUBLE_INFINITY: Final = U64(0x7FF0000000000000)


def observe_float32(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add ``size`` float32 values to a row."""
    bits, values = carray(source, size, np.uint32), carray(source, size, np.float32)
    memory, counts = carray(source, size * FOUR, np.uint8), carray(row, ROW_SLOTS, np.int64)
    counts[OBSERVATIONS] += 1
    floats, fields = counts.view(np.float64), np.empty(CHUNK, np.uint8)
    for start in range(NONE, size, CHUNK):
        end = start + CHUNK
        part, following = bits[start:end], memory[end * FOUR : (end + CHUNK) * FOUR]
        top = observe_chunk(part, values[start:end], fields, counts, floats, following)
        if top < INFINITY:
            raise_amax(floats, np.float64(U32(top).view(np.float32)))


def observe_float64(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add ``size`` float64 values to a row."""
    codes, values = carray(source, size, np.uint64), carray(source, size, np.float64)
    memory, counts = carray(source, size * EIGHT, np.uint8), carray(row, ROW_SLOTS, np.int64)
    counts[OBSERVATIONS] += 1
    floats, fields = counts.view(np.float64), np.empty(CHUNK, np.uint8)
    scratch = np.empty(CHUNK, np.uint32)
    for start in range(NONE, size, CHUNK):
        end = start + CHUNK
        part, following = values[start:end], memory[end * EIGHT : (end + CHUNK) * EIGHT]
        bits = scratch[: part.shape[0]]
        top = narrow_double(codes[start:end], bits)
        observe_chunk(bits, part, fields, counts, floats, following)
        if top < DOUBLE_INFINITY:
            raise_amax(floats, U64(top).view(np.float64))


def observe_float16(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add ``size`` float16 values to a row."""
    codes, memory = carray(source, size, np.uint16), carray(source, size * TWO, np.uint8)
    unused, counts = carray(table, 0, np.uint32), carray(row, ROW_SLOTS, np.int64)
    _observe_widened(FLOAT16, codes, memory, unused, counts)


def observe_bfloat16(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add ``size`` bfloat16 values to a row."""
    codes, memory = carray(source, size, np.uint16), carray(source, size * TWO, np.uint8)
    unused, counts = carray(table, 0, np.uint32), carray(row, ROW_SLOTS, np.int64)
    _observe_widened(BFLOAT16, codes, memory, unused, counts)


def observe_float8(source: Any, size: Any, row: Any, table: Any) -> None:
    """Add ``size`` values of an 8-bit format, whose 256 float32 values are at ``table``."""
    codes, counts = carray(source, size, np.uint8), carray(row, ROW_SLOTS, np.int64)
    _observe_widened(BY_TABLE, codes, codes, carray(table, 256, np.uint32), counts)


@compiled
def _observe_widened(kind: int, source: Values, memory: Bytes, table: Bits, row: Row) -> None:
    row[OBSERVATIONS] += 1
    floats, fields = row.view(np.float64), np.empty(CHUNK, np.uint8)
    scratch, width = np.empty(CHUNK, np.uint32), U64(source.itemsize)
    for start in range(NONE, U64(source.shape[0]), CHUNK):
        end = start + CHUNK
        part, following = source[start:end], memory[end * width : (end + CHUNK) * width]
        bits = scratch[: part.shape[0]]
        widen(kind, part, table, bits)
        top = observe_chunk(bits, bits.view(np.float32), fields, row, floats, following)
        if top < INFINITY:
            raise_amax(floats, np.float64(U32(top).view(np.float32)))
