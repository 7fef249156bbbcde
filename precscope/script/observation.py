"""Observation: a Monitor on every model that the script trains, into one Recording."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from precscope.arithmetic.storage import convertible_parameters
from precscope.environment import environment
from precscope.errors import UsageError
from precscope.monitor import Monitor, Schedule
from precscope.monitor.ranks import process_rank
from precscope.recording import RecordingWriter
from precscope.script.differentiation import Differentiation
from precscope.script.discovery import Root, held_by
from precscope.script.footprint import StepClock
from precscope.script.hooks import NewArguments
from precscope.script.job import Events, Job
from precscope.script.mixed_use import MixedUse
from precscope.script.sinks import RootSink, SharedRecording
from precscope.script.stop import StopRule

WINDOWS = 16
"""Windows of statistics that an observation aims at."""

WINDOW_STEPS = 64
"""Observed steps after which a window is written, however long the observation: a killed script
leaves all but these."""


NO_SEED = "the script has seeded torch with nothing when its first model is called"


class Observation:
    """Listens to a script and records it; see ``hooks.Listener``.

    Args:
        job: what to observe, with the path of the Recording.
        events: told of every step.
    """

    def __init__(self, job: Job, events: Events) -> None:
        self._job = job
        self._events = events
        self._rule = StopRule(job.steps)
        self._mixed = MixedUse()
        self._monitors: list[tuple[Root, Monitor]] = []
        self._shared: SharedRecording | None = None
        self._half_weights: list[str] = []
        self._loss: torch.Tensor | None = None
        self._closed = False
        self._clock = StepClock()
        self._untouched_seed = torch.initial_seed()

    def found(self, root: Root) -> None:
        """Attach a monitor to a new model."""
        if self._closed:
            return
        shared = self._recording(root)
        self._mixed.look(root)
        self._monitors.append((root, self._monitor(root, shared)))
        try:
            names = [root.named(name) for name in convertible_parameters(root.module)]
        except UsageError:  # FP16 weights already
            names = []
        self._half_weights += names
        shared.writer.put_document("half_weights", self._half_weights)
        self._events.tell("model", name=root.name, kind=type(root.module).__name__)

    def lost(self, module: torch.nn.Module, error: Exception) -> None:
        """Tell that a model is not watched; the script goes on."""
        name, message = type(module).__name__, f"{type(error).__name__}: {error}"
        self._events.tell("broken", where=name, message=message)
        if self._shared is not None:
            self._shared.put_error(name, message)

    def before_forward(self, root: Root) -> None:
        """End the script if it has done enough; see whether it uses autocast."""
        if self._rule.is_done:
            self._finish()
        elif torch.is_grad_enabled() and not self._closed and not self._rule.leader_steps:
            self._mixed.look(root)

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewArguments | None:
        """A step begins for the models of ``optimizer``."""
        if self._rule.is_beyond(optimizer):
            self._finish()
        if self._closed:
            return None
        if not self._rule.leader_steps:
            self._mixed.look_for_scaler()
        return None

    def after_step(self, optimizer: Optimizer) -> None:
        """A step has ended."""
        if self._closed:
            return
        is_leader = self._rule.is_leader(optimizer)
        self._rule.took(optimizer)
        if is_leader:
            self._loss = None
            if self._mixed and self._rule.leader_steps == 1:
                self._tell_mixed()
            self._events.tell("step", step=self._rule.leader_steps, seconds=self._clock.lap())

    def differentiate(self, asked: Differentiation) -> Any:
        """Note the loss; losses of one step are added up. Nothing is read from the device."""
        if not self._closed:
            held = held_by([o for root, _ in self._monitors for o in root.optimizers])
            loss = asked.loss(held)
            if loss is not None:
                with torch.no_grad():
                    value = self._mixed.unscaled(loss)
                    self._loss = value if self._loss is None else self._loss + value
                self._record_loss(self._loss)
            if self._shared is not None and any(id(i) in held for i in asked.inputs or ()):
                self._shared.unseen_gradients += 1
        return asked.run(asked.outputs)

    def close(self) -> None:
        """Take every observer off and complete the Recording. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._events.tell("observers", memory_bytes=sum(m.memory_bytes for _, m in self._monitors))
        for _, monitor in self._monitors:
            monitor.close()
        if self._shared is not None:
            self._shared.writer.close()

    def save_at_signal(self) -> None:
        """Write what there is, unless the signal came in the middle of writing it."""
        if self._shared is None or not self._shared.is_writing:
            self.close()

    def _record_loss(self, loss: torch.Tensor) -> None:
        # At every backward: with a closure it comes in the middle of the optimizer's step.
        for root, monitor in self._monitors:
            if any(map(self._rule.is_leader, root.optimizers)):
                monitor.record_loss(loss)

    def _monitor(self, root: Root, shared: SharedRecording) -> Monitor:
        job = self._job
        monitor = Monitor(
            root.module,
            root.optimizers,
            RootSink(shared, root),
            scaler=self._mixed.scaler,
            schedule=Schedule(every=job.every, stop=job.steps),
            exclude=[pattern for name in root.inside for pattern in (name, f"{name}.*")],
            window_steps=max(1, min(-(-job.steps // job.every) // WINDOWS, WINDOW_STEPS)),
        )
        if root.in_call:
            monitor.begin_pass()
        return monitor

    def _finish(self) -> None:
        if not self._closed:
            self.close()
            self._events.tell("done")
        if not self._job.keep_going:
            self._rule.stop()

    def _tell_mixed(self) -> None:
        if self._shared is not None:
            self._shared.writer.put_document("script", {"mixed": self._mixed.document()})
        self._events.tell("mixed", **self._mixed.document())

    def _recording(self, root: Root) -> SharedRecording:
        if self._shared is None:
            job = self._job
            assert job.recording is not None
            rank, world_size = process_rank()
            ranks = {"rank": rank, "world_size": world_size} if world_size > 1 else {}
            writer = RecordingWriter(job.recording, {"title": job.script.name, **ranks})
            writer.put_document("environment", self._environment(root))
            writer.put_document("script", {"mixed": None})
            self._shared = SharedRecording(writer)
        return self._shared

    def _environment(self, root: Root) -> dict[str, Any]:
        """Where the script runs; its seed is the one that it has set itself, None for none."""
        seed = torch.initial_seed()
        facts = environment(root.device, seed, self._job.command)
        if seed != self._untouched_seed:
            return facts
        return {**facts, "seed": None, "seed_reason": NO_SEED}
