"""Where a thread runs, where the system tells and lets it be changed (Linux)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable


def _find_current_cpu() -> Callable[[], int]:
    """``sched_getcpu`` of the C library, or -1 always."""
    try:
        return ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return lambda: -1


current_cpu = _find_current_cpu()
"""``current_cpu()``: number of the processor the calling thread runs on; -1 if unknown."""


def keep_off(cpu: int) -> None:
    """Let the calling thread run on every processor the process may use but ``cpu``.

    Some kernels, in small virtual machines above all, wake a thread on the processor of the one
    that wakes it, and leave it waiting there for milliseconds with another processor idle.
    """
    if sys.platform != "linux" or cpu < 0:
        return
    try:
        others = os.sched_getaffinity(os.getpid()) - {cpu}
        if others:
            os.sched_setaffinity(0, others)
    except OSError:
        return
