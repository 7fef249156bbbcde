"""Master weights: what FP16 weights cost, and which number of the FP32 run foresees it.

With the FP32 update u and d = fp16(fp16(w) + u) - fp16(w), at four steps of the FP32 run: the share
of non-zero updates lost (d = 0), and the retention R = <d, u> / <u, u>. Progress kept is the fall of
the validation loss with FP16 weights, over its fall with FP32 master weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import small_lr_mlp as example
import torch
from half_storage import half_storage
from torch.nn import functional as F

RATES = [(0.05, 0.9), (0.05, 0.0), (0.01, 0.0), (3e-3, 0.0), (1e-3, 0.0), (3e-4, 0.9), (1e-4, 0.9)]
ARMS = ("fp32", "fp32 master", "fp16 weights")
LOSS_SCALE = 1024.0
EARLIEST = 10


@dataclass(frozen=True, slots=True)
class Run:
    """Validation loss before and after, accuracy; per probed step, the lost share and R."""

    first_loss: float
    loss: float
    accuracy: float
    probes: list[tuple[float, float]]


def train(arm: str, rate: float, momentum: float, seed: int, steps: int) -> Run:
    """One training by hand-written SGD, the same seed giving the same batches to every arm."""
    torch.manual_seed(seed)
    model = example.model()
    weights = list(model.parameters())
    store = _to_half if arm == "fp16 weights" else torch.Tensor.float
    _assign(weights, [store(w) for w in weights])
    first_loss, _ = _validate(model)
    velocity = [torch.zeros_like(w) for w in weights]
    probes = []
    for step, batch in enumerate(itertools.islice(_batches(), steps)):
        gradients = _gradients(model, batch, arm)
        velocity = [store(momentum * v + g) for v, g in zip(velocity, gradients, strict=True)]
        updates = [store(-rate * v) for v in velocity]
        if arm == "fp32" and step in probe_steps(steps):
            probes.append(lost_and_retention(weights, updates))
        _assign(weights, [store(w + u) for w, u in zip(weights, updates, strict=True)])
    return Run(first_loss, *_validate(model), probes)


def probe_steps(steps: int) -> list[int]:
    """Steps at which the updates are looked at: early, and through to nearly the end."""
    return [EARLIEST, steps // 15, steps // 3, steps - steps // 15]


def lost_and_retention(
    weights: list[torch.Tensor], updates: list[torch.Tensor]
) -> tuple[float, float]:
    """Share of non-zero updates that FP16 weights ignore, and R, over all parameters."""
    w16 = torch.cat([w.detach().flatten() for w in weights]).half().double()
    u = torch.cat([u.flatten() for u in updates]).double()
    d = (w16 + u).half().double() - w16
    nonzero = u != 0
    return ((d == 0) & nonzero).sum().item() / nonzero.sum().item(), (d @ u / (u @ u)).item()


def table(seeds: int, steps: int) -> Iterator[str]:
    """The markdown lines of the table, and how near the two numbers come to the progress kept."""
    yield f"Validation loss (accuracy) after {steps} steps, means over seeds: {seeds}."
    yield ""
    yield f"| lr, momentum | {' | '.join(ARMS)} | progress kept | updates lost | R |"
    yield "|---|" + "---|" * (len(ARMS) + 3)
    rows = []
    for rate, momentum in RATES:
        runs = {arm: [train(arm, rate, momentum, s, steps) for s in range(seeds)] for arm in ARMS}
        kept = _progress(runs["fp16 weights"]) / _progress(runs["fp32 master"])
        lost, retention = np.mean([run.probes for run in runs["fp32"]], axis=0).T
        rows.append((kept, 1 - lost.mean(), retention.mean()))
        cells = [f"{rate:g}, {momentum:g}", *(_cell(runs[arm]) for arm in ARMS), f"{kept:.2f}"]
        cells.append(" ".join(f"{value:.0%}" for value in lost))
        cells.append(" ".join(f"{value:.2f}" for value in retention))
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from _verdict(*np.array(rows).T)


def _verdict(kept: np.ndarray, not_lost: np.ndarray, retention: np.ndarray) -> Iterator[str]:
    yield "Each number, averaged over its four steps and read as a forecast of the progress kept:"
    yield ""
    for name, forecast in (("1 - updates lost", not_lost), ("R", retention)):
        errors = np.abs(forecast - kept)
        ranks = rank_correlation(forecast, kept)
        yield (
            f"- {name}: off by {errors.mean():.2f} in the mean and {errors.max():.2f} at worst,"
            f" rank correlation {ranks:+.2f}"
        )


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's coefficient, for values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def _to_half(x: torch.Tensor) -> torch.Tensor:
    return x.half().float()


def _batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from example.batches()


def _gradients(model, batch, arm: str) -> list[torch.Tensor]:
    if arm == "fp32":
        return list(torch.autograd.grad(example.loss(model, batch), list(model.parameters())))
    with half_storage(model) as forward:
        scaled = example.loss(forward, batch) * LOSS_SCALE
        gradients = torch.autograd.grad(scaled, list(model.parameters()))
    return [gradient / LOSS_SCALE for gradient in gradients]


@torch.no_grad()
def _assign(weights: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


@torch.no_grad()
def _validate(model) -> tuple[float, float]:
    pixels, labels = (part[: example.TEST_DIGITS] for part in example.digits())
    loss = F.cross_entropy(model(pixels), labels).item()
    return loss, example.evaluate(model)["accuracy"]


def _progress(runs: list[Run]) -> float:
    return float(np.mean([run.first_loss - run.loss for run in runs]))


def _cell(runs: list[Run]) -> str:
    loss, accuracy = np.mean([(run.loss, run.accuracy) for run in runs], axis=0)
    return f"{loss:.3f} ({accuracy:.0%})"
