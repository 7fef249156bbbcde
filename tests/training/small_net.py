"""A small net with a batch normalisation, its batches, and recipes to train it by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from precscope.training import LossScaling, MixedPrecision, Recipe

PAPER = Recipe.named("paper")


def static(log2_scale: int, base: Recipe = PAPER, **changes: Any) -> Recipe:
    scaling = LossScaling(kind="static", log2_initial=log2_scale)
    return replace(base, name="mine", loss_scaling=scaling, **changes)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 6, generator=generator), torch.randn(16, 3, generator=generator)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.norm(self.first(x))))
        return out


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def loss_of(trainer: MixedPrecision, model: nn.Module, seed: int = 0) -> torch.Tensor:
    x, y = batch(seed)
    with trainer.autocast():
        return F.mse_loss(model(x), y)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)
