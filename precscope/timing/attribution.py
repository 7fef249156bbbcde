"""Kernel, operator, module: who launched what, and what a module's kernels say together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from precscope.timing.eligible import is_eligible, shape_advice
from precscope.timing.kernel_rules import TensorCores, classify
from precscope.timing.trace import (
    OPTIMIZER_PREFIX,
    RANGE_PREFIX,
    DeviceEvent,
    HostEvent,
    Trace,
)

OPTIMIZER: Final = "(optimizer)"
OUTSIDE: Final = "(outside the modules)"
FLOATING: Final = ("c10::", "float", "double")
SLACK_US: Final = 0.005
"""Times since boot have no finer steps in a float than 1 ns, and an end is a sum of two."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel with its operator and module.

    Attributes:
        name: of the kernel.
        duration_us: how long it ran.
        operator: innermost operator that launched it; None if the trace has none.
        module: innermost module in whose forward, or whose backward, that was.
        is_backward: in the backward.
        tensor_cores: class of the name.
        rule: what decided it.
        eligible: the operator could use tensor cores in its format on this device.
        advice: what makes its shape less efficient; None if nothing does.
    """

    name: str
    duration_us: float
    operator: str | None
    module: str
    is_backward: bool
    tensor_cores: TensorCores
    rule: str
    eligible: bool
    advice: str | None


@dataclass(slots=True)
class ModuleKernels:
    """The kernels of one module, summed up.

    Attributes:
        time_us: by class.
        eligible_us: of kernels whose operator could use tensor cores.
        used_us: of those among them that did.
        rules: time by the rule that decided.
        advice: shapes that are less efficient, each once.
    """

    time_us: dict[TensorCores, float] = field(
        default_factory=lambda: {"yes": 0.0, "no": 0.0, "unknown": 0.0}
    )
    eligible_us: float = 0.0
    used_us: float = 0.0
    rules: dict[str, float] = field(default_factory=dict)
    advice: dict[str, None] = field(default_factory=dict)

    @property
    def busy_us(self) -> float:
        """All kernels, one after the other."""
        return sum(self.time_us.values())

    @property
    def tensor_cores(self) -> TensorCores:
        """``yes`` if any kernel is, else ``unknown`` if any may be."""
        if self.time_us["yes"] > 0:
            return "yes"
        return "unknown" if self.time_us["unknown"] > 0 else "no"

    @property
    def rule(self) -> str | None:
        """The rule behind the answer that took most of the time."""
        return max(self.rules, key=lambda rule: self.rules[rule], default=None)


def attribute(
    trace: Trace, capability: tuple[int, int], tf32: bool, root: str = ""
) -> list[Kernel]:
    """Every kernel of a trace with its operator and module.

    A kernel names its operator by id, or by its launch, which lies inside the operator. The module
    of a forward operator is the innermost range around it; that of a backward operator is the
    module of the forward operator with the same sequence number on the thread that it names.

    Args:
        trace: of steps with a range around the forward of each module.
        capability: compute capability of the device.
        tf32: whether float32 products may use TF32.
        root: name of the model itself.
    """
    places = Places(trace.host, trace.threads)
    return [_kernel(event, places, trace, capability, tf32, root) for event in trace.device]


class Places:
    """Where each operator stands: its parents, and its module."""

    def __init__(self, host: Sequence[HostEvent], threads: Mapping[int, int]) -> None:
        self.parent = _parents(host)
        self.by_id = {e.external_id: i for i, e in enumerate(host) if not e.is_range}
        self._host = host
        self._threads = threads
        self._forward: dict[int, dict[int, int]] = {}
        self._of_thread: dict[int, list[int]] = {}
        for index, event in enumerate(host):
            self._of_thread.setdefault(event.thread, []).append(index)
            if event.sequence is not None and not event.is_backward and not event.is_range:
                # The last to begin with a number is the one that made the node.
                self._forward.setdefault(event.sequence, {})[event.thread] = index

    def chain(self, index: int | None) -> Iterable[HostEvent]:
        """The event and all that it lies in, from the inside out."""
        while index is not None:
            yield self._host[index]
            index = self.parent[index]

    def at(self, thread: int, time_us: float) -> int | None:
        """The innermost event of a thread at a time."""
        indices = self._of_thread.get(thread, [])
        place = bisect_right(indices, time_us, key=lambda index: self._host[index].start_us) - 1
        found: int | None = indices[place] if place >= 0 else None
        while found is not None and self._host[found].end_us < time_us:
            found = self.parent[found]
        return found

    def module(self, index: int | None) -> tuple[str, bool]:
        """The module of an event, and whether it is of the backward.

        The innermost of ranges and backward operators decides: a forward that a checkpoint repeats
        in the backward has ranges of its own.
        """
        for event in self.chain(index):
            if event.is_range:
                return _module_of(event), False
            if event.is_backward and event.sequence is not None:
                ranges = (e for e in self.chain(self._forward_of(event)) if e.is_range)
                return next((_module_of(e) for e in ranges), OUTSIDE), True
        return OUTSIDE, False

    def _forward_of(self, backward: HostEvent) -> int | None:
        """The operator that made the node; each thread counts sequence numbers for itself.

        A forward that a checkpoint repeats on the thread of a backward has numbers that forwards
        of the main thread have, too.
        """
        known = self._forward.get(backward.sequence or 0, {})
        thread = self._threads.get(backward.forward_thread)
        if thread is not None:
            return known.get(thread)
        earlier = [i for i in known.values() if self._host[i].start_us < backward.start_us]
        return max(earlier, default=None)


def _module_of(event: HostEvent) -> str:
    is_optimizer = event.name.startswith(OPTIMIZER_PREFIX)
    return OPTIMIZER if is_optimizer else event.name.removeprefix(RANGE_PREFIX)


def _parents(host: Sequence[HostEvent]) -> list[int | None]:
    """For each event the innermost one of its thread that it lies in."""
    open_events: dict[int, list[int]] = {}
    parents: list[int | None] = []
    for index, event in enumerate(host):
        stack = open_events.setdefault(event.thread, [])
        while stack and host[stack[-1]].end_us < event.end_us - SLACK_US:
            stack.pop()
        parents.append(stack[-1] if stack else None)
        stack.append(index)
    return parents


def _kernel(
    event: DeviceEvent,
    places: Places,
    trace: Trace,
    capability: tuple[int, int],
    tf32: bool,
    root: str,
) -> Kernel:
    index = places.by_id.get(event.external_id) if event.external_id is not None else None
    if index is None and event.correlation in trace.launches:
        index = places.at(*trace.launches[event.correlation])
    module, is_backward = places.module(index)
    operator = next((e for e in places.chain(index) if not e.is_range), None)
    kind = _input_type(operator)
    found = classify(event.name, kind, tf32)
    eligible, advice = False, None
    if operator is not None:
        eligible = is_eligible(operator.name, kind, tf32, capability)
        advice = shape_advice(operator.name, operator.dims, kind, capability) if eligible else None
    return Kernel(
        name=event.name,
        duration_us=event.duration_us,
        operator=operator.name if operator else None,
        module=root if module == "" else module,
        is_backward=is_backward,
        tensor_cores=found.tensor_cores,
        rule=found.rule,
        eligible=eligible,
        advice=advice,
    )


def _input_type(operator: HostEvent | None) -> str | None:
    """Format of the first floating input; a product has its factors in one format."""
    types = operator.types if operator else ()
    return next((kind for kind in types if kind.startswith(FLOATING)), None)


def by_module(kernels: Iterable[Kernel]) -> dict[str, ModuleKernels]:
    """The kernels of each module, summed up; a kernel counts for the innermost module only."""
    modules: dict[str, ModuleKernels] = {}
    for kernel in kernels:
        module = modules.setdefault(kernel.module, ModuleKernels())
        module.time_us[kernel.tensor_cores] += kernel.duration_us
        module.rules[kernel.rule] = module.rules.get(kernel.rule, 0.0) + kernel.duration_us
        if kernel.eligible:
            module.eligible_us += kernel.duration_us
            if kernel.tensor_cores == "yes":
                module.used_us += kernel.duration_us
        if kernel.advice:
            module.advice.setdefault(kernel.advice)
    return modules
