"""A value is shown in as many digits as it takes to see that it is beyond its limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope.rules.showing import told_apart
from tests.rules.sample_run import judged


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (0.0123456, 0.001, "0.01235"),
        (0.00100001, 0.001, "0.00100001"),
        (1.0, 1.0, "1"),
        (2.0**53 + 2, 2.0**53, "9007199254740994"),
        (math.inf, 3.0, "inf"),
        (3.0, math.nan, "3"),
    ],
)
def test_digits(value: float, limit: float, text: str) -> None:
    assert told_apart(value, limit) == text


@given(st.floats(allow_nan=False), st.floats(allow_nan=False, allow_infinity=False))
def test_different_numbers_never_look_the_same(value: float, limit: float) -> None:
    assert value == limit or told_apart(value, limit) != told_apart(limit, value)


def test_a_hit_has_rule_place_value_unit_and_limit() -> None:
    (hit,) = judged("flushed[activation] > 1e-3").hits
    assert str(hit) == (
        "flushed[activation] > 1e-3: enc.0 (activation): 0.25 of the non-zero values (fp16), "
        "limit > 1e-3"
    )
    (hit,) = judged("loss_scale static").hits
    assert str(hit) == "loss_scale static: the model: static (tried)"
    (hit,) = judged("accumulation fp32_required").hits
    assert hit.message == "enc.0 · forward: fp32_required (swamped)"
