"""Every finding: what, where, the numbers, the remedy as text and as code."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import (
    Html,
    badge,
    code_block,
    dash,
    esc,
    join,
    name,
    typeset,
)
from precscope_reports.html.sections.section import Section, nothing
from precscope_reports.phrases import counted, number

SHOWN_AT_FIRST = 6


def render(result: dict[str, Any]) -> Section:
    """The findings, most severe first; those after the sixth are folded away."""
    findings = result["findings"]
    shown = join(_finding(finding) for finding in findings[:SHOWN_AT_FIRST])
    body = shown if findings else nothing("No rule found anything to report.")
    return Section(
        "findings", "Findings", "Findings", Html(body + _folded(findings[SHOWN_AT_FIRST:]))
    )


def _folded(findings: list[dict[str, Any]]) -> Html:
    if not findings:
        return Html("")
    inside = join(_finding(finding) for finding in findings)
    return Html(
        f"<details><summary>{counted(len(findings), 'more finding')}</summary>{inside}</details>"
    )


def _finding(finding: dict[str, Any]) -> Html:
    where = Html(f" {name(finding['site'])}") if finding["site"] else Html("")
    remedy = f'<p class="remedy">{typeset(finding["remedy"])}</p>' if finding["remedy"] else ""
    return Html(
        f'<article class="finding {esc(finding["severity"])}"><header>{badge(finding["severity"])}'
        f'<span class="rule">{esc(finding["rule"])}</span>{where}</header>'
        f"<p>{typeset(finding['message'])}</p>{remedy}"
        f"{code_block(finding['code'])}{_evidence(finding['evidence'])}</article>"
    )


def _evidence(evidence: dict[str, Any]) -> Html:
    if not evidence:
        return Html("")
    items = join(
        Html(f"<div><dt>{esc(key)}</dt><dd>{_value(value)}</dd></div>")
        for key, value in evidence.items()
    )
    return Html(f'<dl class="evidence-list">{items}</dl>')


def _value(value: Any) -> Html:
    if value is None:
        return dash()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return esc(number(value))
    return typeset(value)
