from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope_reports import phrases


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0"),
        (1.0, "100 %"),
        (1e-12, "<0.01 %"),
        (0.0001, "0.01 %"),
        (0.0012, "0.12 %"),
        (0.09994, "9.99 %"),
        (0.09996, "10.0 %"),
        (0.1234, "12.3 %"),
        (0.999, "99.9 %"),
        (0.99951, ">99.9 %"),
        (1 - 1e-12, ">99.9 %"),
        (1.5, "150.0 %"),
        (None, "—"),
        (math.nan, "—"),
        (math.inf, "—"),
    ],
)
def test_share(fraction: float | None, text: str) -> None:
    assert phrases.share(fraction) == text


@given(st.floats(0, 1))
def test_a_share_never_rounds_to_nothing_or_to_everything(fraction: float) -> None:
    text = phrases.share(fraction)
    assert (text == "0") == (fraction == 0)
    assert (text == "100 %") == (fraction == 1)
    assert text not in ("0.00 %", "0.0 %", "100.0 %")


@given(st.floats(0.0001, 0.9994))
def test_a_printed_share_is_within_half_a_digit(fraction: float) -> None:
    percent = float(phrases.share(fraction).removesuffix(" %"))
    assert percent == pytest.approx(100 * fraction, abs=0.0501)


@pytest.mark.parametrize(
    ("exponent", "text"),
    [
        (-24, "2^-24"),
        (0, "2^0"),
        (10.04, "2^10"),
        (-14.93, "2^-14.9"),
        (None, "—"),
        (math.inf, "—"),
    ],
)
def test_power_of_two(exponent: float | None, text: str) -> None:
    assert phrases.power_of_two(exponent) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-(2.0**-14), "2^-14"), (65504.0, "2^16"), (3e-5, "2^-15"), (None, "—")],
)
def test_magnitude(value: float | None, text: str) -> None:
    assert phrases.magnitude(value) == text


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (1.0, "1 (2^0)"),
        (1024.0, "1024 (2^10)"),
        (0.125, "2^-3"),
        (2.0**40, "2^40"),
        (1000.0, "1,000"),
        (0.0, "—"),
        (None, "—"),
    ],
)
def test_scale(factor: float | None, text: str) -> None:
    assert phrases.scale(factor) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10 * 1024 - 1, "10.0 KiB"),
        (1024**2 - 1, "1.00 MiB"),
        (23.44 * 1024**2, "23.4 MiB"),
        (5 * 1024**5, "5120 TiB"),
        (None, "—"),
    ],
)
def test_byte_size(size_bytes: float | None, text: str) -> None:
    assert phrases.byte_size(size_bytes) == text


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0.0, "0 ms"),
        (0.085, "85.0 µs"),
        (0.9996, "1.00 ms"),
        (12.34, "12.3 ms"),
        (999.6, "1.00 s"),
        (12345.0, "12.35 s"),
        (None, "—"),
    ],
)
def test_duration(time_ms: float | None, text: str) -> None:
    assert phrases.duration(time_ms) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1 + 0.2, "0.3"),
        (1.23456e-7, "1.235e-07"),
        (12345.6, "12,346"),
        ("NaN", "NaN"),
        ("Infinity", "∞"),
        ("-Infinity", "-∞"),
        (None, "—"),
    ],
)
def test_number(value: float | str | None, text: str) -> None:
    assert phrases.number(value) == text


def test_counts_and_missing_values() -> None:
    assert phrases.counted(1, "site") == "1 site"
    assert phrases.counted(2000, "site") == "2,000 sites"
    assert phrases.counted(0, "batch", "batches") == "0 batches"
    assert phrases.ratio(1.0799) == "1.08\u00d7"
    assert phrases.ratio(None) == phrases.count(None) == phrases.missing(None) == "—"
    assert phrases.missing("no GPU") == "— (no GPU)"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0"),
        (0.0005, "+0.05 %"),
        (-0.0029, "\u22120.29 %"),
        (1e-6, "under \u00b10.01 %"),
        (math.nan, "—"),
        (None, "—"),
    ],
)
def test_difference(fraction: float | None, text: str) -> None:
    assert phrases.difference(fraction) == text


def test_reasons_become_sentences() -> None:
    assert phrases.sentence("no gradient was seen") == "No gradient was seen."
    assert phrases.sentence("Really? ") == "Really?"
    assert phrases.sentence("") == ""


def test_moments_are_in_utc() -> None:
    assert phrases.moment("2026-01-02T03:04:05+00:00") == "2026-01-02 03:04 UTC"
    assert phrases.moment(None) == "—"
