"""Figures beside verdicts, memory, speed and what a site's page draws, as text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from precscope_reports.html import render
from precscope_reports.html.details import details_data
from precscope_reports.html.figures import figure, merged
from precscope_reports.html.payload import page_data
from precscope_reports.html.sections import chosen, memory, site_controls
from precscope_reports.html.sections.section import worst_of
from tests.reports.full_result import full_result
from tests.reports.hostile_names import HOSTILE_NAMES
from tests.reports.sample_result import empty_result, sample_result

QUESTIONS = ("range", "loss_scale", "master_weights", "training", "accumulation")


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return full_result()


def test_there_are_enough_hostile_names_and_none_twice() -> None:
    assert len(HOSTILE_NAMES) >= 120
    assert len(set(HOSTILE_NAMES)) == len(HOSTILE_NAMES)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_answer_has_a_drawing_with_a_label(result: dict[str, Any], question: str) -> None:
    drawn = figure(question, result)
    assert drawn.count("<svg") == 1
    assert re.search(r'role="img" aria-label="[^"]{10,}"', drawn)
    assert "<figcaption>" in drawn


@pytest.mark.parametrize("question", [*QUESTIONS, "unheard of"])
def test_nothing_measured_draws_nothing(question: str) -> None:
    assert figure(question, empty_result()) == ""


def test_the_window_is_drawn_where_it_lies_on_the_ruler(result: dict[str, Any]) -> None:
    drawn = figure("loss_scale", result)
    x, width = map(
        float, re.findall(r'class="safe" x="([\d.]+)" y="19" width="([\d.]+)"', drawn)[0]
    )
    per_exponent = 204 / 36
    assert x == pytest.approx(8 + 18 * per_exponent, abs=0.1)
    assert width == pytest.approx(8 * per_exponent, abs=0.1)


def test_an_empty_window_is_not_drawn(result: dict[str, Any]) -> None:
    advice = {**result["loss_scale"], "minimum_log2": 12, "maximum_log2": 4}
    drawn = figure("loss_scale", {**result, "loss_scale": advice})
    assert 'class="safe"' not in drawn
    assert 'class="ruler"' in drawn


def test_merged_histograms_add_by_exponent() -> None:
    first = {"first_exponent": -2, "counts": [1, 2]}
    second = {"first_exponent": -1, "counts": [5, 0, 7]}
    total = merged([first, second])
    assert total == {"first_exponent": -2, "counts": [1, 7, 0, 7]}
    assert merged([]) == {"first_exponent": 0, "counts": []}


def test_memory_has_a_row_per_recipe_with_sizes_and_ratios(result: dict[str, Any]) -> None:
    shown = memory.memory(result)
    recipes = {use["recipe"] for use in result["memory"]}
    assert shown.count('<tr><th scope="row">') == len(recipes)
    assert "3.81 MiB<small>1.00\u00d7</small>" in shown
    assert "Peak" not in shown
    assert memory.memory(sample_result(4)) == ""


def test_speed_is_a_section_only_where_modules_were_timed(result: dict[str, Any]) -> None:
    timed, plain = render(result), render(sample_result(4))
    assert '<section id="speed"' in timed
    assert "less efficient: 511 is no multiple of 8" in timed
    assert '<section id="speed"' not in plain
    assert "modules are timed on a GPU only" in plain
    assert len(chosen(result)) == len(chosen(sample_result(4))) + 1


def test_risk_stands_beside_the_time_of_a_module(result: dict[str, Any]) -> None:
    page = render(result)
    table = page[page.index('<table class="modules">') :].split("</table>")[0]
    rows = table.split("<tr>")[2:]
    assert len(rows) == len(result["timing"]["modules"])
    assert all(row.count("<td") == 6 for row in rows)


def test_traces_of_nvml_are_lines_of_the_page(result: dict[str, Any]) -> None:
    power, clock = page_data(result)["nvml"]
    assert (power["name"], power["unit"], len(power["values"])) == ("power", "W", 30)
    assert clock["values"][0] == 1700.0
    assert page_data(sample_result(1))["nvml"] == []


def test_details_hold_what_the_charts_draw_and_nothing_else(result: dict[str, Any]) -> None:
    details = details_data(result)
    assert len(details["sums"]) == len(result["accumulation"]["sites"])
    assert "reason" not in details["sums"][0]
    assert {finding["site"] for finding in details["findings"]} != {None}
    assert [m["module"] for m in details["modules"]] == [
        m["module"] for m in result["timing"]["modules"]
    ]


def test_one_scale_that_is_all_of_them_is_one_button(result: dict[str, Any]) -> None:
    advice = result["loss_scale"] | {"minimum_log2": 0, "recommended_log2": 0}
    shown = site_controls.controls(result["sites"], advice)
    assert shown.count("data-scale=") == 2
    assert "unscaled, smallest that works, recommended" in shown


def test_a_caption_says_whether_the_table_is_cut() -> None:
    assert worst_of(80, 50, "sum") == "The worst 50 of 80 sums"
    assert worst_of(13, 50, "sum") == "13 sums, worst first"
    assert worst_of(1, 50, "sum") == "1 sum"


def test_the_tables_are_complete_without_scripts(result: dict[str, Any]) -> None:
    page = render(result)
    for table in ("sites", "runs", "memory", "parameters", "sums", "modules"):
        assert f'<table class="{table}">' in page
    assert page.index("<noscript>") < page.index("<section")
