"""A pass that fails costs itself only, and what there is after each pass is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from precscope.analysis.timing import time_workload
from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.timing import measure as passes
from precscope.timing.document import timing_document
from precscope.timing.measure import TIME_IS_UP, Measurement, arithmetic_of
from precscope.timing.stepping import stepping as real_stepping
from tests.support.small_workload import small_workload
from tests.timing.nvml_library import Library, installed
from tests.timing.test_passes import CPU, LONG, READ, SHORT, document, pretended

__all__ = ["pretended"]


class WithInnerGradient(nn.Module):
    """Takes a gradient inside its forward, in which torch's counter of FLOPs raises."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        force: torch.Tensor = torch.func.grad(lambda y: self.linear(y).sum())(x)
        out: torch.Tensor = self.linear(x) + force
        return out


def with_inner_gradient(workload: Any, recipe: Recipe, device: torch.device, seed: int) -> Any:
    class Session:
        model = WithInnerGradient()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def batches(self) -> Any:
            return iter([torch.randn(2, 4)] * 4)

        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.model(batch).sum()
            return out

    class Workload:
        def session(self, seed: int, device: str) -> Any:
            return Session()

    return real_stepping(Workload(), recipe, device, seed)


def test_where_flops_cannot_be_counted_the_times_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "stepping", with_inner_gradient)
    found = time_workload(small_workload(tmp_path), [], Recipe.named("fp16"), CPU, 0)
    assert [entry["module"] for entry in found["modules"]] == ["", "linear"]
    assert all(entry["total_ms"] > 0 and entry["flops"] is None for entry in found["modules"])
    assert found["reasons"]["flops"].startswith("fp32: RuntimeError")


def failing(short: str, error: Exception) -> Any:
    def fails(workload: Any, recipe: Recipe, device: torch.device, seed: int) -> Any:
        if recipe.name == short:
            raise error
        return real_stepping(workload, recipe, device, seed)

    return fails


def test_a_recipe_that_fails_costs_itself_only(
    pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED\nmore")
    monkeypatch.setattr(passes, "stepping", failing("tf32", error))
    found = document(tmp_path, Library(), READ)
    json.dumps(found, allow_nan=False)
    assert [entry["recipe"] for entry in found["recipes"]] == ["fp32", "fp16"]
    told = "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"
    assert found["reasons"]["blocks"] == f"tf32: {told}"
    assert found["modules"]


def test_what_the_user_can_mend_is_raised(
    pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "stepping", failing("tf32", UsageError("no such device")))
    with pytest.raises(UsageError, match="no such device"):
        document(tmp_path, Library(), READ)


def test_each_pass_tells_what_there_is(pretended: None, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def tell(found: Measurement) -> None:
        told.append(json.loads(json.dumps(timing_document(found, "fp16", "fp16"))))

    recipes = [Recipe.named(name) for name in ("fp32", "fp16")]
    with installed(Library()):
        passes.measure(small_workload(tmp_path), recipes, "fp16", CPU, 0, SHORT, tell)
    assert [len(found["recipes"]) for found in told] == [1, 2, 2, 2, 2, 2, 2]
    assert [bool(found["modules"]) for found in told] == [False] * 4 + [True] * 3
    assert told[-1]["tensor_cores"]["busy_ms"] > 0


def test_a_further_round_leaves_time_for_the_other_passes(pretended: None, tmp_path: Path) -> None:
    found = document(tmp_path, Library(), replace(SHORT, limit_s=3600.0, rest_s=3600.0))
    assert [len(entry["blocks_ms"]) for entry in found["recipes"]] == [1, 1, 1]
    assert found["reasons"]["blocks"] == TIME_IS_UP
    assert found["modules"]
    assert found["tensor_cores"]["busy_ms"] > 0


def test_float32_is_not_held_against_the_tensor_cores(pretended: None, tmp_path: Path) -> None:
    """Half of the peak of the CUDA cores is no contradiction to tensor pipes at rest."""
    found = document(tmp_path, Library(gpm={5: 0.0, 7: 0.0}), LONG, "fp32")
    names = [check["name"] for check in found["tensor_cores"]["checks"]]
    assert "names and counters" in names
    assert "rate and counters" not in names


def test_sums_in_fp16_are_an_arithmetic_of_their_own() -> None:
    assert arithmetic_of(Recipe.named("paper-fp16-accumulation")) == "fp16 sums"
