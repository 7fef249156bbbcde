"""The sampler: a thread that reads NVML every 200 ms and stamps each reading."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from precscope.timing.gpm import Gpm
from precscope.timing.nvml import Nvml
from precscope.timing.reasons import NvmlUnavailable

PERIOD_S: Final = 0.2

ANSWER_S: Final = 10.0
"""So long the thread may take to end; a driver that hangs must not hang the training."""

NO_ANSWER: Final = f"NVML did not answer for {ANSWER_S:.0f} s"


@dataclass(frozen=True, slots=True)
class Reading:
    """What NVML said at one moment; None where it did not.

    Attributes:
        time_ns: when the counters were read, on ``perf_counter_ns``; the others follow at once.
        power_w: at this instant.
        energy_j: counter since the driver was loaded.
        sm_clock_mhz: of the multiprocessors.
        memory_clock_mhz: of the memory.
        clock_event_reasons: bit mask, see ``windows.THROTTLES``.
        gpm: percentages over the time since the reading before; None for the first.
    """

    time_ns: int
    power_w: float | None
    energy_j: float | None
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    clock_event_reasons: int | None
    gpm: dict[str, float | None] | None


@dataclass(slots=True)
class Readings:
    """All readings of one window, and why others are missing.

    Attributes:
        taken: in order.
        reasons: by what is missing; ``gpm`` if there are no counters at all.
        processes: processes that computed on the device, the largest number seen.
    """

    taken: list[Reading] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    processes: int | None = None


class Sampler:
    """Reads a device in a daemon thread while the context lasts.

    An error in the thread, or a thread that cannot be had, becomes a reason and ends the sampling;
    it never reaches the caller.
    """

    def __init__(self, nvml: Nvml, period_s: float = PERIOD_S) -> None:
        self._nvml = nvml
        self._period_s = period_s
        self._stop = threading.Event()
        self._gpm: Gpm | None = None
        self._thread = threading.Thread(target=self._run, name="precscope-nvml", daemon=True)
        self.readings = Readings()

    def __enter__(self) -> Sampler:
        try:
            self._gpm = Gpm(self._nvml)
        except NvmlUnavailable as missing:
            self.readings.reasons["gpm"] = str(missing)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.readings.reasons["sampling"] = str(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(ANSWER_S)
        if self._thread.is_alive():
            # What it works on stays: to free it under its hands would crash.
            self.readings.reasons["sampling"] = NO_ANSWER
            return
        if self._gpm is not None:
            self.readings.reasons.update(self._gpm.reasons)
            self._gpm.close()
        self.readings.reasons.update(self._nvml.reasons)

    def _run(self) -> None:
        try:
            while True:
                self.readings.taken.append(self._read())
                self._count_processes()
                if self._stop.wait(self._period_s):
                    return
        except Exception as error:  # noqa: BLE001 - NVML must not end a training
            self.readings.reasons["sampling"] = f"{type(error).__name__}: {error}"

    def _read(self) -> Reading:
        nvml = self._nvml
        before = time.perf_counter_ns()
        gpm = self._window()
        at = (before + time.perf_counter_ns()) // 2
        return Reading(
            time_ns=at,
            energy_j=nvml.energy_j(),
            power_w=nvml.power_w(),
            sm_clock_mhz=nvml.clock_mhz("SM"),
            memory_clock_mhz=nvml.clock_mhz("MEM"),
            clock_event_reasons=nvml.clock_event_reasons(),
            gpm=gpm,
        )

    def _window(self) -> dict[str, float | None] | None:
        if self._gpm is None:
            return None
        try:
            return self._gpm.next_window()
        except NvmlUnavailable as missing:
            self.readings.reasons["gpm"] = str(missing)
            self._gpm.close()
            self._gpm = None
            return None

    def _count_processes(self) -> None:
        found = self._nvml.compute_processes()
        if found is not None:
            self.readings.processes = max(found, self.readings.processes or 0)
