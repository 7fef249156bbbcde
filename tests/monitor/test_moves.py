"""A watched model that changes its dtype, its device or its parameters in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from precscope.monitor import Monitor
from tests.support.memory_sink import MemorySink

Change = Callable[[nn.Module], object]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def to_meta_and_back(model: nn.Module) -> None:
    """Meta stands for another device: there is nothing to read there."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.to("meta")
    model(torch.empty(3, 4, device="meta")).sum()
    model.to_empty(device="cpu")
    model.load_state_dict(weights)


def give_new_storage(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


CHANGES: dict[str, Change] = {
    "float64": lambda model: model.to(torch.float64),
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(),
    "meta and back": to_meta_and_back,
    "new storage": give_new_storage,
}


def train(change: Change, watched: bool) -> tuple[list[torch.Tensor], MemorySink]:
    torch.manual_seed(3)
    model, sink = mlp(), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, sink) if watched else None
    losses = []
    for step in range(6):
        if step == 3:
            change(model)
            # Between kinds of devices torch makes new parameters.
            optimizer.param_groups[0]["params"] = list(model.parameters())
        dtype = next(model.parameters()).dtype
        optimizer.zero_grad()
        loss = model(torch.randn(3, 4).to(dtype)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return [*losses, *(p.detach() for p in model.parameters())], sink


@pytest.mark.parametrize("name", CHANGES)
def test_training_goes_on_bit_identically_and_observed(name: str) -> None:
    watched, sink = train(CHANGES[name], True)
    plain, _ = train(CHANGES[name], False)
    assert all(torch.equal(a, b) for a, b in zip(watched, plain, strict=True))
    assert [s.step for s in sink.steps] == list(range(6))
    assert sink.histogram("0.weight", "weight").total == 6 * 32
    # A new parameter is found at the first update after its first gradient.
    gradients = 5 if name == "meta and back" else 6
    assert sink.histogram("0.weight", "weight_gradient").total == gradients * 32
    assert sink.histogram("0", "activation").total == 6 * 24
    assert sink.histogram("0", "activation_gradient").total == 6 * 24
    assert sum(u.steps for u in sink.updates if u.parameter == "0.weight") == 6


def test_a_training_that_stays_on_another_device_is_not_disturbed() -> None:
    model, sink = mlp(), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer, sink) as monitor:
        for step in range(4):
            if step == 2:
                model.to("meta")
                optimizer.param_groups[0]["params"] = list(model.parameters())
            device = next(model.parameters()).device
            optimizer.zero_grad()
            model(torch.randn(3, 4, device=device)).sum().backward()
            optimizer.step()
    coverage = monitor.coverage()
    assert not coverage["observer_errors"]
    assert "a meta tensor has no values" in {t["reason"] for t in coverage["tensors_skipped"]}
    assert sink.histogram("0.weight", "weight").total == 2 * 32


def test_parameters_that_are_replaced_are_found_again() -> None:
    model, sink = mlp(), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer, sink, window_steps=2):
        for step in range(8):
            if step == 4:
                model[0].weight = nn.Parameter(torch.ones(8, 4))
                optimizer.param_groups[0]["params"] = list(model.parameters())
            optimizer.zero_grad()
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    assert sink.histogram("0.weight", "weight").total == 8 * 32
    assert sink.histogram("0.weight", "weight_gradient").total == 7 * 32
    assert sum(u.steps for u in sink.updates if u.parameter == "0.weight") == 8
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
