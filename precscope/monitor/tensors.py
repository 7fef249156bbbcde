"""Finding the tensors in whatever a module returns, and telling which of them can be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

PLAIN: tuple[type, ...] = (torch.Tensor, nn.Parameter)

graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)
"""Number of the backward pass that is running; -1 outside of one."""

_is_transformed: Callable[[torch.Tensor], bool] = getattr(
    getattr(torch._C, "_functorch", None), "is_functorch_wrapped_tensor", lambda tensor: False
)


def floating_tensors(output: object) -> Iterator[torch.Tensor]:
    """Yield the floating-point tensors in nested tuples, lists, mappings and dataclasses.

    Order is the order of the container. Complex, integer, sparse and quantized tensors are left
    out: they have no binary exponents to count. Mappings cover ``ModelOutput`` and ``TensorDict``,
    tuples a ``PackedSequence``.
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


def unreadable(tensor: torch.Tensor) -> str | None:
    """Why a tensor has no memory to read; None if it has.

    Tensors inside a ``torch.func`` transform and fake tensors are wrappers around values that
    are elsewhere, or do not exist.
    """
    if _is_transformed(tensor):
        return "inside a torch.func transform"
    if tensor.is_meta:
        return "a meta tensor has no values"
    if type(tensor) in PLAIN or not (hasattr(tensor, "fake_mode") or _is_wrapper(tensor)):
        return None
    return f"a {type(tensor).__name__} has no memory of its own"


def _is_wrapper(tensor: torch.Tensor) -> bool:
    try:
        return tensor.untyped_storage().data_ptr() == 0 and tensor.numel() > 0
    except (RuntimeError, NotImplementedError):
        return True


def local_values(tensor: torch.Tensor) -> torch.Tensor:
    """This process's shard of a distributed tensor; any other tensor itself.

    What a functional collective returns is waited for, as its first use would do.
    """
    if type(tensor) in PLAIN:
        return tensor
    local = getattr(tensor, "_local_tensor", None)
    values = local if isinstance(local, torch.Tensor) else tensor
    if type(values) in PLAIN or not hasattr(values, "trigger_wait"):
        return values
    waited: torch.Tensor = values.trigger_wait()
    return waited


def strided_values(gradient: torch.Tensor) -> torch.Tensor | None:
    """The stored values of a gradient: itself, or the values of a sparse one; None if neither."""
    if gradient.layout is torch.strided:
        return local_values(gradient)
    if gradient.layout is torch.sparse_coo:
        return gradient._values()
    return None
