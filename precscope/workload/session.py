"""Workload: what is trained. Session: one fresh training of it under one seed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from precscope.errors import UsageError, WorkloadError
from precscope.workload.batch import move
from precscope.workload.blame import calling
from precscope.workload.contract import (
    checked_batches,
    checked_loss,
    checked_losses,
    checked_metrics,
    checked_model,
    checked_optimizer,
    checked_optimizers,
)
from precscope.workload.joint_loss import joint_loss
from precscope.workload.optimizers import StepOptimizer
from precscope.workload.probe_trainer import ProbeTrainer
from precscope.workload.randomness import (
    BATCHES,
    EVALUATION,
    RandomStream,
    derived_seed,
    seed_everything,
)

_END = object()


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained: the functions of a model file.

    Attributes:
        name: the file's name without its suffix.
        path: the file, absolute.
        model: builds a new module on every call.
        batches: an iterable of batches, called again when it ends.
        loss: ``loss(model, batch)``, a scalar tensor; None if the file has ``step`` instead.
        optimizer: ``optimizer(model)``, one, or with ``step`` a dict of several.
        evaluate: ``evaluate(model)``, higher-is-better metrics; None if the file has none.
        default_optimizer: the file has no optimizer, so this is AdamW at 1e-3.
        step: ``step(model, batch, trainer)``, a whole training step that returns its losses by
            name; None if the file has ``loss``.
    """

    name: str
    path: Path
    model: Callable[[], torch.nn.Module]
    batches: Callable[[], Iterable[Any]]
    loss: Callable[[torch.nn.Module, Any], torch.Tensor] | None
    optimizer: Callable[[torch.nn.Module], Any]
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None
    default_optimizer: bool
    step: Callable[[torch.nn.Module, Any, Any], Mapping[str, torch.Tensor]] | None = None
    _built: weakref.WeakSet[torch.nn.Module] = field(
        default_factory=weakref.WeakSet, init=False, repr=False, compare=False
    )
    _gave: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def session(self, seed: int, device: str = "cpu") -> Session:
        """A new model and optimizer, and the batches of ``seed``.

        Seeds the global generators, so run one session after the other, not interleaved.

        Args:
            seed: 0 to 2^32 - 1. The same seed gives the same weights and batches bit for bit.
            device: a torch device, ``"cpu"`` or ``"cuda:1"``.

        Raises:
            UsageError: the seed is out of range, or this machine has no such device.
            WorkloadError: the model file breaks its contract or raises.
        """
        return (
            Session(self, seed, device)
            if self.step is None
            else SteppingSession(self, seed, device)
        )

    def calling(self, what: str) -> AbstractContextManager[None]:
        """Context for a call into the model file: its folder importable, its errors told."""
        return calling(self.path, what)


class Session:
    """One training of a workload: a fresh model and optimizer on the batches of a seed.

    The model is on the device and in train mode. Dropout and whatever else the training draws
    comes from the global generators; ``batches()`` and ``evaluate()`` have streams of their own
    (see ``precscope.workload.randomness``), so how much the training draws changes neither.

    Attributes:
        workload: what is trained.
        seed: seed of all streams.
        device: where the model and its batches are.
        model: the module.
        optimizer: its optimizer.
    """

    def __init__(self, workload: Workload, seed: int, device: str) -> None:
        self.workload = workload
        self.seed = _checked_seed(seed)
        self.device = _checked_device(device)
        seed_everything(seed)
        self.model = self._new_model()
        self.optimizer = self._new_optimizer()

    def batches(self) -> Iterator[Any]:
        """The batches of the seed, from the first on and without end, on the device.

        ``workload.batches()`` is called again whenever it ends, and goes on in the same stream,
        so a shuffled epoch is followed by a different one. Every call of this method starts over.

        Raises:
            WorkloadError: ``batches()`` is empty, not iterable, or raises.
        """
        stream = RandomStream(derived_seed(self.seed, BATCHES), self.device)
        taken = 0
        while True:
            before = taken
            for batch in self._one_pass(stream):
                taken += 1
                self.workload._gave.add("batches")
                yield batch
            if taken == before:
                reason = _why_empty(taken, bool(self.workload._gave))
                raise WorkloadError(f"{self.workload.path.name}: {reason}")

    def loss(self, batch: Any) -> torch.Tensor:
        """``loss(model, batch)``: a real scalar that needs a gradient unless they are disabled.

        Raises:
            WorkloadError: it is anything else, or the code raises.
        """
        assert self.workload.loss is not None, "the session of a step has a loss of its own"
        with self.workload.calling("loss()"):
            value = self.workload.loss(self.model, batch)
        return checked_loss(self.workload.path.name, value)

    def evaluate(self) -> dict[str, float]:
        """Metrics in eval mode without gradients; {} if the file has no ``evaluate``.

        The training mode of every module and the random stream are put back as they were.

        Raises:
            WorkloadError: it is not a dict of numbers, or the code raises.
        """
        if self.workload.evaluate is None:
            return {}
        training = [(module, module.training) for module in self.model.modules()]
        stream = RandomStream(derived_seed(self.seed, EVALUATION), self.device)
        self.model.eval()
        try:
            with torch.no_grad(), stream, self.workload.calling("evaluate()"):
                metrics = self.workload.evaluate(self.model)
        finally:
            for module, mode in training:
                module.training = mode
        return checked_metrics(self.workload.path.name, metrics)

    def _new_model(self) -> torch.nn.Module:
        file = self.workload.path.name
        with self.workload.calling("model()"):
            model = checked_model(file, self.workload.model())
            if model in self.workload._built:
                raise WorkloadError(
                    f"{file}: model() returned the same module again: build a new one in it,"
                    " or every run goes on training the last one's weights"
                )
            self.workload._built.add(model)
            return model.to(self.device).train()

    def _new_optimizer(self) -> torch.optim.Optimizer:
        with self.workload.calling("optimizer()"):
            optimizer = self.workload.optimizer(self.model)
        return checked_optimizer(self.workload.path.name, optimizer, self.model)

    def _one_pass(self, stream: RandomStream) -> Iterator[Any]:
        with stream, self.workload.calling("batches()"):
            batches = checked_batches(self.workload.path.name, self.workload.batches())
            iterator = iter(batches)
        while True:
            with stream, self.workload.calling("batches()"):
                batch = next(iterator, _END)
            if batch is _END:
                return
            yield move(batch, self.device)


class SteppingSession(Session):
    """A session of a workload with several losses: training steps are taken by its ``step``.

    Attributes:
        optimizers: the optimizers by name; a single one is called ``""``.
        optimizer: all of them as one, whose step is one call of the file's ``step()``.
    """

    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, batch: Any, trainer: Any) -> dict[str, torch.Tensor]:
        """One training step of the model file: its losses by name, detached.

        Args:
            batch: one of ``batches()``.
            trainer: a ``precscope.MixedPrecision`` of ``model`` and ``optimizers``.

        Raises:
            WorkloadError: it returns anything but a dict of real scalars, or the code raises.
        """
        assert self.workload.step is not None
        with self.workload.calling("step()"):
            losses = self.workload.step(self.model, batch, trainer)
        return checked_losses(self.workload.path.name, losses)

    def loss(self, batch: Any) -> torch.Tensor:
        """The losses of one step as one scalar, without taking the step; see ``joint_loss``.

        Every loss is computed with the weights as they are: those that ``step`` computes after an
        update of its own are not seen after that update. Several losses of one optimizer add up.

        Raises:
            WorkloadError: ``step`` breaks its contract, gives the trainer no loss or one that
                needs no gradient, or raises.
        """
        file = self.workload.path.name
        trainer = ProbeTrainer(self.optimizers, self.device.type)
        with trainer.outside():
            self.step(batch, trainer)
        if not trainer.losses:
            raise WorkloadError(
                f"{file}: step() trained nothing: call trainer.step(loss, optimizer=...) in it"
            )
        for owned in trainer.losses:
            checked_loss(file, owned.loss, "step()")
        return joint_loss(trainer.losses)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        with self.workload.calling("optimizer()"):
            optimizers = self.workload.optimizer(self.model)
        self.optimizers = checked_optimizers(self.workload.path.name, optimizers, self.model)
        return StepOptimizer(self.optimizers)


def _why_empty(taken: int, gave_before: bool) -> str:
    if taken or gave_before:
        after = f" after {taken} batches" if taken else ""
        return f"batches() was empty when called again{after}: return a new iterable on every call"
    return "batches() is empty: yield at least one batch"


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed} is out of range: choose one from 0 to {2**32 - 1}")
    return seed


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here ({reason}): try cpu") from error
    return device
