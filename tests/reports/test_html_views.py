"""The what-if view folded by module, a site's page, and the evidence charts, in a real browser."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from precscope.formats import FP16
from precscope.histogram import ExponentHistogram
from precscope_reports.html import write
from precscope_reports.phrases import share
from tests.reports.chromium import Chromium
from tests.reports.full_result import full_result
from tests.reports.test_html_browser import histogram, set_value, texts

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return full_result()


@pytest.fixture(scope="module")
def opened(
    chromium: Chromium, result: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = write(result, tmp_path_factory.mktemp("views") / "report.html")
    chromium.open(path)
    return path


@pytest.fixture
def page(chromium: Chromium, opened: Path) -> Chromium:
    """The page with every control as at first; loading it once is what keeps these tests fast."""
    chromium.evaluate("document.getElementById('site-dialog').close()")
    for control, value in (("site-level", "0"), ("site-module", ""), ("scale-slider", "0")):
        set_value(chromium, control, value)
    set_value(chromium, "site-search", "")
    return chromium


def merged(result: dict[str, Any], prefix: str) -> ExponentHistogram:
    """The library's sum of the gradients below a module that are stored in half precision."""
    parts = [
        histogram(site)
        for site in result["sites"]
        if site["name"].startswith(prefix) and site["kind"].endswith("gradient") and site["at_risk"]
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total.merged(part)
    return total


def test_a_folded_module_is_the_sum_of_its_sites(page: Chromium, result: dict[str, Any]) -> None:
    set_value(page, "site-level", "1")
    rows = "Array.from(document.querySelectorAll('#site-table tbody tr'), r =>"
    shown = page.evaluate(f"{rows} [r.querySelector('.fold').textContent, r.cells[2].textContent])")
    expected = {
        f"encoder.layers.{n}": share(merged(result, f"encoder.layers.{n}.").flushed_fraction(FP16))
        for n in range(3)
    }
    assert dict(shown) == expected
    assert page.evaluate("document.getElementById('site-map').data[0].z.length") == 3


def test_a_module_unfolds_by_keyboard_and_keeps_the_focus(page: Chromium) -> None:
    set_value(page, "site-level", "1")
    page.evaluate("document.querySelector('.fold').focus()")
    page.press("Enter", 13)
    assert page.evaluate("document.activeElement.ariaExpanded") == "true"
    assert len(texts(page, "#site-table tbody tr")) == 5
    assert page.evaluate("document.getElementById('site-map').data[0].z.length") == 4
    page.press("Enter", 13)
    assert len(texts(page, "#site-table tbody tr")) == 3


def test_the_module_filter_shows_one_part_or_one_type(page: Chromium) -> None:
    options = texts(page, "#site-module option")
    assert options[0] == "every module"
    wanted = next(at for at, text in enumerate(options) if text.startswith("encoder.layers.1 "))
    set_value(page, "site-module", str(wanted - 1))
    names = texts(page, ".site-link")
    assert names
    assert all(name.startswith("encoder.layers.1.") for name in names)


def test_a_named_scale_moves_the_slider_and_the_totals(
    page: Chromium, result: dict[str, Any]
) -> None:
    page.evaluate("document.querySelector('[data-scale=\"6\"]').click()")
    page.settle()
    assert texts(page, "#scale-output") == ["26"]
    total = merged(result, "")
    assert texts(page, "#totals strong")[0] == share(total.flushed_fraction(FP16, 6))
    assert page.evaluate("document.querySelector('[data-scale=\"6\"]').ariaPressed") == "true"


def test_the_sites_that_set_the_window_are_marked(page: Chromium, result: dict[str, Any]) -> None:
    limit = result["loss_scale"]["limiting_sites"]["minimum"]
    marked = page.evaluate(
        "Array.from(document.querySelectorAll('.limit'), e => e.closest('tr').innerText)"
    )
    assert len(marked) == 2
    assert all(limit in text for text in marked)
    notes = "document.getElementById('site-map').layout.annotations.map(a => a.text).join()"
    assert "needs 2<sup>6</sup>, safe to 2<sup>14</sup>" in page.evaluate(notes)


def test_a_sites_page_shows_what_else_is_known(page: Chromium, result: dict[str, Any]) -> None:
    weight = next(site["name"] for site in result["sites"] if site["kind"] == "weight")
    page.evaluate("document.querySelector('input[value=\"weight\"]').click()")
    page.settle()
    link = "Array.from(document.querySelectorAll('.site-link'))"
    page.evaluate(f"{link}.find(e => e.textContent === {weight!r}).click()")
    page.settle()
    headings = texts(page, "#site-dialog h3")
    assert headings[:1] == ["Over the run"]
    assert "Updates in FP16 weights" in headings
    assert "Sums of this module" in headings
    assert page.evaluate("document.querySelectorAll('#site-windows .main-svg').length > 0")
    first = texts(page, "#site-dialog-title")
    page.press("ArrowRight", 39)
    assert texts(page, "#site-dialog-title") != first
    page.evaluate("document.querySelector('input[value=\"gradients\"]').click()")


def test_a_timed_module_shows_its_time_on_its_sites_page(
    page: Chromium, result: dict[str, Any]
) -> None:
    timed = {module["module"] for module in result["timing"]["modules"]}
    set_value(page, "site-search", "layers.0.attention")
    link = "Array.from(document.querySelectorAll('.site-link'))"
    name = page.evaluate(f"{link}.map(e => e.textContent).find(n => !n.endsWith('weight'))")
    assert name in timed
    page.evaluate(f"{link}.find(e => e.textContent === {name!r}).click()")
    page.settle()
    assert {"Time", "Findings here"} <= set(texts(page, "#site-dialog h3"))
    assert "Tensor cores" in texts(page, "#site-dialog dt")


@pytest.mark.parametrize(
    "chart", ["retention", "retention-rates", "sum-errors", "module-times", "nvml-traces"]
)
def test_the_evidence_is_drawn(page: Chromium, chart: str) -> None:
    assert page.evaluate(f"document.querySelectorAll('#{chart} .main-svg').length > 0")
    assert page.evaluate(f"document.getElementById('{chart}').data.length > 0")


def test_measured_errors_stand_beside_the_predicted_line(
    page: Chromium, result: dict[str, Any]
) -> None:
    traces = page.evaluate(
        "document.getElementById('sum-errors').data.map(t => [t.name, t.x.length, t.y[0], t.x[0]])"
    )
    predicted = {name: (y, x) for name, _, y, x in traces if (name or "").startswith("predicted")}
    assert set(predicted) == {"predicted, 16 at once", "predicted, 1 at once"}
    y, x = predicted["predicted, 16 at once"]
    assert y == pytest.approx((x / 16) ** 0.5 * 2.0**-11)
    measured = sum(size for name, size, _, _ in traces if (name or "").startswith("FP"))
    assert measured == len(result["accumulation"]["sites"])


def test_everything_is_reached_by_tab_and_focus_is_seen(page: Chromium) -> None:
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(40):
        page.press("Tab", 9)
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        visible = page.evaluate(f"{outline} !== 'none' || document.activeElement.name === 'kind'")
        assert visible, reached[-1]
    assert {"site-level", "site-module", "site-search", "site-format", "scale-slider"} <= set(
        reached
    )
    assert reached.index("site-level") < reached.index("scale-slider")


def test_it_prints_to_pages(page: Chromium) -> None:
    page.emulate(media="")
    printed = page.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 5 <= pdf.count(b"/Type /Page\n") <= 40
    assert page.complaints() == []
