"""A few steps under torch.profiler, with a range around the forward of each module."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.compiler import is_compiling
from torch.profiler import ProfilerActivity, profile, record_function

from precscope.monitor.hook import Calling
from precscope.timing.attribution import Kernel, attribute
from precscope.timing.trace import RANGE_PREFIX, Trace, busy_us, read_trace

STEPS: Final = 3
WARM_UP_STEPS: Final = 3


@dataclass(frozen=True, slots=True)
class Profiled:
    """Kernels of some steps.

    Attributes:
        steps: how many.
        kernels: all of them.
        busy_ms: per step, time in which at least one kernel ran.
    """

    steps: int
    kernels: list[Kernel]
    busy_ms: float


def profile_kernels(
    model: nn.Module,
    step: Callable[[], object],
    capability: tuple[int, int],
    tf32: bool,
    steps: int = STEPS,
) -> Profiled:
    """Profile ``steps`` steps after a warm-up; tracing needs no permission, counters would."""
    for _ in range(WARM_UP_STEPS):
        step()
    trace = traced(model, step, steps)
    kernels = attribute(trace, capability, tf32)
    return Profiled(steps, kernels, busy_us(trace.device) / 1e3 / steps)


def traced(model: nn.Module, step: Callable[[], object], steps: int) -> Trace:
    """The trace of ``steps`` steps."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    # acc_events changes nothing in a single cycle, but torch warns at each profile without it.
    profiler = profile(activities=activities, record_shapes=True, acc_events=True)
    with module_ranges(model), profiler:
        for _ in range(steps):
            step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory(prefix="precscope-") as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return read_trace(path)


@contextmanager
def module_ranges(model: nn.Module) -> Iterator[None]:
    """A named range around the forward of each module."""
    opened: list[tuple[nn.Module, Any]] = []
    handles = []

    def leave(module: nn.Module, *_: Any) -> None:
        if opened and opened[-1][0] is module:
            opened.pop()[1].__exit__(None, None, None)

    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue

        def enter(module: nn.Module, *_: Any, name: str = name) -> None:
            if not is_compiling():
                found = record_function(f"{RANGE_PREFIX}{name}")
                found.__enter__()
                opened.append((module, found))

        before, behind = module._forward_pre_hooks, module._forward_hooks
        handles.append(module.register_forward_pre_hook(Calling(before, enter)))
        # Also after an exception: a checkpoint ends what it repeats with one.
        handles.append(module.register_forward_hook(Calling(behind, leave), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
