"""Statistics of normalisation layers, and the gradients of their weights and biases.

    mean of x, and of x^2:   sums over the normalised values of one row, group or channel
    weight gradient:         sum of dy (x - mean) / std     bias gradient: sum of dy

A variance taken as E[x^2] - E[x]^2 loses as many digits as E[x^2] is larger than it: the
``cancellation`` of the sum of squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import torch

from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import fp16, strided_columns
from precscope.probes.accumulation.native import half_operator


@dataclass(frozen=True, slots=True)
class Layout:
    """Which dimensions a layer adds over.

    Attributes:
        x: its input, as a view in which that is a matter of dimensions.
        statistics: summed for the mean and the variance.
        affine: summed for the gradients of weight and bias.
    """

    x: torch.Tensor
    statistics: tuple[int, ...]
    affine: tuple[int, ...]


def layer_norm_layout(x: torch.Tensor, normalized: Sequence[int]) -> Layout:
    """Layer norm: rows are normalised, parameters belong to columns."""
    inner = tuple(range(x.dim() - len(normalized), x.dim()))
    return Layout(x, inner, tuple(d for d in range(x.dim()) if d not in inner))


def batch_norm_layout(x: torch.Tensor) -> Layout:
    """Batch norm: channels are normalised, and own the parameters."""
    dims = tuple(d for d in range(x.dim()) if d != 1)
    return Layout(x, dims, dims)


def group_norm_layout(x: torch.Tensor, n: int, c: int, area: int, groups: int) -> Layout:
    """Group norm: groups of channels of one example, seen as (N, groups, C / groups, area)."""
    return Layout(x.reshape(n, groups, c // groups, area), (2, 3), (0, 3))


def statistics(call: Call) -> Iterator[Reduction]:
    """Forward of layer, batch and group norm."""
    if call.get("training", True) is False:
        return  # it uses running statistics and adds nothing up
    layout = _layout(call)
    x, dims = layout.x, layout.statistics
    length = prod(x.shape[d] for d in dims)

    @cache
    def columns() -> torch.Tensor:
        return fp16(strided_columns(x, dims)[0])

    def cancellation() -> float:
        centred, means = torch.var_mean(columns(), 0, correction=0)
        squares = centred + means.square()
        return float((squares / centred.clamp_min(1e-30)).median())

    if length:
        yield Reduction("mean", "reduction", length, columns)
        yield Reduction(
            "mean of squares", "reduction", length, lambda: columns().square(), cancellation
        )


def affine_gradients(call: Call) -> Iterator[Reduction]:
    """Backward of layer, batch and group norm."""
    layout, dy = _layout(call), call.tensor("grad_out", "grad_output", "dY")
    dy = dy.reshape(layout.x.shape)
    dims = layout.affine
    length = prod(dy.shape[d] for d in dims)
    mask = call.get("output_mask", (True, True, True))
    native = half_operator(call, "grad_out")

    @cache
    def gradient() -> torch.Tensor:
        return fp16(strided_columns(dy, dims)[0], call.scale)

    if mask[1] and length:
        centred = _standardised(layout)
        yield Reduction(
            "weight gradient",
            "reduction",
            length,
            lambda: gradient() * fp16(strided_columns(centred, dims)[0]),
            native=native,
        )
    if mask[2] and length:
        yield Reduction("bias gradient", "reduction", length, gradient)


def _standardised(layout: Layout) -> torch.Tensor:
    x = layout.x.detach().float()
    mean = x.mean(layout.statistics, keepdim=True)
    variance = x.var(layout.statistics, correction=0, keepdim=True)
    return (x - mean) * (variance + 1e-5).rsqrt()


def _layout(call: Call) -> Layout:
    x = call.tensor("input", "X")
    if "layer_norm" in call.operator:
        return layer_norm_layout(x, call.get("normalized_shape", ()))
    if "group_norm" in call.operator:
        sizes = [int(call.get(n, 1)) for n in ("N", "C", "HxW", "group")]
        return group_norm_layout(x, *sizes)
    return batch_norm_layout(x)
