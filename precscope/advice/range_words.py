"""Range in one sentence: do the forward values fit FP16, and were they finite at all?"""

from __future__ import annotations

from precscope.advice.findings import Finding, Verdict
from precscope.advice.risk import HALF_DTYPES

_WHAT = {
    "overflow": "leaves FP16's range",
    "headroom": "comes within one doubling of FP16's overflow",
    "underflow": "lives partly in FP16's subnormals or below",
}


def range_verdict(findings: list[Finding], sites_at_risk: int) -> Verdict:
    """One sentence: do forward values fit FP16?"""
    broken = [f for f in findings if f.rule == "non_finite"]
    if broken:
        return Verdict(
            "range", "critical", _broken(broken, findings, sites_at_risk), broken[0].code
        )
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
    return Verdict("range", worst.severity, _who(relevant, _WHAT[worst.rule]), worst.code)


def _broken(broken: list[Finding], findings: list[Finding], sites_at_risk: int) -> str:
    """What is not finite, and what the finite values say all the same."""
    used = broken[0].evidence.get("observed_in")
    where = f"in a run that uses {used}" if used in HALF_DTYPES else "already in FP32"
    told = _who(broken, f"holds NaN or inf {where}")
    others = [f for f in findings if f.rule in _WHAT]
    if others:
        return f"{told} By the finite values {_who(others, _WHAT[others[0].rule])}"
    fits = f" The finite values of all {sites_at_risk} sites stored in half fit FP16."
    return told + (fits if sites_at_risk else "")


def _who(relevant: list[Finding], what: str) -> str:
    """The first three sites, and what the first of them does."""
    sites = list(dict.fromkeys(str(f.site) for f in relevant))
    more = f" and {len(sites) - 3} more" if len(sites) > 3 else ""
    if len(sites) > 1:
        return f"{', '.join(sites[:3])}{more}: {sites[0]} {what}."
    return f"{sites[0]} {what}."
