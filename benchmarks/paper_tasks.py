"""The work itself: one task in, one cell out. Runs in a process of its own (see paper_pool)."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from paper_plan import ADVISED, EXAMPLES, SLOW_LOG2_RATE, Task, steps_of

from precscope import Recipe, build_result
from precscope.analysis import AnalysisOptions, analyze
from precscope.analysis.observe import observe
from precscope.analysis.sweep import ScaleProbe, static_recipe
from precscope.environment import choose_device
from precscope.recording import Recording, RecordingWriter
from precscope.training import LossScaling, MixedPrecision, TrainingRun, train
from precscope.training.training_run import final_loss
from precscope.workload import Workload, load_workload

CURVE_POINTS = 60
"""A training curve is kept as the means of so many stretches."""

OBSERVED_STEPS = {"quick": 10, "small": 60, "large": 60}
"""Steps of the analysis that gives the advice: what ``precscope analyze`` does by default."""

OBSERVED_OF_RUN = 40
"""Steps of a whole run whose exponents are counted."""

PROBED_LOG2_SCALES = tuple(range(-18, 17))
CLIP_NORM, CLIP_LOG2_SCALE = 1.0, 7
KEPT = (
    "recipe", "description", "seed", "steps", "simulated", "first_loss", "final_loss", "metrics",
    "skipped_steps", "diverged_at", "diverged_reason", "step_ms", "peak_memory_bytes",
    "saved_tensor_bytes", "weight_bytes", "gradient_bytes", "optimizer_bytes",
)  # fmt: skip

Tell = Callable[[int, int], None]
"""``tell(steps done, steps)``."""


class Quiet:
    """A progress that passes on the steps of the phase."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._total = 0

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins."""
        self._total = total or 0

    def advance(self, done: int, note: str = "") -> None:
        """Steps are done."""
        self._tell(done, self._total)


def run_task(task: Task, context: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do it.

    Args:
        task: what.
        context: ``size``, ``device``, and ``recipe`` where the task trains the advised one.
        tell: told about progress.
    """
    started = time.perf_counter()
    workload = load_workload(EXAMPLES / f"{task.domain}.py")
    cell = DOERS[task.kind](workload, task, context, tell)
    return {**cell, "seconds": round(time.perf_counter() - started, 2), **_spent()}


def _spent() -> dict[str, Any]:
    """CPU time and most memory of this process so far: of one task, it does no other."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "memory_bytes": used.ru_maxrss * 1024,
    }


def _trained(workload: Workload, recipe: Recipe, task: Task, context: Any, tell: Tell) -> Any:
    run = train(
        workload,
        recipe,
        steps_of(task.domain, context["size"]),
        task.seed,
        device=context["device"],
        progress=lambda done, steps, _loss: tell(done, steps),
    )
    return _kept(run)


def _kept(run: TrainingRun) -> dict[str, Any]:
    values = run.to_dict()
    return {**{key: values[key] for key in KEPT}, "curve": _curve(run.losses)}


def _curve(losses: tuple[float, ...]) -> list[list[float | None]]:
    """[step, mean loss] of each stretch of the run."""
    stretch = max(1, -(-len(losses) // CURVE_POINTS))
    points = []
    for first in range(0, len(losses), stretch):
        part = losses[first : first + stretch]
        mean = sum(part) / len(part)
        points.append([first, float(f"{mean:.5g}") if mean - mean == 0 else None])
    return points


def _do_train(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    is_advised = task.recipe == ADVISED
    recipe = Recipe.from_dict(context["recipe"]) if is_advised else Recipe.named(task.recipe)
    found: dict[str, Any] = _trained(workload, recipe, task, context, tell)
    return found


def _do_dose(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    found: dict[str, Any] = _trained(workload, static_recipe(int(task.recipe)), task, context, tell)
    return found


def _do_slow(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    """With every learning rate of the example times 2^SLOW_LOG2_RATE."""

    def optimizer(model: torch.nn.Module) -> Any:
        made = workload.optimizer(model)
        for group in made.param_groups:
            group["lr"] *= 2.0**SLOW_LOG2_RATE
        return made

    slowed = dataclasses.replace(workload, optimizer=optimizer)
    found: dict[str, Any] = _trained(slowed, Recipe.named(task.recipe), task, context, tell)
    return found


def _do_probe(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    """Error of the FP16 gradients at each scale, at two stages of an FP32 training."""
    steps = steps_of(task.domain, context["size"])
    probe = ScaleProbe(workload, PROBED_LOG2_SCALES, steps)
    train(
        probe, "fp32", steps, 0, device=context["device"], on_step=probe.on_step,
        progress=lambda done, total, _loss: tell(done, total),
    )  # fmt: skip
    return {"errors": probe.errors()}


def _do_advise(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    """What ``precscope analyze --no-train`` says."""
    steps = OBSERVED_STEPS[context["size"]]
    options = AnalysisOptions(steps=steps, device=context["device"], train=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.precscope"
        result = build_result(analyze(workload, path, options, "paper", Quiet(tell)))
    scale, sums = result["loss_scale"], result["accumulation"]
    return {
        "steps": steps,
        "verdicts": [[v["question"], v["severity"], v["sentence"]] for v in result["verdicts"]],
        "loss_scale": {
            key: scale[key]
            for key in ("verdict", "minimum_log2", "maximum_log2", "recommended_log2", "reason")
        },
        "master_weights": {key: result["master_weights"][key] for key in ("verdict", "reason")},
        "accumulation": sums["counts"] if sums["sites"] else {},
        "recipe": result["recipe"],
    }


def _do_histograms(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    """Exponents over a whole FP32 run, all sites of a kind together."""
    steps = steps_of(task.domain, context["size"])
    every = max(1, steps // OBSERVED_OF_RUN)
    options = AnalysisOptions(steps=steps, every=every, device=context["device"], train=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.precscope"
        with RecordingWriter(path, {"title": task.domain}) as writer:
            device = choose_device(context["device"])
            observe(workload, writer, device, options, lambda *_: None, Quiet(tell))
        sites = build_result(Recording.open(path))["sites"]
    kinds = ("weight_gradient", "activation_gradient")
    return {"every": every, **{kind: _together(sites, kind) for kind in kinds}}


def _together(sites: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    counts: dict[int, int] = {}
    zeros = 0
    for histogram in (site["histogram"] for site in sites if site["kind"] == kind):
        zeros += histogram["zeros"]
        for offset, count in enumerate(histogram["counts"]):
            exponent = histogram["first_exponent"] + offset
            counts[exponent] = counts.get(exponent, 0) + count
    return {"zeros": zeros, "counts": {str(e): counts[e] for e in sorted(counts) if counts[e]}}


def _do_clip(workload: Workload, task: Task, context: Any, tell: Tell) -> dict[str, Any]:
    """Final losses with clipping in FP32, after unscaling, and of gradients still scaled."""
    scaling = LossScaling(kind="static", log2_initial=CLIP_LOG2_SCALE)
    scaled = dataclasses.replace(Recipe.named("fp16"), loss_scaling=scaling, scaler="precscope")
    steps = max(10, steps_of(task.domain, context["size"]) // 4)
    arms = {"fp32": ("fp32", True), "after": (scaled, True), "before": (scaled, False)}
    found = {}
    for name, (recipe, unscale_first) in arms.items():
        losses = _clipped(workload, recipe, unscale_first, steps, context, tell)
        found[name] = final_loss(losses)
    return {"clip": found, "steps": steps, "log2_scale": CLIP_LOG2_SCALE}


def _clipped(
    workload: Workload,
    recipe: str | Recipe,
    unscale_first: bool,
    steps: int,
    context: Any,
    tell: Tell,
) -> list[float]:
    session = workload.session(0, context["device"])
    losses = []
    with MixedPrecision(session.model, session.optimizer, recipe) as trainer:
        for batch in itertools.islice(session.batches(), steps):
            with trainer.autocast():
                loss = session.loss(batch)
            trainer.backward(loss)
            if unscale_first:
                trainer.unscale()
            torch.nn.utils.clip_grad_norm_(trainer.parameters(), CLIP_NORM)
            trainer.update()
            losses.append(float(loss.detach()))
            tell(len(losses), steps)
    return losses


DOERS = {
    "advise": _do_advise,
    "histograms": _do_histograms,
    "train": _do_train,
    "slow": _do_slow,
    "dose": _do_dose,
    "probe": _do_probe,
    "clip": _do_clip,
}


def work(messages: Connection, task: Task, context: dict[str, Any]) -> None:
    """Do one task, as a process: tell ``messages`` of progress, and send it the cell."""
    # Ctrl-C is for whoever started us, and ends us; what the examples print is no message.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    torch.set_num_threads(1)

    def tell(done: int, steps: int) -> None:
        messages.send({"done": done, "steps": steps})

    try:
        cell = run_task(task, context, tell)
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        cell = {"error": f"{type(error).__name__}: {error}", **_spent()}
    messages.send({"cell": cell})
