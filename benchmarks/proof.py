"""Parity, cost of the probes and dose-response on the examples, as tables for the docs.

    python benchmarks/proof.py [--examples digits_cnn,vocab_lm] [--write docs/validation.md]

For each example an analysis: FP32 and the advised recipe over three seeds, judged against FP32's
own spread; and what each probe cost beside a plain step. For two examples a sweep over the loss
scale: error of the FP16 gradients and final loss of a run at that constant scale.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from validation import circumstances, write_section

from precscope import build_result
from precscope.analysis import AnalysisOptions, SweepOptions, analyze, scale_sweep
from precscope.workload import load_workload

EXAMPLES = Path(__file__).parents[1] / "examples"
STEPS = {"digits_cnn": 100, "python_lm": 60, "small_lr_mlp": 600, "vocab_lm": 50}
"""Training steps of each run."""

SWEEPS = {"digits_cnn": (60, 2), "vocab_lm": (30, 4)}
"""Training steps per scale, and distance between scales in bits."""

MARKS = ("<!-- proof: begin -->", "<!-- proof: end -->")


class Silent:
    """Shows no progress."""

    def phase(self, name: str, total: int | None) -> None:
        """Ignored."""

    def advance(self, done: int, note: str = "") -> None:
        """Ignored."""


def analysis_of(name: str, folder: Path) -> dict[str, Any]:
    """The result of an analysis that trains FP32 and the advised recipe on three seeds."""
    options = AnalysisOptions(
        device="cpu", recipes=("fp32", "advised"), recipe_steps=STEPS[name], seeds=3
    )
    folder.mkdir(exist_ok=True)
    workload = load_workload(EXAMPLES / f"{name}.py")
    recording = analyze(workload, folder / f"{name}.precscope", options, "proof", Silent())
    return build_result(recording)


def parity_rows(results: dict[str, dict[str, Any]]) -> Iterable[str]:
    """One row per example: what was advised, and how it trained."""
    yield "| example | advised | steps | FP32 loss | spread | advised - FP32 | verdict | skipped |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, result in results.items():
        runs = [r for r in result["runs"] if r["recipe"] == "advised"]
        loss = result["parity"]["loss"]
        skipped = sum(run["skipped_steps"] for run in runs)
        yield (
            f"| {name} | {result['recipe']['description']} | {runs[0]['steps']} "
            f"| {loss['fp32_mean']:.4g} | {loss['fp32_range']:.2g} | {loss['mean_difference']:+.2g} "
            f"| {result['parity']['verdict']} | {skipped} |"
        )


def cost_rows(results: dict[str, dict[str, Any]]) -> Iterable[str]:
    """Seconds of each probe, and all of them in plain steps."""
    yield "| example | plain step ms | gradients s | range s | accumulation s | in plain steps |"
    yield "|---|---|---|---|---|---|"
    for name, result in results.items():
        timing = result["timing"]
        seconds, step_ms = timing["probe_seconds"], timing["plain_step_ms"]
        steps = sum(seconds.values()) * 1e3 / step_ms
        yield (
            f"| {name} | {step_ms:.2f} | {seconds['gradients']:.3f} | {seconds['range']:.3f} "
            f"| {seconds['accumulation']:.3f} | {steps:.0f} |"
        )


def sweep_rows(name: str, folder: Path) -> Iterable[str]:
    """Dose and response of one example."""
    steps, step_bits = SWEEPS[name]
    options = SweepOptions(steps=steps, log2_step=step_bits, device="cpu")
    workload = load_workload(EXAMPLES / f"{name}.py")
    result = build_result(
        scale_sweep(workload, folder / f"{name}-sweep.precscope", options, "proof", Silent())
    )
    yield f"`{name}`, {steps} steps at each constant scale, FP16 weights with a master copy:"
    yield ""
    yield "| scale | gradient error | final loss | skipped |"
    yield "|---|---|---|---|"
    for point in result["scale_sweep"]["doses"]:
        error, loss = point["gradient_error"], point["final_loss"]
        yield (
            f"| 2^{point['log2_scale']} | {'overflow' if error is None else f'{error:.2g}'} "
            f"| {'none' if loss is None else f'{loss:.4f}'} | {point['skipped_steps']} |"
        )


def main() -> None:
    """Run everything and print it; write it into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", default=",".join(STEPS))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    names = options.examples.split(",")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        # A process's first analysis also loads code; that is no cost of a probe.
        analysis_of("small_lr_mlp", Path(folder) / "warm-up")
        results = {name: analysis_of(name, Path(folder)) for name in names}
        lines = [*circumstances("python benchmarks/proof.py"), "", *parity_rows(results), ""]
        lines += [*cost_rows(results), ""]
        for name in [n for n in SWEEPS if n in names]:
            lines += [*sweep_rows(name, Path(folder)), ""]
    text = "\n".join(lines)
    print(text)
    if options.write:
        write_section(options.write, text, *MARKS)


if __name__ == "__main__":
    main()
