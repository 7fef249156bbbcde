"""What the readings say about a timed window: pure functions of readings and its two ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final

from precscope.timing.nvml import ENERGY_WINDOW_S
from precscope.timing.sampler import Reading, Readings

THROTTLES: Final = {
    "power cap": 0x4,
    "hardware slowdown": 0x8,
    "thermal, software": 0x20,
    "thermal, hardware": 0x40,
    "power brake": 0x80,
}
"""Bits of the clock-event mask that mean: slower than the device could."""

UNITS: Final = {
    "power": "W",
    "SM clock": "MHz",
    "memory clock": "MHz",
}

COVERED: Final = 0.8
"""Share of a window that the readings must span for the power between them to be that of it."""

NO_READING: Final = "no reading fell into the window of {:.1f} s"
NO_WHOLE_WINDOW: Final = "no window of the counters lies wholly inside the {:.1f} s that were timed"
NO_SLOPE: Final = "{} readings of the energy counter inside the window: too few, or it did not move"

SHARED: Final = "{} processes compute on this GPU: its energy and counters are not this run's alone"


def inside(readings: Sequence[Reading], first_ns: int, last_ns: int) -> list[Reading]:
    """The readings between the two ends of the timed window."""
    return [reading for reading in readings if first_ns <= reading.time_ns <= last_ns]


def gpm_means(readings: Sequence[Reading], first_ns: int, last_ns: int) -> dict[str, float | None]:
    """Mean of each counter over the windows that lie wholly inside, weighted by their length.

    A window lasts from the reading before to this one; those over an edge are dropped.
    """
    seconds: dict[str, float] = {}
    sums: dict[str, float] = {}
    for before, reading in pairwise(readings):
        if before.time_ns < first_ns or reading.time_ns > last_ns or reading.gpm is None:
            continue
        length = (reading.time_ns - before.time_ns) / 1e9
        for name, value in reading.gpm.items():
            if value is not None:
                seconds[name] = seconds.get(name, 0.0) + length
                sums[name] = sums.get(name, 0.0) + value * length
    return {name: sums[name] / seconds[name] for name in sums if seconds[name] > 0}


def gpm_windows(readings: Sequence[Reading], first_ns: int, last_ns: int) -> int:
    """How many windows of the counters lie wholly inside."""
    return sum(
        before.time_ns >= first_ns and after.time_ns <= last_ns and after.gpm is not None
        for before, after in pairwise(readings)
    )


def mean_power_w(readings: Sequence[Reading]) -> float | None:
    """Energy between the first and the last reading over the time between them.

    None where the energy counter was not read twice, did not move, or once went back.
    """
    counted = [(r.time_ns, r.energy_j) for r in readings if r.energy_j is not None]
    if len(counted) < 2:
        return None
    if any(after < before for (_, before), (_, after) in pairwise(counted)):
        return None
    (start, low), (end, high) = counted[0], counted[-1]
    return (high - low) / ((end - start) / 1e9) if high > low and end > start else None


def throttled_share(readings: Sequence[Reading]) -> float | None:
    """Share of the readings in which a bit of ``THROTTLES`` was set."""
    masks = [r.clock_event_reasons for r in readings if r.clock_event_reasons is not None]
    wanted = sum(THROTTLES.values())
    return sum(bool(mask & wanted) for mask in masks) / len(masks) if masks else None


def summary(
    readings: Readings, first_ns: int, last_ns: int, steps: int, step_ms: float | None = None
) -> dict[str, Any]:
    """The readings of a window of ``steps`` training steps, as the JSON result has them.

    Energy per step is mean power times step time, for windows of at least 3 s and a GPU that this
    process has for itself; counters likewise are dropped where others compute.
    """
    used = inside(readings.taken, first_ns, last_ns)
    window_s = (last_ns - first_ns) / 1e9
    is_shared = (readings.processes or 0) > 1
    is_covered = _span_s(used) >= COVERED * window_s
    power_w = mean_power_w(used) if is_covered and not is_shared else None
    joules = None
    if window_s >= ENERGY_WINDOW_S and power_w is not None and steps:
        joules = power_w * (step_ms / 1e3 if step_ms else window_s / steps)
    counters = {} if is_shared else gpm_means(readings.taken, first_ns, last_ns)
    windows = 0 if is_shared else gpm_windows(readings.taken, first_ns, last_ns)
    return {
        "window_s": window_s,
        "readings": len(used),
        "gpm_windows": windows,
        "mean_power_w": power_w,
        "energy_per_step_j": joules,
        **_clocks(used),
        "throttled_share": throttled_share(used),
        "throttle_reasons": _throttles(used),
        **{f"{name}_percent": value for name, value in counters.items()},
        "processes": readings.processes,
        "reasons": _reasons(readings, used, window_s, windows, power_w),
        "traces": {} if is_shared else traces(used, first_ns),
    }


def _span_s(readings: Sequence[Reading]) -> float:
    return (readings[-1].time_ns - readings[0].time_ns) / 1e9 if readings else 0.0


def _reasons(
    readings: Readings,
    used: Sequence[Reading],
    window_s: float,
    windows: int,
    power_w: float | None,
) -> dict[str, str]:
    """What the sampler could not read, and what its readings are not enough for."""
    found = dict(readings.reasons)
    if (readings.processes or 0) > 1:
        found["shared"] = SHARED.format(readings.processes)
    elif not windows:
        found.setdefault("gpm", NO_WHOLE_WINDOW.format(window_s))
    if not used:
        found["readings"] = NO_READING.format(window_s)
    if window_s < ENERGY_WINDOW_S:
        found["energy_per_step"] = f"a window of {window_s:.1f} s is below the sensor's 3 s"
    elif power_w is None and not {"shared", "energy"} & set(found):
        counted = sum(reading.energy_j is not None for reading in used)
        found["energy_per_step"] = NO_SLOPE.format(counted)
    return found


def _clocks(readings: Sequence[Reading]) -> dict[str, float | None]:
    sm = [r.sm_clock_mhz for r in readings if r.sm_clock_mhz is not None]
    memory = [r.memory_clock_mhz for r in readings if r.memory_clock_mhz is not None]
    return {
        "sm_clock_median_mhz": float(median(sm)) if sm else None,
        "sm_clock_min_mhz": float(min(sm)) if sm else None,
        "memory_clock_median_mhz": float(median(memory)) if memory else None,
    }


def _throttles(readings: Sequence[Reading]) -> list[str]:
    masks = [r.clock_event_reasons or 0 for r in readings]
    return [name for name, bit in THROTTLES.items() if any(mask & bit for mask in masks)]


def traces(readings: Sequence[Reading], first_ns: int) -> dict[str, dict[str, Any]]:
    """Each reading over time, with its unit, in seconds since the window began."""
    lines: dict[str, list[float | None]] = {
        "power": [r.power_w for r in readings],
        "SM clock": [r.sm_clock_mhz for r in readings],
        "memory clock": [r.memory_clock_mhz for r in readings],
    }
    counters = dict.fromkeys(name for r in readings for name in r.gpm or {})
    for name in counters:
        lines[name.replace("_", " ")] = [(r.gpm or {}).get(name) for r in readings]
    seconds = [(r.time_ns - first_ns) / 1e9 for r in readings]
    return {name: _trace(name, seconds, values) for name, values in lines.items() if any(values)}


def _trace(name: str, seconds: list[float], values: list[float | None]) -> dict[str, Any]:
    kept = [(s, v) for s, v in zip(seconds, values, strict=True) if v is not None]
    return {
        "unit": UNITS.get(name, "%"),
        "seconds": [s for s, _ in kept],
        "values": [v for _, v in kept],
    }
