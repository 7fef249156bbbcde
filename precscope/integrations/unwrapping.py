"""From what a trainer hands to its callbacks to the model and optimizers underneath."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer


def bare_model(model: nn.Module) -> nn.Module:
    """The user's module inside compiled and data-parallel wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def bare_optimizer(optimizer: Any) -> Optimizer:
    """The torch optimizer whose ``step`` runs the hooks, inside any number of wrappers."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    found: Optimizer = optimizer
    return found
