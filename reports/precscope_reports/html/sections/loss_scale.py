"""The loss scale: the verdict's numbers, the curve over the scale, and the trend of the amax."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, facts, join, name, table, typeset
from precscope_reports.html.sections.section import Section, chart, nothing
from precscope_reports.phrases import (
    VERDICT_WORDS,
    counted,
    power_of_two,
    scale,
    sentence,
    share,
)


def render(result: dict[str, Any]) -> Section:
    """Facts, curve with its numbers as a table, and the largest gradient over the run."""
    advice = result["loss_scale"]
    lead = typeset(sentence(advice["reason"]))
    body = join([_facts(advice), _curve(advice["curve"]), _trend(advice["amax_trend"])])
    return Section("loss-scale", "Loss scale", "Which loss scale", body, lead)


def _facts(advice: dict[str, Any]) -> Html:
    limits = advice["limiting_sites"]
    return facts(
        [
            ("Verdict", esc(VERDICT_WORDS[advice["verdict"]])),
            ("Recommended", typeset(scale(advice["recommended"]))),
            ("Smallest that works", _limit(advice["minimum_log2"], limits["minimum"])),
            ("Largest that is safe", _limit(advice["maximum_log2"], limits["maximum"])),
            (
                "Smallest by histograms alone",
                typeset(power_of_two(advice["screen_minimum_log2"])),
            ),
            rounding_alone(advice["gradient_error_floor"]),
            ("Gradient error accepted up to", esc(share(advice["gradient_error_threshold"]))),
            ("Probed on", esc(counted(advice["probe_batches"], "batch", "batches"))),
        ]
    )


def rounding_alone(floor: float | None) -> tuple[str, Html]:
    """The fact that says which gradient error remains whatever the loss scale."""
    value = esc(share(floor))
    if floor is not None:
        value = Html(f"{value}<small>at any loss scale: what FP16 itself costs</small>")
    return "Gradient error of rounding alone", value


def _limit(exponent: int | None, site: str | None) -> Html:
    value = typeset(power_of_two(exponent))
    return Html(f"{value}<small>limited by {name(site)}</small>") if site else value


def _curve(curve: list[dict[str, Any]]) -> Html:
    if not curve:
        return nothing("There is no curve: no gradient was observed.")
    label = "What each loss scale loses; the same numbers follow as a table"
    note = typeset(
        "Gradient error: how far a real FP16 gradient is from the FP32 gradient of the same batches, "
        "as a share of it (relative L2), of the worst parameter: the one that exceeds what is accepted "
        "of it the most. Rounding costs something at every scale, so an error is compared with that, "
        "never with zero. The shaded window is safe."
    )
    return Html(f'{chart("scale-curve", label, 420)}<p class="note">{note}</p>{_numbers(curve)}')


def _numbers(curve: list[dict[str, Any]]) -> Html:
    headers = (
        "Loss scale",
        "#Gradient error",
        "Worst parameter",
        "#L1 lost, worst site",
        "#Values flushed",
        "#Overflow",
    )
    rows = table("What each loss scale loses", headers, map(_row, curve))
    return Html(f"<details><summary>The curve as a table</summary>{rows}</details>")


def _row(point: dict[str, Any]) -> list[Html]:
    error, worst = point["gradient_error"], point["worst_parameter"]
    return [
        typeset(power_of_two(point["log2_scale"])),
        _error(error, worst),
        name(worst) if worst else dash(),
        *(esc(share(point[key])) for key in ("l1_lost", "count_lost", "overflow")),
    ]


def _error(error: float | None, worst: str | None) -> Html:
    if error is not None:
        return esc(share(error))
    # A probe that ran has a worst parameter, also where its gradient is not finite.
    return Html('<strong class="bad">overflow</strong>') if worst else dash("no probe ran here")


def _trend(trend: list[dict[str, Any]]) -> Html:
    if len(trend) < 2:
        return Html("")
    label = "Largest gradient magnitude of each observed step"
    return Html(
        f'<h3 class="sub">Largest gradient over the run</h3>{chart("amax-trend", label, 220)}'
    )
