"""``precscope.watch``: leave the monitor on in a training, one line, nothing else changed."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from precscope.arithmetic.storage import convertible_parameters
from precscope.environment import environment
from precscope.errors import RecordingError, UsageError
from precscope.monitor import Monitor, Schedule
from precscope.monitor.arguments import check_model, check_schedule, optimizers_of, several
from precscope.monitor.ranks import process_rank, unwrapped
from precscope.monitor.schedule import StepFilter
from precscope.monitor.state import KINDS, checked_kinds
from precscope.recording import RecordingWriter
from precscope.recording.ranks import rank_path

UNLIKELY_DRAWN = 2**32
"""Seeds below it were set by somebody: one that torch draws itself, of 64 bits, or of 53 without
a random device, is as small once in two million programs at most."""

MAYBE_DRAWN = (
    "torch's generator started from {}, as large as what torch draws where no seed is set; whether "
    "this one was set cannot be told"
)


class Watch:
    """A monitor that records to a file, until it is closed or the program ends.

    Attributes:
        path: the Recording.
    """

    def __init__(self, monitor: Monitor, writer: RecordingWriter) -> None:
        self._monitor = monitor
        self._writer = writer
        self.path = writer.path
        self._pid = os.getpid()
        atexit.register(self.close)

    @property
    def monitor(self) -> Monitor:
        """The observers, for ``record_loss`` and ``paused``."""
        return self._monitor

    def close(self) -> None:
        """Take every hook off, write what is left and close the file. Safe to call twice.

        What cannot be written, because the disk is full for example, is told by a warning: it
        must not cost the user the training that was watched.
        """
        atexit.unregister(self.close)
        if os.getpid() != self._pid:
            return
        try:
            self._monitor.close()
        finally:
            self._close_file()

    def _close_file(self) -> None:
        try:
            self._writer.close()
        except RecordingError as error:
            warnings.warn(f"precscope: the Recording is not complete: {error}", stacklevel=3)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    scaler: Any = None,
    path: str | os.PathLike[str] = "run.precscope",
    every: int = 10,
    start: int = 0,
    stop: int | None = None,
    schedule: StepFilter | None = None,
    kinds: str | Iterable[str] = KINDS,
    include: str | Iterable[str] = ("*",),
    exclude: str | Iterable[str] = (),
    overwrite: bool = False,
) -> Watch:
    """Observe a training and record it; the training itself stays bit-identical.

    Under DDP, FSDP1, FSDP2 and tensor parallelism every rank calls it, after the model was wrapped,
    sharded or parallelized: each process observes its part, and none waits for another. Activations
    and their gradients are those of the rank's own batch, gradients of parameters are observed once
    they are reduced.

    Args:
        model: the module that is trained; call it as before. Sites have the names of the model
            inside of DDP and ``torch.compile``.
        optimizer: its optimizer, or several of them. A step ends when each has stepped once;
            without an optimizer, training forwards are counted.
        scaler: the ``GradScaler`` that scales the loss: gradients are then recorded at their true
            scale, and skipped updates are told apart. One that is not given is found at the
            first update that it lets pass; loss scaling by hand cannot be seen.
        path: the Recording to write. Each process of a distributed training writes one of its
            own, with its rank in the name: ``run.rank0.precscope``, ``run.rank1.precscope``.
            ``Recording.open`` and ``precscope report`` put them together again under ``path``.
        every: observe every n-th step.
        start: first observed step.
        stop: first step that is no longer observed.
        schedule: any function of the step index, instead of ``every``, ``start`` and ``stop``.
        kinds: what to observe: activation, activation_gradient, weight, weight_gradient,
            weight_update.
        include: glob pattern, or patterns, of module and parameter names to observe.
        exclude: glob pattern, or patterns, of names to leave out.
        overwrite: replace an existing Recording at ``path``.

    Returns:
        a context manager; without ``with``, call ``close()``, or let the program end.

    Raises:
        RecordingError: the Recording cannot be written at ``path``.
        UsageError: an argument is not what it should be; the line names it.
    """
    check_model(model)
    check_schedule(schedule, every=every, start=start, stop=stop)
    model, optimizers = unwrapped(model), optimizers_of(optimizer)
    chosen = schedule if schedule is not None else Schedule(every, start, stop)
    kinds = checked_kinds(several(kinds))
    writer = _writer(model, path, overwrite)
    monitor = Monitor(
        model,
        optimizers,
        writer,
        schedule=chosen,
        kinds=kinds,
        include=several(include),
        exclude=several(exclude),
        scaler=scaler,
    )
    return Watch(monitor, writer)


def _writer(model: nn.Module, path: str | os.PathLike[str], overwrite: bool) -> RecordingWriter:
    """A new Recording of this process, with what is known of the model before its first step."""
    rank, world_size = process_rank()
    meta: dict[str, Any] = {"title": type(model).__name__}
    if world_size > 1:
        meta |= {"rank": rank, "world_size": world_size}
        path = rank_path(path, rank)
    writer = RecordingWriter(path, meta, overwrite=overwrite)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    writer.put_document("environment", _environment(device))
    writer.put_document("half_weights", _half_weights(model))
    return writer


def _environment(device: torch.device) -> dict[str, Any]:
    """Where it runs; its seed is null where torch may have drawn it itself."""
    seed = torch.initial_seed()
    facts = environment(device, seed, _command())
    if seed < UNLIKELY_DRAWN:
        return facts
    return {**facts, "seed": None, "seed_reason": MAYBE_DRAWN.format(seed)}


def _half_weights(model: nn.Module) -> list[str]:
    try:
        return list(convertible_parameters(model))
    except UsageError:  # FP16 weights already: there is nothing to convert
        return []


def _command() -> str:
    program, *arguments = sys.argv or [""]
    return " ".join([os.path.basename(program), *arguments])  # noqa: PTH119
