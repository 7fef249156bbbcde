"""Values of other formats as float32 bit patterns, for a chunk at a time.

Every function writes ``bits`` such that each value keeps its octave, and being a zero, an exact
power of two, an infinity or a NaN. All but ``narrow_double`` keep the value itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from precscope.kernels.passes import U32, U64, Bits
from precscope.kernels.simd import compiled

Codes = npt.NDArray[np.uint16] | npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.uint64]

FLOAT16: Final = 0
BFLOAT16: Final = 1
BY_TABLE: Final = 2

HALF_TOP_EXPONENT: Final = U32(0x0F800000)
HALF_BIAS: Final = U32(112 << 23)
HALF_SMALLEST_NORMAL: Final = U32(113 << 23)
HALF_NORMAL_VALUE: Final = np.float32(2.0**-14)

DOUBLE_MAGNITUDE: Final = U64(0x7FFFFFFFFFFFFFFF)
DOUBLE_LOW_BITS: Final = U64(0x1FFFFFFF)
DOUBLE_BIAS: Final = U64(1023 - 127)
DOUBLE_TOP_EXPONENT: Final = U64(2047)


@compiled
def _widen_bfloat16(source: Codes, bits: Bits) -> None:
    """BF16 is the upper half of float32."""
    for i in range(U64(bits.shape[0])):
        bits[i] = U32(source[i]) << U32(16)


@compiled
def _widen_float16(source: Codes, bits: Bits) -> None:
    """FP16: rebias the exponent; a subnormal is normalised by an exact subtraction.

    A float32 subnormal never arises, so that it does not matter whether the processor flushes
    them or how slow it is with them.
    """
    for i in range(U64(bits.shape[0])):
        code = U32(U32(source[i] & np.uint16(0x7FFF)) << U32(13))
        exponent = U32(code & HALF_TOP_EXPONENT)
        shifted = U32(code + HALF_SMALLEST_NORMAL)
        tiny = np.float32(shifted.view(np.float32) - HALF_NORMAL_VALUE)
        normal = U32(code + HALF_BIAS)
        special = U32(normal + HALF_BIAS)
        finite = tiny.view(np.uint32) if exponent == U32(0) else normal
        bits[i] = special if exponent == HALF_TOP_EXPONENT else finite


@compiled
def _widen_by_table(source: Codes, table: Bits, bits: Bits) -> None:
    """8-bit formats: look the code up in the table of its 256 values."""
    for i in range(U64(bits.shape[0])):
        bits[i] = table[U64(source[i])]


@compiled
def widen(kind: int, source: Codes, table: Bits, bits: Bits) -> None:
    """Widen a chunk of the given kind. A run-time branch: numba caches no function arguments."""
    if kind == FLOAT16:
        _widen_float16(source, bits)
    elif kind == BFLOAT16:
        _widen_bfloat16(source, bits)
    else:
        _widen_by_table(source, table, bits)


@compiled
def narrow_double(source: Doubles, bits: Bits) -> np.uint64:
    """Float64: the float32 of the same octave, with all mantissa bits that are lost ORed in one.

    2^128 and above becomes the octave of 2^127, below 2^-126 the subnormal ``1``. Gives the
    largest magnitude, as float64 bits.
    """
    top = U64(0)
    for i in range(U64(bits.shape[0])):
        magnitude = source[i] & DOUBLE_MAGNITUDE
        top = magnitude if magnitude > top else top
        exponent = magnitude >> U64(52)
        rest = U64((magnitude & DOUBLE_LOW_BITS) != U64(0))
        mantissa = ((magnitude >> U64(29)) & U64(0x007FFFFF)) | rest
        field = min(max(exponent, DOUBLE_BIAS) - DOUBLE_BIAS, U64(254))
        if exponent == DOUBLE_TOP_EXPONENT:
            field = U64(255)
        normal = (field << U64(23)) | mantissa
        bits[i] = U32(normal if field > U64(0) else U64(magnitude > U64(0)))
    return top
