"""The sentence on the loss scale is true of what decided it."""

from __future__ import annotations

import pytest

from precscope.advice.loss_scale import LossScaleAdvice, LossScaleVerdict
from precscope.advice.loss_scale_words import loss_scale_findings, loss_scale_verdict


def advice(
    verdict: LossScaleVerdict, low: int, top: int, site: str | None = "fc"
) -> LossScaleAdvice:
    recommended = None if verdict == "impossible" else top
    return LossScaleAdvice(verdict, low, top, recommended, site, site, low, "", ())


@pytest.mark.parametrize(
    ("low", "top", "said", "unsaid"),
    [(5, 8, "is narrow", "moves"), (5, 9, "that window moves", "narrow")],
)
def test_a_narrow_window_is_not_said_to_move(low: int, top: int, said: str, unsaid: str) -> None:
    sentence = loss_scale_verdict(advice("dynamic", low, top)).sentence
    assert said in sentence
    assert unsaid not in sentence


def test_no_sentence_is_about_none() -> None:
    (finding,) = loss_scale_findings(advice("impossible", 9, 3, site=None))
    for text in (finding.message, finding.remedy):
        assert "None" not in text
