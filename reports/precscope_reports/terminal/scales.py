"""The loss scale: the window, what limits it, and what each scale would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import power_of_two, scale, share, verdict_word
from precscope_reports.terminal.page import Page

SHOWN = 10

Curve = list[Mapping[str, Any]]


def loss_scale(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """What each loss scale would do to the gradients."""
    found: Mapping[str, Any] = result["loss_scale"]
    yield page.heading("Loss scale")
    yield page.text(_verdict(found))
    yield from (page.note(line) for line in _window(found))
    rows = [_row(point, found, page) for point in _worth_showing(found)]
    if not rows:
        return
    yield page.table(
        ("scale", "", "L1 lost", "values lost", "overflow", "gradient error"), rows, left=2
    )
    yield page.note(_legend(found))


def _verdict(found: Mapping[str, Any]) -> str:
    word = verdict_word(found["verdict"])
    needed = found["recommended"] and found["recommended_log2"] != 0
    chosen = f", {scale(found['recommended'])}" if needed else ""
    return f"{word[:1].upper()}{word[1:]}{chosen}: {found['reason']}"


def _window(found: Mapping[str, Any]) -> Iterator[str]:
    limits = found["limiting_sites"]
    for end, meaning in (("minimum", "at least"), ("maximum", "at most")):
        if found[f"{end}_log2"] is not None:
            site = f", because of {limits[end]}" if limits[end] else ""
            yield f"{meaning} {power_of_two(found[f'{end}_log2'])}{site}"


def _worth_showing(found: Mapping[str, Any]) -> Curve:
    """The marked scales, then those that were probed, then others, spread evenly."""
    curve: Curve = found["curve"]
    marked = [point for point in curve if _mark(point["log2_scale"], found)]
    probed = [point for point in curve if point["gradient_error"] is not None]
    chosen = {point["log2_scale"]: point for point in marked[:SHOWN]}
    for points in (probed, curve):
        others = [point for point in points if point["log2_scale"] not in chosen]
        chosen |= {p["log2_scale"]: p for p in _spread(others, SHOWN - len(chosen))}
    return [chosen[log2_scale] for log2_scale in sorted(chosen)]


def _spread(points: Curve, room: int) -> Curve:
    if room <= 0 or not points:
        return []
    if len(points) <= room:
        return points
    return [points[round(i * (len(points) - 1) / max(1, room - 1))] for i in range(room)]


def _mark(log2_scale: int, found: Mapping[str, Any]) -> str:
    marks = (
        (0, "no scaling"),
        (found["recommended_log2"], "recommended"),
        (found["minimum_log2"], "lowest"),
        (found["maximum_log2"], "highest"),
    )
    return next((name for marked, name in marks if marked == log2_scale), "")


def _row(point: Mapping[str, Any], found: Mapping[str, Any], page: Page) -> tuple[Text, ...]:
    style = "bold" if point["log2_scale"] == found["recommended_log2"] else ""
    cells = (
        scale(2.0 ** point["log2_scale"]),
        _mark(point["log2_scale"], found),
        share(point["l1_lost"]),
        share(point["count_lost"]),
        share(point["overflow"]),
        _error(point),
    )
    return tuple(page.text(cell, style) for cell in cells)


def _error(point: Mapping[str, Any]) -> str:
    # A probe that ran has a worst parameter, also where its gradient is not finite.
    if point["gradient_error"] is None and point.get("worst_parameter"):
        return "overflow"
    return share(point["gradient_error"])


def _legend(found: Mapping[str, Any]) -> str:
    legend = (
        "L1 lost: of the worst site. Gradient error: relative L2, of the parameter that exceeds "
        "its own floor the most"
    )
    floor = found["gradient_error_floor"]
    if not floor:
        return f"{legend}."
    return f"{legend}: what FP16 rounding costs at any scale, here up to {share(floor)}."
