"""Whatever way a script computes gradients, a loss scale is in none that it sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from precscope.recipe import LossScaling, Recipe
from precscope.script.differentiation import leaves
from tests.script.watched import net, watching

SCALED = Recipe(
    "scaled", loss_scaling=LossScaling(kind="static", log2_initial=20), scaler="precscope"
)
"""In float32 a power of two is exact: scaled and plain gradients are the same bits."""

HALF = Recipe(
    "half",
    compute_dtype="float16",
    loss_scaling=LossScaling(kind="static", log2_initial=20),
    scaler="precscope",
)
"""At this scale every float16 gradient overflows."""

Tensors = list[torch.Tensor]


def batch() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(5))


def gradients_of(model: nn.Module) -> Tensors:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def with_tensor_backward(model: nn.Module) -> Tensors:
    model(batch()).square().mean().backward()
    return gradients_of(model)


def with_several_losses(model: nn.Module) -> Tensors:
    out = model(batch())
    torch.autograd.backward([out.square().mean(), out[:, 0].sum()])
    return gradients_of(model)


def with_a_gradient_from_outside(model: nn.Module) -> Tensors:
    out = model(batch())
    torch.autograd.backward(out, grad_tensors=torch.full_like(out, 0.25))
    return gradients_of(model)


def with_micro_batches(model: nn.Module) -> Tensors:
    for _ in range(3):
        torch.autograd.backward(tensors=(model(batch()).mean(),))
    return gradients_of(model)


def with_grad(model: nn.Module) -> Tensors:
    return list(torch.autograd.grad(model(batch()).square().mean(), list(model.parameters())))


def with_a_gradient_penalty(model: nn.Module) -> Tensors:
    x = batch().requires_grad_()
    out = model(x).sum()
    (slope,) = torch.autograd.grad(out, x, create_graph=True)
    (out + (slope.norm(2) - 1).square()).backward()
    return [slope.detach(), *gradients_of(model)]


def with_a_graph_of_the_gradients(model: nn.Module) -> Tensors:
    loss = model(batch()).square().mean()
    loss.backward(inputs=list(model.parameters()), create_graph=True)
    first = gradients_of(model)
    norm = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None)
    for p in model.parameters():
        p.grad = None
    assert isinstance(norm, torch.Tensor)
    norm.backward()
    return [*(g.detach() for g in first), *gradients_of(model)]


def with_an_attack_on_the_input(model: nn.Module) -> Tensors:
    x = batch().requires_grad_()
    temperature = torch.tensor(0.5, requires_grad=True)
    (model(x) / temperature).square().mean().backward()
    assert x.grad is not None
    assert temperature.grad is not None
    return [x.grad, temperature.grad, *gradients_of(model)]


def with_a_reentrant_checkpoint(model: nn.Module) -> Tensors:
    x = batch().requires_grad_()
    out = checkpoint(model, x, use_reentrant=True)
    assert isinstance(out, torch.Tensor)
    out.square().mean().backward()
    return gradients_of(model)


WAYS = (
    with_tensor_backward,
    with_several_losses,
    with_a_gradient_from_outside,
    with_micro_batches,
    with_grad,
    with_a_gradient_penalty,
    with_a_graph_of_the_gradients,
    with_an_attack_on_the_input,
    with_a_reentrant_checkpoint,
)


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("way", WAYS)
def test_a_scale_is_taken_off_to_the_bit(
    tmp_path: Path, way: Callable[[nn.Module], Tensors]
) -> None:
    plain, model = net(nn.Tanh()), net(nn.Tanh())
    expected = way(plain)
    with watching(tmp_path, SCALED):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(batch())  # the model is found
        got = way(model)
    assert len(got) == len(expected) >= 4
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert any(bool(g.any()) for g in got)
    del optimizer


def assigned(model: nn.Module) -> None:
    parameters = list(model.parameters())
    given = torch.autograd.grad(model(batch()).square().mean(), parameters)
    for parameter, gradient in zip(parameters, given, strict=True):
        parameter.grad = gradient


def test_gradients_that_are_handed_back_and_overflow_suppress_the_update(tmp_path: Path) -> None:
    for number, recipe in enumerate((SCALED, HALF)):
        (tmp_path / str(number)).mkdir()
        model = net()
        before = [p.detach().clone() for p in model.parameters()]
        with watching(tmp_path / str(number), recipe) as told:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            assigned(model)
            optimizer.step()
        moved = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
        assert any(moved) == (recipe is SCALED)
        (step,) = [event for event in told() if event["event"] == "step"]
        assert (step["skipped"] is None) == (recipe is SCALED)
        assert isinstance(step["loss"], float)
        assert optimizer.state_dict()["param_groups"]


def test_a_penalty_is_no_loss_of_its_own(tmp_path: Path) -> None:
    model = net(nn.Tanh())
    with watching(tmp_path, SCALED) as told:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with_a_gradient_penalty(model)
        optimizer.step()
    x = batch().requires_grad_()
    out = model(x).sum()
    (slope,) = torch.autograd.grad(out, x)
    (step,) = [event for event in told() if event["event"] == "step"]
    total = out.detach() + (slope.norm(2) - 1).square()
    assert step["loss"] == pytest.approx(float(total), rel=1e-6)


def test_the_coverage_says_that_handed_back_gradients_are_not_seen(tmp_path: Path) -> None:
    from precscope.recording import Recording

    model = net()
    with watching(tmp_path):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            assigned(model)
            optimizer.step()
    recording = Recording.open(tmp_path / "run.precscope")
    skipped = recording.document("coverage")["tensors_skipped"]
    entry = next(e for e in skipped if e["what"] == "weight gradients")
    assert (entry["count"], "torch.autograd.grad" in entry["reason"]) == (2, True)
    assert all(step.loss is not None for step in recording.steps)
    assert {s.kind for s in recording.sites} >= {"activation", "activation_gradient", "weight"}


def test_an_update_inside_of_backward_is_refused_where_the_loss_is_scaled(tmp_path: Path) -> None:
    model = net()
    with watching(tmp_path, SCALED) as told:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        handle = model.get_parameter("0.bias").register_post_accumulate_grad_hook(
            lambda _: optimizer.step()
        )
        loss = model(batch()).mean()
        with pytest.raises(SystemExit):
            loss.backward()
    handle.remove()
    (refused,) = [event for event in told() if event["event"] == "refused"]
    assert "inside of backward" in refused["reason"]


def test_every_leaf_of_a_graph_is_found_once() -> None:
    model, x, alone = net(), batch().requires_grad_(), torch.ones(1, requires_grad=True)
    found = list(leaves([model(x).sum() + model(x).sum(), alone]))
    assert {id(leaf) for leaf in found} == {id(p) for p in (*model.parameters(), x, alone)}
    assert len(found) == 6
    assert list(leaves([torch.ones(1)])) == []
