"""Every site against the exponents: the map, the what-if controls, and the table."""

from __future__ import annotations

from collections import Counter
from typing import Any

from precscope_reports.html.markup import Html, dash, esc, join, name, table, typeset
from precscope_reports.html.payload import WHAT_IF_FORMATS
from precscope_reports.html.sections.section import Section, chart, nothing
from precscope_reports.html.sparkline import sparkline
from precscope_reports.phrases import KIND_WORDS, counted, magnitude, share

TABLE_ROWS = 50
LOWEST_LOG2_SCALE, HIGHEST_LOG2_SCALE = -12, 24

_FILTERS = (
    ("gradients", "Gradients", ("activation_gradient", "weight_gradient")),
    ("activation_gradient", "Activation gradients", ("activation_gradient",)),
    ("weight_gradient", "Weight gradients", ("weight_gradient",)),
    ("activation", "Activations", ("activation",)),
    ("weight", "Weights", ("weight",)),
)


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
    body = join([_controls(sites, result["loss_scale"]), _map(len(sites)), _static_table(sites)])
    return Section("sites", "Range", "Where the values lie", body, lead)


def risk(site: dict[str, Any]) -> tuple[bool, float, float, float, float]:
    """Sort key, riskiest last: stored in FP16, overflow, lost L1 mass, flushed, subnormal."""
    shares = ("overflow_fp16", "l1_flushed_fp16", "flushed_fp16", "subnormal_fp16")
    overflow, l1_lost, flushed, subnormal = (site[key] or 0.0 for key in shares)
    return bool(site["at_risk"]), overflow, l1_lost, flushed, subnormal


def _no_sites() -> Html:
    return nothing("No site was observed: see coverage below for what was not seen, and why.")


def _controls(sites: list[dict[str, Any]], advice: dict[str, Any]) -> Html:
    found = Counter(site["kind"] for site in sites)
    sizes = [(key, label, sum(found[kind] for kind in kinds)) for key, label, kinds in _FILTERS]
    chosen = next(key for key, _, size in sizes if size)
    radios = join(_radio(key, label, size, key == chosen) for key, label, size in sizes)
    formats = join(
        Html(f'<option value="{esc(fmt.name)}">{esc(fmt.name.upper())}</option>')
        for fmt in WHAT_IF_FORMATS
    )
    return Html(
        '<form class="controls" id="controls" autocomplete="off">'
        f'<fieldset class="segmented"><legend class="sr">Kind of site</legend>{radios}</fieldset>'
        '<label class="field">Search<input type="search" id="site-search" '
        'placeholder="name or module type"></label>'
        f'<label class="field">Stored as<select id="site-format">{formats}</select></label>'
        '<label class="field slider"><span>Loss scale <output id="scale-output">2<sup>0</sup>'
        f'</output></span><input type="range" id="scale-slider" min="{LOWEST_LOG2_SCALE}" '
        f'max="{HIGHEST_LOG2_SCALE}" step="1" value="0" aria-describedby="scale-note">'
        f"{_window(advice)}</label></form>"
        '<p class="totals" id="totals" aria-live="polite"></p>'
        '<p class="note" id="scale-note"></p>'
    )


def _radio(key: str, label: str, size: int, checked: bool) -> Html:
    state = " checked" if checked else ""
    state += "" if size else " disabled"
    return Html(
        f'<label><input type="radio" name="kind" value="{key}"{state}>'
        f"<span>{esc(label)} <small>{size:,}</small></span></label>"
    )


def _window(advice: dict[str, Any]) -> Html:
    """The safe window, drawn under the slider: both ends as shares of the slider's length."""
    low, high = advice["minimum_log2"], advice["maximum_log2"]
    if low is None or high is None or low > high:
        return Html("")
    ends = (min(max(end, LOWEST_LOG2_SCALE), HIGHEST_LOG2_SCALE) for end in (low, high))
    length = HIGHEST_LOG2_SCALE - LOWEST_LOG2_SCALE
    start, stop = ((end - LOWEST_LOG2_SCALE) / length for end in ends)
    return Html(
        f'<span class="track" style="--from:{start:.4f};--to:{stop:.4f}"><span>safe window</span>'
        "</span>"
    )


def _map(rows: int) -> Html:
    height_px = min(760, max(150, rows // 2 * 19)) + 92
    label = "Heat map of sites against binary exponents; the table below holds the same shares"
    return Html(
        f"{chart('site-map', label, height_px)}"
        '<p class="note interactive">Click a row, or a name in the table, for that site\'s '
        "histogram. Drag to zoom, double-click to reset.</p>"
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
