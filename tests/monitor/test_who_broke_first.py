"""The first place that was not finite is named, after the fact, from the Recording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import precscope
from precscope.advice.blame import Break, blame_findings


class Overflowing(nn.Module):
    """Multiplies by a factor that the test sets."""

    factor = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class SquareRoot(nn.Module):
    """Finite at 0, with an infinite derivative there."""

    at_zero = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.square() * (0.0 if self.at_zero else 1.0) + 1e-60 * 0).sqrt()


class Masked(nn.Module):
    """Holds infinities in every healthy step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, -torch.inf).detach()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.mask = Masked()
        self.middle = Overflowing()
        self.root = SquareRoot()
        self.last = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = y + self.mask(y).exp()
        return self.last(self.root(self.middle(y)))


def trained(
    path: Path, breaking: Callable[[Model, int, torch.Tensor], None], **options: object
) -> precscope.Recording:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with precscope.watch(model, optimizer, path=path, every=1, **options) as watch:  # type: ignore[arg-type]
        for step in range(6):
            x = torch.randn(3, 4)
            breaking(model, step, x)
            optimizer.zero_grad()
            loss = model(x).square().mean()
            watch.monitor.record_loss(loss)
            loss.backward()
            optimizer.step()
    return precscope.Recording.open(path)


def overflow(model: Model, step: int, x: torch.Tensor) -> None:
    model.middle.factor = 10.0**step if step < 4 else 1e39


def infinite_slope(model: Model, step: int, x: torch.Tensor) -> None:
    model.root.at_zero = step == 3


def bad_batch(model: Model, step: int, x: torch.Tensor) -> None:
    if step == 2:
        x[0, 0] = torch.nan


def bad_weight(model: Model, step: int, x: torch.Tensor) -> None:
    if step == 5:
        with torch.no_grad():
            model.first.weight[0, 0] = torch.inf


CASES: dict[str, tuple[Callable[[Model, int, torch.Tensor], None], int, str, str]] = {
    "a forward pass that overflows": (overflow, 4, "forward", "middle"),
    "an infinite derivative": (infinite_slope, 3, "backward", "middle"),
    "a bad batch": (bad_batch, 2, "input", "first"),
    "a broken weight": (bad_weight, 5, "weight", "first.weight"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_bad_place_is_named_with_its_step(name: str, tmp_path: Path) -> None:
    breaking, step, origin, site = CASES[name]
    advice = precscope.advise(trained(tmp_path / "run.precscope", breaking))
    first = advice.breaks[0]
    assert (first.step, first.origin, first.site) == (step, origin, site)
    finding = next(iter(advice))
    assert (finding.rule, finding.severity, finding.site) == ("first_non_finite", "critical", site)
    assert f"Step {step}" in finding.message


def test_the_way_there_is_kept(tmp_path: Path) -> None:
    recording = trained(tmp_path / "run.precscope", overflow)
    first = precscope.advise(recording).breaks[0]
    assert [step for step, _ in first.trail] == [0, 1, 2, 3]
    grown = [amax for _, amax in first.trail]
    assert grown == sorted(grown)
    assert grown[-1] > 300 * grown[0]
    assert first.amax_before == grown[-1]
    result = precscope.build_result(recording)
    assert result["non_finite"][0]["site"] == "middle"


def test_a_healthy_run_has_no_break_though_a_mask_holds_infinities(tmp_path: Path) -> None:
    advice = precscope.advise(trained(tmp_path / "run.precscope", lambda *_: None))
    assert advice.breaks == ()
    assert not any(f.rule in ("first_non_finite", "skipped_steps") for f in advice)


def test_only_the_latest_and_the_first_half_of_many_breaks_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    path = tmp_path / "run.precscope"
    with precscope.watch(model, optimizer, path=path, every=1):
        for _ in range(100):
            (model(torch.randn(1, 2)).sum() * torch.inf).backward()
            optimizer.step()
    document = precscope.Recording.open(path).document("non_finite")
    steps = [mark["step"] for mark in document["steps"]]
    assert document["count"] == 100
    assert steps == [*range(32), *range(68, 100)]


def skip(step: int, parameter: str) -> Break:
    site = "head"
    return Break(step, 16.0, True, "backward", site, "activation_gradient", 3, parameter, site, ())


def test_skipped_steps_are_attributed_to_a_parameter_and_the_gradient_upstream() -> None:
    (finding,) = blame_findings([skip(0, "head.weight"), skip(9, "head.weight")], 2, 1000)
    assert (finding.rule, finding.severity, finding.site) == ("skipped_steps", "ok", "head.weight")
    assert finding.evidence["upstream"] == "head"
    (finding,) = blame_findings([skip(i, "head.weight") for i in range(9)], 9, 100)
    assert finding.severity == "warning"
