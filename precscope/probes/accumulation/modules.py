"""Where a step is: which module's forward is running, and which parameter is where in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

ROOT = "(root)"
OUTSIDE = "loss"
"""Site of what happens outside the model: the loss function."""


@dataclass(slots=True)
class Frame:
    """A running forward.

    Attributes:
        name: the module.
        calls: what it has done so far, by kind.
    """

    name: str
    calls: Counter[str] = field(default_factory=Counter)


class Modules:
    """Follows the forward passes of a model by hooks that only look."""

    def __init__(self, model: nn.Module) -> None:
        self._named = {m: name or ROOT for name, m in model.named_modules()}
        self._outside = Frame(OUTSIDE)
        self._stack: list[tuple[nn.Module, Frame]] = []
        self.owners: dict[int, tuple[str, str]] = {}
        for name, parameter in model.named_parameters():
            owner, _, local = name.rpartition(".")
            if parameter.numel():
                self.owners[parameter.data_ptr()] = (owner or ROOT, local)
        self.weights = {address: local for address, (_, local) in self.owners.items()}

    @property
    def frame(self) -> Frame:
        """The innermost forward that runs."""
        return self._stack[-1][1] if self._stack else self._outside

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Hooks on, and off again."""
        handles: list[Any] = []
        rnns = _UnfusedRnn()
        for module in self._named:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
            if isinstance(module, nn.LSTM):
                handles.append(module.register_forward_pre_hook(rnns.enter))
                handles.append(module.register_forward_hook(rnns.leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._stack.append((module, Frame(self._named[module])))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        while self._stack:
            if self._stack.pop()[0] is module:
                return

    def site_of(self, tensors: Iterator[torch.Tensor]) -> str:
        """The running module, or the one inside it whose parameter is used in its stead."""
        here = self.frame.name
        for tensor in tensors:
            owner = self.owners.get(tensor.data_ptr())
            if owner is not None and (here in (ROOT, OUTSIDE) or owner[0].startswith(f"{here}.")):
                return owner[0]
        return here


class _UnfusedRnn:
    """Takes the LSTM apart: the fused CPU kernel shows neither its products nor its gradients."""

    def __init__(self) -> None:
        self._before: list[bool] = []

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self._before.append(torch._C._get_mkldnn_enabled())
        torch._C._set_mkldnn_enabled(False)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._before:
            torch._C._set_mkldnn_enabled(self._before.pop())
