"""The proof: the recipe under test beside FP32 on every seed, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import counted, number, power_of_two, sentence, share
from precscope_reports.terminal.page import Page

Comparison = Mapping[str, Any]


def proof(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """Parity with its numbers, the residual gradient error, and the drift of the needed scale."""
    parity: Mapping[str, Any] = result.get("parity") or {}
    if parity.get("recipe"):
        head = page.text(f"{parity['recipe']} beside fp32.", "bold")
        yield page.lead(head, sentence(parity["reason"]), _style(parity["verdict"]))
        comparisons = [c for c in (parity["loss"], *parity["metrics"]) if len(c["seeds"]) > 1]
        if comparisons:
            yield page.table(_headers(comparisons[0]), [_row(c, page) for c in comparisons])
        if parity.get("seeds_reason"):
            yield page.note(f"Seeds: {parity['seeds_reason']}.")
    yield from (page.note(line) for line in (*_residual(result), *_drift(result)))


def outcome(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """The verdict on the advised recipe, where nothing but training was done."""
    if (result.get("parity") or {}).get("recipe") != "advised":
        return
    yield page.heading("What came of it")
    for verdict in result["verdicts"]:
        if verdict["question"] == "training":
            severity = page.severity(verdict["severity"])
            yield page.entry(severity, page.text(verdict["sentence"]))


def _style(verdict: str) -> str:
    return {"worse": "bold red", "parity": "green", "better": "green"}.get(verdict, "yellow")


def _headers(comparison: Comparison) -> tuple[str, ...]:
    return (
        f"fp32 over {counted(len(comparison['seeds']), 'seed')}",
        "mean",
        "range",
        "sd",
        "recipe - fp32",
        "",
    )


def _row(comparison: Comparison, page: Page) -> tuple[Text, ...]:
    cells = (
        comparison["name"].replace("_", " "),
        number(comparison["fp32_mean"]),
        _short(comparison["fp32_range"]),
        _short(comparison["fp32_sd"]),
        f"{comparison['mean_difference']:+.2g}",
        comparison["verdict"],
    )
    return tuple(page.text(cell) for cell in cells)


def _short(value: float) -> str:
    return f"{value:.2g}"


def _residual(result: Mapping[str, Any]) -> Iterator[str]:
    residual: Mapping[str, Any] = result.get("residual") or {}
    points = residual.get("points") or []
    told = ", ".join(f"{_error(point)} after step {point['step'] + 1}" for point in points)
    if points:
        scales = " and ".join(dict.fromkeys(power_of_two(p["log2_scale"]) for p in points))
        yield f"Gradient error of the advised run at its scale {scales}: {told}."


def _error(point: Mapping[str, Any]) -> str:
    if point["error"] is None:
        return "overflow"
    return f"{share(point['error'])} of {share(point['tolerated'])} tolerated"


def _drift(result: Mapping[str, Any]) -> Iterator[str]:
    drift: Mapping[str, Any] = result.get("drift") or {}
    if drift.get("needs"):
        first, last = drift["needs"][0], drift["needs"][-1]
        moved = f"{power_of_two(first['needed_log2'])} to {power_of_two(last['needed_log2'])}"
        enough = "Smallest loss scale that is enough, first to last window"
        yield f"{enough}: {moved}. {sentence(drift['reason'])}"
