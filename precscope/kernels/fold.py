"""``fold``: reads a chunk once and leaves its exponent fields, largest magnitude and sums.

What limits it is the sums: half of the instructions are conversions to float64, additions and
multiplications, eight values at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from precscope.kernels.blocks import (
    BFloat16Blocks,
    Block,
    Blocks,
    Float16Blocks,
    Float32Blocks,
    Float32BlocksWithZeros,
)
from precscope.kernels.passes import Values
from precscope.kernels.simd import Bytes
from precscope.kernels.wide import (
    BLOCK,
    BYTES,
    DOUBLES,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    LANES,
    POINTER,
    WORDS,
    call,
    cgutils,
    count_bits,
    offset,
    prefetch,
    shuffle,
    splat,
    store,
)

AHEAD_BYTES: Final = 8192
"""How far ahead to prefetch: half a chunk of float32. From memory it makes a difference of 1.7."""

CHAINS: Final = 4
"""Independent sums, or each addition would wait for the one before."""

Fold = Callable[
    [Values, Bytes, Bytes],
    tuple[np.uint32, np.uint64, np.uint64, np.uint64, np.uint64, float, float],
]
RESULT = types.Tuple(  # type: ignore[no-untyped-call]
    (types.uint32, *[types.uint64] * 4, types.float64, types.float64)
)


class _Totals:
    """The accumulators of one call, in registers once LLVM has seen them."""

    def __init__(self, builder: ir.IRBuilder, fields: ir.Value, powers: ir.Value) -> None:
        self._fields, self._powers = fields, powers
        self._place = self._start(builder, I64)
        self.top = self._start(builder, LANES)
        self.lowest = cgutils.alloca_once_value(builder, splat(BYTES, 0xFF))
        self._blank = self._start(builder, BYTES)
        self.listed = self._start(builder, I64)
        self.sums = [self._start(builder, DOUBLES) for _ in range(CHAINS)]
        self.squares = [self._start(builder, DOUBLES) for _ in range(CHAINS)]

    @staticmethod
    def _start(builder: ir.IRBuilder, kind: ir.Type) -> ir.Value:
        place = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), place)
        return place

    def add(self, builder: ir.IRBuilder, block: Block) -> None:
        top = builder.load(self.top)
        for magnitudes in block.magnitudes:
            top = call(builder, "llvm.umax.v16i32", LANES, top, magnitudes)
        builder.store(top, self.top)
        self._add_fields(builder, block)
        if block.powers is not None:
            self._list_powers(builder, block)
        for i, magnitudes in enumerate(block.magnitudes):
            values = builder.bitcast(magnitudes, FLOATS)
            for half in (0, 1):
                chain = (2 * i + half) % CHAINS
                eight = shuffle(builder, values, range(8 * half, 8 * half + 8))
                self._add_eight(builder, builder.fpext(eight, DOUBLES), chain)

    def _add_eight(self, builder: ir.IRBuilder, values: ir.Value, chain: int) -> None:
        total, squares = self.sums[chain], self.squares[chain]
        builder.store(builder.fadd(builder.load(total), values), total)
        before = builder.load(squares)
        after = call(builder, "llvm.fma.v8f64", DOUBLES, values, values, before)
        builder.store(after, squares)

    def _add_fields(self, builder: ir.IRBuilder, block: Block) -> None:
        store(builder, block.fields, offset(builder, self._fields, builder.load(self._place)))
        _increase(builder, self._place, I64(BLOCK))
        # A field of 0 wraps to 255.
        one_less = builder.sub(block.fields, splat(BYTES, 1))
        least = call(builder, "llvm.umin.v64i8", BYTES, builder.load(self.lowest), one_less)
        builder.store(least, self.lowest)
        blank, before = (
            builder.icmp_unsigned("==", block.fields, splat(BYTES, 0)),
            builder.load(self._blank),
        )
        more = builder.add(before, splat(BYTES, 1))
        builder.store(builder.select(blank, more, before), self._blank)

    def _list_powers(self, builder: ir.IRBuilder, block: Block) -> None:
        """Append the fields of the powers of two to the list."""
        name, at = "llvm.x86.avx512.mask.compress.v64i8", builder.load(self.listed)
        dense = call(builder, name, BYTES, block.powers, splat(BYTES, 0), block.is_power)
        store(builder, dense, offset(builder, self._powers, at))
        _increase(builder, self.listed, count_bits(builder, block.is_power))

    def lowest_field(self, builder: ir.IRBuilder) -> ir.Value:
        """The smallest field that is not 0; 256 if there is none."""
        least = call(builder, "llvm.vector.reduce.umin.v64i8", I8, builder.load(self.lowest))
        return builder.add(builder.zext(least, I64), I64(1))

    def blank(self, builder: ir.IRBuilder) -> ir.Value:
        """Fields that are 0. A chunk has 64 blocks: no count overflows its byte."""
        pairs = builder.bitcast(builder.load(self._blank), WORDS)
        low, high = builder.and_(pairs, splat(WORDS, 0xFF)), builder.lshr(pairs, splat(WORDS, 8))
        total = call(builder, "llvm.vector.reduce.add.v32i16", I16, builder.add(low, high))
        return builder.zext(total, I64)

    @staticmethod
    def sum_of(builder: ir.IRBuilder, chains: list[ir.Value]) -> ir.Value:
        first, *others = (builder.load(chain) for chain in chains)
        for other in others:
            first = builder.fadd(first, other)
        total = builder.extract_element(first, I32(0))
        for lane in range(1, DOUBLES.count):
            total = builder.fadd(total, builder.extract_element(first, I32(lane)))
        return total


def _increase(builder: ir.IRBuilder, place: ir.Value, by: ir.Value) -> None:
    builder.store(builder.add(builder.load(place), by), place)


def _padded(builder: ir.IRBuilder, source: ir.Value, size: ir.Value, item_bytes: int) -> ir.Value:
    """A copy of the last, incomplete block with zeros behind it."""
    block_bytes = BLOCK * item_bytes
    copy = cgutils.alloca_once(builder, I8, size=I64(block_bytes))
    rest = builder.and_(size, I64(BLOCK - 1))
    with builder.if_then(builder.icmp_unsigned("!=", rest, I64(0))):
        cgutils.memset(builder, copy, I64(block_bytes), 0)
        full_bytes = builder.mul(builder.sub(size, rest), I64(item_bytes))
        cgutils.raw_memcpy(builder, copy, offset(builder, source, full_bytes), rest, item_bytes)
    return copy


def _each_block(
    builder: ir.IRBuilder, source: ir.Value, size: ir.Value, item_bytes: int
) -> Callable[[Callable[[ir.Value], None]], None]:
    last, block_bytes = _padded(builder, source, size, item_bytes), BLOCK * item_bytes

    def write(body: Callable[[ir.Value], None]) -> None:
        number = builder.lshr(builder.add(size, I64(BLOCK - 1)), I64(6))
        with cgutils.for_range(builder, number, intp=I64) as loop:
            place = offset(builder, source, builder.mul(loop.index, I64(block_bytes)))
            for line in range(0, block_bytes, 64):
                prefetch(builder, offset(builder, place, AHEAD_BYTES + line))
            complete = builder.icmp_unsigned("<", loop.index, builder.lshr(size, I64(6)))
            body(builder.select(complete, place, last))

    return write


def _generate(builder: ir.IRBuilder, blocks: Blocks, arrays: list[Any]) -> list[ir.Value]:
    source, fields, powers = (builder.bitcast(array.data, POINTER) for array in arrays)
    size, totals = builder.extract_value(arrays[0].shape, 0), _Totals(builder, fields, powers)
    each_block = _each_block(builder, source, size, blocks.item_bytes)
    each_block(lambda place: totals.add(builder, blocks.read(builder, place)))
    blank, listed = totals.blank(builder), builder.load(totals.listed)
    subnormals, powers_of_two = blocks.finish(builder, blank, listed, each_block)
    padding = builder.and_(builder.neg(size), I64(BLOCK - 1))
    store(builder, splat(BYTES, 0), offset(builder, powers, listed))
    return [
        call(builder, "llvm.vector.reduce.umax.v16i32", I32, builder.load(totals.top)),
        totals.lowest_field(builder),
        builder.sub(builder.sub(blank, subnormals), padding),
        subnormals,
        powers_of_two,
        totals.sum_of(builder, totals.sums),
        totals.sum_of(builder, totals.squares),
    ]


def _fold_for(make_blocks: Callable[[ir.IRBuilder], Blocks]) -> Fold:
    def fold(typing_context: Any, source: Any, fields: Any, powers: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = [
                context.make_array(kind)(context, builder, array)
                for kind, array in zip(signature.args, arguments, strict=True)
            ]
            parts = _generate(builder, make_blocks(builder), arrays)
            return context.make_tuple(builder, signature.return_type, parts)

        return RESULT(source, fields, powers), generate

    return cast("Fold", intrinsic(fold))


fold_float32 = _fold_for(Float32Blocks)
"""``fold(source, fields, powers)`` reads the chunk ``source`` and gives seven results:

1. the largest magnitude, as float32 bits; from infinity on, the sums mean nothing;
2. the smallest exponent field that is not 0, 256 if there is none;
3. zeros; 4. subnormals; 5. powers of two, if there are no subnormals;
6. the sum of magnitudes and 7. of squares, in float64.

It writes the exponent fields to ``fields`` and, for 16-bit formats, those of the powers of two to
``powers``, with zeros behind them: both need room for the chunk and a block of 64 more.
"""

fold_float32_with_zeros = _fold_for(Float32BlocksWithZeros)
"""``fold_float32``, faster where there are zeros and slower where there are none."""

fold_float16 = _fold_for(Float16Blocks)
fold_bfloat16 = _fold_for(BFloat16Blocks)
