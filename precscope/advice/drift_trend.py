"""The straight line through the needs of the second half of a training."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from precscope.advice.drift_needs import Need

MIN_WINDOWS = 4
"""Fewer windows than this show no trend."""

MOVEMENT_BITS = 1.0
"""Scales are set in whole powers of two: less movement than this changes nothing."""


def trend(needs: Sequence[Need]) -> float | None:
    """Bits per step that the need moves in the second half of the windows.

    The slope of the least squares line; 0.0 where it moves the need by less than a bit or is
    within twice its standard error; None with fewer than four windows.
    """
    half = needs[-max(MIN_WINDOWS, len(needs) // 2) :]
    if len(half) < MIN_WINDOWS:
        return None
    steps = [(need.first_step + need.last_step) / 2 for need in half]
    slope, error = _line(steps, [float(need.needed_log2) for need in half])
    moves = abs(slope) * (steps[-1] - steps[0]) >= MOVEMENT_BITS
    return slope if moves and abs(slope) > 2 * error else 0.0


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of the least squares line and its standard error."""
    mean_x, mean_y = fmean(x), fmean(y)
    squares = sum((a - mean_x) ** 2 for a in x)
    if squares == 0.0:
        return 0.0, 0.0
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / squares
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, (rest / (len(x) - 2) / squares) ** 0.5
