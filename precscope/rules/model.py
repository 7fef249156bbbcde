"""Quantities that the model or the run has once: loss scale, drift, coverage, cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from precscope.rules.quantity import (
    Quantity,
    Reading,
    Readings,
    Result,
    Selection,
    model_reading,
    none_meant,
    number,
)
from precscope.rules.sites import log2_scale_of

SCALE_WORDS = ("not_needed", "static", "dynamic", "impossible", "unknown")
DRIFT_WORDS = ("inside", "leaving", "left", "follows", "unknown")

NOTHING_TO_SEE = frozenset(
    {
        "hands on a tensor that another module made",
        "returns no floating-point tensor",
        "a container, which is not called",
        "its weights are used directly by the attention that owns it",
    }
)
"""Reasons of modules that were not seen because none of their values is their own."""


def _word(section: str, key: str) -> Callable[[Result, Selection], Readings]:
    def read(result: Result, selection: Selection) -> Readings:
        found = result[section]
        reading = Reading("", "the model", math.nan, (str(found[key]),), str(found["reason"]))
        return Readings((reading,))

    return read


def _loss_scale(key: str, site: str | None = None) -> Callable[[Result, Selection], Readings]:
    def read(result: Result, selection: Selection) -> Readings:
        found = result["loss_scale"]
        if found[key] is None:
            return Readings(absent=f"there is none: loss_scale is {found['verdict']}")
        limiting = found["limiting_sites"][site] if site else None
        return Readings((model_reading(found[key], f"set by {limiting}" if limiting else ""),))

    return read


def _read_window(result: Result, selection: Selection) -> Readings:
    found = result["loss_scale"]
    low, top = found["minimum_log2"], found["maximum_log2"]
    if low is None or top is None:
        return Readings(absent=f"there is no window: loss_scale is {found['verdict']}")
    return Readings((model_reading(number(top) - number(low), f"from 2^{low} to 2^{top}"),))


def _read_gradient_error(result: Result, selection: Selection) -> Readings:
    k = log2_scale_of(result, selection)
    if k is None:
        return Readings(absent="no loss scale is recommended: name one, as in [2^10]")
    points = [p for p in result["loss_scale"]["curve"] if p["log2_scale"] == k]
    error = points[0]["gradient_error"] if points else None
    if error is None:
        return Readings(absent=f"no real FP16 backward gave a gradient error at 2^{k}")
    return Readings((model_reading(error, f"{points[0]['worst_parameter']} at 2^{k}"),))


def _coverage(key: str) -> Callable[[Result, Selection], Readings]:
    def read(result: Result, selection: Selection) -> Readings:
        return Readings((model_reading(result["coverage"][key]),))

    return read


def _observed(key: str) -> Callable[[Result, Selection], Readings]:
    """The number of things that went wrong while observing; none if nothing was observed."""

    def read(result: Result, selection: Selection) -> Readings:
        coverage = result["coverage"]
        if not coverage["observed_steps"]:
            return Readings(absent="nothing was observed")
        told = ", ".join(str(entry.get("what", entry.get("where"))) for entry in coverage[key][:3])
        total = sum(number(entry["count"]) for entry in coverage[key])
        return Readings((model_reading(total, told),))

    return read


def _read_not_seen(result: Result, selection: Selection) -> Readings:
    coverage = result["coverage"]
    if not coverage["observed_steps"]:
        return Readings(absent="nothing was observed")
    listed = [m for m in coverage["modules_not_seen"] if selection.names(m["name"])]
    if selection.patterns and not listed and not _seen(result, selection):
        return none_meant(selection, "module", _modules(result))
    missed = [m for m in listed if m["reason"] not in NOTHING_TO_SEE]
    told = ", ".join(f"{m['name']}: {m['reason']}" for m in missed[:3])
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return Readings((model_reading(len(missed), told + more),))


def _seen(result: Result, selection: Selection) -> bool:
    return any(selection.names(name) for name in _modules(result))


def _modules(result: Result) -> list[str]:
    return [s["name"] for s in result["sites"] if s["kind"] == "activation"]


def _read_overhead(result: Result, selection: Selection) -> Readings:
    timing = result["timing"]
    if timing["overhead_ratio"] is None:
        return Readings(absent=str(timing["overhead_reason"] or "it was not measured"))
    return Readings((model_reading(timing["overhead_ratio"]),))


def model_quantities() -> Iterable[Quantity]:
    """Every quantity that there is once."""
    yield Quantity(
        "loss_scale",
        "word",
        "model",
        "",
        "which kind of loss scale the model needs",
        _word("loss_scale", "verdict"),
        SCALE_WORDS,
    )
    yield from _scale_numbers()
    yield Quantity(
        "drift",
        "word",
        "model",
        "",
        "where the needed loss scale is going, against the advised one",
        _word("drift", "state"),
        DRIFT_WORDS,
    )
    yield from _coverage_numbers()
    yield Quantity(
        "overhead_ratio",
        "number",
        "model",
        "x the plain step",
        "median observed step over median plain step",
        _read_overhead,
        lower=0.0,
    )


def _scale_numbers() -> Iterable[Quantity]:
    low, top = _loss_scale("minimum_log2", "minimum"), _loss_scale("maximum_log2", "maximum")
    advised = _loss_scale("recommended_log2")
    for name, definition, read in (
        ("minimum_log2", "smallest loss scale at which FP16 gradients are good enough", low),
        ("maximum_log2", "largest loss scale at which nothing overflows, with its margin", top),
        ("recommended_log2", "the loss scale to set", advised),
    ):
        yield Quantity(name, "number", "model", "log2", definition, read)
    yield Quantity(
        "safe_window_log2",
        "number",
        "model",
        "doublings",
        "maximum_log2 - minimum_log2; negative if no scale works",
        _read_window,
    )
    yield Quantity(
        "gradient_error",
        "number",
        "model",
        "relative",
        "norm(g16 / 2^k - g32) / norm(g32) of the worst parameter, by a real FP16 backward",
        _read_gradient_error,
        qualifiers=frozenset({"scale"}),
        lower=0.0,
    )


def _coverage_numbers() -> Iterable[Quantity]:
    yield Quantity(
        "modules_not_seen",
        "number",
        "modules",
        "modules",
        "modules with values of their own that were not observed",
        _read_not_seen,
        lower=0.0,
    )
    for name, unit, definition, read in (
        ("sites", "sites", "places that were observed", _coverage("sites")),
        ("observed_steps", "steps", "training steps observed", _coverage("observed_steps")),
        (
            "tensors_skipped",
            "tensors",
            "tensors that could not be observed",
            _observed("tensors_skipped"),
        ),
        (
            "observer_errors",
            "errors",
            "errors inside observers, each of which was switched off",
            _observed("observer_errors"),
        ),
    ):
        yield Quantity(name, "number", "model", unit, definition, read, lower=0.0)
