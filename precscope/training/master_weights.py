"""MasterWeights: float16 parameters in the model, float32 ones in the optimizer.

The optimizer updates a float32 copy and keeps its own state in float32; the float16 weight that
forward and backward read is that copy, rounded. Without it an update smaller than half an ulp of
the float16 weight is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from precscope.arithmetic.storage import convertible_parameters
from precscope.training.weight_updates import KeptMaster, WeightUpdates


@dataclass(frozen=True, slots=True, eq=False)
class MasterPair:
    """A float16 parameter of the model and the float32 one that the optimizer holds for it.

    Attributes:
        name: qualified name of the parameter.
        weight: the model's own, float16.
        master: what the optimizer updates, float32, of the same shape.
    """

    name: str
    weight: nn.Parameter
    master: nn.Parameter


class MasterWeights:
    """Float16 weights in a model, with float32 masters in its optimizer.

    Parameter objects stay the same ones, so that ties and references survive; only their storage
    becomes float16. Buffers stay as they are. A parameter that the optimizer does not hold gets
    no master until it does, see ``adopt``.

    Args:
        model: float32 model.
        optimizer: its parameter groups keep their options and take the masters; its state moves
            along.
        weights: what becomes float16, by qualified name; by default every float32 parameter
            outside normalisation layers.
        updates: what is kept of a master between steps; the masters themselves by default.

    Attributes:
        pairs: weights and their masters.
        frozen: the float16 weights without a master, by name. Shared by the optimizers of a model,
            each of which may be given one of them later.

    Raises:
        UsageError: a parameter of the model is float16 already.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, nn.Parameter] | None = None,
        updates: WeightUpdates | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._updates = updates or KeptMaster()
        held = self._held()
        self.pairs: list[MasterPair] = []
        self.frozen: dict[str, nn.Parameter] = {}
        wanted = convertible_parameters(model) if weights is None else weights
        for name, weight in wanted.items():
            single = weight.data
            weight.grad = None
            weight.data = single.half()
            if id(weight) in held:
                self.pairs.append(MasterPair(name, weight, nn.Parameter(single)))
            else:
                self.frozen[name] = weight
        self._flatten_recurrent()
        self._take_over(self.pairs)

    def adopt(self) -> dict[int, str]:
        """Make a master for each of ``frozen`` that the optimizer holds by now.

        Such a master begins with the values of the weight, which FP16 has rounded.

        Returns:
            their names, by ``id`` of the master.
        """
        held = self._held() if self.frozen else set()
        names = [name for name, weight in self.frozen.items() if id(weight) in held]
        weights = [(name, self.frozen.pop(name)) for name in names]
        new = [MasterPair(name, w, nn.Parameter(w.detach().float())) for name, w in weights]
        self.pairs += new
        self._take_over(new)
        return {id(pair.master): pair.name for pair in new}

    def take_gradients(self) -> None:
        """Add to each master's gradient that of its weight, in float32, still scaled."""
        for pair in self.pairs:
            if pair.weight.grad is not None:
                grad = pair.weight.grad.detach().float()
                before = pair.master.grad
                pair.master.grad = grad if before is None else before + grad

    def drop_weight_gradients(self) -> None:
        """Make room for the gradients of the next backward."""
        for pair in self.pairs:
            pair.weight.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model's weights, after an update."""
        self._updates.publish(self._weights, self._masters)

    def clear_gradients(self) -> None:
        """Drop the gradients of weights and masters."""
        for pair in self.pairs:
            pair.weight.grad = pair.master.grad = None

    def extra_bytes(self) -> int:
        """Size of what is kept between steps beside the weights: masters or compensations.

        Masters that are read anew from the weights at each step do not count.
        """
        return self._updates.extra_bytes(self._masters)

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs; the tensors are not copied."""
        return self._updates.state(self._weights, self._masters)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set masters and weights to what they were; see ``state_dict``."""
        self._updates.load(state, self._weights, self._masters)

    def restore(self) -> None:
        """Give the model its float32 weights back, and the optimizer the model's parameters.

        A parameter without a master keeps the values that FP16 rounded.
        """
        self.clear_gradients()
        for pair in self.pairs:
            pair.weight.data = pair.master.data
        for weight in self.frozen.values():
            weight.grad = None
            weight.data = weight.data.float()
        self._swap({id(pair.master): pair.weight for pair in self.pairs})
        self._flatten_recurrent()
        self.pairs = []
        self.frozen.clear()

    @property
    def _weights(self) -> list[torch.Tensor]:
        return [pair.weight for pair in self.pairs]

    @property
    def _masters(self) -> list[torch.Tensor]:
        return [pair.master for pair in self.pairs]

    def _held(self) -> set[int]:
        return {id(p) for group in self._optimizer.param_groups for p in group["params"]}

    @torch.no_grad()
    def _take_over(self, pairs: list[MasterPair]) -> None:
        if pairs:
            self._swap({id(pair.weight): pair.master for pair in pairs})
            self._updates.start([pair.weight for pair in pairs], [pair.master for pair in pairs])

    def _swap(self, replacements: dict[int, nn.Parameter]) -> None:
        for group in self._optimizer.param_groups:
            for index, old in enumerate(group["params"]):
                new = replacements.get(id(old))
                if new is not None:
                    group["params"][index] = new
                    if old in self._optimizer.state:
                        self._optimizer.state[new] = self._optimizer.state.pop(old)

    def _flatten_recurrent(self) -> None:
        # cuDNN wants the weights of an RNN in one block, as Module.half() arranges it.
        for module in self._model.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()
