"""Bit-identity, coverage and overhead of watching, over a zoo of small architectures.

    python benchmarks/zoo.py [--steps 20] [--only NAME]

Every model trains from the same seed with and without observers. The table says whether losses,
weights and the random stream are the same bits, how many modules were observed, what was left
out, and the ratio of the median step times (tiny models: the worst case for overhead).
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from zoo_models import ZOO, Step

from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink


@dataclass(slots=True)
class Training:
    """What a run left behind.

    Attributes:
        losses: one per step.
        weights: the state dict at its end, with the state of the random stream.
        step_ms: wall time of each step.
        coverage: what the monitor saw, empty without one.
    """

    losses: list[torch.Tensor] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    step_ms: list[float] = field(default_factory=list)
    coverage: dict[str, Any] = field(default_factory=dict)


def train(name: str, steps: int, watched: bool) -> Training:
    """Train one model of the zoo from a fixed seed."""
    torch.manual_seed(0)
    model, step = ZOO[name]()
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    elif any(getattr(m, "sparse", False) for m in model.modules()):
        optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    monitor = Monitor(model, optimizer, NullSink()) if watched else None
    run = Training()
    for _ in range(steps):
        _step(model, step, optimizer, run)
    if monitor is not None:
        monitor.close()
        run.coverage = monitor.coverage()
    run.weights = {**model.state_dict(), "random stream": torch.get_rng_state()}
    return run


def _step(model: nn.Module, step: Step, optimizer: torch.optim.Optimizer, run: Training) -> None:
    began = time.perf_counter()
    optimizer.zero_grad()
    loss = step(model)
    loss.backward()
    optimizer.step()
    run.step_ms.append((time.perf_counter() - began) * 1e3)
    run.losses.append(loss.detach())


def same_bits(a: Training, b: Training) -> bool:
    """Whether two runs have the same losses, weights and random stream."""
    losses = all(torch.equal(x, y) for x, y in zip(a.losses, b.losses, strict=True))
    return losses and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


def row(name: str, steps: int) -> str:
    """One line of the table; an exception is shown in it."""
    try:
        plain, watched = train(name, steps, False), train(name, steps, True)
    except Exception as error:  # noqa: BLE001 - a crash is a result of this benchmark
        return f"| {name} | CRASH: {type(error).__name__}: {error} | | | | |"
    seen, unseen = watched.coverage["modules_seen"], watched.coverage["modules_not_seen"]
    missed = [m["name"] for m in unseen if "hands on" not in m["reason"]]
    ratio = statistics.median(watched.step_ms) / statistics.median(plain.step_ms)
    errors = len(watched.coverage["observer_errors"])
    bits = "same" if same_bits(plain, watched) else "DIFFERENT"
    left_out = ", ".join(missed[:3]) + (" …" if len(missed) > 3 else "")
    return f"| {name} | {bits} | {seen} | {left_out} | {errors} | {ratio:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=sorted(ZOO))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| architecture | bits | modules seen | not called | observer errors | step time ratio |")
    print("|---|---|---|---|---|---|")
    for name in [options.only] if options.only else ZOO:
        print(row(name, options.steps), flush=True)


if __name__ == "__main__":
    main()
