"""Ways to train on two processes, each run unobserved and observed; started by torchrun.

Every case prints one line of JSON per rank, and leaves a Recording per rank in the folder that is
named on the command line. The arithmetic is that of ``training.py``: no sum is ever rounded.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.amp import GradScaler
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    fp16_compress_hook,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel as Fsdp1
from torch.distributed.fsdp import MixedPrecisionPolicy, ShardingStrategy, fully_shard
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.tensor import DTensor, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import precscope
from tests.distributed.training import exact_batch, whole
from tests.support.program_state import program_state, residue

HIDDEN = 6
LOG2_SCALE = 10
POISON = 2.0**120
"""With it in a batch, the gradients of that rank overflow once the loss is scaled."""


def exact_net() -> nn.Sequential:
    """Layers of even width, so that two processes can share them."""
    model = nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-12, 13, parameter.shape, generator=generator) / 8)
    return model


class WithUnused(nn.Module):
    """A net beside a layer that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.net = exact_net()
        self.unused = nn.Linear(3, 3)
        nn.init.ones_(self.unused.weight)
        nn.init.ones_(self.unused.bias)

    def forward(self, x: torch.Tensor) -> Any:
        """Call the net."""
        return self.net(x)


class Checkpointed(nn.Module):
    """A net that is computed again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = exact_net()

    def forward(self, x: torch.Tensor) -> Any:
        """Call the net under a checkpoint."""
        return checkpoint(self.net, x, use_reentrant=False)


def ddp(inner: Callable[[], nn.Module] = exact_net, **options: Any) -> nn.Module:
    """The model under DDP."""
    return DistributedDataParallel(inner(), **options)


def rounded(group: Any, bucket: Any) -> Any:
    """A hook that rounds to eight bits of mantissa."""
    mean = bucket.buffer().bfloat16().float() / dist.get_world_size()
    future = dist.all_reduce(mean, async_op=True).get_future()
    return future.then(lambda reduced: reduced.value()[0])


def compressed(hook: Callable[..., Any]) -> nn.Module:
    """DDP whose gradients travel in half."""
    model = DistributedDataParallel(exact_net())
    model.register_comm_hook(None, lambda group, bucket: hook(group, bucket))  # no annotations
    return model


def fsdp1(**options: Any) -> nn.Module:
    """``FullyShardedDataParallel`` around both layers and the model."""
    wrap: Any = partial(Fsdp1, device_id=torch.device("cpu"), **options)
    model = exact_net()
    with warnings.catch_warnings():  # NO_SHARD is deprecated
        warnings.simplefilter("ignore", FutureWarning)
        model[0], model[2] = wrap(model[0]), wrap(model[2])
        wrapped: nn.Module = wrap(model)
    return wrapped


def fsdp2(inner: Callable[[], nn.Module] = exact_net, **options: Any) -> nn.Module:
    """``fully_shard`` on both layers and the model."""
    model = inner()
    for layer in (m for m in list(model.modules()) if isinstance(m, nn.Linear)):
        fully_shard(layer, **options)
    fully_shard(model, **options)
    return model


def hybrid(*shape: int) -> nn.Module:
    """FSDP2 on a mesh of two dimensions: copies, then shards."""
    return fsdp2(mesh=init_device_mesh("cpu", shape, mesh_dim_names=("copies", "shards")))


def mixed(dtype: torch.dtype) -> nn.Module:
    """FSDP2 that computes in ``dtype`` and reduces in FP32."""
    return fsdp2(mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32))


def wrapped_checkpoints() -> nn.Module:
    """Layers inside of torch's wrapper for activation checkpointing."""
    model = exact_net()
    model[0], model[2] = checkpoint_wrapper(model[0]), checkpoint_wrapper(model[2])
    return model


def tensor_parallel(local: bool) -> nn.Module:
    """The hidden units shared between the processes."""
    plan = {
        "0": ColwiseParallel(use_local_output=local),
        "2": RowwiseParallel(use_local_output=local),
    }
    return parallelize_module(exact_net(), init_device_mesh("cpu", (2,)), plan)


def copied_parameters() -> nn.Module:
    """Parameters that are DTensors, each process with a part of the batch."""

    def share(module: nn.Module, inputs: Any, mesh: Any) -> Any:
        return (DTensor.from_local(inputs[0], mesh, [Shard(0)]),)

    def back(module: nn.Module, output: Any, mesh: Any) -> Any:
        return output.to_local()

    return distribute_module(exact_net(), init_device_mesh("cpu", (2,)), None, share, back)


@dataclass(frozen=True)
class Case:
    """How one training is set up.

    Attributes:
        make: the model.
        parts: micro-batches of a step; all but the last in ``no_sync``, where there is one.
        same_batch: whether every rank gets the whole batch.
        adds: whether gradients of the ranks are added up, not averaged.
        scaler: the GradScaler, if any; then a step of three overflows on one rank.
        tells_scaler: whether the observer is given it.
    """

    make: Callable[[], nn.Module]
    parts: int = 1
    same_batch: bool = False
    adds: bool = False
    scaler: type[GradScaler] | None = None
    tells_scaler: bool = True


CASES: dict[str, Case] = {
    "ddp no_sync": Case(ddp, parts=2),
    "ddp buckets": Case(partial(ddp, gradient_as_bucket_view=True)),
    "ddp buckets no_sync": Case(partial(ddp, gradient_as_bucket_view=True), parts=2),
    "ddp static": Case(partial(ddp, static_graph=True)),
    "ddp unused": Case(partial(ddp, WithUnused, find_unused_parameters=True)),
    "ddp fp16 hook": Case(partial(compressed, fp16_compress_hook)),
    "ddp own hook": Case(partial(compressed, rounded)),
    "fsdp1": Case(partial(fsdp1, use_orig_params=True)),
    "fsdp1 flat": Case(fsdp1),
    "fsdp1 copies": Case(
        partial(fsdp1, use_orig_params=True, sharding_strategy=ShardingStrategy.NO_SHARD)
    ),
    "fsdp1 no_sync": Case(partial(fsdp1, use_orig_params=True), parts=2),
    "hybrid copies": Case(partial(hybrid, 2, 1)),
    "hybrid shards": Case(partial(hybrid, 1, 2)),
    "tensor parallel": Case(partial(tensor_parallel, True), same_batch=True),
    "tensor parallel dtensor": Case(partial(tensor_parallel, False), same_batch=True),
    "copied dtensors": Case(copied_parameters, adds=True),
    "fsdp2 bfloat16": Case(partial(mixed, torch.bfloat16)),
    "fsdp2 float16": Case(partial(mixed, torch.float16)),
    "fsdp2 checkpoint": Case(partial(fsdp2, Checkpointed)),
    "fsdp2 checkpoint wrapper": Case(partial(fsdp2, wrapped_checkpoints)),
    "fsdp2 parts": Case(fsdp2, parts=2),
    "scaler ddp": Case(ddp, scaler=GradScaler),
    "scaler ddp found": Case(ddp, scaler=GradScaler, tells_scaler=False),
    "scaler fsdp1": Case(partial(fsdp1, use_orig_params=True), scaler=ShardedGradScaler),
    "scaler fsdp2": Case(fsdp2, scaler=GradScaler),
    "scaler fsdp2 found": Case(fsdp2, scaler=ShardedGradScaler, tells_scaler=False),
}


def train(case: Case, path: Path | None, rank: int, ranks: int) -> dict[str, Any]:
    """Losses, final weights and the gradients that the optimizer gets, on one rank."""
    model = case.make()
    optimizer = torch.optim.SGD(model.parameters(), 0.125)
    scaler = case.scaler("cpu", init_scale=2.0**LOG2_SCALE) if case.scaler else None
    watching = None
    if path is not None:
        told = scaler if case.tells_scaler else None
        watching = precscope.watch(model, optimizer, path=path, every=1, scaler=told)
    losses, gradients = [], dict.fromkeys(names(model), 0.0)
    for step in range(3 if scaler else 2):
        optimizer.zero_grad()
        poison = POISON if scaler and (step, rank) == (1, 1) else 1.0
        for loss in passes(case, model, step, poison, rank, ranks):
            losses.append(loss.detach())
            (loss if scaler is None else scaler.scale(loss)).backward()
        for name, parameter in zip(names(model), model.parameters(), strict=True):
            gradients[name] += magnitude(parameter.grad)
        (optimizer if scaler is None else scaler).step(*(() if scaler is None else (optimizer,)))
        if scaler is not None:
            scaler.update()
    coverage = None
    if watching is not None:
        watching.close()
        coverage = watching.monitor.coverage()
    return {
        "losses": losses,
        "weights": weights(model),
        "gradients": gradients,
        "coverage": coverage,
    }


def passes(
    case: Case, model: nn.Module, step: int, poison: float, rank: int, ranks: int
) -> Iterator[torch.Tensor]:
    """The losses of a step's micro-batches; what is done with one is done in ``no_sync`` too."""
    inputs, targets = exact_batch(step)
    if not case.same_batch:
        inputs, targets = inputs.chunk(ranks)[rank], targets.chunk(ranks)[rank]
    pairs = zip(inputs.chunk(case.parts), targets.chunk(case.parts), strict=True)
    for part, (x, y) in enumerate(pairs, start=1):
        waits = part < case.parts and hasattr(model, "no_sync")
        with model.no_sync() if waits else nullcontext():  # type: ignore[operator]
            output = model(x * poison)
            if isinstance(output, DTensor):
                output = output.full_tensor()
            yield (output.float() * y).sum() / (len(inputs) * (ranks if case.adds else 1))


def names(model: nn.Module) -> list[str]:
    """Names of the parameters, as the Recording has them."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return [name for name, _ in inner.named_parameters()]


def magnitude(gradient: torch.Tensor | None) -> float:
    """Sum of the magnitudes of what this rank holds of a gradient."""
    if gradient is None:
        return 0.0
    local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    return float(local.double().abs().sum())


def weights(model: nn.Module) -> list[torch.Tensor]:
    """All parameters, whole."""
    if isinstance(model, Fsdp1):
        with Fsdp1.summon_full_params(model):
            return [parameter.detach().clone() for parameter in model.parameters()]
    return [whole(parameter.detach()) for parameter in model.parameters()]


def report(name: str, folder: Path, rank: int, ranks: int) -> dict[str, Any]:
    """What came of a case on this rank, for the test to judge."""
    case = CASES[name]
    plain = train(case, None, rank, ranks)
    before = program_state()
    watched = train(case, folder / f"{name}.precscope", rank, ranks)
    pairs = [
        pair for key in ("losses", "weights") for pair in zip(plain[key], watched[key], strict=True)
    ]
    return {
        "case": name,
        "rank": rank,
        "identical": all(torch.equal(a, b) for a, b in pairs),
        "left": residue(before, program_state()),
        "errors": watched["coverage"]["observer_errors"],
        "skipped": watched["coverage"]["tensors_skipped"],
        "gradients": watched["gradients"],
    }


def main(folder: Path) -> None:
    """Run every case."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in CASES:
        line = json.dumps(report(name, folder, dist.get_rank(), dist.get_world_size()))
        print(f"\n{line}", flush=True)
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
