"""Monitor: attaches the observers to a model and its optimizer, and hands on what they saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from precscope.monitor.arguments import optimizers_of
from precscope.monitor.coverage import coverage_document
from precscope.monitor.forks import silence_in_children
from precscope.monitor.ledger import Ledger
from precscope.monitor.parts import make_parts, name_filter
from precscope.monitor.schedule import Schedule, StepFilter
from precscope.monitor.sink import Sink
from precscope.monitor.state import KINDS
from precscope.monitor.steps import Steps


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
        wanted = name_filter(include, exclude)
        self._parts = make_parts(model, sink, kinds, wanted, window_steps, autocast_dtypes or {})
        self._optimizers = optimizers_of(optimizer)
        self._ledger = Ledger(sink, self._parts.rows, self._parts.book)
        self._steps = Steps(
            self._parts, self._optimizers, schedule or Schedule(), scaler, self._ledger, self.flush
        )
        self._handles = self._attach_steps()
        self.closed = False
        silence_in_children(self)

    def _attach_steps(self) -> list[RemovableHandle]:
        self._parts.modules.attach_to_root(self._on_root_forward)
        handles = []
        for optimizer in self._optimizers:
            handles.append(optimizer.register_step_pre_hook(self._steps.update_begins))
            handles.append(optimizer.register_step_post_hook(self._steps.update_ended))
        return handles

    @property
    def observed_steps(self) -> int:
        """Steps that were observed and have ended."""
        return self._steps.observed

    def record_loss(self, loss: torch.Tensor) -> None:
        """Note the loss of the present step; it is read back only at a flush."""
        if self._parts.state.active:
            # A copy: what the user adds to it in place afterwards is not this step's.
            self._steps.loss = loss.detach().clone()

    def record_log2_scale(self, log2_scale: float) -> None:
        """Note the loss scale that gradients carry from now on; it is taken off again."""
        self._steps.scale.told_log2 = log2_scale

    def begin_pass(self) -> None:
        """Tell that a training pass begins, where the root's own call does not show it.

        Some trainers call a method of the model instead of the model, and a monitor that is
        made while its root is being called hears of the next call only.
        """
        if not torch.compiler.is_compiling():
            self._steps.pass_begins(())

    def _on_root_forward(self, module: nn.Module, inputs: Any, kwargs: Any = None) -> None:
        if torch.compiler.is_compiling():
            return
        if module.training or torch.is_grad_enabled():
            self._steps.pass_begins((inputs, kwargs))

    def flush(self) -> None:
        """Hand everything observed so far to the sink and make it durable."""
        documents: dict[str, Any] = {"coverage": self.coverage()}
        if replicas := self._parts.parameters.replicas():
            documents["replicas"] = replicas
        self._ledger.flush(self._steps.samplers, documents)

    def coverage(self) -> dict[str, Any]:
        """What was seen, what was not and why, and which observers failed."""
        parts = self._parts
        return coverage_document(
            parts.model, parts.modules, parts.parameters, parts.guard, parts.book,
            self.observed_steps,
        )  # fmt: skip

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Observe nothing inside the block: for experiments with the watched model."""
        state = self._parts.state
        active, state.active = state.active, False
        try:
            yield
        finally:
            state.active = active

    @property
    def memory_bytes(self) -> int:
        """Bytes that the observers hold: rows, logs and the sampled weights."""
        return self._parts.rows.memory_bytes + sum(s.memory_bytes for s in self._steps.samplers)

    def close(self) -> None:
        """Flush and take everything off the model and the optimizer. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._steps.stop()
        self._parts.modules.remove()
        self._parts.parameters.remove()
        for handle in self._handles:
            handle.remove()
        try:
            self.flush()
        except Exception:  # noqa: BLE001 - closing must not stop the user's program either
            self._parts.guard.failed("flush")

    def silence(self) -> None:
        """Observe and write nothing any more: this is a copy in another process."""
        self.closed = self._steps.stopped = True
        self._parts.state.active = False

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
