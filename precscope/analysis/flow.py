"""The flow, once: observe, probe, advise, train, time; every fact into one Recording."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from precscope.advice import advise
from precscope.analysis.accumulation_probe import probe_accumulation
from precscope.analysis.cost import observation_cost
from precscope.analysis.gradient_probe import GradientProbe
from precscope.analysis.observe import observe, probe_steps
from precscope.analysis.options import AnalysisOptions, Progress
from precscope.analysis.range_probe import probe_range, wanted_in_fp32
from precscope.analysis.timing import put_timing
from precscope.analysis.verify import recipes_to_train, verify, with_alternatives
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
        probe = _StageProbe(writer, recording_path, len(probe_steps(options.steps)))
        memory_bytes = observe(workload, writer, device, options, probe, progress)
        progress.phase("cost of observing", None)
        cost = observation_cost(workload, device, options)
        writer.put_document("cost", {**cost, "observer_memory_bytes": memory_bytes})
        writer.flush()
        advised = None
        if options.train:
            advice = advise(Recording.open(recording_path))
            advised = advice.recipe
            options = with_alternatives(options, advice.master_weights)
            verify(workload, writer, device, options, advised, progress)
        put_timing(writer, workload, device, options.seed, advised, progress)
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
        put_timing(writer, workload, device, options.seed, None, progress)
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
    """Tries loss scales at each stage of the training, and looks at its sums at the last one."""

    def __init__(self, writer: RecordingWriter, path: Path, stages: int) -> None:
        self._writer = writer
        self._path = path
        self._probe = GradientProbe()
        self._stages_left = stages
        self._seconds: dict[str, float] = {}

    def __call__(self, session: Session, batches: list[Any]) -> None:
        self._writer.flush()
        with self._timed("gradients"):
            so_far = Recording.open_own(self._path)
            self._probe(session, batches, so_far, is_last=self._stages_left == 1)
        self._put("gradient_probe", self._probe.document())
        self._stages_left -= 1
        if self._stages_left == 0:
            probed = so_far.with_documents({"gradient_probe": self._probe.document()})
            self._last_stage(session, batches[-1], probed)
        self._put("probe_seconds", self._seconds)

    def _last_stage(self, session: Session, batch: Any, so_far: Recording) -> None:
        with self._timed("range"):
            found = probe_range(session, batch, wanted_in_fp32(so_far))
        self._put("range_probe", found)
        with self._timed("accumulation"):
            sums = probe_accumulation(session, batch, so_far)
        self._put("accumulation", sums)

    def _put(self, name: str, document: Any) -> None:
        if document is not None:
            self._writer.put_document(name, document)
            self._writer.flush()

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self._seconds[what] = self._seconds.get(what, 0.0) + elapsed
