"""Spans of modules in a step: total time, own time, and the gaps that belong to nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Phase = Literal["forward", "backward", "recomputation"]


@dataclass(frozen=True, slots=True)
class Span:
    """One call of a module in one phase.

    Attributes:
        module: qualified name.
        phase: forward; backward; or the forward again, for a checkpoint, in the backward.
        start_ms: since the step began.
        end_ms: the same.
        callers: modules under way when it was called, wherever in the model they are named.
    """

    module: str
    phase: Phase
    start_ms: float
    end_ms: float
    callers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleTime:
    """Time of one module in one step, all calls together.

    Attributes:
        forward_ms: with the modules inside; None if it was not called.
        backward_ms: the same; None if its ends were not both seen.
        self_ms: of both, without the modules inside.
        recomputed_ms: of forwards repeated in the backward; part of nothing above.
        calls: forwards.
    """

    forward_ms: float | None
    backward_ms: float | None
    self_ms: float
    recomputed_ms: float
    calls: int


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step, taken apart.

    Attributes:
        total_ms: from its start to its end.
        modules: by name.
        gap_ms: time of the step in which no module was under way: loss, optimizer, and waiting.
    """

    total_ms: float
    modules: dict[str, ModuleTime]
    gap_ms: float


def take_apart(total_ms: float, spans: Sequence[Span]) -> StepTimes:
    """The times of every module in a step.

    A module's own time is the union of its spans less the spans of the modules inside it: those
    that are named so (``a.b`` is inside ``a``, everything inside the model ``""``), and those that
    it called. Modules beside each other may overlap in the backward; both have that time.
    """
    by_name: dict[str, list[Span]] = {}
    for span in spans:
        by_name.setdefault(span.module, []).append(span)
    # Also a recomputation is part of the backward of what it is in.
    inner = _inner_intervals(by_name)
    modules = {name: _module(own, inner[name]) for name, own in by_name.items()}
    covered = measure(merged((s.start_ms, s.end_ms) for s in spans))
    return StepTimes(total_ms, modules, max(0.0, total_ms - covered))


Interval = tuple[float, float]


def _inner_intervals(by_name: dict[str, list[Span]]) -> dict[str, list[Interval]]:
    """For each module the merged spans of everything inside it."""
    inner: dict[str, list[Interval]] = {name: [] for name in by_name}
    for name, spans in by_name.items():
        for span in spans:
            for outer in {*_outer(name), *span.callers} - {name}:
                if outer in inner:
                    inner[outer].append((span.start_ms, span.end_ms))
    return {name: merged(intervals) for name, intervals in inner.items()}


def _outer(name: str) -> Iterable[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name


def _module(spans: list[Span], inner: list[Interval]) -> ModuleTime:
    intervals = {
        phase: merged((s.start_ms, s.end_ms) for s in spans if s.phase == phase)
        for phase in ("forward", "backward", "recomputation")
    }
    own = [*intervals["forward"], *intervals["backward"]]
    return ModuleTime(
        forward_ms=measure(intervals["forward"]) if intervals["forward"] else None,
        backward_ms=measure(intervals["backward"]) if intervals["backward"] else None,
        self_ms=sum(uncovered(interval, inner) for interval in own),
        recomputed_ms=measure(intervals["recomputation"]),
        calls=sum(s.phase == "forward" for s in spans),
    )


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The union, as intervals that do not touch."""
    union: list[Interval] = []
    for start, end in sorted(intervals):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        elif end > start:
            union.append((start, end))
    return union


def measure(intervals: Iterable[Interval]) -> float:
    """Summed length."""
    return sum(end - start for start, end in intervals)


def uncovered(interval: Interval, cover: Sequence[Interval]) -> float:
    """Length of an interval outside a union."""
    start, end = interval
    inside = (min(end, e) - max(start, s) for s, e in cover if s < end and e > start)
    return (end - start) - sum(inside)
