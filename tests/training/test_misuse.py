"""Calls in the wrong order, models that cannot be trained so, and failures in the middle."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from precscope.errors import UsageError
from precscope.training import LossScaling, MixedPrecision
from precscope.training.fp32_modules import to_float32
from tests.training.small_net import PAPER, batch, loss_of, net, sgd, static


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "paper"])
def test_a_backward_after_unscale_is_refused(recipe: str) -> None:
    # Its scaled gradients would be added to true ones.
    model = net()
    with MixedPrecision(model, sgd(model), recipe) as trainer:
        trainer.backward(loss_of(trainer, model))
        trainer.unscale()
        with pytest.raises(UsageError, match=r"update\(\) has to come first"):
            trainer.backward(loss_of(trainer, model))
        assert trainer.update()
        assert trainer.step(loss_of(trainer, model))


def test_a_gradient_put_in_the_place_of_one_after_unscale_is_refused() -> None:
    model = net()
    with MixedPrecision(model, sgd(model), static(4)) as trainer:
        trainer.backward(loss_of(trainer, model))
        trainer.unscale()
        assert model.first.weight.grad is not None
        model.first.weight.grad = model.first.weight.grad * 0.5
        with pytest.raises(UsageError, match=r"trainer.parameters\(\)"):
            trainer.update()


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "paper"])
def test_what_a_backward_that_raised_left_is_not_added_to(recipe: str) -> None:
    def boom(gradient: torch.Tensor) -> None:
        raise RuntimeError("boom")

    model, other = net(), net()
    x, y = batch()
    with MixedPrecision(model, sgd(model), recipe) as trainer:
        with trainer.autocast():
            inner = model.norm(model.first(x))
            inner.register_hook(boom)
            loss = F.mse_loss(model.head(torch.tanh(inner)), y)
        with pytest.raises(RuntimeError, match="boom"):
            trainer.backward(loss)
        assert model.head.weight.grad is not None
        trainer.backward(loss_of(trainer, model, 1))
        trainer.unscale()
        found = [p.grad for p in trainer.parameters()]
        with MixedPrecision(other, sgd(other), recipe) as fresh:
            fresh.backward(loss_of(fresh, other, 1))
            fresh.unscale()
            expected = [p.grad for p in fresh.parameters()]
    for a, b in zip(found, expected, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "bf16", "paper"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused(recipe: str, dtype: torch.dtype) -> None:
    model = net().to(dtype)
    with pytest.raises(UsageError, match=r"first.weight is b?float16 already: .*float\(\)"):
        MixedPrecision(model, sgd(model), recipe)


def test_a_frozen_half_beside_float32_adapters_is_trained_under_autocast() -> None:
    model = nn.Sequential(nn.Linear(6, 8).bfloat16().requires_grad_(False), nn.Linear(8, 3))
    with MixedPrecision(model, sgd(model[1]), "bf16") as trainer:
        assert trainer.step(loss_of(trainer, model))


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("recipe", ["fp16", "paper"])
def test_a_model_that_is_not_initialised_is_refused(recipe: str) -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(UsageError, match=r"0\.weight is not initialised"):
        MixedPrecision(model, sgd(model), recipe)


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.filter = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(self.first(x).float()) * self.filter
        out: torch.Tensor = self.head(torch.fft.irfft(spectrum, n=6))
        return out


def test_complex_parameters_are_scaled_and_checked_like_others() -> None:
    torch.manual_seed(0)
    model, plain = Spectrum(), None
    for recipe in ("fp32", static(12)):
        again = copy.deepcopy(model)
        with MixedPrecision(again, sgd(again), recipe) as trainer:
            trainer.backward(loss_of(trainer, again))
            trainer.unscale()
            gradient = again.filter.grad
            plain = gradient if plain is None else plain
            assert gradient is not None
            torch.testing.assert_close(gradient, plain, rtol=0.02, atol=1e-3)
            assert trainer.update()
    with MixedPrecision(model, sgd(model), "paper") as trainer:
        model.filter.register_hook(lambda gradient: gradient * torch.inf)
        assert not trainer.step(loss_of(trainer, model))
        assert trainer.overflowed == "filter"


def test_complex_parameters_are_none_for_grad_scaler() -> None:
    model = Spectrum()
    with pytest.raises(UsageError, match=r"filter is complex, which torch\.amp\.GradScaler"):
        MixedPrecision(model, sgd(model), "fp16")


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "paper"])
def test_an_optimizer_without_any_gradient_moves_nothing_and_is_no_error(recipe: str) -> None:
    first, second = nn.Linear(6, 3), nn.Linear(6, 3)
    model = nn.ModuleList([first, second])
    x, y = batch()
    with MixedPrecision(model, {"a": sgd(first), "b": sgd(second)}, recipe) as trainer:
        assert trainer.update()
        before = second.weight.detach().clone()
        with trainer.autocast():
            loss = F.mse_loss(first(x), y)
        trainer.backward(loss)
        assert trainer.update()
        assert torch.equal(second.weight, before)
        with trainer.autocast():
            loss = F.mse_loss(second(x), y)
        assert trainer.step(loss)
        assert not torch.equal(second.weight, before)


@pytest.mark.parametrize("normed", [parametrizations.spectral_norm, spectral_norm])
@pytest.mark.parametrize("recipe", ["fp16", "paper", "paper-fp16-accumulation"])
def test_spectral_normalisation_keeps_its_float32(
    recipe: str, normed: Callable[[nn.Module], nn.Module]
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(normed(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3))
    with MixedPrecision(model, sgd(model), recipe) as trainer:
        for seed in range(2):
            trainer.step(loss_of(trainer, model, seed))
        kept = {name: p.dtype for name, p in model.named_parameters()}
        wide = [name for name in kept if "orig" in name]
        assert len(wide) == 1
        assert kept[wide[0]] is torch.float32
        assert kept["2.weight"] is (torch.float32 if recipe == "fp16" else torch.float16)
    assert trainer.skipped_steps < 2


class Output(OrderedDict[str, torch.Tensor]):
    """What models of a well-known library return: a dict with attributes."""

    def __getattr__(self, name: str) -> torch.Tensor:
        return self[name]


def test_a_dict_keeps_its_type_on_its_way_into_a_float32_module() -> None:
    given = Output(hidden=torch.ones(2).half())
    found = to_float32(given)
    assert type(found) is Output
    assert found.hidden.dtype is torch.float32
    assert given.hidden.dtype is torch.float16


def test_what_a_float32_module_puts_into_a_dict_arrives() -> None:
    class Filling(nn.Linear):
        def forward(self, x: torch.Tensor, cache: dict[str, Any]) -> torch.Tensor:  # type: ignore[override]
            cache["seen"] = x.dtype
            return super().forward(x)

    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(6, 6), Filling(6, 3)
            self.cache: dict[str, Any] = {"pairs": (1, [2.0])}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.inner(x), self.cache)
            return out

    model = Caller()
    with MixedPrecision(model, sgd(model), replace(PAPER, fp32_modules=("head",))) as trainer:
        trainer.step(loss_of(trainer, model))
    assert model.cache["seen"] is torch.float32


def test_two_updates_in_one_autocast_region_each_undo_their_own_statistics() -> None:
    norms = [nn.BatchNorm1d(3), nn.BatchNorm1d(3)]
    first, second = (nn.Sequential(nn.Linear(6, 3), norm) for norm in norms)
    x, y = batch()
    before = torch.zeros(3)
    model = nn.ModuleList([first, second])
    with MixedPrecision(model, {"a": sgd(first), "b": sgd(second)}, static(4)) as trainer:
        with trainer.autocast():
            assert trainer.step(F.mse_loss(first(x), y), optimizer="a")
            assert not trainer.step(F.mse_loss(second(x), y) * torch.inf, optimizer="b")
        assert norms[1].running_mean is not None
        assert torch.equal(norms[1].running_mean, before)
        assert norms[0].running_mean is not None
        assert not torch.equal(norms[0].running_mean, before)


@pytest.mark.parametrize("log2_scale", [127, -127, 5000])
def test_a_scale_that_float32_does_not_have_is_refused(log2_scale: int) -> None:
    with pytest.raises(UsageError, match="between -126 and 126"):
        LossScaling(kind="static", log2_initial=log2_scale)
