"""Scenes for the detector: one to three items at random scale and place over a texture."""

from __future__ import annotations

from functools import cache

import torch
from data_images import images
from torch import Tensor
from torch.nn import functional as F

VISIBLE = 0.1  # of an item's brightness, for the bounding box
TRIES = 3


@cache
def items(part: str, count: int) -> tuple[Tensor, Tensor]:
    """Pictures (N, 28, 28) from 0, transparent, to 1, and classes from 1 on."""
    pixels, labels = images(part, count)
    return pixels / 255, labels + 1


@cache
def textures() -> Tensor:
    """Photographs of grass, gravel and bricks: (3, 512, 512) from 0 to 1."""
    try:
        from skimage import data
    except ImportError:
        raise SystemExit("the textures come with scikit-image: pip install scikit-image") from None
    return torch.stack([torch.tensor(f()) for f in (data.grass, data.gravel, data.brick)]) / 255


def scene(part: str, side: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """One scene, drawn from the global generator.

    Args:
        part: ``train`` or ``test``, whose items.
        side: of the picture, in pixels.
        count: of the items to choose from.

    Returns:
        The picture (1, side, side) from -1 to 1, the boxes (N, 4) of its items as top, left,
        bottom, right in pixels, and their classes (N,).
    """
    pictures, classes = items(part, count)
    canvas, taken = background(side), torch.zeros(side, side, dtype=torch.bool)
    boxes, labels = [], []
    for _ in range(1 + int(torch.randint(TRIES, ()))):
        number = int(torch.randint(len(pictures), ()))
        box = paste(canvas, taken, pictures[number])
        if box is not None:
            boxes.append(box)
            labels.append(classes[number])
    return canvas[None] * 2 - 1, torch.stack(boxes), torch.stack(labels)


def background(side: int) -> Tensor:
    """A piece of a texture at half brightness, (side, side)."""
    photographs = textures()
    top, left = torch.randint(photographs.shape[-1] - side + 1, (2,)).tolist()
    photograph = photographs[int(torch.randint(len(photographs), ()))]
    return photograph[top : top + side, left : left + side] * 0.5


def paste(canvas: Tensor, taken: Tensor, picture: Tensor) -> Tensor | None:
    """Blend the picture in at random scale and place; its box, None where another item is."""
    side = len(canvas)
    size = int(side * (0.3 + 0.3 * torch.rand(()).item()))
    top, left = torch.randint(side - size + 1, (2,)).tolist()
    item = F.interpolate(picture[None, None], (size, size), mode="bilinear")[0, 0]
    place = slice(top, top + size), slice(left, left + size)
    seen = item > VISIBLE
    if (taken[place] & seen).any():
        return None
    taken[place] |= seen
    opacity = (item * 3).clamp(max=1)
    canvas[place] = canvas[place] * (1 - opacity) + item * opacity
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    ends = torch.cat([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    return (ends + torch.tensor([top, left, top, left])).float()
