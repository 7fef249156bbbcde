"""The terminal report: what is said, in which order, in how many columns, for any name."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from precscope_reports.terminal import print_report

SAMPLES = runpy.run_path(str(Path(__file__).with_name("sample_result.py")))
sample_result: Callable[..., dict[str, Any]] = SAMPLES["sample_result"]
empty_result: Callable[[], dict[str, Any]] = SAMPLES["empty_result"]

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def printed(
    result: dict[str, Any],
    width: int = 80,
    encoding: str = "utf-8",
    colors: bool = False,
    **closing: Any,
) -> str:
    page = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(
        file=page,
        width=width,
        color_system="standard" if colors else None,
        force_terminal=colors,
        legacy_windows=False,
    )
    print_report(result, console, **closing)
    page.flush()
    return page.buffer.getvalue().decode(encoding)


def section(text: str, title: str) -> str:
    """The lines below a heading, up to the next."""
    found = re.search(rf"^{title} [─-]+\n(.*?)(?=^\S[^\n]* [─-]{{3,}}$|\Z)", text, re.S | re.M)
    assert found, f"no section {title!r}"
    return found[1]


def row(text: str, name: str) -> list[str]:
    """The cells of the table row that begins with ``name``."""
    return next(line.split() for line in text.splitlines() if line.startswith(name))


def test_the_most_urgent_verdict_comes_first_with_its_code() -> None:
    first = section(printed(sample_result()), "What to do first")
    lines = [line.split()[0] for line in first.splitlines() if re.match(r"\w", line)]
    assert lines == ["Critical", "Warning", "OK", "OK"]
    critical, code = first.index("Loss scale."), first.index("GradScaler(init_scale=1024.0)")
    assert critical < code < first.index("Master weights.")


def test_verdicts_come_before_findings_before_evidence_before_provenance() -> None:
    text = printed(sample_result(), files={"page": Path("report.html")}, commands=["precscope x"])
    titles = re.findall(r"^(\S[^\n]*?) ─+$", text, re.M)
    assert titles == [
        "What to do first",
        "Findings",
        "Riskiest sites",
        "Loss scale",
        "Training runs",
        "Master weights",
        "Cost and coverage",
        "Definitions",
        "Files",
        "Next",
    ]


def test_findings_of_one_rule_and_remedy_are_told_once_with_their_sites() -> None:
    result = sample_result()
    template = result["findings"][0]
    result["findings"] = [template | {"site": f"layers.{i}", "code": "fix()"} for i in range(7)]
    told = section(printed(result), "Findings")
    assert told.count("L1 mass") == 1
    assert "layers.0:" in told
    assert "also layers.1, layers.2, layers.3, layers.4 and 2 more" in told
    assert told.count("    fix()") == 1


def test_findings_that_are_fine_are_left_to_the_page() -> None:
    result = sample_result()
    result["findings"] = [found | {"severity": "ok"} for found in result["findings"]]
    assert "Findings" not in printed(result)


def test_code_of_a_verdict_is_not_repeated_below_its_finding() -> None:
    text = printed(sample_result())
    assert text.count("scaler = torch.amp.GradScaler(init_scale=1024.0)") == 1


def test_only_sites_at_risk_are_listed_broken_ones_first() -> None:
    result = sample_result()
    listed = section(printed(result, width=140), "Riskiest sites")
    safe = {site["name"] for site in result["sites"] if not site["at_risk"]}
    risky = {site["name"] for site in result["sites"] if site["at_risk"]}
    assert not [name for name in safe - risky if f"{name} " in listed]
    assert "infinite" in listed.splitlines()[1]


def test_a_model_that_fits_says_so() -> None:
    result = sample_result()
    for site in result["sites"]:
        site["at_risk"] = False
    told = section(printed(result), "Riskiest sites")
    assert told.strip() == "No value observed leaves the normal range of FP16."


def test_the_loss_scale_table_shows_the_window_and_no_scaling() -> None:
    table = section(printed(sample_result()), "Loss scale")
    assert row(table, "1024 (2^10)")[2] == "recommended"
    assert row(table, "64 (2^6)")[2] == "lowest"
    assert row(table, "16384 (2^14)")[2] == "highest"
    assert row(table, "1 (2^0)")[2:4] == ["no", "scaling"]
    assert "what FP16 rounding costs at any scale, here up to 2.10 %." in " ".join(table.split())


def test_no_scaling_recommended_is_told_as_such() -> None:
    result = sample_result()
    result["loss_scale"].update(verdict="not_needed", recommended=1.0, recommended_log2=0)
    table = section(printed(result), "Loss scale")
    assert table.startswith("Not needed: FP16 gradients")
    assert row(table, "1 (2^0)")[2:4] == ["no", "scaling"]
    assert "recommended" not in table


@pytest.mark.parametrize("points", [0, 1, 2, 9, 10, 11, 300])
def test_the_loss_scale_table_never_outgrows_ten_rows(points: int) -> None:
    result = sample_result()
    curve = result["loss_scale"]["curve"]
    made = [curve[0] | {"log2_scale": k} for k in range(points)]
    result["loss_scale"]["curve"] = made
    rows = re.findall(r"60\.0 %", section(printed(result), "Loss scale"))
    assert len(rows) == min(points, 10)


def test_runs_are_compared_with_fp32_and_divergence_is_told() -> None:
    table = section(printed(sample_result()), "Training runs")
    assert table.index("fp32 ") < table.index("bf16 ")
    assert row(table, "bf16")[2:4] == ["+2.99", "%"]
    assert row(table, "paper-no-scaling*")[1] == "diverged"
    assert "paper-no-scaling diverged at step 121: the loss became infinite" in table
    assert row(table, "fp16*")[5] == "3"


@pytest.mark.parametrize(
    ("final", "told"),
    [(2.0, "same"), (2.00001, "<0.01"), (2.01, "+0.50"), (3.0, "+50.0"), ("NaN", "—"), (None, "—")],
)
def test_a_difference_from_fp32_is_rounded_honestly(final: float | str | None, told: str) -> None:
    result = sample_result()
    result["runs"] = result["runs"][:2]
    result["runs"][0]["final_loss"], result["runs"][1]["final_loss"] = 2.0, final
    assert row(section(printed(result), "Training runs"), "bf16")[2] == told


def test_simulated_runs_are_labelled_and_measured_ones_are_not() -> None:
    table = section(printed(sample_result()), "Training runs")
    assert "paper* " in table
    assert "fp32* " not in table
    assert "* simulated:" in table
    result = sample_result()
    for run in result["runs"]:
        run["simulated"] = False
    assert "simulated" not in section(printed(result), "Training runs")


def test_master_weights_lists_the_worst_eight_worst_first() -> None:
    result = sample_result(80)
    table = section(printed(result), "Master weights")
    kept = [float(found) for found in re.findall(r"^encoder\S+ +(\d\.\d{3})", table, re.M)]
    assert len(kept) == 8
    assert kept == sorted(kept)
    everything = [p["retention"] for p in result["master_weights"]["parameters"] if p["retention"]]
    assert kept[0] == pytest.approx(min(everything), abs=5e-4)
    assert "12 more parameters" in " ".join(table.split())


def test_a_cost_that_is_lost_in_the_noise_is_no_gain() -> None:
    result = sample_result()
    result["timing"]["overhead_ratio"] = 0.97
    told = " ".join(section(printed(result), "Cost and coverage").split())
    assert "Observing cost less than the steps vary" in told
    assert "as long" not in told


def test_cost_coverage_and_missing_hardware_are_told() -> None:
    told = section(printed(sample_result()), "Cost and coverage")
    assert "1.08\N{MULTIPLICATION SIGN} as long" in told
    assert "not seen: digits_cnn (Dropout): never called" in told
    assert "skipped: 20 tensors" in told
    assert "not measured: NVML: no NVIDIA driver on this machine" in told


def test_an_unmeasured_cost_gives_its_reason() -> None:
    result = sample_result()
    result["timing"].update(overhead_ratio=None, overhead_reason="too few steps")
    assert "Cost of observing: — (too few steps)" in printed(result)


def test_a_failed_observer_is_not_passed_over() -> None:
    result = sample_result()
    error = {"where": "fc1", "message": "out of memory", "count": 3}
    result["coverage"]["observer_errors"] = [error]
    assert "Observer failed at fc1, 3 times: out of memory" in printed(result)


def test_definitions_files_and_commands_close_the_report() -> None:
    path = Path("a-rather-long-folder-name" * 5) / "report.html"
    text = printed(sample_result(), files={"page": path}, commands=["precscope report " + "x" * 90])
    assert "flushed: |x| <= 2^-25" in section(text, "Definitions")
    assert str(path) in text.splitlines()
    assert "precscope report " + "x" * 90 in text.splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("result", [sample_result(), sample_result(hostile=True)], ids=["", "bad"])
def test_no_line_is_wider_than_the_terminal(result: dict[str, Any], width: int) -> None:
    from rich.cells import cell_len

    lines = printed(result, width=width).splitlines()
    assert max(cell_len(line) for line in lines if not line.startswith("    ")) <= width
    assert len(lines) < 160


def test_no_cell_of_a_table_is_cut_at_80_columns() -> None:
    text = printed(sample_result())
    for title in ("recommended", "not needed", "no scaling", "overflow", "FP32 copy"):
        assert title in text


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_is_survived(width: int) -> None:
    assert "Loss" in printed(sample_result(), width=width)


def test_an_empty_result_is_a_report_too() -> None:
    text = printed(empty_result())
    assert "Unknown: No gradient was seen." in text
    assert "Training runs" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("hostile", [False, True])
def test_a_stream_without_unicode_gets_ascii_it_can_encode(encoding: str, hostile: bool) -> None:
    text = printed(sample_result(hostile=hostile), encoding=encoding)
    assert text.isascii()
    assert "|" in section(text, "Riskiest sites")


def test_markup_in_names_is_printed_and_not_obeyed() -> None:
    result = sample_result()
    result["title"] = "[bold]loud[/bold] [link=https://example.com]x[/link] :smile:"
    result["findings"][0]["message"] = "[red]not red[/red] [/]"
    text = printed(result, colors=True)
    plain = ANSI.sub("", text)
    assert "[bold]loud[/bold] [link=https://example.com]x[/link] :smile:" in plain
    assert "[red]not red[/red] [/]" in plain
    assert "\x1b]8" not in text


@pytest.mark.parametrize(
    "trap",
    ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x08" * 9, "\u202e", "\u200b", "\x9b31m", "\ud800"],
)
def test_control_characters_in_any_text_are_made_visible(trap: str) -> None:
    result = sample_result()
    bad = f"a{trap}b"
    result["title"] = bad
    result["sites"][1]["name"] = bad
    result["sites"][1]["histogram"]["nans"] = 1
    result["findings"][0].update(message=bad, site=bad, remedy=bad, code=bad)
    result["verdicts"][1].update(sentence=bad, code=bad)
    result["master_weights"]["parameters"][5]["name"] = bad
    result["runs"][1]["recipe"] = bad
    result["definitions"][0]["definition"] = bad
    text = printed(result, files={"page": Path(bad)}, commands=[bad])
    assert trap not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_colour_is_added_to_the_same_words() -> None:
    plain, coloured = printed(sample_result()), printed(sample_result(), colors=True)
    assert "\x1b[" in coloured
    assert ANSI.sub("", coloured) == plain
    assert "\x1b" not in plain


def test_names_are_shortened_from_the_left_and_stay_apart() -> None:
    text = section(printed(sample_result()), "Riskiest sites")
    names = re.findall(r"^(e\.\S+)", text, re.M)
    assert "e.l.2.mlp.fc1.weight" in names
    assert len(names) == len(set(names))


def test_where_nothing_was_observed_only_the_training_is_told() -> None:
    result = sample_result()
    result["sites"] = []
    result["coverage"]["sites"] = 0
    text = printed(result)
    assert re.findall(r"^(\S[^\n]*?) ─+$", text, re.M) == ["Training runs"]
    assert "observed" not in text


def test_a_long_metric_and_the_longest_recipe_lose_no_figure_in_80_columns() -> None:
    result = sample_result()
    for run in result["runs"]:
        run["metrics"] = {"character_accuracy_held_out": 0.4375}
    result["runs"][-1] |= {"recipe": "paper-fp16-accumulation", "simulated": True}
    table = section(printed(result), "Training runs")
    assert "paper-fp16-accumulation*" in table
    assert table.count("0.4375") == len({run["recipe"] for run in result["runs"]})
    assert max(len(line) for line in table.splitlines()) <= 80


def test_runs_that_diverged_are_not_said_to_have_taken_all_steps() -> None:
    result = sample_result()
    assert "200 steps each, fewer where the loss diverged, seed" in printed(result)
    for run in result["runs"]:
        run["steps"] = 200
    assert "200 steps each, seed" in printed(result)
