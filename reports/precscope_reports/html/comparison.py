"""The page of a comparison: one file, no script, nothing fetched, the look of the report."""

from __future__ import annotations

from precscope_reports.comparison_words import Comparison, summary
from precscope_reports.html.comparison_sites import REGIONS, STYLE, sites_section
from precscope_reports.html.comparison_tables import (
    findings_section,
    only_section,
    parameters_section,
    runs_section,
    sums_section,
    verdicts_section,
)
from precscope_reports.html.embed import asset
from precscope_reports.html.markup import Html, esc, facts, join, name, typeset
from precscope_reports.phrases import moment, number

# Even if escaping ever failed: no script runs and nothing is fetched.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
Titled = tuple[str, str, str, Html]
"""Fragment, name in the navigation, heading, and what is below it."""


def render_comparison(comparison: Comparison) -> str:
    """The page of a comparison as ``precscope.comparison.compare`` returns it.

    Every name from the user's program is escaped; the page has no script at all.
    """
    sections = [section for section in _sections(comparison) if section[3]]
    titles = dict.fromkeys(side["title"] for side in comparison["sides"].values())
    title = " and ".join(titles)
    links = join(Html(f'<li><a href="#{id_}">{esc(short)}</a></li>') for id_, short, *_ in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="generator" content="precscope">'
        f"<title>{esc(title)} compared · precscope</title>"
        f'<link rel="icon" href="data:,"><style>{asset("report.css")}{STYLE}</style></head><body>'
        f'<a class="skip" href="#{sections[0][0]}">Skip to the verdicts</a>{REGIONS}'
        '<header class="top"><div><p class="brand">precscope compare</p>'
        f'<h1><bdi>{esc(title)}</bdi></h1><p class="meta"><span>{esc(summary(comparison))}</span>'
        f'</p></div></header><div class="page"><nav aria-label="Sections"><ol>{links}</ol></nav>'
        f"<main>{join(map(_section, sections))}</main></div></body></html>\n"
    )


def _sections(comparison: Comparison) -> list[Titled]:
    return [
        ("verdicts", "Verdicts", "What the advice says now", verdicts_section(comparison)),
        ("findings", "Findings", "Findings that came and went", findings_section(comparison)),
        ("sites", "Sites", "Where values moved", sites_section(comparison)),
        (
            "master-weights",
            "Master weights",
            "What FP16 weights keep",
            parameters_section(comparison),
        ),
        ("accumulation", "Accumulation", "Sums whose verdict moved", sums_section(comparison)),
        ("runs", "Final losses", "How the trainings ended", runs_section(comparison)),
        ("only", "Only in one", "Sites without a partner", only_section(comparison)),
        ("runs-compared", "What was compared", "What was compared", _sides(comparison)),
        ("definitions", "Definitions", "Definitions", _definitions(comparison)),
    ]


def _section(section: Titled) -> Html:
    fragment, _, title, body = section
    return Html(
        f'<section id="{fragment}" aria-labelledby="{fragment}-title">'
        f'<h2 id="{fragment}-title">{esc(title)}</h2>{body}</section>'
    )


def _sides(comparison: Comparison) -> Html:
    return join(
        facts(
            [
                (key.upper(), name(side["label"])),
                ("Recorded", esc(moment(side["created"]))),
                ("torch", esc(side["torch"] or "—")),
                ("Observed steps", esc(number(side["observed_steps"]))),
                ("Sites", esc(number(side["sites"]))),
                ("Runs", esc(number(side["runs"]))),
                ("Command", Html(f'<code class="command">{esc(side["command"] or "—")}</code>')),
            ]
        )
        for key, side in comparison["sides"].items()
    )


def _definitions(comparison: Comparison) -> Html:
    rows = join(
        Html(f"<div><dt>{esc(d['term'])}</dt><dd>{typeset(d['definition'])}</dd></div>")
        for d in comparison["definitions"]
    )
    return Html(f'<dl class="definitions">{rows}</dl>')
