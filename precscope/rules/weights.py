"""Quantities of parameters and of sums: retention of updates, errors of accumulators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from precscope.rules.quantity import (
    QualifierKind,
    Quantity,
    Reading,
    Readings,
    Result,
    Selection,
    none_meant,
    number,
)

Parameter = dict[str, Any]
ALL: frozenset[QualifierKind] = frozenset({"all"})

MASTER_WORDS = ("required", "advised", "not_needed", "unknown")
SUM_WORDS = ("fp32_required", "fp32_advised", "fp16_ok")


def folded(retention: float) -> float:
    """``1 - |1 - R|``: a weight that moves twice as far is as wrong as one that does not move."""
    return 1.0 - abs(1.0 - retention)


def _parameters(result: Result, selection: Selection) -> tuple[list[Parameter], str]:
    known: list[Parameter] = result["master_weights"]["parameters"]
    named = [p for p in known if selection.names(p["name"])]
    if not named:
        return [], none_meant(selection, "parameter", [p["name"] for p in known]).absent
    meant = [p for p in named if selection.everything or p["at_risk"]]
    if not meant:
        return [], "every such parameter stays in FP32 anyway: add [all] to judge them all the same"
    real = [p for p in meant if selection.everything or not p.get("is_noise")]
    moved = [p for p in real if p["lost_updates_fraction"] is not None]
    return moved, "" if moved else "no update of such a parameter was observed that is not noise"


def _reader(key: str, measure: Callable[[float], float]) -> Callable[[Result, Selection], Readings]:
    def read(result: Result, selection: Selection) -> Readings:
        parameters, absent = _parameters(result, selection)
        found = [
            Reading(p["name"], p["name"], measure(number(p[key])), (), _rate(p)) for p in parameters
        ]
        return Readings(tuple(found), absent)

    return read


def _rate(parameter: Parameter) -> str:
    rate = parameter["learning_rate"]
    return "" if rate is None else f"learning rate {number(rate):.4g}"


def _read_master_weights(result: Result, selection: Selection) -> Readings:
    found = result["master_weights"]
    reading = Reading("", "the model", math.nan, (str(found["verdict"]),), str(found["reason"]))
    return Readings((reading,))


def _sums(result: Result, selection: Selection) -> tuple[list[dict[str, Any]], str]:
    known: list[dict[str, Any]] = result["accumulation"]["sites"]
    if not known:
        reason = result["accumulation"]["reason"] or "none was found"
        return [], f"no sum was probed: {reason}"
    meant = [s for s in known if selection.names(s["site"])]
    absent = "" if meant else none_meant(selection, "sum", [s["site"] for s in known]).absent
    return meant, absent


def _read_accumulation(result: Result, selection: Selection) -> Readings:
    sums, absent = _sums(result, selection)
    found = [
        Reading(s["site"], _sum_label(s), math.nan, (str(s["verdict"]),), str(s["reason"]))
        for s in sums
    ]
    return Readings(tuple(found), absent)


def _read_error(result: Result, selection: Selection) -> Readings:
    sums, absent = _sums(result, selection)
    found = [Reading(s["site"], _sum_label(s), number(s["error_fp16"]), (), _how(s)) for s in sums]
    return Readings(tuple(found), absent)


def _how(found: dict[str, Any]) -> str:
    if found["error_fp16"] is None:
        return "its partial sums overflow"
    return f"{int(found['length'])} addends"


def _sum_label(found: dict[str, Any]) -> str:
    return f"{found['site']} · {found['operation']}"


def weight_quantities() -> Iterable[Quantity]:
    """Every quantity that parameters and sums have."""
    yield Quantity(
        "master_weights",
        "word",
        "model",
        "",
        "whether FP16 weights need an FP32 master copy",
        _read_master_weights,
        MASTER_WORDS,
    )
    yield from _update_quantities()
    yield from _sum_quantities()


def _update_quantities() -> Iterable[Quantity]:
    for name, when in (
        ("retention", "now"),
        ("retention_0_1", "for updates a tenth as large, as of a later learning rate"),
        ("retention_0_01", "for updates a hundredth as large"),
    ):
        yield Quantity(
            name,
            "number",
            "parameters",
            "of the update",
            f"1 - abs(1 - R): what an FP16 weight keeps of its updates, {when}",
            _reader(name, folded),
            qualifiers=ALL,
            upper=1.0,
        )
    yield Quantity(
        "lost_updates",
        "number",
        "parameters",
        "of the non-zero updates",
        "share of the updates that leave the FP16 weight as it was",
        _reader("lost_updates_fraction", float),
        qualifiers=ALL,
        lower=0.0,
        upper=1.0,
    )


def _sum_quantities() -> Iterable[Quantity]:
    yield Quantity(
        "accumulation",
        "word",
        "sums",
        "",
        "the accumulator that a sum of the training step needs",
        _read_accumulation,
        SUM_WORDS,
    )
    yield Quantity(
        "accumulation_error",
        "number",
        "sums",
        "relative RMS",
        "error of a sum in an FP16 accumulator; one that overflows is no number and hits",
        _read_error,
        lower=0.0,
    )
