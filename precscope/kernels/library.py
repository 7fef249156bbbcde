"""Compiles the CPU kernel on first use and hands it out as C functions, one for each format.

A C function called through ctypes costs half a microsecond and releases the GIL. The machine code is
kept in numba's cache on disk: beside the source or, where that is read-only, in the user's cache
directory.
"""

from __future__ import annotations

import ctypes
import pickle
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

Kernel = Callable[[int, int, int, int], None]
"""``kernel(source_address, size, row_address, table_address)`` adds one observation to a row;
``kernel(jobs_address, jobs, 0, table_address)`` one for each job, which is three 64-bit words:
source address, size, row address."""

PROTOTYPE: Final = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)
"""An integer converts fastest as a pointer, even if it is a size."""

CACHE_ERRORS: Final = (RuntimeError, OSError, EOFError, pickle.PickleError)
"""What numba raises where no cache directory is writable, or the cache is full or damaged."""


@dataclass(frozen=True, slots=True)
class FormatKernel:
    """The kernel of one dtype.

    Attributes:
        call: the C function.
        itemsize_bytes: size of one value.
        table_address: address of the 256 float32 values of an 8-bit format, else 0.
        keep_alive: owners of the machine code and of the table.
    """

    call: Kernel
    itemsize_bytes: int
    table_address: int
    keep_alive: tuple[Any, ...] = field(repr=False)


EIGHT_BIT: Final = tuple(
    getattr(torch, name)
    for name in (
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    )
    if hasattr(torch, name)
)
ENTRY_POINTS: Final[dict[torch.dtype, str]] = {
    torch.float32: "observe_float32",
    torch.float64: "observe_float64",
    torch.float16: "observe_float16",
    torch.bfloat16: "observe_bfloat16",
    **dict.fromkeys(EIGHT_BIT, "observe_float8"),
}

KERNELS: Final[dict[torch.dtype, FormatKernel]] = {}
"""Those that are compiled or loaded by now; ``format_kernel`` adds one."""

_lock = threading.Lock()


def format_kernel(dtype: torch.dtype) -> FormatKernel:
    """The kernel for a dtype: compiled or loaded on the first call, a dict lookup afterwards.

    Raises:
        TypeError: the dtype is not a floating-point format that is known here.
    """
    kernel = KERNELS.get(dtype)
    return kernel if kernel is not None else _load(dtype)


def _load(dtype: torch.dtype) -> FormatKernel:
    if dtype not in ENTRY_POINTS:
        known = ", ".join(str(known).removeprefix("torch.") for known in ENTRY_POINTS)
        raise TypeError(f"cannot observe a {dtype} tensor: pass one of {known}")
    with _lock:
        if dtype not in KERNELS:
            KERNELS[dtype] = _build(dtype)
    return KERNELS[dtype]


def _build(dtype: torch.dtype) -> FormatKernel:
    code = _compile(ENTRY_POINTS[dtype])
    call = PROTOTYPE(code.address)
    if dtype not in EIGHT_BIT:
        return FormatKernel(call, dtype.itemsize, 0, (code,))
    table = torch.arange(256, dtype=torch.uint8).view(dtype).to(torch.float32)
    return FormatKernel(call, dtype.itemsize, table.data_ptr(), (code, table))


@cache
def _compile(name: str) -> Any:
    import numba
    from numba.core import types

    from precscope.kernels import compiled
    from precscope.kernels.wide import has_wide_registers

    signature = types.void(types.uint64, types.uint64, types.uint64, types.uint64)
    function = getattr(compiled, name)
    variant = "wide" if has_wide_registers() else "portable"
    try:
        function.__qualname__ = f"{name}_{variant}_{_source_digest()}"
        return numba.cfunc(signature, cache=True)(function)
    except CACHE_ERRORS:
        return numba.cfunc(signature)(function)


def _source_digest() -> str:
    """A checksum of this package. numba's cache only looks at the file of the entry point."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in sources)):08x}"
