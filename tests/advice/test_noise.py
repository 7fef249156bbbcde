"""Gradients that are rounding error: told apart from small ones, and judged by nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from precscope import Recording
from precscope.advice import advise
from precscope.advice.drift_needs import needs_over_time
from precscope.advice.evidence import Evidence
from precscope.advice.noise import cancelled_parameters, resolved, without_errors_of
from precscope.facts import Site, SiteKind, StepRecord
from precscope.formats import FP16
from precscope.histogram import ExponentHistogram
from tests.support.recordings import recording, site, update_window, window
from tests.support.runs import runs

OUTPUT: tuple[str, SiteKind, list[float]] = ("conv", "activation_gradient", [1e-3] * 64)


def facts(
    *named: tuple[str, SiteKind, Sequence[float]],
) -> list[tuple[Site, ExponentHistogram]]:
    return [(site(n, k, "float16"), window(values).histogram) for n, k, values in named]


def test_what_is_left_of_terms_that_cancel_is_noise() -> None:
    noise = facts(OUTPUT, ("conv.bias", "weight_gradient", [1e-10] * 4))
    assert cancelled_parameters(noise) == {"conv.bias"}
    made = recording([OUTPUT, ("conv.bias", "weight_gradient", [1e-10] * 4)])
    assert [s.name for s, _ in Evidence(made).gradients] == ["conv"]


@pytest.mark.parametrize(
    "name", ["conv.weight", "conv.in_proj_bias", "conv.bias_ih_l0", "other.bias"]
)
def test_what_is_no_plain_sum_of_the_output_s_gradient_is_judged(name: str) -> None:
    # A weight gradient of 1e-10 beside output gradients of 1e-3 is what inputs of 1e-7 give.
    sites = facts(OUTPUT, (name, "weight_gradient", [1e-10] * 4))
    assert cancelled_parameters(sites) == set()


def test_noisy_elements_of_a_real_gradient_count_as_zeros() -> None:
    values = [1e-2, 1e-2, 1e-12, 1e-13]
    made = recording([OUTPUT, ("conv.bias", "weight_gradient", values)])
    (_, _), (_, cleaned) = Evidence(made).gradients
    assert (cleaned.nonzero, cleaned.zeros) == (2, 2)
    assert cleaned.flushed_fraction(FP16) == 0.0
    assert cleaned.sum_abs == pytest.approx(sum(values))


@pytest.mark.parametrize(("distance", "left"), [(19, 100), (22, 94)])
def test_an_output_s_gradient_far_below_the_mean_of_its_tensor_is_not_counted(
    distance: int, left: int
) -> None:
    values = [2.0**-6] * 94 + [2.0 ** (-6 - distance)] * 6
    (_, found), *_ = Evidence(recording([("q", "activation_gradient", values)])).gradients
    assert found.nonzero == left


def test_what_becomes_small_later_on_is_no_noise() -> None:
    made = falling("fc", "activation_gradient")
    (_, found), *_ = Evidence(made).gradients
    assert found.nonzero == 16
    assert advise(made).loss_scale.minimum_log2 == 10


def test_a_gradient_that_would_be_noise_by_most_of_its_mass_is_left_whole() -> None:
    histogram = window([1e-10] * 4).histogram
    assert (
        resolved(site("rnn.bias_ih_l0", "weight_gradient", "float16"), histogram, 1.0) is histogram
    )


def test_without_an_output_s_gradient_nothing_is_known_to_be_noise() -> None:
    made = recording([("conv.bias", "weight_gradient", [1e-2] * 3 + [1e-10])])
    assert [h.nonzero for _, h in Evidence(made).gradients] == [4]
    assert Evidence(made).noise == set()


PROBE = {
    "batches": 2,
    "stages": [
        {
            "floor_log2s": [12, 15],
            "errors": {
                "0": {"conv.bias": 900.0, "conv.weight": 0.001},
                "12": {"conv.bias": 30.0, "conv.weight": 0.001},
                "15": {"conv.bias": 40.0, "conv.weight": 0.001},
            },
        }
    ],
}


def probed(**documents: Any) -> Recording:
    sites = [
        OUTPUT,
        ("conv.bias", "weight_gradient", [1e-10] * 4),
        ("conv.weight", "weight_gradient", [1e-2] * 4),
    ]
    return recording(sites, gradient_probe=PROBE, **documents)


def test_the_error_of_noise_decides_nothing_in_a_real_backward() -> None:
    # Its error at 2^0 is 11 times its threshold; that of the weight is harmless.
    advice = advise(probed()).loss_scale
    assert (advice.verdict, advice.minimum_log2, advice.minimum_site) == ("not_needed", -15, None)
    arbitration = Evidence(probed()).arbitration()
    assert arbitration is not None
    assert {point.parameter for point in arbitration.points} == {"conv.weight"}
    assert arbitration.lost == ()


def test_the_error_of_noise_breaks_no_promise() -> None:
    errors = PROBE["stages"][0]  # type: ignore[index]
    point = {"step": 9, "log2_scale": 0, "batches": 1, **errors}
    made = probed(
        residual={"points": [point], "reason": None}, runs=runs(fp32=[1.0], advised=[1.0])
    )
    (found,) = advise(made).proof.residual.points
    assert (found.parameter, found.breaks) == ("conv.weight", False)


def test_an_overflow_stays_whoever_it_is_of() -> None:
    probe = {"errors": {"3": {"a.bias": None, "b.bias": 5.0}}, "floor_log2s": [3]}
    assert without_errors_of({"a.bias", "b.bias"}, probe) == {
        "errors": {"3": {"a.bias": None}}, "floor_log2s": [3],
    }  # fmt: skip
    assert without_errors_of({"a.bias"}, None) is None


def test_noise_is_not_called_the_worst_weight() -> None:
    sites = [OUTPUT, ("conv.bias", "weight_gradient", [1e-10] * 4)]
    updates = {
        "conv.bias": [update_window("conv.bias", (0.0, 0.0, 0.0))],
        "conv.weight": [update_window("conv.weight", (0.97, 0.9, 0.9))],
    }
    advice = advise(recording(sites, updates=updates))
    sentence = next(v for v in advice.verdicts if v.question == "master_weights").sentence
    assert "worst conv.weight: R = 0.97" in sentence
    assert "R = 0.90" in sentence
    assert [p.is_noise for p in advice.retention] == [True, False]


def falling(*named: str) -> Recording:
    """Sites, name and kind in turn, whose values fall from 2^-4 to 2^-34 half way."""
    sites = [site(n, k, "float16") for n, k in zip(named[::2], named[1::2], strict=True)]  # type: ignore[arg-type]
    windows = [window([2.0**-4] * 8), window([2.0**-34] * 8, 1, 1)]
    return Recording.from_facts(
        meta={"title": "by hand"},
        sites=sites,
        windows=dict.fromkeys(range(len(sites)), windows),
        steps=[StepRecord(0, 1.0, 2.0**-4, 0, 0.0)],
        updates={},
        documents={},
    )


def test_the_noise_of_each_window_is_told_by_its_own_terms() -> None:
    made = falling("fc", "activation_gradient", "fc.bias", "weight_gradient")
    assert [need.needed_log2 for need in needs_over_time(Evidence(made), 16)] == [-20, 10]
    assert [h.nonzero for _, h in Evidence(made).gradients] == [16, 16]
