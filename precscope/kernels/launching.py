"""Launching on a device: which one, how many programs, and small tables on the way to it."""

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
def programs(device: torch.device) -> int:
    """Programs that fill the device."""
    processors = PROCESSORS_IF_UNKNOWN
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    return processors * PROGRAMS_PER_PROCESSOR
