"""Small workloads out of functions, and the real flow that they are put through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from precscope import Recording, build_result, watch
from precscope.analysis import AnalysisOptions, analyze
from precscope.workload import Workload

Result = dict[str, Any]

SILENT_RATE = 2.0**-20
"""A learning rate for workloads whose gradients do not depend on their weights."""


class Silent:
    """Progress that nobody watches."""

    def phase(self, name: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Say nothing."""


def workload(
    model: Callable[[], nn.Module],
    loss: Callable[[Any, Any], torch.Tensor],
    batches: Iterable[Any],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
) -> Workload:
    """What ``load_workload`` makes of a model file; plain SGD if no optimizer is given."""
    made = list(batches)
    return Workload(
        "known_answer", Path(__file__), model, lambda: made, loss, optimizer or sgd(), evaluate, False
    )  # fmt: skip


def sgd(rate: float = SILENT_RATE) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Plain SGD, whose update is exactly the rate times the gradient."""
    return lambda model: torch.optim.SGD(model.parameters(), rate)


def analysed(
    subject: Workload,
    folder: Path,
    steps: int = 12,
    recipes: tuple[str, ...] = (),
    recipe_steps: int = 10,
) -> Result:
    """The result of ``precscope analyze`` on the CPU, which trains only the recipes named."""
    settings = AnalysisOptions(
        steps=steps,
        device="cpu",
        train=bool(recipes),
        recipes=recipes,
        recipe_steps=recipe_steps,
        seeds=1,
    )
    path = folder / "run.precscope"
    return build_result(analyze(subject, path, settings, "known answers", Silent()))


def watched(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Callable[[int], torch.Tensor],
    steps: int,
    folder: Path,
) -> Result:
    """The result of ``precscope.watch`` around a plain training loop.

    Args:
        model: what is trained.
        optimizer: its optimizer.
        step: the loss of step i; it may change the learning rate.
        steps: how many.
        folder: where the Recording goes.
    """
    path = folder / "watched.precscope"
    with watch(model, optimizer, every=1, path=path, overwrite=True):
        for i in range(steps):
            optimizer.zero_grad()
            step(i).backward()
            optimizer.step()
    return build_result(Recording.open(path))


WIDTH = 32
"""Outputs of a head."""


class Heads(nn.Module):
    """Linear layers side by side, whose output gradients are whatever the loss says.

    With a batch of one row of ones, the gradient of each output, and that of each weight, is
    exactly the head's coefficient in ``weighted_sum``, whatever the weights are.
    """

    def __init__(self, names: Iterable[str], width: int = WIDTH, weight: float = 0.5) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(8, width, bias=False) for name in names})
        for parameter in self.parameters():
            nn.init.constant_(parameter, weight)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The output of every head by its name."""
        return {name: head(x) for name, head in self.heads.items()}


Coefficients = Mapping[str, torch.Tensor]


def weighted_sum(model: Heads, batch: tuple[torch.Tensor, Coefficients]) -> torch.Tensor:
    """``sum of output * coefficient`` over all heads; the product is float32."""
    outputs = model(batch[0])
    terms = [(outputs[name] * coefficient).sum() for name, coefficient in batch[1].items()]
    return torch.stack(terms).sum()


def heads(*coefficients: Mapping[str, torch.Tensor | float]) -> Workload:
    """Heads on batches of one row of ones, one batch per mapping from head to coefficient."""
    made = [
        # As wide as the output: a tensor of no dimension would leave the product in float16.
        (torch.ones(1, 8), {name: c * torch.ones(WIDTH) for name, c in batch.items()})
        for batch in coefficients
    ]
    first = tuple(coefficients[0])
    return workload(lambda: Heads(first), weighted_sum, made)
