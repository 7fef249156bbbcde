"""Where a device's tensors are counted; how many programs are launched, and small tables for them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final

import torch

PROGRAMS_PER_PROCESSOR: Final = 4
PROCESSORS_IF_UNKNOWN: Final = 32


def sent(table: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small CPU tensor on the device; from pinned memory, so that the host does not wait."""
    return table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current CUDA device, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def is_capturing() -> bool:
    """Whether a CUDA graph is captured on the current stream; never starts CUDA itself."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


@cache
def counting_device(device: torch.device) -> torch.device:
    """Where tensors of a device are counted: there, or on the CPU if it has no float64.

    Rows hold float64 sums. Apple's MPS and some GPUs of Intel refuse the format.
    """
    if device.type in ("cpu", "cuda"):
        return device
    try:
        torch.zeros(1, dtype=torch.float64, device=device).add_(1.0)
    except (TypeError, RuntimeError, AssertionError):
        return torch.device("cpu")
    return device


@cache
def programs(device: torch.device) -> int:
    """Programs that fill the device."""
    processors = PROCESSORS_IF_UNKNOWN
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    return processors * PROGRAMS_PER_PROCESSOR
