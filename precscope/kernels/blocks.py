"""How 64 values of a format become float32 magnitudes, exponent fields and powers of two.

Order within a block is of no interest, which saves most of the shuffling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from llvmlite import ir

from precscope.kernels.wide import (
    BYTES,
    FLOATS,
    HALVES,
    I16,
    I32,
    I64,
    LANES,
    WORDS,
    call,
    cgutils,
    count_bits,
    load,
    offset,
    splat,
)

MAGNITUDE: Final = splat(LANES, 0x7FFFFFFF)
MANTISSA: Final = splat(LANES, 0x007FFFFF)
UPPER_HALF: Final = splat(LANES, 0xFFFF0000)
NO_LANE, NO_BYTE = splat(LANES, 0), splat(BYTES, 0)


@dataclass(frozen=True, slots=True)
class Block:
    """64 values.

    Attributes:
        magnitudes: four registers of float32 bit patterns without their sign.
        fields: 64 exponent fields.
        powers: the same with 0 for all that is no power of two; None where none is looked for.
        is_power: mask of those; other fields of ``powers`` mean nothing.
    """

    magnitudes: Sequence[ir.Value]
    fields: ir.Value
    powers: ir.Value | None = None
    is_power: ir.Value | None = None


EachBlock = Callable[[Callable[[ir.Value], None]], None]
"""``each_block(body)`` writes a loop with ``body(address)`` for every block of the chunk."""


class Blocks(Protocol):
    """Reads the blocks of a chunk of one format."""

    item_bytes: int

    def read(self, builder: ir.IRBuilder, place: ir.Value) -> Block:
        """The block at an address."""

    def finish(
        self, builder: ir.IRBuilder, blank: ir.Value, listed: ir.Value, each_block: EachBlock
    ) -> tuple[ir.Value, ir.Value]:
        """Subnormals and powers of two in the chunk.

        ``blank`` of its fields are 0, ``listed`` powers of two have been listed.
        """


def _pack_fields(builder: ir.IRBuilder, parts: Sequence[ir.Value]) -> ir.Value:
    """The exponent fields of four registers of float32 in one register of bytes."""
    packed = NO_LANE
    for byte, part in enumerate(parts):
        down = 23 - 8 * byte
        aligned = (
            builder.lshr(part, splat(LANES, down))
            if down > 0
            else builder.shl(part, splat(LANES, -down))
        )
        packed = builder.or_(packed, builder.and_(aligned, splat(LANES, 0xFF << 8 * byte)))
    return builder.bitcast(packed, BYTES)


def _without_sign(builder: ir.IRBuilder, parts: Sequence[ir.Value]) -> list[ir.Value]:
    return [builder.and_(part, MAGNITUDE) for part in parts]


class Float32Blocks:
    """Only a chunk in which 16 bits of a value are all zero can have zeros or powers of two.

    To find the smallest half of a value is one instruction for 16 values, to count both is four;
    so that is done for such chunks only. By chance one in 16 is one.
    """

    item_bytes = 4

    def __init__(self, builder: ir.IRBuilder) -> None:
        self._smallest_half = cgutils.alloca_once_value(builder, splat(WORDS, 0xFFFF))

    def read(self, builder: ir.IRBuilder, place: ir.Value) -> Block:
        """See ``Blocks``."""
        parts = _parts(builder, place)
        smallest = builder.load(self._smallest_half)
        for part in parts:
            halves = builder.bitcast(part, WORDS)
            smallest = call(builder, "llvm.umin.v32i16", WORDS, smallest, halves)
        builder.store(smallest, self._smallest_half)
        return Block(_without_sign(builder, parts), _pack_fields(builder, parts))

    def finish(
        self, builder: ir.IRBuilder, blank: ir.Value, listed: ir.Value, each_block: EachBlock
    ) -> tuple[ir.Value, ir.Value]:
        """See ``Blocks``."""
        even, zeros = (cgutils.alloca_once_value(builder, NO_LANE) for _ in range(2))

        def look_again(place: ir.Value) -> None:
            for part in _parts(builder, place):
                _count_lanes(builder, builder.and_(part, MANTISSA), even)
                _count_lanes(builder, builder.and_(part, MAGNITUDE), zeros)

        half = call(
            builder, "llvm.vector.reduce.umin.v32i16", I16, builder.load(self._smallest_half)
        )
        empty_half = builder.icmp_unsigned("==", half, I16(0))
        any_blank = builder.icmp_unsigned("!=", blank, I64(0))
        with builder.if_then(builder.or_(empty_half, any_blank)):
            each_block(look_again)
        none = _sum_lanes(builder, zeros)
        return builder.sub(blank, none), builder.sub(_sum_lanes(builder, even), none)


class Float32BlocksWithZeros:
    """Counts zeros and powers of two in each block: as after a ReLU most chunks have zeros."""

    item_bytes = 4

    def __init__(self, builder: ir.IRBuilder) -> None:
        self._even, self._zeros = (cgutils.alloca_once_value(builder, NO_LANE) for _ in range(2))

    def read(self, builder: ir.IRBuilder, place: ir.Value) -> Block:
        """See ``Blocks``."""
        parts = _parts(builder, place)
        for part in parts:
            _count_lanes(builder, builder.and_(part, MANTISSA), self._even)
            _count_lanes(builder, builder.and_(part, MAGNITUDE), self._zeros)
        return Block(_without_sign(builder, parts), _pack_fields(builder, parts))

    def finish(
        self, builder: ir.IRBuilder, blank: ir.Value, listed: ir.Value, each_block: EachBlock
    ) -> tuple[ir.Value, ir.Value]:
        """See ``Blocks``."""
        none = _sum_lanes(builder, self._zeros)
        return builder.sub(blank, none), builder.sub(_sum_lanes(builder, self._even), none)


def _parts(builder: ir.IRBuilder, place: ir.Value) -> list[ir.Value]:
    return [load(builder, offset(builder, place, 64 * i), LANES) for i in range(4)]


def _count_lanes(builder: ir.IRBuilder, tested: ir.Value, total: ir.Value) -> None:
    """Count the lanes that are 0, each apart."""
    before, mask = builder.load(total), builder.icmp_unsigned("==", tested, NO_LANE)
    more = builder.add(before, splat(LANES, 1))
    builder.store(builder.select(mask, more, before), total)


def _sum_lanes(builder: ir.IRBuilder, total: ir.Value) -> ir.Value:
    lanes = builder.load(total)
    return builder.zext(call(builder, "llvm.vector.reduce.add.v16i32", I32, lanes), I64)


class Float16Blocks:
    """As float32 no value is subnormal."""

    item_bytes = 2

    def __init__(self, builder: ir.IRBuilder) -> None:
        """No state."""

    def read(self, builder: ir.IRBuilder, place: ir.Value) -> Block:
        """See ``Blocks``."""
        halves = [load(builder, offset(builder, place, 32 * i), HALVES) for i in range(4)]
        parts = [builder.bitcast(builder.fpext(half, FLOATS), LANES) for half in halves]
        even = [
            builder.icmp_unsigned("==", builder.and_(part, MANTISSA), NO_LANE) for part in parts
        ]
        kept = [builder.select(mask, part, NO_LANE) for mask, part in zip(even, parts, strict=True)]
        powers = _pack_fields(builder, kept)
        is_power = builder.icmp_unsigned("!=", powers, NO_BYTE)
        fields = _pack_fields(builder, parts)
        return Block(_without_sign(builder, parts), fields, powers, is_power)

    def finish(
        self, builder: ir.IRBuilder, blank: ir.Value, listed: ir.Value, each_block: EachBlock
    ) -> tuple[ir.Value, ir.Value]:
        """See ``Blocks``."""
        return I64(0), listed


class BFloat16Blocks:
    """Fields and mantissas are packed from the 16 bits; float32 is for the sums."""

    item_bytes = 2

    def __init__(self, builder: ir.IRBuilder) -> None:
        self._subnormals = cgutils.alloca_once_value(builder, I64(0))

    def read(self, builder: ir.IRBuilder, place: ir.Value) -> Block:
        """See ``Blocks``."""
        words = [load(builder, offset(builder, place, 64 * i), WORDS) for i in range(2)]
        fields = self._interleave(builder, words, 7)
        mantissas = builder.and_(self._interleave(builder, words, 0), splat(BYTES, 0x7F))
        even = builder.icmp_unsigned("==", mantissas, NO_BYTE)
        normal = builder.icmp_unsigned("!=", fields, NO_BYTE)
        subnormal = count_bits(builder, builder.not_(builder.or_(even, normal)))
        builder.store(builder.add(builder.load(self._subnormals), subnormal), self._subnormals)
        is_power = builder.and_(even, normal)
        return Block(self._widen(builder, words), fields, fields, is_power)

    @staticmethod
    def _interleave(builder: ir.IRBuilder, words: Sequence[ir.Value], bit: int) -> ir.Value:
        """Eight bits of every word, from ``bit`` upwards."""
        low = builder.and_(builder.lshr(words[0], splat(WORDS, bit)), splat(WORDS, 0x00FF))
        high = builder.and_(builder.shl(words[1], splat(WORDS, 8 - bit)), splat(WORDS, 0xFF00))
        return builder.bitcast(builder.or_(low, high), BYTES)

    @staticmethod
    def _widen(builder: ir.IRBuilder, words: Sequence[ir.Value]) -> list[ir.Value]:
        pairs = [builder.bitcast(builder.and_(word, splat(WORDS, 0x7FFF)), LANES) for word in words]
        low = [builder.shl(pair, splat(LANES, 16)) for pair in pairs]
        return low + [builder.and_(pair, UPPER_HALF) for pair in pairs]

    def finish(
        self, builder: ir.IRBuilder, blank: ir.Value, listed: ir.Value, each_block: EachBlock
    ) -> tuple[ir.Value, ir.Value]:
        """See ``Blocks``."""
        return builder.load(self._subnormals), listed
