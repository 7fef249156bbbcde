"""Where a step ends: scalers that skip, fused optimizers, several optimizers, closures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from precscope.histogram import ExponentHistogram
from precscope.monitor import Monitor, Schedule
from precscope.monitor.rounds import PATIENCE, StepRounds
from tests.support.memory_sink import MemorySink

Build = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Build] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, 1e-3),
    "fused adamw": lambda parameters: torch.optim.AdamW(parameters, 1e-3, fused=True),
}


def scaled_training(
    build: Build, *, pass_scaler: bool, overflow_at: int | None, scale: float = 1024.0,
    watched: bool = True, every: int = 1, unscale: bool = False,
) -> tuple[MemorySink, list[torch.Tensor], dict[str, Any]]:  # fmt: skip
    """Six attempts of a step; the gradient of one of them is infinite."""
    torch.manual_seed(0)
    model, sink = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), MemorySink()
    optimizer = build(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    given: dict[str, Any] = {"scaler": scaler} if pass_scaler else {}
    monitor = None
    if watched:
        monitor = Monitor(model, optimizer, sink, schedule=Schedule(every), **given)
    losses = []
    for step in range(6):
        optimizer.zero_grad()
        loss = model(torch.randn(3, 4)).square().mean()
        factor = torch.inf if step == overflow_at else 1.0
        scaler.scale(loss * factor).backward()
        if unscale:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        if step != overflow_at:
            scheduler.step()
        losses.append(loss.detach())
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return sink, losses, model.state_dict()


def plain_gradients(build: Build, overflow_at: int | None) -> MemorySink:
    sink = MemorySink()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = build(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    with Monitor(model, optimizer, sink):
        for step in range(6):
            optimizer.zero_grad()
            model(torch.randn(3, 4)).square().mean().backward()
            if step == overflow_at:
                optimizer.zero_grad()
            optimizer.step()
            if step != overflow_at:
                scheduler.step()
    return sink


def same(a: ExponentHistogram, b: ExponentHistogram) -> bool:
    return bool((a.counts == b.counts).all() and (a.powers == b.powers).all()) and a.amax == b.amax


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("pass_scaler", [True, False])
def test_gradients_are_recorded_at_their_true_scale(name: str, pass_scaler: bool) -> None:
    sink, *_ = scaled_training(OPTIMIZERS[name], pass_scaler=pass_scaler, overflow_at=None)
    plain = plain_gradients(OPTIMIZERS[name], None)
    for site in plain.sites:
        expected = plain.histogram(site.name, site.kind)
        assert same(sink.histogram(site.name, site.kind), expected), site
    assert [s.log2_scale for s in sink.steps] == [10.0] * 6
    amax = [s.gradient_amax for s in sink.steps]
    assert amax == pytest.approx([s.gradient_amax for s in plain.steps], rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("unscale", [False, True])
def test_a_skipped_step_is_a_step_with_its_own_scale(name: str, unscale: bool) -> None:
    sink, *_ = scaled_training(OPTIMIZERS[name], pass_scaler=True, overflow_at=2, unscale=unscale)
    assert [s.step for s in sink.steps] == list(range(6))
    assert [s.log2_scale for s in sink.steps] == [10.0, 10.0, 10.0, 9.0, 9.0, 9.0]
    (mark,) = sink.documents["non_finite"]["steps"]
    assert (mark["step"], mark["skipped"], mark["log2_scale"]) == (2, True, 10.0)
    assert mark["sites"][0]["name"] == "(root)" or mark["sites"][0]["name"] == "2"
    assert mark["parameter"] == "2.bias" or mark["parameter"] == "2.weight"


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("overflow_at", [0, 3, 5])
@pytest.mark.parametrize("pass_scaler", [True, False])
def test_scaled_training_is_bit_identical(name: str, overflow_at: int, pass_scaler: bool) -> None:
    options: dict[str, Any] = {"overflow_at": overflow_at, "pass_scaler": pass_scaler}
    _, losses, weights = scaled_training(OPTIMIZERS[name], **options)
    _, plain_losses, plain_weights = scaled_training(OPTIMIZERS[name], **options, watched=False)
    assert all(torch.equal(a, b) for a, b in zip(losses, plain_losses, strict=True))
    assert all(torch.equal(weights[k], plain_weights[k]) for k in plain_weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_last_step_may_be_a_skipped_one(name: str) -> None:
    sink, *_ = scaled_training(OPTIMIZERS[name], pass_scaler=True, overflow_at=5)
    assert [s.step for s in sink.steps] == list(range(6))
    assert sink.documents["non_finite"]["steps"][0]["skipped"]
    assert sink.steps[-1].log2_scale == 10.0


def test_a_schedule_counts_skipped_steps_too() -> None:
    sink, *_ = scaled_training(OPTIMIZERS["sgd"], pass_scaler=True, overflow_at=1, every=2)
    assert [s.step for s in sink.steps] == [0, 2, 4]


def test_a_scale_that_is_no_power_of_two_shifts_by_the_nearest() -> None:
    sink, *_ = scaled_training(OPTIMIZERS["sgd"], pass_scaler=True, overflow_at=None, scale=1000.0)
    plain = plain_gradients(OPTIMIZERS["sgd"], None)
    found = sink.histogram("0.weight", "weight_gradient")
    expected = plain.histogram("0.weight", "weight_gradient")
    assert found.amax == pytest.approx(expected.amax, rel=1e-5)
    assert found.sum_abs == pytest.approx(expected.sum_abs, rel=1e-5)
    assert found.total == expected.total


def test_gradients_of_an_unknown_scale_are_left_out_and_said() -> None:
    sink, *_ = scaled_training(OPTIMIZERS["sgd"], pass_scaler=False, overflow_at=0)
    skipped = sink.documents["coverage"]["tensors_skipped"]
    assert any("pass scaler=" in entry["reason"] for entry in skipped)
    assert sink.histogram("0.weight", "weight_gradient").infinities == 0
    assert max(s.gradient_amax for s in sink.steps) < 10.0


def test_several_optimizers_make_one_step_when_each_has_stepped() -> None:
    model, sink = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)), MemorySink()
    first = torch.optim.SGD(model[0].parameters(), 0.1)
    second = torch.optim.SGD(model[1].parameters(), 0.1)
    with Monitor(model, [first, second], sink):
        for _ in range(3):
            model(torch.randn(2, 3)).sum().backward()
            first.step()
            second.step()
    assert [s.step for s in sink.steps] == [0, 1, 2]
    assert sink.histogram("0.weight", "weight").total == 3 * 9
    assert {u.parameter for u in sink.updates} == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert all(u.steps == 3 and u.single[0].update_squares > 0 for u in sink.updates)


def test_a_round_waits_for_the_slower_optimizer_but_not_for_one_that_rests() -> None:
    rounds = StepRounds(["often", "seldom"])
    ends = [rounds.stepped(o) for o in ("often", "often", "seldom", "seldom", "often")]
    assert ends == [False, False, True, False, True]
    rounds = StepRounds(["works", "rests"])
    ends = [rounds.stepped("works") for _ in range(PATIENCE + 2)]
    assert ends == [False] * (PATIENCE - 1) + [True] * 3
    assert not rounds.stepped("rests")


def test_a_closure_that_is_called_many_times_is_one_step() -> None:
    def run(watched: bool) -> tuple[torch.Tensor, MemorySink, int]:
        torch.manual_seed(1)
        model, sink = nn.Linear(3, 1), MemorySink()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
        x, y = torch.randn(8, 3), torch.randn(8, 1)
        monitor = Monitor(model, optimizer, sink) if watched else None
        calls = 0

        def closure() -> torch.Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        if monitor is not None:
            monitor.close()
        return model.weight.detach(), sink, calls

    weight, sink, calls = run(True)
    assert torch.equal(weight, run(False)[0])
    assert [s.step for s in sink.steps] == [0, 1]
    assert calls > 2
    assert sink.histogram("(root)", "activation").total == calls * 8
    assert sink.histogram("weight", "weight").total == 2 * 3


def test_a_scaler_that_serves_two_models_ends_the_steps_of_each_alone() -> None:
    maker, critic, sink = nn.Linear(3, 3), nn.Linear(3, 1), MemorySink()
    first = torch.optim.SGD(maker.parameters(), 0.1)
    second = torch.optim.SGD(critic.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with Monitor(maker, first, sink, scaler=scaler):
        for _ in range(3):
            for optimizer in (second, first):
                first.zero_grad()
                second.zero_grad()
                scaler.scale(critic(maker(torch.randn(2, 3))).sum()).backward()
                scaler.step(optimizer)
                scaler.update()
    assert [s.step for s in sink.steps] == [0, 1, 2]
    assert "non_finite" not in sink.documents
