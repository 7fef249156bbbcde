"""A site's histogram as a small inline drawing for a table row; ``sparkline.js`` is its twin."""

from __future__ import annotations

import math
from typing import Any

from precscope_reports.html.markup import Html

FIRST_EXPONENT, LAST_EXPONENT = -40, 20
HEIGHT = 20
LOWEST_LOG10_SHARE = -5.0


def silhouette(histogram: dict[str, Any]) -> str:
    """An SVG path: one bar per exponent, its height the logarithm of its share of the values.

    Exponents outside the drawing gather in its outermost bars; shares below 1e-5 are a hairline.
    """
    shares = _shares(histogram)
    return "".join(_bar(exponent, share) for exponent, share in sorted(shares.items()))


def sparkline(histogram: dict[str, Any]) -> Html:
    """The drawing, coloured by FP16's regions through the gradient ``#regions`` of the page."""
    width = LAST_EXPONENT - FIRST_EXPONENT + 1
    return Html(
        f'<svg class="spark" viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path d="{silhouette(histogram)}" fill="url(#regions)"/></svg>'
    )


def _shares(histogram: dict[str, Any]) -> dict[int, float]:
    counts, first = histogram["counts"], histogram["first_exponent"]
    total = sum(counts)
    shares: dict[int, float] = {}
    for offset, count in enumerate(counts):
        if count:
            exponent = min(max(first + offset, FIRST_EXPONENT), LAST_EXPONENT)
            shares[exponent] = shares.get(exponent, 0.0) + count / total
    return shares


def _bar(exponent: int, share: float) -> str:
    level = 1 - math.log10(share) / LOWEST_LOG10_SHARE
    height = max(0.6, round(level * HEIGHT, 1))
    return f"M{exponent - FIRST_EXPONENT} {HEIGHT}v-{height:g}h.9v{height:g}z"
