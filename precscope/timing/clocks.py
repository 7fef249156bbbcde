"""Clocks: moments that are marked now and told apart later, without waiting for a device."""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

import torch

CPU_CLOCK: Final = "cpu"
CUDA_CLOCK: Final = "CUDA events"

Mark = Any
"""A moment, as its clock keeps it."""


class Clock(Protocol):
    """Marks moments on one line of time."""

    name: str

    def mark(self) -> Mark:
        """This moment; on a device the moment at which its stream arrives here."""

    def is_done(self, mark: Mark) -> bool:
        """Whether the moment has come; never waits."""

    def elapsed_ms(self, start: Mark, end: Mark) -> float:
        """Time between two moments that have come."""

    def free(self, mark: Mark) -> None:
        """The mark is not needed any more."""

    def wait(self) -> None:
        """Until every mark has come. Only before and after a measurement."""


class CpuClock:
    """``time.perf_counter_ns`` of the host; right for work that runs on the host."""

    name = CPU_CLOCK

    def mark(self) -> Mark:
        """Now."""
        return time.perf_counter_ns()

    def is_done(self, mark: Mark) -> bool:
        """It is."""
        return True

    def elapsed_ms(self, start: Mark, end: Mark) -> float:
        """The difference."""
        return float(end - start) / 1e6

    def free(self, mark: Mark) -> None:
        """Nothing was taken."""

    def wait(self) -> None:
        """Nothing is under way."""


class CudaClock:
    """Events of a pool, recorded on the current stream.

    An event holds the time at which its stream got there, launch gaps included. All of them are
    on one device, also those that a hook marks while another one is current: the times of two
    devices are not told apart.

    Args:
        device: of the streams.
        events: made beforehand; more are made when these are in use.
    """

    name = CUDA_CLOCK

    def __init__(self, device: torch.device, events: int = 0) -> None:
        self._device = device
        self._free = [_event() for _ in range(events)]
        self.made = events

    def mark(self) -> Mark:
        """An event on the current stream."""
        if self._free:
            event = self._free.pop()
        else:
            event = _event()
            self.made += 1
        event.record(torch.cuda.current_stream(self._device))
        return event

    def is_done(self, mark: Mark) -> bool:
        """Asks the event, which does not wait."""
        return bool(mark.query())

    def elapsed_ms(self, start: Mark, end: Mark) -> float:
        """By the device."""
        return float(start.elapsed_time(end))

    def free(self, mark: Mark) -> None:
        """Back into the pool."""
        self._free.append(mark)

    def wait(self) -> None:
        """For the whole device."""
        torch.cuda.synchronize(self._device)


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)


def clock_of(device: torch.device) -> Clock:
    """The clock that is right for work on a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
