"""Hostile names in a real browser: shown as text, and nothing else happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from precscope_reports.html import write
from tests.reports.chromium import Chromium
from tests.reports.full_result import full_result
from tests.reports.hostile_names import HOSTILE_NAMES

pytestmark = pytest.mark.browser

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
DIALOGS_EVERY = 8


def shown(name: str) -> str:
    """The name with what cannot be printed replaced, as the page shows it."""
    return UNPRINTABLE.sub("\ufffd", name) if name.strip() else "(no name)"


def hostile_result() -> dict[str, Any]:
    """Every text that comes from a user's program is one of the names; each is a gradient's."""
    result = full_result(2 * len(HOSTILE_NAMES))
    gradients = [site for site in result["sites"] if site["kind"].endswith("gradient")]
    for name, site in zip(HOSTILE_NAMES, gradients, strict=True):
        site.update(name=name, module_type=name)
    texts = iter(HOSTILE_NAMES * 20)
    places = (
        (result["findings"], ("message", "remedy", "code", "site", "rule")),
        (result["verdicts"], ("sentence", "code")),
        (result["runs"], ("recipe", "description", "diverged_reason")),
        (result["memory"], ("recipe",)),
        (result["master_weights"]["parameters"], ("name",)),
        (result["accumulation"]["sites"], ("site", "operation", "reason", "operator")),
        (result["timing"]["modules"], ("module", "module_type", "advice")),
        (result["definitions"], ("term", "definition")),
        (result["coverage"]["modules_not_seen"], ("name", "module_type", "reason")),
        (result["coverage"]["tensors_skipped"], ("what", "reason")),
        (result["loss_scale"]["curve"], ("worst_parameter",)),
        ([result["environment"]], ("device_name", "platform", "command", "torch")),
        ([result], ("title",)),
    )
    for records, keys in places:
        for record in records:
            record.update({key: next(texts) for key in keys})
    result["environment"]["created"] = next(texts)
    result["loss_scale"]["limiting_sites"] = {"minimum": HOSTILE_NAMES[0], "maximum": "__proto__"}
    for number, finding in enumerate(result["findings"]):
        finding["evidence"] = {HOSTILE_NAMES[number]: HOSTILE_NAMES[number + 1]}
    for at, use in enumerate(result["runs"]):
        use["metrics"] = {HOSTILE_NAMES[at]: 0.5}
    return result


@pytest.fixture(scope="module")
def page(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write(hostile_result(), tmp_path_factory.mktemp("hostile") / "report.html")
    chromium.open(path)
    chromium.evaluate("document.getElementById('more-sites').click()")
    chromium.evaluate("document.getElementById('more-sites').click()")
    return path


@pytest.fixture(scope="module")
def names(chromium: Chromium, page: Path) -> list[str]:
    links = "Array.from(document.querySelectorAll('.site-link'), link => link.textContent)"
    found: list[str] = chromium.evaluate(links)
    return found


@pytest.fixture(scope="module")
def titles(chromium: Chromium, page: Path) -> list[str]:
    """Titles of the pages of every eighth site, opened one after the other, then folded rows."""
    opened = chromium.evaluate(
        "Array.from(document.querySelectorAll('.site-link')).filter((_, at) =>"
        f" at % {DIALOGS_EVERY} === 0).map(link => {{ link.click();"
        " return document.getElementById('site-dialog-title').textContent; })"
    )
    chromium.evaluate("document.getElementById('site-dialog').close()")
    for level in (1, 4, 0):
        chromium.evaluate(
            f"(() => {{ const e = document.getElementById('site-level'); e.value = {level};"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        chromium.settle()
        chromium.evaluate("document.querySelector('.fold')?.click()")
        chromium.settle()
    result: list[str] = opened
    return result


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_the_name_is_shown_as_text(names: list[str], name: str) -> None:
    assert shown(name) in names


def test_pages_of_sites_show_their_names(titles: list[str], names: list[str]) -> None:
    assert titles == names[::DIALOGS_EVERY]


def test_nothing_ran_was_asked_for_or_complained(
    chromium: Chromium, page: Path, titles: list[str]
) -> None:
    chromium.settle()
    assert chromium.evaluate("document.documentElement.dataset.state") == "drawn"
    assert chromium.evaluate("window.hostile === undefined && {}.hostile === undefined")
    assert chromium.complaints() == []
    assert chromium.requests() == [page.as_uri()]


def test_no_name_became_an_element(chromium: Chromium, page: Path, titles: list[str]) -> None:
    foreign = (
        "img, iframe, object, embed, form:not(#controls), base, video, audio, math, marquee, xmp,"
        " plaintext, link:not([rel=icon]), meta[http-equiv=refresh], svg a, svg image[href^=http],"
        " [onerror], [onload], [onclick], [onmouseover], [onfocus], main a[href*=':']"
    )
    assert chromium.evaluate(f"document.querySelectorAll({foreign!r}).length") == 0
    assert chromium.evaluate("document.scripts.length") == 6
    assert chromium.evaluate("getComputedStyle(document.querySelector('main')).display") != "none"
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 1280
