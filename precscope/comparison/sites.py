"""Places of the model side by side: how far their values moved, and what FP16 newly loses.

Sites match by name and kind. Every difference is B minus A.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from precscope.comparison.measures import (
    amax_log2,
    difference,
    distance_bits,
    histogram_of,
    mean_log2,
    median_log2,
)
from precscope.facts import GRADIENT_KINDS
from precscope.formats import FP16
from precscope.histogram import ExponentHistogram

Site = Mapping[str, Any]
SiteKey = tuple[str, str, int]

CHANGES: Final = ("non_finite", "overflow", "flushed", "shifted", "same")
"""How a site changed, the gravest first."""
NOTABLE_L1_FRACTION: Final = 1e-3
"""A share of the L1 mass that counts: what the histogram screen for the loss scale tolerates."""
NOTABLE_FRACTION: Final = 0.05
"""A share of the values that counts, by the same screen; of the zeros too."""
NOTABLE_BITS: Final = 1.0
"""Scales are set in whole powers of two: a smaller shift changes no setting."""


def keyed(sites: Sequence[Site]) -> dict[SiteKey, Site]:
    """The sites by name and kind; a name that comes twice is told apart by its number."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[SiteKey, Site] = {}
    for site in sites:
        name, kind = site["name"], site["kind"]
        found[name, kind, seen[name, kind]] = site
        seen[name, kind] += 1
    return found


def compare_sites(
    a: Sequence[Site], b: Sequence[Site], log2_scale: float | None
) -> list[dict[str, Any]]:
    """The sites that both have, the gravest change first.

    Args:
        a: sites of the first result.
        b: sites of the second.
        log2_scale: the loss scale that A was advised, for gradients; None for none.
    """
    in_a, in_b = keyed(a), keyed(b)
    found = [_compared(in_a[key], in_b[key], log2_scale) for key in in_a if key in in_b]
    return sorted(found, key=_gravity)


def only_in(a: Sequence[Site], b: Sequence[Site]) -> list[dict[str, str]]:
    """Name and kind of the sites of ``a`` that ``b`` does not have."""
    other = keyed(b)
    return [{"name": s["name"], "kind": s["kind"]} for k, s in keyed(a).items() if k not in other]


def _gravity(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """Sorting key: the change, at risk first, then lost mass, flushed values, distance."""
    new = entry["newly_flushed"]
    return (
        CHANGES.index(entry["change"]),
        not entry["at_risk"],
        -abs(new["l1"] or 0.0),
        -abs(new["count"] or 0.0),
        -(entry["distance_bits"] or 0.0),
    )


def _compared(a: Site, b: Site, log2_scale: float | None) -> dict[str, Any]:
    old, new = histogram_of(a), histogram_of(b)
    shift = {
        name: difference(measure(old), measure(new))
        for name, measure in (("median", median_log2), ("mean", mean_log2), ("amax", amax_log2))
    }
    entry = {
        "name": a["name"],
        "kind": a["kind"],
        "at_risk": a["at_risk"] or b["at_risk"],
        "shift_bits": shift,
        "distance_bits": distance_bits(old, new),
        "newly_flushed": {
            "count": difference(a["flushed_fp16"], b["flushed_fp16"]),
            "l1": difference(a["l1_flushed_fp16"], b["l1_flushed_fp16"]),
            "zeros": difference(a["zero_fraction"], b["zero_fraction"]),
        },
        "at_scale": _at_scale(a["kind"], old, new, log2_scale),
        "a": _facts(a),
        "b": _facts(b),
    }
    return {"change": _change(entry), **entry}


def _facts(site: Site) -> dict[str, Any]:
    histogram = site["histogram"]
    copied = ("dtype", "amax", "zero_fraction", "flushed_fp16", "l1_flushed_fp16", "overflow_fp16")
    return {
        "shape": site["shape"],
        **{name: site[name] for name in copied},
        "values": sum(histogram["counts"]) + histogram["zeros"],
        "infinities": histogram["infinities"],
        "nans": histogram["nans"],
        "first_exponent": histogram["first_exponent"],
        "counts": histogram["counts"],
    }


def _at_scale(
    kind: str, a: ExponentHistogram, b: ExponentHistogram, log2_scale: float | None
) -> dict[str, Any] | None:
    """What FP16 does to a gradient of either side at one loss scale; None for other values."""
    if kind not in GRADIENT_KINDS or log2_scale is None:
        return None
    k = int(log2_scale)
    return {
        "log2_scale": k,
        **{
            side: {
                "flushed": h.flushed_fraction(FP16, k),
                "l1_flushed": h.l1_flushed_fraction(FP16, k),
                "overflow": h.overflow_fraction(FP16, k),
            }
            for side, h in (("a", a), ("b", b))
        },
    }


def _change(entry: Mapping[str, Any]) -> str:
    a, b, new = entry["a"], entry["b"], entry["newly_flushed"]
    if (a["infinities"] + a["nans"] > 0) != (b["infinities"] + b["nans"] > 0):
        return "non_finite"
    if _overflows(entry, "a") != _overflows(entry, "b"):
        return "overflow"
    lost = [abs(new["l1"] or 0.0) > NOTABLE_L1_FRACTION]
    lost += [abs(new[what] or 0.0) > NOTABLE_FRACTION for what in ("count", "zeros")]
    if any(lost):
        return "flushed"
    shifts = [entry["distance_bits"], *entry["shift_bits"].values()]
    return "shifted" if any(abs(s or 0.0) >= NOTABLE_BITS for s in shifts) else "same"


def _overflows(entry: Mapping[str, Any], side: str) -> bool:
    scaled = entry["at_scale"]
    return bool(entry[side]["overflow_fp16"]) or bool(scaled and scaled[side]["overflow"])
