"""SteppingSession: a session of a workload that takes its training steps itself."""

from __future__ import annotations

from typing import Any

import torch

from precscope.errors import WorkloadError
from precscope.workload.contract import checked_loss, checked_losses, checked_optimizers
from precscope.workload.joint_loss import joint_loss
from precscope.workload.optimizers import StepOptimizer
from precscope.workload.probe_trainer import ProbeTrainer
from precscope.workload.session import Session


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
