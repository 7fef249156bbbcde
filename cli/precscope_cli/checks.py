"""What this machine offers, one check per thing; none of them raises or changes anything."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

State = Literal["ok", "missing", "broken"]

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that precscope can use.

    Attributes:
        name: what it is.
        state: there, not there (something is left out), or not there although needed.
        found: what was found.
        meaning: what follows from a state other than ok; empty otherwise.
    """

    name: str
    state: State
    found: str
    meaning: str = ""


def all_checks() -> Iterator[Check]:
    """Every check in the order in which it is printed."""
    yield Check("Python", "ok", f"{platform.python_version()}, {platform.platform(terse=True)}")
    torch = _imported("torch")
    if torch is None:
        yield Check("PyTorch", "broken", "cannot be imported", "nothing works: pip install torch")
    else:
        instructions = torch.backends.cpu.get_cpu_capability()
        yield Check("PyTorch", "ok", f"{torch.__version__}, kernels for {instructions}")
        yield threads(torch)
        yield from cuda(torch)
    yield from nvml()
    yield triton()
    yield numba()
    yield cache_folder()
    yield working_folder()


def threads(torch: Any) -> Check:
    """Threads that PyTorch uses, beside the processors that this process may use."""
    used, allowed = torch.get_num_threads(), _usable_processors()
    found = f"{used} used by PyTorch, {allowed} processors usable"
    if used <= allowed:
        return Check("Threads", "ok", found)
    meaning = f"they take turns, step times are noisy: set OMP_NUM_THREADS={allowed}"
    return Check("Threads", "missing", found, meaning)


def cuda(torch: Any) -> Iterator[Check]:
    """Every CUDA device, or why there is none."""
    meaning = "runs on the CPU: half precision is simulated there, its step times mean nothing"
    if not torch.backends.cuda.is_built():
        yield Check("CUDA", "missing", "this PyTorch is built without it", meaning)
        return
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            yield Check("CUDA", "missing", "no usable device", meaning)
        for index in range(count):
            yield _cuda_device(torch, index)
    except (RuntimeError, AssertionError) as error:
        yield Check("CUDA", "missing", _first_line(error), meaning)


def nvml() -> Iterator[Check]:
    """NVML's driver and, per GPU, power, energy and the tensor-core counters (GPM)."""
    meaning = "no power, energy or clocks in the report"
    pynvml = _imported("pynvml")
    if pynvml is None:
        yield Check("NVML", "missing", "pynvml cannot be imported", "pip install nvidia-ml-py")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Check("NVML", "missing", _first_line(error), meaning)
        return
    try:
        yield Check("NVML", "ok", f"driver {pynvml.nvmlSystemGetDriverVersion()}")
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _nvml_device(pynvml, index)
    except pynvml.NVMLError as error:
        yield Check("NVML", "missing", _first_line(error), meaning)
    finally:
        pynvml.nvmlShutdown()


def triton() -> Check:
    """Triton, with which kernels for a GPU are compiled."""
    version = _version("triton")
    if version:
        return Check("Triton", "ok", version)
    return Check("Triton", "missing", "not installed", "no kernels can be compiled for a GPU")


def numba() -> Check:
    """Numba, which compiles the kernel that observes tensors on the CPU."""
    module = _imported("numba")
    if module is not None:
        return Check("Numba", "ok", str(module.__version__))
    return Check("Numba", "broken", "cannot be imported", "nothing is observed: pip install numba")


def cache_folder() -> Check:
    """Where compiled kernels can be kept between processes."""
    import precscope

    own = Path(str(precscope.__file__)).parent
    candidates = (os.environ.get("NUMBA_CACHE_DIR"), own, _user_cache())
    folder = next((Path(path) for path in candidates if path and _writable(Path(path))), None)
    if folder:
        return Check("Cache", "ok", str(folder))
    meaning = "kernels are compiled anew in every process: set NUMBA_CACHE_DIR to a folder"
    return Check("Cache", "missing", "no writable folder", meaning)


def working_folder() -> Check:
    """Whether results can be written here."""
    here = Path.cwd()
    if _writable(here):
        return Check("Results", "ok", str(here / "precscope-runs"))
    return Check("Results", "missing", f"{here} is not writable", "name a folder with --output")


def _cuda_device(torch: Any, index: int) -> Check:
    facts = torch.cuda.get_device_properties(index)
    found = f"{facts.name}, {facts.total_memory / GIB:.0f} GiB, sm_{facts.major}{facts.minor}"
    if facts.major >= 7:
        return Check(f"cuda:{index}", "ok", f"{found}, tensor cores")
    return Check(f"cuda:{index}", "missing", found, "no tensor cores: FP16 saves memory, not time")


def _nvml_device(pynvml: Any, index: int) -> Check:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    readings: dict[str, Callable[[], Any]] = {
        "power": lambda: pynvml.nvmlDeviceGetPowerUsage(handle),
        "energy": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle),
        "clocks": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "tensor-core counters": lambda: _require(
            pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice
        ),
    }
    readable = {name: _reads(pynvml, read) for name, read in readings.items()}
    found = ", ".join(name for name, works in readable.items() if works) or "nothing readable"
    lacking = ", ".join(name for name, works in readable.items() if not works)
    state: State = "missing" if lacking else "ok"
    return Check(f"NVML gpu {index}", state, found, f"not in reports: {lacking}" if lacking else "")


def _reads(pynvml: Any, read: Callable[[], Any]) -> bool:
    """Whether a reading works. A too old pynvml lacks the attribute, a too old driver raises."""
    try:
        read()
    except (pynvml.NVMLError, AttributeError):
        return False
    return True


def _require(supported: int) -> None:
    if not supported:
        raise AttributeError("not supported by the device")


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _writable(path: Path) -> bool:
    """Whether the folder, or the one in which it would be made, can be written to."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
