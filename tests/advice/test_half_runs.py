"""A run that was in half precision already: what it flushed is not taken for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from precscope.advice import Advice, advise
from precscope.facts import SiteKind, StepRecord
from precscope.recording import Recording
from precscope.result import build_result
from tests.support.recordings import site, update_window, window


def observed(dtype: str, log2_scale: float = 0.0) -> Recording:
    """Healthy activations, weights and gradients, seen in this dtype at this loss scale."""
    kinds: list[SiteKind] = ["activation", "weight", "weight_gradient"]
    sites = [replace(site("fc", kind, None, i), dtype=dtype) for i, kind in enumerate(kinds)]
    return Recording.from_facts(
        meta={"title": "by hand"},
        sites=sites,
        windows={i: [window([0.5] * 8)] for i in range(len(sites))},
        steps=[StepRecord(0, 1.0, 0.5, 2, log2_scale)],
        updates={"fc": [update_window("fc", (1.0, 1.0, 1.0))]},
        documents={"half_weights": []},
    )


def verdicts(advice: Advice) -> dict[str, tuple[str, str]]:
    return {v.question: (v.severity, v.sentence) for v in advice.verdicts}


def test_float16_gradients_without_a_scale_do_not_say_that_none_is_needed() -> None:
    advice = advise(observed("float16"))
    assert advice.loss_scale.verdict == "unknown"
    assert advice.recipe.loss_scaling.kind == "dynamic"
    assert "cannot be counted" in verdicts(advice)["loss_scale"][1]


@pytest.mark.parametrize(("dtype", "log2_scale"), [("float32", 0.0), ("float16", 16.0)])
def test_gradients_that_nothing_flushed_do(dtype: str, log2_scale: float) -> None:
    assert advise(observed(dtype, log2_scale)).loss_scale.verdict == "not_needed"


def test_values_that_float16_held_are_said_to_fit_as_far_as_can_be_seen() -> None:
    assert verdicts(advise(observed("float32")))["range"][0] == "ok"
    severity, sentence = verdicts(advise(observed("float16")))["range"]
    assert severity == "advice"
    assert "observe it in FP32" in sentence


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_updates_of_half_weights_are_not_said_to_be_missing(dtype: str) -> None:
    made = observed(dtype)
    severity, sentence = verdicts(advise(made))["master_weights"]
    assert severity == "advice"
    assert f"the weights are {dtype} already" in sentence
    assert f"{dtype} already" in build_result(made)["master_weights"]["reason"]
    assert "was observed" in verdicts(advise(observed("float32")))["master_weights"][1]
