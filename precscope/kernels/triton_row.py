# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
"""What every way of counting needs: the bits of a value, and the places of the row."""

from __future__ import annotations

import triton
import triton.language as tl

INFINITY_BITS = tl.constexpr(0x7F800000)

# The row, as in precscope.kernels.row; a kernel can only read constants of this kind.
OBSERVATIONS = tl.constexpr(0)
ZEROS = tl.constexpr(1)
INFINITIES = tl.constexpr(2)
NANS = tl.constexpr(3)
AMAX = tl.constexpr(4)
SUM_ABS = tl.constexpr(5)
SUM_SQUARES = tl.constexpr(6)
COUNTS = tl.constexpr(8)
POWERS = tl.constexpr(285)
FIRST_NORMAL = tl.constexpr(22)
"""What to add to a field to get its place among the counts: field 1 is 2^-126, place 23."""


@triton.jit
def float32_bits(raw, KIND: tl.constexpr):
    """Bits of the value as float32, without its sign. KIND: 0 float32, 1 float16, 2 bfloat16."""
    if KIND == 0:
        value = raw.to(tl.float32, bitcast=True)
    elif KIND == 1:
        value = raw.to(tl.float16, bitcast=True).to(tl.float32)
    else:
        value = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    # By a mask of the bits, LLVM would make two instructions of each minimum with 1 below.
    return tl.abs(value).to(tl.int32, bitcast=True)


@triton.jit
def add_sums_to_row(row, amax, sum_abs, sum_squares):
    """The largest magnitude, and the sums, which are float64 already."""
    # Positive float64s are ordered as their bits are.
    widened = amax.to(tl.float64)
    tl.atomic_max(row + AMAX, widened.to(tl.int64, bitcast=True))
    floats = row.to(tl.pointer_type(tl.float64))
    tl.atomic_add(floats + SUM_ABS, sum_abs)
    tl.atomic_add(floats + SUM_SQUARES, sum_squares)
