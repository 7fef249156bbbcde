"""A trace of torch.profiler, read: operators, module ranges, launches and kernels.

The chrome trace is the one form in which all of them come with their links, in every torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RANGE_PREFIX: Final = "precscope module "
KERNEL_KINDS: Final = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCH_KINDS: Final = ("cuda_runtime", "cuda_driver")
OPTIMIZER_PREFIX: Final = "Optimizer.step#"


@dataclass(frozen=True, slots=True)
class HostEvent:
    """An operator or a range on a thread of the host.

    Attributes:
        name: of the operator or the range.
        thread: on which it ran.
        start_us: on the trace's clock.
        end_us: the same.
        external_id: by which kernels name it; None for a range.
        sequence: links a backward operator to its forward one; None if it has none.
        forward_thread: of a backward operator, the profiler's number of the thread that ran its
            forward; 0 for all others.
        dims: shapes of the inputs, [] for those that are none.
        types: formats of the inputs.
        is_range: a range of ours or of an optimizer.
    """

    name: str
    thread: int
    start_us: float
    end_us: float
    external_id: int | None
    sequence: int | None
    forward_thread: int
    dims: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    is_range: bool

    @property
    def is_backward(self) -> bool:
        """Whether it belongs to autograd's backward."""
        return self.forward_thread != 0


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """A kernel, copy or fill on the device.

    Attributes:
        name: of the kernel.
        stream: on which it ran.
        start_us: on the trace's clock.
        duration_us: how long.
        external_id: of the operator that launched it, where the trace says.
        correlation: of the launch.
    """

    name: str
    stream: int
    start_us: float
    duration_us: float
    external_id: int | None
    correlation: int | None


@dataclass(slots=True)
class Trace:
    """What is used of a trace.

    Attributes:
        host: operators and ranges, in order of their start.
        device: kernels, in order of their start.
        launches: thread and time of each launch, by its correlation.
        threads: the thread that each ``forward_thread`` is, as far as the trace tells.
    """

    host: list[HostEvent] = field(default_factory=list)
    device: list[DeviceEvent] = field(default_factory=list)
    launches: dict[int, tuple[int, float]] = field(default_factory=dict)
    threads: dict[int, int] = field(default_factory=dict)


def read_trace(path: Path) -> Trace:
    """The trace that ``profile.export_chrome_trace`` wrote."""
    return parse_trace(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def parse_trace(events: Iterable[Mapping[str, Any]]) -> Trace:
    """The same from its events; those of other kinds are passed over."""
    trace, links = Trace(), _Links()
    for event in events:
        links.look(event)
        if event.get("ph") != "X":
            continue
        kind, args = event.get("cat"), event.get("args", {})
        if kind == "cpu_op" or (kind == "user_annotation" and _is_ours(str(event["name"]))):
            trace.host.append(_host(event, args))
        elif kind in KERNEL_KINDS:
            trace.device.append(_device(event, args))
        elif kind in LAUNCH_KINDS and "correlation" in args:
            trace.launches[int(args["correlation"])] = (_thread(event), float(event["ts"]))
    trace.host.sort(key=lambda e: (e.start_us, -e.end_us))
    trace.device.sort(key=lambda e: e.start_us)
    trace.threads = links.threads(trace.host)
    return trace


class _Links:
    """The arrows of a trace from forward operators to backward ones.

    Operators name threads by the number that the system gives, backward operators the thread of
    their forward by one of the profiler's own. An arrow has the former at both of its ends.
    """

    def __init__(self) -> None:
        self._starts: dict[Any, int] = {}
        self._ends: dict[tuple[int, float], Any] = {}

    def look(self, event: Mapping[str, Any]) -> None:
        """Remember an end of an arrow."""
        if event.get("cat") != "fwdbwd":
            return
        if event.get("ph") == "s":
            self._starts[event["id"]] = _thread(event)
        elif event.get("ph") == "f":
            self._ends[_thread(event), float(event["ts"])] = event["id"]

    def threads(self, host: Iterable[HostEvent]) -> dict[int, int]:
        """By the profiler's number, the system's."""
        found: dict[int, int] = {}
        for event in host:
            link = self._ends.get((event.thread, event.start_us))
            if event.is_backward and link in self._starts:
                found.setdefault(event.forward_thread, self._starts[link])
        return found


def _is_ours(name: str) -> bool:
    return name.startswith((RANGE_PREFIX, OPTIMIZER_PREFIX))


def _thread(event: Mapping[str, Any]) -> int:
    return int(event["tid"])


def _host(event: Mapping[str, Any], args: Mapping[str, Any]) -> HostEvent:
    start = float(event["ts"])
    sequence = args.get("Sequence number")
    return HostEvent(
        name=str(event["name"]),
        thread=_thread(event),
        start_us=start,
        end_us=start + float(event["dur"]),
        external_id=args.get("External id"),
        sequence=sequence,
        forward_thread=int(args.get("Fwd thread id") or 0),
        dims=tuple(_shape(shape) for shape in args.get("Input Dims", ())),
        types=tuple(str(kind) for kind in args.get("Input type", ())),
        is_range=event["cat"] == "user_annotation",
    )


def _shape(shape: Sequence[Any]) -> tuple[int, ...]:
    # Of a list of tensors the trace has a list of shapes.
    return tuple(size for size in shape if isinstance(size, int))


def _device(event: Mapping[str, Any], args: Mapping[str, Any]) -> DeviceEvent:
    return DeviceEvent(
        name=str(event["name"]),
        stream=int(args.get("stream", 0)),
        start_us=float(event["ts"]),
        duration_us=float(event["dur"]),
        external_id=args.get("External id"),
        correlation=args.get("correlation"),
    )


def busy_us(events: Iterable[DeviceEvent]) -> float:
    """Time in which at least one kernel ran: the union of their intervals, over all streams."""
    total, end = 0.0, float("-inf")
    for event in sorted(events, key=lambda e: e.start_us):
        finish = event.start_us + event.duration_us
        total += max(0.0, finish - max(end, event.start_us))
        end = max(end, finish)
    return total
