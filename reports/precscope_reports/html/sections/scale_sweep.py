"""The sweep over static loss scales: gradient error and final loss against the scale."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, facts, join, name, table, typeset
from precscope_reports.html.sections.loss_scale import rounding_alone
from precscope_reports.html.sections.section import Section, chart, nothing
from precscope_reports.phrases import (
    count,
    counted,
    difference,
    number,
    power_of_two,
    sentence,
    share,
)

_HEADERS = (
    "Loss scale",
    "#Gradient error, all parameters",
    "#Gradient error, worst parameter",
    "Worst parameter",
    "#Final loss",
    "#Against fp32",
    "#Skipped",
    "Ended",
)

_NOTE = (
    "Gradient error: how far a real FP16 gradient is from the FP32 gradient of the same batches, as a "
    "share of it (relative L2): of all parameters together, and of the worst one, which exceeds what "
    "is accepted of it the most."
)


def render(result: dict[str, Any]) -> Section:
    """The dose-response curve, its facts, and the same numbers as a table."""
    sweep = result.get("scale_sweep")
    if not sweep or not sweep["doses"]:
        return Section("sweep", "Scale sweep", "What each loss scale does", _none())
    label = "Gradient error and final loss against the loss scale; a table follows"
    rows = table("What each static loss scale does", _HEADERS, map(_row, sweep["doses"]))
    note = Html(f'<p class="note">{esc(_NOTE)}</p>')
    body = join([chart("sweep-chart", label, 480), note, _interrupted(sweep), _facts(sweep), rows])
    lead = typeset(sentence(sweep["reason"]))
    return Section("sweep", "Scale sweep", "What each loss scale does", body, lead)


def _none() -> Html:
    return nothing("No loss scale was trained with.")


def _interrupted(sweep: dict[str, Any]) -> Html:
    left = len(sweep["planned_log2"]) - len(sweep["doses"])
    if not left:
        return Html("")
    return Html(f'<p class="note">Interrupted: {counted(left, "scale")} not trained.</p>')


def _facts(sweep: dict[str, Any]) -> Html:
    arithmetic = "simulated: FP16 storage, FP32 arithmetic rounded at the store"
    return facts(
        [
            ("Steps at each scale", esc(count(sweep["steps"]))),
            ("Seed", esc(sweep["seed"])),
            ("Final loss of fp32", esc(number(sweep["fp32_final_loss"]))),
            rounding_alone(sweep["gradient_error_floor"]),
            ("Probed on", esc(counted(sweep["batches"], "batch", "batches"))),
            ("Trained with", typeset(sweep["recipe"])),
            ("Arithmetic", esc(arithmetic if sweep["simulated"] else sweep["device"])),
        ]
    )


def _row(dose: dict[str, Any]) -> list[Html]:
    worst = dose["worst_parameter"]
    return [
        typeset(power_of_two(dose["log2_scale"])),
        _error(dose, "gradient_error_all"),
        _error(dose, "gradient_error"),
        name(worst) if worst else dash(),
        esc(number(dose["final_loss"])),
        esc(difference(dose["relative_difference"])),
        esc(count(dose["skipped_steps"])),
        _ending(dose),
    ]


def _error(dose: dict[str, Any], key: str) -> Html:
    if dose["overflows"] and dose[key] is None:
        return Html('<strong class="bad">overflow</strong>')
    return esc(share(dose[key]))


def _ending(dose: dict[str, Any]) -> Html:
    if dose["diverged_at"] is not None:
        return Html(f'<strong class="bad">diverged at step {esc(dose["diverged_at"])}</strong>')
    if dose["works"] is None:
        return esc("finished")
    return esc("like fp32") if dose["works"] else Html('<strong class="bad">behind fp32</strong>')
