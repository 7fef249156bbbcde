"""Two runs side by side in the terminal: what moved, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from precscope_reports.comparison_words import (
    answer,
    bits,
    change_of_share,
    change_word,
    final_loss,
    moved_sites,
    question,
    summary,
)
from precscope_reports.phrases import (
    DASH,
    SEVERITIES,
    VERDICT_WORDS,
    counted,
    difference,
    moment,
    number,
)
from precscope_reports.terminal.closing import files_written, next_commands
from precscope_reports.terminal.page import Page, page_of
from precscope_reports.terminal.sites import KINDS

FINDINGS_SHOWN = 6
RUNS_SHOWN = 8
STYLES = {"non_finite": "red", "overflow": "red", "flushed": "yellow", "shifted": "bright_blue"}

Comparison = Mapping[str, Any]


def print_comparison(
    comparison: Comparison,
    console: Console,
    top: int,
    files: Mapping[str, Path] | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Print a comparison as ``precscope.comparison.compare`` returns it.

    Names of the user's program are never read as markup; control characters are made visible.

    Args:
        comparison: the dict.
        console: where to print; its width, colours and encoding are respected.
        top: how many sites and parameters are shown.
        files: files written, to be named at the end.
        commands: what to type next.
    """
    page = page_of(console)
    parts = chain(
        _heading(comparison, page),
        _verdicts(comparison, page),
        _findings(comparison, page),
        _sites(comparison, page, top),
        _parameters(comparison, page, top),
        _sums(comparison, page, top),
        _runs(comparison, page),
        files_written(files or {}, page),
        next_commands(commands, page),
    )
    for part in parts:
        if isinstance(part, Rule):
            console.print()
        uncut = isinstance(part, Text) and bool(part.no_wrap)
        console.print(part, soft_wrap=uncut, markup=False, highlight=False, emoji=False)


def _heading(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    sides = comparison["sides"]
    titles = dict.fromkeys(side["title"] for side in sides.values())
    yield page.text(f"precscope compare: {' and '.join(titles)}", "bold")
    for name, side in sides.items():
        seen = counted(side["observed_steps"], "observed step")
        told = (
            f"{side['label']} ({moment(side['created'])}, {seen}, {counted(side['runs'], 'run')})"
        )
        yield page.lead(page.text(f"{name.upper()}:", "bold"), told, "dim")
    if comparison["note"]:
        yield page.note(comparison["note"], "yellow")
    yield page.text(summary(comparison))


def _verdicts(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    moved = [verdict for verdict in comparison["verdicts"] if verdict["moved"]]
    yield page.heading("Verdicts")
    if not moved:
        yield page.note("None moved.", "green")
        return
    rows = [
        (
            page.text(question(verdict["key"])),
            page.text(answer(verdict["key"], verdict["a"])),
            page.text(answer(verdict["key"], verdict["b"]), "bold"),
        )
        for verdict in moved
    ]
    yield page.table(("", "A", "B"), rows, left=3)


def _findings(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    found = comparison["findings"]
    listed = [("+", "appeared", "yellow"), ("~", "changed", ""), ("-", "disappeared", "dim")]
    if not any(found[what] for _, what, _ in listed):
        return
    yield page.heading("Findings")
    for mark, what, style in listed:
        ordered = sorted(found[what], key=_urgency)
        for finding in ordered[:FINDINGS_SHOWN]:
            place = f" {finding['site']}" if finding["site"] else ""
            label = page.severity(finding["severity"])
            yield page.entry(
                label, page.text(f"{mark} {finding['rule']}{place}: {finding['message']}", style)
            )
        if len(ordered) > FINDINGS_SHOWN:
            yield page.note(f"{counted(len(ordered) - FINDINGS_SHOWN, 'more')[:-1]} {what}.")


def _urgency(finding: Mapping[str, Any]) -> int:
    severity = finding["severity"]
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _sites(comparison: Comparison, page: Page, top: int) -> Iterator[RenderableType]:
    moved = moved_sites(comparison)
    if not comparison["sites"]:
        return
    yield page.heading("Sites")
    if not moved:
        yield page.note("No site moved by a bit or flushes noticeably more or less.", "green")
        return
    headers = ("site", "kind", "change", "median", "amax", "moved", "L1 lost", "zeros")
    yield page.table(headers, [_site(site, page) for site in moved[:top]], left=3)
    hidden = len(moved) - top
    more = f" {counted(hidden, 'more site')} moved: --top {len(moved)}." if hidden > 0 else ""
    yield page.note(
        "B minus A. Median and amax of |x| in bits; moved: mean move of a value in bits; L1 lost: "
        f"share of the sum of |x| that FP16 flushes, unscaled; zeros: share of all values.{more}"
    )


def _site(site: Mapping[str, Any], page: Page) -> tuple[Any, ...]:
    shift, new = site["shift_bits"], site["newly_flushed"]
    style = STYLES.get(site["change"], "")
    return (
        site["name"],
        page.text(KINDS.get(site["kind"], site["kind"])),
        page.text(change_word(site["change"]), style),
        page.text(bits(shift["median"])),
        page.text(bits(shift["amax"])),
        page.text(bits(site["distance_bits"], signed=False)),
        page.text(change_of_share(new["l1"]), style if new["l1"] else ""),
        page.text(change_of_share(new["zeros"])),
    )


def _parameters(comparison: Comparison, page: Page, top: int) -> Iterator[RenderableType]:
    moved = [p for p in comparison["parameters"] if p["moved"]]
    if not moved:
        return
    yield page.heading("Master weights")
    rows = [
        (
            p["name"],
            page.text(_kept(p["retention_a"])),
            page.text(_kept(p["retention_b"]), "bold"),
            page.text(_word(p["verdict_a"])),
            page.text(_word(p["verdict_b"]), "bold"),
        )
        for p in moved[:top]
    ]
    yield page.table(("parameter", "kept A", "kept B", "FP32 copy A", "B"), rows)


def _sums(comparison: Comparison, page: Page, top: int) -> Iterator[RenderableType]:
    moved = [s for s in comparison["accumulation"] if s["moved"]]
    if not moved:
        return
    yield page.heading("Accumulation")
    rows = [
        (
            s["site"],
            page.text(s["operation"]),
            page.text(_word(s["verdict_a"])),
            page.text(_word(s["verdict_b"]), "bold"),
        )
        for s in moved[:top]
    ]
    yield page.table(("site", "sum", "A", "B"), rows, left=4)


def _runs(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    runs, observed = comparison["runs"], comparison["observed_loss"]
    seen = None not in (observed["a"], observed["b"])
    if not runs and not seen:
        return
    yield page.heading("Final losses")
    rows: list[tuple[Text | str, ...]] = [
        (
            f"{run['recipe']}, seed {run['seed']}",
            page.text(final_loss(run, "a")),
            page.text(final_loss(run, "b")),
            page.text(difference(run["relative_difference"])),
            page.text(_skipped(run)),
        )
        for run in runs[:RUNS_SHOWN]
    ]
    if seen:
        change = (observed["b"] - observed["a"]) / abs(observed["a"]) if observed["a"] else None
        told = (number(observed["a"]), number(observed["b"]), difference(change), DASH)
        rows.append(("observed training", *map(page.text, told)))
    yield page.table(("run", "A", "B", "B vs A", "skipped A, B"), rows)
    if len(runs) > RUNS_SHOWN:
        yield page.note(f"{counted(len(runs) - RUNS_SHOWN, 'more run')} in the page and the JSON.")


def _skipped(run: Mapping[str, Any]) -> str:
    return ", ".join(number(run[f"skipped_steps_{side}"]) for side in ("a", "b"))


def _kept(retention: float | None) -> str:
    return DASH if retention is None else f"{retention:.3f}"


def _word(verdict: str) -> str:
    return VERDICT_WORDS.get(verdict, verdict)
