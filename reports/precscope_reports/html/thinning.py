"""Fewer points for the picture, with every extreme kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_LINE_BUCKETS = 1000
MAX_WINDOWS = 32

Point = tuple[int, "float | None"]


def thin_line(values: Sequence[float | None], buckets: int = MAX_LINE_BUCKETS) -> list[Point]:
    """``(index, value)`` pairs of a line, at most about two per bucket.

    Of each bucket of neighbours the lowest and the highest value stay, at their own places, and
    the first gap (None), so that peaks and breaks of a long line survive. Short lines are kept
    whole.
    """
    points: list[Point] = list(enumerate(values))
    if len(points) <= 2 * buckets:
        return points
    width = -(-len(points) // buckets)
    kept = (_extremes(points[start : start + width]) for start in range(0, len(points), width))
    return [point for bucket in kept for point in bucket]


def _extremes(bucket: list[Point]) -> list[Point]:
    numbers = [(value, index) for index, value in bucket if value is not None]
    chosen = {index for _, index in (min(numbers), max(numbers))} if numbers else set()
    gap = next((index for index, value in bucket if value is None), None)
    return [point for point in bucket if point[0] in chosen or point[0] == gap]


def thin_windows(
    windows: Sequence[dict[str, Any]], limit: int = MAX_WINDOWS
) -> dict[str, list[Any]]:
    """Columns of a site's windows; neighbours merge above ``limit``, keeping the worst value."""
    width = max(1, -(-len(windows) // limit))
    groups = [windows[start : start + width] for start in range(0, len(windows), width)]
    return {
        "first_step": [group[0]["first_step"] for group in groups],
        "last_step": [group[-1]["last_step"] for group in groups],
        "amax": [_worst(group, "amax") for group in groups],
        "flushed": [_worst(group, "flushed_fp16") for group in groups],
        "l1_flushed": [_worst(group, "l1_flushed_fp16") for group in groups],
    }


def _worst(group: Sequence[dict[str, Any]], key: str) -> float | None:
    found = [window[key] for window in group if window[key] is not None]
    return float(f"{max(found):.4g}") if found else None
