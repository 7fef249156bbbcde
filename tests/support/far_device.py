"""A device that is not there: tensors that say they are on it, and keep their values on the CPU.

As ``meta`` it can do everything; as ``cuda`` all but to index, for which torch looks for a driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda:0")
META = torch.device("meta")
ON_HOST = torch.device("cpu")
READS = ("aten._local_scalar_dense", "aten.equal", "aten.nonzero", "aten.is_nonzero")


class FarTensor(torch.Tensor):
    """A tensor of the device that is not there."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor, device: torch.device) -> FarTensor:
        made: FarTensor = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), near.stride(), near.storage_offset(), dtype=near.dtype, device=device
        )
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise AssertionError(f"{func} ran outside of the device")


class Factories(TorchFunctionMode):
    """Makes tensors of the device without asking torch, which would look for a driver."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        wanted = torch.device(kwargs.get("device") or "cpu")
        if wanted.type == "cpu":
            return func(*args, **kwargs)
        found = func(*args, **{**kwargs, "device": ON_HOST})
        return FarTensor(found, wanted)


class FarDevice(TorchDispatchMode):
    """Runs what is asked of the device, and counts what comes back from it.

    Attributes:
        transfers: words of each copy from the device to the host.
        sends: copies from the host to the device.
        reads: operators by which the host would wait for a number.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.transfers: list[int] = []
        self.sends = 0
        self.reads: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [t for t in _leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        far = [t for t in given if isinstance(t, FarTensor)]
        name, wanted = str(func.overloadpacket), kwargs.get("device")
        if not far and (wanted is None or torch.device(wanted).type == "cpu"):
            return func(*args, **kwargs)
        if name in READS:
            self.reads.append(name)
        device = far[0].device if wanted is None else torch.device(wanted)
        if name in ("aten._to_copy", "aten.copy_"):
            target = args[0].device if name == "aten.copy_" else device
            source = args[1] if name == "aten.copy_" else args[0]
            if source.device.type != "cpu" and target.type == "cpu":
                self.transfers.append(source.numel())
            self.sends += source.device.type == "cpu" and target.type != "cpu"
        if wanted is not None:
            kwargs["device"] = ON_HOST
        near_args, near_kwargs = tree_map(_near, args), tree_map(_near, kwargs)
        found = func(*near_args, **near_kwargs)
        if func._schema.is_mutable:
            return kwargs["out"] if "out" in kwargs else args[0]
        if device.type == "cpu":
            return found
        return tree_map(lambda v: FarTensor(v, device) if type(v) is torch.Tensor else v, found)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _near(value: Any) -> Any:
    return value.near if isinstance(value, FarTensor) else value


class Events:
    """Stands for ``torch.cuda.Event``: what was recorded, and what was waited for."""

    made: list[Events]

    def __init__(self) -> None:
        self.recorded = self.waited = False
        type(self).made.append(self)

    def record(self) -> None:
        """On the current stream."""
        self.recorded = True

    def synchronize(self) -> None:
        """Wait for the record, which has to be there."""
        assert self.recorded
        self.waited = True


@contextmanager
def far_device() -> Iterator[tuple[FarDevice, list[Events], list[int]]]:
    """The device, the events made on it, and the sizes of the pinned memory that was asked for."""
    pinned: list[int] = []
    plain = torch.empty

    def empty(size: int, *, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        pinned.extend([size] if pin_memory else [])
        return plain(size, **options)

    Events.made = []
    with (
        patch.object(torch.cuda, "Event", Events),
        patch.object(torch.cuda, "device", lambda device: nullcontext()),
        patch.object(torch, "empty", empty),
        Factories(),
        FarDevice() as device,
    ):
        yield device, Events.made, pinned
