"""Residual error, measured during the run of the advised recipe and beside it.

A second model takes over the run's weights and buffers at a few points and is given the batch that
the run has just used: FP32 gradients, and FP16 gradients at the scale in force and at larger ones.
The run itself is not touched: with and without the measurement its losses are the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

import torch

from precscope.probes.isolated import random_streams_kept
from precscope.probes.shadow_backward import measure_gradient_errors
from precscope.recipe import Recipe
from precscope.training import MixedPrecision
from precscope.training.fp32_modules import Fp32Modules, select_modules
from precscope.training.run import TrainableSession
from precscope.workload import Session, Workload

FLOOR_BITS = (4, 10, 20)
"""How far above the scale in force the floor is looked for: the largest of them that overflows
nowhere. The error falls with the scale until it is at its floor, and stays there up to overflow."""

SHARES = (0.1, 0.5, 1.0)
"""When to measure, as a share of the run: needs drift, and they drift late."""


def measured_steps(steps: int) -> tuple[int, ...]:
    """Steps after which to measure: after a tenth, after half, at the end."""
    return tuple(sorted({max(0, round(share * steps) - 1) for share in SHARES}))


class RememberingSession:
    """A session that keeps the last batch that it gave."""

    def __init__(self, session: TrainableSession) -> None:
        self._session = session
        self.model = session.model
        self.optimizer = session.optimizer
        self.batch: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def batches(self) -> Iterator[Any]:
        """As the session's."""
        for batch in self._session.batches():
            self.batch = batch
            yield batch

    def loss(self, batch: Any) -> torch.Tensor:
        """As the session's."""
        return self._session.loss(batch)

    def evaluate(self) -> dict[str, float]:
        """As the session's."""
        return self._session.evaluate()


class ResidualProbe:
    """A workload to train in place of the real one, and the callback that measures.

    Args:
        workload: the real one.
        recipe: what is trained with.
        steps: length of the run.
    """

    def __init__(self, workload: Workload, recipe: Recipe, steps: int) -> None:
        self._workload = workload
        self._recipe = recipe
        self._steps = measured_steps(steps)
        self._points: list[dict[str, Any]] = []
        self._reason: str | None = _why_not(recipe)
        self._session: RememberingSession | None = None
        self._shadow: Session | None = None
        self._place = (0, "cpu")

    def session(self, seed: int, device: str) -> RememberingSession:
        """A session of the workload whose batches are remembered."""
        self._place = (seed, device)
        self._session = RememberingSession(self._workload.session(seed, device))
        return self._session

    def on_step(self, step: int, _loss: float, trainer: MixedPrecision) -> None:
        """Measure after the chosen steps; what fails ends the measurement, not the run."""
        if self._reason is not None or step not in self._steps or self._session is None:
            return
        try:
            self._points.append(self._measured(self._session, step, trainer))
        except Exception as error:  # noqa: BLE001 - a guest in a run that has to go on
            self._reason = f"measuring failed with {type(error).__name__}: {error}"

    def document(self) -> dict[str, Any]:
        """``{"points": [...], "reason"}`` as ``precscope.advice.residual`` reads it."""
        return {"points": self._points, "reason": self._reason}

    def _measured(
        self, session: RememberingSession, step: int, trainer: MixedPrecision
    ) -> dict[str, Any]:
        k = round(trainer.log2_scale or 0)
        shadow = self._shadow_of(session.model)
        kind = shadow.device.type
        kept = select_modules(shadow.model, self._recipe.fp32_modules)
        islands = Fp32Modules(kept, kind)
        try:
            found = measure_gradient_errors(
                shadow.model,
                shadow.loss,
                [session.batch],
                (k, *(k + b for b in FLOOR_BITS)),
                kind,
                keep=kept,
            )
        finally:
            islands.remove()
        errors: Any = found.to_dict()["errors"]
        return {
            "step": step,
            "log2_scale": k,
            "batches": 1,
            "floor_log2s": [floor_scale(errors, k)],
            "errors": errors,
        }

    def _shadow_of(self, model: torch.nn.Module) -> Session:
        """The second model, with the weights of the first as they are."""
        if self._shadow is None:
            with random_streams_kept():
                self._shadow = self._workload.session(*self._place)
        mine = self._shadow.model
        with torch.no_grad():
            _copy(mine.parameters(), model.parameters())
            _copy(mine.buffers(), model.buffers())
        return self._shadow


def _copy(targets: Iterable[torch.Tensor], sources: Iterable[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def floor_scale(errors: dict[str, dict[str, float | None]], log2_scale: int) -> int:
    """The largest scale at which nothing overflowed; the scale itself where no larger one is."""
    above = [int(k) for k in errors if int(k) > log2_scale]
    usable = [k for k in above if all(_usable(error) for error in errors[str(k)].values())]
    return max(usable, default=log2_scale)


def _usable(error: float | None) -> bool:
    return error is not None and isfinite(error)


def _why_not(recipe: Recipe) -> str | None:
    if recipe.compute_dtype == "float16":
        return None
    return f"the advised recipe computes in {recipe.compute_dtype}: no gradient is stored in FP16"
