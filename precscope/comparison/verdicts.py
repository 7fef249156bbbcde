"""What the advice says on either side: verdicts, findings, parameters, accumulators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from precscope.comparison.measures import difference, first_of_each

Result = Mapping[str, Any]

NOTABLE_RETENTION: Final = 0.05
"""A change of the retention R that is worth a line where the verdict stayed."""


def _sums(verdict: str) -> Callable[[Result], int | None]:
    def counted(result: Result) -> int | None:
        sites = (result.get("accumulation") or {}).get("sites") or []
        return sum(site["verdict"] == verdict for site in sites) if sites else None

    return counted


QUESTIONS: Final[tuple[tuple[str, Callable[[Result], Any]], ...]] = (
    ("loss_scale.verdict", lambda r: r["loss_scale"]["verdict"]),
    ("loss_scale.minimum_log2", lambda r: r["loss_scale"]["minimum_log2"]),
    ("loss_scale.maximum_log2", lambda r: r["loss_scale"]["maximum_log2"]),
    ("loss_scale.recommended_log2", lambda r: r["loss_scale"]["recommended_log2"]),
    ("master_weights.verdict", lambda r: r["master_weights"]["verdict"]),
    ("accumulation.fp32_required", _sums("fp32_required")),
    ("accumulation.fp32_advised", _sums("fp32_advised")),
    ("parity.verdict", lambda r: (r.get("parity") or {}).get("verdict")),
    ("drift.state", lambda r: (r.get("drift") or {}).get("state")),
    ("non_finite.steps", lambda r: len(r.get("non_finite") or ())),
)
"""What is held side by side, by its place in the result."""


def compare_verdicts(a: Result, b: Result) -> list[dict[str, Any]]:
    """Every question with both answers; numbers also with B minus A."""
    return [_answer(key, ask(a), ask(b)) for key, ask in QUESTIONS]


def _answer(key: str, a: Any, b: Any) -> dict[str, Any]:
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return {
        "key": key,
        "a": a,
        "b": b,
        "moved": a != b,
        "difference": difference(a, b) if numbers else None,
    }


def compare_findings(a: Result, b: Result) -> dict[str, Any]:
    """Findings by rule and site: those that came, those that went, those that got another severity.

    Findings that only say that all is well (severity ``ok``) are left out.
    """
    old, new = _by_rule(a["findings"]), _by_rule(b["findings"])
    return {
        "appeared": [_finding(new[key]) for key in new if key not in old],
        "disappeared": [_finding(old[key]) for key in old if key not in new],
        "changed": [
            {**_finding(new[key]), "severity_before": old[key]["severity"]}
            for key in new
            if key in old and old[key]["severity"] != new[key]["severity"]
        ],
        "kept": sum(key in old for key in new),
    }


def _by_rule(found: Sequence[Result]) -> dict[tuple[str, str | None], Result]:
    told = [finding for finding in found if finding["severity"] != "ok"]
    return first_of_each(told, lambda finding: (finding["rule"], finding["site"]))


def _finding(found: Result) -> dict[str, Any]:
    return {key: found[key] for key in ("rule", "severity", "site", "message")}


def compare_parameters(a: Result, b: Result) -> list[dict[str, Any]]:
    """Parameters that both have: retention of their updates and verdict, the gravest first."""
    old = {p["name"]: p for p in a["master_weights"]["parameters"]}
    new = {p["name"]: p for p in b["master_weights"]["parameters"]}
    found = [_parameter(name, old[name], new[name]) for name in old if name in new]
    return sorted(found, key=lambda p: (not p["moved"], -abs(p["difference"] or 0.0)))


def _parameter(name: str, a: Result, b: Result) -> dict[str, Any]:
    change = difference(a["retention"], b["retention"])
    return {
        "name": name,
        "retention_a": a["retention"],
        "retention_b": b["retention"],
        "difference": change,
        "verdict_a": a["verdict"],
        "verdict_b": b["verdict"],
        "moved": a["verdict"] != b["verdict"] or abs(change or 0.0) > NOTABLE_RETENTION,
    }


def compare_sums(a: Result, b: Result) -> list[dict[str, Any]]:
    """Accumulators that both probed: error in FP16 and verdict, moved ones first."""
    old, new = _sums_of(a), _sums_of(b)
    found = [_sum(key, old[key], new[key]) for key in old if key in new]
    return sorted(found, key=lambda s: not s["moved"])


def _sums_of(result: Result) -> dict[tuple[str, str], Result]:
    sites = (result.get("accumulation") or {}).get("sites") or []
    return first_of_each(sites, lambda site: (site["site"], site["operation"]))


def _sum(key: tuple[str, str], a: Result, b: Result) -> dict[str, Any]:
    return {
        "site": key[0],
        "operation": key[1],
        "error_fp16_a": a.get("error_fp16"),
        "error_fp16_b": b.get("error_fp16"),
        "verdict_a": a["verdict"],
        "verdict_b": b["verdict"],
        "moved": a["verdict"] != b["verdict"],
    }
