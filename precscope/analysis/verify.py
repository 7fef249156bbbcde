"""Verify: train every recipe from the same seed on the same batches, and keep what came of it."""

from __future__ import annotations

from typing import Any

import torch

from precscope.analysis.options import AnalysisOptions, Progress
from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.recording import RecordingWriter
from precscope.training.run import train
from precscope.workload import Workload


def recipes_to_train(options: AnalysisOptions, advised: Recipe | None) -> list[Recipe]:
    """FP32 first, then the recipes asked for, each once.

    Raises:
        UsageError: an unknown recipe, or ``advised`` where there is no advice.
    """
    found = [Recipe.named("fp32")]
    for name in dict.fromkeys(options.recipes):
        if name == "advised":
            found.append(_advised(advised))
        elif name != "fp32":
            found.append(Recipe.named(name))
    return found


def _advised(advised: Recipe | None) -> Recipe:
    if advised is None:
        raise UsageError("recipe 'advised' needs an analysis: run precscope analyze")
    return advised


def verify(
    workload: Workload,
    writer: RecordingWriter,
    device: torch.device,
    options: AnalysisOptions,
    advised: Recipe | None,
    progress: Progress,
) -> None:
    """Train each recipe and store its run as soon as it is over."""
    runs: list[dict[str, Any]] = []
    for recipe in recipes_to_train(options, advised):
        progress.phase(f"train {recipe.name}", options.recipe_steps)
        run = train(
            workload,
            recipe,
            options.recipe_steps,
            options.seed,
            device=str(device),
            progress=lambda done, _total, loss: progress.advance(done, f"loss {loss:.4g}"),
        )
        runs.append(run.to_dict())
        writer.put_document("runs", runs)
        writer.flush()
