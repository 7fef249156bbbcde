"""Monitor: attaches the observers to a model and its optimizer, and turns steps into facts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from precscope import kernels
from precscope.facts import StepRecord
from precscope.monitor.coverage import coverage_document
from precscope.monitor.guard import Guard
from precscope.monitor.modules import ModuleHooks
from precscope.monitor.parameters import ParameterHooks
from precscope.monitor.rows import RowStore
from precscope.monitor.schedule import Schedule, StepFilter
from precscope.monitor.sink import Sink
from precscope.monitor.sitebook import SiteBook
from precscope.monitor.state import KINDS, State
from precscope.monitor.turnover import step_records, windows
from precscope.monitor.updates import UpdateSampler

FLUSH_SECONDS = 10.0


class Monitor:
    """Observes a model's training and hands the facts to a sink.

    A step ends when ``optimizer`` has stepped; without an optimizer it ends when the next
    training forward of ``model`` begins. Losses, gradients, weights and the random stream are
    bit-identical to an unobserved run, and ``close`` leaves no hook behind.

    Args:
        model: the root whose ``named_modules()`` name the sites.
        optimizer: the optimizer whose steps are counted, None if there is none.
        sink: receives sites, windows, steps and updates.
        schedule: which steps are observed, a ``Schedule`` or any function of the step index.
        kinds: what is observed, a subset of ``KINDS``.
        include: glob patterns of module and parameter names that are observed.
        exclude: glob patterns of names that are not.
        window_steps: observed steps per window of statistics.
        autocast_dtypes: dtype under FP16 autocast by (site name, kind), where known.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        sink: Sink,
        *,
        schedule: StepFilter | None = None,
        kinds: Iterable[str] = KINDS,
        include: Iterable[str] = ("*",),
        exclude: Iterable[str] = (),
        window_steps: int = 64,
        autocast_dtypes: dict[tuple[str, str], str] | None = None,
    ) -> None:
        self._model = model
        self._sink = sink
        self._schedule = schedule if schedule is not None else Schedule()
        self._state = State.of_kinds(kinds)
        self._guard = Guard()
        self._rows = RowStore(window_steps)
        self._book = SiteBook(sink, self._rows, autocast_dtypes or {})
        wanted = _name_filter(tuple(include), tuple(exclude))
        watch = (model, self._book, kernels.observe, self._state, self._guard, wanted)
        self._modules = ModuleHooks(*watch)
        self._parameters = ParameterHooks(*watch)
        self._samplers = self._make_samplers(model, optimizer, wanted)
        self._handles = self._attach_steps(model, optimizer)
        self._pending: list[tuple[int, torch.Tensor | None, float]] = []
        self._loss: torch.Tensor | None = None
        self._log2_scale = 0.0
        self._flushed_at = time.monotonic()
        self.observed_steps = 0
        self.closed = False
        self._state.active = self._schedule(0)

    def _make_samplers(
        self, model: nn.Module, optimizer: Optimizer | None, wanted: Callable[[str], bool]
    ) -> list[UpdateSampler]:
        if optimizer is None or not self._state.updates:
            return []
        names = {id(p): n for n, p in model.named_parameters() if wanted(n)}
        by_device: dict[torch.device, list[tuple[str, torch.Tensor, dict[str, Any]]]] = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names.get(id(parameter))
                if name is not None and parameter.is_floating_point() and parameter.numel():
                    found = by_device.setdefault(parameter.device, [])
                    found.append((name, parameter, group))
        return [UpdateSampler(parameters) for parameters in by_device.values()]

    def _attach_steps(self, model: nn.Module, optimizer: Optimizer | None) -> list[RemovableHandle]:
        if optimizer is None:
            return [model.register_forward_pre_hook(self._on_root_forward)]
        return [
            optimizer.register_step_pre_hook(self._on_step_begin),
            optimizer.register_step_post_hook(self._on_step_end),
        ]

    def record_loss(self, loss: torch.Tensor) -> None:
        """Note the loss of the present step; it is read back only at a flush."""
        if self._state.active:
            self._loss = loss.detach()

    def record_log2_scale(self, log2_scale: float) -> None:
        """Note the loss scale that the present step's gradients carry."""
        self._log2_scale = log2_scale

    def _on_root_forward(self, module: nn.Module, inputs: Any) -> None:
        if (module.training or torch.is_grad_enabled()) and self._book.entries:
            self._on_step_begin()
            self._on_step_end()

    def _on_step_begin(self, *_: object) -> None:
        if not self._state.active:
            return
        try:
            with torch.no_grad():
                self._parameters.observe_weights()
                for sampler in self._samplers:
                    sampler.before_step()
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("weights and updates")
            self._samplers = []

    def _on_step_end(self, *_: object) -> None:
        try:
            if self._state.active:
                with torch.no_grad():
                    self._end_observed_step()
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("end of step")
        self._loss = None
        self._modules.end_step()
        self._state.step += 1
        self._state.active = not self.closed and self._schedule(self._state.step)

    def _end_observed_step(self) -> None:
        for sampler in self._samplers:
            sampler.after_step(self._state.step)
        self._rows.end_step(len(self._pending))
        self._pending.append((self._state.step, self._loss, self._log2_scale))
        self.observed_steps += 1
        full = len(self._pending) == self._rows.log_steps
        if full or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand everything observed so far to the sink and make it durable."""
        if self._pending:
            taken = self._rows.take(len(self._pending))
            steps = [step for step, _, _ in self._pending]
            for site, window in windows(taken, steps[0], steps[-1]):
                self._sink.add_window(site, window)
            for record in self._step_records(taken):
                self._sink.add_step(record)
            for sampler in self._samplers:
                for update in sampler.take():
                    self._sink.add_update(update)
            self._pending.clear()
        self._sink.put_document("coverage", self.coverage())
        self._sink.flush()
        self._flushed_at = time.monotonic()

    def _step_records(self, taken: list[Any]) -> list[StepRecord]:
        sites = {entry.index: entry.site for entry in self._book.entries}
        pending = [
            (step, None if loss is None else float(loss), scale)
            for step, loss, scale in self._pending
        ]
        return step_records(taken, pending, sites)

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
        return self._rows.memory_bytes + sum(s.memory_bytes for s in self._samplers)

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
            for sampler in self._samplers:
                sampler.abandon_step()
            self._on_step_end()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _name_filter(include: tuple[str, ...], exclude: tuple[str, ...]) -> Callable[[str], bool]:
    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, p) for p in include) and not any(
            fnmatchcase(name, p) for p in exclude
        )

    return wanted
