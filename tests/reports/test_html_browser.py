"""The page in a real browser: drawn, driven by mouse and keyboard, in both themes, on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precscope.formats import BF16, FP16, NumberFormat
from precscope.histogram import MIN_EXPONENT, ExponentHistogram, no_counts
from precscope_reports.html import write
from precscope_reports.phrases import share
from tests.reports.chromium import Chromium
from tests.reports.full_result import full_result
from tests.reports.sample_result import empty_result, sample_result
from tests.reports.test_html_page import without_numbers

pytestmark = pytest.mark.browser

RESULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "full": full_result,
    "empty": empty_result,
    "one site": lambda: sample_result(1),
    "no numbers": lambda: without_numbers(sample_result(8)),
    "two thousand": lambda: sample_result(2000),
}
TEXTS = "(selector => Array.from(document.querySelectorAll(selector), e => e.textContent))"


def texts(chromium: Chromium, selector: str) -> list[str]:
    found: list[str] = chromium.evaluate(f"{TEXTS}({selector!r})")
    return found


@pytest.fixture(scope="module")
def page(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(sample_result(), tmp_path_factory.mktemp("report") / "report.html")


def reopen(chromium: Chromium, page: Path) -> None:
    """The page with every control as at first; loaded anew only if another is open."""
    here = f"location.href === {page.as_uri()!r} && innerWidth === 1280"
    if not chromium.evaluate(f"{here} && !matchMedia('(prefers-color-scheme: dark)').matches"):
        chromium.open(page)
        return
    chromium.events.clear()
    chromium.evaluate("document.getElementById('site-dialog').close()")
    chromium.evaluate("document.querySelector('input[value=\"gradients\"]').click()")
    for control, value in (("site-search", ""), ("site-format", "fp16"), ("scale-slider", "0")):
        set_value(chromium, control, value)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("full", 1280),
        ("full", 400),
        ("empty", 400),
        ("one site", 400),
        ("no numbers", 1280),
        ("two thousand", 1280),
    ],
)
def test_it_draws_without_complaint_or_request(
    chromium: Chromium, tmp_path: Path, name: str, width: int
) -> None:
    path = write(RESULTS[name](), tmp_path / "report.html")
    chromium.open(path, width, dark=width == 400)
    chromium.settle()
    assert chromium.complaints() == []
    assert chromium.requests() == [path.as_uri()]
    assert chromium.evaluate("document.documentElement.dataset.state") == "drawn"
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    drawn = chromium.evaluate("document.querySelectorAll('.chart .main-svg').length > 0")
    assert drawn == (name != "empty")


def test_a_foreign_script_does_not_run(chromium: Chromium, page: Path) -> None:
    reopen(chromium, page)
    chromium.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
        " document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
        " '<img src=x onerror=\"window.foreign = 2\">'); })()"
    )
    chromium.settle()
    assert chromium.evaluate("window.foreign === undefined") is True


def histogram(site: dict[str, Any]) -> ExponentHistogram:
    """The library's histogram of a site of the result."""
    start = site["histogram"]["first_exponent"] - MIN_EXPONENT
    counts, powers = no_counts(), no_counts()
    for full, key in ((counts, "counts"), (powers, "powers")):
        values = np.asarray(site["histogram"][key], dtype=np.int64)
        full[start : start + values.size] = values
    return ExponentHistogram(counts=counts, powers=powers, amax=site["amax"])


def shown_shares(chromium: Chromium) -> dict[str, list[str]]:
    """Flushed, subnormal and overflow by site name, as the table shows them."""
    rows = (
        "Array.from(document.querySelectorAll('table.sites tbody tr'), row =>"
        " Array.from(row.cells, cell => (cell.querySelector('button') ?? cell).textContent))"
    )
    return {cells[0]: [cells[2], cells[4], cells[5]] for cells in chromium.evaluate(rows)}


def expected_shares(fmt: NumberFormat, log2_scale: int) -> dict[str, list[str]]:
    gradients = [site for site in sample_result()["sites"] if site["kind"].endswith("gradient")]
    return {
        site["name"]: [
            share(histogram(site).flushed_fraction(fmt, log2_scale)),
            share(histogram(site).subnormal_fraction(fmt, log2_scale)),
            share(histogram(site).overflow_fraction(fmt, log2_scale)),
        ]
        for site in gradients
    }


def test_slider_and_format_show_what_the_library_computes(chromium: Chromium, page: Path) -> None:
    reopen(chromium, page)
    first_column = "document.getElementById('site-map').data[0].x0"
    start = chromium.evaluate(first_column)
    for log2_scale in (-12, 0, 9, 24):
        set_value(chromium, "scale-slider", str(log2_scale))
        assert shown_shares(chromium) == expected_shares(FP16, log2_scale)
        chromium.wait_for(f"{first_column} - {start} === {log2_scale}", 5)
        inside = 6 <= log2_scale <= 14
        note = texts(chromium, "#scale-note")[0]
        assert f"lies {'in' if inside else 'outside'} the safe window" in note
    set_value(chromium, "site-format", "bf16")
    assert shown_shares(chromium) == expected_shares(BF16, 24)
    assert "BF16" in texts(chromium, "#site-table-note")[0]


def set_value(chromium: Chromium, element_id: str, value: str) -> None:
    chromium.evaluate(
        f"(() => {{ const e = document.getElementById({element_id!r}); e.value = {value!r};"
        " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    chromium.settle()


def test_arrow_keys_move_the_slider_and_copy_buttons_answer(chromium: Chromium, page: Path) -> None:
    reopen(chromium, page)
    chromium.evaluate("document.getElementById('scale-slider').focus()")
    chromium.press("ArrowRight", 39)
    chromium.press("ArrowRight", 39)
    assert texts(chromium, "#scale-output") == ["22"]
    assert chromium.evaluate("document.getElementById('scale-output').innerHTML") == "2<sup>2</sup>"
    chromium.evaluate("document.querySelector('.copy').click()")
    chromium.wait_for("document.querySelector('.copy').textContent !== 'Copy'", 5)
    assert texts(chromium, ".copy")[0] in ("Copied", "Press Ctrl+C")


def test_kind_and_search_choose_what_map_and_table_show(chromium: Chromium, page: Path) -> None:
    reopen(chromium, page)
    chromium.evaluate("document.querySelector('input[value=\"activation\"]').click()")
    chromium.settle()
    assert len(texts(chromium, "table.sites tbody tr")) == 6
    assert chromium.evaluate("document.getElementById('scale-slider').disabled") is True
    set_value(chromium, "site-search", "FC1")
    assert all(".mlp.fc1" in name for name in texts(chromium, ".site-link"))
    assert chromium.evaluate("document.getElementById('site-map').data[0].z.length") == 3
    set_value(chromium, "site-search", "nothing has this name")
    assert texts(chromium, "#site-map") == ["No site matches."]
    set_value(chromium, "site-search", "")
    assert chromium.evaluate("document.getElementById('site-map').data[0].z.length") == 6
    assert chromium.complaints() == []


def test_a_header_sorts_and_turns_around(chromium: Chromium, page: Path) -> None:
    reopen(chromium, page)
    for order, reverse in (("descending", True), ("ascending", False)):
        chromium.evaluate("document.querySelector('[data-sort=\"largest\"]').click()")
        chromium.settle()
        column = texts(chromium, "table.sites tbody td:last-child")
        exponents = [float(text.removeprefix("2").replace("\u2212", "-")) for text in column]
        assert exponents == sorted(exponents, reverse=reverse)
        heads = "document.querySelector('th:has([data-sort=\"largest\"])').ariaSort"
        assert chromium.evaluate(heads) == order


def test_a_click_on_the_map_opens_that_site(chromium: Chromium, page: Path) -> None:
    reopen(chromium, page)
    chromium.evaluate("document.getElementById('site-map').scrollIntoView({behavior: 'instant'})")
    chromium.settle()
    middle_of_third_row = chromium.evaluate(
        "(() => { const box = document.querySelector('#site-map .nsewdrag[data-subplot=xy]')"
        ".getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height * 2.5 / 12]; })()"
    )
    chromium.click(*middle_of_third_row)
    chromium.wait_for("document.getElementById('site-dialog').open", 5)
    third = [site for site in sample_result()["sites"] if site["kind"].endswith("gradient")][2]
    assert texts(chromium, "#site-dialog-title") == [third["name"]]
    chromium.press("Escape", 27)
    walk_the_sites_by_keyboard(chromium)


def walk_the_sites_by_keyboard(chromium: Chromium) -> None:
    names = texts(chromium, ".site-link")
    chromium.evaluate("document.querySelector('.site-link').focus()")
    chromium.press("Enter", 13)
    assert texts(chromium, "#site-dialog-title") == [names[0]]
    chromium.evaluate("document.querySelector('[data-go=\"1\"]').focus()")
    chromium.press("Enter", 13)
    assert texts(chromium, "#site-dialog-title") == [names[1]]
    assert chromium.evaluate("document.querySelectorAll('#site-histogram .bars path').length") > 20
    chromium.press("Escape", 27)
    assert chromium.evaluate("document.getElementById('site-dialog').open") is False
    assert chromium.complaints() == []


def test_many_sites_are_drawn_a_few_at_a_time(chromium: Chromium, tmp_path: Path) -> None:
    chromium.open(write(sample_result(400), tmp_path / "report.html"))
    assert len(texts(chromium, "table.sites tbody tr")) == 25
    chromium.evaluate("document.getElementById('more-sites').click()")
    assert len(texts(chromium, "table.sites tbody tr")) == 125
    assert chromium.evaluate("document.getElementById('site-map').data[0].z.length") == 200


def test_charts_follow_the_theme_of_the_system(chromium: Chromium, page: Path) -> None:
    seen = set()
    chromium.open(page)
    for dark in (False, True):
        chromium.emulate(dark=dark)
        chromium.settle()
        font = "document.getElementById('scale-curve')._fullLayout.font.color"
        ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink')"
        assert chromium.evaluate(f"{font} === {ink}") is True
        seen.add(chromium.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2


def test_paper_is_light_opens_what_is_folded_and_goes_back(chromium: Chromium, page: Path) -> None:
    chromium.open(page, dark=True)
    width = "document.getElementById('scale-curve')._fullLayout.width"
    screen_width = chromium.evaluate(width)
    chromium.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert chromium.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert chromium.evaluate(width) == 680
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink')"
    assert chromium.evaluate(ink) == "#1c1e21"
    chromium.evaluate("window.dispatchEvent(new Event('afterprint'))")
    chromium.wait_for(f"{width} === {screen_width}", 5)
    assert chromium.evaluate(ink) == "#e8eaed"


def test_without_scripts_verdicts_and_tables_are_readable(chromium: Chromium, page: Path) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.resize(1280, 900)
        chromium.call("Page.navigate", url=page.as_uri())
        chromium.wait_for("document.readyState === 'complete' && document.querySelector('#runs')")
        text = chromium.evaluate("document.body.innerText")
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "Without a loss scale FP16 flushes" in text
    assert "encoder.layers.0.attention.proj" in text
    assert "Scripts are off" in text
    assert "drawing" not in text
