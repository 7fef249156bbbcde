"""Boxes for the detector: how they overlap, are coded, thinned out and scored.

A box is ``top, left, bottom, right`` in pixels; a default box ``centre y, centre x, height, width``.
"""

from __future__ import annotations

import torch
from torch import Tensor

VARIANCE = torch.tensor([0.1, 0.1, 0.2, 0.2])  # Liu et al. divide the coded boxes by these
MATCHED = 0.5  # overlap that makes a default box, or a detection, an object's
SAME = 0.45  # overlap of two detections of one object

Scene = tuple[Tensor, Tensor, Tensor]
"""A picture, the boxes of its objects and their classes."""

Detections = tuple[Tensor, Tensor, Tensor]
"""Scores, highest first, with classes and boxes."""


def corners(defaults: Tensor) -> Tensor:
    """Centre and size to top, left, bottom, right."""
    centres, halves = defaults[..., :2], defaults[..., 2:] / 2
    return torch.cat([centres - halves, centres + halves], -1)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of ``a`` (A, 4) with every one of ``b`` (B, 4)."""
    inner = torch.min(a[:, None, 2:], b[:, 2:]) - torch.max(a[:, None, :2], b[:, :2])
    shared = inner.clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def encode(defaults: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Coded box (A, 4) and class (A,) that each default box is to predict; class 0 is none."""
    shared = overlaps(corners(defaults), boxes)
    best, owner = shared.max(1)
    favourites = shared.argmax(0)  # an object that no default box fits still gets its best one
    best[favourites], owner[favourites] = 1.0, torch.arange(len(boxes))
    top_left, bottom_right = boxes[owner].split(2, 1)
    shifts = ((top_left + bottom_right) / 2 - defaults[:, :2]) / defaults[:, 2:]
    coded = torch.cat([shifts, ((bottom_right - top_left) / defaults[:, 2:]).log()], 1)
    return coded / VARIANCE, torch.where(best >= MATCHED, labels[owner], 0)


def decode(defaults: Tensor, coded: Tensor) -> Tensor:
    """The boxes (..., A, 4) of predictions: ``encode`` undone."""
    offsets = coded * VARIANCE
    centres = defaults[:, :2] + offsets[..., :2] * defaults[:, 2:]
    return corners(torch.cat([centres, defaults[:, 2:] * offsets[..., 2:].exp()], -1))


def detections(scores: Tensor, boxes: Tensor, limit: int = 20) -> Detections:
    """The best detections, without the weaker of two of one class that overlap.

    Args:
        scores: probabilities (A, classes), class 0 the background.
        boxes: predicted boxes (A, 4).
        limit: how many to keep.
    """
    classes = scores.shape[1] - 1
    best, order = scores[:, 1:].flatten().topk(4 * limit)
    kinds, boxes = order % classes + 1, boxes[order // classes]
    rivals = (overlaps(boxes, boxes) > SAME) & (kinds[:, None] == kinds)
    kept: list[int] = []
    for candidate in range(len(best)):
        if len(kept) < limit and not rivals[candidate, kept].any():
            kept.append(candidate)
    return best[kept], kinds[kept], boxes[kept]


def mean_average_precision(found: list[Detections], scenes: list[Scene], classes: int) -> float:
    """Mean over classes 1 to ``classes`` of the area under precision against recall."""
    areas = [average_precision(kind, found, scenes) for kind in range(1, classes + 1)]
    return sum(areas) / len(areas)


def average_precision(kind: int, found: list[Detections], scenes: list[Scene]) -> float:
    """Area under the curve of VOC, precision made monotone; 0 if no scene has the class."""
    marks: list[tuple[float, bool]] = []
    objects = 0
    for (scores, kinds, boxes), (_, real_boxes, real_kinds) in zip(found, scenes, strict=True):
        wanted = real_boxes[real_kinds == kind]
        objects += len(wanted)
        of_kind = kinds == kind
        marks += zip(scores[of_kind].tolist(), hits(boxes[of_kind], wanted), strict=True)
    if not marks or not objects:
        return 0.0
    right = torch.tensor([hit for _, hit in sorted(marks, key=lambda mark: -mark[0])]).double()
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    highest_from_here = precision.flip(0).cummax(0).values.flip(0)
    return float((highest_from_here * right).sum() / objects)


def hits(boxes: Tensor, wanted: Tensor) -> list[bool]:
    """Whether each box, best first, is on an object that none before it was on."""
    free = torch.ones(len(wanted), dtype=torch.bool)
    results = []
    for shared in overlaps(boxes, wanted):
        best = int(shared.argmax()) if len(wanted) else 0
        hit = len(wanted) > 0 and bool(shared[best] >= MATCHED and free[best])
        if hit:
            free[best] = False
        results.append(hit)
    return results
