"""Residual error: what FP16 still costs the gradients during the advised run, at its own scale.

At a few points of the run the gradient of the very batch and the very weights is computed three
times over: in FP32, in FP16 at the scale in force, and in FP16 at larger scales, which are the floor.
FP16 tensors of the run itself cannot tell: what they flushed is a zero like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from precscope.advice.arbiter import ErrorPoint, arbitrate

BREAKING_ERROR = 1e-1
"""Gradient error above which loss scaling is required in experiments; below it no run was harmed."""


@dataclass(frozen=True, slots=True)
class ResidualPoint:
    """Gradient error at one point of the advised run.

    Attributes:
        step: the step after which it was measured.
        log2_scale: loss scale in force, log2; 0 without scaling.
        error: relative L2 error of the parameter that exceeds its floor the most; None if its
            gradient overflowed.
        parameter: that parameter.
        floor: largest error of any parameter at the larger scales; None if none was usable.
        tolerated: error tolerated for that parameter, twice its floor or 1 %; None if the gradient
            overflowed.
        excess: error over that; None likewise.
        breaks: whether the error exceeds both that and 10 %, or the gradient overflowed.
    """

    step: int
    log2_scale: int
    error: float | None
    parameter: str | None
    floor: float | None
    tolerated: float | None
    excess: float | None
    breaks: bool


@dataclass(frozen=True, slots=True)
class Residual:
    """What was measured during the advised run.

    Attributes:
        points: in order of time.
        reason: why there are none; None if there are.
    """

    points: tuple[ResidualPoint, ...]
    reason: str | None

    @property
    def worst(self) -> ResidualPoint | None:
        """The point with the largest excess; an overflow is larger than any."""
        return max(self.points, key=_harm, default=None)


def _harm(point: ResidualPoint) -> float:
    return float("inf") if point.excess is None else point.excess


NOT_TRAINED = Residual((), "no advised recipe was trained")


def residual_of(document: Mapping[str, Any] | None) -> Residual:
    """Judge the stored measurement.

    Args:
        document: ``{"points": [{"step", "log2_scale", "batches", "floor_log2s", "errors"}],
            "reason"}``, each point with the keys of the gradient probe; None if there is none.
    """
    if document is None:
        return NOT_TRAINED
    points = [_point(point) for point in document.get("points", [])]
    found = tuple(point for point in points if point is not None)
    return Residual(found, None if found else document.get("reason") or "nothing was measured")


def _point(document: Mapping[str, Any]) -> ResidualPoint | None:
    judged = arbitrate(document)
    k = int(document["log2_scale"])
    at_scale = next((p for p in judged.points if p.log2_scale == k), None) if judged else None
    if judged is None or at_scale is None:
        return None
    overflowing = overflowing_parameter(document, k)
    overflows = overflowing is not None
    return ResidualPoint(
        step=int(document["step"]),
        log2_scale=k,
        error=None if overflows else at_scale.error,
        parameter=overflowing or at_scale.parameter,
        floor=judged.floor,
        tolerated=None if overflows else _tolerated(at_scale),
        excess=None if overflows else at_scale.excess,
        breaks=overflows or _breaks(at_scale),
    )


def overflowing_parameter(probe: Mapping[str, Any], log2_scale: int) -> str | None:
    """A parameter whose gradient was infinite at a scale of a probe; None if none was."""
    row = probe.get("errors", {}).get(str(log2_scale), {})
    return next((parameter for parameter, error in row.items() if error is None), None)


def _tolerated(point: ErrorPoint) -> float | None:
    return point.error / point.excess if point.error and point.excess else None


def _breaks(point: ErrorPoint) -> bool:
    return point.excess > 1.0 and point.error is not None and point.error > BREAKING_ERROR
