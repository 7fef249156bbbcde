"""What the scripts of the page draw: the result as compact columns, thinned for the picture.

``page_data`` is small and embedded as JSON; ``site_data``, which grows with the model, is packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from precscope.formats import BF16, E4M3, E5M2, FP16, NumberFormat
from precscope_reports.html.thinning import MAX_LINE_BUCKETS, thin_line, thin_windows

# Storage formats that the what-if view can ask about, the default first.
WHAT_IF_FORMATS = (FP16, BF16, E4M3, E5M2)


def page_data(result: dict[str, Any]) -> dict[str, Any]:
    """What does not grow with the model: formats, loss-scale curve, runs, sweep."""
    loss_scale = result["loss_scale"]
    return {
        "formats": [format_facts(fmt) for fmt in WHAT_IF_FORMATS],
        "loss_scale": {key: value for key, value in loss_scale.items() if key != "reason"},
        "runs": [run_series(run) for run in first_seed(result["runs"])],
        "bands": seed_bands(result["runs"]),
        "sweep": sweep_series(result.get("scale_sweep")),
        "nvml": nvml_traces(result["timing"].get("nvml")),
    }


def format_facts(fmt: NumberFormat) -> dict[str, Any]:
    """The limits of a format that the browser computes shares from; see ``numerics.js``."""
    return {
        "name": fmt.name,
        "flush": fmt.log2_flush_threshold,
        "normal": fmt.log2_smallest_normal,
        "top": fmt.max_exponent,
        "max": fmt.max_finite,
        "overflow": fmt.overflow_threshold,
        "inclusive": fmt.overflow_is_inclusive,
    }


def run_series(run: dict[str, Any]) -> dict[str, Any]:
    """One run's lines: loss and log2 scale against step, with gaps where a loss is not finite."""
    finite = [loss if isinstance(loss, int | float) else None for loss in run["losses"]]
    return {
        "recipe": run["recipe"],
        "loss": _columns(thin_line(finite)),
        "log2_scale": _columns(thin_line(run["log2_scales"])),
        "skipped_at": run["skipped_at"],
        "skipped_loss": [finite[at] if 0 <= at < len(finite) else None for at in run["skipped_at"]],
        "diverged_at": run["diverged_at"],
        "steps": run["steps"],
    }


def first_seed(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the first seed, one per recipe."""
    return [run for run in runs if run["seed"] == runs[0]["seed"]]


def seed_bands(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per recipe with several seeds: the smallest and the largest loss of any seed at each step."""
    recipes = dict.fromkeys(run["recipe"] for run in runs)
    groups = {name: [run["losses"] for run in runs if run["recipe"] == name] for name in recipes}
    return [
        {"recipe": name, "seeds": len(lines), **_band(lines)}
        for name, lines in groups.items()
        if len(lines) > 1
    ]


def _band(lines: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Columns of the envelope, thinned by widening it over neighbouring steps."""
    steps = [
        (at, [loss for loss in found if isinstance(loss, int | float)])
        for at, found in enumerate(zip(*lines, strict=False))
    ]
    usable = [(at, min(found), max(found)) for at, found in steps if found]
    width = -(-len(usable) // MAX_LINE_BUCKETS) or 1
    buckets = [usable[start : start + width] for start in range(0, len(usable), width)]
    return {
        "step": [bucket[0][0] for bucket in buckets],
        "low": [rounded(float(min(low for _, low, _ in bucket))) for bucket in buckets],
        "high": [rounded(float(max(high for _, _, high in bucket))) for bucket in buckets],
    }


def nvml_traces(nvml: Any) -> list[dict[str, Any]]:
    """The readings over the timed window as lines, thinned; none where NVML was not read."""
    traces = (nvml.get("traces") or {}) if isinstance(nvml, dict) else {}
    lines = []
    for name, trace in traces.items():
        points = thin_line(trace["values"])
        seconds = [rounded(trace["seconds"][at]) for at, _ in points]
        values = [rounded(value) for _, value in points]
        lines.append({"name": name, "unit": trace["unit"], "seconds": seconds, "values": values})
    return lines


_DOSE_KEYS = (
    "log2_scale",
    "gradient_error",
    "gradient_error_all",
    "worst_parameter",
    "overflows",
    "final_loss",
    "skipped_steps",
    "diverged_at",
    "works",
)


def sweep_series(sweep: dict[str, Any] | None) -> dict[str, Any] | None:
    """The sweep over loss scales, one column per property of its doses."""
    if sweep is None:
        return None
    return {
        "fp32_final_loss": rounded(sweep["fp32_final_loss"]),
        "floor": rounded(sweep["gradient_error_floor"]),
        "working": sweep["working_log2"],
        **{key: _column(sweep["doses"], key) for key in _DOSE_KEYS},
    }


def site_data(result: dict[str, Any]) -> dict[str, list[Any]]:
    """One column per property, in execution order of the sites."""
    sites = result["sites"]
    histograms = [site["histogram"] for site in sites]
    columns: dict[str, list[Any]] = {key: _column(sites, key) for key in _SITE_KEYS}
    columns["shape"] = [list(site["shape"]) for site in sites]
    columns.update({key: _column(histograms, key) for key in _HISTOGRAM_KEYS})
    columns["windows"] = [thin_windows(site["windows"]) for site in sites]
    return columns


_SITE_KEYS = (
    "name",
    "kind",
    "module_type",
    "dtype",
    "autocast_dtype",
    "at_risk",
    "observations",
    "amax",
    "rms",
    "zero_fraction",
    "flushed_fp16",
    "subnormal_fp16",
    "overflow_fp16",
    "l1_flushed_fp16",
)
_HISTOGRAM_KEYS = ("first_exponent", "counts", "powers", "zeros", "infinities", "nans")


def _column(records: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return [rounded(record[key]) for record in records]


def rounded(value: Any) -> Any:
    """Floats to six significant digits, which is more than a picture shows; the rest as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _columns(points: list[tuple[int, float | None]]) -> dict[str, list[Any]]:
    return {
        "step": [step for step, _ in points],
        "value": [rounded(value) for _, value in points],
    }
