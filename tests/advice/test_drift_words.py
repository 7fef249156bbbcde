"""What is said of the drift agrees with what is advised."""

from __future__ import annotations

import pytest

from precscope.advice.drift import drift_of
from precscope.advice.drift_needs import Need
from precscope.advice.loss_scale import LossScaleAdvice, LossScaleVerdict


def said(verdict: LossScaleVerdict, recommended: int, *needed: int) -> str:
    needs = [Need(10 * i, 10 * i + 9, k, "fc (weight gradient)") for i, k in enumerate(needed)]
    advice = LossScaleAdvice(
        verdict, max(needed), 20, recommended, "fc", None, max(needed), "", ()
    )  # fmt: skip
    return drift_of(needs, advice, was_probed=False).reason


def test_none_needed_is_not_followed_by_a_scale_that_is() -> None:
    told = said("not_needed", 0, *[-12] * 8)
    assert told.startswith("no window needs a loss scale")
    assert "2^-12 is needed" not in told
    assert "the advised scale" not in told


@pytest.mark.parametrize(
    ("recommended", "needed", "part"),
    [
        (8, [3] * 8, "shows no trend; at step 79 it is 2^3, the advised scale is 2^8"),
        (8, [0, 0, 0, 0, 1, 2, 3, 4], "more than the advised 2^8 from step 129"),
        (8, [3, 3, 3, 9, 9, 3, 3, 3], "in steps 30 to 39 2^9 is needed, more than the advised 2^8"),
    ],
)
def test_a_scale_is_held_against_the_advised_one(
    recommended: int, needed: list[int], part: str
) -> None:
    assert part in said("static", recommended, *needed)


def test_without_a_scale_a_rise_ends_in_one() -> None:
    told = said("not_needed", 0, -8, -8, -8, -8, -7, -6, -5, -4)
    assert "no window needs a loss scale yet" in told
    assert "a loss scale is needed from step 129" in told
    assert said("not_needed", 0, -3, 4, 4, -3).endswith("2^4 is needed, and no scaling is advised")
