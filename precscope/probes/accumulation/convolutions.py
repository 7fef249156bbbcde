"""Convolutions as matrix products: forward, input gradient, weight gradient, bias gradient.

For a convolution of any number of dimensions, with its stride s, padding p, dilation d and groups,

    y[n, o, t]  = sum_(i, k) x[n, i, s t + d k - p]  w[o, i, k]        i in the group of o
    dx[n, i, u] = sum_(o, k) dy[n, o, (u + p - d k) / s]  w[o, i, k]   where that is a whole number
    dw[o, i, k] = sum_(n, t) dy[n, o, t]  x[n, i, s t + d k - p]
    db[o]       = sum_(n, t) dy[n, o, t]

Padding adds zeros, which count: a GEMM adds them too. A transposed convolution is the input
gradient of a plain one, so the same three sums serve it with x and dy exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch.nn import functional

from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import (
    Index,
    fp16,
    gather,
    kept_length,
    offsets,
    places,
    sampled,
    strided_columns,
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a plain convolution walks over its input.

    Attributes:
        kernel: kernel size per dimension.
        stride: per dimension, as are the next two.
        padding: zeros on each side.
        dilation: distance of kernel elements.
        groups: independent blocks of channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def convolution(call: Call) -> Iterator[Reduction]:
    """``convolution`` in forward."""
    x, w = call.tensor("input"), call.tensor("weight")
    if not _usable(x, w):
        return
    operation = _named(call, w)
    g = _geometry(call, w)
    if call.get("transposed", False):
        y = call.output()
        shape = tuple(y.shape) if y is not None else ()
        yield _input_gradient(operation, x, w, shape, g, (1.0, 1.0))
    else:
        y = call.output()
        shape = tuple(y.shape) if y is not None else ()
        yield _forward(operation, x, w, shape, g, (1.0, 1.0))


def convolution_backward(call: Call) -> Iterator[Reduction]:
    """``convolution_backward``: up to three gradients."""
    dy, x, w = call.tensor("grad_output"), call.tensor("input"), call.tensor("weight")
    if not _usable(x, w):
        return
    g, scale = _geometry(call, w), call.scale
    label = call.origin.weights[0] if call.origin and call.origin.weights else None
    mask = call.get("output_mask", (True, True, True))
    transposed = bool(call.get("transposed", False))
    if mask[0]:
        one = _forward if transposed else _input_gradient
        yield one("input gradient", dy, w, tuple(x.shape), g, (scale, 1.0))
    if mask[1]:
        name, (a, b) = f"{label or 'weight'} gradient", (x, dy) if transposed else (dy, x)
        scales = (1.0, scale) if transposed else (scale, 1.0)
        yield _weight_gradient(name, a, b, w, g, scales)
    if mask[2]:
        yield bias_gradient(call, dy, 1)


def bias_gradient(call: Call, gradient: torch.Tensor, channel_dim: int) -> Reduction:
    """Sum of a gradient over everything but its channels."""
    dims = [d for d in range(gradient.dim()) if d != channel_dim]
    length = prod(gradient.shape[d] for d in dims)
    return Reduction(
        "bias gradient",
        "reduction",
        length,
        lambda: fp16(strided_columns(gradient, dims)[0], call.scale),
    )


def _usable(x: torch.Tensor, w: torch.Tensor) -> bool:
    plain = all(t.layout is torch.strided and t.numel() and not t.is_mkldnn for t in (x, w))
    return plain and x.dim() == w.dim()


def _named(call: Call, w: torch.Tensor) -> str:
    weight = call.weights.get(w.data_ptr())
    if call.origin is not None:
        call.origin.label, call.origin.weights = "forward", (weight,)
    return "forward" if weight in (None, "weight") else f"forward ({weight})"


def _geometry(call: Call, w: torch.Tensor) -> Geometry:
    dims = w.dim() - 2
    return Geometry(
        tuple(w.shape[2:]),
        _per_dim(call.get("stride", (1,)), dims),
        _per_dim(call.get("padding", (0,)), dims),
        _per_dim(call.get("dilation", (1,)), dims),
        int(call.get("groups", 1)),
    )


def _per_dim(values: Sequence[int], dims: int) -> tuple[int, ...]:
    return tuple(values) if len(values) == dims else (values[0],) * dims


Scales = tuple[float, float]
Shape = tuple[int, ...]


IMAGES: Final = 4
"""Examples of the batch that output elements are drawn from: only these are padded."""


def _forward(
    operation: str, x: torch.Tensor, w: torch.Tensor, shape: Shape, g: Geometry, scales: Scales
) -> Reduction:
    terms = (w.shape[1], *g.kernel)

    def addends() -> torch.Tensor:
        images = sampled(shape[0], IMAGES)
        padded = _padded(x[images.to(x.device)], shape[2:], g)
        n, o, *t = places(sampled(len(images) * prod(shape[1:])), (len(images), *shape[1:]))
        steps = torch.arange(kept_length(prod(terms), len(n)))
        first, channel, *space = padded.stride()
        rows = n * first + o // (shape[1] // g.groups) * w.shape[1] * channel
        rows += _dot(t, g.stride, space)
        along = offsets(steps, terms, (channel, *_times(g.dilation, space)))
        right = gather(w, o * w.stride(0), offsets(steps, terms, w.stride()[1:]))
        return fp16(gather(padded, rows, along), scales[0]) * fp16(right, scales[1])

    return Reduction(operation, "product", prod(terms), addends)


def _input_gradient(
    operation: str, dy: torch.Tensor, w: torch.Tensor, shape: Shape, g: Geometry, scales: Scales
) -> Reduction:
    terms = (w.shape[0] // g.groups, *g.kernel)

    def addends() -> torch.Tensor:
        images = sampled(shape[0], IMAGES)
        spread, low = _spread(dy[images.to(dy.device)], shape[2:], g)
        n, c, *u = places(sampled(len(images) * prod(shape[1:])), (len(images), *shape[1:]))
        steps = torch.arange(kept_length(prod(terms), len(n)))
        first, channel, *space = spread.stride()
        block = c // w.shape[1] * terms[0]
        at = [u[a] + g.padding[a] + low[a] for a in range(len(u))]
        rows = n * first + block * channel + _dot(at, (1,) * len(u), space)
        along = offsets(steps, terms, (channel, *(-s for s in _times(g.dilation, space))))
        right = gather(
            w,
            block * w.stride(0) + c % w.shape[1] * w.stride(1),
            offsets(steps, terms, (w.stride(0), *w.stride()[2:])),
        )
        return fp16(gather(spread, rows, along), scales[0]) * fp16(right, scales[1])

    return Reduction(operation, "product", prod(terms), addends)


def _weight_gradient(
    operation: str, dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor, g: Geometry, scales: Scales
) -> Reduction:
    terms = (dy.shape[0], *dy.shape[2:])

    def addends() -> torch.Tensor:
        o, i, *k = places(sampled(w.numel()), w.shape)
        steps = torch.arange(kept_length(prod(terms), len(o)))
        images = int(steps[-1]) // prod(terms[1:]) + 1
        padded = _padded(x[:images], dy.shape[2:], g)
        first, channel, *space = padded.stride()
        rows = (o // (w.shape[0] // g.groups) * w.shape[1] + i) * channel
        rows += _dot(k, g.dilation, space)
        along = offsets(steps, terms, (first, *_times(g.stride, space)))
        left = gather(dy, o * dy.stride(1), offsets(steps, terms, (dy.stride(0), *dy.stride()[2:])))
        return fp16(left, scales[0]) * fp16(gather(padded, rows, along), scales[1])

    return Reduction(operation, "product", prod(terms), addends)


def _padded(x: torch.Tensor, outputs: Sequence[int], g: Geometry) -> torch.Tensor:
    """``x`` with zeros around it, as far as the kernel reaches."""
    reach = [
        (outputs[a] - 1) * g.stride[a] + g.dilation[a] * (g.kernel[a] - 1) + 1
        for a in range(len(outputs))
    ]
    low = g.padding
    high = [max(0, r - p - n) for r, p, n in zip(reach, low, x.shape[2:], strict=True)]
    return _pad(x, low, high)


def _spread(
    dy: torch.Tensor, inputs: Sequence[int], g: Geometry
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """``dy`` with ``stride - 1`` zeros between its elements and zeros around; and how many before."""
    sizes = [(n - 1) * s + 1 for n, s in zip(dy.shape[2:], g.stride, strict=True)]
    wide = dy
    if sizes != list(dy.shape[2:]):
        wide = dy.new_zeros(*dy.shape[:2], *sizes)
        wide[(slice(None), slice(None), *(slice(None, None, s) for s in g.stride))] = dy
    reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)]
    low = tuple(max(0, r - p) for r, p in zip(reach, g.padding, strict=True))
    high = [max(0, n - 1 + p - (m - 1)) for n, p, m in zip(inputs, g.padding, sizes, strict=True)]
    return _pad(wide, low, high), low


def _pad(x: torch.Tensor, low: Sequence[int], high: Sequence[int]) -> torch.Tensor:
    amounts = [n for pair in zip(low[::-1], high[::-1], strict=True) for n in pair]
    return functional.pad(x, amounts) if any(amounts) else x


def _times(factors: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    return tuple(f * s for f, s in zip(factors, strides, strict=True))


def _dot(at: Sequence[Index], factors: Sequence[int], strides: Sequence[int]) -> Index:
    result: Index = torch.zeros((), dtype=torch.int64)
    for place, step in zip(at, _times(factors, strides), strict=True):
        result = result + place * step
    return result
