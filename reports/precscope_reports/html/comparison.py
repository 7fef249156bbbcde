"""The page of a comparison: one file, no script, nothing fetched, the look of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from precscope_reports.comparison_words import (
    answer,
    bits,
    change_of_share,
    change_word,
    final_loss,
    moved_sites,
    question,
    summary,
)
from precscope_reports.html.embed import asset
from precscope_reports.html.markup import (
    Html,
    badge,
    dash,
    esc,
    facts,
    join,
    name,
    table,
    typeset,
)
from precscope_reports.html.sparkline import HEIGHT, silhouette
from precscope_reports.phrases import (
    KIND_WORDS,
    SEVERITIES,
    VERDICT_WORDS,
    counted,
    difference,
    magnitude,
    moment,
    number,
    share,
)

SITES_SHOWN = 500
ROWS_SHOWN = 200
WIDTH = 61
"""Exponents in a drawing, as in ``sparkline``."""

TONES = {"non_finite": "bad", "overflow": "bad", "flushed": "verdict-advised"}
REGIONS = (
    '<svg class="defs" width="0" height="0" aria-hidden="true"><defs>'
    '<linearGradient id="regions" gradientUnits="userSpaceOnUse" x1="0" y1="0" x2="61" y2="0">'
    '<stop offset=".2459" class="flushed"/><stop offset=".2459" class="subnormal"/>'
    '<stop offset=".4262" class="subnormal"/><stop offset=".4262" class="normal"/>'
    '<stop offset=".918" class="normal"/><stop offset=".918" class="overflow"/>'
    "</linearGradient></defs></svg>"
)
STYLE = """
.pair { display: block; width: 122px; height: 44px }
.pair line { stroke: var(--strong-line); vector-effect: non-scaling-stroke }
"""
# Even if escaping ever failed: no script runs and nothing is fetched.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)

Comparison = Mapping[str, Any]
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
        ("verdicts", "Verdicts", "What the advice says now", _verdicts(comparison)),
        ("findings", "Findings", "Findings that came and went", _findings(comparison)),
        ("sites", "Sites", "Where values moved", _sites(comparison)),
        ("master-weights", "Master weights", "What FP16 weights keep", _parameters(comparison)),
        ("accumulation", "Accumulation", "Sums whose verdict moved", _sums(comparison)),
        ("runs", "Final losses", "How the trainings ended", _runs(comparison)),
        ("only", "Only in one", "Sites without a partner", _only(comparison)),
        ("runs-compared", "What was compared", "What was compared", _sides(comparison)),
        ("definitions", "Definitions", "Definitions", _definitions(comparison)),
    ]


def _section(section: Titled) -> Html:
    fragment, _, title, body = section
    return Html(
        f'<section id="{fragment}" aria-labelledby="{fragment}-title">'
        f'<h2 id="{fragment}-title">{esc(title)}</h2>{body}</section>'
    )


def _verdicts(comparison: Comparison) -> Html:
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


def _findings(comparison: Comparison) -> Html:
    found = comparison["findings"]
    rows = [
        [
            esc(what),
            _severity(finding["severity"]),
            name(finding["site"]) if finding["site"] else dash(),
            typeset(finding["message"]),
        ]
        for what in ("appeared", "changed", "disappeared")
        for finding in sorted(found[what], key=_urgency)
    ]
    if not rows:
        return Html(f'<p class="nothing">None; {counted(found["kept"], "finding")} in both.</p>')
    caption = "Findings of one side only, or with another severity"
    return _limited(caption, ("", "Severity", "Site", "Finding"), rows, ROWS_SHOWN)


def _severity(severity: str) -> Html:
    return badge(severity) if severity in SEVERITIES else esc(severity)


def _urgency(finding: Mapping[str, Any]) -> int:
    severity = finding["severity"]
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _sites(comparison: Comparison) -> Html:
    moved = moved_sites(comparison)
    if not comparison["sites"]:
        return Html("")
    if not moved:
        return Html('<p class="nothing">No site moved by a bit or is flushed differently.</p>')
    legend = (
        "Exponents from 2^-40 to 2^20, heights logarithmic, coloured by what FP16 does to them: "
        "flushed, subnormal, normal, overflow. Median, mean and amax are shifts in bits, B minus A."
    )
    rows = [_site(site) for site in moved]
    said = Html(f'<p class="lead">{typeset(legend)}</p>')
    return join((said, _limited("Sites that changed", _SITE_HEADERS, rows, SITES_SHOWN, "sites")))


_SITE_HEADERS = (
    "Site",
    "Change",
    "A above, B below",
    "#Median",
    "#Mean",
    "#amax",
    "#Moved by",
    "#L1 lost",
    "#Values lost",
    "#New zeros",
    "amax A, B",
)


def _site(site: Mapping[str, Any]) -> list[Html]:
    shift, new = site["shift_bits"], site["newly_flushed"]
    kind = KIND_WORDS.get(site["kind"], site["kind"])
    stays = "" if site["at_risk"] else ", stays FP32"
    tone = TONES.get(site["change"], "")
    amaxes = (magnitude(site[side]["amax"]) for side in ("a", "b"))
    return [
        Html(f'{name(site["name"])}<small class="under">{esc(kind + stays)}</small>'),
        Html(f'<span class="{tone}">{esc(change_word(site["change"]))}</span>'),
        _pair(site),
        *(esc(bits(shift[what])) for what in ("median", "mean", "amax")),
        esc(bits(site["distance_bits"], signed=False)),
        *(esc(change_of_share(new[what])) for what in ("l1", "count", "zeros")),
        typeset(", ".join(amaxes)),
    ]


def _pair(site: Mapping[str, Any]) -> Html:
    """The histograms of A, upwards, and of B, downwards."""
    height = 2 * HEIGHT
    return Html(
        f'<svg class="pair" viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path d="{silhouette(site["a"])}" fill="url(#regions)"/>'
        f'<path d="{silhouette(site["b"])}" transform="matrix(1 0 0 -1 0 {height})" '
        f'fill="url(#regions)"/><line x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/></svg>'
    )


def _parameters(comparison: Comparison) -> Html:
    rows = [
        [
            name(p["name"]),
            esc(_word(p["verdict_a"])),
            esc(_word(p["verdict_b"])),
            *(dash() if p[key] is None else esc(share(p[key])) for key in _RETENTIONS),
            dash() if p["difference"] is None else esc(change_of_share(p["difference"])),
        ]
        for p in comparison["parameters"]
        if p["moved"]
    ]
    headers = ("Parameter", "FP32 copy A", "B", "#Kept A", "#Kept B", "#Change")
    return _limited("Parameters that moved", headers, rows, ROWS_SHOWN, "parameters")


_RETENTIONS = ("retention_a", "retention_b")


def _sums(comparison: Comparison) -> Html:
    rows = [
        [
            name(s["site"]),
            esc(s["operation"]),
            esc(_word(s["verdict_a"])),
            esc(_word(s["verdict_b"])),
            *(esc(number(s[key])) for key in ("error_fp16_a", "error_fp16_b")),
        ]
        for s in comparison["accumulation"]
        if s["moved"]
    ]
    headers = ("Site", "Sum", "A", "B", "#FP16 error A", "#FP16 error B")
    return _limited("Sums that moved", headers, rows, ROWS_SHOWN, "sums")


def _runs(comparison: Comparison) -> Html:
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
    return _limited("Final losses", headers, rows, ROWS_SHOWN, "runs")


def _only(comparison: Comparison) -> Html:
    rows = [
        [name(site["name"]), esc(KIND_WORDS.get(site["kind"], site["kind"])), esc(side.upper())]
        for side in ("a", "b")
        for site in comparison["only_in"][side]
    ]
    return _limited("Sites of one side only", ("Site", "Kind", "Only in"), rows, ROWS_SHOWN)


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


def _limited(
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


def _word(verdict: str) -> str:
    return VERDICT_WORDS.get(verdict, verdict)
