"""Session: one fresh training of a workload under one seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from precscope.errors import UsageError, WorkloadError
from precscope.workload.batch import move
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

if TYPE_CHECKING:
    from precscope.workload.workload import Workload

_END = object()


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
