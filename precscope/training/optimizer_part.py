"""OptimizerPart: what a trainer has for one of its optimizers."""

from __future__ import annotations

from typing import Any

import torch

from precscope.errors import UsageError
from precscope.training.gradients import optimizer_parameters
from precscope.training.master_weights import MasterWeights

_Gradients = list[tuple[torch.Tensor | None, int]]
"""Of each weight the gradient, and how often that has been changed in place."""


class OptimizerPart:
    """An optimizer, the masters of its weights, and where it is between two updates.

    Args:
        optimizer: holds the masters by now, if there are any.
        masters: those of its weights, None where weights are float32.

    Attributes:
        optimizer: the same.
        masters: the same; None again after ``restore``.
        backwards: backward passes since the last update.
        has_stepped: whether its update in the present training step is over.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, masters: MasterWeights | None) -> None:
        self.optimizer = optimizer
        self.masters = masters
        self.backwards = 0
        self.has_stepped = False
        self._unscaled_gradients: _Gradients | None = None

    @property
    def is_unscaled(self) -> bool:
        """Whether its gradients are the true ones already."""
        return self._unscaled_gradients is not None

    @property
    def is_under_way(self) -> bool:
        """Whether it has gradients that were not used yet."""
        return self.backwards > 0 or self.is_unscaled

    def parameters(self) -> list[torch.Tensor]:
        """What the optimizer updates."""
        return list(optimizer_parameters(self.optimizer))

    def leaves(self) -> list[torch.Tensor]:
        """What backward has to reach: the weights that the model reads, if they are trained."""
        pairs = self.masters.pairs if self.masters else []
        weights = {id(pair.master): pair.weight for pair in pairs}
        read = (weights.get(id(p), p) for p in self.parameters())
        return [weight for weight in read if weight.requires_grad]

    def adopt(self) -> dict[int, str]:
        """Masters for weights that the optimizer was given since; see ``MasterWeights.adopt``."""
        return self.masters.adopt() if self.masters else {}

    def make_room(self) -> None:
        """Add the gradients so far to the masters', in float32, before the next backward."""
        if self.backwards and self.masters:
            self.masters.take_gradients()
            self.masters.drop_weight_gradients()

    def take_gradients(self) -> None:
        """Hand the gradients of the weights to the optimizer, in float32, still scaled."""
        if self.masters:
            self.masters.take_gradients()

    def check_scaled(self) -> None:
        """Refuse a backward whose scaled gradients would be added to true ones.

        Raises:
            UsageError: the gradients were unscaled and not used yet.
        """
        if self.is_unscaled:
            raise UsageError("backward() after unscale(): update() has to come first")

    def mark_unscaled(self) -> None:
        """Note that the gradients are the true ones now."""
        self._unscaled_gradients = self._weight_gradients()

    def check_untouched(self) -> None:
        """Refuse gradients that were changed where the optimizer does not read them.

        Raises:
            UsageError: a float16 gradient was changed after ``mark_unscaled``.
        """
        before, now = self._unscaled_gradients or [], self._weight_gradients()
        if not all(a is b and v == w for (a, v), (b, w) in zip(before, now, strict=True)):
            raise UsageError(
                "a float16 gradient was changed after unscale(), to no effect: "
                "clip trainer.parameters() in place of model.parameters()"
            )

    def publish(self) -> None:
        """Round the masters into the model's weights, after an update."""
        if self.masters:
            self.masters.publish()

    def clear(self) -> None:
        """Drop all gradients, and begin anew."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.masters:
            self.masters.clear_gradients()
        self.backwards = 0
        self._unscaled_gradients = None

    def restore(self) -> None:
        """Give the model its float32 weights back."""
        if self.masters:
            self.masters.restore()
            self.masters = None

    def extra_bytes(self) -> int:
        """Size of what is kept beside the weights: masters or compensations."""
        return self.masters.extra_bytes() if self.masters else 0

    def weights_state(self) -> dict[str, Any]:
        """State of the masters; {} if there are none."""
        return self.masters.state_dict() if self.masters else {}

    def _weight_gradients(self) -> _Gradients:
        grads = [pair.weight.grad for pair in (self.masters.pairs if self.masters else [])]
        return [(grad, 0 if grad is None else grad._version) for grad in grads]
