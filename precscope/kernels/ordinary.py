"""A chunk of ordinary values with the wide kernel: one ``fold``, one count.

Infinities, NaNs and subnormals are not ordinary: a chunk that has any is done over by
``observe_chunk``. Nothing has been added to the row until that is known.
"""

from __future__ import annotations

import numpy as np

from precscope.kernels import row as slots
from precscope.kernels.chunk import (
    Floats,
    count,
    observe_chunk,
    observe_widened_chunk,
    tally_powers,
)
from precscope.kernels.fold import (
    fold_bfloat16,
    fold_float16,
    fold_float32,
    fold_float32_with_zeros,
)
from precscope.kernels.passes import (
    COUNTS_BY_FIELD,
    FIELD_SHIFT,
    INFINITY,
    LANES,
    NONE,
    ONE,
    POWERS_BY_FIELD,
    U64,
    Bits,
    Row,
    Values,
)
from precscope.kernels.simd import CHUNK, Bytes, merged
from precscope.kernels.tally import count_between
from precscope.kernels.widen import BFLOAT16, Codes


@merged
def whole_blocks(fields: Bytes, size: np.uint64) -> Bytes:
    """As many fields as blocks of 64 that hold ``size`` values."""
    return fields[: (size + LANES - ONE) & ~(LANES - ONE)]


@merged
def _add(
    fields: Bytes,
    top: np.uint32,
    lowest: np.uint64,
    size: np.uint64,
    zeros: np.uint64,
    sum_abs: float,
    sum_squares: float,
    row: Row,
    floats: Floats,
) -> None:
    row[slots.ZEROS] += np.int64(zeros)
    floats[slots.SUM_ABS] += sum_abs
    floats[slots.SUM_SQUARES] += sum_squares
    highest = U64(top >> FIELD_SHIFT)
    count_between(fields, highest, lowest, size - zeros, row, COUNTS_BY_FIELD)


@merged
def observe_float32_chunk(
    bits: Bits,
    values: Values,
    fields: Bytes,
    row: Row,
    floats: Floats,
    following: Bytes,
    zeros_before: np.uint64,
) -> tuple[np.uint32, np.uint64]:
    """Add a float32 chunk to the row, except for its amax; gives that as bits, and the zeros.

    Where the chunk before had zeros, this one is expected to have some.
    """
    size = U64(bits.shape[0])
    if zeros_before > NONE:
        top, lowest, zeros, subnormals, powers, total, squares = fold_float32_with_zeros(
            bits, fields, fields[CHUNK:]
        )
    else:
        top, lowest, zeros, subnormals, powers, total, squares = fold_float32(
            bits, fields, fields[CHUNK:]
        )
    if top >= INFINITY or subnormals > NONE:
        return observe_chunk(bits, values, fields, row, floats, following), NONE
    fields = whole_blocks(fields, size)
    _add(fields, top, lowest, size, zeros, total, squares, row, floats)
    tally_powers(bits, fields, U64(top >> FIELD_SHIFT), powers, row)
    return top, zeros


@merged
def observe_any_float32_chunk(
    bits: Bits,
    values: Values,
    fields: Bytes,
    row: Row,
    floats: Floats,
    following: Bytes,
    zeros_before: np.uint64,
) -> tuple[np.uint32, np.uint64]:
    """``observe_float32_chunk`` without wide registers."""
    return observe_chunk(bits, values, fields, row, floats, following), NONE


@merged
def observe_half_chunk(
    kind: int,
    source: Codes,
    table: Bits,
    bits: Bits,
    buffers: tuple[Bytes, Bytes],
    row: Row,
    floats: Floats,
    following: Bytes,
) -> np.uint32:
    """Add a chunk of a 16-bit format to the row, except for its amax; gives that as bits."""
    size, (fields, powers) = U64(source.shape[0]), buffers
    if kind == BFLOAT16:
        top, lowest, zeros, subnormals, listed, total, squares = fold_bfloat16(
            source, fields, powers
        )
    else:
        top, lowest, zeros, subnormals, listed, total, squares = fold_float16(
            source, fields, powers
        )
    if top >= INFINITY or subnormals > NONE:
        return observe_widened_chunk(kind, source, table, bits, buffers, row, floats, following)
    _add(whole_blocks(fields, size), top, lowest, size, zeros, total, squares, row, floats)
    _add_listed(powers, U64(top >> FIELD_SHIFT), listed, row)
    return top


@merged
def _add_listed(powers: Bytes, highest: np.uint64, listed: np.uint64, row: Row) -> None:
    if listed > LANES:
        count(whole_blocks(powers, listed), highest, listed, row, POWERS_BY_FIELD, powers)
    else:
        for i in range(listed):
            row[POWERS_BY_FIELD + U64(powers[i])] += 1
