"""Finding the tensors in whatever a module returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch


def floating_tensors(output: object) -> Iterator[torch.Tensor]:
    """Yield the floating-point tensors in nested tuples, lists, mappings and dataclasses.

    Order is the order of the container. Complex, integer, sparse and quantized tensors are left
    out: they have no binary exponents to count. Mappings cover ``ModelOutput`` and ``TensorDict``.
    """
    if isinstance(output, torch.Tensor):
        if output.is_floating_point() and output.layout is torch.strided:
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from floating_tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from floating_tensors(value)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield from floating_tensors(getattr(output, field.name, None))


def strided_values(gradient: torch.Tensor) -> torch.Tensor | None:
    """The stored values of a gradient: itself, or the values of a sparse one; None if neither."""
    if gradient.layout is torch.strided:
        return gradient
    if gradient.layout is torch.sparse_coo:
        return gradient._values()
    return None
