"""A histogram of binary exponents as one line of blocks, with FP16's limits drawn in.

Two octaves share a cell. The limits of FP16 lie between cells: below 2^-24 values are flushed
(all but those that round up to 2^-24), from there to 2^-14 they are subnormal, at 2^16 they
have overflowed. What lies outside of the line gathers in its outermost cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.text import Text

OCTAVES = 2
LOWEST, HIGHEST = -38, 20
FLUSHED_BELOW, NORMAL_FROM, OVERFLOW_FROM = -24, -14, 16
LIMITS = (FLUSHED_BELOW, NORMAL_FROM, OVERFLOW_FROM)

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = ".:-=+*%#"
DECADES = 4
"""The lowest block stands for 10^-4 of the fullest cell, and for everything below that."""


def exponent_bar(histogram: Mapping[str, Any], ascii_only: bool) -> Text:
    """The line of blocks; empty cells hold no value at all, however small the others are."""
    cells = _cells(histogram["first_exponent"], histogram["counts"])
    peak = max(cells)
    bar = Text()
    for number, cell in enumerate(cells):
        exponent = LOWEST + OCTAVES * number
        if exponent in LIMITS:
            bar.append("|" if ascii_only else "│", style="dim")
        bar.append(_block(cell, peak, ascii_only), style=_style(exponent))
    return bar


def bar_header(ascii_only: bool) -> Text:
    """Names of the four regions, above the bars."""
    bounds = (LOWEST, *LIMITS, HIGHEST)
    widths = [(high - low) // OCTAVES for low, high in pairwise(bounds)]
    names = ("flushed", "sub", "FP16 normal", "∞" if not ascii_only else "of")
    parts = [name[:width].center(width) for name, width in zip(names, widths, strict=True)]
    return Text(("|" if ascii_only else "│").join(parts))


def _cells(first_exponent: int | None, counts: Sequence[int]) -> list[int]:
    cells = [0] * ((HIGHEST - LOWEST) // OCTAVES)
    for exponent, count in enumerate(counts, first_exponent or 0):
        inside = min(max(exponent, LOWEST), HIGHEST - 1)
        cells[(inside - LOWEST) // OCTAVES] += count
    return cells


def _block(count: int, peak: int, ascii_only: bool) -> str:
    if not count:
        return " "
    height = 1 + math.log10(count / peak) / DECADES
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    return blocks[max(0, round(height * (len(blocks) - 1)))]


def _style(exponent: int) -> str:
    regions: Iterator[tuple[int, str]] = iter(
        ((FLUSHED_BELOW, "red"), (NORMAL_FROM, "yellow"), (OVERFLOW_FROM, "green"))
    )
    return next((style for limit, style in regions if exponent < limit), "red")
