"""What to do where the needed scale leaves the advised one."""

from __future__ import annotations

from precscope.advice.drift import Drift
from precscope.advice.findings import Finding
from precscope.advice.residual import Residual
from precscope.recipe import LossScaling

_DEFAULTS = LossScaling()


def drift_findings(drift: Drift, residual: Residual) -> list[Finding]:
    """A finding where the need has left the advised scale or is about to.

    A warning, unless the advised run was measured beyond that step and was still at its floor; none
    if the need has come back as well.
    """
    if drift.state not in ("left", "leaving"):
        return []
    disproved = _still_at_floor(drift, residual)
    if disproved and drift.state == "left" and _came_back(drift):
        return []
    run = f"; the advised run was still at its floor after step {disproved}" if disproved else ""
    return [
        Finding(
            "scale_drift",
            "advice" if disproved else "warning",
            None,
            f"{drift.reason[:1].upper()}{drift.reason[1:]} (by the histograms of each window){run}",
            "scale dynamically, or observe a longer part of the training and advise again",
            _dynamic_code(max(need.needed_log2 for need in drift.needs) + 3),
            {
                "advised_log2": drift.advised_log2,
                "needed_log2_at_end": drift.needs[-1].needed_log2,
                "slope_bits_per_100_steps": drift.slope_bits_per_100_steps,
                "leaves_at_step": drift.leaves_at_step,
            },
        )
    ]


def _came_back(drift: Drift) -> bool:
    return drift.advised_log2 is not None and drift.needs[-1].needed_log2 <= drift.advised_log2


def _dynamic_code(log2_initial: int) -> str:
    limits = f", log2_min={log2_initial}" if log2_initial < _DEFAULTS.log2_min else ""
    limits += f", log2_max={log2_initial}" if log2_initial > _DEFAULTS.log2_max else ""
    return (
        "from dataclasses import replace\n"
        "from precscope.recipe import LossScaling\n"
        f'scaling = LossScaling(kind="dynamic", log2_initial={log2_initial}{limits})\n'
        'recipe = replace(recipe, loss_scaling=scaling, scaler="precscope")'
    )


def _still_at_floor(drift: Drift, residual: Residual) -> int | None:
    """Last step, not before the one the trend points at, whose error was as small as it gets."""
    points = [p for p in residual.points if p.excess is not None and p.excess <= 1.0]
    last = max((point.step for point in points), default=-1)
    beyond = drift.leaves_at_step is not None and last >= drift.leaves_at_step
    return last if beyond else None
