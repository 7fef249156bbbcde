"""The flow, once: observe, probe, advise, train, time; every fact into one Recording."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from precscope.advice import advise
from precscope.advice.evidence import Evidence
from precscope.analysis.accumulation_probe import probe_log2_scale
from precscope.analysis.cost import observation_cost
from precscope.analysis.gradient_probe import GradientProbe
from precscope.analysis.observe import observe, probe_steps
from precscope.analysis.options import AnalysisOptions, Progress
from precscope.analysis.range_probe import probe_range, wanted_in_fp32
from precscope.analysis.so_far import SoFar
from precscope.analysis.timing import put_timing
from precscope.analysis.verify import recipes_to_train, verify, with_alternatives
from precscope.environment import choose_device, environment
from precscope.probes.accumulation import measure_accumulation
from precscope.recipe import Recipe
from precscope.recording import Recording, RecordingWriter
from precscope.workload import Session, Workload, check_evaluation


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
    if options.train:
        check_evaluation(workload, options.seed, str(device))
    with _writer(workload, recording_path, options, device, command) as writer:
        progress.phase("observe fp32", options.steps)
        facts = SoFar(writer)
        probe = _StageProbe(facts, len(probe_steps(options.steps)))
        memory_bytes = observe(workload, facts, device, options, probe, progress)
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
    check_evaluation(workload, options.seed, str(device))
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

    def __init__(self, facts: SoFar, stages: int) -> None:
        self._facts = facts
        self._probe = GradientProbe()
        self._stages_left = stages
        self._seconds: dict[str, float] = {}

    def __call__(self, session: Session, batches: list[Any]) -> None:
        self._stages_left -= 1
        is_last = self._stages_left == 0
        with self._timed("gradients"):
            evidence = Evidence(self._facts.recording())
            self._probe(session, batches, evidence, is_last)
        self._put("gradient_probe", self._probe.document())
        if is_last:
            self._last_stage(session, batches[-1], evidence)
        self._seconds["gradients"] += self._facts.seconds
        self._facts.seconds = 0.0
        self._put("probe_seconds", self._seconds)

    def _last_stage(self, session: Session, batch: Any, evidence: Evidence) -> None:
        with self._timed("range"):
            wanted = wanted_in_fp32(evidence)
            found = probe_range(session, batch, wanted, self._probe.breaks)
        self._put("range_probe", found)
        with self._timed("accumulation"):
            log2_scale = probe_log2_scale(evidence, self._probe.arbitration())
            sums = measure_accumulation(session.model, lambda: session.loss(batch), log2_scale)
        self._put("accumulation", sums)

    def _put(self, name: str, document: Any) -> None:
        if document is not None:
            self._facts.put_document(name, document)
            self._facts.flush()

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self._seconds[what] = self._seconds.get(what, 0.0) + elapsed
