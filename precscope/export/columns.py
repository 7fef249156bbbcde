"""The tables of an export and their columns; ``docs/export.md`` is printed from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ColumnType = Literal["integer", "real", "boolean", "text"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as it stands in the file.
        type: of its values; any value may be missing.
        unit: in one word; empty for names and numbers without one.
        meaning: one line.
    """

    name: str
    type: ColumnType
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: of the table and of its file.
        row: what one row is.
        columns: in the order in which they stand.
    """

    name: str
    row: str
    columns: tuple[Column, ...]


def _text(name: str, meaning: str) -> Column:
    return Column(name, "text", "", meaning)


def _integer(name: str, unit: str, meaning: str) -> Column:
    return Column(name, "integer", unit, meaning)


def _real(name: str, unit: str, meaning: str) -> Column:
    return Column(name, "real", unit, meaning)


def _yes_no(name: str, meaning: str) -> Column:
    return Column(name, "boolean", "", meaning)


SITE: Final = _integer("site_id", "", "number of the site, the key to the table sites")
NAME: Final = _text("name", "qualified name of the module or parameter")
KIND: Final = _text("kind", "activation, activation_gradient, weight or weight_gradient")
STEP: Final = _integer("step", "step", "optimizer step, 0 is the first")
FIRST: Final = _integer("first_step", "step", "first observed step of the window")
LAST: Final = _integer("last_step", "step", "last observed step of the window, inclusive")
AMAX: Final = _real("amax", "value", "largest finite magnitude")
FLUSHED: Final = _real(
    "flushed_fp16", "fraction", "share of the finite non-zero values at or below 2^-25"
)
L1_FLUSHED: Final = _real(
    "l1_flushed_fp16", "fraction", "share of the sum of absolute values that FP16 flushes"
)

SITES: Final = Table(
    "sites",
    "a place in the model where values are stored",
    (
        SITE,
        NAME,
        KIND,
        _text("module_type", "class of the module, or of the parameter's owner"),
        _text("shape", "shape when first seen, as JSON: [64, 3]"),
        _text("dtype", "dtype when first seen"),
        _text("autocast_dtype", "dtype in half precision training; missing if not measured"),
        _yes_no("at_risk", "whether half precision training stores it in FP16"),
        _integer("observations", "tensors", "tensors counted"),
        AMAX,
        _real("rms", "value", "root mean square of the finite values"),
        _real("sum_abs", "value", "sum of the finite magnitudes"),
        _real("zero_fraction", "fraction", "share of exact zeros among all values"),
        FLUSHED,
        _real("subnormal_fp16", "fraction", "share that FP16 holds below its smallest normal"),
        _real("overflow_fp16", "fraction", "share that is infinite in FP16"),
        L1_FLUSHED,
        _integer("zeros", "values", "exact zeros"),
        _integer("infinities", "values", "infinities of either sign"),
        _integer("nans", "values", "NaNs"),
    ),
)
HISTOGRAMS: Final = Table(
    "histograms",
    "an occupied binary octave of a site, over the whole run",
    (
        SITE,
        NAME,
        KIND,
        _integer("exponent", "log2", "e: the octave holds 2^e <= abs(x) < 2^(e+1)"),
        _integer("count", "values", "finite non-zero values in the octave"),
        _integer("powers", "values", "those of them that are exactly 2^e"),
    ),
)
WINDOWS: Final = Table(
    "windows",
    "a stretch of observed steps of a site, at most 128 per site",
    (SITE, NAME, KIND, FIRST, LAST, AMAX, FLUSHED, L1_FLUSHED),
)
STEPS: Final = Table(
    "steps",
    "an observed step of the training",
    (
        STEP,
        _real("loss", "", "the loss; missing where the observer does not see it"),
        _real("gradient_amax", "value", "largest finite gradient, at its true scale"),
        _integer("gradient_amax_site_id", "", "the site that held it"),
        _real("log2_scale", "log2", "loss scale in force; 0 for none"),
    ),
)
RUN_ID: Final = _integer("run_id", "", "number of the run, the key to the table runs")
RECIPE: Final = _text("recipe", "recipe that was trained with")
SEED: Final = _integer("seed", "", "of the weights and the batches")
RUNS: Final = Table(
    "runs",
    "a training run with a recipe and a seed",
    (
        RUN_ID,
        RECIPE,
        SEED,
        _text("device", "cpu, cuda:0, ..."),
        _yes_no("simulated", "FP16 storage with FP32 arithmetic on a CPU: speed means nothing"),
        _integer("steps", "steps", "optimizer steps"),
        _real("first_loss", "", "loss of the first step"),
        _real("final_loss", "", "mean of the last tenth"),
        _integer("skipped_steps", "steps", "updates skipped for infinities or NaNs"),
        _integer("diverged_at", "step", "step at which it diverged; missing if it did not"),
        _real("step_ms_median", "ms", "time per step, median"),
        _real("step_ms_p10", "ms", "time per step, first decile"),
        _real("step_ms_p90", "ms", "time per step, last decile"),
        _integer("peak_memory_bytes", "bytes", "peak of the device's allocator; missing on a CPU"),
        _integer("saved_tensor_bytes", "bytes", "kept by autograd for one backward"),
        _integer("weight_bytes", "bytes", "weights with their master copy"),
        _integer("gradient_bytes", "bytes", "gradients"),
        _integer("optimizer_bytes", "bytes", "optimizer state"),
    ),
)
LOSSES: Final = Table(
    "losses",
    "a step of a training run",
    (
        RUN_ID,
        RECIPE,
        SEED,
        STEP,
        _real("loss", "", "loss of the step; NaN and infinities stay what they are"),
        _real("log2_scale", "log2", "loss scale in force; missing where there is none"),
        _yes_no("skipped", "whether the update was skipped"),
    ),
)
METRICS: Final = Table(
    "metrics",
    "a metric of a training run, from evaluate of the model file",
    (RUN_ID, RECIPE, SEED, _text("metric", "its name"), _real("value", "", "higher is better")),
)
_KEPT: Final = "part of the FP32 update that FP16 weights move by, smallest of any window"
PARAMETERS: Final = Table(
    "parameters",
    "a parameter, judged for FP32 master weights",
    (
        _text("parameter", "qualified name"),
        _text("verdict", "required, advised, not_needed, unknown or stays_fp32"),
        _yes_no("at_risk", "whether half precision training stores it in FP16"),
        _real("retention", "fraction", _KEPT),
        _real("retention_0_1", "fraction", "the same for updates a tenth as large"),
        _real("retention_0_01", "fraction", "the same for updates a hundredth as large"),
        _real("accumulated_retention", "fraction", "the same for the sum of a window's updates"),
        _real("noise", "ratio", "rounding noise against the update"),
        _real("lost_updates_fraction", "fraction", "non-zero updates that change nothing"),
        _real("below_2_24_fraction", "fraction", "non-zero updates below 2^-24"),
        _real("ratio_above_2048_fraction", "fraction", "updates with abs(w) > 2048 abs(u)"),
        _real("learning_rate", "", "at the last observed step"),
    ),
)
ACCUMULATION: Final = Table(
    "accumulation",
    "a sum in the model, sampled in FP16 and FP32",
    (
        _text("site", "qualified name of the module"),
        _text("operation", "what the sum is for the module"),
        _text("operator", "ATen operator"),
        _text("phase", "forward or backward"),
        _text("verdict", "fp32_required, fp32_advised or fp16_ok"),
        _text("reason", "why"),
        _integer("length", "addends", "addends per result"),
        _integer("samples", "results", "results sampled"),
        _real("error_fp16", "fraction", "RMS error relative to the results, FP16 accumulators"),
        _real("error_fp32", "fraction", "the same with FP32 accumulators and one rounding"),
        _real("predicted_error", "fraction", "by the length and kappa"),
        _real("kappa", "ratio", "median of sum abs(p) / abs(sum p)"),
        _real("peak", "value", "largest partial sum"),
        _real("swamped_fraction", "fraction", "share of the energy below half a place"),
    ),
)
FINDINGS: Final = Table(
    "findings",
    "a finding of the advice, the most severe first",
    (
        _text("rule", "name of the rule"),
        _text("severity", "critical, warning, advice or ok"),
        _text("site", "where; missing if it is about the whole run"),
        _text("message", "what"),
        _text("remedy", "what to do"),
        _text("code", "code to paste"),
        _text("evidence", "the numbers behind it, as JSON"),
    ),
)
LOSS_SCALE: Final = Table(
    "loss_scale",
    "a candidate loss scale",
    (
        _integer("log2_scale", "log2", "the scale"),
        _real("l1_lost", "fraction", "L1 mass of the worst gradient site that FP16 flushes"),
        _real("count_lost", "fraction", "gradient values that FP16 flushes"),
        _real("overflow", "fraction", "gradient values that overflow FP16"),
        _real("gradient_error", "fraction", "of a real FP16 backward; missing where none ran"),
        _text("worst_parameter", "the one that exceeds its own threshold the most"),
    ),
)

TABLES: Final = (
    SITES,
    HISTOGRAMS,
    WINDOWS,
    STEPS,
    RUNS,
    LOSSES,
    METRICS,
    PARAMETERS,
    ACCUMULATION,
    FINDINGS,
    LOSS_SCALE,
)


def reference() -> str:
    """The tables and columns as Markdown, one section per table."""
    return "\n".join(_section(table) for table in TABLES)


def _section(table: Table) -> str:
    rows = [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in table.columns]
    head = ("| column | type | unit | meaning |", "|---|---|---|---|")
    return "\n".join((f"### `{table.name}`", "", f"One row is {table.row}.", "", *head, *rows, ""))
