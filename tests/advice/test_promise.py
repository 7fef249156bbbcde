"""The promise: what breaks it, what does not, and that a broken one is told first."""

from __future__ import annotations

from typing import Any

import pytest

from precscope import build_result
from precscope.advice import advise
from precscope.advice.outcome import training_findings, training_verdict
from precscope.advice.promise import prove
from precscope.advice.promise_findings import promise_findings
from tests.support.recordings import recording, update_window
from tests.support.runs import run, runs

SPREAD = [1.0, 1.1, 1.2]


def residual(error: float | None, floor: float = 0.001, log2_scale: int = 4) -> dict[str, Any]:
    """A measurement after step 49: the error at the scale in force, and at two larger ones."""
    errors = {
        str(log2_scale): {"fc.weight": error},
        str(log2_scale + 3): {"fc.weight": floor},
        str(log2_scale + 6): {"fc.weight": floor},
    }
    point = {"step": 49, "log2_scale": log2_scale, "batches": 1, "errors": errors}
    return {"points": [{**point, "floor_log2s": [log2_scale + 6, log2_scale + 3]}], "reason": None}


def test_parity_over_seeds_keeps_the_promise_and_shows_its_numbers() -> None:
    stored = runs(fp32=[1.0, 1.1, 1.2], advised=[1.05, 1.15, 1.25])
    verdict = training_verdict(stored)
    assert verdict.severity == "ok"
    for part in ("trains like FP32", "3 seeds", "+0.05", "0.2", "0 of 300 steps skipped"):
        assert part in verdict.sentence
    assert promise_findings(prove(stored)) == []


def test_two_per_cent_on_one_seed_is_said_to_be_no_parity() -> None:
    verdict = training_verdict([run("fp32", 1.0), run("advised", 1.019)])
    assert verdict.severity == "ok"
    assert "On one seed" in verdict.sentence
    assert "--seeds" in verdict.sentence
    broken = training_verdict([run("fp32", 1.0), run("advised", 1.03)])
    assert broken.severity == "critical"
    assert "one seed" in broken.sentence


def test_the_two_per_cent_play_no_part_where_fp32_s_spread_is_known() -> None:
    far_but_within = runs(fp32=[1.0, 1.5, 2.0], advised=[1.3, 1.8, 2.3])
    assert training_verdict(far_but_within).severity == "ok"
    near_but_beyond = runs(fp32=[1.0, 1.001, 1.002], advised=[1.01, 1.011, 1.012])
    verdict = training_verdict(near_but_beyond)
    assert verdict.severity == "critical"
    assert "worse by 0.01, beyond the spread" in verdict.sentence


def test_a_zero_spread_leaves_the_question_open() -> None:
    verdict = training_verdict(runs(fp32=[1.0, 1.0], advised=[1.0, 1.01]))
    assert verdict.severity == "warning"
    assert "cannot be told" in verdict.sentence


@pytest.mark.parametrize(
    ("stored", "document", "kind", "part"),
    [
        (runs(fp32=SPREAD, advised=[1.0, None, 1.2]), None, "diverged", "step 7 (seed 1)"),
        (runs(fp32=SPREAD, advised=[2.0, 2.1, 2.2]), None, "behind", "beyond the spread"),
        (runs(fp32=SPREAD, advised=SPREAD), residual(0.25), "residual", "25% in fc.weight"),
        (runs(fp32=SPREAD, advised=SPREAD), residual(None), "residual", "overflows"),
        (
            [run("fp32", 1.0), run("advised", 1.0, skipped_steps=6)],
            None,
            "skipped",
            "skipped 6 of 100 steps",
        ),
    ],
)
def test_each_breach_is_told_by_verdict_and_finding(
    stored: list[dict[str, Any]], document: dict[str, Any] | None, kind: str, part: str
) -> None:
    proof = prove(stored, document)
    assert [breach.kind for breach in proof.breaches] == [kind]
    verdict = training_verdict(stored, proof)
    assert verdict.severity == "critical"
    assert "breaks its promise" in verdict.sentence
    (finding,) = promise_findings(proof)
    assert finding.rule == "promise_broken"
    assert finding.severity == "critical"
    for text in (verdict.sentence, finding.message):
        assert part in text
    assert finding.evidence


@pytest.mark.parametrize(
    ("error", "floor"),
    [(0.09, 0.001), (0.25, 0.2), (0.005, 0.0001)],
    ids=["below 10 %", "at the floor", "below 1 %"],
)
def test_errors_that_no_run_was_harmed_by_do_not_break_it(error: float, floor: float) -> None:
    proof = prove(runs(fp32=SPREAD, advised=SPREAD), residual(error, floor))
    assert proof.breaches == ()
    assert proof.residual.points[0].error == pytest.approx(error)


def test_five_skipped_steps_of_a_hundred_are_the_search_for_a_scale() -> None:
    assert prove([run("fp32", 1.0), run("advised", 1.0, skipped_steps=5)]).breaches == ()


def test_all_breaches_are_told_together() -> None:
    stored = [run("fp32", 1.0), run("advised", 2.0, skipped_steps=50)]
    proof = prove(stored, residual(0.5))
    assert [breach.kind for breach in proof.breaches] == ["behind", "residual", "skipped"]
    (finding,) = promise_findings(proof)
    assert "100.0% above" in finding.message
    assert "50 of 100" in finding.message
    assert finding.evidence["residual: gradient_error"] == 0.5


def test_a_metric_beyond_the_spread_is_a_warning_of_its_own() -> None:
    stored = [
        run(recipe, loss, seed, metrics={"accuracy": accuracy})
        for recipe, seed, loss, accuracy in (
            ("fp32", 0, 1.0, 0.9), ("fp32", 1, 1.1, 0.91),
            ("advised", 0, 1.0, 0.5), ("advised", 1, 1.1, 0.5),
        )
    ]  # fmt: skip
    proof = prove(stored)
    assert proof.breaches == ()
    (finding,) = promise_findings(proof)
    assert (finding.rule, finding.severity) == ("metric_behind", "warning")
    assert "accuracy" in finding.message


def test_a_broken_promise_is_the_first_verdict_and_the_first_finding() -> None:
    overflowing = recording(
        [("a", "activation", [1e6] * 8), ("a", "activation_gradient", [1e-3] * 8)],
        runs=runs(fp32=SPREAD, advised=[None, None, None]),
    )
    advice = advise(overflowing)
    assert sum(finding.severity == "critical" for finding in advice.findings) > 1
    assert advice.findings[0].rule == "promise_broken"
    assert advice.verdicts[0].question == "training"
    result = build_result(overflowing)
    assert result["verdicts"][0]["severity"] == "critical"
    assert result["parity"]["breaches"][0]["kind"] == "diverged"


def test_a_kept_promise_leaves_the_questions_in_their_order() -> None:
    advice = advise(recording([], runs=runs(fp32=SPREAD, advised=SPREAD)))
    assert [verdict.question for verdict in advice.verdicts][-1] == "training"


def test_other_recipes_are_held_against_the_spread_where_it_is_known() -> None:
    stored = [*runs(fp32=[1.0, 1.5], advised=[1.0, 1.5]), run("paper", 1.3), run("bf16", 1.7)]
    (finding,) = training_findings(stored)
    assert finding.rule == "recipe_behind"
    assert "recipe bf16 ended 70.0% above FP32" in finding.message
    assert finding.evidence["fp32_range"] == 0.5


def test_without_the_advised_recipe_the_first_other_is_compared() -> None:
    verdict = training_verdict(runs(fp32=[1.0, 2.0], paper=[1.5, 2.5]))
    assert verdict.severity == "advice"
    assert "paper beside FP32: parity" in verdict.sentence


def test_a_seed_on_which_fp32_diverges_breaks_no_promise() -> None:
    stored = runs(fp32=[None], advised=[None])
    assert prove(stored).breaches == ()
    verdict = training_verdict(stored)
    assert verdict.severity == "warning"
    assert verdict.sentence.startswith("FP32 itself diverges, at step 7 (seed 0)")


def test_a_recipe_is_not_blamed_for_what_fp32_does_too() -> None:
    stored = runs(fp32=[None], advised=[None], paper=[None])
    assert training_findings(stored) == []


def test_the_seeds_on_which_fp32_trains_are_judged_all_the_same() -> None:
    stored = runs(fp32=[None, 1.0], advised=[None, None])
    (breach,) = prove(stored).breaches
    assert breach.what == "diverged at step 7 (seed 1)"


def test_a_loss_beyond_fp16_is_told_with_its_remedy() -> None:
    stored = [
        run("fp32", 9e6, losses=[9.5e6, 9e6]),
        run("advised", None, diverged_at=0, losses=["Infinity", "Infinity"]),
    ]
    (found,) = promise_findings(prove(stored))
    assert "where FP32's loss is 9.5e+06, beyond FP16's 65504" in found.message
    assert found.remedy.startswith("compute the loss in FP32")


def test_skipped_steps_are_named_beside_a_recipe_that_is_behind() -> None:
    short = run(
        "fp16", 1.045, steps=10, skipped_steps=2, skipped_at=[0, 1],
        log2_scales=[16.0, 15.0, *[14.0] * 8],
    )  # fmt: skip
    (finding,) = training_findings([run("fp32", 1.0, steps=10), short])
    assert (finding.rule, finding.severity) == ("recipe_behind", "advice")
    assert (
        "ended 4.5% above FP32 (final loss 1.045, FP32 1); 2 of 10 steps were skipped while the scale "
        "came down from 2^16 to 2^14, which may be all the difference in so few"
    ) in finding.message
    assert "--recipe-steps" in finding.remedy
    assert (finding.evidence["skipped_steps"], finding.evidence["steps"]) == (2, 10)


def test_few_skipped_steps_excuse_nothing() -> None:
    one = run("fp16", 1.045, skipped_steps=1, skipped_at=[50], log2_scales=[8.0] * 100)
    (finding,) = training_findings([run("fp32", 1.0), one])
    assert finding.message.endswith("; 1 of 100 steps were skipped")
    assert finding.remedy == "train with the advised recipe"
    (unskipped,) = training_findings([run("fp32", 1.0), run("fp16", 1.045)])
    assert unskipped.message == "recipe fp16 ended 4.5% above FP32 (final loss 1.045, FP32 1)"


@pytest.mark.parametrize(
    ("document", "stored", "part"),
    [
        (None, runs(fp32=[1.0], advised=[1.0]), None),
        ({"mixed": None}, runs(fp32=[1.0], advised=[1.0]), "not tried"),
        (
            {"mixed": None},
            runs(fp32=[1.0], paper_no_master=[1.0]),
            "trained with FP16 weights alone",
        ),
        ({"mixed": None}, runs(fp32=[1.0], paper_no_master=[1.5]), "not shown"),
    ],
)
def test_fp16_weights_alone_are_said_to_be_tried_by_a_script_only_where_they_were(
    document: dict[str, Any] | None, stored: list[dict[str, Any]], part: str | None
) -> None:
    updates = {"p": [update_window("p", (1.0, 1.0, 1.0))]}
    made = recording([("p", "weight", [1.0])], updates=updates, script=document, runs=stored)
    verdict = next(v for v in advise(made).verdicts if v.question == "master_weights")
    assert verdict.sentence.startswith("Master weights are not needed here: FP16 weights keep")
    assert verdict.sentence.endswith("R = 1.00).") if part is None else part in verdict.sentence
