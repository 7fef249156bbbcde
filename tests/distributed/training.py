"""A training whose arithmetic is exact, in one process or in several started by torchrun.

Weights, inputs and the loss are small multiples of powers of two, so that no sum is ever rounded
and its order does not matter: counts may be compared for equality.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import precscope

BATCH, STEPS = 8, 2


def exact_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Odd sizes: the second rank of two gets the smaller shard, and none of the last bias."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 1)).to(dtype)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            eighths = torch.randint(-12, 13, parameter.shape, generator=generator)
            parameter.copy_(eighths / 8)
    return model


def exact_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    inputs = torch.randint(-3, 4, (BATCH, 4), generator=generator).float()
    return inputs, torch.randint(-2, 3, (BATCH, 1), generator=generator).float()


def wrapped(model: nn.Module, wrapper: str) -> nn.Module:
    if wrapper.startswith("ddp"):
        return DistributedDataParallel(model)
    if wrapper == "fsdp":
        for layer in (model[0], model[2]):  # type: ignore[index]
            fully_shard(layer)
        fully_shard(model)
    return model


def train(
    wrapper: str, path: Path | None, rank: int = 0, ranks: int = 1, **options: Any
) -> dict[str, Any]:
    """Losses and final weights of ``STEPS`` steps on this rank's part of each batch."""
    inner = exact_model(options.get("dtype", torch.float32))
    if wrapper == "ddp inside":
        model, optimizer = inner, torch.optim.SGD(inner.parameters(), 0.125)
    else:
        model = wrapped(inner, wrapper)
        optimizer = torch.optim.SGD(model.parameters(), 0.125)
    if path is not None:
        watching = precscope.watch(model, optimizer, path=path, every=1)
    if wrapper == "ddp inside":
        model = wrapped(inner, wrapper)
    losses = []
    for step in range(STEPS):
        inputs, targets = (part.chunk(ranks)[rank] for part in exact_batch(step))
        dtype = next(model.parameters()).dtype
        optimizer.zero_grad()
        loss = (model(inputs.to(dtype)) * targets.to(dtype)).sum() / len(inputs)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    if path is not None:
        watching.close()
        assert not watching.monitor.coverage()["observer_errors"]
    return {"losses": losses, "weights": [whole(p.detach()) for p in model.parameters()]}


def whole(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.clone()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    results = {}
    for wrapper in ("ddp", "ddp inside", "fsdp"):
        path = folder / f"{wrapper}.precscope"
        results[f"{wrapper} watched"] = train(wrapper, path, rank, ranks)
        results[wrapper] = train(wrapper, None, rank, ranks)
    torch.save(results, folder / f"results.rank{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
