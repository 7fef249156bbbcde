# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
# ruff: noqa: RUF005 (Triton's compiler does not unpack tuples)
"""Counting by bit planes: 32 counters of a lane lie across words, bit ``b`` of each for counter ``b``.

A value is one bit of a word, its exponent's. Three such words become a sum and a carry by a full
adder, two instructions of NVIDIA's for 32 counters at once, so that a value costs about two in all.
"""

from __future__ import annotations

from typing import Final

import triton
import triton.language as tl

INNER: Final = 4
"""Planes inside ``add_sixteen``, of weight 1, 2, 4 and 8."""

VALUES: Final = 1 << INNER
"""Values of a lane in one tile, and the weight of what the inner planes carry out."""


@triton.jit
def _add_three(a, b, c):
    either = a ^ b
    return either ^ c, (a & b) | (either & c)


@triton.jit
def _halves(words):
    return tl.split(tl.reshape(words, [words.shape[0] // 2, 2]))


@triton.jit
def quarters(words):
    """The words of a tensor ``(4 n,)``, four ``(n,)``; neighbours lie in the same thread."""
    even, odd = _halves(words)
    a, c = _halves(even)
    b, d = _halves(odd)
    return a, b, c, d


@triton.jit
def eighths(words):
    """The words of a tensor ``(8 n,)``, eight ``(n,)``."""
    even, odd = _halves(words)
    a, c, e, g = quarters(even)
    b, d, f, h = quarters(odd)
    return a, b, c, d, e, f, g, h


@triton.jit
def _add_eight(ones, twos, fours, words):
    ones, a = _add_three(ones, words[0], words[1])
    ones, b = _add_three(ones, words[2], words[3])
    twos, c = _add_three(twos, a, b)
    ones, a = _add_three(ones, words[4], words[5])
    ones, b = _add_three(ones, words[6], words[7])
    twos, d = _add_three(twos, a, b)
    fours, eight = _add_three(fours, c, d)
    return ones, twos, fours, eight


@triton.jit
def add_sixteen(inner, outer, first, second, PLANES: tl.constexpr):
    """The planes with two times eight words more; ``outer`` counts what ``inner`` carries out."""
    ones, twos, fours, eights = inner
    ones, twos, fours, a = _add_eight(ones, twos, fours, first)
    ones, twos, fours, b = _add_eight(ones, twos, fours, second)
    eights, carry = _add_three(eights, a, b)
    rippled = ()
    for place in tl.static_range(PLANES):
        rippled = rippled + (outer[place] ^ carry,)
        carry = outer[place] & carry
    return (ones, twos, fours, eights), rippled


@triton.jit
def no_planes(LANES: tl.constexpr, NUMBER: tl.constexpr):
    """Empty planes."""
    planes = ()
    for _ in tl.static_range(NUMBER):
        planes = planes + (tl.zeros([LANES], dtype=tl.int32),)
    return planes


@triton.jit
def _in_bytes(planes, FIRST: tl.constexpr, LAST: tl.constexpr):
    """Planes ``FIRST`` to below ``LAST``, at most 8, as ``(lanes, 8)``: counters ``b, b + 8, ...``."""
    bits = tl.arange(0, 8)[None, :]
    packed = tl.zeros([planes[0].shape[0], 8], dtype=tl.int32)
    for place in tl.static_range(FIRST, LAST):
        packed += ((planes[place][:, None] >> bits) & 0x01010101) << (place - FIRST)
    return packed


@triton.jit
def totals_of(planes, NUMBER: tl.constexpr):
    """The 32 counts of all lanes together: four tensors ``(8,)``, int32, lowest counters first."""
    tl.static_assert(NUMBER <= 16)
    low = _in_bytes(planes, 0, 8 if NUMBER > 8 else NUMBER)
    high = _in_bytes(planes, 8, NUMBER)
    counts = ()
    for byte in tl.static_range(4):
        upper = ((high >> 8 * byte) & 0xFF) << 8
        counts = counts + (tl.sum(((low >> 8 * byte) & 0xFF) + upper, 0),)
    return counts
