"""The passes of a timing, in order; nothing is timed while something else looks.

1. identify the device; 2. count FLOPs of one step; 3. time whole steps of each recipe in blocks that
alternate, NVML read beside; 4. time modules by marks in a run of its own; 5. names of kernels
under the profiler, last, because it leaves its callbacks in the driver.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

import torch

from precscope.errors import PrecscopeError
from precscope.recipe import Recipe
from precscope.timing.clocks import Clock, CudaClock, clock_of
from precscope.timing.flops import Flops, count_flops
from precscope.timing.identify import DeviceFacts, cuda_index, device_uuid, identify
from precscope.timing.module_clock import ModuleClock
from precscope.timing.nvml import Nvml
from precscope.timing.profiling import Profiled, profile_kernels
from precscope.timing.reasons import NvmlUnavailable
from precscope.timing.spans import StepTimes
from precscope.timing.stepping import Stepper, stepping
from precscope.timing.steps import Block, Plan, time_block, warm_up
from precscope.training.sessions import TrainableWorkload

TIME_IS_UP: Final = "the time that was given for the measurement was up"
HALF: Final = {"float16": "fp16", "bfloat16": "bf16"}
FP16_SUMS: Final = "fp16 sums"


@dataclass(slots=True)
class Measurement:
    """Everything that was measured; what could not be is missing, with a reason.

    Attributes:
        device: its facts; None on a CPU.
        clock: name of the clock.
        flops: of one step in float32.
        blocks: timed windows of each recipe, in order.
        peak_memory_bytes: largest of torch, by recipe.
        module_steps: steps of the subject, taken apart.
        module_step_ms: median of those steps: beside ``blocks`` it tells what the marks cost.
        profiled: kernels of each recipe.
        arithmetic: of the products of each recipe, see ``arithmetic_of``.
        types: class of each module, by name.
        reasons: by what is missing.
    """

    device: DeviceFacts | None = None
    clock: str = ""
    flops: Flops | None = None
    blocks: dict[str, list[Block]] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)
    module_steps: list[StepTimes] = field(default_factory=list)
    profiled: dict[str, Profiled] = field(default_factory=dict)
    arithmetic: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def measure(
    workload: TrainableWorkload,
    recipes: Sequence[Recipe],
    subject: str,
    device: torch.device,
    seed: int,
    plan: Plan,
    tell: Callable[[Measurement], object] = bool,
) -> Measurement:
    """Run all passes on a CUDA device.

    The statistics of torch's allocator are reset for each block, ``max_memory_allocated`` among them.
    After ``plan.limit_s`` no pass is begun any more, and one that fails, or does not fit the
    device's memory, is left out; what is missing has its reason.

    Args:
        workload: what is trained.
        recipes: to time, the baseline first.
        subject: name of the recipe whose modules are timed.
        device: a CUDA device.
        seed: of weights and batches.
        plan: how long.
        tell: takes what there is after each pass, in case that the rest never comes.

    Raises:
        UsageError: a recipe cannot be followed on this device.
        WorkloadError: the model file is at fault.
    """
    found = Measurement(clock=clock_of(device).name)
    ends_at = time.monotonic() + plan.limit_s
    with torch.cuda.device(device), opened_nvml(device, found.reasons) as nvml:
        found.device = identify(device, nvml)
        with _if_it_runs("flops", "fp32", found):
            found.flops = flops_of(workload, device, seed)
        for turn in range(plan.rounds):
            if turn and not _has_time(ends_at - plan.rest_s, "blocks", found):
                break
            for recipe in recipes:
                if _has_time(ends_at, "blocks", found):
                    with _if_it_runs("blocks", recipe.name, found):
                        _time(workload, recipe, device, seed, plan, nvml, found)
                    tell(found)
        chosen = next(recipe for recipe in recipes if recipe.name == subject)
        if _has_time(ends_at, "modules", found):
            with _if_it_runs("modules", chosen.name, found):
                time_modules(workload, chosen, device, seed, plan, found)
            tell(found)
        # The subject first: its kernels are those that modules are told by.
        for recipe in sorted(recipes, key=lambda recipe: recipe.name != subject):
            if _has_time(ends_at, "kernels", found):
                _profile(workload, recipe, device, seed, found)
                tell(found)
    return found


@contextmanager
def _if_it_runs(what: str, recipe: str, found: Measurement) -> Iterator[None]:
    """A pass that fails is missing, the others are not; what the user can mend is raised."""
    try:
        yield
    except PrecscopeError:
        raise
    except torch.OutOfMemoryError:
        found.reasons.setdefault(what, f"{recipe} does not fit the memory of this device")
        # Its error holds the frames, and with them the tensors, until it is gone.
        gc.collect()
    except Exception as error:  # noqa: BLE001 - what was measured before stays
        found.reasons.setdefault(what, f"{recipe}: {type(error).__name__}: {_first_line(error)}")
        gc.collect()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _has_time(ends_at: float, what: str, found: Measurement) -> bool:
    if time.monotonic() < ends_at:
        return True
    found.reasons.setdefault(what, TIME_IS_UP)
    return False


def arithmetic_of(recipe: Recipe) -> str:
    """What the products of a recipe are computed in: ``fp16``, ``bf16``, ``tf32`` or ``fp32``.

    ``fp16 sums`` are products in FP16 whose sums are, too.
    """
    if recipe.compute_dtype == "float16" and recipe.accumulation == "fp16":
        return FP16_SUMS
    return HALF.get(recipe.compute_dtype, "tf32" if recipe.tf32 else "fp32")


def opened_nvml(
    device: torch.device, reasons: dict[str, str]
) -> AbstractContextManager[Nvml | None]:
    """NVML for a CUDA device; None, with the reason put down, where there is none."""
    try:
        return Nvml.open(device_uuid(cuda_index(device)))
    except NvmlUnavailable as missing:
        reasons["nvml"] = str(missing)
        return nullcontext()


def flops_of(workload: TrainableWorkload, device: torch.device, seed: int) -> Flops | None:
    """FLOPs of one forward and backward in float32; None for a workload with steps of its own."""
    with stepping(workload, Recipe.named("fp32"), device, seed) as stepper:
        return count_flops(stepper.model, stepper.forward_backward or stepper.step)


def _time(
    workload: TrainableWorkload,
    recipe: Recipe,
    device: torch.device,
    seed: int,
    plan: Plan,
    nvml: Nvml | None,
    found: Measurement,
) -> None:
    # The model of the block before hangs on its hooks, and would be counted with this one's.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    with stepping(workload, recipe, device, seed) as stepper:
        block = time_block(stepper.step, CudaClock(device, 2 * plan.steps), plan, nvml)
    found.blocks.setdefault(recipe.name, []).append(block)
    found.peak_memory_bytes[recipe.name] = torch.cuda.max_memory_allocated(device)
    found.arithmetic[recipe.name] = arithmetic_of(recipe)


def time_modules(
    workload: TrainableWorkload,
    recipe: Recipe,
    device: torch.device,
    seed: int,
    plan: Plan,
    found: Measurement,
) -> None:
    """Time the modules of a recipe's steps, in a run without other instruments."""
    clock = clock_of(device)
    with stepping(workload, recipe, device, seed) as stepper:
        warm_up(stepper.step, clock, replace(plan, warm_up_s=min(plan.warm_up_s, 5.0)))
        _mark_steps(stepper, clock, plan.steps, found)


def _mark_steps(stepper: Stepper, clock: Clock, steps: int, found: Measurement) -> None:
    found.types = {n: type(m).__name__ for n, m in stepper.model.named_modules()}
    modules = ModuleClock(stepper.model, clock)
    with modules:
        for _ in range(steps):
            with modules.step():
                stepper.step()
    found.module_steps = modules.steps


def _profile(
    workload: TrainableWorkload,
    recipe: Recipe,
    device: torch.device,
    seed: int,
    found: Measurement,
) -> None:
    assert found.device is not None
    capability = found.device.capability
    try:
        with stepping(workload, recipe, device, seed) as stepper:
            profiled = profile_kernels(stepper.model, stepper.step, capability, recipe.tf32)
    except Exception as error:  # noqa: BLE001 - the last pass: what was measured before stays
        told = f"{type(error).__name__}: {_first_line(error)}"
        found.reasons.setdefault("kernels", f"torch.profiler: {told}")
        return
    if profiled.kernels:
        found.profiled[recipe.name] = profiled
    else:
        found.reasons.setdefault("kernels", "torch.profiler saw no kernel: CUPTI is missing")


def measure_on_host(
    workload: TrainableWorkload,
    recipe: Recipe,
    device: torch.device,
    seed: int,
    steps: int,
    limit_s: float,
) -> Measurement:
    """Module times and FLOPs by the host's clock, for a device whose work runs on the host.

    Takes ``steps + 3`` training steps; after the second it gives up if that one took longer than
    ``limit_s``.
    """
    clock = clock_of(device)
    found = Measurement(clock=clock.name)
    with stepping(workload, recipe, device, seed) as stepper:
        stepper.step()
        start = time.perf_counter()
        stepper.step()
        step_s = time.perf_counter() - start
        if step_s > limit_s:
            found.reasons["modules"] = (
                f"a step takes {step_s:.1f} s on this CPU: timing its modules would take {steps}"
            )
            return found
        _mark_steps(stepper, clock, steps, found)
        with _if_it_runs("flops", recipe.name, found):
            found.flops = count_flops(stepper.model, stepper.forward_backward or stepper.step)
    return found
