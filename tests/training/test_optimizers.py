"""Master weights under every optimizer: what FP32 training does with the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from precscope.errors import UsageError
from precscope.training import MixedPrecision, Recipe, mixed_precision
from tests.training.small_net import loss_of, net, sgd, static

Groups = Iterable[Any]
Optimizer = Callable[[Groups], torch.optim.Optimizer]
Step = Callable[[MixedPrecision, nn.Module, int], bool]

O = torch.optim  # noqa: E741 - a table reads better
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: O.SGD(p, lr=0.1),
    "sgd_momentum": lambda p: O.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, dampening=0.1),
    "sgd_nesterov": lambda p: O.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd_fused": lambda p: O.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda p: O.Adam(p, lr=0.01, foreach=False),
    "adam_amsgrad": lambda p: O.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: O.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw_foreach": lambda p: O.AdamW(p, lr=0.01, foreach=True),
    "adamw_fused": lambda p: O.AdamW(p, lr=0.01, fused=True),
    "adagrad": lambda p: O.Adagrad(p, lr=0.1, foreach=False),
    "adagrad_foreach": lambda p: O.Adagrad(p, lr=0.1, foreach=True),
    "adagrad_fused": lambda p: O.Adagrad(p, lr=0.1, fused=True),
    "rmsprop": lambda p: O.RMSprop(p, lr=0.01, momentum=0.5, centered=True, foreach=False),
    "rmsprop_foreach": lambda p: O.RMSprop(p, lr=0.01, foreach=True),
}
FURTHER: dict[str, Optimizer] = {
    "sgd_maximize": lambda p: O.SGD(p, lr=0.01, momentum=0.5, maximize=True),
    "nadam": lambda p: O.NAdam(p, lr=0.01),
    "radam": lambda p: O.RAdam(p, lr=0.01),
    "adamax": lambda p: O.Adamax(p, lr=0.01),
    "adadelta": lambda p: O.Adadelta(p, lr=0.5),
    "asgd": lambda p: O.ASGD(p, lr=0.01, t0=2),
    "rprop": lambda p: O.Rprop(p, lr=0.01),
    "adafactor": lambda p: O.Adafactor(p, lr=0.01),
}


class Linear(nn.Module):
    """Two weights whose gradients are the inputs, so that FP16 has them exactly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(3, 2))

    def forward(self, seed: int) -> torch.Tensor:
        numbers = torch.Generator().manual_seed(seed)
        x = torch.randint(-8, 9, (11,), generator=numbers) / 4
        loss = (self.a * x[:5]).float().sum() + (self.b * x[5:].view(3, 2)).float().sum()
        return loss


def groups_of(model: Linear) -> Groups:
    return [{"params": [model.a]}, {"params": [model.b], "lr": 0.003, "weight_decay": 0.05}]


def by_step(trainer: MixedPrecision, model: nn.Module, seed: int) -> bool:
    with trainer.autocast():
        loss = model(seed)
    return trainer.step(loss)


def by_parts(trainer: MixedPrecision, model: nn.Module, seed: int) -> bool:
    """Two micro-batches, the mean of their losses, clipped."""
    for half in (seed, seed + 100):
        with trainer.autocast():
            loss = model(half) / 2
        trainer.backward(loss)
    trainer.unscale()
    nn.utils.clip_grad_norm_(trainer.parameters(), 1.5)
    return trainer.update()


def masters_after(
    recipe: str | Recipe, make: Optimizer, step: Step, schedule_first: bool = True, steps: int = 8
) -> list[torch.Tensor]:
    model = Linear()
    optimizer = make(groups_of(model))
    after: list[Any] = []
    if schedule_first:
        after.append(torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5))
    with MixedPrecision(model, optimizer, recipe) as trainer:
        if not schedule_first:
            after.append(torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5))
        for seed in range(steps):
            assert step(trainer, model, seed)
            after[0].step()
        return [p.detach().clone() for p in trainer.parameters()]


def plain(make: Optimizer, parts: bool, steps: int = 8) -> list[torch.Tensor]:
    """The same without us."""
    model = Linear()
    optimizer = make(groups_of(model))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for seed in range(steps):
        optimizer.zero_grad()
        for half in (seed, seed + 100) if parts else (seed,):
            (model(half) / (2 if parts else 1)).backward()
        if parts:
            nn.utils.clip_grad_norm_(model.parameters(), 1.5)
        optimizer.step()
        schedule.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("step", [by_step, by_parts])
@pytest.mark.parametrize("name", [*OPTIMIZERS, *FURTHER])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "paper"])
def test_with_exact_gradients_masters_are_fp32_training_to_the_bit(
    recipe: str, name: str, step: Step
) -> None:
    chosen = Recipe.named(recipe) if recipe != "paper" else static(8)
    make = (OPTIMIZERS | FURTHER)[name]
    found = masters_after(chosen, make, step)
    expected = plain(make, parts=step is by_parts)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["sgd_momentum", "adamw_fused"])
def test_a_schedule_made_after_the_trainer_does_the_same(name: str) -> None:
    first = masters_after(static(8), OPTIMIZERS[name], by_step, schedule_first=True)
    later = masters_after(static(8), OPTIMIZERS[name], by_step, schedule_first=False)
    assert all(torch.equal(a, b) for a, b in zip(first, later, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_net_trains_close_to_fp32(name: str) -> None:
    def losses(recipe: str) -> list[float]:
        model = net()
        with MixedPrecision(model, OPTIMIZERS[name](model.parameters()), recipe) as trainer:
            found = []
            for seed in range(30):
                loss = loss_of(trainer, model, seed % 3)
                trainer.step(loss)
                found.append(loss.item())
            return found

    single, half = losses("fp32"), losses("paper")
    assert half[-1] == pytest.approx(single[-1], rel=0.03)
    assert single[-1] < 0.8 * single[0]


def sum_of_micro_batches(recipe: str, factors: list[float]) -> float:
    model = nn.Linear(1, 1, bias=False)
    with MixedPrecision(model, sgd(model), static(0, Recipe.named(recipe))) as trainer:
        for factor in factors:
            with trainer.autocast():
                loss = (model(torch.ones(1, 1)).float() * factor).sum()
            trainer.backward(loss)
        trainer.unscale()
        (held,) = trainer.parameters()
        assert held.grad is not None
        return float(held.grad.item())


def test_a_sum_of_micro_batches_loses_nothing_to_fp16() -> None:
    # 2048 + 1 is no FP16 number, nor is 4 * 65504.
    assert sum_of_micro_batches("paper", [2048.0, 1.0, 1.0]) == 2050.0
    assert sum_of_micro_batches("paper", [65504.0] * 4) == 4 * 65504.0
    assert sum_of_micro_batches("paper-fp16-accumulation", [2048.0, 1.0, 1.0]) == 2048.0


def test_a_distributed_run_leaves_the_sum_where_it_is_reduced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mixed_precision, "is_distributed", lambda: True)
    assert sum_of_micro_batches("paper", [2048.0, 1.0, 1.0]) == 2048.0
    assert sum_of_micro_batches("paper", [1024.0, 1.0, 1.0]) == 1026.0


def test_lbfgs_is_refused_in_one_line() -> None:
    model = net()
    with pytest.raises(UsageError, match="L-BFGS") as caught:
        MixedPrecision(model, torch.optim.LBFGS(model.parameters()))
    assert "\n" not in str(caught.value)
    assert model.first.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["sgd_fused", "adamw_fused", "adamw_foreach"])
def test_a_skipped_step_of_grad_scaler_is_named_and_counted(name: str) -> None:
    model = net()
    with MixedPrecision(model, OPTIMIZERS[name](model.parameters()), "fp16") as trainer:
        before = [p.detach().clone() for p in model.parameters()]
        assert not trainer.step(loss_of(trainer, model) * float("inf"))
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        (change,) = trainer.scale_changes
    assert (change.step, change.log2_old, change.log2_new) == (0, 16, 15)
    assert (change.reason, change.parameter) == ("overflow", "first.weight")
