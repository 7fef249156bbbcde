"""What is NaN or infinite is told on its own; the range and the format go by the finite values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from precscope.advice import advise
from precscope.advice.policy import finite_modules
from precscope.advice.ranges import range_findings
from precscope.facts import SiteKind
from precscope.histogram import ExponentHistogram
from tests.support.recordings import Values, recording, site, window

GRADIENT: tuple[str, SiteKind, Values] = ("fc", "activation_gradient", [1.0])


def histogram(*values: float) -> ExponentHistogram:
    return window(values).histogram


def broke(step: int, name: str) -> dict[str, object]:
    """The document of a run in which one step was not finite."""
    mark = {
        "step": step, "log2_scale": 0.0, "skipped": False, "loss_finite": False, "input": 1,
        "sites": [{"name": name, "kind": "activation", "count": 1}], "parameter": None, "before": [],
    }  # fmt: skip
    return {"count": 1, "skipped": 0, "steps": [mark]}


def test_one_bad_batch_does_not_choose_the_format() -> None:
    values = [1.0] * 99 + [math.nan]
    made = recording([("fc", "activation", values), GRADIENT], non_finite=broke(5, "fc"))
    advice = advise(made)
    assert [choice.choice for choice in advice.formats] == ["fp16"]
    assert {f.rule for f in advice.findings} >= {"first_non_finite", "non_finite"}
    verdict = advice.verdicts[0]
    assert (verdict.question, verdict.severity) == ("range", "critical")
    assert "fc holds NaN or inf already in FP32." in verdict.sentence
    assert "The finite values of all 1 sites stored in half fit FP16." in verdict.sentence


def test_a_bad_batch_does_not_hide_that_the_others_overflow() -> None:
    made = recording([("fc", "activation", [1e6, math.nan]), ("head", "activation", [1.0])])
    advice = advise(made)
    assert [f.rule for f in advice.findings] == ["non_finite", "overflow"]
    assert advice.recipe.fp32_modules == ("fc",)
    assert "By the finite values fc leaves FP16's range." in advice.verdicts[0].sentence


def test_without_a_finite_value_there_is_nothing_to_choose_by() -> None:
    (choice,) = advise(recording([("fc", "activation", [math.nan] * 3)])).formats
    assert choice.choice == "fp32"
    assert "nothing to choose by" in choice.reason


def test_a_mask_of_infinities_is_no_fault() -> None:
    sites: list[tuple[str, SiteKind, Values]] = [("mask", "activation", [1.0, -math.inf])]
    advice = advise(recording([*sites, GRADIENT]))
    assert not any(f.rule == "non_finite" for f in advice.findings)
    assert advice.verdicts[0].severity == "ok"
    assert advice.formats[0].choice == "fp16"


@pytest.mark.parametrize("document", [broke(3, "mask"), None], ids=["a break", "no gradient seen"])
def test_an_infinity_that_may_have_done_harm_is_one(document: dict[str, object] | None) -> None:
    sites: list[tuple[str, SiteKind, Values]] = [("mask", "activation", [1.0, -math.inf])]
    made = recording([*sites, GRADIENT] if document else sites, non_finite=document)
    assert any((f.rule, f.severity) == ("non_finite", "critical") for f in advise(made).findings)


def test_infinities_of_a_half_run_are_not_said_to_be_fp32_s() -> None:
    half = replace(site("fc", "activation", "float16"), dtype="float16")
    (finding,) = range_findings([(half, histogram(1.0, math.inf))])
    assert "in a run that uses float16" in finding.message
    assert "not of half precision" not in finding.message


def test_a_weight_that_float16_activations_made_nan_is_not_fp32_s_fault() -> None:
    half = replace(site("fc", "activation", "float16"), dtype="float16"), histogram(1.0)
    weight = site("fc.weight", "weight", "float16"), histogram(1.0, math.nan)
    (finding,) = range_findings([half, weight])
    assert (finding.rule, finding.site) == ("non_finite", "fc.weight")
    assert "not of half precision" not in finding.message


def test_a_trial_says_nothing_of_modules_whose_weights_were_broken_before_it() -> None:
    bad = site("block.fc.weight", "weight", "float16"), histogram(1.0, math.nan)
    fine = site("head.weight", "weight", "float16"), histogram(1.0)
    mask = site("mask", "activation", "float16"), histogram(1.0, -math.inf)
    tried = ("block", "block.fc", "blo", "mask", "head")
    assert finite_modules(tried, [bad, fine, mask], False) == ("blo", "mask", "head")
    assert finite_modules(tried, [bad, fine, mask], True) == ("blo", "head")


def test_the_recipe_leaves_out_what_broke_in_the_trial_because_its_weights_were_nan() -> None:
    probe = {"fp32_modules": ["fc"], "finite": False}
    values = {"healthy": [1.0], "broken": [1.0, math.nan]}
    kept = {
        name: advise(recording([("fc.weight", "weight", v)], range_probe=probe)).recipe.fp32_modules
        for name, v in values.items()
    }
    assert kept == {"healthy": ("fc",), "broken": ()}


@pytest.mark.parametrize("name", ["fc.bias", "attention.in_proj_bias", "rnn.bias_ih_l0"])
def test_a_bias_that_has_just_left_zero_is_no_underflow(name: str) -> None:
    advice = advise(recording([(name, "weight", [2.0**-26, 2.0**-20])]))
    assert advice.findings == ()
    assert advice.recipe.fp32_modules == ()
    assert advice.formats[0].choice == "fp16"


def test_a_flushed_bias_never_moves_an_fp16_sum_by_more_than_half_a_place() -> None:
    sums = torch.arange(0, 2**15, dtype=torch.int16).view(torch.float16).double()
    sums = sums[sums.isfinite()]
    places = torch.nextafter(sums.half(), torch.tensor(torch.inf).half()).double() - sums
    assert float(places.min()) / 2 >= 2.0**-25  # the largest value that FP16 flushes


def test_a_bias_beyond_fp16_is_found_all_the_same() -> None:
    (finding,) = advise(recording([("fc.bias", "weight", [1e6])])).findings
    assert finding.rule == "overflow"


def test_subnormals_are_reported_where_their_rounding_moves_a_thousandth_of_the_sum() -> None:
    # Half of the values are subnormal, each rounded by 2^-25 at most.
    for large, rules in ((2.0**-13, []), (2.0**-16, ["underflow"])):
        made = recording([("fc.weight", "weight", [2.0**-17 * 1.3] * 50 + [large] * 50)])
        assert [f.rule for f in advise(made).findings] == rules
