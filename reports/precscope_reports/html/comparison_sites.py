"""The sites of a comparison: a row each, with the histograms of A and B mirrored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from precscope_reports.comparison_words import (
    Comparison,
    bits,
    change_of_share,
    change_word,
    moved_sites,
)
from precscope_reports.html.comparison_tables import limited
from precscope_reports.html.markup import Html, esc, join, name, typeset
from precscope_reports.html.sparkline import HEIGHT, silhouette
from precscope_reports.phrases import KIND_WORDS, magnitude

SITES_SHOWN = 500
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


def sites_section(comparison: Comparison) -> Html:
    """The sites that moved, the gravest first; nothing without sites on both sides."""
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
    return join((said, limited("Sites that changed", _SITE_HEADERS, rows, SITES_SHOWN, "sites")))


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
