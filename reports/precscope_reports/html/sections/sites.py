"""Every site against the exponents: the map, the what-if controls, and the table."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, join, name, table, typeset
from precscope_reports.html.sections.section import Section, chart, nothing
from precscope_reports.html.sections.site_controls import controls
from precscope_reports.html.sparkline import sparkline
from precscope_reports.phrases import KIND_WORDS, counted, magnitude, share

TABLE_ROWS = 50


def render(result: dict[str, Any]) -> Section:
    """Controls, map and table; the table holds the riskiest 50 sites until a script takes over."""
    sites = result["sites"]
    lead = typeset(
        "Each row is one place in the model, from first executed at the top. Colour is the share of "
        "its non-zero values in each power of two. What lies in a shaded region does not survive in "
        "FP16 as it was. Exact zeros are counted apart and are never called underflow."
    )
    if not sites:
        return Section("sites", "Range", "Where the values lie", _no_sites())
    body = join([controls(sites, result["loss_scale"]), _map(len(sites)), _static_table(sites)])
    return Section("sites", "Range", "Where the values lie", body, lead)


def risk(site: dict[str, Any]) -> tuple[bool, float, float, float, float]:
    """Sort key, riskiest last: stored in FP16, overflow, lost L1 mass, flushed, subnormal."""
    shares = ("overflow_fp16", "l1_flushed_fp16", "flushed_fp16", "subnormal_fp16")
    overflow, l1_lost, flushed, subnormal = (site[key] or 0.0 for key in shares)
    return bool(site["at_risk"]), overflow, l1_lost, flushed, subnormal


def _no_sites() -> Html:
    return nothing("No site was observed: see coverage below for what was not seen, and why.")


def _map(rows: int) -> Html:
    height_px = min(760, max(150, rows // 2 * 19)) + 92
    label = "Heat map of sites against binary exponents; the table below holds the same shares"
    return Html(
        f"{chart('site-map', label, height_px)}"
        '<p class="note interactive">Click a row, or a name in the table, for that site\'s '
        "page; a folded module unfolds. Drag to zoom, double-click to reset.</p>"
    )


def _static_table(sites: list[dict[str, Any]]) -> Html:
    worst = sorted(sites, key=risk, reverse=True)[:TABLE_ROWS]
    caption = f"The riskiest {len(worst):,} of {counted(len(sites), 'site')}"
    headers = (
        "Site",
        "Exponents",
        "#Flushed",
        "#L1 lost",
        "#Subnormal",
        "#Overflow",
        "#Zeros",
        "#Largest",
    )
    return Html(
        f'<h3 class="sub" id="site-table-title">{esc(caption)}</h3>'
        f'<div id="site-table">{table(caption, headers, map(_row, worst), "sites")}</div>'
        '<p class="note" id="site-table-note">Shares of the non-zero finite values without a loss '
        "scale; zeros are a share of all values. Riskiest first: overflow, then lost L1 mass, then "
        "flushed.</p>"
    )


def _row(site: dict[str, Any]) -> list[Html]:
    shares = ("flushed_fp16", "l1_flushed_fp16", "subnormal_fp16", "overflow_fp16", "zero_fraction")
    return [
        Html(f'{name(site["name"])}<small class="under">{_under(site)}</small>'),
        sparkline(site["histogram"]),
        *(dash() if site[key] is None else esc(share(site[key])) for key in shares),
        typeset(magnitude(site["amax"])),
    ]


def _under(site: dict[str, Any]) -> Html:
    stays = "" if site["at_risk"] else f", stays {site['autocast_dtype'] or site['dtype']}"
    return esc(f"{site['module_type']}, {KIND_WORDS[site['kind']]}{stays}")
