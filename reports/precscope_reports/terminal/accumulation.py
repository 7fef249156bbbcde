"""Accumulation: the sums that FP16 accumulators would lose; and a format for each module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import DASH, VERDICT_WORDS, count, counted, duration, number
from precscope_reports.terminal.page import Page

SHOWN = 8
MODULES_NAMED = 4
NEEDS = ("fp32_required", "fp32_advised", "fp16_ok")
STYLES = {"fp32_required": "red", "fp32_advised": "yellow"}
WORDS = {"fp32_required": "required", "fp32_advised": "advised", "fp16_ok": "no"}
FORMATS = {"fp16": "FP16", "bf16": "BF16", "fp32": "FP32"}

Sum = Mapping[str, Any]


def accumulation(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """The sums that lose most to FP16 accumulators; nothing where none was probed."""
    found: Mapping[str, Any] = result["accumulation"]
    sums: list[Sum] = sorted(found["sites"], key=_urgency)
    if not sums:
        return
    yield page.heading("Accumulation")
    counts = found.get("counts") or {}
    told = ", ".join(f"{VERDICT_WORDS[need]} for {count(counts.get(need, 0))}" for need in NEEDS)
    yield page.text(f"{counted(len(sums), 'sum')} of a training step: {told}.")
    yield page.table(
        ("sum", "terms", "error", "expected", "in FP32", "really", "FP32"),
        [_row(one, page) for one in sums[:SHOWN]],
    )
    yield page.note(_legend(found, len(sums)))


def _urgency(one: Sum) -> tuple[int, float]:
    error, verdict = one["error_fp16"], one["verdict"]
    place = NEEDS.index(verdict) if verdict in NEEDS else len(NEEDS)
    return place, -float("inf") if error is None else -float(error)


def _row(one: Sum, page: Page) -> tuple[Text | str, ...]:
    style = STYLES.get(str(one["verdict"]), "")
    error = one["error_fp16"]
    return (
        f"{one['site']} {one['operation']}",
        page.text(count(one["length"])),
        page.text("overflow" if error is None and style else _brief(error), style),
        page.text(_brief(one.get("expected_error"))),
        page.text(_brief(one["error_fp32"])),
        page.text(_brief(one.get("error_native_fp16"))),
        page.text(WORDS.get(one["verdict"], one["verdict"]), style),
    )


def _brief(value: float | None) -> str:
    return DASH if value is None else f"{value:.1e}"


def _legend(found: Mapping[str, Any], sums: int) -> str:
    hidden = sums - SHOWN
    more = f" {counted(hidden, 'more sum')} in the page." if hidden > 0 else ""
    return (
        "Error: relative, with FP16 accumulators that round after 16 products, or after each term "
        "of any other sum; expected: from the size of the partial sums; really: the half kernel "
        f"of this device.{_price(found)}{more}"
    )


def _price(found: Mapping[str, Any]) -> str:
    cost, steps = found.get("probe_ms"), found.get("probe_plain_steps")
    if not cost:
        return ""
    beside = f", as long as {number(round(steps, 1))} plain steps" if steps else ""
    return f" The probe took {duration(cost)}{beside}."


def format_choice(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """How many modules suit which format, and why, one line for each."""
    choices: Sequence[Mapping[str, Any]] = result.get("format_choice") or []
    if not choices:
        return
    yield page.heading("Which format")
    for choice, word in FORMATS.items():
        modules = [c for c in choices if c["choice"] == choice]
        if modules:
            yield page.entry(page.text(word, "bold"), *_told(modules, page))


def _told(modules: Sequence[Mapping[str, Any]], page: Page) -> Iterator[Text]:
    names = ", ".join(str(c["module"]) for c in modules[:MODULES_NAMED])
    more = len(modules) - MODULES_NAMED
    yield page.text(f"{names} and {more} more" if more > 0 else names)
    reasons = list(dict.fromkeys(str(c["reason"]) for c in modules))
    yield page.note(reasons[0] + (f" ({modules[0]['module']})" if len(reasons) > 1 else ""))
