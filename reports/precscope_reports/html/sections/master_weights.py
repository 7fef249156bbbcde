"""Master weights: how much of each parameter's update FP16 weights would keep."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, facts, join, name, table, typeset
from precscope_reports.html.sections.section import Section, chart, nothing, worst_of
from precscope_reports.phrases import TIMES, VERDICT_WORDS, number, sentence, share, verdict_word

TABLE_ROWS = 50
_SHARES = (
    "retention",
    "retention_0_1",
    "retention_0_01",
    "accumulated_retention",
    "noise",
    "lost_updates_fraction",
    "below_2_24_fraction",
    "ratio_above_2048_fraction",
)
_NOTE = (
    "Over a window: of the sum of a window's updates. Noise: rounding noise beside the update. Updates "
    "lost: those that leave the weight as it was. Below 2^-24: those smaller than any FP16 number. "
    "|w| > 2048 |u|: those too small beside their weight."
)
_HEADERS = (
    "Parameter",
    "Master weights",
    "#Kept",
    f"#at\u00a00.1\u00a0{TIMES}",
    f"#at\u00a00.01\u00a0{TIMES}",
    "#over a window",
    "#Noise",
    "#Updates lost",
    "#below 2^-24",
    "#|w| > 2048 |u|",
)


def render(result: dict[str, Any]) -> Section:
    """Verdict, retention of the worst parameters as a plot, and all the numbers of the worst 50."""
    advice = result["master_weights"]
    parts = [facts([("Verdict", esc(VERDICT_WORDS[advice["verdict"]]))])]
    parts += [_evidence(advice["parameters"]), _alternatives(advice["alternatives"])]
    title = "Whether FP16 weights keep the updates"
    return Section(
        "master-weights", "Master weights", title, join(parts), typeset(sentence(advice["reason"]))
    )


def _evidence(parameters: list[dict[str, Any]]) -> Html:
    if not parameters:
        return nothing("No parameter update was observed.")
    label = "Retention of each parameter's update; the same numbers follow as a table"
    note = (
        "Kept is the retention: the part of the FP32 update that FP16 weights really move by. The two "
        "smaller marks are the same update at a tenth and a hundredth, as after learning rate decay."
    )
    return Html(
        f'{chart("retention", label, 170)}<p class="note">{esc(note)}</p>'
        f"{_rates(parameters)}{_table(parameters)}"
    )


def _rates(parameters: list[dict[str, Any]]) -> Html:
    if not any(parameter["learning_rate"] for parameter in parameters):
        return Html("")
    label = "Retention of each parameter's update against the learning rate"
    return Html(
        f'<h3 class="sub scripted">Against the learning rate</h3>{chart("retention-rates", label, 300)}'
        '<p class="note scripted">From the learning rate of the run down to a hundredth of it: the update '
        "is made smaller by the same factor. One line per parameter.</p>"
    )


def _table(parameters: list[dict[str, Any]]) -> Html:
    worst = sorted(parameters, key=_retention)[:TABLE_ROWS]
    caption = worst_of(len(parameters), TABLE_ROWS, "parameter")
    return Html(
        f'<h3 class="sub">{esc(caption)}</h3>'
        f"{table(caption, _HEADERS, map(_row, worst), 'parameters')}"
        f'<p class="note">{typeset(_NOTE)}</p>'
    )


def _retention(parameter: dict[str, Any]) -> tuple[bool, float]:
    """Sorting key: what stays in FP32 or is noise last, otherwise the least retention first."""
    value = parameter["retention"]
    is_last = parameter["verdict"] == "stays_fp32" or bool(parameter.get("is_noise"))
    return is_last, 2.0 if value is None else float(value)


def _row(parameter: dict[str, Any]) -> list[Html]:
    verdict, rate = parameter["verdict"], parameter["learning_rate"]
    under = "no learning rate" if rate is None else f"learning rate {number(rate)}"
    if parameter.get("is_noise"):
        under = "its gradient is zero but for rounding"
    return [
        Html(f'{name(parameter["name"])}<small class="under">{esc(under)}</small>'),
        Html(f'<span class="verdict-{esc(verdict)}">{esc(verdict_word(verdict))}</span>'),
        *(dash() if parameter[key] is None else esc(share(parameter[key])) for key in _SHARES),
    ]


def _alternatives(alternatives: list[str]) -> Html:
    if not alternatives:
        return Html("")
    items = join(Html(f"<li>{typeset(text)}</li>") for text in alternatives)
    return Html(f'<h3 class="sub">Instead of master weights</h3><ul class="plain">{items}</ul>')
