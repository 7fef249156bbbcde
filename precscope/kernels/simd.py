"""Machine operations that numba does not offer, written as portable LLVM IR.

None of them names a target: LLVM lowers a 64-byte compare to one instruction with AVX-512, to
two with AVX2 and to four with NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.cpython.unsafe import numbers
from numba.extending import intrinsic

from precscope.kernels.wide import cgutils

Function = TypeVar("Function", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]

BLOCK = 64
"""Bytes compared at once."""

LANES = ir.VectorType(ir.IntType(8), BLOCK)
BIT_PER_LANE = ir.IntType(BLOCK)
INT32 = ir.IntType(32)


def compiled(function: Function) -> Function:
    """Compile for the types of each call. Sums may be reassociated, which makes them SIMD.

    Nothing else is relaxed: NaN, infinity and signed zero keep their meaning.
    """
    return cast("Function", numba.njit(fastmath={"reassoc", "contract"})(function))


def merged(function: Function) -> Function:
    """Compile as part of each caller: LLVM optimises once more for every level of calls."""
    return cast("Function", numba.njit(inline="always")(function))


def _splat(builder: ir.IRBuilder, byte: ir.Value) -> ir.Value:
    undefined = ir.Constant(LANES, ir.Undefined)
    one = builder.insert_element(undefined, byte, INT32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT32, BLOCK), None))


def _address(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value) -> ir.Value:
    return context.make_array(array_type)(context, builder, array).data


def _match_mask(typing_context: Any, data: Any, block: Any, byte: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        base = _address(context, builder, signature.args[0], arguments[0])
        place = builder.gep(builder.bitcast(base, LANES.as_pointer()), [arguments[1]])
        lanes = builder.load(place, align=1)
        equal = builder.icmp_unsigned("==", lanes, _splat(builder, arguments[2]))
        return builder.bitcast(equal, BIT_PER_LANE)

    return types.uint64(data, types.uint64, types.uint8), generate


def _popcount(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


def _prefetch(typing_context: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        base = _address(context, builder, signature.args[0], arguments[0])
        pointer = ir.IntType(8).as_pointer()
        place = builder.bitcast(builder.gep(base, [arguments[1]]), pointer)
        prototype = ir.FunctionType(ir.VoidType(), [pointer, INT32, INT32, INT32])
        callee = builder.module.declare_intrinsic("llvm.prefetch.p0", (), prototype)
        read, into_l1, data_cache = INT32(0), INT32(3), INT32(1)
        builder.call(callee, [place, read, into_l1, data_cache])
        return context.get_dummy_value()

    return types.none(data, types.uint64), generate


def _pointer(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.uint64), generate


def _keep_apart(typing_context: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate


def _stack_of(size_bytes: int) -> Callable[[], Any]:
    def stack(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
            # By size, because numba would fill an array type with zeros, byte by byte.
            return cgutils.alloca_once(builder, ir.IntType(8), size=ir.IntType(64)(size_bytes))

        return types.voidptr(), generate

    return cast("Callable[[], Any]", intrinsic(stack))


match_mask = cast("Callable[[Bytes, int, np.uint8], np.uint64]", intrinsic(_match_mask))
"""``match_mask(data, i, byte)``: bit ``j`` is set if ``data[64 * i + j] == byte``."""

popcount = cast("Callable[[np.uint64], np.uint64]", intrinsic(_popcount))
"""``popcount(word)``: number of set bits."""

trailing_zeros = cast("Callable[[np.uint64], np.uint64]", numbers.trailing_zeros)
"""``trailing_zeros(word)``: position of the lowest set bit."""

prefetch = cast("Callable[[Bytes, np.uint64], None]", intrinsic(_prefetch))
"""``prefetch(data, i)``: start to bring ``data[i]`` into L1. Harmless past the end."""

keep_apart = cast("Callable[[], None]", intrinsic(_keep_apart))
"""``keep_apart()``: LLVM copies the function that says so into no other, to compile it once."""

pointer = cast("Callable[[np.uint64], Any]", intrinsic(_pointer))
"""``pointer(address)``: for ``carray``."""

CHUNK: Final[Any] = np.uint64(4096)
"""Values worked on at once: with their fields and the next ones on the way, they fit the L1."""

BUFFER: Final[Any] = np.uint64(4096 + BLOCK)
"""Fields of a chunk, and a block more for what is stored behind them."""

fields_on_stack, bits_on_stack = _stack_of(int(BUFFER)), _stack_of(4 * int(CHUNK))
"""Memory, not initialised, until the calling function returns; cheaper than ``np.empty``."""
