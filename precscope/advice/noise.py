"""Gradients that are nothing but rounding error, and are not judged.

The bias before a BatchNorm, or of an attention's keys, has a true gradient of zero: what FP32
computes for it is the rounding error of large terms that cancel. Losing it does no harm. Where
queries, keys and values share one bias, a third of its gradient is such noise. Small elements that
are no noise have small terms, which are judged as gradients of the module's output.

    t     = sum |output gradient of the module| / values of the bias's gradient
    noise : |g| < 2^-16 t                                          an element of a bias's gradient
    noise : sum |g| < 2^-16 sum |output gradient of the module|    a whole bias
    noise : |g| < 2^-20 mean |g|                                   an element of an output's gradient

The last: at the first place of a causal attention the gradient of the query is zero as well, and a
fused kernel leaves its rounding error there. Such values add nothing to the gradients of weights,
whose own small elements are all judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import floor, log2
from typing import Any

from precscope.advice.risk import module_of
from precscope.facts import Site
from precscope.histogram import MIN_EXPONENT, ExponentHistogram

CANCELLED = 2.0**-16
"""A sum this much smaller than its terms is their rounding error: FP32 keeps 24 bits of them."""

UNRESOLVED = 2.0**-20
"""An output's gradient this much smaller than the mean of its tensor is not told from the rounding
error of the others: FP32 keeps 24 bits of the differences that it is made of, FP16 11 of the sums
that it goes into."""

NEGLIGIBLE_MASS = 1e-4
"""Largest share of sum |g| that may be taken for noise inside a gradient that is real: a tenth of
what a loss scale may lose."""

_Sites = Iterable[tuple[Site, ExponentHistogram]]


def cancelled_parameters(sites: _Sites) -> set[str]:
    """Biases whose gradient is a tiny remainder of the activation gradients that it sums.

    Only of what is called ``bias``, whose gradient is that plain sum: of a weight, small inputs
    make it small as well; and what packs several layers (``in_proj_bias``, ``bias_ih_l0``) sums
    gradients that no module returns.

    Args:
        sites: gradient sites, those of the modules' outputs among them.
    """
    sites = list(sites)
    terms = output_gradients(sites)
    return {
        site.name
        for site, histogram in sites
        if site.kind == "weight_gradient"
        and site.name.rpartition(".")[2] == "bias"
        and histogram.sum_abs < CANCELLED * terms.get(module_of(site), 0.0)
    }


def without_errors_of(
    noise: Collection[str], document: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """A probe, or several of them, without the errors of gradients that are noise.

    The error of noise is a number of any size at any scale, also several times its floor. An
    overflow, an error of None, stays: that is no matter of rounding.

    Args:
        noise: parameters, see ``cancelled_parameters``.
        document: with ``errors`` (``{k: {parameter: error}}``), or with such documents in
            ``stages`` or ``points``; None if nothing was measured.
    """
    if document is None:
        return None
    left = dict(document)
    for key in ("stages", "points"):
        if key in left:
            left[key] = [without_errors_of(noise, part) for part in left[key] or ()]
    if left.get("errors"):
        left["errors"] = {
            k: {name: e for name, e in row.items() if e is None or name not in noise}
            for k, row in left["errors"].items()
        }
    return left


def output_gradients(sites: _Sites) -> dict[str, float]:
    """Sum of magnitudes of each module's output gradient; of several outputs the largest."""
    terms: dict[str, float] = defaultdict(float)
    for site, histogram in sites:
        if site.kind == "activation_gradient":
            terms[module_of(site)] = max(terms[module_of(site)], histogram.sum_abs)
    return terms


def resolved(site: Site, histogram: ExponentHistogram, terms: float) -> ExponentHistogram:
    """A gradient without the octaves that lie in its rounding error.

    Args:
        site: whose gradient it is.
        histogram: its values.
        terms: sum of magnitudes of what a bias's gradient sums; 0.0 if that was not observed.

    Returns:
        the histogram with those octaves counted as zeros; unchanged where none is known, and where
        they hold more than ``NEGLIGIBLE_MASS`` of its mass. The sums stay as recorded.
    """
    noise = _largest_noise(site, histogram, terms)
    if noise <= 0.0:
        return histogram
    edge = floor(log2(noise))
    noisy = min(max(edge - MIN_EXPONENT, 0), len(histogram.counts))
    dropped = int(histogram.counts[:noisy].sum())
    if not dropped or histogram.l1_below(edge) > NEGLIGIBLE_MASS * histogram.sum_abs:
        return histogram
    counts, powers = histogram.counts.copy(), histogram.powers.copy()
    counts[:noisy] = 0
    powers[:noisy] = 0
    return replace(histogram, counts=counts, powers=powers, zeros=histogram.zeros + dropped)


def _largest_noise(site: Site, histogram: ExponentHistogram, terms: float) -> float:
    """Magnitude below which an element is noise; 0.0 if that is not known."""
    if not histogram.nonzero:
        return 0.0
    if site.kind == "activation_gradient":
        return UNRESOLVED * histogram.sum_abs / histogram.nonzero
    is_bias = site.kind == "weight_gradient" and "bias" in site.name.rpartition(".")[2]
    return CANCELLED * terms / histogram.total if is_bias else 0.0
