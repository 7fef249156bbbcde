from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from precscope.errors import UsageError
from precscope.recipe import RECIPES, LossScaling, Recipe
from precscope.training import MixedPrecision, train
from tests.training.fakes import make_workload
from tests.training.small_net import net, sgd

PAPER = Recipe.named("paper")
ADVISED = replace(
    PAPER,
    name="advised",
    loss_scaling=LossScaling(kind="static", log2_initial=7),
    fp32_modules=("head",),
)


def test_a_recipe_a_name_and_a_file_are_all_choices(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    ADVISED.save(path)
    assert Recipe.of(ADVISED) is ADVISED
    assert Recipe.of("Paper") == PAPER
    assert Recipe.of(path) == Recipe.of(str(path)) == ADVISED


def test_a_name_is_not_looked_up_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").write_text("{}")
    assert Recipe.of("paper") == PAPER
    with pytest.raises(UsageError, match="unknown recipe"):
        Recipe.of("papre")
    with pytest.raises(UsageError, match="cannot read"):
        Recipe.of("papre.json")


def test_a_result_and_its_recipe_block_load_as_the_advised_recipe(tmp_path: Path) -> None:
    block = {**ADVISED.to_dict(), "code": ADVISED.code()}
    for name, content in {
        "block.json": block,
        "result.json": {"schema": 1, "recipe": block},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
        assert Recipe.load(tmp_path / name) == ADVISED


@pytest.mark.parametrize("recipe", [None, 3, {"schema": 1, "runs": []}])
def test_a_result_without_a_recipe_is_one_line(tmp_path: Path, recipe: object) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"schema": 1, "recipe": recipe}))
    with pytest.raises(UsageError, match="result") as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)


def test_trainers_and_runs_take_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    ADVISED.save(path)
    model = net()
    with MixedPrecision(model, sgd(model), recipe=path) as trainer:
        assert trainer.recipe == ADVISED
        assert trainer.log2_scale == 7.0
    replace(ADVISED, fp32_modules=()).save(path)
    run = train(make_workload(), path, steps=2, seed=0)
    assert run.recipe == "advised"
    assert run.log2_scales == (7.0, 7.0)


def test_a_file_of_before_has_the_defaults_of_newer_fields() -> None:
    values = PAPER.to_dict()
    for newer in ("accumulation_block", "weight_updates"):
        del values[newer]
    assert Recipe.from_dict(values) == PAPER


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulation_block": 2}, "1, 4, 8, 16"),
        ({"accumulation_block": "16"}, "int"),
        ({"accumulation_block": True}, "int"),
        ({"weight_updates": "up"}, "nearest, stochastic, kahan"),
        ({"weight_updates": "kahan"}, "without a master"),
    ],
)
def test_wrong_values_of_newer_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(PAPER, **changes)


def test_combinations_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="float16 weights without a master"):
        Recipe("mine", weight_updates="stochastic")
    with pytest.raises(UsageError, match="compute_dtype float16"):
        Recipe("mine", accumulation="fp16")


def test_the_ablations_differ_from_paper_in_one_thing() -> None:
    def differences(name: str, base: str) -> set[str]:
        mine, other = RECIPES[name].to_dict(), RECIPES[base].to_dict()
        return {key for key in mine if mine[key] != other[key]} - {"name", "description"}

    assert differences("paper-fp16-accumulation", "paper") == {"accumulation"}
    assert differences("paper-stochastic-rounding", "paper-no-master") == {"weight_updates"}
    assert differences("paper-kahan", "paper-no-master") == {"weight_updates"}
    assert differences("paper-no-master", "paper") == {"master_weights"}


def test_fp16_accumulation_with_float32_weights_is_told_as_a_trainer() -> None:
    mine = replace(Recipe.named("fp16"), name="mine", accumulation="fp16", accumulation_block=4)
    assert "accumulation_block=4" in mine.code()
    assert "MixedPrecision(" in mine.code()
