"""The tables of what the advice says: weights, sums, findings, scales."""

from __future__ import annotations

from typing import Final

from precscope.export.column import Table, integer, real, text, yes_no

_KEPT: Final = "part of the FP32 update that FP16 weights move by, smallest of any window"
PARAMETERS: Final = Table(
    "parameters",
    "a parameter, judged for FP32 master weights",
    (
        text("parameter", "qualified name"),
        text("verdict", "required, advised, not_needed, unknown or stays_fp32"),
        yes_no("at_risk", "whether half precision training stores it in FP16"),
        real("retention", "fraction", _KEPT),
        real("retention_0_1", "fraction", "the same for updates a tenth as large"),
        real("retention_0_01", "fraction", "the same for updates a hundredth as large"),
        real("accumulated_retention", "fraction", "the same for the sum of a window's updates"),
        real("noise", "ratio", "rounding noise against the update"),
        real("lost_updates_fraction", "fraction", "non-zero updates that change nothing"),
        real("below_2_24_fraction", "fraction", "non-zero updates below 2^-24"),
        real("ratio_above_2048_fraction", "fraction", "updates with abs(w) > 2048 abs(u)"),
        real("learning_rate", "", "at the last observed step"),
    ),
)
ACCUMULATION: Final = Table(
    "accumulation",
    "a sum in the model, sampled in FP16 and FP32",
    (
        text("site", "qualified name of the module"),
        text("operation", "what the sum is for the module"),
        text("operator", "ATen operator"),
        text("phase", "forward or backward"),
        text("verdict", "fp32_required, fp32_advised or fp16_ok"),
        text("reason", "why"),
        integer("length", "addends", "addends per result"),
        integer("samples", "results", "results sampled"),
        real("error_fp16", "fraction", "RMS error relative to the results, FP16 accumulators"),
        real("error_fp32", "fraction", "the same with FP32 accumulators and one rounding"),
        real("predicted_error", "fraction", "by the length and kappa"),
        real("kappa", "ratio", "median of sum abs(p) / abs(sum p)"),
        real("peak", "value", "largest partial sum"),
        real("swamped_fraction", "fraction", "share of the energy below half a place"),
    ),
)
FINDINGS: Final = Table(
    "findings",
    "a finding of the advice, the most severe first",
    (
        text("rule", "name of the rule"),
        text("severity", "critical, warning, advice or ok"),
        text("site", "where; missing if it is about the whole run"),
        text("message", "what"),
        text("remedy", "what to do"),
        text("code", "code to paste"),
        text("evidence", "the numbers behind it, as JSON"),
    ),
)
LOSS_SCALE: Final = Table(
    "loss_scale",
    "a candidate loss scale",
    (
        integer("log2_scale", "log2", "the scale"),
        real("l1_lost", "fraction", "L1 mass of the worst gradient site that FP16 flushes"),
        real("count_lost", "fraction", "gradient values that FP16 flushes"),
        real("overflow", "fraction", "gradient values that overflow FP16"),
        real("gradient_error", "fraction", "of a real FP16 backward; missing where none ran"),
        text("worst_parameter", "the one that exceeds its own threshold the most"),
    ),
)
