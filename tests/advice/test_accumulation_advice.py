"""Verdicts on sums, the policy and the words that follow, and the format of each module."""

from __future__ import annotations

from typing import Any

import pytest

from precscope.advice import advise
from precscope.advice.accumulation import (
    SumAdvice,
    fp32_modules_for_fp16_accumulation,
    judge_sums,
    worst_first,
)
from precscope.advice.accumulation_words import accumulation_verdict
from precscope.advice.policy import with_fp16_accumulation
from precscope.recipe import Recipe
from precscope.result import build_result
from tests.support.recordings import recording, update_window

BLOCKS = ("1", "4", "8", "16")


def fact(site: str = "layer", operation: str = "forward", **known: Any) -> dict[str, Any]:
    """A harmless recorded sum, with changes; by-block numbers are given once for all blocks."""
    family = known.get("family", "product")
    facts: dict[str, Any] = {
        "site": site,
        "operation": operation,
        "operator": "addmm",
        "phase": "forward",
        "family": family,
        "length": 512,
        "sampled_length": 512,
        "samples": 64,
        "calls": 1,
        "block": 16 if family == "product" else 1,
        "errors_fp16": 5e-4,
        "expected_errors": 5e-4,
        "predicted_errors": 1e-2,
        "worst_errors": 0.1,
        "swamped": 0.0,
        "variance_retention": 1.0,
        "error_fp32": 2e-4,
        "variance_retention_fp32": 1.0,
        "kappa": 5.0,
        "peak": 10.0,
        "cancellation": None,
        "error_native_fp16": None,
        "unmeasured": None,
        **known,
    }
    for name in (
        *("errors_fp16", "expected_errors", "predicted_errors", "worst_errors"),
        *("swamped", "variance_retention"),
    ):
        if not isinstance(facts[name], dict):
            facts[name] = dict.fromkeys(BLOCKS, facts[name])
    return facts


def judged(*facts: dict[str, Any]) -> list[SumAdvice]:
    return judge_sums({"sites": list(facts)})


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, "fp16_ok", "5.0e-04"),
        ({"errors_fp16": 8e-4}, "fp16_ok", "8.0e-04"),
        ({"errors_fp16": 8.1e-4}, "fp32_advised", "4 times"),
        ({"peak": 32752.0}, "fp16_ok", ""),
        ({"peak": 32753.0}, "fp32_required", "within a doubling of FP16's 65504"),
        ({"peak": 1e6, "errors_fp16": None}, "fp32_required", "beyond FP16's 65504"),
        ({"swamped": 0.01}, "fp16_ok", ""),
        ({"swamped": 0.011}, "fp32_required", "1.1% of the addends' energy"),
        ({"variance_retention": 0.95}, "fp16_ok", ""),
        ({"variance_retention": 0.94}, "fp32_required", "vary 0.94 times"),
        ({"variance_retention": 1.06}, "fp32_required", "vary 1.06 times"),
        ({"variance_retention": None}, "fp16_ok", ""),
        ({"errors_fp16": 0.11, "error_fp32": 0.1}, "fp32_required", "another result"),
        ({"errors_fp16": 1e-3, "cancellation": 101.0}, "fp32_required", "101 times the variance"),
        ({"errors_fp16": 5e-4, "cancellation": 190.0}, "fp16_ok", ""),
        ({"errors_fp16": None, "unmeasured": "every sampled sum is zero"}, "fp16_ok", "nothing to"),
    ],
)
def test_each_rule_fires_at_its_threshold(
    changes: dict[str, Any], verdict: str, words: str
) -> None:
    (found,) = judged(fact(**changes))
    assert found.verdict == verdict, found.reason
    assert words in found.reason


def test_variance_is_judged_only_where_fp32_keeps_it() -> None:
    (found,) = judged(fact(variance_retention=1.4, variance_retention_fp32=1.39))
    assert found.verdict == "fp16_ok"


def test_a_product_is_judged_at_sixteen_terms_and_a_reduction_at_one() -> None:
    errors = {"1": 5e-2, "4": 1e-2, "8": 5e-3, "16": 4e-4}
    product, reduction = judged(
        fact(errors_fp16=errors), fact(errors_fp16=errors, family="scatter")
    )
    assert (product.verdict, product.error) == ("fp16_ok", 4e-4)
    assert (reduction.verdict, reduction.error) == ("fp32_advised", 5e-2)


def test_an_overflow_is_worse_than_any_error() -> None:
    sums = judged(
        fact("a"),
        fact("b", errors_fp16=0.5),
        fact("c", errors_fp16=None, peak=1e6),
        fact("d", errors_fp16=9e-3),
    )
    assert [s.facts["site"] for s in worst_first(sums)] == ["c", "b", "d", "a"]


def lossy(site: str, operation: str, **known: Any) -> dict[str, Any]:
    return fact(site, operation, errors_fp16=0.5, **known)


def test_only_modules_that_half_computes_are_moved_and_only_for_fp16_accumulators() -> None:
    sums = judged(
        lossy("deep.head", "weight gradient"),
        lossy("norm", "mean", family="reduction", operator="native_layer_norm"),
        lossy("loss", "softmax denominator", family="reduction", operator="_log_softmax"),
        lossy("(root)", "gradient norm", family="reduction", operator="norm"),
        lossy("mlp", "bias gradient", family="reduction", operator="sum"),
        lossy("words", "weight gradient", family="scatter", operator="embedding_dense_backward"),
        fact("fine"),
    )
    assert fp32_modules_for_fp16_accumulation(sums) == ("deep.head", "mlp", "words")
    paper = Recipe.named("paper").keeping_fp32("norm")
    recipe = with_fp16_accumulation(paper, sums, block=4)
    assert recipe.fp32_modules == ("norm", "deep.head", "mlp", "words")
    assert (recipe.accumulation, recipe.accumulation_block) == ("fp16", 4)
    assert "FP32 accumulation" not in recipe.description


def test_the_gradient_norm_never_leads_because_only_clipping_adds_it_up() -> None:
    sums = judged(
        lossy("(root)", "gradient norm", family="reduction", operator="norm"),
        fact("mlp", "weight gradient", errors_fp16=0.4),
    )
    verdict = accumulation_verdict(sums)
    assert {s.verdict for s in sums} == {"fp32_required"}
    assert verdict is not None
    assert "worst is mlp · weight gradient" in verdict.sentence


def test_the_advised_recipe_accumulates_in_fp32_and_moves_nothing_for_it() -> None:
    sites = [("head", "activation_gradient", [2.0**-20])]
    document = {"sites": [lossy("head", "weight gradient")]}
    advice = advise(recording(sites, accumulation=document))  # type: ignore[arg-type]
    assert advice.recipe.accumulation == "fp32"
    assert advice.recipe.fp32_modules == ()


def test_the_policy_is_printed_as_code_that_runs() -> None:
    verdict = accumulation_verdict(judged(lossy("deep.head", "weight gradient"), fact("fine")))
    assert verdict is not None
    assert verdict.severity == "advice"
    assert "1 of 2 sums needs FP32 accumulators" in verdict.sentence
    assert "deep.head \N{MIDDLE DOT} weight gradient over 512 terms" in verdict.sentence
    import precscope

    names: dict[str, Any] = {"precscope": precscope}
    exec(verdict.code, names)
    assert names["recipe"].accumulation == "fp16"
    assert names["recipe"].fp32_modules == ("deep.head",)


@pytest.mark.parametrize(
    ("facts", "severity", "words"),
    [
        ([fact()], "ok", "the only sum does not lose two bits"),
        ([fact(errors_fp16=9e-3)], "ok", "No sum needs FP32 accumulators; 1 of 1"),
        ([lossy("a", "forward")], "advice", "needs FP32"),
        ([fact(error_native_fp16=0.75, operator="index_put")], "warning", "really adds in half"),
        ([fact(error_native_fp16=0.009)], "ok", "the only sum"),
    ],
)
def test_the_verdict_says_how_bad_it_is(
    facts: list[dict[str, Any]], severity: str, words: str
) -> None:
    verdict = accumulation_verdict(judged(*facts))
    assert verdict is not None
    assert verdict.severity == severity
    assert words in verdict.sentence


def test_nothing_probed_is_nothing_said() -> None:
    advice = advise(recording([]))
    assert advice.sums == ()
    assert "accumulation" not in [v.question for v in advice.verdicts]
    result = build_result(recording([]))["accumulation"]
    assert result["sites"] == []
    assert result["reason"].startswith("not probed")


def test_findings_name_the_worst_sums_with_a_remedy_for_their_kind() -> None:
    document = {
        "sites": [
            *(lossy(f"layer{i}", "forward", peak=10.0 * i) for i in range(5)),
            fact("words", "weight gradient", family="scatter", error_native_fp16=0.75),
            fact("mlp", "bias gradient", family="reduction", errors_fp16=9e-3),
        ]
    }
    found = [f for f in advise(recording([], accumulation=document)) if "accumulation" in f.rule]
    rules = [f.rule for f in found]
    assert rules.count("fp32_accumulation_required") == 3
    assert rules.count("fp32_accumulation_advised") == 1
    native = next(f for f in found if f.rule == "native_fp16_accumulation")
    assert native.severity == "warning"
    assert "75.0%" in native.message
    assert native.site == "words \N{MIDDLE DOT} weight gradient"
    advised = next(f for f in found if f.rule.endswith("advised"))
    assert "float32" in advised.code
    assert advised.evidence["length"] == 512


def test_the_result_holds_the_keys_of_the_schema() -> None:
    document = {"sites": [lossy("head", "forward")], "log2_scale": 7, "probe_ms": 30.0}
    cost = {"plain_step_ms": 10.0}
    result = build_result(recording([], accumulation=document, cost=cost))["accumulation"]
    (site,) = result["sites"]
    for key in ("site", "operation", "length", "error_fp16", "error_fp32", "verdict", "reason"):
        assert site[key] is not None
    assert site["error_fp16"] == 0.5
    assert site["predicted_error"] == 1e-2
    assert result["counts"] == {"fp32_required": 1, "fp32_advised": 0, "fp16_ok": 0}
    assert result["probe_plain_steps"] == 3.0
    assert result["fp32_modules"] == ["head"]


def choices(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["module"]: (c["choice"], c["reason"]) for c in result["format_choice"]}


def test_range_against_rounding_decides_the_format_of_a_module() -> None:
    found = choices(
        build_result(
            recording(
                [
                    ("plain", "activation", [0.5, 4.0]),
                    ("plain.weight", "weight", [0.1]),
                    ("loud", "activation", [1e5]),
                    ("quiet", "activation", [2.0**-26, 2.0**-25]),
                    ("broken", "activation", [float("nan")]),
                    ("plain", "activation_gradient", [2.0**-20]),
                ],
                updates={"plain.weight": [update_window("plain.weight", (0.52, 0.1, 0.0))]},
            )
        )
    )
    assert found["plain"][0] == "fp16"
    assert "14 doublings of room" in found["plain"][1]
    assert "keep 52%" in found["plain"][1]
    assert found["loud"][0] == "fp32"
    assert "1/256" in found["loud"][1]
    assert found["quiet"][0] == "fp32"
    assert "100.0% of sum |x|" in found["quiet"][1]
    assert found["broken"][0] == "fp32"


def test_what_autocast_leaves_in_fp32_stays_there() -> None:
    found = choices(build_result(recording([("norm", "activation", [1e6])], "float32")))
    assert found == {"norm": ("fp32", "FP16 weights or not, autocast computes it in FP32")}


def test_no_possible_loss_scale_makes_it_bf16() -> None:
    sites = [
        ("a", "activation", [1.0]),
        ("a", "activation_gradient", [2.0**-60]),
        ("b", "activation", [1.0]),
        ("b", "activation_gradient", [2.0**10]),
    ]
    result = build_result(recording(sites))  # type: ignore[arg-type]
    assert result["loss_scale"]["verdict"] == "impossible"
    assert {c for c, _ in choices(result).values()} == {"bf16"}
