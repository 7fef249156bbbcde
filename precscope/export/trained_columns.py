"""The tables of what was trained: runs, their losses and metrics."""

from __future__ import annotations

from typing import Final

from precscope.export.column import Table, integer, real, text, yes_no
from precscope.export.observed_columns import STEP

RUN_ID: Final = integer("run_id", "", "number of the run, the key to the table runs")
RECIPE: Final = text("recipe", "recipe that was trained with")
SEED: Final = integer("seed", "", "of the weights and the batches")
RUNS: Final = Table(
    "runs",
    "a training run with a recipe and a seed",
    (
        RUN_ID,
        RECIPE,
        SEED,
        text("device", "cpu, cuda:0, ..."),
        yes_no("simulated", "FP16 storage with FP32 arithmetic on a CPU: speed means nothing"),
        integer("steps", "steps", "optimizer steps"),
        real("first_loss", "", "loss of the first step"),
        real("final_loss", "", "mean of the last tenth"),
        integer("skipped_steps", "steps", "updates skipped for infinities or NaNs"),
        integer("diverged_at", "step", "step at which it diverged; missing if it did not"),
        real("step_ms_median", "ms", "time per step, median"),
        real("step_ms_p10", "ms", "time per step, first decile"),
        real("step_ms_p90", "ms", "time per step, last decile"),
        integer("peak_memory_bytes", "bytes", "peak of the device's allocator; missing on a CPU"),
        integer("saved_tensor_bytes", "bytes", "kept by autograd for one backward"),
        integer("weight_bytes", "bytes", "weights with their master copy"),
        integer("gradient_bytes", "bytes", "gradients"),
        integer("optimizer_bytes", "bytes", "optimizer state"),
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
        real("loss", "", "loss of the step; NaN and infinities stay what they are"),
        real("log2_scale", "log2", "loss scale in force; missing where there is none"),
        yes_no("skipped", "whether the update was skipped"),
    ),
)
METRICS: Final = Table(
    "metrics",
    "a metric of a training run, from evaluate of the model file",
    (RUN_ID, RECIPE, SEED, text("metric", "its name"), real("value", "", "higher is better")),
)
