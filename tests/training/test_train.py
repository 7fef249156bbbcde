from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch

from precscope.training import MixedPrecision, Recipe, TrainingRun, train
from precscope.training.training_run import (
    WARM_UP_STEPS,
    divergence,
    final_loss,
    json_number,
    step_time,
)
from tests.training.fakes import FakeSession, make_workload
from tests.training.small_net import static

INF, NAN = math.inf, math.nan


def plain_losses(workload: Any, steps: int, seed: int) -> tuple[list[float], torch.nn.Module]:
    session = workload.session(seed, "cpu")
    losses = []
    for _, batch in zip(range(steps), session.batches(), strict=False):
        loss = session.loss(batch)
        session.optimizer.zero_grad()
        loss.backward()
        session.optimizer.step()
        losses.append(loss.item())
    return losses, session.model


@pytest.mark.parametrize("net", ["mlp", "cnn", "lstm"])
def test_fp32_is_bit_identical_to_a_plain_loop(net: str) -> None:
    workload = make_workload(net)
    weights: list[torch.Tensor] = []

    def keep_last(step: int, loss: float, trainer: MixedPrecision) -> None:
        weights[:] = [p.detach().clone() for p in trainer.parameters()]

    run = train(workload, "fp32", steps=12, seed=5, on_step=keep_last)
    losses, model = plain_losses(workload, 12, 5)
    assert list(run.losses) == losses
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


@pytest.mark.parametrize("net", ["mlp", "cnn", "gru", "lstm", "attention"])
@pytest.mark.parametrize("recipe", ["fp16", "paper", "bf16"])
def test_half_precision_follows_the_fp32_loss(net: str, recipe: str) -> None:
    workload = make_workload(net)
    single = train(workload, "fp32", steps=40, seed=0)
    half = train(workload, recipe, steps=40, seed=0)
    assert single.final_loss is not None
    assert half.final_loss is not None
    assert single.first_loss is not None
    assert half.first_loss == pytest.approx(single.first_loss, rel=0.02)
    assert half.final_loss == pytest.approx(single.final_loss, rel=0.05)
    assert half.final_loss < 0.5 * single.first_loss
    assert half.metrics["accuracy"] >= single.metrics["accuracy"] - 0.1
    assert half.simulated == (recipe != "bf16")
    assert half.diverged_at is None


def test_runs_are_reproducible() -> None:
    runs = [train(make_workload(), "paper", steps=10, seed=1) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses != train(make_workload(), "paper", steps=10, seed=2).losses


def test_a_run_that_diverges_is_a_result() -> None:
    def hot(model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e30)

    run = train(make_workload(make_optimizer=hot), "fp32", steps=60, seed=0)
    assert run.diverged_at is not None
    assert 1 <= run.diverged_at <= 5
    assert run.steps == run.diverged_at + 25
    assert run.final_loss is None
    assert run.metrics == {}
    assert "never recovers" in (run.diverged_reason or "")
    json.dumps(run.to_dict(), allow_nan=False)


def test_without_scaling_a_small_loss_has_no_gradient_left() -> None:
    def fast(model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1 * 2.0**30)

    workload = make_workload(make_optimizer=fast, loss_factor=2.0**-30)
    names = ("fp32", "paper", "paper-no-scaling")
    single, scaled, unscaled = (train(workload, name, steps=30, seed=0) for name in names)
    assert single.final_loss is not None
    assert single.first_loss is not None
    assert scaled.final_loss == pytest.approx(single.final_loss, rel=0.02)
    assert unscaled.final_loss == pytest.approx(single.first_loss, rel=0.2)
    assert single.final_loss < 0.5 * single.first_loss


def test_a_scale_too_large_is_lowered_and_the_skips_are_listed() -> None:
    run = train(make_workload(loss_factor=256.0), "paper", steps=30, seed=0)
    assert run.skipped_steps == len(run.skipped_at) > 0
    assert run.skipped_at[0] == 0
    assert len(run.log2_scales) == 30
    assert run.log2_scales[0] == 16.0
    assert run.log2_scales[run.skipped_at[-1] + 1] == run.log2_scales[run.skipped_at[-1]] - 1


def test_a_static_scale_that_overflows_names_the_gradient_of_each_skipped_step() -> None:
    recipe = static(20)
    run = train(make_workload(loss_factor=256.0), recipe, steps=3, seed=0)
    assert run.skipped_at == (0, 1, 2)
    assert set(run.skipped_for) <= {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert run.scale_changes == ()


@pytest.mark.parametrize("recipe", ["fp16", "paper"])
def test_every_change_of_the_scale_is_told_with_the_gradient_that_caused_it(recipe: str) -> None:
    run = train(make_workload(loss_factor=256.0), recipe, steps=30, seed=0)
    told = run.to_dict()["scale_changes"]
    lowered = [change for change in told if change["log2_new"] < change["log2_old"]]
    assert [change["step"] for change in lowered] == list(run.skipped_at)
    assert [change["parameter"] for change in lowered] == list(run.skipped_for)
    for change in told:
        assert set(change) == {"step", "log2_old", "log2_new", "reason", "parameter"}
        assert run.log2_scales[change["step"]] == change["log2_old"]
        after = run.log2_scales[change["step"] + 1 :]
        assert not after or after[0] == change["log2_new"]
    assert {change["reason"] for change in lowered} == {"overflow"}
    assert {change["parameter"] for change in lowered} <= {
        "0.weight",
        "0.bias",
        "3.weight",
        "3.bias",
    }
    assert train(make_workload(), "fp32", steps=2, seed=0).to_dict()["scale_changes"] == []


def test_callbacks_and_early_steps() -> None:
    seen: list[tuple[int, int, float]] = []
    steps: list[int] = []
    run = train(
        make_workload(),
        "fp32",
        steps=3,
        seed=0,
        progress=lambda *told: seen.append(told),
        on_step=lambda step, loss, trainer: steps.append(step),
    )
    assert [told[:2] for told in seen] == [(1, 3), (2, 3), (3, 3)]
    assert tuple(told[2] for told in seen) == run.losses
    assert steps == [0, 1, 2]
    assert run.step_ms is None
    assert run.log2_scales == ()


def test_memory_of_the_paper_recipe_beside_fp32() -> None:
    single = train(make_workload(), "fp32", steps=4, seed=0)
    paper = train(make_workload(), "paper", steps=4, seed=0)
    bare = train(make_workload(), "paper-no-master", steps=4, seed=0)
    parameters = 8 * 32 + 32 + 32 * 4 + 4
    assert single.weight_bytes == 4 * parameters
    assert paper.weight_bytes == 6 * parameters
    assert bare.weight_bytes == 2 * parameters
    assert single.gradient_bytes == 4 * parameters
    assert paper.gradient_bytes == 2 * parameters
    assert paper.optimizer_bytes == single.optimizer_bytes >= 8 * parameters
    assert single.saved_tensor_bytes is not None
    assert paper.saved_tensor_bytes is not None
    assert paper.saved_tensor_bytes < single.saved_tensor_bytes
    assert single.peak_memory_bytes is None
    assert single.peak_memory_reason


def test_to_dict_has_the_keys_of_the_result_schema() -> None:
    values = train(make_workload(), "fp16", steps=8, seed=0).to_dict()
    assert set(values) == {f.name for f in dataclasses.fields(TrainingRun)}
    assert set(values["step_ms"]) == {"median", "p10", "p90"}
    assert values["recipe"] == "fp16"
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_a_failing_session_leaves_the_model_in_float32() -> None:
    made: list[FakeSession] = []

    class Failing(FakeSession):
        def loss(self, batch: Any) -> torch.Tensor:
            raise ArithmeticError("mine")

    class Workload:
        def session(self, seed: int, device: str) -> Failing:
            working = make_workload().session(seed, device)
            made.append(Failing(working.model, working.optimizer, seed))
            return Failing(working.model, working.optimizer, seed)

    with pytest.raises(ArithmeticError, match="mine"):
        train(Workload(), "paper", steps=2, seed=0)
    assert {p.dtype for p in made[0].model.parameters()} == {torch.float32}


def test_tf32_on_a_cpu_says_that_it_is_plain_float32() -> None:
    run = train(make_workload(), Recipe.named("tf32"), steps=3, seed=0)
    assert "plain float32" in run.description
    assert run.losses == train(make_workload(), "fp32", steps=3, seed=0).losses


@pytest.mark.parametrize(
    ("losses", "finite", "first"),
    [
        ([1.0, 0.5], True, None),
        ([1.0, NAN, 0.5], True, None),
        ([1.0, NAN, INF], False, 1),
        ([NAN, NAN], True, 0),
        ([1.0, 0.5], False, 1),
        ([], True, None),
    ],
)
def test_divergence_is_an_unbroken_tail(
    losses: list[float], finite: bool, first: int | None
) -> None:
    end = divergence(losses, finite)
    assert (end[0] if end else None) == first


def test_final_loss_is_the_mean_of_the_last_tenth() -> None:
    assert final_loss([float(i) for i in range(20)]) == 18.5
    assert final_loss([3.0, 1.0]) == 1.0
    assert final_loss([1.0, NAN]) is None
    assert final_loss([]) is None


def test_json_numbers() -> None:
    expected = [1.5, "NaN", "Infinity", "-Infinity"]
    assert [json_number(x) for x in (1.5, NAN, INF, -INF)] == expected


def test_step_time_leaves_out_the_warm_up() -> None:
    seconds = [9.0] * WARM_UP_STEPS + [0.001, 0.002, 0.003]
    timed = step_time(seconds)
    assert timed is not None
    assert (timed.median_ms, timed.p10_ms, timed.p90_ms) == pytest.approx((2.0, 1.2, 2.8))
    assert step_time(seconds[:WARM_UP_STEPS]) is None
