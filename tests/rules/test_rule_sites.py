"""Sites: the same numbers as the result's, in every format, at every scale, for the sites meant."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope.formats import FORMATS, FP16
from precscope.result import build_result
from precscope.rules import judge, parse_rule
from precscope.rules.quantity import matches
from precscope.rules.site_histograms import histogram_of
from tests.rules.sample_run import histogram, is_hit, judged, sample, site
from tests.support.recordings import recording

VALUES = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)


@given(VALUES)
def test_a_histogram_comes_back_from_its_json(values: list[float]) -> None:
    before, after = histogram(*values), histogram_of(site("s", "activation", *values))
    for fmt in FORMATS.values():
        for k in (-7, 0, 12):
            assert after.flushed_fraction(fmt, k) == before.flushed_fraction(fmt, k)
            assert after.l1_flushed_fraction(fmt, k) == before.l1_flushed_fraction(fmt, k)
            assert after.overflow_fraction(fmt, k) == before.overflow_fraction(fmt, k)
            assert after.subnormal_fraction(fmt, k) == before.subnormal_fraction(fmt, k)


def test_a_real_result_gives_the_shares_that_it_states() -> None:
    values = (2.0**-30, 2.0**-25, 2.0**-20, 1.0, 7e4)
    result = build_result(
        recording([("a", "activation", values), ("w", "weight_gradient", values)])
    )
    stated = result["sites"][0]
    for name, key in (
        ("flushed", "flushed_fp16"),
        ("flushed_l1", "l1_flushed_fp16"),
        ("subnormal", "subnormal_fp16"),
        ("overflow", "overflow_fp16"),
    ):
        share = stated[key]
        assert 0.0 < share < 1.0
        assert is_hit(f"{name}[activation] >= {share!r}", result)
        assert not is_hit(f"{name}[activation] > {share!r}", result)
        assert is_hit(f"{name}[gradient, unscaled] == {share!r}", result)


@pytest.mark.parametrize("values", [(-1,), (1, -1), (2**70,)])
def test_counts_that_cannot_be_are_told(values: tuple[int, ...]) -> None:
    result = sample()
    result["sites"][0]["histogram"]["counts"] = list(values)
    assert "cannot be read" in judged("flushed[activation] > 0.5", result).problem
    result["sites"][0]["histogram"].update(first_exponent=127, counts=[1, 1])
    assert "leave float32" in judged("flushed[activation] > 0.5", result).problem


def test_a_format_can_be_named() -> None:
    assert is_hit("flushed[activation] > 0")
    assert not is_hit("flushed[activation, bf16] > 0")
    assert is_hit("flushed[activation, e4m3] > 0")
    assert is_hit("overflow[activation, all, e5m2] > 0")
    assert is_hit("overflow[activation, all, tf32] >= 0")


def test_gradients_are_judged_at_the_recommended_scale_and_nothing_else_is() -> None:
    result = sample()
    # Half of the gradient's values are 2^-26: flushed as they are, kept at the recommended 2^8.
    assert not is_hit("flushed[gradient] > 0", result)
    assert not is_hit("flushed[gradient, advised] > 0", result)
    assert is_hit("flushed[gradient, unscaled] == 0.5", result)
    assert not is_hit("flushed[gradient, 2^2] > 0", result)
    assert is_hit("flushed[gradient, 2^1] == 0.5", result)
    assert is_hit("flushed[activation, 2^30] == 0.25", result)
    assert is_hit("overflow[gradient, 2^26] == 0.5", result)


def test_the_scale_and_the_format_are_told() -> None:
    assert "(at 2^8)" in judged("amax[gradient] > 0").hits[0].message
    assert "(fp16 at 2^8)" in judged("headroom_log2[gradient] > 0").hits[0].message
    assert "(e4m3 at 2^0)" in judged("flushed[gradient, e4m3] > 0").hits[0].message
    assert "(fp16)" in judged("flushed[activation] > 0").hits[0].message


def test_other_formats_are_judged_unscaled_unless_told() -> None:
    (unscaled,) = judged("headroom_log2[gradient, e5m2] > 0").hits
    (advised,) = judged("headroom_log2[gradient, e5m2, advised] > 0").hits
    assert "at 2^0" in unscaled.detail
    assert "at 2^8" in advised.detail
    assert float(unscaled.value.split()[0]) == float(advised.value.split()[0]) + 8


@pytest.mark.parametrize("verdict", ["impossible", "unknown"])
def test_without_a_recommended_scale_gradients_are_not_passed_over(verdict: str) -> None:
    result = sample()
    result["loss_scale"].update(verdict=verdict, recommended_log2=None)
    found = judged("flushed > 0.5", result)
    assert verdict in found.problem
    assert found.compared == 2
    assert judged("flushed > 0.2", result).hits
    assert not judged("flushed[forward] > 0.5", result).problem
    assert not judged("flushed[unscaled] > 0.5", result).problem


def test_sites_that_stay_in_fp32_are_judged_on_demand_only() -> None:
    assert not is_hit("overflow > 0")
    assert [hit.name for hit in judged("overflow[all] > 0").hits] == ["head"]
    assert "add [all]" in judged("overflow @ head > 0").problem


def test_a_pattern_selects_by_the_whole_name() -> None:
    assert judged("amax @ enc.0 > 0").compared == 2
    assert judged("amax @ enc.* > 0").compared == 3
    assert judged("amax @ enc.*, head > 0").compared == 3
    assert judged("amax[all] @ enc.*, head > 0").compared == 4
    assert judged("amax[weight, activation] @ enc.? > 0").compared == 1


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("enc.*", "enc.0.weight", True),
        ("enc.*", "dec.enc.0", False),
        ("enc?0", "enc.0", True),
        ("enc.0[1]", "enc.0[1]", True),
        ("enc.0[1]", "enc.01", False),
        ("*[1]", "enc.0[1]", True),
        ("ENC", "enc", False),
        ("(root)", "(root)", True),
        ("a.b", "axb", False),
        ("*", "a\nb", True),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matches("*a" * 30 + "b", "a" * 300)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "rule", ["flushed < 0.1", "flushed_l1 > 0.9", "subnormal == 0.3", "overflow > 0.9"]
)
def test_values_that_are_no_numbers_hit_every_rule(bad: float, rule: str) -> None:
    result = sample()
    result["sites"] = [site("a", "activation", 1.0, bad)]
    (hit,) = judged(rule, result).hits
    assert "no number" in hit.message
    assert "1 NaN and 0" in hit.message or "0 NaN and 1 inf" in hit.message


def test_gradients_that_a_scaler_skipped_are_no_hit() -> None:
    result = sample()
    result["sites"] = [site("a", "weight_gradient", 1.0, math.inf)]
    assert is_hit("overflow > 0.9", result)
    result["non_finite"] = [{"skipped": True}, {"skipped": True}]
    assert not is_hit("overflow > 0.9", result)
    assert is_hit("non_finite > 0", result)
    result["non_finite"].append({"skipped": False})
    assert is_hit("overflow > 0.9", result)
    result["non_finite"].pop()
    result["sites"][0]["kind"] = "activation"
    assert is_hit("overflow > 0.9", result)


@pytest.mark.parametrize("key", ["amax", "sum_abs"])
def test_sums_that_are_no_numbers_hit(key: str) -> None:
    result = sample()
    result["sites"][0][key] = None
    assert is_hit("flushed[activation] > 0.9", result)


def test_a_site_of_zeros_loses_nothing_and_has_all_the_room() -> None:
    result = sample()
    result["sites"] = [site("a", "activation", 0.0, 0.0)]
    assert not is_hit("flushed > 0", result)
    assert not is_hit("headroom_log2 < 1000", result)


def test_headroom_is_zero_at_the_overflow_threshold() -> None:
    result = sample()
    result["sites"] = [site("a", "activation", FP16.overflow_threshold)]
    assert not is_hit("headroom_log2 < 0", result)
    assert is_hit("headroom_log2 <= 0", result)
    assert is_hit("overflow > 0", result)


def test_the_worst_site_comes_first() -> None:
    amax = judge(parse_rule("amax > 0"), sample()).hits
    assert [hit.name for hit in amax] == ["enc.0", "enc.0.weight", "enc.0"]
    low = judge(parse_rule("amax < 100"), sample()).hits
    assert [hit.name for hit in low] == ["enc.0", "enc.0.weight", "enc.0"]
    assert low[0].label == "enc.0 (activation gradient)"
