"""Monitor: attaches the observers to a model and its optimizer, and turns steps into facts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from precscope import kernels
from precscope.monitor.compiled import compiled_code_exists
from precscope.monitor.coverage import coverage_document
from precscope.monitor.forks import silence_in_children
from precscope.monitor.guard import Guard
from precscope.monitor.hook import Calling
from precscope.monitor.loss_scale import LossScale, Scale, calling_scaler
from precscope.monitor.marks import INPUT, Marks
from precscope.monitor.modules import ModuleHooks
from precscope.monitor.parameters import ParameterHooks
from precscope.monitor.rounds import StepRounds
from precscope.monitor.rows import RowStore
from precscope.monitor.schedule import Schedule, StepFilter
from precscope.monitor.sink import Sink
from precscope.monitor.sitebook import SiteBook
from precscope.monitor.state import KINDS, State
from precscope.monitor.tensors import floating_tensors, unreadable
from precscope.monitor.turnover import PendingStep, read_back, step_records, windows
from precscope.monitor.updates import UpdateSampler, make_samplers

FLUSH_SECONDS = 10.0
COMPILED_BEFORE = (
    "precscope sees no activation: the model was compiled before watching began. Call "
    "precscope.watch before the first call of the compiled model"
)
NO_SCALER = "scaled by a GradScaler that was not known yet: pass scaler= to watch"


class Monitor:
    """Observes a model's training and hands the facts to a sink.

    A step ends when ``optimizer`` has stepped, or when a GradScaler has skipped its update; with
    several optimizers when each has stepped at least once; without an optimizer when the next
    training forward of ``model`` begins. Losses, gradients, weights and the random stream are
    bit-identical to an unobserved run, and ``close`` leaves no hook behind.

    Args:
        model: the root whose ``named_modules()`` name the sites.
        optimizer: the optimizer whose steps are counted, several of them, or None.
        sink: receives sites, windows, steps and updates.
        schedule: which steps are observed, a ``Schedule`` or any function of the step index.
        kinds: what is observed, a subset of ``KINDS``.
        include: glob patterns of module and parameter names that are observed.
        exclude: glob patterns of names that are not.
        window_steps: observed steps per window of statistics.
        autocast_dtypes: dtype under FP16 autocast by (site name, kind), where known.
        scaler: the GradScaler that scales the loss; gradients are recorded at their true scale.
            One that is not given is found at the first step that it lets pass.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None,
        sink: Sink,
        *,
        schedule: StepFilter | None = None,
        kinds: Iterable[str] = KINDS,
        include: Iterable[str] = ("*",),
        exclude: Iterable[str] = (),
        window_steps: int = 64,
        autocast_dtypes: dict[tuple[str, str], str] | None = None,
        scaler: Any = None,
    ) -> None:
        self._model = model
        self._sink = sink
        self._schedule = schedule if schedule is not None else Schedule()
        self._state = State.of_kinds(kinds)
        self._guard = Guard()
        self._rows = RowStore(window_steps)
        self._book = SiteBook(sink, self._rows, autocast_dtypes or {})
        self._wanted = _name_filter(tuple(include), tuple(exclude))
        watch = (model, self._book, kernels.observe, self._state, self._guard, self._wanted)
        self._modules = ModuleHooks(*watch)
        self._parameters = ParameterHooks(*watch)
        self._optimizers = _as_list(optimizer)
        self._rounds = StepRounds([id(o) for o in self._optimizers])
        self._scale = LossScale(scaler)
        self._samplers: list[UpdateSampler] | None = None
        self._pending: list[PendingStep] = []
        self._marks = Marks()
        self._loss: torch.Tensor | None = None
        self._input_rows: dict[torch.device, torch.Tensor] = {}
        self._ended = True
        self._flushed_at = time.monotonic()
        self.observed_steps = 0
        self.closed = False
        self._state.active = self._schedule(0)
        self._handles = self._attach_steps()
        silence_in_children(self)

    def _attach_steps(self) -> list[RemovableHandle]:
        handles = [
            self._model.register_forward_pre_hook(Calling(self._on_root_forward), with_kwargs=True)
        ]
        if self._modules.has_fast_path:
            handles.append(self._model.register_forward_hook(Calling(self._on_root_return)))
        for optimizer in self._optimizers:
            handles.append(optimizer.register_step_pre_hook(self._on_step_begin))
            handles.append(optimizer.register_step_post_hook(self._on_optimizer_stepped))
        return handles

    def record_loss(self, loss: torch.Tensor) -> None:
        """Note the loss of the present step; it is read back only at a flush."""
        if self._state.active:
            self._loss = loss.detach()

    def record_log2_scale(self, log2_scale: float) -> None:
        """Note the loss scale that gradients carry from now on; it is taken off again."""
        self._scale.told_log2 = log2_scale

    def begin_pass(self) -> None:
        """Tell that a training pass begins, where the root itself is not what is called.

        Some trainers call a method of the model instead of the model: a step that the loss
        scaler skipped is then noticed here.
        """
        try:
            self._begin_forward(())
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("start of a forward pass")

    def _on_root_forward(self, module: nn.Module, inputs: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        training = module.training or torch.is_grad_enabled()
        if not training:
            self._modules.open_fast_path()
            return
        # An evaluation pass that raised has not come back to close it.
        self._modules.close_fast_path()
        try:
            self._begin_forward((inputs, kwargs))
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("start of a forward pass")

    def _on_root_return(self, *_: object) -> None:
        if not torch.compiler.is_compiling():
            self._modules.close_fast_path()

    def _begin_forward(self, inputs: Any) -> None:
        if not self._optimizers:
            if self._book.entries:
                self._on_step_begin()
                self._end_step(skipped=False)
        elif not self._ended and self._scale.finished_step_of(self._optimizers):
            # The scaler has finished a step that some optimizer was not allowed to take.
            self._end_step(skipped=not self._rounds.begun, scale=self._scale.before_update())
        self._ended = False
        self._scale.look(keep=self._state.active)
        if self._state.active and not self._guard.disabled("inputs"):
            self._observe_inputs(inputs)

    def _observe_inputs(self, inputs: Any) -> None:
        try:
            for tensor in floating_tensors(inputs):
                if unreadable(tensor) is None:
                    kernels.observe(tensor.detach(), self._input_row(tensor.device))
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("inputs")

    def _input_row(self, device: torch.device) -> torch.Tensor:
        row = self._input_rows.get(device)
        if row is None:
            row = self._input_rows[device] = self._rows.new_row(INPUT, device, False)
        return row

    def _on_step_begin(self, *_: object) -> None:
        if not self._state.active:
            return
        try:
            if not self._scale.in_use:
                self._find_scaler()
            self._parameters.attach_waiting()
            if self._rounds.begun:
                return
            if self._samplers is None:
                self._samplers = self._make_samplers()
            with torch.no_grad():
                self._parameters.observe_weights()
                for sampler in self._samplers:
                    sampler.before_step()
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("weights and updates")
            self._samplers = []

    def _make_samplers(self) -> list[UpdateSampler]:
        if not self._state.updates:
            return []
        return make_samplers(self._model, self._optimizers, self._wanted)

    def _find_scaler(self) -> None:
        scaler = calling_scaler()
        if scaler is None or not scaler.is_enabled():
            return
        if self._pending:
            self.flush()
        self._scale = LossScale(scaler)
        self._scale.look(keep=True)
        if scaler.get_scale() != getattr(scaler, "_init_scale", None):
            # Steps that were skipped before this one carried other scales.
            self._rows.forget_gradients()
            self._modules.skipped[("gradients before the first update", NO_SCALER)] += 1

    def _on_optimizer_stepped(self, optimizer: Optimizer, *_: object) -> None:
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
                    self._end_observed_step(skipped, scale if scale else self._scale.now())
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("end of step")
        self._loss = None
        self._modules.end_step()
        self._state.step += 1
        self._state.active = not self.closed and self._schedule(self._state.step)

    def _warn_if_compiled_before(self) -> None:
        """Dynamo ignores hooks that come after the first compiled call, and says nothing."""
        blind = self._state.activations and not self._modules.seen_modules
        if self.observed_steps == 1 and blind and compiled_code_exists():
            warnings.warn(COMPILED_BEFORE, stacklevel=5)

    def _end_observed_step(self, skipped: bool | torch.Tensor, scale: Scale | None) -> None:
        for sampler in self._samplers or ():
            sampler.abandon_step() if skipped is True else sampler.after_step(self._state.step)
        self._rows.end_step(len(self._pending), scale)
        self._pending.append(PendingStep(self._state.step, self._loss, scale, skipped))
        self.observed_steps += 1
        self._warn_if_compiled_before()
        full = len(self._pending) == self._rows.log_steps
        if full or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand everything observed so far to the sink and make it durable."""
        if self._pending:
            taken = self._rows.take(len(self._pending))
            ended = read_back(self._pending)
            for site, window in windows(taken, ended[0][0], ended[-1][0]):
                self._sink.add_window(site, window)
            sites = {entry.index: entry.site for entry in self._book.entries}
            for record in step_records(taken, ended, sites):
                self._sink.add_step(record)
            self._marks.add(taken, ended, sites)
            for sampler in self._samplers or ():
                for update in sampler.take():
                    self._sink.add_update(update)
            self._pending.clear()
        if self._marks.count:
            self._sink.put_document("non_finite", self._marks.document())
        self._sink.put_document("coverage", self.coverage())
        self._sink.flush()
        self._flushed_at = time.monotonic()

    def coverage(self) -> dict[str, Any]:
        """What was seen, what was not and why, and which observers failed."""
        return coverage_document(
            self._model, self._modules, self._parameters, self._guard, self._book,
            self.observed_steps,
        )  # fmt: skip

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Observe nothing inside the block: for experiments with the watched model."""
        active, self._state.active = self._state.active, False
        try:
            yield
        finally:
            self._state.active = active

    @property
    def memory_bytes(self) -> int:
        """Bytes that the observers hold: rows, logs and the sampled weights."""
        return self._rows.memory_bytes + sum(s.memory_bytes for s in self._samplers or ())

    def close(self) -> None:
        """Flush and take everything off the model and the optimizer. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._keep_unfinished_step()
        self._state.active = False
        self._modules.remove()
        self._parameters.remove()
        for handle in self._handles:
            handle.remove()
        try:
            self.flush()
        except Exception:  # noqa: BLE001 - closing must not stop the user's program either
            self._guard.failed("flush")

    def _keep_unfinished_step(self) -> None:
        """A step that nothing ended, a crash or the last one without an optimizer, counts too."""
        if self._state.active and self._rows.touched:
            stepped = self._scale.finished_step_of(self._optimizers)
            skipped = stepped and not self._rounds.begun
            for sampler in self._samplers or ():
                sampler.abandon_step()
            self._end_step(skipped, self._scale.before_update() if skipped else None)

    def silence(self) -> None:
        """Observe and write nothing any more: this is a copy in another process."""
        self.closed = True
        self._state.active = False

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_list(optimizer: Optimizer | Iterable[Optimizer] | None) -> list[Optimizer]:
    if optimizer is None:
        return []
    # By its methods: Accelerate and others wrap optimizers without deriving from them.
    if hasattr(optimizer, "param_groups"):
        return [optimizer]  # type: ignore[list-item]
    return list(optimizer)


def _name_filter(include: tuple[str, ...], exclude: tuple[str, ...]) -> Callable[[str], bool]:
    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, p) for p in include) and not any(
            fnmatchcase(name, p) for p in exclude
        )

    return wanted
