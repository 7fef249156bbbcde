"""Trainings whose outcome is known: exact arithmetic, skipped steps, a blind start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from precscope.recipe import LossScaling, Recipe
from precscope.training import train
from precscope.workload import Workload
from tests.known_answers.claims import Case, Claim, exactly
from tests.known_answers.workloads import Heads, analysed, heads, sgd, weighted_sum, workload

RECIPES = ("advised", "fp16", "paper", "paper-no-scaling", "paper-no-master")


def _exact_arithmetic(folder: Path) -> Iterable[Claim]:
    batch = (torch.ones(1, 8), {"body": torch.full((32,), 2.0**-4)})
    subject = workload(lambda: Heads(("body",)), weighted_sum, [batch], sgd(2.0**-3))
    result = analysed(subject, folder, recipes=RECIPES, recipe_steps=10)
    reference = result["runs"][0]["losses"]
    for run in result["runs"][1:]:
        unequal = sum(a != b for a, b in zip(run["losses"], reference, strict=True))
        yield exactly(f"losses of {run['recipe']} unlike FP32's", 0, unequal, "of 10, to the bit")
        yield exactly(f"steps {run['recipe']} skipped", 0, run["skipped_steps"])
    residual = [point["excess"] for point in result["residual"]["points"]]
    yield exactly("residual errors, over what is tolerated", [0.0] * 3, residual)
    behind = [c["name"] for c in (result["parity"]["loss"],) if any(c["differences"])]
    yield exactly("seeds that differ from FP32", [], behind)


def _blind_start(exponent: int) -> Case:
    skipped = max(0, exponent + 1)

    def judge(folder: Path) -> Iterable[Claim]:
        subject = heads({"body": 2.0**exponent})
        result = analysed(subject, folder, recipes=("advised", "fp16"), recipe_steps=12)
        runs = {run["recipe"]: run["skipped_steps"] for run in result["runs"]}
        yield exactly("steps that GradScaler skips", skipped, runs["fp16"])
        yield exactly("steps that the advice skips", 0, runs["advised"])

    why = (
        f"GradScaler starts at 2^16, where gradients of 2^{exponent} are 2^{exponent + 16}; it halves"
        f" until they are 2^15, {skipped} times"
    )
    return Case(f"blind-start-skips-{skipped}-steps", why, judge)


class Normalised(nn.Module):
    """BatchNorm, whose counters move in forward, before a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.body = nn.Linear(8, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        out: torch.Tensor = self.body(self.norm(x))
        return out


BAD = 3
"""Batch whose gradient overflows at the scale in force."""


def _trained(batches: list[Any], seed: int) -> dict[str, torch.Tensor]:
    """Weights, buffers and optimizer counters after one pass at a static scale of 2^12."""
    kept: list[torch.optim.Optimizer] = []
    state: dict[str, torch.Tensor] = {}

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        kept.append(torch.optim.Adam(model.parameters(), 1e-2))
        return kept[-1]

    def evaluate(model: nn.Module) -> dict[str, float]:
        state.update({name: value.clone() for name, value in model.state_dict().items()})
        counters = [entry["step"].clone() for entry in kept[-1].state.values()]
        state["optimizer steps"] = torch.stack(counters)
        return {}

    subject: Workload = workload(
        Normalised,
        lambda model, batch: (model(batch[0]).float() * batch[1]).sum(),
        batches,
        optimizer,
        evaluate,
    )
    recipe = replace(Recipe.named("paper"), loss_scaling=LossScaling("static", 12))
    run = train(subject, recipe, len(batches), seed, device="cpu")
    return {**state, "skipped": torch.tensor(run.skipped_at)}


def _skipped_step(folder: Path) -> Iterable[Claim]:
    good = [(torch.randn(4, 8), torch.full((32,), 2.0**-4)) for _ in range(7)]
    bad = (torch.randn(4, 8), torch.full((32,), 2.0**8))
    with_bad, without = _trained([*good[:BAD], bad, *good[BAD:]], 1), _trained(good, 1)
    yield exactly("steps skipped", [BAD], with_bad.pop("skipped").tolist())
    yield exactly("steps skipped without that batch", [], without.pop("skipped").tolist())
    yield exactly("batches that BatchNorm counted", 7, int(with_bad["norm.num_batches_tracked"]))
    counted = sorted(set(with_bad["optimizer steps"].tolist()))
    yield exactly("steps that Adam counted", [7.0], counted)
    unequal = [name for name, value in without.items() if not torch.equal(with_bad[name], value)]
    yield exactly("tensors unlike those without it", [], unequal, "to the bit")


CASES = (
    Case(
        "exact-arithmetic-is-exact",
        "weights, outputs, gradients and updates are all multiples of 2^-10 below 4: FP16 holds every"
        " one of them, so that no recipe can differ from FP32 by a bit",
        _exact_arithmetic,
    ),
    _blind_start(-1),
    _blind_start(0),
    _blind_start(3),
    Case(
        "a-skipped-step-never-was",
        "one batch of eight overflows at the scale: weights, running statistics and every counter end"
        " as if it had not been there",
        _skipped_step,
    ),
)
