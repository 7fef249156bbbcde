"""Timing of a workload: all passes on CUDA; on a CPU the times of the modules, if they are cheap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from precscope.analysis.options import Progress
from precscope.recipe import Recipe
from precscope.recording import RecordingWriter
from precscope.timing.document import timing_document
from precscope.timing.identify import NO_CUDA
from precscope.timing.measure import arithmetic_of, measure, measure_on_host
from precscope.timing.steps import Plan
from precscope.workload import Workload

CPU_STEPS: Final = 5
CPU_STEP_LIMIT_S: Final = 0.5
"""A longer step is not timed module by module on a CPU: eight of them would be noticed."""

NO_CLOCK: Final = "only CUDA devices and the CPU are timed"


def put_timing(
    writer: RecordingWriter,
    workload: Workload,
    device: torch.device,
    seed: int,
    advised: Recipe | None,
    progress: Progress,
) -> None:
    """Time the workload and store the document ``timing``; a failure is stored as its reason.

    On CUDA ``fp32``, ``tf32``, ``fp16`` and the advised recipe are timed in turn; the modules are
    those of the advised one, of ``fp16`` where there is none.
    """
    is_cuda = device.type == "cuda"
    progress.phase("time of recipes and modules" if is_cuda else "time of each module", None)
    half = Recipe.named("fp16")
    try:
        found = time_workload(workload, [half], advised or half, device, seed)
    except Exception as error:  # noqa: BLE001 - what was found before is not lost for a timing
        told = (str(error).splitlines() or [""])[0]
        found = without_modules(f"timing failed: {type(error).__name__}: {told}")
    writer.put_document("timing", found)
    writer.flush()


def time_workload(
    workload: Workload,
    recipes: Sequence[Recipe],
    subject: Recipe,
    device: torch.device,
    seed: int,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """The document ``timing`` of a Recording.

    Args:
        workload: what is trained.
        recipes: timed beside each other on CUDA; FP32 comes first in any case.
        subject: whose modules are timed there. On a CPU it is FP32: other recipes are simulated.
        device: where.
        seed: of weights and batches.
        plan: how long; None for the default.

    Raises:
        UsageError: a recipe cannot be followed on this device.
        WorkloadError: the model file is at fault.
    """
    baseline = Recipe.named("fp32")
    if device.type == "cuda":
        chosen = {r.name: r for r in (baseline, Recipe.named("tf32"), *recipes, subject)}
        every = list(chosen.values())
        found = measure(workload, every, subject.name, device, seed, plan or Plan())
        return timing_document(found, subject.name, arithmetic_of(subject))
    if device.type != "cpu":
        return without_modules(NO_CLOCK)
    found = measure_on_host(workload, baseline, device, seed, CPU_STEPS, CPU_STEP_LIMIT_S)
    if not found.module_steps and "modules" in found.reasons:
        return without_modules(found.reasons["modules"], NO_CUDA)
    return timing_document(found, baseline.name, arithmetic_of(baseline))


def without_modules(reason: str, no_gpu_reason: str | None = None) -> dict[str, Any]:
    """The document where nothing was timed.

    Args:
        reason: why no module was.
        no_gpu_reason: why nothing of a GPU is there, if that is another reason.
    """
    missing = ("tensor_cores", "nvml", "device")
    return {
        **dict.fromkeys(missing),
        **{f"{name}_reason": no_gpu_reason or reason for name in missing},
        "modules": [],
        "modules_reason": reason,
        "recipes": [],
    }
