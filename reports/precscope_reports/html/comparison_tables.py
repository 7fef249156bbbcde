"""The tables of a comparison: verdicts, findings, parameters, sums, runs."""

from __future__ import annotations

from collections.abc import Sequence

from precscope_reports.comparison_words import (
    Comparison,
    answer,
    change_of_share,
    final_loss,
    question,
)
from precscope_reports.html.markup import Html, badge, dash, esc, join, name, table, typeset
from precscope_reports.phrases import (
    KIND_WORDS,
    SEVERITIES,
    counted,
    difference,
    number,
    share,
    urgency,
    verdict_word,
)

ROWS_SHOWN = 200


def verdicts_section(comparison: Comparison) -> Html:
    """Every verdict of A and of B."""
    rows = [
        [
            typeset(question(verdict["key"])),
            typeset(answer(verdict["key"], verdict["a"])),
            typeset(answer(verdict["key"], verdict["b"])),
            Html("<strong>moved</strong>") if verdict["moved"] else esc("the same"),
        ]
        for verdict in comparison["verdicts"]
    ]
    note = comparison["note"]
    said = Html(f'<p class="nothing">{esc(note)}</p>') if note else Html("")
    return join((said, table("Verdicts of A and B", ("", "A", "B", ""), rows)))


def findings_section(comparison: Comparison) -> Html:
    """The findings that came, changed and went, the gravest first."""
    found = comparison["findings"]
    rows = [
        [
            esc(what),
            _severity(finding["severity"]),
            name(finding["site"]) if finding["site"] else dash(),
            typeset(finding["message"]),
        ]
        for what in ("appeared", "changed", "disappeared")
        for finding in sorted(found[what], key=lambda one: urgency(one["severity"]))
    ]
    if not rows:
        return Html(f'<p class="nothing">None; {counted(found["kept"], "finding")} in both.</p>')
    caption = "Findings of one side only, or with another severity"
    return limited(caption, ("", "Severity", "Site", "Finding"), rows, ROWS_SHOWN)


def _severity(severity: str) -> Html:
    return badge(severity) if severity in SEVERITIES else esc(severity)


def parameters_section(comparison: Comparison) -> Html:
    """The parameters whose need for a master copy moved; nothing if none did."""
    rows = [
        [
            name(p["name"]),
            esc(verdict_word(p["verdict_a"])),
            esc(verdict_word(p["verdict_b"])),
            *(dash() if p[key] is None else esc(share(p[key])) for key in _RETENTIONS),
            dash() if p["difference"] is None else esc(change_of_share(p["difference"])),
        ]
        for p in comparison["parameters"]
        if p["moved"]
    ]
    headers = ("Parameter", "FP32 copy A", "B", "#Kept A", "#Kept B", "#Change")
    return limited("Parameters that moved", headers, rows, ROWS_SHOWN, "parameters")


_RETENTIONS = ("retention_a", "retention_b")


def sums_section(comparison: Comparison) -> Html:
    """The sums whose verdict moved; nothing if none did."""
    rows = [
        [
            name(s["site"]),
            esc(s["operation"]),
            esc(verdict_word(s["verdict_a"])),
            esc(verdict_word(s["verdict_b"])),
            *(esc(number(s[key])) for key in ("error_fp16_a", "error_fp16_b")),
        ]
        for s in comparison["accumulation"]
        if s["moved"]
    ]
    headers = ("Site", "Sum", "A", "B", "#FP16 error A", "#FP16 error B")
    return limited("Sums that moved", headers, rows, ROWS_SHOWN, "sums")


def runs_section(comparison: Comparison) -> Html:
    """Final losses of the runs of both sides, and of the observed training."""
    rows = [
        [
            Html(f'<span class="recipe">{esc(run["recipe"])}</span>, seed {esc(run["seed"])}'),
            *(esc(final_loss(run, side)) for side in ("a", "b")),
            esc(difference(run["relative_difference"])),
            *(esc(number(run[f"skipped_steps_{side}"])) for side in ("a", "b")),
        ]
        for run in comparison["runs"]
    ]
    seen = comparison["observed_loss"]
    if None not in (seen["a"], seen["b"]):
        change = (seen["b"] - seen["a"]) / abs(seen["a"]) if seen["a"] else None
        told = (number(seen["a"]), number(seen["b"]), difference(change))
        rows.append([esc("observed training"), *map(esc, told), dash(), dash()])
    headers = ("Run", "#Final loss A", "#B", "#B vs A", "#Skipped A", "#B")
    return limited("Final losses", headers, rows, ROWS_SHOWN, "runs")


def only_section(comparison: Comparison) -> Html:
    """The sites of one side only; nothing if there are none."""
    rows = [
        [name(site["name"]), esc(KIND_WORDS.get(site["kind"], site["kind"])), esc(side.upper())]
        for side in ("a", "b")
        for site in comparison["only_in"][side]
    ]
    return limited("Sites of one side only", ("Site", "Kind", "Only in"), rows, ROWS_SHOWN)


def limited(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[Html]],
    limit: int,
    css_class: str = "",
) -> Html:
    """A table of at most ``limit`` rows, which says what it leaves out; nothing for no rows."""
    if not rows:
        return Html("")
    hidden = len(rows) - limit
    more = f"{counted(hidden, 'more row')} in the JSON." if hidden > 0 else ""
    note = Html(f'<p class="note">{esc(more)}</p>') if more else Html("")
    return join((table(caption, headers, rows[:limit], css_class), note))
