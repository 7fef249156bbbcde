"""The stress axis: one training per static loss scale, beside the gradient error at each."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from precscope.advice.evidence import Evidence
from precscope.analysis.gradient_probe import STEP_BITS
from precscope.analysis.observe import probe_steps
from precscope.analysis.options import Progress, SweepOptions
from precscope.analysis.residual import RememberingSession
from precscope.analysis.so_far import SoFar
from precscope.environment import choose_device, environment
from precscope.facts import GRADIENT_KINDS
from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink
from precscope.probes.shadow_backward import GradientErrors, measure_gradient_errors
from precscope.recipe import LossScaling, Recipe
from precscope.recording import Recording, RecordingWriter
from precscope.training import MixedPrecision
from precscope.training.run import train
from precscope.training.sessions import optimizers_of
from precscope.training.training_run import TrainingRun
from precscope.workload import Workload, check_evaluation
from precscope.workload.optimizers import named_optimizers

KEPT = ("final_loss", "first_loss", "metrics", "skipped_steps", "diverged_at", "steps")
"""What is kept of each run: a sweep is about where it ends."""

RECIPE = "float16 weights, float32 master weights, static loss scale, float32 accumulation"


def scale_sweep(
    workload: Workload,
    recording_path: Path,
    options: SweepOptions,
    command: str,
    progress: Progress,
) -> Recording:
    """Train FP32, probing every scale on the way, then once with each static loss scale.

    The Recording is durable after every run: what was trained before an interruption is kept.

    Raises:
        WorkloadError: the model file is at fault.
        UsageError: a device that this machine does not have.
        RecordingError: the Recording cannot be written.
    """
    device = choose_device(options.device)
    check_evaluation(workload, options.seed, str(device))
    with RecordingWriter(recording_path, {"title": workload.name}) as writer:
        writer.put_document("environment", environment(device, options.seed, command))
        _Sweep(workload, writer, device, options, progress).run()
    return Recording.open(recording_path)


def static_recipe(log2_scale: int) -> Recipe:
    """The paper's recipe with one constant loss scale."""
    return Recipe(
        f"static 2^{log2_scale}",
        RECIPE,
        compute_dtype="float16",
        weights_dtype="float16",
        master_weights=True,
        loss_scaling=LossScaling(kind="static", log2_initial=log2_scale),
        scaler="precscope",
    )


class _Sweep:
    """The runs so far, stored after each of them."""

    def __init__(
        self,
        workload: Workload,
        writer: RecordingWriter,
        device: torch.device,
        options: SweepOptions,
        progress: Progress,
    ) -> None:
        self._workload = workload
        self._writer = writer
        self._device = str(device)
        self._options = options
        self._progress = progress
        self._document: dict[str, Any] = {
            "log2_scales": list(options.log2_scales),
            "steps": options.steps,
            "seed": options.seed,
            "device": self._device,
            "recipe": RECIPE,
            "simulated": device.type == "cpu",
            "fp32": None,
            "probe": None,
            "noise": [],
            "all": {},
            "runs": {},
        }

    def run(self) -> None:
        """FP32 with its probes first, then the scales in ascending order."""
        with ScaleProbe(self._workload, self._options.log2_scales, self._options.steps) as probe:
            fp32 = self._train(Recipe.named("fp32"), "train fp32, probe all scales", probe)
        self._document |= {"fp32": _kept(fp32), "probe": probe.document(), "all": probe.errors()}
        self._document["noise"] = sorted(probe.noise())
        self._store()
        for k in self._options.log2_scales:
            run = self._train(static_recipe(k), f"train at 2^{k}", None)
            self._document["runs"][str(k)] = _kept(run)
            self._store()

    def _train(self, recipe: Recipe, phase: str, probe: ScaleProbe | None) -> TrainingRun:
        self._progress.phase(phase, self._options.steps)
        return train(
            self._workload if probe is None else probe,
            recipe,
            self._options.steps,
            self._options.seed,
            device=self._device,
            progress=lambda done, _total, loss: self._progress.advance(done, f"loss {loss:.4g}"),
            on_step=None if probe is None else probe.on_step,
        )

    def _store(self) -> None:
        self._writer.put_document("scale_sweep", self._document)
        self._writer.flush()


def _kept(run: TrainingRun) -> dict[str, Any]:
    values = run.to_dict()
    return {key: values[key] for key in KEPT}


class ScaleProbe:
    """A workload to train in FP32 that tries every scale on the way, at two stages.

    The gradients of those two steps are observed, to tell those that are rounding error. To be
    left as a context, which takes the observers away.

    Args:
        workload: the real one.
        log2_scales: the scales to try.
        steps: length of the run.
    """

    def __init__(self, workload: Workload, log2_scales: tuple[int, ...], steps: int) -> None:
        self._workload = workload
        self._scales = log2_scales
        self._steps = probe_steps(steps)
        self._session: RememberingSession | None = None
        self._device_type = "cpu"
        self._stages: list[GradientErrors] = []
        self._facts = SoFar(NullSink())
        self._monitor: Monitor | None = None

    def session(self, seed: int, device: str) -> RememberingSession:
        """A session of the workload whose batches are remembered."""
        self._device_type = torch.device(device).type
        self._session = RememberingSession(self._workload.session(seed, device))
        self._monitor = Monitor(
            self._session.model,
            named_optimizers(optimizers_of(self._session)).values(),
            self._facts,
            schedule=self._steps.__contains__,
            kinds=GRADIENT_KINDS,
        )
        return self._session

    def __enter__(self) -> ScaleProbe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def noise(self) -> set[str]:
        """Parameters whose gradient was rounding error in the observed steps."""
        return Evidence(self._facts.recording()).noise

    def on_step(self, step: int, _loss: float, _trainer: MixedPrecision) -> None:
        """Try the scales on the batch of this step."""
        if step not in self._steps or self._session is None or self._monitor is None:
            return
        session = self._session
        with self._monitor.paused():
            found = measure_gradient_errors(
                session.model, session.loss, [session.batch], self._scales, self._device_type
            )
        self._stages.append(found)

    def document(self) -> dict[str, Any]:
        """The worst error of each parameter, as the gradient probe of an analysis stores it."""
        errors: dict[str, dict[str, float | None]] = {str(k): {} for k in self._scales}
        for stage in self._stages:
            found: Any = stage.to_dict()["errors"]
            for k, row in found.items():
                for parameter, error in row.items():
                    errors[k][parameter] = _worse(errors[k].get(parameter, 0.0), error)
        return {"batches": len(self._stages), "floor_log2s": self._floor(errors), "errors": errors}

    def errors(self) -> dict[str, float | None]:
        """Relative error of all parameters as one vector, the worse of the stages, per scale.

        Without those whose gradient is noise, as long as it is finite.
        """
        noise = self.noise()
        return {str(k): self._error_of_all(k, noise) for k in self._scales}

    def _error_of_all(self, k: int, noise: set[str]) -> float | None:
        worst: float | None = 0.0
        for stage in self._stages:
            row = stage.differences[k]
            judged = [p for p in stage.squares if p not in noise or not isfinite(row[p])]
            square = sum(stage.squares[p] for p in judged)
            difference = sum(row[p] for p in judged)
            usable = square > 0.0 and isfinite(square) and isfinite(difference)
            worst = _worse(worst, (difference / square) ** 0.5 if usable else None)
        return worst if self._stages else None

    def _floor(self, errors: dict[str, dict[str, float | None]]) -> list[int]:
        """The largest scale at which nothing overflows, and one three bits or more below it."""
        finite = [k for k in self._scales if None not in errors[str(k)].values()]
        top = max(finite, default=max(self._scales))
        below = [k for k in finite if k <= top - STEP_BITS]
        return [top, max(below)] if below else [top]


def _worse(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else max(a, b)
