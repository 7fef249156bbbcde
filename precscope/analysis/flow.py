"""The flow, once: observe, probe, advise, train, time; every fact into one Recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from precscope.advice import advise
from precscope.analysis.cost import observation_cost
from precscope.analysis.gradient_probe import GradientProbe
from precscope.analysis.observe import observe
from precscope.analysis.options import AnalysisOptions, Progress
from precscope.analysis.verify import recipes_to_train, verify
from precscope.environment import choose_device, environment
from precscope.recipe import Recipe
from precscope.recording import Recording, RecordingWriter
from precscope.workload import Session, Workload


def analyze(
    workload: Workload,
    recording_path: Path,
    options: AnalysisOptions,
    command: str,
    progress: Progress,
) -> Recording:
    """Observe in FP32, probe, advise, train the recipes, time the observers.

    The Recording at ``recording_path`` is durable after every phase: whatever ends the analysis
    early, what was measured until then can be reported.

    Raises:
        WorkloadError: the model file is at fault.
        UsageError: an unknown recipe or device.
        RecordingError: the Recording cannot be written.
    """
    device = choose_device(options.device)
    recipes_to_train(options, Recipe.named("fp32"))
    with _writer(workload, recording_path, options, device, command) as writer:
        progress.phase("observe fp32", options.steps)
        probe = _StageProbe(writer, recording_path)
        memory_bytes = observe(workload, writer, device, options, probe, progress)
        progress.phase("cost of observing", None)
        cost = observation_cost(workload, device, options)
        writer.put_document("cost", {**cost, "observer_memory_bytes": memory_bytes})
        writer.flush()
        if options.train:
            advised = advise(Recording.open(recording_path)).recipe
            verify(workload, writer, device, options, advised, progress)
    return Recording.open(recording_path)


def train_only(
    workload: Workload,
    recording_path: Path,
    options: AnalysisOptions,
    command: str,
    progress: Progress,
) -> Recording:
    """Train the named recipes and record what came of it, without observing anything.

    Raises:
        UsageError: ``advised`` is among the recipes: only an analysis knows it.
        WorkloadError: the model file is at fault.
    """
    device = choose_device(options.device)
    recipes_to_train(options, None)
    with _writer(workload, recording_path, options, device, command) as writer:
        verify(workload, writer, device, options, None, progress)
    return Recording.open(recording_path)


def _writer(
    workload: Workload,
    path: Path,
    options: AnalysisOptions,
    device: torch.device,
    command: str,
) -> RecordingWriter:
    meta: dict[str, Any] = {"title": workload.name}
    writer = RecordingWriter(path, meta)
    writer.put_document("environment", environment(device, options.seed, command))
    writer.put_document("workload", {"default_optimizer": workload.default_optimizer})
    writer.flush()
    return writer


class _StageProbe:
    """Tries loss scales at a stage of the training and stores what came of it."""

    def __init__(self, writer: RecordingWriter, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._probe = GradientProbe()

    def __call__(self, session: Session, batches: list[Any]) -> None:
        self._writer.flush()
        self._probe(session, batches, Recording.open(self._path))
        document = self._probe.document()
        if document is not None:
            self._writer.put_document("gradient_probe", document)
            self._writer.flush()
