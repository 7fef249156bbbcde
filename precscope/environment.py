"""What this run ran on: versions, device, threads."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

import precscope
from precscope.errors import UsageError


def environment(device: torch.device, seed: int, command: str) -> dict[str, Any]:
    """Facts about the machine and the command, as a JSON document. Names no user and no path."""
    return {
        "precscope": precscope.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "seed": seed,
        "target_format": "fp16",
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_name() or platform.processor() or platform.machine()


def _cpu_name() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:  # noqa: PTH123
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return None


def choose_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device if there is one, else the CPU; other names are torch's.

    Raises:
        UsageError: no such kind of device, or none here.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device here for {name!r}: choose --device cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UsageError(f"no CUDA device {name!r} here: the last one is cuda:{count - 1}")
    return device
