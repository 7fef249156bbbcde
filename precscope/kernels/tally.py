"""``count_wide``: how many exponent fields of each value a chunk has, eight values at a time.

Each field, taken down from the highest, is looked up (``vpermb``) in a table of one-hot bytes. Eight
such bytes are an 8x8 bit matrix; its transpose (``vgf2p8affineqb``) brings the bits of one exponent
into one byte, and the population counts of the bytes are added up. That is four instructions for 64
values and eight exponents; to compare takes four for a single exponent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from precscope.kernels.passes import Row, scatter
from precscope.kernels.simd import Bytes, compiled, keep_apart
from precscope.kernels.wide import (
    BYTES,
    I8,
    I32,
    I64,
    LONGS,
    POINTER,
    WORDS,
    broadcast,
    call,
    cgutils,
    load,
    offset,
    shuffle,
    splat,
    store,
)

U64 = np.uint64
GROUP: Final = 8
"""Exponents per table."""

SPARE: Final = 63
"""Where fields outside the tables are looked up; ``vpermb`` heeds six bits of an index."""

BLOCKS_PER_BYTE: Final = 31
"""Blocks after which a count of eight lanes may no longer fit a byte."""

UNIT: Final = ir.Constant(BYTES, [1 << i % 8 for i in range(64)])
"""Identity matrices: what ``vgf2p8affineqb`` multiplies is transposed."""

Tally = Callable[[Bytes, np.uint64, Row, np.uint64], np.uint64]


def _table(group: int) -> ir.Constant:
    places = range(GROUP * group, GROUP * group + GROUP)
    return ir.Constant(BYTES, [1 << i % 8 if i in places else 0 for i in range(64)])


def _count_group(builder: ir.IRBuilder, group: int, places: ir.Value) -> ir.Value:
    hot = call(builder, "llvm.x86.avx512.permvar.qi.512", BYTES, _table(group), places)
    by_exponent = call(builder, "llvm.x86.vgf2p8affineqb.512", BYTES, UNIT, hot, I8(0))
    return call(builder, "llvm.ctpop.v64i8", BYTES, by_exponent)


class _Sums:
    """Counts of one group: in bytes for a while, then in words, even and odd exponents apart."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.bytes = cgutils.alloca_once(builder, BYTES)
        self.words = [cgutils.alloca_once_value(builder, splat(WORDS, 0)) for _ in range(2)]

    def start(self, builder: ir.IRBuilder) -> None:
        builder.store(splat(BYTES, 0), self.bytes)

    def add(self, builder: ir.IRBuilder, counts: ir.Value) -> None:
        builder.store(builder.add(builder.load(self.bytes), counts), self.bytes)

    def widen(self, builder: ir.IRBuilder) -> None:
        pairs = builder.bitcast(builder.load(self.bytes), WORDS)
        even = builder.and_(pairs, splat(WORDS, 0xFF))
        for place, part in zip(
            self.words, (even, builder.lshr(pairs, splat(WORDS, 8))), strict=True
        ):
            builder.store(builder.add(builder.load(place), part), place)

    def total(self, builder: ir.IRBuilder) -> ir.Value:
        """Eight counts, ascending by exponent, which is descending by place in the table."""
        even, odd = (self._fold(builder, builder.load(place)) for place in self.words)
        order = ir.Constant(ir.VectorType(I32, GROUP), [7, 3, 6, 2, 5, 1, 4, 0])
        return builder.zext(builder.shuffle_vector(even, odd, order), LONGS)

    @staticmethod
    def _fold(builder: ir.IRBuilder, words: ir.Value) -> ir.Value:
        for half in (16, 8, 4):
            lower = shuffle(builder, words, range(half))
            words = builder.add(lower, shuffle(builder, words, range(half, 2 * half)))
        return words


def _run_over(
    builder: ir.IRBuilder, fields: ir.Value, blocks: ir.Value, highest: ir.Value, sums: list[_Sums]
) -> None:
    top = broadcast(builder, BYTES, builder.trunc(highest, I8))
    with cgutils.for_range_slice(
        builder, I64(0), blocks, I64(BLOCKS_PER_BYTE), intp=I64, inc=True
    ) as (start, _):
        for group in sums:
            group.start(builder)
        left = builder.sub(blocks, start)
        few = builder.icmp_unsigned("<", left, I64(BLOCKS_PER_BYTE))
        with cgutils.for_range(
            builder, builder.select(few, left, I64(BLOCKS_PER_BYTE)), intp=I64
        ) as loop:
            place = builder.shl(builder.add(start, loop.index), I64(6))
            below = builder.sub(top, load(builder, offset(builder, fields, place), BYTES))
            places = call(builder, "llvm.umin.v64i8", BYTES, below, splat(BYTES, SPARE))
            for i, group in enumerate(sums):
                group.add(builder, _count_group(builder, i, places))
        for group in sums:
            group.widen(builder)


def _add_to_row(
    builder: ir.IRBuilder, slot_zero: ir.Value, lowest: ir.Value, counts: ir.Value
) -> ir.Value:
    """Add eight counts to the row, but for field 0 and below, and give their sum."""
    ascending = ir.Constant(LONGS, list(range(GROUP)))
    field = builder.add(broadcast(builder, LONGS, lowest), ascending)
    counts = builder.select(
        builder.icmp_signed(">", field, splat(LONGS, 0)), counts, splat(LONGS, 0)
    )
    with builder.if_then(builder.icmp_signed(">", lowest, I64(-GROUP))):
        place = offset(builder, slot_zero, builder.mul(lowest, I64(8)))
        store(builder, builder.add(load(builder, place, LONGS), counts), place)
    return call(builder, "llvm.vector.reduce.add.v8i64", I64, counts)


def _tally_for(groups: int) -> Tally:
    def tally(typing_context: Any, fields: Any, highest: Any, row: Any, first_slot: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds, (fields, highest, row, first_slot) = signature.args, arguments
            array = context.make_array(kinds[0])(context, builder, fields)
            memory = builder.bitcast(array.data, POINTER)
            slots = context.make_array(kinds[2])(context, builder, row).data
            slot_zero = builder.bitcast(builder.gep(slots, [first_slot]), POINTER)
            size = builder.extract_value(array.shape, 0)
            sums, counted = [_Sums(builder) for _ in range(groups)], I64(0)
            _run_over(builder, memory, builder.lshr(size, I64(6)), highest, sums)
            for i, group in enumerate(sums):
                lowest = builder.sub(highest, I64(GROUP * i + GROUP - 1))
                added = _add_to_row(builder, slot_zero, lowest, group.total(builder))
                counted = builder.add(counted, added)
            return counted

        return types.uint64(fields, types.uint64, row, types.uint64), generate

    return cast("Tally", intrinsic(tally))


def _lowest_field(typing_context: Any, fields: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        memory = builder.bitcast(array.data, POINTER)
        least = cgutils.alloca_once_value(builder, splat(BYTES, 0xFF))
        blocks = builder.lshr(builder.extract_value(array.shape, 0), I64(6))
        with cgutils.for_range(builder, blocks, intp=I64) as loop:
            place = offset(builder, memory, builder.shl(loop.index, I64(6)))
            # A field of 0 wraps to 255.
            one_less = builder.sub(load(builder, place, BYTES), splat(BYTES, 1))
            smaller = call(builder, "llvm.umin.v64i8", BYTES, builder.load(least), one_less)
            builder.store(smaller, least)
        result = call(builder, "llvm.vector.reduce.umin.v64i8", I8, builder.load(least))
        return builder.add(builder.zext(result, I64), I64(1))

    return types.uint64(fields), generate


lowest_field = cast("Callable[[Bytes], np.uint64]", intrinsic(_lowest_field))
"""``lowest_field(fields)``: the smallest field that is not 0; 256 if there is none."""

tally_16, tally_24, tally_32 = _tally_for(2), _tally_for(3), _tally_for(4)
"""``tally_24(fields, highest, row, first_slot)``: count the fields from ``highest`` down, but not
field 0, into ``row[first_slot + field]``; gives how many. No field may lie more than 192 above
``highest``. ``fields`` has full blocks of 64."""

FEW, SOME, MOST, REACH = U64(16), U64(24), U64(32), U64(192)


@compiled
def count_wide(
    fields: Bytes,
    highest: np.uint64,
    wanted: np.uint64,
    row: Row,
    first_slot: np.uint64,
    following: Bytes,
) -> np.uint64:
    """Count ``wanted`` fields from ``highest`` down to 1; gives how many are not among them."""
    keep_apart()
    return count_between(fields, highest, lowest_field(fields), wanted, row, first_slot)


@compiled
def count_between(
    fields: Bytes,
    highest: np.uint64,
    lowest: np.uint64,
    wanted: np.uint64,
    row: Row,
    first_slot: np.uint64,
) -> np.uint64:
    """``count_wide`` where the lowest field but 0 is known."""
    keep_apart()
    start = highest
    while highest >= lowest:
        octaves = highest - lowest + U64(1)
        if start - highest > REACH:
            return wanted - scatter(fields, highest, row, first_slot)
        if octaves <= FEW:
            wanted -= tally_16(fields, highest, row, first_slot)
        elif octaves <= SOME:
            wanted -= tally_24(fields, highest, row, first_slot)
        else:
            wanted -= tally_32(fields, highest, row, first_slot)
        if octaves <= MOST:
            break
        highest -= MOST
    return wanted
