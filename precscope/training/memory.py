"""Bytes of weights, gradients, optimizer state, and of what forward saves for backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Size of the elements of distinct tensors; of a sparse one, its values and indices."""
    distinct = {id(tensor): tensor for tensor in tensors}
    return sum(_size(tensor) for tensor in distinct.values())


def gradient_bytes(model: nn.Module) -> int:
    """Size of the gradients as backward stored them on the model's parameters."""
    return tensor_bytes(p.grad for p in model.parameters() if p.grad is not None)


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Size of every tensor in the optimizer's state."""
    states = (value for state in optimizer.state.values() for value in state.values())
    return tensor_bytes(value for value in states if isinstance(value, torch.Tensor))


@dataclass(slots=True)
class SavedTensors:
    """Storages that forward has saved for backward so far, each counted once.

    Attributes:
        storages: bytes of each, by its address.
    """

    storages: dict[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Their size together, in bytes."""
        return sum(self.storages.values())


@contextmanager
def saved_tensors(model: nn.Module) -> Iterator[SavedTensors]:
    """Count what a forward pass inside saves for backward; the model's parameters are left out.

    Results do not change, but every saved tensor costs a Python call: not for a timed step.
    """
    counted = SavedTensors()
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                counted.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield counted


def _size(tensor: torch.Tensor) -> int:
    if tensor.is_sparse:
        return _size(tensor._values()) + _size(tensor._indices())
    return tensor.numel() * tensor.element_size()
