"""Gradients that are nothing but rounding error, and are not judged.

The bias before a BatchNorm, or of an attention's keys, has a true gradient of zero: what FP32
computes for it is the rounding error of large terms that cancel. Losing it does no harm.
"""

from __future__ import annotations

from collections import defaultdict

from precscope.advice.risk import module_of
from precscope.facts import Site
from precscope.histogram import ExponentHistogram

CANCELLED = 2.0**-16
"""A sum this much smaller than its terms is their rounding error: FP32 keeps 24 bits of them."""


def cancelled_parameters(sites: list[tuple[Site, ExponentHistogram]]) -> set[str]:
    """Parameters whose gradient is a tiny remainder of the activation gradients that it sums.

    By the recorded sums of magnitudes: of the parameter's gradient, and of the gradient of its
    module's output.
    """
    terms: dict[str, float] = defaultdict(float)
    for site, histogram in sites:
        if site.kind == "activation_gradient":
            terms[module_of(site)] = max(terms[module_of(site)], histogram.sum_abs)
    return {
        site.name
        for site, histogram in sites
        if site.kind == "weight_gradient"
        and histogram.sum_abs < CANCELLED * terms.get(module_of(site), 0.0)
    }
