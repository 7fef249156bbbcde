"""The page as text: self-contained, escaped, complete without scripts."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from precscope.errors import PrecscopeError
from precscope_reports.html import embed, render, write
from tests.reports.sample_result import HOSTILE_NAMES, empty_result, sample_result


class Outline(HTMLParser):
    """Tags with the names of their attributes, in order, and the text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, ...]] = []
        self.text = ""
        self._inside: str = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        if tag != "wbr":
            self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def body(page: str) -> str:
    """The page up to its data blocks."""
    return page[: page.index('<script type="application/json"')]


def test_hostile_names_change_no_tag_and_no_attribute() -> None:
    friendly, hostile = (
        Outline(render(sample_result())),
        Outline(render(sample_result(hostile=True))),
    )
    assert hostile.tags == friendly.tags


def test_hostile_names_are_shown_as_they_are() -> None:
    text = Outline(render(sample_result(40, hostile=True))).text
    shown = [name for name in HOSTILE_NAMES if name in text]
    assert len(shown) >= 8


def test_no_attribute_runs_a_script() -> None:
    for tag in Outline(render(sample_result(hostile=True))).tags:
        assert not [name for name in tag[1:] if name.startswith("on")]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    page = render(sample_result())
    assert "http://" not in page
    assert "https://" not in page
    assert re.findall(r"url\(([^)]*)\)", page).count("#regions") == page.count("url(")
    references = re.findall(r'(?:src|href)="([^"]*)"', body(page))
    assert all(reference.startswith(("#", "data:")) for reference in references)


def test_the_policy_allows_the_page_script_and_nothing_else() -> None:
    page = render(sample_result())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert embed.script_hash(embed.page_script()) in policy[1]
    assert "unsafe-inline" not in policy[1].split("script-src")[1].split(";")[0]


def test_five_hundred_sites_fit_in_three_megabytes() -> None:
    assert len(render(sample_result(500)).encode()) < 3_000_000


def test_rendering_is_a_pure_function() -> None:
    result = sample_result(8)
    before = copy.deepcopy(result)
    assert render(result) == render(result)
    assert result == before


def test_a_recording_without_environment_still_renders() -> None:
    page = render({**sample_result(4), "environment": {}})
    assert "None" not in Outline(body(page)).text


@pytest.mark.parametrize("empty", ["sites", "findings", "runs", "definitions", "verdicts"])
def test_every_list_may_be_empty(empty: str) -> None:
    assert "</html>" in render({**sample_result(4), empty: []})


def test_an_empty_result_says_what_is_missing() -> None:
    text = Outline(render(empty_result())).text
    for sentence in ("No site was observed", "No recipe was trained", "There is no curve"):
        assert sentence in text
    assert "Sums are not sampled in this analysis." in text


def test_verdicts_and_their_code_come_first() -> None:
    page = body(render(sample_result()))
    places = [page.index(f'id="{section}"') for section in ("verdicts", "findings", "sites")]
    assert places == sorted(places)
    assert page.index("GradScaler(init_scale=1024.0)") < places[1]


def test_without_scripts_the_riskiest_fifty_sites_are_a_table() -> None:
    page = render(sample_result(200))
    table = page[page.index('<table class="sites">') :]
    assert table[: table.index("</table>")].count("<tr>") == 51


def test_a_site_that_stays_in_fp32_is_never_the_riskiest() -> None:
    page = render(sample_result(40))
    first_row = page[page.index('<table class="sites">') :].split("<tr>")[2]
    assert "stays" not in first_row


def test_what_was_not_measured_prints_a_dash_and_its_reason() -> None:
    result = sample_result(4)
    result["timing"].update(overhead_ratio=None, overhead_reason="too few steps were timed")
    text = Outline(render(result)).text
    assert "— (too few steps were timed)" in text
    assert "PyTorch counts no peak memory on CPU" in text
    assert "— (no NVIDIA driver on this machine)" in text


def test_a_loss_that_is_not_finite_is_printed_by_name() -> None:
    page = render(sample_result(4))
    assert '<td class="num">NaN</td>' in page
    assert "diverged at step 121" in page


def without_numbers(result: dict[str, Any]) -> dict[str, Any]:
    """The result with null wherever the schema allows it."""
    for run in result["runs"]:
        run.update(step_ms=None, first_loss=None, final_loss=None, metrics={})
        run.update(dict.fromkeys([key for key in run if key.endswith("_bytes")]))
    for parameter in result["master_weights"]["parameters"]:
        parameter.update({key: None for key in parameter if key not in ("name", "verdict")})
    for site in result["sites"]:
        site.update(amax=None, rms=None, zero_fraction=None, autocast_dtype=None, windows=[])
        site.update(dict.fromkeys([key for key in site if key.endswith("_fp16")]))
        site["histogram"].update(first_exponent=0, counts=[], powers=[], zeros=0)
    for point in result["loss_scale"]["curve"]:
        point.update(gradient_error=None, worst_parameter=None)
    result["timing"].update({key: None for key in result["timing"] if key != "clock"})
    result["environment"].update(device_name=None, seed=None, threads=None)
    return result


def test_nulls_render_as_dashes() -> None:
    page = body(render(without_numbers(sample_result(8))))
    assert "None" not in Outline(page).text
    assert "—" in page


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    write(sample_result(2), target)
    assert write(sample_result(4), target) == target
    assert target.read_text(encoding="utf-8") == render(sample_result(4))
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_an_unwritable_place_is_one_line_that_says_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PrecscopeError, match=r"^cannot write the report to .*--output$"):
        write(sample_result(1), tmp_path / "file" / "report.html")
