"""What a parameter is to the other processes of a training: a shard, a copy, or its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

_queue: Callable[[Callable[[], None]], None] | None = getattr(
    getattr(torch.autograd.Variable, "_execution_engine", None), "queue_callback", None
)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of ``torch.compile``, DDP and ``DataParallel``."""
    while True:
        inner = model._modules.get("_orig_mod")
        if inner is None and isinstance(model, (DataParallel, DistributedDataParallel)):
            inner = model.module
        if inner is None:
            return model
        model = inner


def process_rank() -> tuple[int, int]:
    """Rank of this process and how many there are; (0, 1) for a training in one process.

    Before the process group exists, from the environment that ``torchrun`` sets.
    """
    group = torch.distributed
    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if rank.isdecimal() and size.isdecimal() and int(rank) < int(size):
        return int(rank), int(size)
    return 0, 1


def data_parallel_rank() -> int | None:
    """This process's place among the copies of the DDP model whose forward is running.

    None where there is none: neither a collective nor a read of a tensor is needed to know.
    """
    running = getattr(DistributedDataParallel, "_active_ddp_module", None)
    if running is None:
        return None
    return int(torch.distributed.get_rank(running.process_group))


@dataclass(frozen=True, slots=True)
class FlatShare:
    """What FSDP1 made of a parameter: a part of a flat one, of which each rank keeps a shard.

    Attributes:
        flat: the flat parameter; it alone takes a gradient in backward.
        whole: a meta tensor with the shape of the whole parameter.
        copy: how many ranks before this one keep the same shard.
        owner: the module of FSDP1.
    """

    flat: nn.Parameter
    whole: torch.Tensor
    copy: int
    owner: nn.Module

    @property
    def is_reduced(self) -> bool:
        """Whether backward reduces gradients now; in ``no_sync`` there are none of the shard."""
        return bool(vars(self.owner).get("_sync_gradients", True))


def flat_shares(model: nn.Module) -> dict[int, FlatShare]:
    """The parameters of a model that ``FullyShardedDataParallel`` keeps, by their identity.

    With ``use_orig_params=False`` that is the flat parameter itself.
    """
    return dict(share for module in model.modules() for share in _shares_of(module))


def _shares_of(module: nn.Module) -> Iterator[tuple[int, FlatShare]]:
    handle: Any = vars(module).get("_handle")
    flat = getattr(handle, "flat_param", None)
    if not isinstance(flat, nn.Parameter):
        return
    copy = _flat_copy(module, handle)
    size: Any = getattr(flat, "_unpadded_unsharded_size", flat.shape)
    yield id(flat), FlatShare(flat, torch.empty(size, device="meta"), copy, module)
    shapes: Any = getattr(flat, "_shapes", ())
    for parameter, shape in zip(getattr(flat, "_params", None) or (), shapes, strict=False):
        whole = torch.empty(shape, device="meta")
        yield id(parameter), FlatShare(flat, whole, copy, module)


def _flat_copy(module: nn.Module, handle: Any) -> int:
    """0 for full sharding; with none, or within groups of ranks, the place among the copies."""
    between_groups = vars(module).get("_inter_node_pg")
    if between_groups is not None:
        return int(torch.distributed.get_rank(between_groups))
    if getattr(handle, "uses_sharded_strategy", True):
        return 0
    return int(torch.distributed.get_rank(handle.process_group))


def copy_index(parameter: torch.Tensor, rank: int | None) -> int:
    """How many copies of the same values come before this one, 0 for the first.

    Args:
        parameter: a ``DTensor`` is a copy along the dimensions of its mesh on which it is
            replicated; any other tensor is a copy if DDP keeps it equal.
        rank: place among the copies of DDP, None without DDP.
    """
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return rank or 0
    index = 0
    places: Any = getattr(parameter, "placements", ())
    for size, at, placement in zip(mesh.shape, mesh.get_coordinate() or (), places, strict=False):
        if placement.is_replicate():
            index = index * int(size) + int(at)
    return index


def after_reduction(call: Callable[[], None]) -> bool:
    """Run ``call`` after the backward pass that is running, and after gradients are reduced.

    DDP's reducer ends its work in a callback at the end of backward, which it asks for after the
    first gradient is ready; FSDP1 puts gradients in place in one. A callback that asks for
    another one comes behind it.

    Returns:
        whether that is possible; False if not, and nothing is run then.
    """
    if _queue is None:
        return False
    queue = _queue
    try:
        queue(lambda: queue(call))
    except RuntimeError:  # no backward pass is running
        return False
    return True
