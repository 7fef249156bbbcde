"""The residual error during a run: measured beside it, at its scale, and harmless to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope import Recipe
from precscope.advice.residual import Residual, residual_of
from precscope.analysis.residual import ResidualProbe, floor_scale, measured_steps
from precscope.analysis.sweep import static_recipe
from precscope.recipe import LossScaling
from precscope.training import TrainingRun, train
from tests.support.small_workload import MODEL, small_workload

STEPS = 20


def measured(
    tmp_path: Path, recipe: Recipe, text: str = MODEL
) -> tuple[TrainingRun, dict[str, Any]]:
    probe = ResidualProbe(small_workload(tmp_path, text), recipe, STEPS)
    run = train(probe, recipe, STEPS, 3, on_step=probe.on_step)
    return run, probe.document()


def judged(document: dict[str, Any]) -> Residual:
    return residual_of(document)


@pytest.mark.parametrize("recipe", ["paper", "fp16", "paper-no-scaling"])
def test_the_run_is_the_same_bits_with_and_without_it(tmp_path: Path, recipe: str) -> None:
    plain = train(small_workload(tmp_path), recipe, STEPS, 3)
    run, document = measured(tmp_path, Recipe.named(recipe))
    assert run.losses == plain.losses
    assert run.metrics == plain.metrics
    assert [point["step"] for point in document["points"]] == [1, 9, 19]


def test_a_scale_that_keeps_the_gradients_has_no_more_error_than_larger_ones(
    tmp_path: Path,
) -> None:
    found = judged(measured(tmp_path, static_recipe(6))[1])
    assert [point.log2_scale for point in found.points] == [6, 6, 6]
    assert not any(point.breaks for point in found.points)
    for point in found.points:
        assert point.error is not None
        assert point.tolerated is not None
        assert point.error <= point.tolerated


def test_a_scale_that_flushes_the_gradients_breaks(tmp_path: Path) -> None:
    found = judged(measured(tmp_path, static_recipe(-18))[1])
    assert found.worst is not None
    assert found.worst.breaks
    assert found.worst.error is not None
    assert found.worst.error > 0.5


def test_a_scale_that_overflows_is_told_from_one_that_flushes(tmp_path: Path) -> None:
    found = judged(measured(tmp_path, static_recipe(30))[1])
    assert found.worst is not None
    assert found.worst.breaks
    assert found.worst.error is None


def test_the_scale_of_a_dynamic_recipe_is_the_one_in_force(tmp_path: Path) -> None:
    run, document = measured(tmp_path, Recipe.named("paper"))
    for point in document["points"][:-1]:
        # The scale after a step is the one of the next.
        assert point["log2_scale"] == run.log2_scales[point["step"] + 1]


def test_modules_that_the_recipe_keeps_in_fp32_are_kept_there(tmp_path: Path) -> None:
    text = MODEL.replace("model(batch[0])", "model(batch[0] * 1e3) * 1e-3")
    wide = text.replace("nn.Linear(8, 16), ", "nn.Linear(8, 16), nn.Linear(16, 16), ")
    overflowing = wide.replace("nn.Linear(16, 16)", "Loud(16, 16)").replace(
        "def model", "class Loud(nn.Linear):\n    def forward(self, x):\n"
        "        return super().forward(x * 1e4) * 1e-4\n\ndef model",
    )  # fmt: skip
    # Skipping keeps the weights finite, which makes the FP32 gradient beside it measurable.
    half = replace(Recipe.named("paper"), loss_scaling=LossScaling("static", log2_initial=4))
    lost = judged(measured(tmp_path, half, overflowing)[1])
    kept = replace(half, fp32_modules=("1",))
    saved = judged(measured(tmp_path, kept, overflowing)[1])
    assert lost.worst is not None
    assert saved.worst is not None
    assert lost.worst.error is None
    assert saved.worst.error is not None


def test_bf16_has_no_fp16_gradient_to_measure(tmp_path: Path) -> None:
    _, document = measured(tmp_path, Recipe.named("bf16"))
    assert document["points"] == []
    assert "bfloat16" in judged(document).reason  # type: ignore[operator]


def test_what_fails_ends_the_measurement_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room for a second model")

    monkeypatch.setattr("precscope.analysis.residual.measure_gradient_errors", fail)
    run, document = measured(tmp_path, Recipe.named("paper"))
    assert run.steps == STEPS
    assert "MemoryError: no room" in document["reason"]


def test_no_hook_and_no_gradient_stays_on_the_second_model(tmp_path: Path) -> None:
    recipe = replace(Recipe.named("paper-no-scaling"), fp32_modules=("0",))
    probe = ResidualProbe(small_workload(tmp_path), recipe, STEPS)
    train(probe, recipe, STEPS, 3, on_step=probe.on_step)
    shadow = probe._shadow
    assert shadow is not None
    assert not any(module._forward_pre_hooks for module in shadow.model.modules())
    assert all(p.grad is None for p in shadow.model.parameters())
    assert all(p.dtype == torch.float32 for p in shadow.model.parameters())


def test_points_lie_early_in_the_middle_and_at_the_end() -> None:
    assert measured_steps(100) == (9, 49, 99)
    assert measured_steps(1) == (0,)


def test_the_floor_is_at_the_largest_scale_where_nothing_overflows() -> None:
    errors: Any = {"4": {"a": 0.5}, "7": {"a": 0.1}, "10": {"a": None}}
    assert floor_scale(errors, 4) == 7
    assert floor_scale({"4": {"a": 0.5}, "7": {"a": None}}, 4) == 4
