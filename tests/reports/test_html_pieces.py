"""The small parts of the page: markup, embedding, thinning, payload, sparkline."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope.formats import E4M3, FP16
from precscope_reports.html import embed, markup, payload, sparkline, thinning
from tests.reports.sample_result import HOSTILE_NAMES, run, sample_result, site


@given(st.text())
def test_escaped_text_holds_no_markup_and_no_quotes(text: str) -> None:
    escaped = markup.esc(text)
    assert not set("<>\"'") & set(escaped)
    escaped.encode("utf-8")


def test_marks_that_turn_text_around_are_shown_instead() -> None:
    assert markup.esc("a\u202eb\u2066c\x00d\ud800") == "a\ufffdb\ufffdc\ufffdd\ufffd"


def test_powers_of_two_are_raised_after_escaping() -> None:
    assert markup.typeset("<2^-24>") == "&lt;2<sup>\u221224</sup>&gt;"
    assert markup.typeset("12^3, 2^k, 2^(k)") == "12^3, 2<sup>k</sup>, 2^(k)"
    assert markup.typeset("41 % of 2 %d") == "41&nbsp;% of 2&nbsp;%d"


def test_a_table_has_headers_for_columns_and_rows() -> None:
    html = markup.table("Cap<", ("A", "#B"), [[markup.esc("x"), markup.esc(1)]])
    assert '<caption class="sr">Cap&lt;</caption>' in html
    assert '<th scope="col">A</th><th scope="col" class="num">B</th>' in html
    assert '<th scope="row">x</th><td class="num">1</td>' in html


def test_a_dash_tells_its_reason() -> None:
    assert "needs a &lt;GPU&gt;" in markup.dash("needs a <GPU>")
    assert markup.code_block("  \n") == ""


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_json_is_safe_in_a_script_and_reads_back(name: str) -> None:
    text = embed.dumps({name: [name, 1.5, None]})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {name: [name, 1.5, None]}


def test_json_has_no_numbers_that_are_not_finite() -> None:
    assert embed.dumps([math.nan, (math.inf, 1)]) == "[null,[null,1]]"


def test_packing_is_reproducible_and_reversible() -> None:
    packed = embed.pack("héllo" * 100)
    assert packed == embed.pack("héllo" * 100)
    assert gzip.decompress(base64.b64decode(packed)).decode() == "héllo" * 100


def test_every_script_file_is_part_of_the_page_script() -> None:
    script = embed.page_script()
    assert all(embed.asset(f"js/{name}") in script for name in embed.SCRIPTS)
    assert "</script" not in script


def test_short_lines_are_kept_whole() -> None:
    assert thinning.thin_line([3.0, None, 1.0]) == [(0, 3.0), (1, None), (2, 1.0)]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=400), st.integers(1, 20))
def test_a_thinned_line_keeps_its_extremes(values: list[float | None], buckets: int) -> None:
    points = thinning.thin_line(values, buckets)
    assert len(points) <= max(3 * buckets, 2)
    assert all(values[index] == value for index, value in points)
    assert [index for index, _ in points] == sorted({index for index, _ in points})
    numbers = [value for value in values if value is not None]
    kept = [value for _, value in points if value is not None]
    if numbers:
        assert (min(kept), max(kept)) == (min(numbers), max(numbers))


def test_merged_windows_keep_the_worst_value_and_the_whole_span() -> None:
    windows = [
        {"first_step": i, "last_step": i, "amax": i, "flushed_fp16": None, "l1_flushed_fp16": 0.1}
        for i in range(100)
    ]
    columns = thinning.thin_windows(windows, limit=10)
    assert columns["first_step"] == list(range(0, 100, 10))
    assert columns["last_step"] == columns["amax"] == list(range(9, 100, 10))
    assert columns["flushed"] == [None] * 10


def test_formats_carry_the_limits_of_the_library() -> None:
    facts = payload.format_facts(FP16)
    assert (facts["flush"], facts["normal"], facts["top"]) == (-25, -14, 15)
    assert (facts["max"], facts["overflow"], facts["inclusive"]) == (65504.0, 65520.0, True)
    assert payload.format_facts(E4M3)["max"] == 448.0


def test_a_run_has_gaps_where_its_loss_is_not_finite() -> None:
    series = payload.run_series(run(5, 200))
    assert series["loss"]["value"][-2:] == [None, None]
    assert payload.run_series(run(2, 200))["skipped_loss"][0] == run(2, 200)["losses"][0]


def test_site_columns_are_as_long_as_the_sites() -> None:
    columns = payload.site_data(sample_result(7))
    assert {len(column) for column in columns.values()} == {7}
    assert columns["counts"][3] == site(3, 7, ())["histogram"]["counts"]


def test_a_silhouette_has_one_bar_per_occupied_exponent() -> None:
    histogram: dict[str, Any] = {"first_exponent": -3, "counts": [1, 0, 3]}
    assert sparkline.silhouette(histogram).count("M") == 2
    assert sparkline.silhouette({"first_exponent": 0, "counts": []}) == ""


def test_a_silhouette_gathers_what_lies_outside_in_its_outermost_bars() -> None:
    histogram: dict[str, Any] = {"first_exponent": -100, "counts": [1, 1]}
    assert sparkline.silhouette(histogram) == "M0 20v-20h.9v20z"
