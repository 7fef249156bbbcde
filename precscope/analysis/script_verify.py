"""A script run again with each recipe, each time in a process of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from precscope.advice.parity import ADVISED, BASELINE
from precscope.analysis.options import Progress
from precscope.analysis.script_seeds import UNMOVED, plan_script_seeds, seeds_in_words
from precscope.analysis.seeds import SeedPlan
from precscope.recipe import Recipe
from precscope.script import Script
from precscope.script.additions import add_documents
from precscope.script.job import Job
from precscope.script.process import Ended, run_script
from precscope.training.scaling import ScaleChange
from precscope.training.training_run import (
    TrainingRun,
    divergence,
    final_loss,
    finite_or_none,
    step_time,
)

SAVED_TENSOR_HOOKS = "saved tensor hooks"
"""In the complaint of ``torch.func`` where what is saved for backward is counted."""

NO_PEAK = "torch keeps no peak of a CPU's memory"

TWO_PROCESSES = "ratio of medians of two runs of the script, one after the other"


class ScriptRuns:
    """Runs a script with recipes and keeps what came of it in the Recording.

    Args:
        script: what is run.
        path: the Recording.
        steps: of each run.
        seed: before the script starts; further seeds also shift those that it sets itself.
        progress: told of phases and steps.
        note: the document ``script`` so far.
    """

    def __init__(
        self,
        script: Script,
        path: Path,
        steps: int,
        seed: int,
        progress: Progress,
        note: Mapping[str, Any],
    ) -> None:
        self._script = script
        self._path = path
        self._steps = steps
        self._seed = seed
        self._progress = progress
        self._note = dict(note)
        self._failed: dict[str, str] = {}
        self._runs: list[TrainingRun] = []
        self._own_seeds: list[dict[str, int]] = []

    def train_all(self, recipes: Sequence[Recipe], seeds: int | None) -> None:
        """Train FP32 and the recipe under test on one seed or several, then the others."""
        subject = next((r for r in recipes if r.name == ADVISED), None)
        pair = [recipes[0], *([subject] if subject else recipes[1:2])]
        seconds = [self.train(recipe) for recipe in pair]
        plan = plan_script_seeds(seeds, seconds, subject is not None, self._failed)
        for shift in range(1, plan.count):
            self.train(pair[0], shift)
            if shift == 1 and self._is_unmoved():
                self._runs.pop()
                self._store()
                plan = SeedPlan(1, plan.asked, UNMOVED)
                break
            self.train(pair[1], shift)
        self._tell_seeds(plan)
        for recipe in recipes:
            if recipe not in pair:
                self.train(recipe)
        self._tell_seeds(plan)

    def train(self, recipe: Recipe, shift: int = 0) -> float:
        """Run the script once with a recipe; returns how many seconds that took."""
        seed = f", seed {self._seed + shift}" if shift else ""
        self._progress.phase(f"run again, {recipe.name}{seed}", self._steps)
        job = Job(
            self._script, "", self._steps, recipe=recipe, seed=self._seed + shift, seed_shift=shift
        )
        ended = _run(job, self._progress)
        why = failure(ended)
        if why is not None and SAVED_TENSOR_HOOKS in ended.complaints:
            ended = _run(replace(job, counts_saved=False), self._progress)
            why = failure(ended)
        if why is None:
            self._runs.append(training_run(recipe, ended, self._seed + shift))
            if not shift:  # a seed that is drawn from a shifted one is another
                self._own_seeds += [event["own"] for event in ended.of("seeds")]
        else:
            self._failed[recipe.name] = why
        self._store()
        return ended.seconds

    def cost(self, observed: Ended, every: int) -> dict[str, Any] | None:
        """What observing cost: the median observed step beside that of the FP32 run."""
        plain = next((run.step_ms for run in self._runs if run.recipe == BASELINE), None)
        taken = [event["seconds"] for event in observed.of("step")]
        seen = step_time([s for s in taken[::every] if s is not None])
        if plain is None or seen is None:
            return None
        memory = [event["memory_bytes"] for event in observed.of("observers")]
        return {
            "plain_step_ms": plain.median_ms,
            "observed_step_ms": seen.median_ms,
            "overhead_ratio": seen.median_ms / plain.median_ms,
            "ratio_p10": None,
            "ratio_p90": None,
            "overhead_reason": TWO_PROCESSES,
            "observer_memory_bytes": int(median(memory)) if memory else None,
        }

    def _store(self) -> None:
        runs = [run.to_dict() for run in self._runs]
        add_documents(self._path, {"runs": runs, "script": {**self._note, "failed": self._failed}})

    def _tell_seeds(self, plan: SeedPlan) -> None:
        if self._own_seeds and plan.reason != UNMOVED:
            told = seeds_in_words(self._own_seeds, self._seed, plan.count)
            plan = replace(plan, reason=f"{plan.reason}; {told}")
        add_documents(self._path, {"seeds": plan.to_dict()})

    def _is_unmoved(self) -> bool:
        fp32 = [run.losses for run in self._runs if run.recipe == BASELINE]
        return len(fp32) == 2 and fp32[0] == fp32[1]


def training_run(recipe: Recipe, ended: Ended, seed: int) -> TrainingRun:
    """What a run of a script gave, from the events that it told."""
    steps, device = ended.of("step"), ended.of("trains")[0]["device"]
    measured = {key: v for event in ended.of("measured") for key, v in event.items()}
    losses = tuple(float(step["loss"]) for step in steps)
    end = divergence(losses, all(event["weights_are_finite"] for event in ended.of("done")))
    skipped = [(i, step["skipped"]) for i, step in enumerate(steps) if step["skipped"]]
    peak = measured.get("peak_memory_bytes")
    return TrainingRun(
        recipe=recipe.name,
        description=recipe.description,
        device=device,
        simulated=recipe.weights_dtype == "float16"
        or (recipe.compute_dtype == "float16" and device == "cpu"),
        steps=len(losses),
        seed=seed,
        losses=losses,
        first_loss=finite_or_none(losses[0]),
        final_loss=final_loss(losses),
        metrics={},
        skipped_steps=len(skipped),
        skipped_at=tuple(i for i, _ in skipped),
        log2_scales=tuple(s["log2_scale"] for s in steps if s["log2_scale"] is not None),
        diverged_at=end[0] if end else None,
        diverged_reason=end[1] if end else None,
        step_ms=step_time([s["seconds"] for s in steps if s["seconds"] is not None]),
        peak_memory_bytes=peak,
        peak_memory_reason=NO_PEAK if peak is None else None,
        saved_tensor_bytes=measured.get("saved_tensor_bytes"),
        weight_bytes=measured.get("weight_bytes", 0),
        gradient_bytes=measured.get("gradient_bytes", 0),
        optimizer_bytes=measured.get("optimizer_bytes", 0),
        scale_changes=tuple(ScaleChange(**c) for s in steps for c in s["scale_changes"]),
        skipped_for=tuple(name for _, name in skipped),
    )


def follower(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """Shows the steps of a run as they come."""

    def follow(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            loss = event.get("loss")
            progress.advance(event["step"], "" if loss is None else f"loss {float(loss):.4g}")

    return follow


def failure(ended: Ended) -> str | None:
    """Why a run gave no result, in one line; None if it gave one.

    Raises:
        KeyboardInterrupt: it was interrupted, and so are we.
        SystemExit: it was asked to terminate, and so were we.
    """
    if ended.exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if ended.exit_code == 128 + signal.SIGTERM:
        raise SystemExit(ended.exit_code)
    refused = ended.of("refused")
    if refused:
        return str(refused[0]["reason"])
    if ended.of("done") or (ended.exit_code == 0 and ended.of("step")):
        return None
    last = ended.complaints.splitlines()[-1:] or ["nothing was said"]
    return f"{last[0]} (exit code {ended.exit_code})"


def _run(job: Job, progress: Progress) -> Ended:
    return run_script(job, follower(progress), subprocess.DEVNULL, is_shown=False)
