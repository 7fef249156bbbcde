"""What this machine offers, one check per thing; none of them raises or changes anything."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

State = Literal["ok", "missing", "broken"]


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
    from precscope_cli.gpu_checks import gpu_checks

    yield from gpu_checks(torch)
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


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
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
