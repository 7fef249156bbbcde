from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from precscope.errors import UsageError
from precscope.training import MixedPrecision, Recipe, train
from precscope.training import cuda_precision as cuda_module
from precscope.training.cuda_precision import (
    ACCUMULATION,
    cuda_precision,
    float32_accumulation,
    float32_products,
    half_accumulation,
    switches,
)
from tests.training.fakes import make_workload
from tests.training.small_net import sgd

LOW = Recipe.named("paper-fp16-accumulation")


def test_forward_and_weight_gradient_stagnate_by_the_block_of_the_recipe() -> None:
    def found(recipe: Recipe) -> tuple[float, float]:
        model = nn.Linear(4096, 1, bias=False)
        model.weight.data.fill_(1.0)
        quiet = replace(recipe, loss_scaling=replace(recipe.loss_scaling, log2_initial=0))
        with MixedPrecision(model, sgd(model), quiet) as trainer:
            with trainer.autocast():
                out = model(torch.ones(4096, 4096))
                loss = out.float().sum()
            trainer.backward(loss)
            trainer.unscale()
            (held,) = trainer.parameters()
            assert held.grad is not None
            return float(out[0].detach()), float(held.grad[0, 0])

    assert found(Recipe.named("paper")) == (4096.0, 4096.0)
    assert found(replace(LOW, accumulation_block=1)) == (2048.0, 2048.0)
    assert found(LOW) == (4096.0, 4096.0)


@pytest.mark.parametrize("net", ["mlp", "cnn", "gru", "lstm", "attention"])
def test_small_nets_train_with_fp16_accumulation(net: str) -> None:
    workload = make_workload(net)
    single = train(workload, "fp32", steps=30, seed=0)
    low = train(workload, LOW, steps=30, seed=0)
    usual = train(workload, "paper", steps=30, seed=0)
    assert low.simulated
    assert low.losses != usual.losses
    assert low.final_loss == pytest.approx(single.final_loss, rel=0.05)
    assert low.diverged_at is None


def test_evaluation_accumulates_alike() -> None:
    model = nn.Linear(4096, 1, bias=False)
    model.weight.data.fill_(1.0)
    low = replace(LOW, accumulation_block=1)
    with MixedPrecision(model, sgd(model), low) as trainer, torch.no_grad(), trainer.autocast():
        out = model(torch.ones(1, 4096))
    assert out.item() == 2048.0


def without_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {name: owner for name, owner in switches().items() if name != ACCUMULATION}
    monkeypatch.setattr(cuda_module, "switches", lambda: present)


def test_a_torch_without_the_switch_is_told_the_version_and_sets_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_the_switch(monkeypatch)
    with pytest.raises(UsageError, match=r"needs torch 2\.7 or later"):
        half_accumulation()
    assert float32_accumulation() == {"fp16_reduced_reduction": False}
    with cuda_precision(**float32_accumulation(), **float32_products(False)):
        pass


@pytest.mark.skipif(ACCUMULATION not in switches(), reason="NOT RUN: torch 2.7 brought the switch")
def test_the_cuda_switch_is_set_and_put_back() -> None:
    owner, name = switches()["fp16_accumulation"]
    before = getattr(owner, name)
    with cuda_precision(**half_accumulation()):
        assert getattr(owner, name) is True
    assert getattr(owner, name) == before


@pytest.mark.gpu
def test_fp16_accumulation_on_cuda_is_the_hardware_s_and_is_put_back() -> None:
    owner, name = switches()["fp16_accumulation"]
    model = nn.Linear(4096, 64, bias=False).cuda()
    with MixedPrecision(model, sgd(model), LOW) as trainer:
        assert not trainer.simulated
        with trainer.autocast():
            assert getattr(owner, name) is True
            loss = model(torch.rand(64, 4096, device="cuda")).float().mean()
        assert trainer.step(loss)
    assert getattr(owner, name) is False
