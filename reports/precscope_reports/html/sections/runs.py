"""The proof: every recipe trained from the same seed on the same batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from precscope_reports.html.markup import Html, dash, esc, join, table, typeset
from precscope_reports.html.payload import first_seed
from precscope_reports.html.sections.memory import memory
from precscope_reports.html.sections.proof import proof
from precscope_reports.html.sections.section import Section, chart, nothing
from precscope_reports.phrases import byte_size, count, difference, duration, number, scale

_OUTCOMES = ("Recipe", "#Steps", "#First loss", "#Final loss", "#Against fp32", "#Skipped", "Ended")


def render(result: dict[str, Any]) -> Section:
    """The losses of all recipes, then two tables: how they trained, and what they cost."""
    runs = first_seed(result["runs"])
    if not runs:
        return Section("runs", "Training", "Trained with each recipe", _none())
    lead = typeset(_lead(runs))
    label = "Loss of each recipe against the step; final losses follow as a table"
    legend = Html(
        '<p class="note interactive">An upright tick marks a skipped step, a cross where a run '
        "diverged, a shaded band the losses of all seeds. Click a name to hide its line.</p>"
    )
    losses = chart("run-losses", label, 440)
    body = join([losses, legend, _outcomes(runs), proof(result), _costs(runs), memory(result)])
    return Section("runs", "Training", "Trained with each recipe", body, lead)


def _none() -> Html:
    return nothing("No recipe was trained in this analysis, so there is nothing to compare.")


def _lead(runs: list[dict[str, Any]]) -> str:
    text = "Each recipe trained a fresh model from the same seed on the same batches."
    if any(run["simulated"] for run in runs):
        text += (
            " Runs marked simulated store real half precision numbers but compute slow kernels in"
            " FP32 and round at the store: their losses are meaningful, their speed is not."
        )
    return text


def _outcomes(runs: list[dict[str, Any]]) -> Html:
    metrics = list(dict.fromkeys(key for run in runs for key in run["metrics"]))
    headers = [*_OUTCOMES, *(f"#{metric}" for metric in metrics)]
    baseline = next((run for run in runs if run["recipe"] == "fp32"), None)
    rows = (_outcome(run, baseline, metrics) for run in runs)
    return table("How each recipe trained", headers, rows, "runs")


def _outcome(
    run: dict[str, Any], baseline: dict[str, Any] | None, metrics: Iterable[str]
) -> list[Html]:
    return [
        _recipe(run),
        esc(count(run["steps"])),
        _loss(run["first_loss"]),
        _loss(run["final_loss"]),
        _against(run, baseline),
        esc(count(run["skipped_steps"])),
        _ending(run),
        *(_metric(run["metrics"].get(metric)) for metric in metrics),
    ]


def _recipe(run: dict[str, Any]) -> Html:
    mark = ' <span class="tag">simulated</span>' if run["simulated"] else ""
    return Html(
        f'<span class="recipe">{esc(run["recipe"])}</span>{mark}'
        f'<small class="under">{typeset(run["description"])}</small>'
    )


def _loss(value: float | str | None) -> Html:
    return dash() if value is None else esc(number(value))


def _metric(value: float | None) -> Html:
    return dash("this run gave no such metric") if value is None else esc(number(value))


def _against(run: dict[str, Any], baseline: dict[str, Any] | None) -> Html:
    """Difference of the final losses as a share of the baseline's, signed."""
    if baseline is None or baseline is run:
        return dash()
    mine, theirs = run["final_loss"], baseline["final_loss"]
    if not isinstance(mine, int | float) or not isinstance(theirs, int | float) or not theirs:
        return dash()
    return esc(difference((mine - theirs) / abs(theirs)))


def _ending(run: dict[str, Any]) -> Html:
    if run["diverged_at"] is None:
        return esc("finished")
    reason = f": {run['diverged_reason']}" if run["diverged_reason"] else ""
    return Html(
        f'<strong class="bad">diverged at step {esc(run["diverged_at"])}</strong>{esc(reason)}'
    )


def _costs(runs: list[dict[str, Any]]) -> Html:
    headers = ("Recipe", "#Step", "#Peak memory", "#Saved for backward", "#Last loss scale")
    rows = table("What each recipe costs", headers, map(_cost, runs), "runs")
    note = (
        '<p class="note">Step times are medians of the step, with the 10th and 90th percentile.</p>'
    )
    return Html(f'<h3 class="sub">What each costs</h3>{rows}{note}{_reasons(runs)}')


def _cost(run: dict[str, Any]) -> list[Html]:
    return [
        Html(f'<span class="recipe">{esc(run["recipe"])}</span>'),
        _step_time(run),
        *(_bytes(run, key) for key in ("peak_memory_bytes", "saved_tensor_bytes")),
        _last_scale(run),
    ]


def _step_time(run: dict[str, Any]) -> Html:
    step = run["step_ms"]
    if step is None:
        return dash("not timed")
    simulated = '<span class="tag">simulated</span> ' if run["simulated"] else ""
    spread = f"{duration(step['p10'])} to {duration(step['p90'])}"
    return Html(f"{simulated}{esc(duration(step['median']))}<small>{esc(spread)}</small>")


def _bytes(run: dict[str, Any], key: str) -> Html:
    value = run[key]
    reason = run.get(f"{key.removesuffix('_bytes')}_reason") if value is None else None
    return dash(reason) if value is None else esc(byte_size(value))


def _last_scale(run: dict[str, Any]) -> Html:
    scales = run["log2_scales"]
    return typeset(scale(2.0 ** scales[-1])) if scales else dash("no loss scale")


def _reasons(runs: list[dict[str, Any]]) -> Html:
    """Reasons for dashes, once each, where a reader of paper sees them."""
    found = {
        run.get("peak_memory_reason"): None
        for run in runs
        if run["peak_memory_bytes"] is None and run.get("peak_memory_reason")
    }
    lines = join(Html(f'<p class="note">— peak memory: {typeset(text)}</p>') for text in found)
    return lines
