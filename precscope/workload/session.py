"""Workload: what is trained. Session: one fresh training of it under one seed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
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
    checked_metrics,
    checked_model,
    checked_optimizer,
)
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
        loss: ``loss(model, batch)``, a scalar tensor.
        optimizer: ``optimizer(model)``.
        evaluate: ``evaluate(model)``, higher-is-better metrics; None if the file has none.
        default_optimizer: the file has no optimizer, so this is AdamW at 1e-3.
    """

    name: str
    path: Path
    model: Callable[[], torch.nn.Module]
    batches: Callable[[], Iterable[Any]]
    loss: Callable[[torch.nn.Module, Any], torch.Tensor]
    optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None
    default_optimizer: bool
    _built: weakref.WeakSet[torch.nn.Module] = field(
        default_factory=weakref.WeakSet, init=False, repr=False, compare=False
    )

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
        return Session(self, seed, device)

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
        with workload.calling("optimizer()"):
            optimizer = workload.optimizer(self.model)
        self.optimizer = checked_optimizer(workload.path.name, optimizer, self.model)

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
                yield batch
            if taken == before:
                raise WorkloadError(f"{self.workload.path.name}: {_why_empty(taken)}")

    def loss(self, batch: Any) -> torch.Tensor:
        """``loss(model, batch)``: a real scalar that needs a gradient unless they are disabled.

        Raises:
            WorkloadError: it is anything else, or the code raises.
        """
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


def _why_empty(taken: int) -> str:
    if taken:
        return (
            f"batches() was empty when called again after {taken} batches:"
            " return a new iterable on every call"
        )
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
