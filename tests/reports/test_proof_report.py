"""Parity, residual error, drift and the scale sweep, in the terminal and in the page."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from precscope import build_result
from precscope_reports import html
from precscope_reports.html.payload import page_data, seed_bands
from precscope_reports.terminal import print_report
from tests.reports.chromium import Chromium
from tests.reports.sample_result import empty_result, run, runs, sample_result
from tests.support.recordings import recording

SEEDS = 3
HOSTILE = "</script><b>fc</b>.weight"


def seeded_runs() -> list[dict[str, Any]]:
    """The sample's runs, with two further seeds of fp32 and the advised recipe."""
    further = [
        run(order, 200) | {"seed": seed, "final_loss": 2.1 + 0.05 * seed + 0.01 * (order == 6)}
        for seed in range(1, SEEDS)
        for order in (0, 6)
    ]
    for seeded in further:
        seeded["losses"] = [loss + 0.1 * seeded["seed"] for loss in seeded["losses"]]
    return [*runs(), *further]


def residual_document(error: float | None = 0.01) -> dict[str, Any]:
    errors = {"4": {HOSTILE: error}, "7": {HOSTILE: 0.008}, "10": {HOSTILE: 0.008}}
    point = {"log2_scale": 4, "batches": 1, "floor_log2s": [10, 7], "errors": errors}
    return {"points": [{**point, "step": step} for step in (19, 99, 199)], "reason": None}


def proved(stored: list[dict[str, Any]] | None = None, error: float | None = 0.01) -> Any:
    """The sample result with the proof that the library makes of its runs."""
    gradients = [("fc", "weight_gradient", [1e-4] * 32)]
    made = build_result(
        recording(
            gradients,  # type: ignore[arg-type]
            runs=seeded_runs() if stored is None else stored,
            residual=residual_document(error),
            seeds={"count": SEEDS, "asked": False, "reason": "3 runs take no more than 20 s"},
        )
    )
    keys = ("runs", "parity", "residual", "drift", "verdicts", "findings")
    return sample_result() | {key: made[key] for key in keys}


def swept(done: int = 5) -> dict[str, Any]:
    """A result that holds a sweep of five scales and nothing else; ``done`` of them trained."""
    finals = {-8: 2.5, -4: 2.11, 0: 2.1, 4: 2.1, 8: None}
    errors = {"-8": 1.0, "-4": 0.2, "0": 0.01, "4": 0.01, "8": None}
    kept = {"steps": 50, "first_loss": 3.0, "metrics": {}, "skipped_steps": 0}
    trained = {
        str(k): {**kept, "final_loss": final, "diverged_at": 9 if final is None else None}
        for k, final in list(finals.items())[:done]
    }
    probe = {k: {HOSTILE: error} for k, error in errors.items()}
    document = {
        "log2_scales": list(finals), "steps": 50, "seed": 1, "device": "cpu", "recipe": "paper",
        "simulated": True, "fp32": {**kept, "final_loss": 2.1, "diverged_at": None},
        "probe": {"batches": 2, "floor_log2s": [4, 0], "errors": probe}, "all": errors,
        "runs": trained,
    }  # fmt: skip
    return build_result(recording([], scale_sweep=document))


def printed(result: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_report(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_one_row_per_recipe_and_the_seeds_in_the_proof() -> None:
    text = printed(proved())
    table = text.split("Training runs")[1].split("Master weights")[0]
    assert sum(line.startswith("advised") for line in table.splitlines()) == 2
    assert "advised beside fp32. Parity: mean paired difference" in table
    row = next(line for line in table.splitlines() if line.startswith("final loss"))
    assert row.split()[-1] == "parity"
    assert "Seeds: 3 runs take no more than 20 s." in table


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_proof_fits_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in printed(proved(), width).splitlines() if "─" in line)
    block = printed(proved(), width).split("advised beside fp32")[1].split("Master weights")[0]
    assert max(map(len, block.splitlines())) <= width


def test_errors_and_drift_are_told_with_what_is_tolerated() -> None:
    text = " ".join(printed(proved()).split())
    assert "at its scale 2^4: 1.00 % of 1.60 % tolerated after step 20" in text
    assert "Smallest loss scale that is enough" in text


def test_a_broken_promise_is_on_top_in_both_reports() -> None:
    result = proved(error=None)
    first = printed(result).split("What to do first")[1].strip().splitlines()
    assert " ".join(first[1].split()).startswith("Critical Training. The advised recipe breaks")
    page = html.render(result)
    verdicts = page.split('class="verdicts"')[1]
    assert verdicts.index("breaks its promise") < verdicts.index("<h3>Range</h3>")
    assert page.index("promise_broken") < page.index('id="sites"')


def test_one_seed_has_no_table_of_seeds_in_the_terminal_but_says_why() -> None:
    text = printed(proved(runs()))
    assert "Cannot tell: one seed shows no seed-to-seed spread." in " ".join(text.split())
    assert "sd" not in text.split("Training runs")[1].split("Master weights")[0].split()


def test_training_alone_says_at_the_top_what_came_of_the_advice() -> None:
    result = proved(error=None) | {"sites": []}
    text = printed(result)
    assert text.index("What came of it") < text.index("Training runs")
    assert "breaks its promise" in " ".join(text.split("Training runs")[0].split())
    assert "What came of it" not in printed(sample_result() | {"sites": []})


def test_bands_span_the_losses_of_all_seeds() -> None:
    (fp32, advised) = seed_bands(seeded_runs())
    assert (fp32["recipe"], advised["recipe"]) == ("fp32", "advised")
    assert fp32["seeds"] == SEEDS
    for low, high in zip(fp32["low"], fp32["high"], strict=True):
        assert high - low == pytest.approx(0.2, abs=1e-4)
    assert seed_bands(runs()) == []


def test_a_long_band_is_thinned_and_keeps_its_extremes() -> None:
    losses = [float(i % 7) for i in range(20_000)]
    lines = [{"recipe": "fp32", "losses": [v + up for v in losses]} for up in (0.0, 1.0)]
    (band,) = seed_bands(lines)
    assert len(band["step"]) <= 1000
    assert min(band["low"]) == 0.0
    assert max(band["high"]) == 7.0


def test_losses_that_are_not_finite_leave_the_band_to_the_other_seeds() -> None:
    lines = [
        {"recipe": "fp32", "losses": [1.0, "NaN", "NaN"]},
        {"recipe": "fp32", "losses": [2.0, 3.0, "Infinity"]},
    ]
    (band,) = seed_bands(lines)
    assert (band["step"], band["low"], band["high"]) == ([0, 1], [1.0, 3.0], [2.0, 3.0])


def test_the_page_draws_one_line_per_recipe() -> None:
    data = page_data(proved())
    assert [line["recipe"] for line in data["runs"]] == [r["recipe"] for r in runs()]
    assert data["sweep"] is None


def test_the_page_has_a_row_per_seed_and_the_fp32_spread() -> None:
    page = html.render(proved())
    table = page.split("The recipe beside FP32, seed by seed")[2]
    body = table.split("<tbody>")[1].split("</tbody>")[0]
    assert body.count("<tr>") == SEEDS + 3
    assert "range of fp32" in body
    assert "Gradient error during the advised run" in page


def test_the_sweep_is_a_table_in_the_terminal() -> None:
    text = printed(swept())
    assert "What to do first" not in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("2^")}
    assert list(rows) == ["2^-8", "2^-4", "2^0", "2^4", "2^8"]
    assert rows["2^8"][1:3] == ["overflow", "overflow"]
    assert "diverged" in rows["2^8"]
    assert "those from 2^-4 to 2^4 train" in " ".join(text.split())
    assert "Interrupted" not in text
    assert "Interrupted: 2 scales not trained." in printed(swept(3))


def test_the_page_of_a_sweep_holds_only_what_a_sweep_can_say() -> None:
    page = html.render(swept())
    assert page.count("<section ") == 2
    assert 'href="#sweep"' in page
    assert "0 observed steps" not in page
    assert HOSTILE not in page
    assert "&lt;/script&gt;" in page


def test_a_result_without_the_new_keys_still_renders() -> None:
    old = {k: v for k, v in sample_result().items() if k not in ("parity", "residual", "drift")}
    assert "Training runs" in printed(old)
    assert "beside fp32" not in html.render(old)
    assert html.render(empty_result())


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "width"), [("proved", 1280), ("broken", 400), ("swept", 1280), ("interrupted", 400)]
)
def test_the_charts_draw_without_complaint(
    chromium: Chromium, tmp_path: Path, name: str, width: int
) -> None:
    results: dict[str, Callable[[], Any]] = {
        "proved": proved, "broken": lambda: proved(error=None), "swept": swept,
        "interrupted": lambda: swept(1),
    }  # fmt: skip
    path = html.write(results[name](), tmp_path / "report.html")
    chromium.open(path, width, dark=width == 400)
    chromium.settle()
    assert chromium.complaints() == []
    assert chromium.evaluate("document.documentElement.dataset.state") == "drawn"
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    chart = "#run-losses" if name in ("proved", "broken") else "#sweep-chart"
    assert chromium.evaluate(f"document.querySelectorAll('{chart} .main-svg').length > 0")


@pytest.mark.browser
def test_the_band_belongs_to_its_recipe(chromium: Chromium, tmp_path: Path) -> None:
    chromium.open(html.write(proved(), tmp_path / "report.html"), 1280)
    chromium.settle()
    filled = "document.getElementById('run-losses').data.filter(t => t.fill === 'toself')"
    assert chromium.evaluate(f"{filled}.map(t => t.legendgroup)") == ["0", "6"]
