"""Memory of each recipe beside FP32's, part by part."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, join, table
from precscope_reports.phrases import byte_size, ratio

PARTS = (
    ("weight_bytes", "Weights"),
    ("gradient_bytes", "Gradients"),
    ("optimizer_bytes", "Optimizer"),
    ("saved_tensor_bytes", "Saved for backward"),
)
BAR_WIDTH = 160


def memory(result: dict[str, Any]) -> Html:
    """One row per recipe of the first seed: a stacked bar, every part, the total; or nothing."""
    uses = _first_of_each(result.get("memory") or [])
    largest = max((use["total_bytes"] or 0 for use in uses), default=0)
    if not largest:
        return Html("")
    peak = any(use["peak_ratio"] is not None for use in uses)
    headers = ["Recipe", "Parts", *(f"#{word}" for _, word in PARTS), "#Total"]
    headers += ["#Peak, beside fp32"] * peak
    rows = (_row(use, largest, peak) for use in uses)
    swatches = join(
        Html(f'<span><svg viewBox="0 0 10 10"><rect class="{key}" width="10" height="10"/></svg>'
             f"{esc(word)}</span>")
        for key, word in PARTS
    )  # fmt: skip
    note = (
        "Weights include the FP32 master copy where a recipe keeps one. Saved for backward is what "
        "autograd keeps in one step. Each size is also given as a multiple of FP32's."
    )
    return Html(
        f'<h3 class="sub">Memory beside fp32</h3><p class="swatches">{swatches}</p>'
        f"{table('Memory of each recipe beside fp32', headers, rows, 'memory')}"
        f'<p class="note">{esc(note)}</p>'
    )


def _first_of_each(uses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for use in uses:
        found.setdefault(use["recipe"], use)
    return list(found.values())


def _row(use: dict[str, Any], largest: int, peak: bool) -> list[Html]:
    cells = [_size(use["part_bytes"].get(key), use["part_ratio"].get(key)) for key, _ in PARTS]
    total = _size(use["total_bytes"], use["total_ratio"])
    last = [dash() if use["peak_ratio"] is None else esc(ratio(use["peak_ratio"]))] * peak
    recipe = Html(f'<span class="recipe">{esc(use["recipe"])}</span>')
    return [recipe, _bar(use["part_bytes"], largest), *cells, total, *last]


def _size(size_bytes: int | None, times_fp32: float | None) -> Html:
    if size_bytes is None:
        return dash("not measured")
    beside = "" if times_fp32 is None else f"<small>{esc(ratio(times_fp32))}</small>"
    return Html(f"{esc(byte_size(size_bytes))}{beside}")


def _bar(parts: dict[str, int | None], largest: int) -> Html:
    at, bars = 0.0, []
    for key, _ in PARTS:
        width = (parts.get(key) or 0) / largest * BAR_WIDTH
        bars.append(Html(f'<rect class="{key}" x="{at:.1f}" width="{width:.1f}" height="16"/>'))
        at += width
    return Html(
        f'<svg class="stack" viewBox="0 0 {BAR_WIDTH} 16" preserveAspectRatio="none" '
        f'aria-hidden="true">{join(bars)}</svg>'
    )
