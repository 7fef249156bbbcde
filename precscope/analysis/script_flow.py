"""The flow over an unmodified script: observe it, advise, run it again with each recipe."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from precscope.advice import advise
from precscope.advice.parity import ADVISED
from precscope.analysis.options import Progress
from precscope.analysis.script_recipes import (
    PAPER_IS_AUTOCAST,
    RANKS,
    recipes_not_run,
    recipes_to_run,
)
from precscope.analysis.script_verify import ScriptRuns, follower
from precscope.errors import PrecscopeError, UsageError
from precscope.recipe import Recipe
from precscope.recording import Recording
from precscope.script import Script
from precscope.script.additions import add_autocast_dtypes, add_documents
from precscope.script.job import Job
from precscope.script.process import Ended, run_script

DTYPE_STEPS = 2
"""Steps under autocast to see every model of a script trained once."""


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """Settings of the analysis of a script.

    Attributes:
        steps: optimizer steps to observe.
        every: observe every n-th.
        recipes: names to run the script with again, ``fp32`` first in any case; None: the usual
            ones, and those that leave out what the advice wants, see ``recipes_to_run``.
        recipe_steps: steps of each; None: as many as were observed.
        train: False runs the script once only.
        seeds: seeds on which FP32 and the advised recipe are trained; None decides by the time
            that a run takes.
        ranks: processes of a distributed training of which this is one; with several, the script
            runs once only.
        seed: seed of every run but the observed one, before the script starts.
        keep_going: leave the observed script to run on to its own end.
        keep_compile: leave the script's own ``torch.compile`` on.
        script_stdout: file descriptor for what the observed script prints, None for stdout.

    Raises:
        UsageError: a count below 1, or an unknown recipe.
    """

    steps: int = 60
    every: int = 1
    recipes: tuple[str, ...] | None = None
    recipe_steps: int | None = None
    train: bool = True
    seed: int = 0
    seeds: int | None = None
    ranks: int = 1
    keep_going: bool = False
    keep_compile: bool = False
    script_stdout: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "every", "recipe_steps", "seeds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: it must be 1 or more")
        for name in self.recipes or ():
            if name != ADVISED:
                Recipe.named(name)


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
    ended = run_script(job, follower(progress), options.script_stdout, is_shown=True)
    broken = ended.of("broken")
    if broken and not ended.of("model"):
        raise PrecscopeError(f"cannot observe {broken[0]['where']}: {broken[0]['message']}")
    if not (ended.of("step") and ended.of("model")):
        if ended.exit_code == 0:
            raise PrecscopeError(
                f"{script.target} took no step of a torch optimizer on a model that it called: "
                "there is nothing to analyze (a model file defines model, batches and loss)"
            )
        return ended.exit_code
    if ended.exit_code == 0 and options.train and not ended.of("mixed"):
        _verify(script, recording_path, options, ended, progress)
    return ended.exit_code


def _verify(
    script: Script, path: Path, options: ScriptOptions, observed: Ended, progress: Progress
) -> None:
    if options.ranks > 1:
        add_documents(path, {"script": {"mixed": None, "not_run": [RANKS]}})
        progress.phase("not run again: torchrun started the ranks once", None)
        return
    progress.phase("dtypes under autocast", DTYPE_STEPS)
    _add_dtypes(script, path, options)
    advice = advise(Recording.open(path))
    left_out = recipes_not_run(options.recipes, advice)
    note = {"mixed": None, "not_run": left_out}
    add_documents(path, {"script": note})
    if options.recipes is not None and PAPER_IS_AUTOCAST in left_out:
        progress.phase("recipe paper is fp16 for an unedited script", None)
    steps = options.recipe_steps or options.steps
    runs = ScriptRuns(script, path, steps, options.seed, progress, note)
    runs.train_all(recipes_to_run(options.recipes, advice), options.seeds)
    cost = runs.cost(observed, options.every)
    if cost is not None:
        add_documents(path, {"cost": cost})


def _add_dtypes(script: Script, path: Path, options: ScriptOptions) -> None:
    """Run two steps under autocast; a script that fails there leaves every site at risk."""
    recipe = Recipe.named("fp16")
    job = Job(script, "", DTYPE_STEPS, recipe=recipe, seed=options.seed, wants_dtypes=True)
    told = run_script(job, lambda event: None, subprocess.DEVNULL, is_shown=False).of("dtypes")
    if told:
        sites = told[0]["sites"]
        add_autocast_dtypes(path, {(name, kind): dtype for name, kind, dtype in sites})
