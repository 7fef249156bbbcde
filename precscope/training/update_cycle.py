"""UpdateCycle: from the gradients of a backward to new weights, or to a skipped update."""

from __future__ import annotations

from typing import Any

import torch

from precscope.errors import UsageError
from precscope.training.batch_statistics import BatchStatistics
from precscope.training.gradient_scaling import GradientScaling
from precscope.training.optimizer_part import OptimizerPart
from precscope.training.optimizer_parts import OptimizerParts


class UpdateCycle:
    """Unscale, check, update or skip; and at the end of the training step move the loss scale.

    Args:
        parts: the optimizers.
        scaling: the loss scale that they share.
        statistics: running statistics of the model, put back where an update is skipped.

    Attributes:
        skipped_steps: updates skipped so far.
    """

    def __init__(
        self, parts: OptimizerParts, scaling: GradientScaling, statistics: BatchStatistics
    ) -> None:
        self._parts = parts
        self._scaling = scaling
        self._statistics = statistics
        self.skipped_steps = 0

    def unscale(self, optimizer: str | None) -> None:
        """Put true gradients, in float32, where the optimizer reads them.

        Raises:
            UsageError: they are there already.
        """
        for part in self._parts.chosen(optimizer):
            if part.is_unscaled:
                raise UsageError("unscale() was called already: update() has to follow")
            part.take_gradients()
            self._scaling.unscale(part.optimizer)
            part.mark_unscaled()

    def update(self, optimizer: str | None) -> bool:
        """Update the weights or skip; whether all of the chosen optimizers were updated.

        Raises:
            UsageError: a float16 gradient was changed after ``unscale``.
        """
        for name, part in self._parts.by_name.items():
            if optimizer in (None, name) and not part.is_unscaled:
                self.unscale(name)
        updated = [self._update(part) for part in self._parts.chosen(optimizer)]
        if not all(updated):
            self._statistics.restore()
        self._forget_step()
        if self._parts.all_stepped:
            self.end_step()
        return all(updated)

    def end_step(self) -> None:
        """Move the loss scale by what the updates of the training step found, if there were any.

        Raises:
            UsageError: an optimizer has gradients that no update has used yet.
        """
        has_stepped = self._parts.any_stepped
        self._parts.end_step()
        if has_stepped:
            self._scaling.end_step()

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizers, the masters and the loss scale, and the skipped steps.

        Raises:
            UsageError: in the middle of a training step.
        """
        return {
            **self._parts.state_dict(),
            "scaling": self._scaling.state_dict(),
            "skipped_steps": self.skipped_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before."""
        self._parts.load_state_dict(state)
        self._scaling.load_state_dict(state["scaling"])
        self.skipped_steps = state["skipped_steps"]
        self._forget_step()

    def _update(self, part: OptimizerPart) -> bool:
        part.check_untouched()
        updated = self._scaling.step(part.optimizer)
        if updated:
            part.publish()
        else:
            self.skipped_steps += 1
        part.clear()
        part.has_stepped = True
        return updated

    def _forget_step(self) -> None:
        self._statistics.drop()
        # Inside an autocast region of the user's own, casts of the old weights are still cached.
        torch.clear_autocast_cache()
