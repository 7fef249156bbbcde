"""Parameters that an optimizer is given after the trainer was made."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from precscope.errors import UsageError
from precscope.training import MixedPrecision, Recipe
from tests.training.small_net import Net, loss_of, net, static


def head_first(recipe: str | Recipe) -> tuple[Net, torch.optim.Optimizer, MixedPrecision]:
    model = net()
    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.01)
    return model, optimizer, MixedPrecision(model, optimizer, recipe)


def thaw(model: Net, optimizer: torch.optim.Optimizer) -> None:
    optimizer.add_param_group({"params": list(model.first.parameters()), "lr": 0.003})


@pytest.mark.parametrize("recipe", ["paper", "paper-no-master", "paper-kahan"])
def test_a_weight_thawed_later_gets_a_float32_master(recipe: str) -> None:
    model, optimizer, trainer = head_first(recipe)
    before = model.first.weight.detach().clone()
    assert trainer.step(loss_of(trainer, model))
    assert torch.equal(model.first.weight, before)
    thaw(model, optimizer)
    assert trainer.step(loss_of(trainer, model))
    assert model.first.weight.dtype is torch.float16
    assert not torch.equal(model.first.weight, before)
    assert {p.dtype for p in trainer.parameters()} == {torch.float32}
    assert {s["exp_avg"].dtype for s in optimizer.state.values()} == {torch.float32}
    trainer.close()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert optimizer.param_groups[1]["params"][0] is model.first.weight


def test_its_small_gradients_are_unscaled_in_float32() -> None:
    model, optimizer, trainer = head_first(static(20))
    thaw(model, optimizer)
    trainer.backward(loss_of(trainer, model) * 2.0**-20)
    trainer.unscale()
    master = optimizer.param_groups[1]["params"][0]
    assert master.grad is not None
    # Half of them would be subnormal in FP16, or zero.
    assert float(master.grad.abs().max()) < 2.0**-14
    assert int((master.grad != 0).sum()) == master.numel()


def test_given_between_backward_and_update() -> None:
    model, optimizer, trainer = head_first(static(4))
    before = model.first.weight.detach().clone()
    trainer.backward(loss_of(trainer, model))
    thaw(model, optimizer)
    assert trainer.update()
    assert not torch.equal(model.first.weight, before)
    assert model.first.weight.grad is None


def test_the_log_names_it() -> None:
    model, optimizer, trainer = head_first("paper")
    trainer.step(loss_of(trainer, model))
    thaw(model, optimizer)
    model.first.weight.register_hook(lambda grad: grad * torch.inf)
    assert not trainer.step(loss_of(trainer, model))
    assert trainer.overflowed == "first.weight"


def test_compensations_stay_those_of_their_weights_and_a_run_resumes() -> None:
    model, optimizer, trainer = head_first("paper-kahan")
    for seed in range(3):
        trainer.step(loss_of(trainer, model, seed))
    kept = [c.clone() for c in trainer.state_dict()["weights"]["compensations"]]
    thaw(model, optimizer)
    state = trainer.state_dict()["weights"]
    assert all(torch.equal(a, b) for a, b in zip(kept, state["compensations"], strict=False))
    assert len(state["compensations"]) == len(state["weights"]) == 4
    for seed in range(3):
        trainer.step(loss_of(trainer, model, seed))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "trainer": trainer.state_dict()}, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again, other, resumed = head_first("paper-kahan")
    with pytest.raises(UsageError, match="this optimizer holds 2"):
        resumed.load_state_dict(saved["trainer"])
    thaw(again, other)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["trainer"])
    for run, its in ((trainer, model), (resumed, again)):
        run.step(loss_of(run, its, 5))
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_either_of_several_optimizers_may_be_given_it() -> None:
    model = net()
    optimizers: Mapping[str, torch.optim.Optimizer] = {
        "head": torch.optim.SGD(model.head.parameters(), lr=0.1),
        "norm": torch.optim.SGD(model.norm.parameters(), lr=0.1),
    }
    with MixedPrecision(model, optimizers, static(4)) as trainer:
        thaw(model, optimizers["norm"])
        before = model.first.weight.detach().clone()
        assert trainer.step(loss_of(trainer, model), optimizer="norm")
        assert not torch.equal(model.first.weight, before)
        assert {p.dtype for p in trainer.parameters("norm")} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert isinstance(model.first.weight, nn.Parameter)
