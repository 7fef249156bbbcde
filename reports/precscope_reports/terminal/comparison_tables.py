"""The tables of a comparison in the terminal: sites, parameters, sums, runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.comparison_words import (
    Comparison,
    bits,
    change_of_share,
    change_word,
    final_loss,
    moved_sites,
)
from precscope_reports.phrases import DASH, counted, difference, number, verdict_word
from precscope_reports.terminal.page import Page
from precscope_reports.terminal.sites import KINDS

RUNS_SHOWN = 8
STYLES = {"non_finite": "red", "overflow": "red", "flushed": "yellow", "shifted": "bright_blue"}


def sites_that_moved(comparison: Comparison, page: Page, top: int) -> Iterator[RenderableType]:
    """The ``top`` sites that moved most; nothing without sites on both sides."""
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


def moved_parameters(comparison: Comparison, page: Page, top: int) -> Iterator[RenderableType]:
    """Parameters whose need for a master copy moved; nothing if none did."""
    moved = [p for p in comparison["parameters"] if p["moved"]]
    if not moved:
        return
    yield page.heading("Master weights")
    rows = [
        (
            p["name"],
            page.text(_kept(p["retention_a"])),
            page.text(_kept(p["retention_b"]), "bold"),
            page.text(verdict_word(p["verdict_a"])),
            page.text(verdict_word(p["verdict_b"]), "bold"),
        )
        for p in moved[:top]
    ]
    yield page.table(("parameter", "kept A", "kept B", "FP32 copy A", "B"), rows)


def moved_sums(comparison: Comparison, page: Page, top: int) -> Iterator[RenderableType]:
    """Sums whose verdict moved; nothing if none did."""
    moved = [s for s in comparison["accumulation"] if s["moved"]]
    if not moved:
        return
    yield page.heading("Accumulation")
    rows = [
        (
            s["site"],
            page.text(s["operation"]),
            page.text(verdict_word(s["verdict_a"])),
            page.text(verdict_word(s["verdict_b"]), "bold"),
        )
        for s in moved[:top]
    ]
    yield page.table(("site", "sum", "A", "B"), rows, left=4)


def compared_runs(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    """Final losses of the runs of both sides, and of the observed training."""
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
