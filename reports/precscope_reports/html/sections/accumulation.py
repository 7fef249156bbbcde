"""Accumulation: where a sum in FP16 would lose what FP32 keeps."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, name, table, typeset
from precscope_reports.html.sections.section import Section, nothing
from precscope_reports.phrases import count, number, sentence

_HEADERS = ("Site", "Operation", "#Length", "#Error in FP16", "#Error in FP32", "Verdict", "Reason")


def render(result: dict[str, Any]) -> Section:
    """Measured errors per operation, or why there are none."""
    accumulation = result["accumulation"]
    sites = accumulation["sites"]
    reason = accumulation.get("reason") or "No accumulation was measured."
    body = table("Accumulation", _HEADERS, map(_row, sites)) if sites else nothing(sentence(reason))
    return Section("accumulation", "Accumulation", "Sums in FP16 and in FP32", body)


def _row(site: dict[str, Any]) -> list[Html]:
    errors = (site["error_fp16"], site["error_fp32"])
    return [
        name(site["site"]),
        esc(site["operation"]),
        esc(count(site["length"])),
        *(dash() if error is None else esc(number(error)) for error in errors),
        esc(str(site["verdict"]).replace("_", " ")),
        typeset(site["reason"] or ""),
    ]
