"""Range: forward values that overflow FP16, or live in its subnormals.

Gradients are the loss scale's business; here are activations and weights, which no scale moves.
"""

from __future__ import annotations

from math import log2

from precscope.advice.findings import Finding, Severity, Verdict
from precscope.advice.risk import at_risk, module_of
from precscope.facts import Site
from precscope.formats import BF16, FP16
from precscope.histogram import ExponentHistogram

L1_FLUSHED_LIMIT = 1e-3
"""Share of sum |x| whose loss is reported: one part in a thousand, FP16's own rounding scale."""

L1_FLUSHED_SEVERE = 0.01
"""Share of sum |x| from which on the recipe keeps the module in FP32: ten times what is reported."""

SUBNORMAL_LIMIT = 0.05
"""Share of values at reduced precision that is reported; a convention, not a safety proof."""

HEADROOM_BITS = 1.0
"""Distance to overflow under which a site is reported: less than one doubling."""


def range_findings(sites: list[tuple[Site, ExponentHistogram]]) -> list[Finding]:
    """Findings for every forward site (activation or weight) that mixed precision stores in half."""
    findings = []
    for site, histogram in sites:
        if site.kind in ("activation", "weight") and (at_risk(site) or _is_bad(histogram)):
            findings += _site_findings(site, histogram)
    return findings


def _is_bad(histogram: ExponentHistogram) -> bool:
    return histogram.nans > 0 or histogram.infinities > 0


def _site_findings(site: Site, histogram: ExponentHistogram) -> list[Finding]:
    if _is_bad(histogram):
        return [_non_finite(site, histogram)]
    if FP16.overflows(histogram.amax):
        return [_overflow(site, histogram)]
    found = []
    if histogram.amax > 0 and log2(FP16.overflow_threshold / histogram.amax) < HEADROOM_BITS:
        found.append(_close(site, histogram))
    if histogram.l1_flushed_fraction(FP16) > L1_FLUSHED_LIMIT:
        found.append(_flushed(site, histogram, "warning"))
    elif histogram.subnormal_fraction(FP16) > SUBNORMAL_LIMIT and _matters(histogram):
        found.append(_flushed(site, histogram, "advice"))
    return found


def _matters(histogram: ExponentHistogram) -> bool:
    """Whether the values below FP16's normal range carry a noticeable share of sum |x|."""
    small = histogram.l1_below(FP16.log2_smallest_normal)
    return histogram.sum_abs > 0 and small / histogram.sum_abs > L1_FLUSHED_LIMIT


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


def _non_finite(site: Site, histogram: ExponentHistogram) -> Finding:
    return Finding(
        "non_finite",
        "critical",
        site.name,
        f"{site.kind} of {site.name} holds {histogram.nans} NaN and {histogram.infinities} inf "
        "already in FP32: a fault of the model or its data, not of half precision",
        "find the operation that makes it (torch.autograd.detect_anomaly) before changing dtype",
        "with torch.autograd.detect_anomaly():\n    loss.backward()",
        _evidence(histogram),
    )


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


_WHAT = {
    "non_finite": "holds NaN or inf already in FP32",
    "overflow": "leaves FP16's range",
    "headroom": "comes within one doubling of FP16's overflow",
    "underflow": "lives partly in FP16's subnormals or below",
}


def range_verdict(findings: list[Finding], sites_at_risk: int) -> Verdict:
    """One sentence: do forward values fit FP16?"""
    relevant = [f for f in findings if f.rule in _WHAT]
    if not sites_at_risk:
        return Verdict(
            "range", "ok", "Mixed precision stores no observed activation or weight in half."
        )
    if not relevant:
        return Verdict(
            "range",
            "ok",
            f"Activations and weights fit FP16: none of {sites_at_risk} sites stored "
            "in half overflows or loses more than 0.1 % of sum |x|.",
        )
    worst = relevant[0]
    return Verdict("range", worst.severity, _who(relevant), worst.code)


def _who(relevant: list[Finding]) -> str:
    """The first three sites, and what the worst of them does."""
    worst = relevant[0]
    names = ", ".join(dict.fromkeys(str(f.site) for f in relevant[:3]))
    more = f" and {len(relevant) - 3} more" if len(relevant) > 3 else ""
    if ", " in names + more:
        return f"{names}{more}: {worst.site} {_WHAT[worst.rule]}."
    return f"{names} {_WHAT[worst.rule]}."
