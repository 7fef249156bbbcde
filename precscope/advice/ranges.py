"""Range: forward values that overflow FP16, or live in its subnormals.

Gradients are the loss scale's business; here are activations and weights, which no scale moves.
What is NaN or infinite already where it was observed is one finding; the range is judged by the
finite values beside it.

A bias that FP16 flushes or holds as a subnormal is off by 2^-25 at most. That is half a place or
less of any FP16 number it is added to, so it is never worse than the rounding of that sum.
"""

from __future__ import annotations

from math import log2

from precscope.advice.findings import Finding, Severity
from precscope.advice.risk import HALF_DTYPES, at_risk, module_of
from precscope.facts import Site
from precscope.formats import BF16, FP16
from precscope.histogram import ExponentHistogram

L1_FLUSHED_LIMIT = 1e-3
"""Share of sum |x| whose loss is reported: one part in a thousand, FP16's own rounding scale."""

L1_FLUSHED_SEVERE = 0.01
"""Share of sum |x| from which on the recipe keeps the module in FP32: ten times what is reported."""

SUBNORMAL_LIMIT = 0.05
"""Share of values at reduced precision that is reported, if their rounding is worth it as well; a
convention, not a safety proof."""

HEADROOM_BITS = 1.0
"""Distance to overflow under which a site is reported: less than one doubling."""


def range_findings(
    sites: list[tuple[Site, ExponentHistogram]], infinities_did_no_harm: bool = False
) -> list[Finding]:
    """Findings for every forward site (activation or weight) that mixed precision stores in half.

    Args:
        sites: with the histograms of all their values, finite or not.
        infinities_did_no_harm: whether losses, gradients and weights stayed finite in every step,
            as with a mask of infinities.
    """
    findings = []
    half = next((site.dtype for site, _ in sites if site.dtype in HALF_DTYPES), "")
    for site, histogram in sites:
        if site.kind in ("activation", "weight"):
            if histogram.nans or (histogram.infinities and not infinities_did_no_harm):
                findings.append(_non_finite(site, histogram, half))
            if at_risk(site):
                findings += _finite_findings(site, histogram)
    return findings


def _finite_findings(site: Site, histogram: ExponentHistogram) -> list[Finding]:
    if FP16.overflows(histogram.amax):
        return [_overflow(site, histogram)]
    found = []
    if histogram.amax > 0 and log2(FP16.overflow_threshold / histogram.amax) < HEADROOM_BITS:
        found.append(_close(site, histogram))
    if is_bias(site):
        return found
    if histogram.l1_flushed_fraction(FP16) > L1_FLUSHED_LIMIT:
        found.append(_flushed(site, histogram, "warning"))
    elif histogram.subnormal_fraction(FP16) > SUBNORMAL_LIMIT and _matters(histogram):
        found.append(_flushed(site, histogram, "advice"))
    return found


def is_bias(site: Site) -> bool:
    """Whether it is what a layer adds to its output: a weight of that name, packed or not."""
    return site.kind == "weight" and "bias" in site.name.rpartition(".")[2]


def _matters(histogram: ExponentHistogram) -> bool:
    """Whether rounding the subnormals, by half a place of 2^-24 each, moves enough of sum |x|."""
    moved = histogram.subnormal_count(FP16) * FP16.flush_threshold
    return moved > L1_FLUSHED_LIMIT * histogram.sum_abs


def _evidence(histogram: ExponentHistogram) -> dict[str, float | str | None]:
    return {
        "amax": histogram.amax,
        "flushed_fraction": histogram.flushed_fraction(FP16),
        "l1_flushed_fraction": histogram.l1_flushed_fraction(FP16),
        "subnormal_fraction": histogram.subnormal_fraction(FP16),
        "overflow_fraction": histogram.overflow_fraction(FP16),
        "overflow_fraction_bf16": histogram.overflow_fraction(BF16),
    }


def _fp32_code(site: Site) -> str:
    return f'recipe = precscope.Recipe.named("fp16").keeping_fp32("{module_of(site)}")'


def _non_finite(site: Site, histogram: ExponentHistogram, half: str) -> Finding:
    return Finding(
        "non_finite",
        "critical",
        site.name,
        f"{site.kind} of {site.name} holds {histogram.nans} NaN and {histogram.infinities} inf "
        f"{_whose_fault(half)}",
        "find the operation that makes it (torch.autograd.detect_anomaly) before changing dtype",
        "with torch.autograd.detect_anomaly():\n    loss.backward()",
        {**_evidence(histogram), "observed_in": half or site.dtype},
    )


def _whose_fault(half: str) -> str:
    if half:
        return f"in a run that uses {half}: whether that is to blame, a run in FP32 tells"
    return "already in FP32: a fault of the model or its data, not of half precision"


def _overflow(site: Site, histogram: ExponentHistogram) -> Finding:
    return Finding(
        "overflow",
        "critical",
        site.name,
        f"{site.kind} of {site.name} reaches {histogram.amax:.4g}, beyond FP16's largest number "
        f"{FP16.max_finite:.0f}: it becomes inf",
        f"keep module {module_of(site)} in FP32, or use BF16, which holds up to "
        f"{BF16.max_finite:.2g} at {BF16.mantissa_bits + 1} significant bits instead of "
        f"{FP16.mantissa_bits + 1}",
        _fp32_code(site),
        _evidence(histogram),
    )


def _close(site: Site, histogram: ExponentHistogram) -> Finding:
    return Finding(
        "headroom",
        "warning",
        site.name,
        f"{site.kind} of {site.name} reaches {histogram.amax:.4g}, less than one doubling below "
        f"FP16's overflow at {FP16.overflow_threshold:.0f}",
        f"watch it over a longer run, keep module {module_of(site)} in FP32, or use BF16",
        _fp32_code(site),
        _evidence(histogram),
    )


def _flushed(site: Site, histogram: ExponentHistogram, severity: Severity) -> Finding:
    return Finding(
        "underflow",
        severity,
        site.name,
        f"{site.kind} of {site.name}: FP16 flushes {histogram.flushed_fraction(FP16):.1%} of its "
        f"non-zero values ({histogram.l1_flushed_fraction(FP16):.2%} of sum |x|) and holds "
        f"{histogram.subnormal_fraction(FP16):.1%} as subnormals, at reduced precision",
        f"keep module {module_of(site)} in FP32 or raise the scale of its values; BF16 has "
        "FP32's range and would keep them",
        _fp32_code(site),
        _evidence(histogram),
    )
