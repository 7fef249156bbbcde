"""Dose and response: a static loss scale against the gradient error and the final loss it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from precscope.advice.arbiter import Arbitration, arbitrate
from precscope.advice.breaches import SAME_LOSS, relative_loss_gap
from precscope.advice.noise import without_errors_of
from precscope.advice.residual import overflowing_parameter


@dataclass(frozen=True, slots=True)
class Dose:
    """What came of training with one static loss scale.

    Attributes:
        log2_scale: the scale.
        gradient_error: relative L2 error of the parameter that exceeds its floor the most; None
            if it overflowed or was not measured.
        worst_parameter: that parameter.
        gradient_error_all: the same over all parameters as one vector; None likewise. Both without
            biases whose gradient is rounding error, see ``advice.noise``, unless they overflow.
        overflows: whether a gradient of the probed batches was infinite at this scale.
        final_loss: mean loss of the last tenth; None if it is not finite.
        relative_difference: of the final loss to FP32's; None without either.
        skipped_steps: steps skipped because a gradient was not finite.
        diverged_at: first step of a tail of losses that are not finite; None if there was none.
        metrics: of ``evaluate``.
        works: whether the run ended at most 2 % above FP32; None if FP32 was not trained.
    """

    log2_scale: int
    gradient_error: float | None
    worst_parameter: str | None
    gradient_error_all: float | None
    overflows: bool
    final_loss: float | None
    relative_difference: float | None
    skipped_steps: int
    diverged_at: int | None
    metrics: dict[str, float | None]
    works: bool | None


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """A sweep over static loss scales.

    Attributes:
        doses: the scales trained with so far, ascending.
        planned_log2: all scales of the sweep; more than ``doses`` if it was interrupted.
        recipe: what was trained with at each scale, in words.
        steps: training steps at each scale.
        seed: the one seed of all runs.
        device: where they ran.
        simulated: FP16 arithmetic was simulated on a CPU.
        fp32_final_loss: final loss of FP32, same seed; None if it was not trained.
        fp32_metrics: metrics of FP32.
        batches: batches whose gradients were probed, at two stages of the FP32 run.
        gradient_error_floor: error at the largest scales that do not overflow.
        working_log2: smallest and largest scale of the longest unbroken row of scales that work.
        reason: the outcome in one sentence.
    """

    doses: tuple[Dose, ...]
    planned_log2: tuple[int, ...]
    recipe: str
    steps: int
    seed: int
    device: str
    simulated: bool
    fp32_final_loss: float | None
    fp32_metrics: dict[str, float | None]
    batches: int
    gradient_error_floor: float | None
    working_log2: tuple[int, int] | None
    reason: str


def dose_response(document: Mapping[str, Any] | None) -> DoseResponse | None:
    """Read the stored sweep; None without one.

    Args:
        document: ``{"log2_scales", "steps", "seed", "device", "recipe", "simulated", "fp32": run,
            "probe": as the gradient probe's, "noise": parameters whose gradient is rounding error,
            "all": {k: error of the others}, "runs": {k: run}}``.
    """
    if document is None:
        return None
    probe, fp32 = document.get("probe"), document.get("fp32")
    arbitration = arbitrate(without_errors_of(document.get("noise", ()), probe))
    runs = document.get("runs") or {}
    doses = tuple(_dose(int(k), runs[k], document, arbitration) for k in sorted(runs, key=int))
    working = working_range(doses)
    return DoseResponse(
        doses=doses,
        planned_log2=tuple(document.get("log2_scales", ())),
        recipe=str(document.get("recipe", "")),
        steps=int(document.get("steps", 0)),
        seed=int(document.get("seed", 0)),
        device=str(document.get("device", "cpu")),
        simulated=bool(document.get("simulated", False)),
        fp32_final_loss=fp32.get("final_loss") if fp32 else None,
        fp32_metrics=dict(fp32.get("metrics") or {}) if fp32 else {},
        batches=int(probe.get("batches", 0)) if probe else 0,
        gradient_error_floor=arbitration.floor if arbitration else None,
        working_log2=working,
        reason=_reason(doses, working),
    )


def _dose(
    k: int,
    run: Mapping[str, Any],
    document: Mapping[str, Any],
    arbitration: Arbitration | None,
) -> Dose:
    fp32 = document.get("fp32")
    overflowing = overflowing_parameter(document.get("probe") or {}, k)
    points = arbitration.points if arbitration else ()
    point = next((p for p in points if p.log2_scale == k), None)
    gap = relative_loss_gap(run, fp32) if fp32 else None
    finished = run.get("diverged_at") is None
    return Dose(
        log2_scale=k,
        gradient_error=point.error if point and not overflowing else None,
        worst_parameter=overflowing or (point.parameter if point else None),
        gradient_error_all=(document.get("all") or {}).get(str(k)),
        overflows=overflowing is not None,
        final_loss=run.get("final_loss"),
        relative_difference=gap,
        skipped_steps=int(run.get("skipped_steps") or 0),
        diverged_at=run.get("diverged_at"),
        metrics=dict(run.get("metrics") or {}),
        works=None if fp32 is None else finished and gap is not None and gap <= SAME_LOSS,
    )


def working_range(doses: tuple[Dose, ...]) -> tuple[int, int] | None:
    """Ends of the longest unbroken row of scales that work; the first of equally long ones."""
    best: list[int] = []
    row: list[int] = []
    for dose in doses:
        row = [*row, dose.log2_scale] if dose.works else []
        best = row if len(row) > len(best) else best
    return (best[0], best[-1]) if best else None


def _reason(doses: tuple[Dose, ...], working: tuple[int, int] | None) -> str:
    if not doses:
        return "no scale was trained with yet"
    tried = f"of the scales from 2^{doses[0].log2_scale} to 2^{doses[-1].log2_scale}"
    if all(dose.works is None for dose in doses):
        return f"{tried} none can be judged: FP32 was not trained"
    allowed = f"within {SAME_LOSS:.0%} of FP32's final loss, on one seed"
    if working is None:
        return f"{tried} none trains {allowed}"
    return f"{tried} those from 2^{working[0]} to 2^{working[1]} train {allowed}"
