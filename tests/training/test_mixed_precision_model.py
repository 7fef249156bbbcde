from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from precscope.errors import UsageError
from precscope.training import MixedPrecision, Recipe
from tests.training.small_net import batch, loss_of, net, sgd, static


def test_no_stale_weights_inside_an_autocast_region_of_the_user() -> None:
    model = nn.Linear(4, 1, bias=False)
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=1.0), "fp16")
    x = torch.ones(2, 4)
    with torch.autocast("cpu", torch.float16):
        for step in range(3):
            with trainer.autocast():
                out = model(x)
            expected = model.weight.detach().sum()
            assert out[0].item() == pytest.approx(expected.item(), abs=1e-2), step
            trainer.step(out.float().mean() / 100)
    trainer.close()


@pytest.mark.parametrize("recipe", ["fp16", "bf16", "paper"])
def test_transformer_layers_evaluate_in_the_recipe_dtype(recipe: str) -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    expected = model(x)
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), recipe)
    with torch.no_grad(), trainer.autocast():
        out = model(x)
    trainer.close()
    assert not torch.equal(out.float(), expected)
    assert torch.allclose(out.float(), expected, atol=0.05)


@pytest.mark.parametrize("recipe", ["paper", "fp16"])
def test_modules_kept_in_float32(recipe: str) -> None:
    seen: dict[str, tuple[torch.dtype, torch.dtype]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            seen[name] = (output.dtype, module.weight.dtype)

        return hook

    model = nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8)), nn.Linear(8, 3))
    for name in ("0", "1.0", "2"):
        model.get_submodule(name).register_forward_hook(record(name))
    mine = replace(Recipe.named(recipe), name="mine", fp32_modules=("1",))
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), mine)
    trainer.step(loss_of(trainer, model))
    stored = torch.float16 if recipe == "paper" else torch.float32
    assert seen["0"] == (torch.float16, stored)
    assert seen["1.0"] == (torch.float32, torch.float32)
    assert seen["2"] == (torch.float16, stored)
    trainer.close()
    assert not model[1]._forward_pre_hooks
    assert not model[1]._forward_hooks


def test_a_float32_module_that_raises_leaves_autocast_as_it_was() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("mine")

    model = nn.Sequential(nn.Linear(6, 3), Broken())
    recipe = replace(Recipe.named("fp16"), name="mine", fp32_modules=("1",))
    trainer = MixedPrecision(model, torch.optim.SGD(model.parameters(), lr=0.1), recipe)
    with trainer.autocast():
        with pytest.raises(ValueError, match="mine"):
            model(batch()[0])
        assert torch.is_autocast_enabled("cpu")
    trainer.close()


def test_close_gives_back_the_float32_model() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rest = [*model.norm.parameters(), *model.head.parameters()]
    options: list[dict[str, Any]] = [
        {"params": [*model.first.parameters()], "lr": 0.5},
        {"params": rest},
    ]
    optimizer = torch.optim.AdamW(options)
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    with MixedPrecision(model, optimizer) as trainer:
        assert {p.dtype for p in model.first.parameters()} == {torch.float16}
        assert {p.dtype for p in model.norm.parameters()} == {torch.float32}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == groups
    assert optimizer.param_groups[0]["lr"] == 0.5
    trainer.close()


def test_training_goes_on_after_close_with_the_optimizer_state() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with MixedPrecision(model, optimizer) as trainer:
        assert trainer.step(loss_of(trainer, model))
    assert set(optimizer.state) == set(model.parameters())
    F.mse_loss(model(batch()[0]), batch()[1]).backward()
    optimizer.step()
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixedPrecision(net(), sgd(net()), "fp17"), "unknown recipe"),
        (lambda: MixedPrecision(nn.ReLU(), sgd(net())), "no parameters"),
        (lambda: MixedPrecision(net().half(), sgd(net())), "float16 already"),
        (
            lambda: MixedPrecision(net(), sgd(net()), static(0, fp32_modules=("hed",))),
            "no module of the model is named 'hed'",
        ),
    ],
)
def test_bad_arguments_are_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    model = net()
    with (
        MixedPrecision(model, sgd(model), "fp32") as trainer,
        pytest.raises(UsageError, match=r"shape \(16, 3\)"),
    ):
        trainer.step(model(batch()[0]))


def test_simulated_means_fp16_on_a_cpu() -> None:
    for name, simulated in {"fp32": False, "bf16": False, "fp16": True, "paper": True}.items():
        with MixedPrecision(model := net(), sgd(model), name) as trainer:
            assert trainer.simulated == simulated
