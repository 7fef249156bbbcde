"""What a gradient error is, in words that somebody new to them can act on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from precscope_reports import html
from tests.reports.sample_result import sample_result
from tests.reports.test_proof_report import swept
from tests.reports.test_terminal_report import printed, row, section


def page_words(result: dict[str, Any]) -> str:
    """The page as text, without its scripts and styles."""
    bare = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", html.render(result))
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


@pytest.fixture(scope="module")
def words() -> str:
    return page_words(sample_result())


def test_the_floor_is_told_by_what_it_costs(words: str) -> None:
    assert "Gradient error of rounding alone 2.10 % at any loss scale" in words
    assert "Gradient error floor" not in words


def test_the_worst_parameter_is_defined_where_it_is_shown(words: str) -> None:
    assert "the worst parameter: the one that exceeds what is accepted of it the most" in words


def test_every_column_of_the_parameters_is_explained(words: str) -> None:
    for told in (
        "Over a window:",
        "Noise:",
        "Updates lost:",
        "Below 2 \N{MINUS SIGN}24 :",
        "beside their weight",
    ):
        assert told in words


def test_errors_are_shares_in_the_table_as_in_the_chart() -> None:
    result = sample_result()
    point = next(p for p in result["loss_scale"]["curve"] if p["log2_scale"] == 10)
    point.update(gradient_error=0.0254, worst_parameter="net.weight")
    assert re.search(r"2 10 2\.54 % net\. weight", page_words(result))
    table = section(printed(result), "Loss scale")
    assert row(table, "1024 (2^10)")[-2:] == ["2.54", "%"]


def test_a_probe_that_overflowed_did_run() -> None:
    result = sample_result()
    point = next(p for p in result["loss_scale"]["curve"] if p["log2_scale"] == 10)
    point.update(gradient_error=None, worst_parameter="net.weight")
    assert re.search(r"2 10 overflow net\. weight", page_words(result))
    table = section(printed(result), "Loss scale")
    assert row(table, "1024 (2^10)")[-1] == "overflow"


def test_a_sweep_says_whose_error_it_shows() -> None:
    result = swept()
    assert "of the worst one, which exceeds what is accepted of it the most" in page_words(result)
    told = " ".join(section(printed(result), "Scale sweep").split())
    assert "gradient error of the worst final loss" in told
    assert "of the worst: of the one parameter that exceeds its floor the most" in told
