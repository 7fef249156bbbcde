"""A stand-in for ``libnvidia-ml.so.1``: it fills the structures that the real pynvml hands it.

Everything but the library is real: pynvml's functions, structures and errors. The numbers are those
that NVML's documentation describes; none was recorded on hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

OK, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, TOO_SMALL = 0, 3, 4, 6, 7
FUNCTION_MISSING = 13
UUID = "GPU-00000000-1111-2222-3333-444444444444"
NAN = float("nan")
MILLIJOULES_PER_READING = 140_000


class Library:
    """The C functions of NVML for one H100.

    Args:
        failing: return codes by function.
        missing: functions that this driver does not have.
        gpm: percentages by metric id; NaN is what NVML gives for a window without a sample.
        gpm_returns: return codes by metric id.
        supports_gpm: Hopper or newer.
        mig: split into instances.
        processes: that compute on it.
        throttle: the mask of clock-event reasons.
        power_scope: the one that knows the power.
        instance: what CUDA sees is an instance of a split GPU, known by ``MIG-...``.
    """

    def __init__(
        self,
        failing: dict[str, int] | None = None,
        missing: tuple[str, ...] = (),
        gpm: dict[int, float] | None = None,
        gpm_returns: dict[int, int] | None = None,
        supports_gpm: bool = True,
        mig: bool = False,
        processes: int = 1,
        throttle: int = 0,
        power_scope: int = 0,
        instance: bool = False,
    ) -> None:
        self._failing = failing or {}
        self._missing = missing
        self.gpm = {2: 88.0, 5: 61.5, 7: 61.5, 9: 0.0, 10: 37.0, 12: 4.5, 13: 0.5} | (gpm or {})
        self.gpm_returns = gpm_returns or {}
        self._supports_gpm = supports_gpm
        self._mig = mig
        self._processes = processes
        self._throttle = throttle
        self._power_scope = power_scope
        self._instance = instance
        self._millijoules = 10_000_000
        self.inits = 0
        self.open_samples = 0
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name in self.__dict__.get("_missing", ()) or not hasattr(type(self), f"_{name}"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.asked.append(name)
            if name in self._failing:
                return self._failing[name]
            done: int | None = getattr(self, f"_{name}")(*arguments)
            return done or OK

        return call

    def _nvmlInitWithFlags(self, flags: Any) -> None:
        self.inits += 1

    def _nvmlShutdown(self) -> None:
        self.inits -= 1

    def _nvmlSystemGetDriverVersion(self, text: Any, length: Any) -> None:
        text.value = b"999.42.1"

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count._obj.value = 1

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> None:
        """The device needs no contents."""

    def _nvmlDeviceGetHandleByUUID(self, uuid: Any, device: Any) -> int:
        known = UUID.replace("GPU-", "MIG-") if self._instance else UUID
        return OK if uuid.value == known.encode() else NOT_FOUND

    def _nvmlDeviceIsMigDeviceHandle(self, device: Any, answer: Any) -> None:
        answer._obj.value = int(self._instance)

    def _nvmlDeviceGetUUID(self, device: Any, text: Any, length: Any) -> None:
        text.value = UUID.encode()

    def _nvmlDeviceGetMigMode(self, device: Any, current: Any, pending: Any) -> int | None:
        if self._instance:
            return NOT_SUPPORTED
        current._obj.value = pending._obj.value = int(self._mig)
        return None

    def _nvmlDeviceGetEnforcedPowerLimit(self, device: Any, limit: Any) -> None:
        limit._obj.value = 700_000

    def _nvmlDeviceGetMaxClockInfo(self, device: Any, kind: Any, clock: Any) -> None:
        clock._obj.value = 1980

    def _nvmlDeviceGetClockInfo(self, device: Any, kind: Any, clock: Any) -> None:
        clock._obj.value = 1755 if kind.value == pynvml.NVML_CLOCK_SM else 2619

    def _nvmlDeviceGetTotalEnergyConsumption(self, device: Any, energy: Any) -> None:
        self._millijoules += MILLIJOULES_PER_READING
        energy._obj.value = self._millijoules

    def _nvmlDeviceGetFieldValues(self, device: Any, count: Any, values: Any) -> None:
        for value in values._obj:
            assert value.fieldId == 186
            value.nvmlReturn = OK if value.scopeId == self._power_scope else NOT_SUPPORTED
            value.value.uiVal = 652_250

    def _nvmlDeviceGetCurrentClocksEventReasons(self, device: Any, mask: Any) -> None:
        mask._obj.value = self._throttle

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, device: Any, count: Any, out: Any) -> int:
        count._obj.value = self._processes
        return TOO_SMALL if out is None and self._processes else OK

    def _nvmlGpmQueryDeviceSupport(self, device: Any, support: Any) -> None:
        assert support._obj.version == pynvml.NVML_GPM_SUPPORT_VERSION
        support._obj.isSupportedDevice = int(self._supports_gpm)

    def _nvmlGpmSampleAlloc(self, sample: Any) -> None:
        self.open_samples += 1

    def _nvmlGpmSampleFree(self, sample: Any) -> None:
        self.open_samples -= 1

    def _nvmlGpmSampleGet(self, device: Any, sample: Any) -> None:
        """A sample is opaque."""

    def _nvmlGpmMetricsGet(self, request: Any) -> None:
        request = request._obj
        assert request.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        for metric in request.metrics[: request.numMetrics]:
            metric.nvmlReturn = self.gpm_returns.get(metric.metricId, OK)
            metric.value = self.gpm.get(metric.metricId, 0.0)


@contextmanager
def installed(library: Library) -> Iterator[Library]:
    """The real pynvml over this library, as if it had been loaded."""
    cached = dict(pynvml._nvmlGetFunctionPointer_cache)
    before = pynvml.nvmlLib, pynvml._nvmlLib_refcount
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib, pynvml._nvmlLib_refcount = library, 0
    try:
        yield library
    finally:
        pynvml.nvmlLib, pynvml._nvmlLib_refcount = before
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml._nvmlGetFunctionPointer_cache.update(cached)
