"""Dot products and sums whose partial sums are FP16: what FP16 accumulators do.

With blocks of ``b`` terms, the terms p of one result, in order, are added as

    s_n = p_(nb) + p_(nb+1) + ... + p_(nb+b-1)        in float32, one after the other
    a_0 = 0,   a_(n+1) = fp16(a_n + s_n)              the sum in float32, then rounded to FP16

A product of two FP16 numbers is exact in float32. ``b = 1`` is a scalar FP16 accumulator; 4, 8 and
16 are tensor core blocks. A partial sum of 65520 or more is infinite, and stays so. The order of the
terms is that of memory, so that a result does not depend on threads or on the machine.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import prod
from typing import Final

import torch

from precscope.kernels.threads import run_all, thread_count

PARALLEL_FROM: Final = 1 << 20
"""Terms from which on threads pay; one takes about 0.1 ms for as many."""

FEW_COLUMNS: Final = 16
"""With fewer columns than this the transposed product is computed: columns become SIMD lanes."""


def half_product(left: torch.Tensor, right: torch.Tensor, block: int) -> torch.Tensor:
    """``left @ right`` with FP16 accumulation in blocks.

    Args:
        left: FP16 values, on the CPU, in float16 or float32, of shape (M, K) or (B, M, K).
        right: of shape (K, N) or (B, K, N).
        block: terms summed in float32 before each rounding.

    Returns:
        The accumulators, FP16 values in float32, of shape (M, N) or (B, M, N). A dimension K of
        zero gives zeros; NaN and infinity propagate as in any sum.
    """
    if left.dim() == 2:
        return half_product(left[None], right[None], block)[0]
    if right.shape[2] < FEW_COLUMNS and left.shape[1] > right.shape[2]:
        turned = half_product(right.transpose(1, 2), left.transpose(1, 2), block)
        return turned.transpose(1, 2)
    result = torch.empty(left.shape[0], left.shape[1], right.shape[2])
    _run(_operand(left), _operand(right), result, block)
    return result


def half_sum(values: torch.Tensor, dims: list[int], keepdim: bool, block: int) -> torch.Tensor:
    """Sum over ``dims`` (all of them if empty) with FP16 accumulation in blocks.

    Args:
        values: float16, on the CPU.
        dims: dimensions to sum over, in any order; terms are taken in the order of memory.
        keepdim: whether they stay, with size 1.
        block: terms summed in float32 before each rounding.

    Returns:
        float16; zero where there is nothing to sum.
    """
    rank = values.dim()
    summed = sorted({d % rank for d in dims} or range(rank)) if rank else []
    kept = [d for d in range(rank) if d not in summed]
    length = prod(values.shape[d] for d in summed)
    table = values.permute([*summed, *kept]).reshape(length, -1 if length else 0)
    shape = [1 if d in summed else n for d, n in enumerate(values.shape)]
    total = torch.zeros(shape, dtype=torch.float16)
    if table.numel():
        ones = torch.ones(1, length)
        total = half_product(ones, table, block).half().view(shape)
    return total if keepdim else total.view([values.shape[d] for d in kept])


def _run(left: torch.Tensor, right: torch.Tensor, result: torch.Tensor, block: int) -> None:
    # Here, because numba takes a second to import and most recipes need none of this.
    from precscope.arithmetic.accumulation_kernel import products

    kernel, height = products(), result.shape[0] * result.shape[1]
    arrays = (left.numpy(), right.numpy(), result.numpy())
    terms = height * right.shape[1] * right.shape[2]
    parts = min(thread_count(), max(height, 1)) if terms >= PARALLEL_FROM else 1
    bounds = [height * part // parts for part in range(parts + 1)]
    run_all([partial(kernel, *arrays, block, *rows) for rows in pairwise(bounds)])


def _operand(values: torch.Tensor) -> torch.Tensor:
    return values.detach().to(torch.float32).contiguous()
