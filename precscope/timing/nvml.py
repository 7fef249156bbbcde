"""NVML through pynvml: one device by its UUID, every reading a number or a reason why there is none.

Only reads: neither clocks nor power limits nor GPM streaming are ever set.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from precscope.timing.reasons import NOT_SUPPORTED, NvmlUnavailable, why

GPU_SCOPE, MODULE_SCOPE = 0, 1
GPU_PREFIX: Final = "GPU-"
ON = 1


class Nvml:
    """NVML and one device of it, from ``open`` to ``close``.

    Attributes:
        pynvml: the module, of whatever version.
        handle: the device.
        reasons: for each reading that failed, why; the first failure of each.
    """

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self.pynvml = pynvml
        self.handle = handle
        self.reasons: dict[str, str] = {}

    @classmethod
    def open(cls, uuid: str | None) -> Nvml:
        """Start NVML and find the device; ordinals differ from CUDA's, UUIDs do not.

        Raises:
            NvmlUnavailable: no pynvml, no library, no driver, or no such device; with the reason.
        """
        pynvml = load_pynvml()
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlUnavailable(why(error)) from None
        try:
            return cls(pynvml, _handle(pynvml, uuid))
        except (pynvml.NVMLError, AttributeError, TypeError) as error:
            shut_down(pynvml)
            raise NvmlUnavailable(f"device {uuid}: {why(error)}") from None

    def close(self) -> None:
        """Undo ``open``; NVML counts its users, torch's own start is not touched."""
        shut_down(self.pynvml)

    def __enter__(self) -> Nvml:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, what: str, call: Callable[[], Any]) -> Any:
        """The answer; None, with the reason kept, if the driver refuses or pynvml is too old."""
        try:
            return call()
        except (self.pynvml.NVMLError, AttributeError) as error:
            self.reasons.setdefault(what, why(error))
            return None

    @property
    def driver(self) -> str | None:
        """Version of the driver."""
        found: str | bytes | None = self.ask("driver", self.pynvml.nvmlSystemGetDriverVersion)
        return found.decode() if isinstance(found, bytes) else found

    @property
    def mig(self) -> bool | None:
        """Whether the device is split into instances, or one of them; False where it cannot be."""
        if self._is_instance():
            return True
        modes = self.ask("mig", lambda: self.pynvml.nvmlDeviceGetMigMode(self.handle))
        if modes is not None:
            return bool(modes[0] == ON)
        if not self.reasons["mig"].startswith(NOT_SUPPORTED):
            return None
        # That is an answer: nothing is missing for which a reason is due.
        del self.reasons["mig"]
        return False

    def _is_instance(self) -> bool:
        pynvml = self.pynvml
        try:
            found = pynvml.nvmlDeviceIsMigDeviceHandle(self.handle)
            return bool(getattr(found, "value", found))
        except (pynvml.NVMLError, AttributeError):
            return False

    @property
    def power_cap_w(self) -> float | None:
        """Power limit in force."""
        found = self.ask(
            "power_cap", lambda: self.pynvml.nvmlDeviceGetEnforcedPowerLimit(self.handle)
        )
        return None if found is None else found / 1e3

    @property
    def max_sm_clock_mhz(self) -> float | None:
        """Highest clock of the multiprocessors."""
        pynvml = self.pynvml
        found: float | None = self.ask(
            "max_sm_clock",
            lambda: pynvml.nvmlDeviceGetMaxClockInfo(self.handle, pynvml.NVML_CLOCK_SM),
        )
        return found

    def clock_mhz(self, which: str) -> float | None:
        """The clock now: ``SM`` or ``MEM``."""
        pynvml = self.pynvml
        found: float | None = self.ask(
            f"{which.lower()}_clock",
            lambda: pynvml.nvmlDeviceGetClockInfo(
                self.handle, getattr(pynvml, f"NVML_CLOCK_{which}")
            ),
        )
        return found

    def energy_j(self) -> float | None:
        """Energy since the driver was loaded; NVML counts in mJ."""
        found = self.ask(
            "energy", lambda: self.pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)
        )
        return None if found is None else found / 1e3

    def power_w(self) -> float | None:
        """Power at this instant (field 186, mW): of the GPU, or of the module that carries it.

        ``nvmlDeviceGetPowerUsage`` is no substitute: it averages over a second since Ampere.
        """
        for scope in (GPU_SCOPE, MODULE_SCOPE):
            found = self.ask("power", lambda scope=scope: self._power_field(scope))  # type: ignore[misc]
            if found is not None:
                self.reasons.pop("power", None)
                return float(found) / 1e3
        return None

    def _power_field(self, scope: int) -> int | None:
        pynvml = self.pynvml
        field = pynvml.nvmlDeviceGetFieldValues(
            self.handle, [(pynvml.NVML_FI_DEV_POWER_INSTANT, scope)]
        )[0]
        if field.nvmlReturn:
            raise pynvml.NVMLError(field.nvmlReturn)
        return int(field.value.uiVal)

    def clock_event_reasons(self) -> int | None:
        """Bit mask of why the clock is not higher; the older name where the new one is missing."""
        pynvml = self.pynvml
        new = "nvmlDeviceGetCurrentClocksEventReasons"
        name = new if hasattr(pynvml, new) else "nvmlDeviceGetCurrentClocksThrottleReasons"
        found: int | None = self.ask(
            "clock_event_reasons", lambda: getattr(pynvml, name)(self.handle)
        )
        return found

    def compute_processes(self) -> int | None:
        """How many processes compute on the device, this one included."""
        found = self.ask(
            "processes", lambda: self.pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        )
        return None if found is None else len(found)


def load_pynvml() -> Any:
    """The module that ``nvidia-ml-py`` installs.

    Raises:
        NvmlUnavailable: it cannot be imported, or is something else of this name.
    """
    try:
        found = importlib.import_module("pynvml")
    except (ImportError, OSError):
        raise NvmlUnavailable("pynvml cannot be imported: pip install nvidia-ml-py") from None
    if not all(hasattr(found, name) for name in ("NVMLError", "nvmlInit", "nvmlShutdown")):
        raise NvmlUnavailable("the module pynvml found here is not that of nvidia-ml-py")
    return found


def shut_down(pynvml: Any) -> None:
    """Undo one ``nvmlInit``; whether it can be undone changes nothing for us."""
    # Somebody else may have shut it down once too often, or the GPU may be lost.
    with suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def _handle(pynvml: Any, uuid: str | None) -> Any:
    if uuid is None:
        raise AttributeError("torch gives no UUID for it")
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        # torch hands on the UUID of an instance without saying that it is one.
        if not uuid.startswith(GPU_PREFIX):
            raise
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid.removeprefix(GPU_PREFIX)}")
        except pynvml.NVMLError:
            pass
        raise


ENERGY_WINDOW_S: Final = 3.0
"""Shortest window for energy per step: the sensor sees a quarter of the time (arXiv 2312.02741)."""
