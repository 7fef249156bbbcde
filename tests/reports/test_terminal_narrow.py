"""Narrow terminals: a column that does not fit is left out and named; no number is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from precscope_reports.terminal.page import Page

HEADERS = ("site", "terms", "gradient error", "verdict")
ROWS = [("encoder.layers.0.attention", "19,626", "1.1e-03", "required"), ("head", "4", "0", "no")]


def printed(width: int) -> list[str]:
    stream = io.StringIO()
    table = Page(width, ascii_only=False).table(HEADERS, ROWS)
    Console(file=stream, width=width, color_system=None).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_everything_is_shown_where_it_fits() -> None:
    lines = printed(80)
    assert lines[0].split() == ["site", "terms", "gradient", "error", "verdict"]
    assert lines[1].split() == ["encoder.layers.0.attention", "19,626", "1.1e-03", "required"]
    assert len(lines) == 3


def test_names_give_way_first_then_headers_wrap() -> None:
    lines = printed(40)
    assert lines[1].split() == ["site", "terms", "error", "verdict"]
    assert lines[2].split()[1:] == ["19,626", "1.1e-03", "required"]
    assert not any("Too narrow" in line for line in lines)


def test_what_does_not_fit_is_named() -> None:
    assert printed(30)[-1] == "Too narrow for: verdict."


@pytest.mark.parametrize("width", range(12, 81))
def test_no_number_is_cut(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for value, header in (("19,626", "terms"), ("1.1e-03", "error"), ("required", "verdict")):
        missing = " ".join(lines).partition("Too narrow for:")[2]
        assert value in words or header in missing


def test_a_first_column_of_numbers_is_never_cut() -> None:
    table = Page(20, ascii_only=False).table(("scale", "lost"), [(Text("16777216 (2^24)"), "12 %")])
    stream = io.StringIO()
    Console(file=stream, width=20, color_system=None).print(table)
    assert "16777216 (2^24) 12 %" not in stream.getvalue() or "12 %" in stream.getvalue()
    assert "16777216 (2^24)" in stream.getvalue()
