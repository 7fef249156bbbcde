"""Gradients of an optimizer's parameters: their magnitudes, and scaling them in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch


def optimizer_parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Every parameter of every group, in order."""
    for group in optimizer.param_groups:
        yield from group["params"]


def gradient_values(parameters: Iterable[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs (parameter, dense real tensor of its gradient's values), of those that have any.

    Of complex ones real and imaginary parts, in the memory of the gradient.
    """
    pairs = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        values = parameter.grad._values() if parameter.grad.is_sparse else parameter.grad
        if values.numel():
            pairs.append((parameter, torch.view_as_real(values) if values.is_complex() else values))
    return pairs


def amax_of_each(gradients: list[torch.Tensor]) -> list[float]:
    """Largest magnitude of each tensor; NaN if it holds one. One transfer to the host."""
    if not gradients:
        return []
    # On a CPU the infinity norm is an order of magnitude slower than aminmax; on CUDA the
    # foreach form is one kernel for all of them.
    if all(grad.is_cuda for grad in gradients):
        norms = list(torch._foreach_norm(gradients, math.inf))
    else:
        norms = [torch.stack(torch.aminmax(grad)).abs().amax() for grad in gradients]
    first = norms[0].device
    return torch.stack([norm.to(first, torch.float32) for norm in norms]).tolist()


def log2_or_none(value: float) -> float | None:
    """``log2(value)``; None for zero, NaN and infinity."""
    return math.log2(value) if 0.0 < value < math.inf else None
