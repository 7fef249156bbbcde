"""When a step begins and ends, and what is done then: the clock of a monitor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from precscope.kernels.launching import is_capturing
from precscope.monitor import compiled
from precscope.monitor.ledger import Ledger
from precscope.monitor.loss_scale import LossScale, Scale, calling_scaler
from precscope.monitor.modules import CAPTURED
from precscope.monitor.parts import Parts
from precscope.monitor.rounds import StepRounds
from precscope.monitor.schedule import StepFilter
from precscope.monitor.turnover import PendingStep
from precscope.monitor.updates import UpdateSampler, make_samplers

COMPILED_BEFORE = (
    "precscope sees no activation: the model was compiled before watching began. Call "
    "precscope.watch before the first call of the compiled model"
)
COMPILED_TOO_OLD = (
    "precscope sees no activation: the model runs compiled, which torch before "
    f"{'.'.join(map(str, compiled.FIRST_TORCH))} does not let be observed. Weights, weight "
    "gradients and updates are; for the rest watch the model without torch.compile"
)
NO_SCALER = "scaled by a GradScaler that was not known yet: pass scaler= to watch"


class Steps:
    """Counts the steps of a training.

    A step ends when the optimizer has stepped, or when a GradScaler has skipped its update; with
    several optimizers when each has stepped; without one when the next pass begins.

    Args:
        parts: the observers.
        optimizers: those whose steps are counted; may be empty.
        schedule: which steps are observed.
        scaler: the GradScaler, None if there is none or none is known yet.
        ledger: takes the steps that were observed.
        flush: called when the ledger is due.
    """

    def __init__(
        self,
        parts: Parts,
        optimizers: list[Optimizer],
        schedule: StepFilter,
        scaler: Any,
        ledger: Ledger,
        flush: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._state = parts.state
        self._optimizers = optimizers
        self._schedule = schedule
        self._ledger = ledger
        self._flush = flush
        self._rounds = StepRounds([id(o) for o in optimizers])
        self._samplers: list[UpdateSampler] | None = None
        self._sampled_groups: list[tuple[int, int]] = []
        self._ended = True
        self.scale = LossScale(scaler)
        self.loss: torch.Tensor | None = None
        self.observed = 0
        self.stopped = False
        self._state.active = schedule(0)

    @property
    def samplers(self) -> list[UpdateSampler]:
        """Those of the parameters that the optimizers move; empty before the first step."""
        return self._samplers or []

    def pass_begins(self, inputs: Any) -> None:
        """A training pass begins with these arguments; never raises."""
        if is_capturing():
            self._look_away()
            return
        try:
            self._begin_pass(inputs)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._parts.guard.failed("start of a forward pass")

    def _look_away(self) -> None:
        """Nothing runs while a graph is captured, and what is read back would spoil it."""
        self._state.active = False
        self._parts.modules.skipped[("a training pass", CAPTURED)] += 1

    def _begin_pass(self, inputs: Any) -> None:
        if not self._optimizers:
            if self._parts.book.entries:
                self.update_begins()
                self._end_step(skipped=False)
        elif not self._ended and self.scale.finished_step_of(self._optimizers):
            # The scaler has finished a step that some optimizer was not allowed to take.
            self._end_step(skipped=not self._rounds.begun, scale=self.scale.before_update())
        self._ended = False
        self.scale.look(keep=self._state.active)
        if self._state.active:
            self._parts.parameters.pass_begins()
            self._parts.inputs.observe(inputs)

    def update_begins(self, *_: object) -> None:
        """An optimizer is about to step; never raises."""
        if not self._state.active or is_capturing():
            return
        try:
            self._look_before_update()
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._parts.guard.failed("weights and updates")
            self._samplers = []

    def _look_before_update(self) -> None:
        if not self.scale.in_use:
            self._find_scaler()
        groups = self._groups()
        if self._parts.parameters.update_begins() or groups != self._sampled_groups:
            self._renew_samplers()
        self._sampled_groups = groups
        if self._rounds.begun:
            return
        if self._samplers is None:
            self._samplers = self._make_samplers()
        with torch.no_grad():
            self._parts.parameters.observe_weights()
            for sampler in self._samplers:
                sampler.before_step()

    def _groups(self) -> list[tuple[int, int]]:
        """Which groups there are: ``load_state_dict`` makes new ones, and some get parameters."""
        groups = (group for optimizer in self._optimizers for group in optimizer.param_groups)
        return [(id(group), len(group["params"])) for group in groups]

    def _make_samplers(self) -> list[UpdateSampler]:
        if not self._state.updates:
            return []
        return make_samplers(self._parts.model, self._optimizers, self._parts.wanted)

    def _renew_samplers(self) -> None:
        """End the windows of the parameters as they were, and sample those that there are now."""
        if self._samplers:
            self._flush()
            self._samplers = None

    def _find_scaler(self) -> None:
        scaler = calling_scaler()
        if scaler is None or not scaler.is_enabled():
            return
        if self._ledger.has_pending:
            self._flush()
        self.scale = LossScale(scaler)
        self.scale.look(keep=True)
        if scaler.get_scale() != getattr(scaler, "_init_scale", None):
            # Steps that were skipped before this one carried other scales.
            self._parts.rows.forget_gradients()
            self._parts.modules.skipped[("gradients before the first update", NO_SCALER)] += 1

    def update_ended(self, optimizer: Optimizer, *_: object) -> None:
        """An optimizer has stepped."""
        if is_capturing():
            return
        # A fused optimizer runs its hooks on a skipped step too, and is told of it by a tensor.
        found_inf = getattr(optimizer, "found_inf", None)
        if self._rounds.stepped(id(optimizer)):
            self._end_step(found_inf if isinstance(found_inf, torch.Tensor) else False)

    def _end_step(self, skipped: bool | torch.Tensor, scale: Scale | None = None) -> None:
        self._ended = True
        self._rounds.end()
        try:
            if self._state.active:
                with torch.no_grad():
                    self._end_observed_step(skipped, self.scale.now() if scale is None else scale)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._parts.guard.failed("end of step")
        self.loss = None
        self._parts.modules.end_step()
        self._state.step += 1
        self._state.active = not self.stopped and self._schedule(self._state.step)

    def _end_observed_step(self, skipped: bool | torch.Tensor, scale: Scale | None) -> None:
        for sampler in self.samplers:
            sampler.abandon_step() if skipped is True else sampler.after_step(self._state.step)
        self._ledger.end_step(PendingStep(self._state.step, self.loss, scale, skipped))
        self.observed += 1
        self._warn_if_compiled_before()
        if self._ledger.is_due:
            self._flush()

    def _warn_if_compiled_before(self) -> None:
        """Dynamo ignores hooks that come after the first compiled call, and says nothing."""
        blind = self._state.activations and not self._parts.modules.seen_modules
        if self.observed == 1 and blind and compiled.compiled_code_exists():
            told = COMPILED_BEFORE if compiled.WORKS else COMPILED_TOO_OLD
            warnings.warn(told, stacklevel=5)

    def stop(self) -> None:
        """Count no further step.

        A step that nothing ended, a crash or the last one without an optimizer, counts too.
        """
        self.stopped = True
        if self._state.active and self._parts.rows.touched:
            stepped = self.scale.finished_step_of(self._optimizers)
            skipped = stepped and not self._rounds.begun
            for sampler in self.samplers:
                sampler.abandon_step()
            self._end_step(skipped, self.scale.before_update() if skipped else None)
        self._state.active = False
