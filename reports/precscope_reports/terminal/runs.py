"""The training runs side by side, FP32 first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import DASH, byte_size, count, duration, number
from precscope_reports.terminal.page import Page
from precscope_reports.terminal.parity import proof

METRICS_SHOWN = 1
METRIC_COLUMNS = 10
"""Room for the metric's name: with it the longest recipe fits in 80 columns."""

STATE = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "saved_tensor_bytes")

Run = Mapping[str, Any]


def training_runs(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """Loss, metric, skipped steps, time and memory of each recipe."""
    runs = first_seed(result["runs"])
    if not runs:
        return
    yield page.heading("Training runs")
    yield page.note(_setting(runs))
    metrics = list(runs[0]["metrics"])[:METRICS_SHOWN]
    short = [page.fit(name, METRIC_COLUMNS) for name in metrics]
    headers = ("recipe", "final loss", "vs fp32", *short, "skipped", "step", "memory")
    yield page.table(headers, [_row(run, runs, metrics, page) for run in runs])
    yield from _notes(runs, page)
    if note := _memory_note(result):
        yield page.note(note)
    yield from proof(result, page)


def first_seed(runs: Sequence[Run]) -> list[Run]:
    """The runs of the first seed, one per recipe; those of further seeds are in the proof."""
    return [run for run in runs if run["seed"] == runs[0]["seed"]]


def _setting(runs: Sequence[Run]) -> str:
    seed, start = runs[0]["seed"], number(runs[0]["first_loss"])
    longest, shortest = (bound(run["steps"] for run in runs) for bound in (max, min))
    each = "each" if shortest == longest else "each, fewer where the loss diverged"
    return f"{longest} steps {each}, seed {seed}, from a loss of {start}"


def _row(
    run: Run, runs: Sequence[Run], metrics: Sequence[str], page: Page
) -> tuple[Text | str, ...]:
    diverged = run["diverged_at"] is not None
    recipe = run["recipe"] + ("*" if run["simulated"] else "")
    cells = (
        ("diverged" if diverged else number(run["final_loss"]), "red" if diverged else ""),
        (_difference(run, runs[0]), ""),
        *((number(run["metrics"].get(name)), "") for name in metrics),
        (count(run["skipped_steps"]), "yellow" if run["skipped_steps"] else ""),
        (duration((run["step_ms"] or {}).get("median")), "dim" if run["simulated"] else ""),
        (byte_size(_memory_bytes(run)), ""),
    )
    return recipe, *(page.text(*cell) for cell in cells)


def _difference(run: Run, baseline: Run) -> str:
    """Final loss against that of the baseline, in per cent of the latter."""
    final, base = run["final_loss"], baseline["final_loss"]
    usable = isinstance(final, int | float) and isinstance(base, int | float) and base
    if run is baseline or not usable or run["diverged_at"] is not None:
        return DASH
    change = 100 * (final / base - 1)
    if not math.isfinite(change) or abs(change) >= 1e4:
        return DASH
    if abs(change) < 0.005:
        return "<0.01 %" if change else "same"
    return f"{change:+.2f} %" if abs(change) < 9.995 else f"{change:+.1f} %"


def _memory_bytes(run: Run) -> int | None:
    if run["peak_memory_bytes"] is not None:
        return int(run["peak_memory_bytes"])
    parts = [run[part] for part in STATE if run[part] is not None]
    return sum(parts) if parts else None


def _notes(runs: Sequence[Run], page: Page) -> Iterator[Text]:
    for run in runs:
        if run["diverged_at"] is not None:
            reason = f": {run['diverged_reason']}" if run["diverged_reason"] else ""
            yield page.note(f"{run['recipe']} diverged at step {run['diverged_at']}{reason}", "red")
    if any(run["simulated"] for run in runs):
        yield page.note(
            "* simulated: values are stored in half precision, slow kernels compute in FP32. "
            "Losses and memory are meaningful, step times are not."
        )
    if any(run["peak_memory_bytes"] is None for run in runs):
        yield page.note(
            "Memory: weights, gradients, optimizer state and the largest set of saved tensors."
        )


def _memory_note(result: Mapping[str, Any]) -> str:
    """How much of FP32's memory the advised recipe keeps; the paper says roughly half."""
    found = [use for use in result.get("memory", []) if use["recipe"] == "advised"]
    if not found or found[0]["total_ratio"] is None:
        return ""
    saved = found[0]["part_ratio"]["saved_tensor_bytes"]
    activations = "" if saved is None else f" (saved activations {saved:.2f} times)"
    return (
        f"advised takes {found[0]['total_ratio']:.2f} times FP32's memory{activations}; the paper "
        "says roughly half, where activations dominate."
    )
