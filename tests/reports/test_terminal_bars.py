"""Exponent bars: every value is somewhere, FP16's limits are where they belong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precscope_reports.terminal.bars import BLOCKS, bar_header, exponent_bar


def histogram(counts: dict[int, int]) -> dict[str, Any]:
    first = min(counts, default=0)
    last = max(counts, default=-1)
    return {
        "first_exponent": first,
        "counts": [counts.get(exponent, 0) for exponent in range(first, last + 1)],
    }


def regions(counts: dict[int, int], ascii_only: bool = False) -> list[str]:
    """The bar of each region: flushed, subnormal, normal, overflow."""
    return exponent_bar(histogram(counts), ascii_only).plain.split("|" if ascii_only else "│")


@pytest.mark.parametrize(
    ("exponent", "region"),
    [(-149, 0), (-25, 0), (-24, 1), (-15, 1), (-14, 2), (0, 2), (15, 2), (16, 3), (127, 3)],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_an_exponent_is_drawn_in_its_region_of_fp16(
    exponent: int, region: int, ascii_only: bool
) -> None:
    drawn = regions({exponent: 5}, ascii_only)
    assert [bool(part.strip()) for part in drawn] == [number == region for number in range(4)]
    full = "#" if ascii_only else "█"
    assert drawn[region].strip() == full


def test_heights_are_logarithmic_down_to_four_decades() -> None:
    bar = regions({0: 10**8, 2: 10**6, 4: 10**4, 6: 1})[2]
    assert bar.strip() == f"{BLOCKS[7]}{BLOCKS[4]}{BLOCKS[0]}{BLOCKS[0]}"


def test_no_value_at_all_is_an_empty_bar() -> None:
    assert not "".join(regions({})).strip()
    assert not "".join(regions({3: 0})).strip()


def test_the_header_has_the_width_and_the_limits_of_the_bars() -> None:
    for ascii_only, limit in ((False, "│"), (True, "|")):
        header = bar_header(ascii_only).plain
        bar = exponent_bar(histogram({0: 1}), ascii_only).plain
        assert [i for i, sign in enumerate(header) if sign == limit] == [
            i for i, sign in enumerate(bar) if sign == limit
        ]
        assert len(header) == len(bar)


@given(st.dictionaries(st.integers(-149, 127), st.integers(1, 10**15), min_size=1))
@settings(max_examples=40, deadline=None)
def test_every_histogram_has_the_same_width_and_at_least_one_full_cell(
    counts: dict[int, int],
) -> None:
    bar = exponent_bar(histogram(counts), ascii_only=False).plain
    assert len(bar) == len(bar_header(ascii_only=False).plain)
    assert BLOCKS[-1] in bar
