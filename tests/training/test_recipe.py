from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from precscope.errors import UsageError
from precscope.training import RECIPES, LossScaling, Recipe

NAMES = [
    *("fp32", "tf32", "bf16", "fp16", "paper", "paper-no-master", "paper-no-scaling"),
    *("paper-fp16-accumulation", "paper-stochastic-rounding", "paper-kahan"),
]

ADVISED = Recipe(
    "advised",
    "what the advice says",
    compute_dtype="float16",
    loss_scaling=LossScaling(kind="static", log2_initial=10),
    fp32_modules=("head", "blocks.*.norm"),
    scaler="precscope",
)


def test_the_named_recipes_are_these() -> None:
    assert list(RECIPES) == NAMES
    assert all(Recipe.named(name).name == name for name in NAMES)
    assert Recipe.named("FP16") == Recipe.named("fp16")


@pytest.mark.parametrize("name", ["fp12", "paper-fp8", ""])
def test_an_unknown_name_lists_those_that_exist(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.named(name)
    assert all(known in str(caught.value) for known in NAMES)
    assert "\n" not in str(caught.value)


def test_what_the_names_mean() -> None:
    paper = Recipe.named("paper")
    assert paper.weights_dtype == "float16"
    assert paper.master_weights
    assert replace(paper, name="x", description="", master_weights=False) == replace(
        Recipe.named("paper-no-master"), name="x", description=""
    )
    assert Recipe.named("paper-no-scaling").loss_scaling.kind == "none"
    assert Recipe.named("fp16").scaler == "torch"
    assert Recipe.named("bf16").loss_scaling.kind == "none"


@pytest.mark.parametrize("recipe", [*RECIPES.values(), ADVISED], ids=lambda recipe: recipe.name)
def test_round_trips(recipe: Recipe, tmp_path: Path) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    path = tmp_path / "recipe.json"
    recipe.save(path)
    assert Recipe.load(path) == recipe
    assert json.loads(path.read_text())["schema"] == 1


def test_recipes_are_values() -> None:
    assert hash(ADVISED) == hash(Recipe.from_dict(ADVISED.to_dict()))
    with pytest.raises(FrozenInstanceError):
        ADVISED.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "{" * 5000,
        '{"schema": 2, "name": "x"}',
        '{"schema": 1}',
        '{"schema": 1, "name": 3}',
        '{"schema": 1, "name": "x", "compute_dtype": "float8"}',
        '{"schema": 1, "name": "x", "colour": "red"}',
        '{"schema": 1, "name": "x", "master_weights": "no"}',
        '{"schema": 1, "name": "x", "fp32_modules": "head"}',
        '{"schema": 1, "name": "x", "fp32_modules": [1]}',
        '{"schema": 1, "name": "x", "loss_scaling": 7}',
        '{"schema": 1, "name": "x", "loss_scaling": {"kind": "static", "log2_initial": 1.5}}',
        '{"schema": 1, "name": "x", "compute_dtype": []}',
    ],
)
def test_a_bad_file_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.json") as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        Recipe.load(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="not valid JSON"):
        Recipe.load(tmp_path / "binary")
    with pytest.raises(UsageError, match="cannot write"):
        ADVISED.save(tmp_path / "none" / "x.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_dtype": "float16"}, "compute_dtype float16"),
        ({"master_weights": True}, "their own master"),
        ({"tf32": True, "compute_dtype": "bfloat16"}, "tf32"),
        ({"scaler": "precscope"}, "does not go with"),
        ({"loss_scaling": LossScaling(kind="dynamic")}, "does not go with"),
        ({"scaler": "torch", "loss_scaling": LossScaling(kind="static")}, "always dynamic"),
        ({"accumulation": "fp8"}, "choose one of fp32, fp16"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe("mine", **changes)


def test_torch_refuses_float16_gradients_so_we_do() -> None:
    with pytest.raises(UsageError, match="float16 gradients"):
        replace(Recipe.named("paper"), scaler="torch")


@pytest.mark.parametrize(
    "values",
    [{"growth_interval": 0}, {"log2_initial": 30}, {"log2_min": 20}, {"log2_initial": True}],
)
def test_impossible_scaling_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="loss_scaling"):
        LossScaling(kind="dynamic", **values)


def run_code(recipe: Recipe) -> dict[str, Any]:
    torch.manual_seed(0)
    body, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
    model = torch.nn.ModuleDict({"body": body, "head": head})
    seen: dict[str, Any] = {}

    def loss_fn(model: Any, batch: torch.Tensor) -> torch.Tensor:
        hidden = body(batch)
        out = head(hidden)
        seen.update(body=hidden.dtype, head=out.dtype)
        return F.mse_loss(out, torch.zeros_like(out))

    scope = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "batches": [torch.randn(3, 4) for _ in range(2)],
        "loss_fn": loss_fn,
        "device": "cpu",
    }
    before = body.weight.detach().clone()
    precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        exec(recipe.code(), scope)
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32
    assert not torch.equal(before, body.weight.float())
    return seen | {"scope": scope}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_the_code_trains(recipe: Recipe) -> None:
    seen = run_code(recipe)
    assert seen["body"] == getattr(torch, recipe.compute_dtype)


def test_the_code_of_an_advised_recipe_has_its_scale_and_float32_modules() -> None:
    seen = run_code(replace(ADVISED, fp32_modules=("head",)))
    assert (seen["body"], seen["head"]) == (torch.float16, torch.float32)
    assert seen["scope"]["scaler"].get_scale() == 2.0**10


def test_the_code_of_an_unnamed_recipe_with_float16_weights_spells_it_out() -> None:
    mine = replace(Recipe.named("paper"), name="mine", fp32_modules=("head",))
    seen = run_code(mine)
    assert (seen["body"], seen["head"]) == (torch.float16, torch.float32)
    assert seen["scope"]["trainer"].recipe == mine
