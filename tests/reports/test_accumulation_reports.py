"""Accumulation and formats in the terminal and in the page."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from precscope_reports.html import render
from precscope_reports.terminal import print_report
from tests.reports.sample_result import sample_result

EVIL = "<script>alert(1)</script>[red]{{title}}"


def one_sum(site: str, verdict: str, error: float | None, **known: Any) -> dict[str, Any]:
    return {
        "site": site,
        "operation": "weight gradient",
        "operator": "mm",
        "phase": "backward",
        "family": "product",
        "length": 16384,
        "sampled_length": 16384,
        "samples": 64,
        "calls": 1,
        "block": 16,
        "error_fp16": error,
        "error_fp32": 2.2e-4,
        "expected_error": 4.6e-3,
        "predicted_error": 2.1e-1,
        "worst_error": 0.5,
        "kappa": 3.0,
        "peak": 70000.0,
        "swamped_fraction": 0.25,
        "variance_retention": 0.9,
        "cancellation": None,
        "error_native_fp16": None,
        "errors_fp16_by_block": {"1": error, "4": error, "8": error, "16": error},
        "verdict": verdict,
        "reason": "partial sums reach 7e+04, beyond FP16's 65504",
        **known,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    made = sample_result(6)
    sites = [one_sum(f"fine{i}", "fp16_ok", 3e-4) for i in range(9)]
    sites.insert(4, one_sum("words", "fp32_advised", 2e-3, error_native_fp16=0.75))
    sites.insert(7, one_sum("deep.head", "fp32_required", None, sampled_length=8192))
    made["accumulation"] = {
        "sites": sites,
        "reason": None,
        "counts": {"fp32_required": 1, "fp32_advised": 1, "fp16_ok": 9},
        "log2_scale": 10,
        "fp32_modules": ["deep.head"],
        "code": 'recipe = precscope.Recipe.named("x").keeping_fp32("deep.head")',
        "skipped": [{"operator": "avg_pool2d", "reason": "not taken apart", "count": 2}],
        "addends": 10**6,
        "probe_ms": 42.0,
        "probe_plain_steps": 4.2,
    }
    made["format_choice"] = [
        {"module": "deep.head", "choice": "fp32", "reason": "values reach 1e+05"},
        *({"module": f"m{i}", "choice": "fp16", "reason": f"{i} doublings"} for i in range(6)),
    ]
    made["verdicts"].append(
        {"question": "accumulation", "severity": "advice", "sentence": "One sum.", "code": ""}
    )
    return made


def terminal(result: dict[str, Any], width: int = 80) -> str:
    stream = io.StringIO()
    print_report(result, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def section(text: str, title: str) -> str:
    return text.partition(f"\n{title} ─")[2].partition("\n\n")[0]


def test_the_terminal_shows_the_worst_sums_first_and_what_the_probe_cost(
    result: dict[str, Any],
) -> None:
    shown = section(terminal(result), "Accumulation")
    rows = [line for line in shown.splitlines() if "weight gradient" in line]
    assert len(rows) == 8
    assert "overflow" in rows[0]
    assert rows[0].endswith("required")
    assert "7.5e-01" in rows[1]
    assert "11 sums of a training step" in shown
    flat = " ".join(shown.split())
    assert "took 42.0 ms, as long as 4.2 plain steps" in flat
    assert "3 more sums in the page" in flat


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_of_the_terminal_report_is_wider_than_the_terminal(
    result: dict[str, Any], width: int
) -> None:
    for title in ("Accumulation", "Which format"):
        lines = section(terminal(result, width), title).splitlines()
        assert lines
        assert max(map(len, lines)) <= width


def test_formats_are_told_in_a_line_each(result: dict[str, Any]) -> None:
    shown = " ".join(section(terminal(result), "Which format").split())
    assert "FP16 m0, m1, m2, m3 and 2 more 0 doublings (m0)" in shown
    assert "FP32 deep.head values reach 1e+05" in shown
    assert "BF16" not in shown


def test_nothing_probed_prints_no_section_in_the_terminal_and_a_reason_in_the_page() -> None:
    made = sample_result(6)
    assert "Accumulation ─" not in terminal(made)
    assert "Which format ─" not in terminal(made)
    assert "Sums are not sampled in this analysis." in render(made)


def page_section(result: dict[str, Any]) -> str:
    page = render(result)
    return page.partition('<section id="accumulation"')[2].partition("</section>")[0]


def test_the_page_shows_every_number_the_policy_and_the_formats(result: dict[str, Any]) -> None:
    shown = page_section(result)
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", shown)
    assert "deep.<wbr>head" in rows[0]
    assert "FP32 required" in rows[0]
    assert "8,192 looked at" in rows[0]
    assert "partial sums reach" in rows[0].lower()
    assert ">0.75<" in rows[1]
    assert "keeping_fp32(&quot;deep.head&quot;)" in shown
    assert "avg_pool2d (not taken apart)" in shown
    assert "4.2 plain steps" in shown
    assert "FP16 for 6, FP32 for 1" in shown
    assert 'href="#accumulation"' in render(result)


def test_names_from_the_users_program_are_escaped(result: dict[str, Any]) -> None:
    result["accumulation"]["sites"][0].update(site=EVIL, operation=EVIL, reason=EVIL)
    result["accumulation"]["skipped"][0].update(operator=EVIL)
    result["format_choice"][0].update(module=EVIL, reason=EVIL)
    assert "<script>alert" not in page_section(result)
    assert "[red]" in terminal(result, 300)


def test_more_than_fifty_sums_are_cut_in_the_page(result: dict[str, Any]) -> None:
    sites = [one_sum(f"layer{i}", "fp16_ok", 1e-4 * i) for i in range(80)]
    result["accumulation"]["sites"] = sites
    shown = page_section(result)
    assert "The worst 50 of 80 sums" in shown
    assert "layer79" in shown
    assert "layer29<" not in shown
