"""A small generator and discriminator with an optimizer each, and their training step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from precscope.training import MixedPrecision, Recipe

NAMES = ("discriminator", "generator")


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 6)
        )
        self.discriminator = nn.Sequential(
            nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1)
        )


def gan(seed: int = 0) -> Gan:
    torch.manual_seed(seed)
    return Gan()


def optimizers(model: Gan) -> dict[str, torch.optim.Optimizer]:
    return {
        "discriminator": torch.optim.Adam(model.discriminator.parameters(), lr=1e-2),
        "generator": torch.optim.SGD(model.generator.parameters(), lr=1e-2, momentum=0.9),
    }


def real(step: int) -> torch.Tensor:
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(step)) + 1


def verdict(logits: torch.Tensor, wanted: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def judge_loss(model: Gan, batch: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    drawn = model.generator(noise).detach()
    return verdict(model.discriminator(batch), 1.0) + verdict(model.discriminator(drawn), 0.0)


def draw_loss(model: Gan, noise: torch.Tensor) -> torch.Tensor:
    return verdict(model.discriminator(model.generator(noise)), 1.0)


def step(model: Gan, batch: torch.Tensor, trainer: Any) -> dict[str, torch.Tensor]:
    noise = torch.randn(16, 4)
    with trainer.autocast():
        judged = judge_loss(model, batch, noise)
    trainer.step(judged, optimizer="discriminator")
    with trainer.autocast():
        drawn = draw_loss(model, noise)
    trainer.step(drawn, optimizer="generator")
    return {"discriminator": judged.detach(), "generator": drawn.detach()}


def plain_step(
    model: Gan, batch: torch.Tensor, held: dict[str, torch.optim.Optimizer]
) -> list[float]:
    """What everybody's GAN script does, without a trainer."""
    noise = torch.randn(16, 4)
    held["discriminator"].zero_grad()
    judged = judge_loss(model, batch, noise)
    judged.backward()
    held["discriminator"].step()
    held["generator"].zero_grad()
    drawn = draw_loss(model, noise)
    drawn.backward()
    held["generator"].step()
    return [judged.item(), drawn.item()]


class Run:
    """A model, its optimizers and their trainer."""

    def __init__(self, recipe: Recipe | str, seed: int = 0) -> None:
        self.model = gan(seed)
        self.held = optimizers(self.model)
        self.trainer = MixedPrecision(self.model, self.held, recipe, seed=seed)
        self.losses: list[list[float]] = []

    def train(self, first: int, last: int) -> None:
        for number in range(first, last):
            losses = step(self.model, real(number), self.trainer)
            self.losses.append([loss.item() for loss in losses.values()])
