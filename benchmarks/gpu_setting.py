"""What every section of the GPU benchmark runs under, and how it measures a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from precscope.timing.clocks import Clock, clock_of


@dataclass(slots=True)
class Setting:
    """Device and extent.

    Attributes:
        device: a CUDA device; the CPU in a dry run.
        quick: fewer sizes and rounds.
        dry: tiny sizes on the CPU, to run every line of code: the numbers mean nothing.
        seconds: a section stops taking up new work after so many.
        begun: when the section began.
        keep: takes what was found so far, for the case that the rest never comes.
    """

    device: torch.device
    quick: bool = False
    dry: bool = False
    seconds: float = 100.0
    begun: float = field(default_factory=time.monotonic)
    keep: Callable[[Any], None] = lambda found: None

    @property
    def clock(self) -> Clock:
        """CUDA events; the host's clock in a dry run."""
        return clock_of(self.device)

    @property
    def left_s(self) -> float:
        """Seconds of the section that are left."""
        return max(0.0, self.seconds - (time.monotonic() - self.begun))

    @property
    def is_over(self) -> bool:
        """Whether the section's time is up."""
        return self.left_s <= 0.0

    def pick(self, full: int, quick: int, dry: int) -> int:
        """The extent that goes with the setting."""
        return dry if self.dry else quick if self.quick else full

    def attempt(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``work`` finds, or its error: what comes after it is still worth having."""
        try:
            return work()
        except Exception as error:
            if self.dry:
                raise
            return {"error": f"{type(error).__name__}: {error}"[:500]}

    def wait(self) -> None:
        """For the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def median_ms(self, call: Callable[[], object], target_s: float = 0.15) -> float:
        """Median time of a call over batches of calls that fill ``target_s``."""
        call()
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        once_s = max(time.perf_counter() - start, 1e-6)
        inner = max(1, min(200, int(0.005 / once_s)))
        rounds = 1 if self.dry else max(3, min(50, int(target_s / (inner * once_s))))
        return median(self.span_ms(call, inner) / inner for _ in range(rounds))

    def span_ms(self, call: Callable[[], object], times: int) -> float:
        """Time of so many calls in a row, by the clock of the device."""
        clock = self.clock
        start = clock.mark()
        for _ in range(times):
            call()
        end = clock.mark()
        clock.wait()
        return clock.elapsed_ms(start, end)
