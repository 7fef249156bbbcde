"""What documentation leaves open about the hardware, asked of the hardware."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from gpu_setting import Setting
from torch import nn

from precscope.kernels import new_rows, observe
from precscope.kernels.row import OBSERVATIONS
from precscope.timing.clocks import clock_of
from precscope.timing.gpm import CYCLES, METRICS, Gpm
from precscope.timing.identify import cuda_index, device_uuid
from precscope.timing.kernel_rules import classify, nvjet_formats
from precscope.timing.module_clock import ModuleClock
from precscope.timing.nvml import Nvml
from precscope.timing.profiling import traced
from precscope.timing.reasons import NvmlUnavailable
from precscope.training.cuda_precision import (
    ACCUMULATION,
    cuda_precision,
    float32_products,
    switches,
)

LATE = {"reason": "not asked: the time was up"}
NO_CUDA = {"reason": "needs a CUDA device"}


def questions(setting: Setting) -> dict[str, Any]:
    """Each question by name; one that raises is an answer, too."""
    asked: dict[str, Callable[[Setting], Any]] = {
        "1 GPM: permission, interval, and where each format lands": gpm_values,
        "2 raw cycle counters, metrics 248 to 260": cycle_counters,
        "4 cost of event marks and of observing, per module": marks_per_module,
        "6 stream on which tensor hooks run": hook_stream,
        "7 observing while a CUDA graph is captured": capture,
        # The profiler leaves its callbacks in the driver, and a compiler takes its time: last.
        "3 letters of nvjet with FP16 accumulation": nvjet_letters,
        "5 CUDA graphs of a compiled model that is watched": graphs_kept,
    }
    found: dict[str, Any] = {}
    for name, ask in asked.items():
        found[name] = LATE if setting.is_over else setting.attempt(partial(ask, setting))
        setting.keep(found)
    return found


@contextmanager
def device_nvml(setting: Setting) -> Iterator[Nvml]:
    """NVML of the device."""
    if setting.device.type != "cuda":
        raise NvmlUnavailable("no CUDA device")
    with Nvml.open(device_uuid(cuda_index(setting.device))) as nvml:
        yield nvml


def gpm_values(setting: Setting) -> dict[str, Any]:
    """Counters over a second of one large product after the other, and over short windows."""
    import os

    side = setting.pick(8192, 4096, 16)
    found: dict[str, Any] = {"user_id": os.getuid() if hasattr(os, "getuid") else None}
    works = _products(side, setting)
    try:
        with device_nvml(setting) as nvml:
            gpm = Gpm(nvml)
            for name, work in works.items():
                found[name] = setting.attempt(partial(_window, gpm, work, setting, 1.2))
            for length_s in (0.5, 0.2, 0.15, 0.1, 0.05, 0.02):
                asked = partial(_tensor_shares, gpm, works["FP16"], setting, length_s)
                found[f"FP16, windows of {length_s} s"] = setting.attempt(asked)
            found["reasons"] = gpm.reasons
            gpm.close()
    except NvmlUnavailable as missing:
        found["reason"] = str(missing)
        for work in works.values():
            work()
    return found


def _products(side: int, setting: Setting) -> dict[str, Callable[[], object]]:
    a = torch.randn(side, side, device=setting.device)
    half, brain = a.half(), a.bfloat16()

    def in_float32(tf32: bool) -> Callable[[], object]:
        def call() -> object:
            with cuda_precision(**float32_products(tf32)):
                return a @ a

        return call

    works: dict[str, Callable[[], object]] = {
        "FP16": lambda: half @ half,
        "BF16": lambda: brain @ brain,
        "FP32 without TF32": in_float32(False),
        "TF32": in_float32(True),
    }
    if setting.device.type == "cuda" and torch.cuda.get_device_capability() >= (8, 9):
        eight = a.to(torch.float8_e4m3fn)
        one = torch.ones((), device=setting.device)
        works["FP8"] = lambda: torch._scaled_mm(
            eight, eight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )
    return works


def _tensor_shares(
    gpm: Gpm, work: Callable[[], object], setting: Setting, length_s: float
) -> dict[str, Any]:
    """What the tensor pipe's counter says of five windows of a length."""
    readings = [_window(gpm, work, setting, length_s) for _ in range(5)]
    return {"any_tensor_util": [reading["any_tensor_util"] for reading in readings]}


def _window(
    gpm: Gpm, work: Callable[[], object], setting: Setting, length_s: float
) -> dict[str, float | None]:
    """The counters while the device does nothing but this."""
    for _ in range(3):
        work()
    setting.wait()
    gpm.next_window()
    end = time.perf_counter() + length_s
    while time.perf_counter() < end:
        for _ in range(2):
            work()
        setting.wait()
    return gpm.next_window() or dict.fromkeys(METRICS)


def cycle_counters(setting: Setting) -> dict[str, Any]:
    """Two readings of the counters since boot around a second of FP16 products."""
    try:
        with device_nvml(setting) as nvml:
            gpm = Gpm(nvml, CYCLES)
            a = torch.randn(8192, 8192, device=setting.device).half()
            readings = [_window(gpm, lambda: a @ a, setting, 1.0) for _ in range(2)]
            gpm.close()
            return {"readings": readings, "reasons": gpm.reasons}
    except NvmlUnavailable as missing:
        return {"reason": str(missing)}


def nvjet_letters(setting: Setting) -> dict[str, Any]:
    """Names of the product kernels with FP32 and with FP16 sums, and what the letters would say."""
    side = setting.pick(4096, 2048, 16)
    dtype = torch.bfloat16 if setting.dry else torch.float16
    a = torch.randn(side, side, device=setting.device, dtype=dtype)
    ways: dict[str, dict[str, Any]] = {"FP32 sums": {}}
    if ACCUMULATION in switches():
        ways = {"FP32 sums": {ACCUMULATION: False}, "FP16 sums": {ACCUMULATION: True}}
    return {way: _names(lambda: a @ a, wanted) for way, wanted in ways.items()}


def _names(work: Callable[[], object], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    with cuda_precision(**wanted):
        work()
        trace = traced(nn.Identity(), work, 2)
    names = dict.fromkeys(event.name for event in trace.device)
    return [
        {"name": n, "letters": nvjet_formats(n), "class": classify(n).tensor_cores} for n in names
    ]


def marks_per_module(setting: Setting) -> dict[str, Any]:
    """Step of many small modules: plain, with event marks, and with one observation per module."""
    width, depth = setting.pick(256, 256, 8), setting.pick(200, 100, 4)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth))).to(setting.device)
    x = torch.randn(64, width, device=setting.device)
    rounds = setting.pick(20, 10, 2)

    def step() -> None:
        model(x).sum().backward()

    plain = _host_and_device(step, rounds, setting)
    clock = clock_of(setting.device)
    with ModuleClock(model, clock) as modules:

        def marked() -> None:
            with modules.step():
                step()

        timed = _host_and_device(marked, rounds, setting)
    row = new_rows(1, setting.device)[0]
    handles = [m.register_forward_hook(lambda _m, _i, o: observe(o, row)) for m in model]
    observed = _host_and_device(step, rounds, setting)
    for handle in handles:
        handle.remove()
    found: dict[str, Any] = {"modules": depth, "plain": plain}
    for name, times in (("marked", timed), ("observed", observed)):
        found[name] = times
        for key, value in times.items():
            found[f"{name}_{key}_per_module_us"] = 1e3 * (value - plain[key]) / depth
    return found


def _host_and_device(step: Callable[[], None], rounds: int, setting: Setting) -> dict[str, float]:
    """Time of a step for the host to launch, and until the device is done."""
    launched, done = [], []
    for turn in range(rounds + 2):
        setting.wait()
        start = time.perf_counter()
        step()
        middle = time.perf_counter()
        setting.wait()
        if turn >= 2:
            launched.append((middle - start) * 1e3)
            done.append((time.perf_counter() - start) * 1e3)
    return {"host_ms": median(launched), "step_ms": median(done)}


def graphs_kept(setting: Setting) -> dict[str, Any]:
    """Launches of whole graphs in a reduce-overhead model, plain and watched."""
    if setting.device.type != "cuda":
        return NO_CUDA
    from precscope.monitor import Monitor
    from precscope.monitor.sink import NullSink

    found: dict[str, Any] = {}
    for name in ("plain", "watched"):
        torch._dynamo.reset()
        model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256)).cuda()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        monitor = Monitor(model, optimizer, NullSink()) if name == "watched" else None
        compiled = torch.compile(model, mode="reduce-overhead")
        x = torch.randn(64, 256, device="cuda")

        def step(
            compiled: Any = compiled,
            optimizer: torch.optim.Optimizer = optimizer,
            x: torch.Tensor = x,
        ) -> None:
            torch.compiler.cudagraph_mark_step_begin()
            compiled(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        for _ in range(6):
            step()
        found[name] = _graph_launches(step)
        if monitor is not None:
            monitor.close()
    return found


def _graph_launches(step: Callable[[], None]) -> dict[str, int]:
    from torch.profiler import ProfilerActivity, profile

    with profile(
        activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True
    ) as profiler:
        step()
        torch.cuda.synchronize()
    names = [event.name for event in profiler.events()]
    return {
        "graph_launches": sum("GraphLaunch" in name for name in names),
        "kernel_launches": sum("LaunchKernel" in name for name in names),
    }


def hook_stream(setting: Setting) -> dict[str, Any]:
    """Whether a tensor hook's current stream is that of the forward, also on a side stream."""
    if setting.device.type != "cuda":
        return NO_CUDA
    found = {}
    side = torch.cuda.Stream()
    for name, stream in (("default", torch.cuda.default_stream()), ("side", side)):
        seen: list[int] = []
        with torch.cuda.stream(stream):
            x = torch.randn(64, 64, device="cuda", requires_grad=True)
            y = x @ x

            def look(_gradient: torch.Tensor, seen: list[int] = seen) -> None:
                seen.append(torch.cuda.current_stream().cuda_stream)

            y.register_hook(look)
            loss = y.sum()
        torch.cuda.synchronize()
        loss.backward()
        torch.cuda.synchronize()
        found[f"{name} stream"] = {"forward": stream.cuda_stream, "hook": seen}
    return found


def capture(setting: Setting) -> dict[str, Any]:
    """A captured observation, replayed three times, must count three times."""
    if setting.device.type != "cuda":
        return NO_CUDA
    x, row = torch.randn(100_000, device="cuda").half(), new_rows(1, "cuda")[0]
    observe(x, row)
    torch.cuda.synchronize()
    row.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        observe(x, row)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    return {"observations": int(row[OBSERVATIONS]), "expected": 3, "counts": int(row[8:285].sum())}
