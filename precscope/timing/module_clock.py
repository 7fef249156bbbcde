"""Marks at the ends of each module's forward and backward, by hooks that change nothing.

No full backward hooks: they raise with in-place operations, TorchScript and functorch. The backward
of a call begins when the first gradient of an output arrives and ends with the last gradient of
an input. Where no input needs one it ends with the autograd node that made the output, or with the
gradient of a parameter of the module if that comes later and the module was called only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.compiler import is_compiling
from torch.utils._pytree import tree_leaves

from precscope.kernels.launching import is_capturing
from precscope.monitor.hook import Calling
from precscope.timing.clocks import Clock, Mark
from precscope.timing.spans import Phase, Span, StepTimes, take_apart


@dataclass(slots=True)
class Call:
    """One call of a module, with the marks set so far."""

    step: Step = field(repr=False)
    module: str
    phase: Phase
    callers: tuple[str, ...]
    start: Mark = None
    end: Mark = None
    backward_start: Mark = None
    backward_end: Mark = None
    ends_with_input: bool = False
    inside: list[Call] = field(default_factory=list)

    def family(self) -> Iterator[Call]:
        """The call and all that it made."""
        yield self
        for call in self.inside:
            yield from call.family()


@dataclass(slots=True)
class Step:
    """One step, with the marks set so far."""

    start: Mark
    end: Mark = None
    calls: list[Call] = field(default_factory=list)

    def marks(self) -> Iterator[Mark]:
        """All marks that were set."""
        yield self.start
        yield self.end
        for call in self.calls:
            for mark in (call.start, call.end, call.backward_start, call.backward_end):
                if mark is not None:
                    yield mark


class ModuleClock:
    """Times the modules of a model while the context lasts; the steps are told by ``step()``.

    Args:
        model: whose modules are timed.
        clock: on which.

    Attributes:
        steps: the finished steps that were read so far.
    """

    def __init__(self, model: nn.Module, clock: Clock) -> None:
        self._clock = clock
        self._handles: list[Any] = []
        self._leaf_handles: list[Any] = []
        self._open: list[Call] = []
        self._calls: dict[str, list[Call]] = {}
        self._step: Step | None = None
        self._waiting: list[Step] = []
        self.steps: list[StepTimes] = []
        for name, module in model.named_modules():
            self._attach(name, module)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A training step; without it nothing is marked."""
        self._step = Step(self._clock.mark())
        try:
            yield
        finally:
            self._step.end = self._clock.mark()
            self._waiting.append(self._step)
            self._step = None
            self._forget()
        self.drain()

    def drain(self) -> None:
        """Read the steps that are over; never waits for one."""
        while self._waiting and self._is_over(self._waiting[0]):
            step = self._waiting.pop(0)
            self.steps.append(self._read(step))
            for mark in step.marks():
                self._clock.free(mark)

    def _is_over(self, step: Step) -> bool:
        is_done = self._clock.is_done
        return is_done(step.end) and all(map(is_done, step.marks()))

    def close(self) -> None:
        """Wait for the last step, read it, and remove every hook."""
        try:
            self._clock.wait()
            self.drain()
        finally:
            for handle in self._handles:
                handle.remove()
            self._handles.clear()

    def __enter__(self) -> ModuleClock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _attach(self, name: str, module: nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            return

        def enter(_: nn.Module, inputs: Any, keywords: Any) -> None:
            self._enter(name, (inputs, keywords))

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            self._leave(name, output)

        def arrived(_: torch.Tensor) -> None:
            self._parameter_done(name)

        before, behind = module._forward_pre_hooks, module._forward_hooks
        self._handles += [
            module.register_forward_pre_hook(Calling(before, enter), with_kwargs=True),
            # Also after an exception: a checkpoint ends what it repeats with one.
            module.register_forward_hook(Calling(behind, leave), always_call=True),
        ]
        self._handles += [
            parameter.register_post_accumulate_grad_hook(arrived)
            for parameter in module.parameters(recurse=False)
            if parameter.requires_grad and parameter.is_leaf
        ]

    def _enter(self, name: str, inputs: Any) -> None:
        if self._step is None or is_compiling() or is_capturing():
            return
        phase: Phase = "recomputation" if _in_backward() else "forward"
        call = Call(self._step, name, phase, tuple(outer.module for outer in self._open))
        if phase == "forward" and torch.is_grad_enabled():
            call.ends_with_input = self._on_gradients(inputs, lambda: self._replace_end(call))
        if self._open:
            self._open[-1].inside.append(call)
        self._open.append(call)
        self._step.calls.append(call)
        call.start = self._clock.mark()

    def _leave(self, name: str, output: Any) -> None:
        if self._step is None or not self._open or is_compiling():
            return
        if self._open[-1].module != name:
            return
        call = self._open.pop()
        call.end = self._clock.mark()
        if call.phase == "forward":
            self._calls.setdefault(name, []).append(call)
            self._on_gradients(output, lambda: self._output_arrived(call))
            if not call.ends_with_input and not call.inside:
                self._on_nodes(output, lambda: self._replace_end(call))

    def _on_gradients(self, values: Any, act: Callable[[], None]) -> bool:
        """Act whenever the gradient of one of the tensors is there; whether any needs one."""
        found = False
        for value in tree_leaves(values):
            if not isinstance(value, torch.Tensor) or not value.requires_grad:
                continue
            found = True
            handle = value.register_hook(lambda _gradient: act())
            if value.is_leaf:
                self._leaf_handles.append(handle)
        return found

    def _on_nodes(self, values: Any, act: Callable[[], None]) -> None:
        """Act when the node that made one of the tensors has run."""
        for value in tree_leaves(values):
            node = value.grad_fn if isinstance(value, torch.Tensor) else None
            if node is not None:
                node.register_hook(lambda _inputs, _outputs: act())

    def _output_arrived(self, call: Call) -> None:
        # A graph that is kept for another step is not read any more.
        if call.step is self._step and call.backward_start is None:
            call.backward_start = self._clock.mark()

    def _parameter_done(self, name: str) -> None:
        calls = self._calls.get(name, [])
        # Of several calls the gradients are added up: it is the end of none of them.
        if len(calls) == 1 and not calls[0].ends_with_input:
            self._replace_end(calls[0])

    def _replace_end(self, call: Call) -> None:
        if call.step is not self._step:
            return
        if call.backward_end is not None:
            self._clock.free(call.backward_end)
        call.backward_end = self._clock.mark()

    def _forget(self) -> None:
        # A leaf outlives the step, and so would its hook.
        for handle in self._leaf_handles:
            handle.remove()
        self._leaf_handles.clear()
        self._open.clear()
        self._calls.clear()

    def _read(self, step: Step) -> StepTimes:
        def at(mark: Mark) -> float:
            return self._clock.elapsed_ms(step.start, mark)

        forward = [
            Span(call.module, call.phase, at(call.start), at(call.end), call.callers)
            for call in step.calls
            if call.end is not None
        ]
        backward = []
        for call in step.calls:
            ends = [at(c.backward_end) for c in _that_end(call) if c.backward_end is not None]
            if call.backward_start is not None and ends:
                start = at(call.backward_start)
                end = max(start, *ends)
                backward.append(Span(call.module, "backward", start, end, call.callers))
        return take_apart(at(step.end), forward + backward)


def _that_end(call: Call) -> Iterable[Call]:
    """The calls whose ends are that of a call.

    One whose inputs need no gradient, such as the model itself, ends with the last of those inside.
    """
    return (call,) if call.ends_with_input else call.family()


def _in_backward() -> bool:
    """Whether autograd runs: then a forward is that of a checkpoint."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1
