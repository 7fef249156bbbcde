"""GPM, the counters of Hopper and newer: shares of a window in which a unit was busy.

Two samples of the device are subtracted by NVML. The device refreshes them every 100 ms, so a
window must be longer, and no single kernel or module can be timed this way.
"""

from __future__ import annotations

from math import isnan
from typing import Any, Final

from precscope.timing.nvml import Nvml
from precscope.timing.reasons import NOT_SUPPORTED, NvmlUnavailable, why

METRICS: Final = {
    "sm_util": 2,
    "any_tensor_util": 5,
    "hmma_tensor_util": 7,
    "imma_tensor_util": 9,
    "dram_bandwidth_util": 10,
    "fp32_util": 12,
    "fp16_util": 13,
}
"""Name and NVML's id; all are percentages: of cycles, averaged over the multiprocessors."""

CYCLES: Final = {"sm_cycles_elapsed": 248, "mma_cycles_active": 250, "hmma_cycles_active": 252}
"""Raw counters since boot, with drivers that know them."""

SHORTEST_WINDOW_S: Final = 0.1

NO_GPM: Final = "this device has no GPM counters: they need Hopper or newer"
MIG: Final = "the GPU is split by MIG: its counters belong to instances, not to this process"


class Gpm:
    """Two samples of one device, taken in turn.

    Raises:
        NvmlUnavailable: a device or driver without GPM, no permission, or MIG; with the reason.
    """

    def __init__(self, nvml: Nvml, metrics: dict[str, int] | None = None) -> None:
        _check(nvml)
        self._nvml = nvml
        self._metrics = METRICS if metrics is None else metrics
        self._samples: list[Any] = []
        self._has_first = False
        self.reasons: dict[str, str] = {}
        pynvml = nvml.pynvml
        try:
            self._request = pynvml.c_nvmlGpmMetricsGet_t()
            for _ in range(2):
                self._samples.append(pynvml.nvmlGpmSampleAlloc())
        except (pynvml.NVMLError, AttributeError) as error:
            self.close()
            raise NvmlUnavailable(why(error)) from None

    def next_window(self) -> dict[str, float | None] | None:
        """Every metric over the time since the last call; None the first time.

        A metric that NVML does not give, or gives as NaN, is None, with its reason in ``reasons``.

        Raises:
            NvmlUnavailable: the call as a whole was refused.
        """
        pynvml, handle = self._nvml.pynvml, self._nvml.handle
        try:
            pynvml.nvmlGpmSampleGet(handle, self._samples[1])
            found = self._subtracted() if self._has_first else None
        except (pynvml.NVMLError, AttributeError) as error:
            raise NvmlUnavailable(why(error)) from None
        self._samples.reverse()
        self._has_first = True
        return found

    def _subtracted(self) -> dict[str, float | None]:
        request, pynvml = self._request, self._nvml.pynvml
        request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(self._metrics)
        request.sample1, request.sample2 = self._samples
        for place, number in enumerate(self._metrics.values()):
            request.metrics[place].metricId = number
            request.metrics[place].nvmlReturn = 0
        pynvml.nvmlGpmMetricsGet(request)
        return {
            name: self._value(name, request.metrics[place])
            for place, name in enumerate(self._metrics)
        }

    def _value(self, name: str, metric: Any) -> float | None:
        if metric.nvmlReturn:
            self.reasons.setdefault(name, why(self._nvml.pynvml.NVMLError(metric.nvmlReturn)))
            return None
        if isnan(metric.value):
            self.reasons.setdefault(name, "NVML gave NaN: the window had no new sample")
            return None
        return float(metric.value)

    def close(self) -> None:
        """Free the samples."""
        while self._samples:
            sample = self._samples.pop()
            self._nvml.ask("gpm free", lambda s=sample: self._nvml.pynvml.nvmlGpmSampleFree(s))  # type: ignore[misc]


def _check(nvml: Nvml) -> None:
    """Refuse a device without GPM, in words."""
    if nvml.mig:
        raise NvmlUnavailable(MIG)
    pynvml = nvml.pynvml
    try:
        if not pynvml.nvmlGpmQueryDeviceSupport(nvml.handle).isSupportedDevice:
            raise NvmlUnavailable(NO_GPM)
    except (pynvml.NVMLError, AttributeError) as error:
        text = why(error)
        raise NvmlUnavailable(NO_GPM if text.startswith(NOT_SUPPORTED) else text) from None
