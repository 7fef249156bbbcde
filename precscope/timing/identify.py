"""What the device is: the facts that every timing is read against."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from precscope.timing.nvml import Nvml
from precscope.timing.peaks import peak_of

NO_CUDA = "no CUDA device in this run"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Facts of one CUDA device, by torch and, where it answers, by NVML.

    Attributes:
        name: as the driver gives it.
        uuid: ``GPU-...``, by which NVML finds the same device.
        compute_capability: ``"9.0"``.
        sm_count: multiprocessors.
        memory_bytes: of the device.
        driver: version of the driver; None without NVML.
        cuda: version that torch was built for.
        mig: whether the device is split into instances; None if not known.
        power_cap_w: enforced power limit.
        max_sm_clock_mhz: highest clock that the device may take.
        peak_source: where its peak rates are from; None if it is not in the table.
    """

    name: str
    uuid: str | None
    compute_capability: str
    sm_count: int
    memory_bytes: int
    driver: str | None
    cuda: str | None
    mig: bool | None
    power_cap_w: float | None
    max_sm_clock_mhz: float | None
    peak_source: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @property
    def capability(self) -> tuple[int, int]:
        """Major and minor number of the compute capability."""
        major, minor = self.compute_capability.split(".")
        return int(major), int(minor)


def device_uuid(index: int) -> str | None:
    """UUID of a CUDA device as NVML writes it; None where torch does not know it."""
    found = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    text = None if found is None else str(found)
    if text is None or text.startswith(("GPU-", "MIG-")):
        return text
    return f"GPU-{text}"


def cuda_index(device: torch.device) -> int:
    """Index of a CUDA device; of the current one where it is not named."""
    index: int | None = device.index
    return torch.cuda.current_device() if index is None else index


def identify(device: torch.device, nvml: Nvml | None) -> DeviceFacts:
    """The facts of a CUDA device; those that only NVML knows are None without it."""
    index = cuda_index(device)
    facts = torch.cuda.get_device_properties(index)
    peak = peak_of(facts.name)
    return DeviceFacts(
        name=facts.name,
        uuid=device_uuid(index),
        compute_capability=f"{facts.major}.{facts.minor}",
        sm_count=facts.multi_processor_count,
        memory_bytes=facts.total_memory,
        driver=nvml.driver if nvml else None,
        cuda=torch.version.cuda,
        mig=nvml.mig if nvml else None,
        power_cap_w=nvml.power_cap_w if nvml else None,
        max_sm_clock_mhz=nvml.max_sm_clock_mhz if nvml else None,
        peak_source=peak.source if peak else None,
    )
