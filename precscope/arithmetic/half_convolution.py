"""Convolutions as matrix products, so that their partial sums can be rounded to FP16.

One result of a convolution is a dot product over (input channel, kernel position), of its weight
gradient over (sample, output position), of its input gradient over (output channel, kernel
position), where the zeros that a stride inserts take part. Operands are unfolded in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import Final

import torch
import torch.nn.functional as F

from precscope.arithmetic.half_accumulation import half_product

CHUNK_VALUES: Final = 1 << 23
"""Unfolded values held at once, unless a single sample has more."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Per spatial dimension: how a convolution walks over its input; and its groups."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def of(
        cls, spatial: int, stride: list[int], padding: list[int], dilation: list[int], groups: int
    ) -> Geometry:
        """From arguments as PyTorch gives them, where one number may stand for every dimension."""
        full = [tuple(v) * (spatial if len(v) == 1 else 1) for v in (stride, padding, dilation)]
        return cls(full[0], full[1], full[2], groups)

    def transposed_size(
        self, size: Sequence[int], kernel: Sequence[int], output_padding: list[int]
    ) -> tuple[int, ...]:
        """Spatial size of a transposed convolution's result."""
        extra = output_padding * (len(size) if len(output_padding) == 1 else 1)
        walk = zip(size, kernel, extra, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + e for n, k, e, s, p, d in walk)


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    walk: Geometry,
    block: int,
    size: Sequence[int] | None = None,
) -> torch.Tensor:
    """Convolution without bias.

    Args:
        x: FP16 values of shape (N, C, *spatial), with C = C' * groups.
        weight: (O, C', *kernel).
        walk: its geometry.
        block: see ``half_product``.
        size: how many positions, if not all: a transposed convolution whose output padding is a
            stride or more has an output with room for more inputs than it was given.

    Returns:
        FP16 values in float32, (N, O, *positions).
    """
    kernel = tuple(weight.shape[2:])
    positions = _positions(x, kernel, walk) if size is None else list(size)
    matrix = weight.reshape(walk.groups, weight.shape[0] // walk.groups, -1)
    step = max(1, CHUNK_VALUES // max(1, _unfolded_values(x, kernel, walk)))
    parts = []
    for samples in x.split(step) if x.shape[0] else [x]:
        patches = _patches(samples, kernel, walk, positions)
        out = half_product(matrix, patches.flatten(2, 3), block)
        shaped = out.reshape(weight.shape[0], len(samples), *positions)
        parts.append(shaped.transpose(0, 1))
    return torch.cat(parts).contiguous()


def weight_gradient(
    x: torch.Tensor, grad: torch.Tensor, kernel: tuple[int, ...], walk: Geometry, block: int
) -> torch.Tensor:
    """Gradient of ``convolve`` by its weight, from the gradient (N, O, *positions) of its result.

    Returns:
        FP16 values in float32, (O, C', *kernel).
    """
    inner = x.shape[1] // walk.groups
    rows = grad.transpose(0, 1).reshape(walk.groups, grad.shape[1] // walk.groups, -1)
    step = max(1, CHUNK_VALUES * inner // max(1, _unfolded_values(x, kernel, walk) * len(x)))
    by_group = x.view(x.shape[0], walk.groups, inner, *x.shape[2:])
    parts = []
    for channels in by_group.split(step, dim=2):
        patches = _patches(channels.flatten(1, 2), kernel, walk, grad.shape[2:])
        parts.append(half_product(rows, patches.flatten(2, 3).transpose(1, 2), block))
    return torch.cat(parts, dim=2).reshape(grad.shape[1], inner, *kernel)


def convolve_transposed(
    grad: torch.Tensor, weight: torch.Tensor, size: tuple[int, ...], walk: Geometry, block: int
) -> torch.Tensor:
    """Gradient of ``convolve`` by its input of spatial ``size``; also a transposed convolution.

    Returns:
        FP16 values in float32, (N, C, *size).
    """
    kernel = weight.shape[2:]
    reach = [d * (k - 1) for d, k in zip(walk.dilation, kernel, strict=True)]
    spread = _insert_zeros(grad, walk.stride)
    pads: list[int] = []
    for n, have, far, p in zip(size, spread.shape[2:], reach, walk.padding, strict=True):
        pads = [far - p, n - have + p, *pads]
    outputs = weight.shape[0] // walk.groups
    grouped = weight.reshape(walk.groups, outputs, *weight.shape[1:]).transpose(1, 2)
    turned = grouped.flatten(0, 1).flip(tuple(range(2, weight.dim())))
    ones = (1,) * len(kernel)
    plain = Geometry(ones, (0,) * len(kernel), walk.dilation, walk.groups)
    return convolve(F.pad(spread, pads), turned, plain, block)


def _insert_zeros(values: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    if all(s == 1 for s in stride):
        return values
    sizes = [(n - 1) * s + 1 for n, s in zip(values.shape[2:], stride, strict=True)]
    spread = values.new_zeros(*values.shape[:2], *sizes)
    everywhere: list[slice | EllipsisType] = [slice(None, None, step) for step in stride]
    spread[(..., *everywhere)] = values
    return spread


def _positions(x: torch.Tensor, kernel: tuple[int, ...], walk: Geometry) -> list[int]:
    sizes = zip(x.shape[2:], kernel, walk.stride, walk.padding, walk.dilation, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]


def _unfolded_values(x: torch.Tensor, kernel: tuple[int, ...], walk: Geometry) -> int:
    """Values of one sample, unfolded."""
    return x.shape[1] * prod(kernel) * prod(_positions(x, kernel, walk))


def _patches(
    x: torch.Tensor, kernel: tuple[int, ...], walk: Geometry, positions: Sequence[int]
) -> torch.Tensor:
    """What each result multiplies, (groups, C' * kernel, N, positions)."""
    pads = [p for padding in reversed(walk.padding) for p in (padding, padding)]
    padded = F.pad(x, pads).contiguous()
    strides = padded.stride()[2:]
    windows = padded.as_strided(
        [*x.shape[:2], *kernel, *positions],
        [
            *padded.stride()[:2],
            *(s * d for s, d in zip(strides, walk.dilation, strict=True)),
            *(s * step for s, step in zip(strides, walk.stride, strict=True)),
        ],
    )
    by_channel = windows.transpose(0, 1).movedim(1, 1 + len(kernel))
    rows = x.shape[1] * prod(kernel) // walk.groups
    return by_channel.reshape(walk.groups, rows, x.shape[0], prod(positions))
