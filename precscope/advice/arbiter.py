"""Reading the shadow backward: the smallest scale at which FP16 gradients are as good as they get.

    k_L = smallest tried k with error_p(k') <= max(2 * floor_p, 1e-2) for all p and tried k' >= k

where floor_p is the error at the largest safe scale, the largest such error where several are told:
what FP16 costs whatever the scale. Levels seen in experiments: below 1e-2 no
harm, 1e-2 to 1e-1 watch, above 1e-1 scaling is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FLOOR_FACTOR = 2.0
HARMLESS_ERROR = 1e-2

LOST_ERROR = 0.5
"""Floor from which on a gradient is noise, or gone: whether its values are flushed tells which."""


@dataclass(frozen=True, slots=True)
class ErrorPoint:
    """Gradient error at one scale, of the parameter that exceeds its threshold the most.

    Attributes:
        log2_scale: the scale.
        error: relative L2 error of that parameter's gradient; None if it overflowed.
        parameter: the parameter.
        excess: error over the parameter's threshold; above 1 the scale is not enough.
    """

    log2_scale: int
    error: float | None
    parameter: str | None
    excess: float


@dataclass(frozen=True, slots=True)
class Arbitration:
    """What the shadow backward says.

    Attributes:
        minimum_log2: smallest sufficient scale among those tried, None if none was.
        minimum_parameter: parameter that the next smaller scale damages.
        floor: largest floor of any parameter that is not noise at every scale.
        points: errors at each tried scale, ascending.
        batches: probe batches.
        overflow_log2: smallest tried scale at which the backward itself overflowed although a
            smaller one did not: a gradient between the observed places may be the largest.
        lost: parameters of which nothing is left even at the largest safe scale.
    """

    minimum_log2: int | None
    minimum_parameter: str | None
    floor: float | None
    points: tuple[ErrorPoint, ...]
    batches: int
    overflow_log2: int | None
    lost: tuple[str, ...]


def arbitrate(document: Mapping[str, Any] | None) -> Arbitration | None:
    """Judge the stored probe ``{"batches", "stages": [{"floor_log2s", "errors"}]}``.

    ``errors`` is ``{k: {parameter: error}}``. An error is held against the floor of its own stage:
    batches differ by more than scales do. Of several stages the worst excess counts. A document
    without ``stages`` is one stage itself. A scale at which no parameter had a gradient to compare
    is no evidence, neither for it nor against it.
    """
    stages = [_stage(part) for part in (document or {}).get("stages", [document]) if part]
    stages = [stage for stage in stages if stage.errors]
    if document is None or not stages:
        return None
    points = _worst_of([point for stage in stages for point in stage.points()])
    top = max(stages[-1].safe)
    minimum, parameter = _smallest_sufficient([p for p in points if p.log2_scale <= top])
    floors = [floor for stage in stages for floor in stage.floors.items()]
    broken = [overflow_log2(stage.errors) for stage in stages]
    return Arbitration(
        minimum,
        parameter,
        max((floor for _, floor in floors if floor < LOST_ERROR), default=None),
        points,
        int(document.get("batches", 0)),
        min((k for k in broken if k is not None), default=None),
        tuple(dict.fromkeys(name for name, floor in floors if floor >= LOST_ERROR)),
    )


@dataclass(frozen=True, slots=True)
class _Stage:
    """One look at the gradients: errors by scale and parameter, and the floors among them."""

    errors: dict[int, dict[str, float | None]]
    safe: list[int]
    floors: dict[str, float]

    def points(self) -> list[ErrorPoint]:
        return [_point(k, row, self.floors) for k, row in self.errors.items() if row]


def _stage(part: Mapping[str, Any]) -> _Stage:
    errors = {int(k): dict(row) for k, row in (part.get("errors") or {}).items()}
    safe = [int(k) for k in part.get("floor_log2s", ())]
    return _Stage(errors, safe, _floors([errors[k] for k in safe if k in errors]))


def _worst_of(points: list[ErrorPoint]) -> tuple[ErrorPoint, ...]:
    worst: dict[int, ErrorPoint] = {}
    for point in points:
        known = worst.get(point.log2_scale)
        if known is None or point.excess > known.excess:
            worst[point.log2_scale] = point
    return tuple(worst[k] for k in sorted(worst))


def overflow_log2(errors: Mapping[int, Mapping[str, float | None]]) -> int | None:
    """Smallest scale at which a gradient overflowed and below which some scale was finite.

    None if none overflowed, or all did: then it is the forward pass that does.
    """
    broken = {k: any(e is None for e in row.values()) for k, row in errors.items() if row}
    finite = [k for k, is_broken in broken.items() if not is_broken]
    above = [k for k, is_broken in broken.items() if is_broken and finite and k > min(finite)]
    return min(above, default=None)


def _floors(rows: list[dict[str, float | None]]) -> dict[str, float]:
    floors: dict[str, float] = {}
    for row in rows:
        for parameter, error in row.items():
            if error is not None:
                floors[parameter] = max(error, floors.get(parameter, 0.0))
    return floors


def _point(k: int, row: dict[str, float | None], floors: dict[str, float]) -> ErrorPoint:
    worst = ErrorPoint(k, None, None, 0.0)
    for parameter, error in row.items():
        excess = _excess(error, floors.get(parameter, 0.0))
        if excess > worst.excess:
            worst = ErrorPoint(k, error, parameter, excess)
    return worst


def _excess(error: float | None, floor: float) -> float:
    if error is None:
        return float("inf")
    return error / max(FLOOR_FACTOR * floor, HARMLESS_ERROR)


def _smallest_sufficient(points: list[ErrorPoint]) -> tuple[int | None, str | None]:
    """Walk down from the largest scale that does not overflow while the errors stay harmless."""
    minimum, damaged = None, None
    for point in reversed(points):
        if point.excess == float("inf") and minimum is None:
            continue  # it overflows: see ``Arbitration.overflow_log2``
        if point.excess > 1.0:
            damaged = point.parameter
            break
        minimum = point.log2_scale
    return minimum, damaged
