"""Words for writing SIMD code as LLVM IR: registers of 64 bytes and what is done with them.

``fold.py`` and ``tally.py`` are written in these. They need AVX-512 with VBMI, VBMI2, BITALG and
GFNI, which processors have since Ice Lake and Zen 4; ``chunk.py`` does the same for all others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils as numba_cgutils
from numba.core.registry import cpu_target

BLOCK: Final = 64
"""Values in one register of exponent fields."""

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
POINTER = I8.as_pointer()
BYTES = ir.VectorType(I8, 64)
WORDS = ir.VectorType(I16, 32)
LANES = ir.VectorType(I32, 16)
LONGS = ir.VectorType(I64, 8)
HALVES = ir.VectorType(ir.HalfType(), 16)
FLOATS = ir.VectorType(ir.FloatType(), 16)
DOUBLES = ir.VectorType(ir.DoubleType(), 8)

cgutils: Final[Any] = numba_cgutils
"""It has no annotations."""

NEEDED: Final = frozenset(
    f"+{feature}" for feature in ("avx512bw", "avx512vbmi", "avx512vbmi2", "avx512bitalg", "gfni")
)
VARIABLE: Final = "PRECSCOPE_KERNEL"
"""Environment variable; ``portable`` keeps to the code that every processor can run."""


@cache
def has_wide_registers() -> bool:
    """Whether numba compiles for a processor that has all that the wide kernel needs."""
    if os.environ.get(VARIABLE) == "portable":
        return False
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return set(features.split(",")) >= NEEDED


def splat(vector: ir.VectorType, value: int) -> ir.Constant:
    """The same integer in every lane."""
    return ir.Constant(vector, [value] * vector.count)


def shuffle(builder: ir.IRBuilder, value: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """The named lanes of a vector, in that order."""
    order = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), order)


def broadcast(builder: ir.IRBuilder, vector: ir.VectorType, scalar: ir.Value) -> ir.Value:
    """A run-time value in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, I32(0))
    return shuffle(builder, one, [0] * vector.count)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic by its full name."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    callee = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(callee, arguments)


def offset(builder: ir.IRBuilder, base: ir.Value, bytes_on: ir.Value | int) -> ir.Value:
    """The address so many bytes further on."""
    return builder.gep(base, [I64(bytes_on) if isinstance(bytes_on, int) else bytes_on])


def load(builder: ir.IRBuilder, place: ir.Value, vector: ir.VectorType) -> ir.Value:
    """A vector from any address."""
    return builder.load(builder.bitcast(place, vector.as_pointer()), align=1)


def store(builder: ir.IRBuilder, value: ir.Value, place: ir.Value) -> None:
    """A vector to any address."""
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=1)


def prefetch(builder: ir.IRBuilder, place: ir.Value) -> None:
    """Start to bring a cache line into L1. Harmless at any address."""
    read, into_l1, data_cache = I32(0), I32(3), I32(1)
    call(builder, "llvm.prefetch.p0", ir.VoidType(), place, read, into_l1, data_cache)


def count_bits(builder: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    """Set lanes of a mask of 64."""
    return builder.ctpop(builder.bitcast(mask, I64))
