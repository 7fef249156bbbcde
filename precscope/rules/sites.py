"""Quantities of sites: shares that a format loses, room before overflow, values that are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from precscope.facts import GRADIENT_KINDS
from precscope.formats import FORMATS, NumberFormat
from precscope.histogram import ExponentHistogram
from precscope.rules.quantity import (
    QualifierKind,
    Quantity,
    Reading,
    Readings,
    Result,
    Selection,
    none_meant,
)
from precscope.rules.site_histograms import histogram_of

Site = dict[str, Any]
Measure = Callable[[ExponentHistogram, NumberFormat, int], float]

IN_A_FORMAT: frozenset[QualifierKind] = frozenset({"format", "kind", "scale", "all"})
AS_IT_IS: frozenset[QualifierKind] = frozenset({"kind", "all"})


def selected(result: Result, selection: Selection) -> tuple[list[Site], Readings]:
    """The sites meant; if there are none, the reason as well."""
    kinds = selection.kinds
    all_sites: list[Site] = result["sites"]
    named = [s for s in all_sites if selection.names(s["name"])]
    if not named:
        return [], none_meant(selection, "site", [s["name"] for s in all_sites])
    of_kind = [s for s in named if not kinds or s["kind"] in kinds]
    if not of_kind:
        return [], Readings(absent=f"no such site is a {' or '.join(sorted(kinds))}")
    meant = [s for s in of_kind if selection.everything or s["at_risk"]]
    if not meant:
        stays = "1 site stays" if len(of_kind) == 1 else f"all {len(of_kind)} sites stay"
        return [], Readings(absent=f"{stays} in FP32 anyway: add [all] to judge them all the same")
    return meant, Readings()


def log2_scale_of(result: Result, selection: Selection) -> int | None:
    """The loss scale that gradients are judged at, log2; None where none can be recommended.

    Unless the rule says otherwise: the recommended one for FP16, which it is advised for, and
    none (2^0) for every other format.
    """
    scale = selection.scale
    if isinstance(scale, int):
        return scale
    if scale is None and selection.format != "fp16":
        return 0
    recommended = result["loss_scale"]["recommended_log2"]
    return None if recommended is None else int(recommended)


def _reader(measure: Measure) -> Callable[[Result, Selection], Readings]:
    def read(result: Result, selection: Selection) -> Readings:
        sites, nothing = selected(result, selection)
        gradient_scale = log2_scale_of(result, selection)
        judged = [s for s in sites if not _is_gradient(s) or gradient_scale is not None]
        caught = scaler_caught_all(result)
        found = [
            _reading(site, measure, FORMATS[selection.format], gradient_scale or 0, caught)
            for site in judged
        ]
        without_scale = len(judged) < len(sites)
        absent = _no_scale(result) if without_scale else nothing.absent
        return Readings(tuple(found), absent)

    return read


def _reading(
    site: Site, measure: Measure, fmt: NumberFormat, gradient_scale: int, caught: bool
) -> Reading:
    is_gradient = _is_gradient(site)
    scale = gradient_scale if is_gradient else 0
    bad = _bad_values(site, caught and is_gradient)
    value = math.nan if bad else measure(histogram_of(site), fmt, scale)
    told = [fmt.name] if measure is not _amax else []
    told += [f"at 2^{scale}"] if is_gradient else []
    return Reading(site["name"], label_of(site), value, (), bad or " ".join(told))


def _bad_values(site: Site, caught: bool) -> str:
    """What at this site is no number, in words; empty if nothing is that matters."""
    histogram = site["histogram"]
    nans, infinities = int(histogram["nans"]), int(histogram["infinities"])
    if (nans or infinities) and not caught:
        return f"{nans} NaN and {infinities} infinite values among its values"
    if site["amax"] is None or site["sum_abs"] is None:
        return "its sums are no numbers"
    return ""


def scaler_caught_all(result: Result) -> bool:
    """Whether a loss scaler skipped every step in which something was not finite.

    That is how a dynamic scaler finds its scale, and no harm; anything else is.
    """
    steps: list[dict[str, Any]] = result.get("non_finite") or []
    return bool(steps) and all(step["skipped"] for step in steps)


def _no_scale(result: Result) -> str:
    verdict = result["loss_scale"]["verdict"]
    return (
        f"no loss scale is recommended (loss_scale is {verdict}), so gradients cannot be judged at "
        "it: name one, as in [unscaled] or [2^10]"
    )


def _is_gradient(site: Site) -> bool:
    return site["kind"] in GRADIENT_KINDS


def label_of(site: Site) -> str:
    """Name and kind: a module's output and its gradient share a name."""
    return f"{site['name']} ({site['kind'].replace('_', ' ')})"


def _headroom(histogram: ExponentHistogram, fmt: NumberFormat, k: int) -> float:
    if histogram.amax <= 0.0:
        return math.inf
    return math.log2(fmt.overflow_threshold) - math.log2(histogram.amax) - k


def _amax(histogram: ExponentHistogram, fmt: NumberFormat, k: int) -> float:
    return math.ldexp(histogram.amax, k)


def _read_non_finite(result: Result, selection: Selection) -> Readings:
    sites, nothing = selected(result, selection)
    return Readings(tuple(_count(site) for site in sites), nothing.absent)


def _count(site: Site) -> Reading:
    told = site["histogram"]
    nans, infinities = int(told["nans"]), int(told["infinities"])
    detail = f"{nans} NaN, {infinities} infinite"
    return Reading(site["name"], label_of(site), float(nans + infinities), (), detail)


def _share(name: str, unit: str, definition: str, measure: Measure) -> Quantity:
    return Quantity(
        name,
        "number",
        "sites",
        unit,
        definition,
        _reader(measure),
        qualifiers=IN_A_FORMAT,
        lower=0.0,
        upper=1.0,
    )


def site_quantities() -> Iterable[Quantity]:
    """Every quantity that sites have."""
    values, mass = "of the non-zero values", "of sum abs(x)"
    histogram = ExponentHistogram
    yield _share(
        "flushed", values, "share of the values that become zero", histogram.flushed_fraction
    )
    yield _share(
        "flushed_l1", mass, "share of the L1 mass that becomes zero", histogram.l1_flushed_fraction
    )
    yield _share(
        "subnormal",
        values,
        "share of the values that survive with reduced precision, below the smallest normal number",
        histogram.subnormal_fraction,
    )
    yield _share(
        "overflow", values, "share of the values that become infinite", histogram.overflow_fraction
    )
    yield Quantity(
        "headroom_log2",
        "number",
        "sites",
        "doublings",
        "log2(overflow threshold / largest value): negative once something overflows",
        _reader(_headroom),
        qualifiers=IN_A_FORMAT,
    )
    yield Quantity(
        "amax",
        "number",
        "sites",
        "",
        "largest magnitude, times the loss scale for gradients",
        _reader(_amax),
        qualifiers=IN_A_FORMAT - {"format"},
        lower=0.0,
    )
    yield Quantity(
        "non_finite",
        "number",
        "sites",
        "values",
        "NaNs and infinities, also in steps that a loss scaler skipped",
        _read_non_finite,
        qualifiers=AS_IT_IS,
        lower=0.0,
    )
