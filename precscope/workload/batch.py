"""The tensors in a batch, whatever holds them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch


def map_tensors(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with ``change`` applied to every tensor in it.

    Looks into tuples (named ones too), lists, mappings and dataclasses, to any depth; a dict comes
    back as the type that it has, any other mapping as a dict. Everything else is passed on as it is.
    """
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return _map_items(batch, change)
    if isinstance(batch, Mapping):
        return {key: map_tensors(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, change) for value in batch))
    if type(batch) in (tuple, list):
        return type(batch)(map_tensors(value, change) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return _map_fields(batch, change)
    return batch


def move(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on ``device``; an object with its own ``to`` moves itself."""
    # A dict with attributes may answer a missing one with a KeyError: look at its type.
    holder = type(batch) if isinstance(batch, dict) else batch
    if not isinstance(batch, torch.Tensor) and callable(getattr(holder, "to", None)):
        return batch.to(device)
    return map_tensors(batch, lambda tensor: tensor.to(device))


def tensors_in(batch: Any) -> list[torch.Tensor]:
    """Every tensor in the batch, in the order of ``map_tensors``."""
    found: list[torch.Tensor] = []

    def collect(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(batch, collect)
    return found


def _map_items(batch: dict[Any, Any], change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    changed = copy.copy(batch)
    for key, value in batch.items():
        changed[key] = map_tensors(value, change)
    return changed


def _map_fields(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    changed = copy.copy(batch)
    for field in dataclasses.fields(batch):
        value = map_tensors(getattr(batch, field.name), change)
        object.__setattr__(changed, field.name, value)  # frozen ones included
    return changed
