"""Rerun: the script trained by a recipe, with no edit to it.

Autocast begins with the first forward of a model and surrounds all that the script computes from
then on, but for backward and updates. Its cache of cast weights is emptied at every update and
every forward: it would otherwise serve weights from before the update, for the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.optim import LBFGS, Optimizer

from precscope.recipe import Recipe
from precscope.script.differentiation import Differentiation
from precscope.script.discovery import Discovery, Root, held_by
from precscope.script.footprint import Footprint, StepClock
from precscope.script.half_weights import HalfWeights
from precscope.script.hooks import NewArguments
from precscope.script.job import Events, Job
from precscope.script.scaling import ScriptScaling
from precscope.script.seeds import OwnSeeds
from precscope.script.stop import StopRule
from precscope.training.batch_statistics import BatchStatistics
from precscope.training.fp32_modules import Fp32Modules, with_submodules
from precscope.training.gradients import optimizer_parameters
from precscope.training.products import forward_in
from precscope.training.run import PATIENCE_STEPS
from precscope.training.training_run import json_number


class Rerun:
    """Listens to a script and trains it by a recipe; see ``hooks.Listener``.

    Args:
        job: with the recipe.
        events: told of the loss of every step.
        discovery: knows the models and their optimizers.

    Attributes:
        seeds: those that the script sets itself, where somebody listens to that.
    """

    def __init__(self, job: Job, events: Events, discovery: Discovery) -> None:
        assert job.recipe is not None
        self.seeds: OwnSeeds | None = None
        self._recipe: Recipe = job.recipe
        self._events = events
        self._discovery = discovery
        self._rule = StopRule(job.steps)
        scaled = self._recipe.loss_scaling.kind != "none"
        self._scaling = ScriptScaling(self._recipe, job.steps) if scaled else None
        rounds = self._recipe.weights_dtype == "float16"
        self._half_weights = HalfWeights(self._recipe, job.seed or 0) if rounds else None
        self._stack = ExitStack()
        self._device: str | None = None
        self._statistics: dict[int, BatchStatistics] = {}
        self._stashed: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._skipped: str | None = None
        self._out_of_autocast: Any = None
        self._loss: float | None = None
        self._not_finite = 0
        self._told_changes = 0
        self._clock = StepClock()
        self._footprint = Footprint(counts_saved=job.counts_saved)

    def found(self, root: Root) -> None:
        """Keep the recipe's FP32 modules of a new model in FP32; round its FP16 weights."""
        kept = list(self._kept(root))
        if self._half_weights is not None:
            self._half_weights.add(root.module, with_submodules(kept))
        if kept and self._recipe.compute_dtype != "float32":
            self._stack.callback(Fp32Modules(kept, root.device.type).remove)
        if self._scaling is not None:
            self._statistics[id(root)] = BatchStatistics(root.module)
        self._footprint.add(root)
        self._events.tell("trains", device=str(root.device))

    def lost(self, module: torch.nn.Module, error: Exception) -> None:
        """Tell it: a recipe that reaches only a part of what is trained says nothing."""
        self._events.tell("refused", reason=f"{type(module).__name__}: {error}")
        self._rule.stop()

    def before_forward(self, root: Root) -> None:
        """Begin autocast; end the script if it has done enough."""
        if self._rule.is_done:
            self._finish()
        if self._device is None:
            self._device = root.device.type
            self._stack.enter_context(forward_in(self._recipe, self._device))
        if self._half_weights is not None:
            self._half_weights.round_again(root.module)
        torch.clear_autocast_cache()
        if torch.is_grad_enabled() and id(root) in self._statistics:
            self._statistics[id(root)].take()
        self._footprint.called(root)

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewArguments | None:
        """Take the update out of autocast, and suppress it after an overflow."""
        if self._rule.is_beyond(optimizer):
            self._finish()
        if self._scaling is not None:
            self._refuse_what_sees_the_scale(optimizer, self._scaling)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        self._out_of_autocast = self._autocast(False)
        self._out_of_autocast.__enter__()
        if closure is None:
            self._prepare_update(optimizer)
            return None
        return (args[0], self._in_autocast(closure, optimizer)), {
            key: value for key, value in kwargs.items() if key != "closure"
        }

    def after_step(self, optimizer: Optimizer) -> None:
        """Restore what a suppressed update hid, move the scale, report the loss."""
        if self._out_of_autocast is not None:
            self._out_of_autocast.__exit__(None, None, None)
            self._out_of_autocast = None
        if self._half_weights is not None and self._skipped is None:
            self._half_weights.after_update(optimizer)
        torch.clear_autocast_cache()
        is_leader, skipped = self._rule.is_leader(optimizer), self._skipped
        log2_scale = None if self._scaling is None else self._scaling.log2_scale
        self._after_update(optimizer)
        if self._rule.leader_steps < 2:  # every model has a gradient once the leader steps again
            self._footprint.look_at_gradients()
        self._rule.took(optimizer)
        if is_leader:
            self._report(log2_scale, skipped)

    def differentiate(self, asked: Differentiation) -> Any:
        """Differentiate outside of autocast, the loss scaled and the gradients unscaled."""
        self._footprint.counts_saved = False
        optimizers = [o for root in self._discovery.roots for o in root.optimizers]
        loss = asked.loss(held_by(optimizers))
        if loss is not None:
            self._loss = (self._loss or 0.0) + float(loss)
        with self._autocast(False):
            if self._scaling is None:
                return asked.run(asked.outputs)
            return self._scaling.differentiate(asked, self._parameters())

    def close(self) -> None:
        """Leave autocast and FP16 arithmetic; tell what the run took."""
        self._stack.close()
        if self._rule.leader_steps:
            self._events.tell("measured", **self._footprint.document())
            if self.seeds is not None:
                self._events.tell("seeds", own=self.seeds.first)

    def save_at_signal(self) -> None:
        """Every event is in its file already."""

    def _refuse_what_sees_the_scale(self, optimizer: Optimizer, scaling: ScriptScaling) -> None:
        reason = None
        if isinstance(optimizer, LBFGS):
            reason = "L-BFGS evaluates the loss itself, unscaled"
        elif scaling.is_running:
            reason = "weights are updated inside of backward, where gradients carry the loss scale"
        if reason is not None:
            self._events.tell("refused", reason=reason)
            self._rule.stop()

    def _autocast(self, enabled: bool) -> Any:
        if self._device is None or self._recipe.compute_dtype == "float32":
            return nullcontext()
        dtype = getattr(torch, self._recipe.compute_dtype)
        return torch.autocast(self._device, dtype=dtype, enabled=enabled)

    def _in_autocast(self, closure: Callable[[], Any], optimizer: Optimizer) -> Callable[[], Any]:
        def forward_and_backward() -> Any:
            with self._autocast(True), torch.enable_grad():
                value = closure()
            self._prepare_update(optimizer)
            return value

        return forward_and_backward

    def _prepare_update(self, optimizer: Optimizer) -> None:
        self._suppress_if_overflowed(optimizer)
        if self._half_weights is not None and self._skipped is None:
            self._half_weights.before_update(optimizer)

    def _suppress_if_overflowed(self, optimizer: Optimizer) -> None:
        # An optimizer passes over parameters without a gradient, their state included.
        culprit = None if self._scaling is None else self._scaling.culprit(optimizer)
        if culprit is None:
            return
        self._skipped = self._name(culprit)
        for parameter in optimizer_parameters(optimizer):
            if parameter.grad is not None:
                self._stashed.append((parameter, parameter.grad))
                parameter.grad = None

    def _after_update(self, optimizer: Optimizer) -> None:
        for parameter, gradient in self._stashed:
            parameter.grad = gradient
        self._stashed.clear()
        for root in self._discovery.roots:
            statistics = self._statistics.get(id(root))
            if statistics is not None and optimizer in root.optimizers:
                if self._skipped is not None:
                    statistics.restore()
                statistics.drop()
        if self._scaling is not None:
            self._scaling.stepped(optimizer, self._skipped)
        self._skipped = None

    def _report(self, log2_scale: int | None, skipped: str | None) -> None:
        loss, self._loss = self._loss, None
        value = math.nan if loss is None else loss
        self._events.tell(
            "step",
            step=self._rule.leader_steps,
            loss=json_number(value),
            log2_scale=log2_scale,
            skipped=skipped,
            seconds=self._clock.lap(),
            scale_changes=self._scale_changes(),
        )
        self._not_finite = 0 if math.isfinite(value) else self._not_finite + 1
        if self._not_finite == PATIENCE_STEPS:
            self._finish()

    def _scale_changes(self) -> list[dict[str, Any]]:
        """Those since the last report, by the step of the leader that they came after."""
        new = [] if self._scaling is None else self._scaling.changes[self._told_changes :]
        self._told_changes += len(new)
        return [asdict(replace(change, step=self._rule.leader_steps - 1)) for change in new]

    def _finish(self) -> None:
        held = (p for root in self._discovery.roots for p in root.module.parameters())
        finite = all(bool(torch.isfinite(p.detach()).all()) for p in held)
        self._events.tell("done", weights_are_finite=finite)
        self._rule.stop()

    def _kept(self, root: Root) -> Iterator[torch.nn.Module]:
        for name, module in root.module.named_modules():
            named = root.named(name)
            if name and any(fnmatchcase(named, pattern) for pattern in self._recipe.fp32_modules):
                yield module

    def _name(self, parameter: torch.Tensor) -> str:
        for root in self._discovery.roots:
            for name, own in root.module.named_parameters():
                if own is parameter:
                    return root.named(name)
        return "(unnamed)"

    def _parameters(self) -> Iterator[torch.Tensor]:
        for root in self._discovery.roots:
            yield from root.module.parameters()
            for optimizer in root.optimizers:
                yield from optimizer_parameters(optimizer)
