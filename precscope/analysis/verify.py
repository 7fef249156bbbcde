"""Verify: train every recipe from the same seed on the same batches, and keep what came of it.

FP32 and the recipe under test, ``advised``, come first and on several seeds; the other recipes
follow on the first seed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from precscope.advice.master_weights import Need
from precscope.advice.parity import ADVISED, BASELINE
from precscope.analysis.options import (
    DEFAULT_RECIPES,
    MASTER_ALTERNATIVES,
    AnalysisOptions,
    Progress,
)
from precscope.analysis.residual import ResidualProbe
from precscope.analysis.seeds import further_seeds, plan_seeds
from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.recording import RecordingWriter
from precscope.training.run import train
from precscope.training.training_run import TrainingRun
from precscope.workload import Workload


def recipes_to_train(options: AnalysisOptions, advised: Recipe | None) -> list[Recipe]:
    """FP32 first, then the recipes asked for, each once, then those from files.

    Raises:
        UsageError: an unknown recipe, a file that is none, or ``advised`` where there is no advice.
    """
    found = [Recipe.named(BASELINE)]
    for name in dict.fromkeys(options.recipes):
        if name == ADVISED:
            found.append(_advised(advised))
        elif name != BASELINE:
            found.append(Recipe.named(name))
    for path in options.recipe_files:
        taken = {recipe.name for recipe in found} | ({ADVISED} if advised else set())
        found.append(_loaded(path, taken))
    return found


def with_alternatives(options: AnalysisOptions, need: Need) -> AnalysisOptions:
    """The options, with the alternatives to a master copy where one is required.

    Recipes that the user chose are left as they are.
    """
    if need != "required" or options.recipes != DEFAULT_RECIPES:
        return options
    return replace(options, recipes=(*DEFAULT_RECIPES, *MASTER_ALTERNATIVES))


def _advised(advised: Recipe | None) -> Recipe:
    if advised is None:
        raise UsageError("recipe 'advised' needs an analysis: run precscope analyze")
    return advised


def _loaded(path: Path, taken: set[str]) -> Recipe:
    """The recipe in a file, under its own name, with the file's behind it where that is taken."""
    recipe = Recipe.load(path)
    if recipe.name not in taken:
        return recipe
    label = f"{recipe.name} ({path.stem})"
    if label in taken:
        raise UsageError(f"{path}: a recipe named {label!r} is trained already; change its name")
    return replace(recipe, name=label)


def verify(
    workload: Workload,
    writer: RecordingWriter,
    device: torch.device,
    options: AnalysisOptions,
    advised: Recipe | None,
    progress: Progress,
) -> None:
    """Train the recipes and store each run as soon as it is over."""
    recipes = recipes_to_train(options, advised)
    pair = _proof_first(recipes)
    trainer = _Verification(workload, writer, device, options, progress)
    first = [trainer.run(recipe, options.seed) for recipe in pair]
    plan = plan_seeds(options.seeds, first, is_proof=pair[-1].name == ADVISED)
    writer.put_document("seeds", plan.to_dict())
    for seed in further_seeds(options.seed, plan.count):
        for recipe in pair:
            trainer.run(recipe, seed)
    for recipe in recipes:
        if recipe not in pair:
            trainer.run(recipe, options.seed)


def _proof_first(recipes: list[Recipe]) -> list[Recipe]:
    """FP32 and the recipe under test, if there is one."""
    others = [recipe for recipe in recipes if recipe.name != BASELINE]
    subject = next((recipe for recipe in others if recipe.name == ADVISED), None)
    return [recipes[0], *([subject] if subject else others[:1])]


class _Verification:
    """Trains, and keeps the runs of all recipes and seeds so far in the Recording."""

    def __init__(
        self,
        workload: Workload,
        writer: RecordingWriter,
        device: torch.device,
        options: AnalysisOptions,
        progress: Progress,
    ) -> None:
        self._workload = workload
        self._writer = writer
        self._device = str(device)
        self._options = options
        self._progress = progress
        self._runs: list[dict[str, Any]] = []

    def run(self, recipe: Recipe, seed: int) -> TrainingRun:
        """Train once; the residual error is measured on the advised recipe's first run."""
        is_first = seed == self._options.seed
        name = f"train {recipe.name}" if is_first else f"train {recipe.name}, seed {seed}"
        self._progress.phase(name, self._options.recipe_steps)
        if is_first and recipe.name == ADVISED:
            return self._with_residual(recipe, seed)
        return self._store(self._trained(recipe, seed, None))

    def _with_residual(self, recipe: Recipe, seed: int) -> TrainingRun:
        probe = ResidualProbe(self._workload, recipe, self._options.recipe_steps)
        run = self._trained(recipe, seed, probe)
        self._writer.put_document("residual", probe.document())
        return self._store(run)

    def _trained(self, recipe: Recipe, seed: int, probe: ResidualProbe | None) -> TrainingRun:
        return train(
            self._workload if probe is None else probe,
            recipe,
            self._options.recipe_steps,
            seed,
            device=self._device,
            progress=lambda done, _total, loss: self._progress.advance(done, f"loss {loss:.4g}"),
            on_step=None if probe is None else probe.on_step,
        )

    def _store(self, run: TrainingRun) -> TrainingRun:
        self._runs.append(run.to_dict())
        self._writer.put_document("runs", self._runs)
        self._writer.flush()
        return run
