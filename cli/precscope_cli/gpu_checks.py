"""What the GPUs of this machine offer: CUDA, their peaks, NVML, the GPM counters, Triton."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

from precscope_cli.checks import Check

GIB = 2**30

SIMULATED = "runs on the CPU: half precision is simulated there, its step times mean nothing"
NO_NVML = "no power, energy, clocks and counters: times by CUDA events and kernel names remain"
NO_GPM = "the tensor-core share is told by kernel names only"
NO_PEAK = "achieved TFLOP/s only, no share of the peak"
NO_KERNEL = "tensors on the GPU are observed by plain torch operations, many times slower"


def gpu_checks(torch: Any) -> Iterator[Check]:
    """Everything about GPUs; ``torch`` is None where it cannot be imported."""
    devices = list(cuda(torch)) if torch is not None else []
    yield from devices
    indices = range(sum(check.name.startswith("cuda:") for check in devices))
    for index in indices:
        yield peak(torch.cuda.get_device_properties(index).name)
    yield from nvml([uuid_of(torch, index) for index in indices])
    yield triton(torch if len(indices) else None)


def cuda(torch: Any) -> Iterator[Check]:
    """Every CUDA device, or why there is none."""
    if not torch.backends.cuda.is_built():
        yield Check("CUDA", "missing", "this PyTorch is built without it", SIMULATED)
        return
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            yield Check("CUDA", "missing", "no usable device", SIMULATED)
        for index in range(count):
            yield _cuda_device(torch, index)
    except (RuntimeError, AssertionError) as error:
        yield Check("CUDA", "missing", _first_line(error), SIMULATED)


def _cuda_device(torch: Any, index: int) -> Check:
    facts = torch.cuda.get_device_properties(index)
    parts = [
        facts.name,
        f"{facts.total_memory / GIB:.0f} GiB",
        f"sm_{facts.major}{facts.minor}",
        f"{facts.multi_processor_count} SMs",
    ]
    found = ", ".join(parts)
    if facts.major >= 7:
        return Check(f"cuda:{index}", "ok", f"{found}, tensor cores")
    return Check(f"cuda:{index}", "missing", found, "no tensor cores: FP16 saves memory, not time")


def uuid_of(torch: Any, index: int) -> str | None:
    """UUID of a CUDA device, by which NVML knows it."""
    from precscope.timing.identify import device_uuid

    return device_uuid(index) if torch is not None else None


def peak(name: str) -> Check:
    """Whether the peak rates of a device are known."""
    from precscope.timing.peaks import peak_of

    row = peak_of(name)
    if row is None:
        return Check("Peaks", "missing", f"{name} is not in the table", NO_PEAK)
    rates = [f"FP16 {row.fp16_tflops:.0f}", f"FP32 {row.fp32_tflops:.0f} TFLOP/s"]
    rates += [f"{row.bandwidth_gb_s:.0f} GB/s"] if row.bandwidth_gb_s else []
    return Check("Peaks", "ok", f"{', '.join(rates)}, dense")


def nvml(uuids: list[str | None]) -> Iterator[Check]:
    """NVML and its driver, then the readings and counters of each CUDA device."""
    from precscope.timing.nvml import load_pynvml, shut_down
    from precscope.timing.reasons import NvmlUnavailable, why

    try:
        pynvml = load_pynvml()
        pynvml.nvmlInit()
    except NvmlUnavailable as missing:
        yield Check("NVML", "missing", str(missing), NO_NVML)
        return
    except pynvml.NVMLError as error:
        yield Check("NVML", "missing", f"{_package()}: {why(error)}", NO_NVML)
        return
    try:
        driver = f"driver {pynvml.nvmlSystemGetDriverVersion()}"
        seen = pynvml.nvmlDeviceGetCount()
        unused = f", {seen} GPU not usable by this PyTorch" if seen and not uuids else ""
        yield Check("NVML", "ok", f"{_package()}, {driver}{unused}")
    except pynvml.NVMLError as error:
        yield Check("NVML", "missing", why(error), NO_NVML)
    finally:
        shut_down(pynvml)
    for index, uuid in enumerate(uuids):
        yield from _nvml_device(index, uuid)


def _nvml_device(index: int, uuid: str | None) -> Iterator[Check]:
    from precscope.timing.nvml import Nvml
    from precscope.timing.reasons import NvmlUnavailable

    try:
        with Nvml.open(uuid) as device:
            yield _readings(index, device)
            yield _gpm(index, device)
            yield from _others(index, device)
    except NvmlUnavailable as missing:
        yield Check(f"NVML {index}", "missing", str(missing), NO_NVML)


def _readings(index: int, device: Any) -> Check:
    readings: dict[str, Callable[[], Any]] = {
        "power": device.power_w,
        "energy": device.energy_j,
        "clocks": lambda: device.clock_mhz("SM"),
        "reasons for low clocks": device.clock_event_reasons,
    }
    readable = {name: read() is not None for name, read in readings.items()}
    found = ", ".join(name for name, works in readable.items() if works) or "nothing readable"
    lacking = ", ".join(name for name, works in readable.items() if not works)
    cap = device.power_cap_w
    found += f"; power cap {cap:.0f} W" if cap else ""
    if not lacking:
        return Check(f"NVML {index}", "ok", found)
    reason = next(iter(device.reasons.values()), "")
    return Check(f"NVML {index}", "missing", found, f"not in reports: {lacking} ({reason})")


def _gpm(index: int, device: Any) -> Check:
    from precscope.timing.gpm import Gpm
    from precscope.timing.reasons import NvmlUnavailable

    try:
        counters = Gpm(device)
        try:
            counters.next_window()
        finally:
            counters.close()
    except NvmlUnavailable as missing:
        return Check(f"GPM {index}", "missing", str(missing), NO_GPM)
    return Check(f"GPM {index}", "ok", "counters of tensor cores, SMs and memory, permitted")


def _others(index: int, device: Any) -> Iterator[Check]:
    count = device.compute_processes()
    if count is not None and count > 1:
        found = f"{count} processes compute on GPU {index}"
        yield Check("Shared", "missing", found, "energy and counters would not be this run's alone")


def triton(torch: Any) -> Check:
    """Triton, and whether the kernel that observes tensors compiles and runs on the GPU."""
    version = _version("triton")
    if version is None:
        return Check("Triton", "missing", "not installed", NO_KERNEL)
    if torch is None:
        return Check("Triton", "ok", f"{version}; its kernel is not tried without a CUDA device")
    from precscope.kernels import new_rows, observe
    from precscope.kernels.device import why_no_kernel

    try:
        observe(torch.ones(1000, device="cuda"), new_rows(1, "cuda")[0])
        torch.cuda.synchronize()
        reason = why_no_kernel("cuda")
    except RuntimeError as error:
        reason = _first_line(error)
    if reason is None:
        return Check("Triton", "ok", f"{version}, the kernel runs")
    return Check("Triton", "missing", f"{version}: {reason}", NO_KERNEL)


def _package() -> str:
    return f"nvidia-ml-py {_version('nvidia-ml-py') or '(unknown version)'}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
