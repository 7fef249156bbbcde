"""The few operands of the sampled sums, taken out of a tensor without unfolding it.

Where the k-th addend of sample j lies is a sum of two parts in every reduction there is,

    offset(k, j) = rows[j] + steps[k]

in units of the tensor's elements, whatever its strides: so a matrix product, a convolution and a
statistic over any dimensions are gathered by the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from math import prod
from typing import Final

import torch

SAMPLES: Final = 64
"""Output elements per site."""

MOST_ADDENDS: Final = 1 << 21
"""Addends per site: longer sums are cut, and the cut is recorded."""

SEED: Final = 20180218
FP16_MAX: Final = 65504.0

Index = torch.Tensor


def kept_length(length: int, samples: int) -> int:
    """How many of ``length`` addends are looked at: all, unless that would be too many."""
    return max(1, min(length, MOST_ADDENDS // max(samples, 1)))


def sampled(total: int, samples: int = SAMPLES) -> Index:
    """Flat numbers of output elements: all of them, or ``samples`` random ones, always the same.

    The global random stream is not drawn from.
    """
    return _sampled(total, samples).clone()


@cache
def _sampled(total: int, samples: int) -> Index:
    if total <= samples:
        return torch.arange(total)
    stream = torch.Generator().manual_seed(SEED)
    return torch.randint(total, (samples,), generator=stream)


def places(flat: Index, shape: Sequence[int]) -> list[Index]:
    """Coordinates of flat, row-major numbers in ``shape``."""
    if not shape:
        return []
    found: list[Index] = []
    for size in reversed(shape[1:]):
        found.append(flat % size)
        flat = flat // size
    return [flat, *found[::-1]]


def offsets(flat: Index, shape: Sequence[int], strides: Sequence[int]) -> Index:
    """Element offsets of flat, row-major numbers in a tensor's dimensions of these strides."""
    parts = [p * stride for p, stride in zip(places(flat, shape), strides, strict=True)]
    return reduce(torch.add, parts) if parts else torch.zeros_like(flat)


def gather(tensor: torch.Tensor, rows: Index, steps: Index) -> torch.Tensor:
    """Elements at ``rows[j] + steps[k]``, as float32 of shape (K, m)."""
    where = rows.to(tensor.device)[None, :] + steps.to(tensor.device)[:, None]
    # On a CPU three times as fast as indexing with the table itself.
    return _memory(tensor).index_select(0, where.view(-1)).view(where.shape).float()


def _memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's memory from its first element on, as one dimension."""
    plain = tensor.detach()
    reach = 1 + sum((n - 1) * s for n, s in zip(plain.shape, plain.stride(), strict=True))
    return plain.as_strided((reach,), (1,))


def fp16(values: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """``values * scale`` as FP16 would store them, in float32; saturated, never infinite.

    What overflows at the store is a matter of range, told elsewhere; here it must not hide what
    the sum does.
    """
    scaled = values if scale == 1.0 else values * scale
    return scaled.clamp(-FP16_MAX, FP16_MAX).half().float()


def reduced_dims(tensor: torch.Tensor, dims: Sequence[int] | int | None) -> tuple[int, ...]:
    """The dimensions as sorted non-negative numbers; all of them for None or an empty list."""
    if dims is None:
        return tuple(range(tensor.dim()))
    listed = (dims,) if isinstance(dims, int) else tuple(dims)
    if not listed:
        return tuple(range(tensor.dim()))
    return tuple(sorted(d % max(tensor.dim(), 1) for d in listed)) if tensor.dim() else ()


def strided_columns(
    tensor: torch.Tensor, dims: Sequence[int] | int | None
) -> tuple[torch.Tensor, int]:
    """Sampled sums over ``dims``: their addends (K, m) as float32, and the full length."""
    summed = reduced_dims(tensor, dims)
    kept = [d for d in range(tensor.dim()) if d not in summed]
    shape, strides = tensor.shape, tensor.stride()
    length = prod(shape[d] for d in summed)
    rows = sampled(prod(shape[d] for d in kept))
    rows = offsets(rows, [shape[d] for d in kept], [strides[d] for d in kept])
    steps = torch.arange(kept_length(length, len(rows)))
    steps = offsets(steps, [shape[d] for d in summed], [strides[d] for d in summed])
    return gather(tensor, rows, steps), length
