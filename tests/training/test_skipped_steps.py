from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from precscope.training import MixedPrecision
from tests.training.small_net import batch, loss_of, net, sgd, static

SCALED = ["fp16", "paper", "paper-no-master"]


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    state = [
        value
        for per_parameter in optimizer.state.values()
        for value in per_parameter.values()
        if isinstance(value, torch.Tensor)
    ]
    masters = [p for group in optimizer.param_groups for p in group["params"]]
    return [t.detach().clone() for t in (*model.state_dict().values(), *masters, *state)]


@pytest.mark.parametrize("recipe", SCALED)
def test_a_skipped_step_changes_nothing_but_the_scale(recipe: str) -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trainer = MixedPrecision(model, optimizer, recipe)
    assert trainer.step(loss_of(trainer, model))
    before = snapshot(model, optimizer)
    scale = trainer.log2_scale
    assert not trainer.step(loss_of(trainer, model, 1) * math.inf)
    after = snapshot(model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.skipped_steps == 1
    assert trainer.log2_scale is not None
    assert scale is not None
    assert trainer.log2_scale == scale - 1
    assert trainer.step(loss_of(trainer, model, 1))
    assert not torch.equal(before[0], model.state_dict()["first.weight"])
    trainer.close()


def test_running_statistics_of_every_micro_batch_are_undone() -> None:
    model = net()
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1))
    mean = model.norm.running_mean
    assert mean is not None
    before = copy.deepcopy(model.norm.state_dict())
    trainer.backward(loss_of(trainer, model))
    trainer.backward(loss_of(trainer, model, 1) * math.inf)
    assert not torch.equal(before["running_mean"], mean)
    assert not trainer.update()
    for name, value in before.items():
        assert torch.equal(value, model.norm.state_dict()[name])
    trainer.close()


def test_evaluation_between_steps_does_not_pin_the_statistics() -> None:
    model = net()
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1))
    mean = model.norm.running_mean
    assert mean is not None
    with torch.no_grad(), trainer.autocast():
        model(batch()[0])
    moved = mean.clone()
    assert not trainer.step(loss_of(trainer, model) * math.inf)
    assert torch.equal(mean, moved)
    trainer.close()


def test_without_loss_scaling_nothing_is_skipped() -> None:
    model = net()
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), "paper-no-scaling")
    assert trainer.step(loss_of(trainer, model) * math.inf)
    assert trainer.log2_scale is None
    assert not all(p.isfinite().all() for p in model.parameters())
    trainer.close()


def test_the_log_names_the_gradient_that_was_not_finite() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"quiet": nn.Linear(2, 1), "loud": nn.Linear(2, 1)})
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), "paper")
    with trainer.autocast():
        x = torch.ones(3, 2)
        loss = model["quiet"](x).float().mean() / 16 + model["loud"](100 * x).float().mean()
    assert not trainer.step(loss)
    (change,) = trainer.scale_changes
    assert change.parameter == "loud.weight"
    assert (change.step, change.log2_old, change.log2_new) == (0, 16, 15)
    trainer.close()


@pytest.mark.parametrize(("log2_scale", "updated"), [(13, True), (16, False)])
def test_a_float16_loss_bounds_the_scale(log2_scale: int, updated: bool) -> None:
    model = nn.Linear(4, 1)
    with MixedPrecision(model, sgd(model), static(log2_scale)) as trainer:
        with trainer.autocast():
            loss = model(torch.ones(2, 4)).mean()
        assert loss.dtype == torch.float16
        assert trainer.step(loss) == updated


def test_an_exception_in_the_loss_leaves_the_next_step_whole() -> None:
    model = net()
    with MixedPrecision(model, sgd(model)) as trainer:
        with pytest.raises(ValueError, match="mine"), trainer.autocast():
            raise ValueError("mine")
        assert trainer.step(loss_of(trainer, model))
