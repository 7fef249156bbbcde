"""The loss scale against cases whose answer is known by construction."""

from __future__ import annotations

import pytest

from precscope.advice import advise
from precscope.advice.arbiter import arbitrate
from precscope.advice.headroom import headroom
from precscope.advice.screen import minimum_log2_scale
from precscope.facts import StepRecord
from tests.support.recordings import recording, window


@pytest.mark.parametrize("exponent", [-40, -31, -26, -25, -24, -10, 0, 12])
def test_the_minimum_scale_of_one_power_of_two_is_exact_to_the_bit(exponent: int) -> None:
    # 2^e * 2^k survives when it exceeds 2^-25, so from k = -24 - e on.
    assert minimum_log2_scale(window([2.0**exponent]).histogram) == -24 - exponent


def test_just_above_a_power_of_two_needs_one_bit_less() -> None:
    assert minimum_log2_scale(window([2.0**-30 * (1 + 2.0**-20)]).histogram) == 5


def test_one_value_in_twenty_may_be_lost_by_count_if_its_mass_is_negligible() -> None:
    values = [1e-3] * 95 + [2.0**-40] * 5
    assert minimum_log2_scale(window(values).histogram) <= 0
    values = [1e-3] * 94 + [2.0**-40] * 6
    assert minimum_log2_scale(window(values).histogram) == 16


def test_exact_zeros_are_not_underflow() -> None:
    assert minimum_log2_scale(window([0.0] * 10_000 + [0.5]).histogram) == -23


def test_headroom_leaves_two_bits_below_overflow_for_few_steps_and_one_for_many() -> None:
    few = headroom([StepRecord(i, None, 1.0, 0, 0.0) for i in range(10)])
    many = headroom([StepRecord(i, None, 1.0, 0, 0.0) for i in range(500)])
    assert few is not None
    assert many is not None
    assert (few.maximum_log2, many.maximum_log2) == (13, 14)


def test_headroom_expects_more_than_it_saw_where_steps_vary() -> None:
    steady = [StepRecord(i, None, 4.0, 0, 0.0) for i in range(600)]
    moving = [StepRecord(i, None, 4.0 if i % 2 else 2.0**-6, 0, 0.0) for i in range(600)]
    a, b = headroom(steady), headroom(moving)
    assert a is not None
    assert b is not None
    assert b.maximum_log2 < a.maximum_log2
    assert headroom([StepRecord(0, None, 0.0, None, 0.0)]) is None


def test_small_gradients_get_a_constant_in_the_middle_of_the_window() -> None:
    advice = advise(recording([("head", "activation_gradient", [2.0**-30, 2.0**-20])])).loss_scale
    assert (advice.minimum_log2, advice.maximum_log2) == (6, 33)
    assert advice.verdict == "static"
    assert advice.recommended_log2 == 19
    assert advice.minimum_site == "head (activation gradient)"


def test_ordinary_gradients_need_none() -> None:
    advice = advise(recording([("head", "weight_gradient", [1e-3, 1e-2])])).loss_scale
    assert (advice.verdict, advice.recommended_log2) == ("not_needed", 0)


def test_a_site_that_overflows_at_any_scale_that_saves_another_names_both() -> None:
    made = recording(
        [("deep", "activation_gradient", [2.0**-40]), ("loud", "weight_gradient", [2.0**10])]
    )
    advice = advise(made)
    assert advice.loss_scale.verdict == "impossible"
    assert advice.loss_scale.recommended_log2 is None
    assert "deep" in advice.verdicts[1].sentence
    assert "loud" in advice.verdicts[1].sentence
    assert advice.recipe.compute_dtype == "bfloat16"


def test_a_narrow_window_is_dynamic_from_its_top() -> None:
    made = recording(
        [("deep", "activation_gradient", [2.0**-30]), ("loud", "weight_gradient", [2.0**5])]
    )
    advice = advise(made).loss_scale
    assert (advice.minimum_log2, advice.maximum_log2) == (6, 8)
    assert (advice.verdict, advice.recommended_log2) == ("dynamic", 8)


def test_a_site_that_autocast_keeps_in_float32_is_not_at_risk() -> None:
    made = recording([("norm", "activation_gradient", [2.0**-60])], autocast_dtype="float32")
    assert advise(made).loss_scale.verdict == "unknown"


def document(errors: dict[int, dict[str, float | None]], floor: int) -> dict[str, object]:
    return {
        "batches": 4,
        "floor_log2s": [floor],
        "errors": {str(k): row for k, row in errors.items()},
    }


def test_the_arbiter_compares_with_the_floor_and_not_with_zero() -> None:
    errors: dict[int, dict[str, float | None]] = {
        0: {"p": 0.05}, 3: {"p": 0.039}, 6: {"p": 0.02}, 12: {"p": 0.02}
    }  # fmt: skip
    found = arbitrate(document(errors, 12))
    assert found is not None
    assert found.minimum_log2 == 3
    assert found.minimum_parameter == "p"
    assert found.floor == 0.02


def test_the_arbiter_allows_one_percent_above_a_tiny_floor() -> None:
    found = arbitrate(document({0: {"p": 0.0099}, 9: {"p": 3e-4}}, 9))
    assert found is not None
    assert found.minimum_log2 == 0


def test_a_scale_above_the_safe_ones_is_not_judged() -> None:
    found = arbitrate(document({0: {"p": 1e-3}, 9: {"p": 1e-3}, 12: {"p": 0.5}}, 9))
    assert found is not None
    assert found.minimum_log2 == 0


def test_every_parameter_counts_and_the_damaged_one_is_named() -> None:
    errors: dict[int, dict[str, float | None]] = {
        0: {"a": 1e-3, "b": 0.5}, 4: {"a": 1e-3, "b": 1e-3}
    }  # fmt: skip
    found = arbitrate(document(errors, 4))
    assert found is not None
    assert (found.minimum_log2, found.minimum_parameter) == (4, "b")


def test_a_good_scale_below_a_bad_one_does_not_count() -> None:
    found = arbitrate(document({0: {"p": 1e-3}, 3: {"p": 0.5}, 6: {"p": 1e-3}}, 6))
    assert found is not None
    assert found.minimum_log2 == 6


def test_noise_at_every_scale_is_no_reason_to_scale() -> None:
    found = arbitrate(document({0: {"bias": 1.0, "p": 1e-3}, 8: {"bias": 1.1, "p": 1e-3}}, 8))
    assert found is not None
    assert found.minimum_log2 == 0
    assert found.floor == 1e-3


def test_each_stage_is_held_against_its_own_floor() -> None:
    early = {"floor_log2s": [13], "errors": {"0": {"p": 0.036}, "13": {"p": 0.036}}}
    late = {"floor_log2s": [11], "errors": {"-4": {"p": 8e-3}, "0": {"p": 8e-3}, "11": {"p": 8e-3}}}
    found = arbitrate({"batches": 3, "stages": [early, late]})
    assert found is not None
    assert (found.minimum_log2, found.floor, found.batches) == (-4, 0.036, 3)


def test_the_worst_stage_decides_about_a_scale() -> None:
    early = {"floor_log2s": [13], "errors": {"0": {"p": 0.5}, "13": {"p": 1e-3}}}
    late = {"floor_log2s": [12], "errors": {"0": {"p": 1e-3}, "5": {"p": 1e-3}, "12": {"p": 1e-3}}}
    found = arbitrate({"batches": 3, "stages": [early, late]})
    assert found is not None
    assert (found.minimum_log2, found.minimum_parameter) == (5, "p")


def test_the_arbiter_overrules_the_screen() -> None:
    probe = document({-3: {"p": 0.5}, 0: {"p": 1e-3}, 6: {"p": 1e-3}, 20: {"p": 1e-3}}, 20)
    made = recording([("head", "activation_gradient", [2.0**-30])], gradient_probe=probe)
    advice = advise(made).loss_scale
    assert advice.screen_minimum_log2 == 6
    assert (advice.minimum_log2, advice.verdict) == (0, "not_needed")


def test_noise_by_count_does_not_make_scaling_impossible() -> None:
    keys = [2.0**-45] * 30 + [2.0**-12] * 70
    made = recording([("bias", "weight_gradient", keys), ("loud", "weight_gradient", [4.0])])
    advice = advise(made).loss_scale
    assert advice.maximum_log2 == 11
    assert (advice.minimum_log2, advice.verdict) == (11, "dynamic")


def test_no_gradient_at_all_is_unknown() -> None:
    advice = advise(recording([("head", "activation", [1.0])]))
    assert advice.loss_scale.verdict == "unknown"
    assert len(advice.verdicts) == 4
