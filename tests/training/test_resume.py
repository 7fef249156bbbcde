from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from precscope.errors import UsageError
from precscope.training import LossScaling, MixedPrecision, Recipe
from tests.training.small_net import PAPER, batch, loss_of, net, sgd, static

RESTLESS = LossScaling(kind="dynamic", log2_initial=24, growth_interval=2)
ADVISED = replace(
    PAPER,
    name="advised",
    loss_scaling=LossScaling(kind="static", log2_initial=9),
    fp32_modules=("head",),
)
RECIPES: dict[str, Recipe] = {
    "fp32": Recipe.named("fp32"),
    "fp16": replace(Recipe.named("fp16"), loss_scaling=RESTLESS),
    "paper": replace(PAPER, loss_scaling=RESTLESS),
    "advised": ADVISED,
    "no-master": Recipe.named("paper-no-master"),
    "stochastic": Recipe.named("paper-stochastic-rounding"),
    "kahan": Recipe.named("paper-kahan"),
    "accumulation": Recipe.named("paper-fp16-accumulation"),
}
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


class Net(nn.Module):
    """Dropout draws from the random state; the frozen layer is not the optimizer's."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6)
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.drop(self.norm(self.first(self.frozen(x)))))
        return out


class Run:
    """A model, its optimizer, a schedule and a trainer."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Net()
        trained = [p for n, p in self.model.named_parameters() if "frozen" not in n]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.trainer = MixedPrecision(self.model, self.optimizer, recipe, seed=seed)
        self.losses: list[float] = []

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            x, y = batch(step)
            with self.trainer.autocast():
                loss = F.mse_loss(self.model(x), y)
            if self.trainer.step(loss):
                self.schedule.step()
            self.losses.append(loss.item())

    def save(self) -> bytes:
        file = io.BytesIO()
        parts = {
            "model": self.model.state_dict(),
            "trainer": self.trainer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
        }
        torch.save(parts, file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        parts = torch.load(io.BytesIO(saved), weights_only=True)
        self.model.load_state_dict(parts["model"])
        self.trainer.load_state_dict(parts["trainer"])
        self.schedule.load_state_dict(parts["schedule"])
        torch.set_rng_state(parts["random"])

    def everything(self) -> list[torch.Tensor]:
        states = self.optimizer.state_dict()["state"].values()
        moments = [v for state in states for v in state.values()]
        tensors = (*self.model.state_dict().values(), *self.trainer.parameters(), *moments)
        return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_stopped_and_resumed_is_bit_identical_to_one_that_was_not(name: str) -> None:
    whole = Run(RECIPES[name], seed=0)
    whole.train(0, 7)
    saved = whole.save()
    whole.train(7, 14)
    resumed = Run(RECIPES[name], seed=99)
    resumed.load(saved)
    resumed.train(7, 14)
    assert resumed.losses == whole.losses[7:]
    for a, b in zip(resumed.everything(), whole.everything(), strict=True):
        assert torch.equal(a, b)
    assert resumed.trainer.scale_changes == whole.trainer.scale_changes
    assert resumed.trainer.skipped_steps == whole.trainer.skipped_steps
    assert resumed.trainer.log2_scale == whole.trainer.log2_scale
    assert resumed.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]
    if name in ("fp16", "paper"):
        assert whole.trainer.skipped_steps > 0
        assert {c.reason for c in whole.trainer.scale_changes} >= {"overflow"}


def test_hysteresis_patience_and_the_interval_go_on() -> None:
    whole = Run(replace(PAPER, loss_scaling=LossScaling(kind="dynamic", log2_initial=3)), seed=0)
    whole.train(0, 15)
    resumed = Run(whole.trainer.recipe, seed=1)
    resumed.load(whole.save())
    whole.train(15, 25)
    resumed.train(15, 25)
    assert [change.step for change in resumed.trainer.scale_changes] == [9, 19]
    assert resumed.trainer.scale_changes == whole.trainer.scale_changes


def test_a_state_between_backward_and_update_is_refused() -> None:
    model = net()
    with MixedPrecision(model, sgd(model), static(0)) as trainer:
        trainer.backward(loss_of(trainer, model))
        with pytest.raises(UsageError, match="after update"):
            trainer.state_dict()
        trainer.update()
        assert trainer.state_dict()["skipped_steps"] == 0


def state(recipe: str | Recipe = "paper", make: Optimizer = sgd) -> dict[str, Any]:
    model = net()
    with MixedPrecision(model, make(model), recipe) as trainer:
        return trainer.state_dict()


def refusal(saved: Any, recipe: str | Recipe = "paper", make: Optimizer = sgd) -> str:
    model = net()
    with (
        MixedPrecision(model, make(model), recipe) as trainer,
        pytest.raises(UsageError) as caught,
    ):
        trainer.load_state_dict(saved)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def head_only(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for n, p in model.named_parameters() if "head" in n], lr=0.1)


def backwards(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([*model.parameters()][::-1], lr=0.1)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())


def test_the_state_of_another_run_is_refused_in_one_line() -> None:
    assert "master_weights False" in refusal(state("paper-no-master"))
    assert "log2_initial" in refusal(state(static(3)), static(4))
    assert "holds 2" in refusal(state(), make=head_only)
    assert "first.weight" in refusal(state(), make=backwards)
    assert "SGD" in refusal(state(), make=adam)


@pytest.mark.parametrize("saved", [None, [], {}, {"schema": 2}, {"state": {}, "param_groups": []}])
def test_what_is_no_state_is_refused_in_one_line(saved: object) -> None:
    assert "trainer.state_dict()" in refusal(saved)


def test_a_damaged_state_names_what_it_lacks() -> None:
    saved = state()
    del saved["scaling"]
    assert "'scaling'" in refusal(saved)


def test_a_name_or_description_of_a_recipe_may_change() -> None:
    model = net()
    with MixedPrecision(model, sgd(model), replace(PAPER, name="mine")) as trainer:
        saved = state()
        trainer.load_state_dict(saved)
        assert trainer.state_dict().keys() == saved.keys()
