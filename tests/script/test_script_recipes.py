"""The paper's ablations for an unedited script: no scaling, no master copy, and what replaces it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from precscope.analysis.script_flow import ScriptOptions, analyze_script
from precscope.analysis.script_recipes import (
    NOT_CALLED_FOR,
    PAPER_IS_AUTOCAST,
    for_script,
    recipes_not_run,
    recipes_to_run,
)
from precscope.recipe import RECIPES, LossScaling, Recipe
from precscope.result import build_result
from precscope.script import Script
from precscope.script.half_weights import HalfWeights
from precscope.training import MixedPrecision
from precscope_reports.html import render
from tests.script.watched import watching

SCRIPT = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    for p in model.parameters():  # magnitudes from 1/4 to 1/2
        p.data = p.sign().where(p != 0, 1.0) * (1 + torch.rand_like(p)) / 4
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    x = torch.randn(32, 16)
    for i in range(200):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
"""
SWALLOWED, KEPT = 2.0**-14, 2.0**-8
"""Updates of 2^-12 and less of every weight, and of 2^-7 and more."""
STEPS = 60
NAMES = ("fp32", "paper-no-master", "paper-kahan", "paper-stochastic-rounding")


def script(rate: float) -> str:
    return SCRIPT.replace("RATE", str(rate))


def in_a_script(folder: Any, name: str, steps: int = STEPS) -> list[float]:
    recipe = for_script(Recipe.named(name))
    ended, _ = folder.run(Script("train.py"), steps=steps, recipe=recipe, seed=0)
    assert ended.exit_code == 0, ended.complaints
    return [float(event["loss"]) for event in ended.of("step")]


def in_a_model_file(rate: float, name: str) -> list[float]:
    """The same training by the engine that has FP16 tensors for weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    for p in model.parameters():
        p.data = p.sign().where(p != 0, 1.0) * (1 + torch.rand_like(p)) / 4
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    x = torch.randn(32, 16)
    losses = []
    with MixedPrecision(model, optimizer, recipe=name, run_length=STEPS) as trainer:
        for _ in range(STEPS):
            with trainer.autocast():
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            trainer.step(loss)
            losses.append(float(loss.detach()))
    return losses


def test_without_a_master_copy_tiny_updates_are_swallowed(folder: Any) -> None:
    folder.write("train.py", script(SWALLOWED))
    fp32, rounded, kahan, stochastic = (in_a_script(folder, name) for name in NAMES)
    gained = fp32[0] - fp32[-1]
    assert gained > 0.02 * fp32[0]
    assert rounded[0] - rounded[-1] < 0.1 * gained
    assert kahan[0] - kahan[-1] > 0.8 * gained
    assert stochastic[0] - stochastic[-1] > 0.6 * gained


@pytest.mark.parametrize("rate", [SWALLOWED, KEPT])
@pytest.mark.parametrize("name", ["paper-no-master", "paper-no-scaling", "paper-kahan"])
def test_an_ablation_of_a_script_trains_as_that_of_a_model_file(
    folder: Any, rate: float, name: str
) -> None:
    folder.write("train.py", script(rate))
    assert in_a_script(folder, name) == pytest.approx(in_a_model_file(rate, name), rel=1e-3)


def test_the_advice_that_wants_a_master_copy_is_proved_by_leaving_it_out(folder: Any) -> None:
    folder.write("train.py", script(SWALLOWED))
    options = ScriptOptions(steps=STEPS, seeds=1)
    said = SimpleNamespace(phase=lambda name, total: None, advance=lambda done, note="": None)
    with folder.starting():
        analyze_script(Script("train.py"), folder.path / "run.precscope", options, "", said)
    result = build_result(folder.recording)
    assert result["master_weights"]["verdict"] == "required"
    runs = {run["recipe"]: run for run in result["runs"]}
    assert list(runs) == ["fp32", "advised", "fp16", "bf16", "paper-no-master"]
    assert runs["paper-no-master"]["simulated"]
    assert "rounded to float16 (to nearest even)" in runs["paper-no-master"]["description"]
    assert runs["paper-no-master"]["weight_bytes"] == runs["fp32"]["weight_bytes"]
    said_of = {f["rule"]: f for f in result["findings"]}
    assert "recipe paper-no-master ended" in said_of["recipe_behind"]["message"]
    left_out = [f for f in result["findings"] if f["rule"] == "script_recipes_not_run"]
    assert [f["evidence"]["recipes"] for f in left_out] == ["paper", "paper-no-scaling"]
    assert "for an unedited script it is fp16" in left_out[0]["message"]
    assert "rounded to float16 (to nearest even)" in render(result)


UNSCALED = LossScaling("static", 0)
HALF = replace(Recipe.named("paper-no-master"), loss_scaling=UNSCALED)


def test_weights_hold_fp16_values_and_norms_do_not(tmp_path: Path) -> None:
    torch.manual_seed(1)
    with watching(tmp_path, HALF, steps=9):
        first = nn.Linear(4, 8)
        model = nn.Sequential(first, nn.LayerNorm(8), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(3):
            model(torch.randn(5, 4)).square().mean().backward()
            assert optimizer.step() is None
            assert {name: is_half(p) for name, p in model.named_parameters()} == {
                "0.weight": True, "0.bias": True, "1.weight": False, "1.bias": False,
                "2.weight": True, "2.bias": True,
            }  # fmt: skip
        with torch.no_grad():
            first.weight.clamp_(-0.1, 0.1)
        seen = model(torch.randn(5, 4))
        assert is_half(first.weight)
        seen.sum().backward()  # nothing that backward needs was touched


def is_half(tensor: torch.Tensor) -> bool:
    return torch.equal(tensor.half().float(), tensor)


def test_a_skipped_update_leaves_every_rule_its_weights(tmp_path: Path) -> None:
    for name in ("paper-no-master", "paper-kahan", "paper-stochastic-rounding"):
        torch.manual_seed(1)
        (tmp_path / name).mkdir()
        recipe = replace(Recipe.named(name), loss_scaling=UNSCALED)
        with watching(tmp_path / name, recipe, steps=9) as told:
            model = nn.Linear(4, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for factor in (1.0, 1e30, 1.0):
                before = model.weight.detach().half().float()
                (model(torch.ones(2, 4)).float() * factor).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                assert torch.equal(before, model.weight) == (factor > 1.0), name
            skipped = [bool(event["skipped"]) for event in told() if event["event"] == "step"]
            assert skipped == [False, True, False]


def test_paper_is_run_once_as_fp16_and_that_is_said(folder: Any) -> None:
    folder.write("train.py", script(KEPT))
    phases: list[str] = []
    said = SimpleNamespace(
        phase=lambda name, total: phases.append(name), advance=lambda done, note="": None
    )
    with folder.starting():
        options = ScriptOptions(steps=4, seeds=1, recipes=("fp32", "fp16", "paper"))
        analyze_script(Script("train.py"), folder.path / "run.precscope", options, "", said)
    result = build_result(folder.recording)
    assert [run["recipe"] for run in result["runs"]] == ["fp32", "fp16"]
    assert "recipe paper is fp16 for an unedited script" in phases
    (left_out,) = [f for f in result["findings"] if f["rule"] == "script_recipes_not_run"]
    assert left_out["evidence"]["recipes"] == "paper"


def test_ties_go_to_even_and_a_model_in_half_is_refused() -> None:
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11]])
    HalfWeights(HALF, 0).add(model)
    assert model.weight.tolist() == [[1.0, 1.0 + 2.0**-9]]
    with pytest.raises(Exception, match=r"float16 already"):
        HalfWeights(HALF, 0).add(nn.Linear(2, 1).half())


def advice(scale: str, need: str) -> Any:
    recipe = Recipe("advised", "as advised", "float16", "float16", master_weights=True)
    return SimpleNamespace(
        recipe=recipe, loss_scale=SimpleNamespace(verdict=scale), master_weights=need
    )


@pytest.mark.parametrize(
    ("scale", "need", "more"),
    [
        ("not_needed", "not_needed", []),
        ("static", "not_needed", ["paper-no-scaling"]),
        ("dynamic", "advised", ["paper-no-scaling", "paper-no-master"]),
        ("impossible", "required", ["paper-no-master"]),
        ("unknown", "unknown", []),
    ],
)
def test_what_the_advice_wants_is_left_out_once_by_default(
    scale: str, need: str, more: list[str]
) -> None:
    found = advice(scale, need)
    names = [recipe.name for recipe in recipes_to_run(None, found)]
    assert names == ["fp32", "advised", "fp16", "bf16", *more]
    told = recipes_not_run(None, found)
    assert told[0] == PAPER_IS_AUTOCAST
    left_out = [name for name in ("paper-no-scaling", "paper-no-master") if name not in more]
    assert [entry["recipes"] for entry in told[1:]] == [[name] for name in left_out]
    assert all(entry["reason"] == NOT_CALLED_FOR for entry in told[1:])


def test_recipes_that_were_asked_for_are_run_and_no_others() -> None:
    found = advice("dynamic", "required")
    assert [r.name for r in recipes_to_run(("paper", "FP16"), found)] == ["fp32", "fp16"]
    assert recipes_not_run(("paper", "fp16"), found) == [PAPER_IS_AUTOCAST]
    assert recipes_not_run(("fp16",), found) == []
    for name in RECIPES:
        recipe = for_script(Recipe.named(name))
        rounds = name in NAMES
        assert (recipe.weights_dtype == "float16") == (rounds and name != "fp32")
        assert recipe.master_weights is False
    assert for_script(found.recipe).weights_dtype == "float32"
