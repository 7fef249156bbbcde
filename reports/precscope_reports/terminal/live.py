"""A training in another process, as one screen and as one line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import DASH, QUESTION_WORDS, counted, magnitude, number, power_of_two
from precscope_reports.terminal.bars import ASCII_BLOCKS, BLOCKS, bar_header, exponent_bar
from precscope_reports.terminal.page import SEVERITY_STYLES, Page
from precscope_reports.terminal.sites import KINDS, lost_cell, ranked

State = Literal["waiting", "unreadable", "empty", "recording", "silent", "ended"]

SITES_SHOWN = 6
LINE_CELLS = 48
LABEL_CELLS = 11
STATE_STYLES: Mapping[State, str] = {
    "waiting": "yellow",
    "unreadable": "bold red",
    "empty": "yellow",
    "recording": "green",
    "silent": "yellow",
    "ended": "bold",
}
STATE_WORDS: Mapping[State, str] = {
    "waiting": "waiting for the file",
    "unreadable": "cannot be read now",
    "empty": "open, no step observed yet",
    "recording": "recording",
    "silent": "silent: slow, stopped or killed",
    "ended": "ended",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """What a live view shows at one moment.

    Attributes:
        path: the Recording, as it was named.
        state: what the file is doing.
        reason: why there is nothing new to show; empty where there is.
        written_s: seconds since the file was last written; None if there is no file.
        restarts: how often another Recording took its place.
        result: the last result that was read, None if there was none.
        steps: number of each observed step.
        losses: loss of each, None where it was not seen.
        log2_scales: loss scale of each.
        skipped: updates that were skipped.
    """

    path: str
    state: State
    reason: str
    written_s: float | None
    restarts: int
    result: Mapping[str, Any] | None
    steps: Sequence[int]
    losses: Sequence[float | None]
    log2_scales: Sequence[float]
    skipped: int


def live_page(frame: Frame, page: Page) -> Iterator[RenderableType]:
    """The whole screen: state, loss, loss scale, drift, verdicts, riskiest sites."""
    yield _headline(frame, page)
    if frame.reason:
        yield page.note(frame.reason, "yellow")
    if frame.result is None:
        return
    yield _measured(page, "step", _progress(frame))
    yield _measured(page, "loss", _loss(frame), spark(frame.losses, page.ascii_only))
    scales = spark(frame.log2_scales, page.ascii_only) if any(frame.log2_scales) else ""
    yield _measured(page, "loss scale", _scale(frame), scales)
    if frame.skipped or frame.result["non_finite"]:
        yield _measured(page, "skipped", _skips(frame), style="yellow")
    drift = frame.result["drift"]
    yield _measured(
        page, "drift", f"{drift['state']}: {drift['reason']}", style=_drift_style(drift)
    )
    yield from _verdicts(frame.result, page)
    yield from _riskiest(frame.result, page)


def live_line(frame: Frame, page: Page) -> Text:
    """One line: state, step, loss, scale, skips, the riskiest site."""
    told = [f"{frame.path}: {STATE_WORDS[frame.state]}"]
    if frame.reason:
        told.append(frame.reason)
    elif frame.result is not None and frame.steps:
        told += [f"step {frame.steps[-1]}", f"loss {_loss(frame)}", f"scale {_scale(frame)}"]
        told.append(f"{frame.skipped} skipped")
        risky = ranked(frame.result)
        if risky:
            cell = lost_cell(risky[0])[0]
            told.append(f"riskiest {risky[0]['name']} ({KINDS[risky[0]['kind']]}) {cell}")
    if frame.restarts:
        told.append(counted(frame.restarts, "restart"))
    return page.text(", ".join(told))


def spark(values: Sequence[float | None], ascii_only: bool, cells: int = LINE_CELLS) -> str:
    """The values as a line of blocks over time, from their smallest to their largest.

    Each cell is the mean of its values; a cell with one that is not finite shows ``!``, one
    without a value is empty.
    """
    if not values:
        return ""
    groups = (
        [
            values[at * len(values) // cells : max(1, (at + 1) * len(values) // cells)]
            for at in range(min(cells, len(values)))
        ]
        if len(values) > cells
        else [[value] for value in values]
    )
    means = [_mean(group) for group in groups]
    finite = [mean for mean in means if mean is not None and math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_block(mean, low, high, ascii_only) for mean in means)


def _mean(group: Sequence[float | None]) -> float | None:
    known = [value for value in group if value is not None]
    return sum(known) / len(known) if known else None


def _block(value: float | None, low: float, high: float, ascii_only: bool) -> str:
    if value is None:
        return " "
    if not math.isfinite(value):
        return "!"
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    # Halves: the difference of two float64 may be more than float64 holds.
    height = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.0
    return blocks[round(height * (len(blocks) - 1))]


def _headline(frame: Frame, page: Page) -> Text:
    title = frame.result["title"] if frame.result else "precscope watch"
    head = page.text(title, "bold").append("  ").append(page.text(frame.path, "dim")).append("  ")
    head.append(page.text(STATE_WORDS[frame.state], STATE_STYLES[frame.state]))
    if frame.written_s is not None and frame.state != "ended":
        head.append(page.text(f", written {_ago(frame.written_s)} ago", "dim"))
    if frame.restarts:
        head.append(page.text(f", {counted(frame.restarts, 'restart')}", "yellow"))
    return head


def _ago(elapsed_s: float) -> str:
    if elapsed_s < 90:
        return f"{elapsed_s:.0f} s"
    return f"{elapsed_s / 60:.0f} min" if elapsed_s < 5400 else f"{elapsed_s / 3600:.1f} h"


def _measured(page: Page, label: str, told: str, drawn: str = "", style: str = "") -> Text:
    text = page.text(label, "dim")
    text.append(" " * (LABEL_CELLS - len(label)))
    text.append(page.text(told, style))
    return text.append(f"  {drawn}" if drawn else "", style="cyan")


def _progress(frame: Frame) -> str:
    if not frame.steps:
        return DASH
    return f"{number(frame.steps[-1])}  ({counted(len(frame.steps), 'observed step')} kept)"


def _loss(frame: Frame) -> str:
    known = [loss for loss in frame.losses if loss is not None]
    return number(known[-1]) if known else f"{DASH} (not recorded: watch.monitor.record_loss(loss))"


def _scale(frame: Frame) -> str:
    if not frame.log2_scales or not any(frame.log2_scales):
        return "none"
    return power_of_two(frame.log2_scales[-1])


def _skips(frame: Frame) -> str:
    marks = frame.result["non_finite"] if frame.result else []
    said = counted(frame.skipped, "update")
    if not marks:
        return said
    last = marks[-1]
    where = f", first at {last['site']}" if last["site"] else ""
    return f"{said}; not finite in step {last['step']}{where}"


def _drift_style(drift: Mapping[str, Any]) -> str:
    return {"left": "bold red", "leaving": "yellow"}.get(drift["state"], "")


def _verdicts(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    yield Text("")
    for verdict in result["verdicts"]:
        question = QUESTION_WORDS.get(verdict["question"], verdict["question"])
        head = page.text(f"{question}.", SEVERITY_STYLES.get(verdict["severity"], ""))
        yield page.lead(head, verdict["sentence"])


def _riskiest(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    risky = ranked(result)[:SITES_SHOWN]
    yield Text("")
    if not risky:
        yield page.note("No value observed leaves the normal range of FP16.", "green")
        return
    rows = [
        (
            site["name"],
            page.text(KINDS.get(site["kind"], site["kind"])),
            exponent_bar(site["histogram"], page.ascii_only),
            page.text(magnitude(site["amax"])),
            page.text(*lost_cell(site)),
        )
        for site in risky
    ]
    headers = ("riskiest sites", "kind", bar_header(page.ascii_only).plain, "amax", "L1 lost")
    yield page.table(headers, rows, left=3)
