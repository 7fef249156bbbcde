"""FP16 storage in plain torch: float32 arithmetic, every stored value rounded to FP16.

Nothing here comes from precscope, so that its numbers can be held against these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

Forward = Callable[..., torch.Tensor]


class StoreInHalf(torch.autograd.Function):
    """Round to FP16, and the gradient on its way back too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """``fp16(x)``, as float32."""
        return x.half().float()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """``fp16(gradient)``, as float32."""
        return gradient.half().float()


@contextmanager
def half_storage(model: nn.Module) -> Iterator[Forward]:
    """A forward pass of ``model`` with weights and outputs of its leaf modules stored in FP16."""
    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(_round_output) for leaf in leaves]

    def forward(*inputs: torch.Tensor) -> torch.Tensor:
        weights = {name: StoreInHalf.apply(p) for name, p in model.named_parameters()}
        return functional_call(model, weights, inputs)

    try:
        yield forward
    finally:
        for hook in hooks:
            hook.remove()


def _round_output(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return StoreInHalf.apply(output)
