from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from precscope.arithmetic.storage import convertible_parameters
from precscope.training import MixedPrecision
from precscope.training.master_weights import MasterWeights

Optimizer = Callable[..., torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw_foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adam_fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_updates_masters_with_float32_state(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = OPTIMIZERS[name](model.parameters())
    trainer = MixedPrecision(model, optimizer)
    for _ in range(3):
        with trainer.autocast():
            loss = model(torch.ones(2, 4)).float().square().mean()
        assert trainer.step(loss)
    states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    assert states
    assert {state.dtype for state in states} == {torch.float32}
    for weight, master in zip(model.parameters(), trainer.parameters(), strict=True):
        assert master.dtype == torch.float32
        assert torch.equal(weight, master.half())
        assert not torch.equal(weight.float(), master)
    trainer.close()


def test_small_gradients_do_not_break_adam() -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with MixedPrecision(model, optimizer, "paper-no-master") as trainer:
        with trainer.autocast():
            loss = model(torch.full((2, 4), 1e-3)).float().mean() / 16
        assert trainer.step(loss)
        assert all(p.isfinite().all() for p in model.parameters())


def test_normalisation_and_buffers_stay_float32() -> None:
    model = nn.ModuleDict(
        {
            "batch": nn.BatchNorm2d(2),
            "instance": nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
            "layer": nn.LayerNorm(2),
            "group": nn.GroupNorm(1, 2),
            "rms": nn.RMSNorm(2),
            "linear": nn.Linear(2, 2),
        }
    )
    model.register_buffer("table", torch.ones(2))
    assert list(convertible_parameters(model)) == ["linear.weight", "linear.bias"]
    MasterWeights(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert {b.dtype for b in model.buffers() if b.is_floating_point()} == {torch.float32}


def test_tied_parameters_stay_tied_with_one_master() -> None:
    embedding, head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = MixedPrecision(model, optimizer)
    with trainer.autocast():
        loss = model(torch.tensor([[0, 1]])).float().square().mean() / 64
    assert trainer.step(loss)
    assert head.weight is embedding.weight
    assert head.weight.dtype == torch.float16
    assert len(trainer.parameters()) == 1
    trainer.close()
    assert head.weight is embedding.weight
    assert head.weight.dtype == torch.float32


def test_frozen_parameters_are_float16_and_do_not_move() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4), nn.Linear(4, 2)
    model = nn.Sequential(first, second)
    held, absent = first.weight, second.weight
    held.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p is not absent], lr=0.1)
    before = held.detach().clone(), absent.detach().clone()
    trainer = MixedPrecision(model, optimizer)
    with trainer.autocast():
        loss = model(torch.ones(1, 4)).float().mean() / 16
    assert trainer.step(loss)
    assert held.dtype == absent.dtype == torch.float16
    trainer.close()
    assert torch.equal(held, before[0])
    assert torch.equal(absent, before[1].half().float())


def test_state_of_an_optimizer_that_has_already_run_moves_along() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    momentum = optimizer.state[model.weight]["momentum_buffer"]
    masters = MasterWeights(model, optimizer)
    master = optimizer.param_groups[0]["params"][0]
    assert optimizer.state[master]["momentum_buffer"] is momentum
    assert model.weight not in optimizer.state
    assert model.weight.grad is None
    masters.restore()
    assert optimizer.state[model.weight]["momentum_buffer"] is momentum


def test_sparse_gradients_reach_the_masters() -> None:
    model = nn.Embedding(5, 3, sparse=True)
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=8.0))
    before = model.weight.detach().clone()
    with trainer.autocast():
        loss = model(torch.tensor([1, 1, 3])).float().sum() / 16
    assert trainer.step(loss)
    moved = (before.float() - model.weight.float()).mean(1)
    assert moved.tolist() == pytest.approx([0.0, 1.0, 0.0, 0.5, 0.0], abs=1e-3)
    trainer.close()
