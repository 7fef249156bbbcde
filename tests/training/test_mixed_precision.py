from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from precscope.errors import UsageError
from precscope.training import MixedPrecision, Recipe
from tests.training.small_net import PAPER, batch, loss_of, net, sgd, static


def gradients(log2_scale: int, base: Recipe = PAPER) -> list[torch.Tensor]:
    model = net()
    trainer = MixedPrecision(
        model, torch.optim.SGD(model.parameters(), lr=0.1), static(log2_scale, base)
    )
    trainer.backward(loss_of(trainer, model))
    trainer.unscale()
    grads = []
    for parameter in trainer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        grads.append(parameter.grad.clone())
    trainer.update()
    trainer.close()
    return grads


def test_a_power_of_two_scale_does_not_change_gradients_in_the_normal_range() -> None:
    for a, b in zip(gradients(8), gradients(10), strict=True):
        assert (a - b).abs().max() <= 2.0**-8 * a.abs().max()


@pytest.mark.parametrize("log2_scale", [0, 8])
def test_gradients_agree_with_float64(log2_scale: int) -> None:
    model = net().double()
    x, y = batch()
    F.mse_loss(model(x.double()), y.double()).backward()
    for parameter, grad in zip(model.parameters(), gradients(log2_scale), strict=True):
        assert parameter.grad is not None
        scale = max(float(parameter.grad.norm()), 1e-2)
        assert float((grad.double() - parameter.grad).norm()) < 1e-2 * scale


def test_accumulated_gradients_are_the_sum() -> None:
    def sum_of(together: bool) -> list[torch.Tensor]:
        model = net().eval()
        trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), static(6))
        losses = [loss_of(trainer, model, seed) for seed in (0, 1)]
        for loss in [sum(losses)] if together else losses:
            assert isinstance(loss, torch.Tensor)
            trainer.backward(loss)
        trainer.unscale()
        grads = [p.grad.clone() for p in trainer.parameters() if p.grad is not None]
        trainer.update()
        trainer.close()
        return grads

    for a, b in zip(sum_of(True), sum_of(False), strict=True):
        assert torch.allclose(a, b, rtol=5e-3, atol=1e-4)


def test_step_adds_to_micro_batches_and_drops_anything_else() -> None:
    def weight_after(backwards: int, foreign: bool) -> torch.Tensor:
        model = net().eval()
        trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), "fp32")
        if foreign:
            loss_of(trainer, model, 9).backward()
        for _ in range(backwards):
            trainer.backward(loss_of(trainer, model))
        trainer.step(loss_of(trainer, model))
        return model.first.weight.detach().clone()

    assert torch.equal(weight_after(0, True), weight_after(0, False))
    assert not torch.equal(weight_after(1, False), weight_after(0, False))


def test_clipping_between_unscale_and_update_sees_true_gradients() -> None:
    model = net()
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=1.0))
    before = [p.detach().clone() for p in trainer.parameters()]
    trainer.backward(loss_of(trainer, model))
    trainer.unscale()
    norm = nn.utils.clip_grad_norm_(trainer.parameters(), 1e-3)
    assert 1e-2 < float(norm) < 10
    assert trainer.update()
    moved = [(p - b).detach().norm() for p, b in zip(trainer.parameters(), before, strict=True)]
    assert float(torch.stack(moved).norm()) == pytest.approx(1e-3, rel=1e-3)
    trainer.close()


def test_clipping_gradients_that_the_optimizer_does_not_read_is_an_error() -> None:
    model = net()
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.backward(loss_of(trainer, model))
    trainer.unscale()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    with pytest.raises(UsageError, match=r"trainer\.parameters\(\)"):
        trainer.update()
    trainer.close()


def test_unscale_twice_is_an_error() -> None:
    model = net()
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.backward(loss_of(trainer, model))
    trainer.unscale()
    with pytest.raises(UsageError, match="already"):
        trainer.unscale()
    trainer.close()


def test_updates_below_half_an_ulp_are_lost_without_a_master_and_only_those() -> None:
    torch.manual_seed(0)
    weights = torch.cat([torch.linspace(-2, 2, 400), torch.logspace(-12, 2, 400, base=2)])
    rate = 0.9 * 2.0**-11  # the gradient of sum() is 1, so every update is -rate
    results = {}
    for name in ("paper-no-master", "paper"):
        model = nn.Linear(800, 1, bias=False)
        model.weight.data = weights.clone().view(1, -1)
        recipe = static(0, Recipe.named(name))
        trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=rate), recipe)
        for _ in range(4):
            with trainer.autocast():
                loss = model(torch.ones(1, 800)).float().sum()
            assert trainer.step(loss)
        results[name] = model.weight.detach().clone().flatten()
        trainer.close()
    start = weights.half()
    expected = start
    for _ in range(4):
        expected = (expected.float() - rate).half()
    assert torch.equal(results["paper-no-master"], expected)
    above = start.abs() > 1
    assert torch.equal(results["paper-no-master"][above], start[above])
    assert torch.equal(results["paper"], (weights - 4 * rate).half())
    assert not torch.equal(results["paper"][above], start[above])


def test_schedules_reach_the_masters() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.0)
    trainer = MixedPrecision(model, optimizer)
    assert trainer.step(loss_of(trainer, model))
    schedule.step()
    before = model.first.weight.detach().clone()
    assert trainer.step(loss_of(trainer, model))
    assert torch.equal(model.first.weight, before)
    trainer.close()


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("recipe", ["fp16", "paper"])
def test_checkpointing_gives_the_same_gradients(recipe: str, use_reentrant: bool) -> None:
    def gradients_of(checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        body, head = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Tanh()), nn.Linear(8, 3)
        model = nn.Sequential(body, head)
        x = batch()[0].requires_grad_()
        with MixedPrecision(model, sgd(model), recipe) as trainer:
            with trainer.autocast():
                hidden: Any = (
                    checkpoint(body, x, use_reentrant=use_reentrant) if checkpointed else body(x)
                )
                loss = F.mse_loss(head(hidden), batch()[1])
            trainer.backward(loss)
            return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain, recomputed = gradients_of(False), gradients_of(True)
    assert len(plain) == len(recomputed) == 4
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
