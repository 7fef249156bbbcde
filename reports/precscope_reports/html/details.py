"""What a site's page and the charts below it draw: sums, updates, findings, module times.

Packed into the page apart from the sites, because it grows with the model too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from precscope_reports.html.payload import rounded

MAX_FINDINGS = 400

_SUM_KEYS = (
    "site",
    "operation",
    "family",
    "length",
    "block",
    "error_fp16",
    "error_fp32",
    "expected_error",
    "predicted_error",
    "verdict",
)
_PARAMETER_KEYS = (
    "name",
    "retention",
    "retention_0_1",
    "retention_0_01",
    "lost_updates_fraction",
    "learning_rate",
    "verdict",
)
_FINDING_KEYS = ("site", "severity", "rule", "message", "remedy")


def details_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of records with the keys that the page draws; empty where nothing was measured."""
    findings = [finding for finding in result["findings"] if finding["site"]]
    return {
        "sums": _records(result["accumulation"]["sites"], _SUM_KEYS),
        "parameters": _records(result["master_weights"]["parameters"], _PARAMETER_KEYS),
        "findings": _records(findings[:MAX_FINDINGS], _FINDING_KEYS),
        "modules": [
            {key: rounded(value) for key, value in module.items() if _is_plain(value)}
            for module in result["timing"].get("modules") or []
        ],
    }


def _records(items: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    return [{key: rounded(item.get(key)) for key in keys} for item in items]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
