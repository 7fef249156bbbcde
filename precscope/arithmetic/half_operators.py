"""The operators that ``half_on_cpu`` computes with FP16 accumulators, when told to.

Matrix products, convolutions, attention, and sums: forward and backward. Scatter-like operators
(embedding gradients, ``index_add``, ...) run natively, because the native CPU kernels round to
FP16 after each addition; softmax and normalisation stay float32, as they are on tensor core
hardware too. Each result is rounded once more where a bias or a factor is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from precscope.arithmetic.half_accumulation import half_product, half_sum
from precscope.arithmetic.half_attention import attention, attention_backward
from precscope.arithmetic.half_convolution import (
    Geometry,
    convolve,
    convolve_transposed,
    weight_gradient,
)
from precscope.arithmetic.widen import Reroute, is_half, is_half_work

Compute = Callable[..., Any]
"""``compute(block, *args, **kwargs)``: one operator, on float16 CPU tensors."""


def accumulating(compute: Compute, block: int) -> Reroute:
    """Reroute to ``compute`` where every floating-point argument is float16 on the CPU."""

    def reroute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Attention's backward takes float32 log-sum-exps; a sum may ask for another dtype.
        mine = is_half_work(args, kwargs) or (compute is _attention_backward and is_half(args[0]))
        if not mine or kwargs.get("dtype") not in (None, torch.float16):
            return func(*args, **kwargs)
        return compute(block, *args, **{k: v for k, v in kwargs.items() if k != "dtype"})

    return reroute


def _mm(block: int, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return half_product(left, right, block).half()


def _mv(block: int, matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return half_product(matrix, vector[:, None], block)[:, 0].half()


def _dot(block: int, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return half_product(left[None], right[:, None], block)[0, 0].half()


def _addmm(
    block: int,
    added: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> torch.Tensor:
    return _plus(half_product(left, right, block), added, beta, alpha)


def _addmv(
    block: int,
    added: torch.Tensor,
    matrix: torch.Tensor,
    vector: torch.Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> torch.Tensor:
    return _plus(half_product(matrix, vector[:, None], block)[:, 0], added, beta, alpha)


def _addbmm(
    block: int,
    added: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> torch.Tensor:
    long_rows, long_columns = left.transpose(0, 1).flatten(1), right.flatten(0, 1)
    return _plus(half_product(long_rows, long_columns, block), added, beta, alpha)


def _plus(product: torch.Tensor, added: torch.Tensor, beta: float, alpha: float) -> torch.Tensor:
    """``fp16(beta * added + alpha * product)``; with beta = 0 even NaN in ``added`` is ignored."""
    scaled = product * alpha
    return (scaled + added.float() * beta if beta else scaled).half()


def _sum(
    block: int, values: torch.Tensor, dim: list[int] | None = None, keepdim: bool = False
) -> torch.Tensor:
    return half_sum(values, list(dim or ()), keepdim, block)


def _mean(
    block: int, values: torch.Tensor, dim: list[int] | None = None, keepdim: bool = False
) -> torch.Tensor:
    total = half_sum(values, list(dim or ()), keepdim, block)
    count = values.numel() / total.numel() if total.numel() else 1.0
    return (total.float() / count).half()


def _convolution(
    block: int,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> torch.Tensor:
    walk = Geometry.of(x.dim() - 2, stride, padding, dilation, groups)
    if transposed:
        size = walk.transposed_size(x.shape[2:], weight.shape[2:], output_padding)
        result = convolve_transposed(x.float(), weight.float(), size, walk, block)
    else:
        result = convolve(x.float(), weight.float(), walk, block)
    if bias is not None:
        result += bias.float().view(-1, *[1] * (x.dim() - 2))
    return result.half()


def _convolution_backward(
    block: int,
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> tuple[torch.Tensor | None, ...]:
    walk = Geometry.of(x.dim() - 2, stride, padding, dilation, groups)
    by_input = by_weight = by_bias = None
    g, inputs, weights = grad.float(), x.float(), weight.float()
    if output_mask[0] and transposed:
        by_input = convolve(g, weights, walk, block, x.shape[2:]).half()
    elif output_mask[0]:
        by_input = convolve_transposed(g, weights, tuple(x.shape[2:]), walk, block).half()
    if output_mask[1]:
        wide, narrow = (g, inputs) if transposed else (inputs, g)
        by_weight = weight_gradient(wide, narrow, tuple(weight.shape[2:]), walk, block).half()
    if output_mask[2]:
        by_bias = half_sum(grad, [0, *range(2, grad.dim())], False, block)
    return by_input, by_weight, by_bias


def _attention(
    block: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **kwargs: Any,
) -> Any:
    return attention(block, query, key, value, is_causal, **kwargs)


def _attention_backward(
    block: int, *args: Any, attn_mask: torch.Tensor | None = None, scale: float | None = None
) -> Any:
    *tensors, _dropout, is_causal = args
    options = {"is_causal": is_causal, "attn_mask": attn_mask, "scale": scale}
    return attention_backward(block, *tensors, **options)


COMPUTED: dict[str, Compute] = {
    "mm": _mm,
    "bmm": _mm,
    "mv": _mv,
    "dot": _dot,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "addbmm": _addbmm,
    "addmv": _addmv,
    "sum": _sum,
    "sum.dim_IntList": _sum,
    "mean": _mean,
    "mean.dim": _mean,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}
"""Operator, or operator and overload: what computes it."""
