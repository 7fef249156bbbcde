"""Range findings, master weight verdicts, and the recipe that follows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from precscope.advice import advise
from precscope.advice.findings import Finding
from precscope.advice.outcome import training_findings, training_verdict
from tests.support.recordings import recording, update_window


def rules(findings: tuple[Finding, ...]) -> list[str]:
    return [f.rule for f in findings]


@pytest.mark.parametrize(
    ("values", "rule", "severity"),
    [
        ([1.0, 65520.0], "overflow", "critical"),
        ([1.0, 65519.0], "headroom", "warning"),
        ([1.0, 32761.0], "headroom", "warning"),
        ([2.0**-26] * 9, "underflow", "warning"),
        ([2.0**-16 * 1.3] * 9, "underflow", "advice"),
        ([1.0, math.nan], "non_finite", "critical"),
        ([1.0, math.inf], "non_finite", "critical"),
    ],
)
def test_forward_values_outside_fp16_are_found(
    values: list[float], rule: str, severity: str
) -> None:
    advice = advise(recording([("block.1", "activation", values)]))
    (finding,) = advice.findings
    assert (finding.rule, finding.severity, finding.site) == (rule, severity, "block.1")
    assert advice.verdicts[0].severity == severity


@pytest.mark.parametrize("values", [[1.0, 32700.0], [0.0] * 100 + [1.0], [1.0] * 99 + [2.0**-30]])
def test_values_that_fit_give_no_finding(values: list[float]) -> None:
    advice = advise(recording([("block.1", "activation", values)]))
    assert not advice.findings
    assert advice.verdicts[0].severity == "ok"


def test_a_site_that_stays_in_float32_gives_no_finding() -> None:
    made = recording([("softmax", "activation", [1e9])], "float32")
    assert not advise(made).findings


def test_modules_that_overflow_are_kept_in_fp32_by_the_recipe() -> None:
    made = recording(
        [("a.b", "activation", [1e6]), ("c.weight", "weight", [1e6]), ("d", "activation", [1.0])]
    )
    assert advise(made).recipe.fp32_modules == ("a.b", "c")


@pytest.mark.parametrize(
    ("retention", "need"),
    [
        ((0.5, 0.0, 0.0), "required"),
        ((0.79, 0.7, 0.7), "required"),
        ((0.9, 0.9, 0.9), "advised"),
        ((1.0, 0.9, 0.2), "advised"),
        ((1.0, 0.99, 0.96), "not_needed"),
    ],
)
def test_retention_decides_the_master_copy(
    retention: tuple[float, float, float], need: str
) -> None:
    made = recording([("p", "weight", [1.0])], updates={"p": [update_window("p", retention)]})
    advice = advise(made)
    assert advice.master_weights == need
    assert advice.recipe.master_weights == (need != "not_needed")
    assert ("updates_swallowed" in rules(advice.findings)) == (need == "required")


def test_the_worst_window_counts() -> None:
    windows = [update_window("p", (1.0, 1.0, 1.0)), update_window("p", (0.4, 0.1, 0.0))]
    advice = advise(recording([("p", "weight", [1.0])], updates={"p": windows}))
    assert advice.master_weights == "required"
    assert advice.retention[0].retention == pytest.approx(0.4)


def test_a_window_with_hardly_any_update_is_noise() -> None:
    windows = [update_window("p", (1.0, 1.0, 1.0)), update_window("p", (0.0, 0.0, 0.0), 3)]
    advice = advise(recording([("p", "weight", [1.0])], updates={"p": windows}))
    assert advice.master_weights == "not_needed"


def test_updates_swallowed_after_convergence_do_no_harm() -> None:
    windows = [
        update_window("p", (1.0, 1.0, 1.0)),
        update_window("p", (0.2, 0.0, 0.0), squares=1e-4),
    ]
    advice = advise(recording([("p", "weight", [1.0])], updates={"p": windows}))
    assert advice.master_weights == "not_needed"


def test_a_schedule_that_ends_where_updates_vanish_is_required() -> None:
    windows = [
        update_window("p", (1.0, 1.0, 1.0)),
        update_window("p", (0.2, 0.0, 0.0), squares=1e-4, learning_rate=0.001),
    ]
    advice = advise(recording([("p", "weight", [1.0])], updates={"p": windows}))
    assert advice.master_weights == "required"


def test_swallowed_updates_of_a_bias_before_a_batch_norm_do_no_harm() -> None:
    sites = [
        ("conv", "activation_gradient", [1e-3] * 64),
        ("conv.bias", "weight_gradient", [1e-10] * 4),
    ]
    updates = {"conv.bias": [update_window("conv.bias", (0.0, 0.0, 0.0))]}
    made = recording(sites, updates=updates)  # type: ignore[arg-type]
    assert advise(made).retention[0].verdict == "not_needed"


def test_a_weight_that_stays_in_float32_needs_no_copy() -> None:
    updates = {"p": [update_window("p", (0.0, 0.0, 0.0))]}
    advice = advise(recording([], updates=updates, half_weights=["q"]))
    assert advice.master_weights == "unknown"
    assert advice.retention[0].verdict == "stays_fp32"


def test_an_embedding_that_autocast_does_not_cast_is_an_fp16_weight_all_the_same() -> None:
    updates = {"embed.weight": [update_window("embed.weight", (0.1, 0.0, 0.0))]}
    sites = [("embed.weight", "weight", [1.0])]
    made = recording(sites, "float32", updates, half_weights=["embed.weight"])  # type: ignore[arg-type]
    assert advise(made).master_weights == "required"


def run(recipe: str, final: float | None, diverged: int | None = None) -> dict[str, Any]:
    return {
        "recipe": recipe, "final_loss": final, "diverged_at": diverged, "steps": 10,
        "skipped_steps": 0,
    }  # fmt: skip


def test_the_outcome_is_judged_against_fp32() -> None:
    same = training_verdict([run("fp32", 1.0), run("advised", 1.019)])
    worse = training_verdict([run("fp32", 1.0), run("advised", 1.03)])
    better = training_verdict([run("fp32", 1.0), run("advised", 0.5)])
    diverged = training_verdict([run("fp32", 1.0), run("advised", None, 7)])
    assert [v.severity for v in (same, worse, better, diverged)] == [
        "ok", "critical", "ok", "critical",
    ]  # fmt: skip
    assert "step 7" in diverged.sentence
    assert "Not trained" in training_verdict([]).sentence


def test_recipes_that_fall_behind_are_findings() -> None:
    found = training_findings(
        [run("fp32", 1.0), run("advised", 1.0), run("fp16", 1.5), run("paper", None, 3)]
    )
    assert [(f.rule, f.severity) for f in found] == [
        ("recipe_behind", "advice"),
        ("recipe_diverged", "advice"),
    ]
