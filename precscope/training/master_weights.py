"""MasterWeights: float16 parameters in the model, float32 ones in the optimizer.

The optimizer updates a float32 copy and keeps its own state in float32; the float16 weight that
forward and backward read is that copy, rounded. Without it an update smaller than half an ulp of
the float16 weight is lost.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from precscope.errors import UsageError

NORMALISATION: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers whose parameters stay float32: their statistics are float32 arithmetic, their kernels
take float16 activations with float32 parameters, and they are few. ``_NormBase`` is the base of
every batch and instance normalisation."""


@dataclass(frozen=True, slots=True, eq=False)
class MasterPair:
    """A float16 parameter of the model and the float32 one that the optimizer holds for it."""

    name: str
    weight: nn.Parameter
    master: nn.Parameter


class MasterWeights:
    """Float16 weights in a model, with float32 masters in its optimizer.

    Parameter objects stay the same ones, so that ties and references survive; only their storage
    becomes float16. Converted are float32 parameters outside normalisation layers and outside
    ``keep``; buffers stay as they are. A parameter that the optimizer does not hold gets no
    master.

    Args:
        model: float32 model.
        optimizer: its parameter groups keep their options and take the masters; its state moves
            along.
        keep: modules whose own parameters stay float32.
        persistent: False re-reads each master from the float16 weight after every step: what
            FP16 weights without a master copy would hold, with float32 optimizer state.

    Raises:
        UsageError: a parameter of the model is float16 already.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        keep: Collection[nn.Module] = (),
        persistent: bool = True,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._persistent = persistent
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.pairs: list[MasterPair] = []
        self._frozen: list[nn.Parameter] = []
        for name, weight in convertible_parameters(model, keep).items():
            single = weight.data
            weight.grad = None
            weight.data = single.half()
            if id(weight) in held:
                self.pairs.append(MasterPair(name, weight, nn.Parameter(single)))
            else:
                self._frozen.append(weight)
        self._swap({id(pair.weight): pair.master for pair in self.pairs})
        self._flatten_recurrent()
        if not persistent:
            with torch.no_grad():
                _copy(self._weights, into=self._masters)

    def take_gradients(self) -> None:
        """Give each master the gradient of its weight, in float32, still scaled."""
        for pair in self.pairs:
            grad = pair.weight.grad
            pair.master.grad = None if grad is None else grad.detach().float()

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model's weights, after an update."""
        _copy(self._masters, into=self._weights)
        if not self._persistent:
            _copy(self._weights, into=self._masters)

    def clear_gradients(self) -> None:
        """Drop the gradients of weights and masters."""
        for pair in self.pairs:
            pair.weight.grad = pair.master.grad = None

    def master_bytes(self) -> int:
        """Size of the float32 copies, 0 where they are read anew at each step."""
        sizes = (pair.master.numel() * pair.master.element_size() for pair in self.pairs)
        return sum(sizes) if self._persistent else 0

    def restore(self) -> None:
        """Give the model its float32 weights back, and the optimizer the model's parameters.

        A parameter without a master keeps the values that FP16 rounded.
        """
        self.clear_gradients()
        for pair in self.pairs:
            pair.weight.data = pair.master.data
        for weight in self._frozen:
            weight.grad = None
            weight.data = weight.data.float()
        self._swap({id(pair.master): pair.weight for pair in self.pairs})
        self._flatten_recurrent()
        self.pairs, self._frozen = [], []

    @property
    def _weights(self) -> list[torch.Tensor]:
        return [pair.weight for pair in self.pairs]

    @property
    def _masters(self) -> list[torch.Tensor]:
        return [pair.master for pair in self.pairs]

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


def _copy(values: list[torch.Tensor], into: list[torch.Tensor]) -> None:
    if values:
        torch._foreach_copy_(into, values)


def convertible_parameters(
    model: nn.Module, keep: Collection[nn.Module] = ()
) -> dict[str, nn.Parameter]:
    """Float32 parameters outside normalisation layers and ``keep``, by qualified name, once each.

    Raises:
        UsageError: a parameter is float16 already, so there is nothing to make a master from.
    """
    kept = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORMALISATION) or module in keep
        for parameter in module.parameters(recurse=False)
    }
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.dtype is torch.float16:
            raise UsageError(f"parameter {name} is float16 already: call model.float() first")
        if parameter.dtype is torch.float32 and id(parameter) not in kept:
            found[name] = parameter
    return found
