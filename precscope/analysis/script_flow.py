"""The flow over an unmodified script: observe it, advise, run it again with each recipe."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from precscope.advice import advise
from precscope.advice.parity import ADVISED, BASELINE
from precscope.analysis.options import Progress
from precscope.errors import PrecscopeError, UsageError
from precscope.recipe import Recipe
from precscope.recording import Recording
from precscope.script import Script
from precscope.script.additions import add_autocast_dtypes, add_documents
from precscope.script.job import Job
from precscope.script.process import Ended, run_script
from precscope.training.training_run import (
    TrainingRun,
    divergence,
    final_loss,
    finite_or_none,
)

SCRIPT_RECIPES = ("fp32", "advised", "fp16", "bf16")
"""What a script can be trained with from outside: recipes that leave its weights in FP32."""

DTYPE_STEPS = 2
"""Steps under autocast to see every model of a script trained once."""


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """Settings of the analysis of a script.

    Attributes:
        steps: optimizer steps to observe.
        every: observe every n-th.
        recipes: names to run the script with again; ``fp32`` comes first in any case.
        recipe_steps: steps of each; None: as many as were observed.
        train: False runs the script once only.
        seed: seed of every run but the observed one, before the script starts.
        keep_going: leave the observed script to run on to its own end.
        keep_compile: leave the script's own ``torch.compile`` on.
        script_stdout: file descriptor for what the observed script prints, None for stdout.

    Raises:
        UsageError: a count below 1, or a recipe that a script cannot be trained with.
    """

    steps: int = 60
    every: int = 1
    recipes: tuple[str, ...] = SCRIPT_RECIPES
    recipe_steps: int | None = None
    train: bool = True
    seed: int = 0
    keep_going: bool = False
    keep_compile: bool = False
    script_stdout: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "every", "recipe_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: it must be 1 or more")
        for name in self.recipes:
            if name != ADVISED and Recipe.named(name).weights_dtype != "float32":
                raise UsageError(
                    f"recipe {name!r} needs FP16 weights, and a script keeps its own: "
                    "write a model file for it, or choose fp32, tf32, bf16, fp16 or advised"
                )


def analyze_script(
    script: Script, recording_path: Path, options: ScriptOptions, command: str, progress: Progress
) -> int:
    """Observe the script, advise, and run it again with each recipe in a process of its own.

    Returns:
        the exit code of the observed script: 0 if it was stopped after its steps.

    Raises:
        PrecscopeError: the script ended well and took no step of an optimizer.
        RecordingError: the Recording cannot be written.
    """
    progress.phase(f"observe {script.name}", options.steps)
    job = Job(
        script,
        "",
        options.steps,
        options.every,
        options.keep_going,
        options.keep_compile,
        str(recording_path.absolute()),
        command=command,
    )
    ended = run_script(job, _follower(progress), options.script_stdout, is_shown=True)
    if not ended.of("step"):
        if ended.exit_code == 0:
            raise PrecscopeError(
                f"{script.target} took no step of a torch optimizer on a model that it called: "
                "there is nothing to analyze (a model file defines model, batches and loss)"
            )
        return ended.exit_code
    if ended.exit_code == 0 and options.train:
        _verify(script, recording_path, options, ended, progress)
    return ended.exit_code


def _verify(
    script: Script, path: Path, options: ScriptOptions, observed: Ended, progress: Progress
) -> None:
    if observed.of("mixed"):
        return
    progress.phase("dtypes under autocast", DTYPE_STEPS)
    _add_dtypes(script, path, options)
    steps = options.recipe_steps or options.steps
    runs: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for recipe in _recipes(options, advise(Recording.open(path)).recipe):
        progress.phase(f"run again, {recipe.name}", steps)
        job = Job(script, "", steps, recipe=recipe, seed=options.seed)
        ended = run_script(job, _follower(progress), subprocess.DEVNULL, is_shown=False)
        why = _failure(ended)
        if why is None:
            runs.append(_training_run(recipe, ended, options.seed).to_dict())
        else:
            failed[recipe.name] = why
        note = {"mixed": None, "failed": failed}
        add_documents(path, {"runs": runs, "script": note})


def _add_dtypes(script: Script, path: Path, options: ScriptOptions) -> None:
    """Run two steps under autocast; a script that fails there leaves every site at risk."""
    recipe = Recipe.named("fp16")
    job = Job(script, "", DTYPE_STEPS, recipe=recipe, seed=options.seed, wants_dtypes=True)
    told = run_script(job, lambda event: None, subprocess.DEVNULL, is_shown=False).of("dtypes")
    if told:
        sites = told[0]["sites"]
        add_autocast_dtypes(path, {(name, kind): dtype for name, kind, dtype in sites})


def _recipes(options: ScriptOptions, advised: Recipe) -> list[Recipe]:
    names = dict.fromkeys((BASELINE, *options.recipes))
    return [for_script(advised if name == ADVISED else Recipe.named(name)) for name in names]


def for_script(recipe: Recipe) -> Recipe:
    """The recipe as autocast around a script: the script's FP32 weights are the master weights."""
    if recipe.weights_dtype == "float32":
        return recipe
    return replace(
        recipe,
        description=f"{recipe.description}; here as autocast, with the script's FP32 weights",
        weights_dtype="float32",
        master_weights=False,
        weight_updates="nearest",
    )


def _training_run(recipe: Recipe, ended: Ended, seed: int) -> TrainingRun:
    steps, trains = ended.of("step"), ended.of("trains")
    losses = tuple(float(step["loss"]) for step in steps)
    done = ended.of("done")
    is_finite = all(event["weights_are_finite"] for event in done)
    end = divergence(losses, is_finite)
    skipped = [(i, step["skipped"]) for i, step in enumerate(steps) if step["skipped"]]
    device = trains[0]["device"] if trains else "cpu"
    return TrainingRun(
        recipe=recipe.name,
        description=recipe.description,
        device=device,
        simulated=recipe.compute_dtype == "float16" and device == "cpu",
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
        step_ms=None,
        peak_memory_bytes=None,
        peak_memory_reason="not measured in the process of a script",
        saved_tensor_bytes=None,
        weight_bytes=sum(event["weight_bytes"] for event in trains),
        gradient_bytes=0,
        optimizer_bytes=0,
        skipped_for=tuple(name for _, name in skipped),
    )


def _follower(progress: Progress) -> Any:
    def follow(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            loss = event.get("loss")
            progress.advance(event["step"], "" if loss is None else f"loss {float(loss):.4g}")

    return follow


def _failure(ended: Ended) -> str | None:
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
