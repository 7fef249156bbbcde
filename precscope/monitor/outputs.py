"""The forward hook of one module: to its owner in eager code, into the graph in compiled code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.compiler import is_compiling

from precscope.monitor import compiled
from precscope.monitor.guard import Guard
from precscope.monitor.hook import Guest
from precscope.monitor.state import State

_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


class Owner(Protocol):
    """What observes the outputs that a hook hands over."""

    state: State
    guard: Guard
    lock: threading.RLock

    def output(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        """Observe what a module has just returned."""

    def from_compiled(
        self, name: str, module_type: str, tensor: torch.Tensor, position: int, gradient: bool
    ) -> None:
        """Observe a tensor that compiled code hands over."""


class OutputHook(Guest):
    """The forward hook of one module.

    Args:
        name: the module's qualified name.
        owner: what observes.
        module: the hooked module.
    """

    def __init__(self, name: str, owner: Owner, module: nn.Module) -> None:
        super().__init__(module._forward_hooks)
        self._name = name
        self._owner = owner
        self._kinds = (owner.state.activations, owner.state.activation_gradients)
        self._hands_on = isinstance(module, nn.Identity) or (
            type(module).forward is nn.Sequential.forward and len(module._modules) > 0
        )
        module_type = type(module).__name__

        def watcher(tensor: torch.Tensor, position: int, gradient: bool) -> None:
            owner.from_compiled(name, module_type, tensor, position, gradient)

        self.key = compiled.new_key(watcher)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Observe ``output``; never raises, never changes anything."""
        if is_compiling():
            watched = compiled.WORKS and (module.training or torch.is_grad_enabled())
            if watched and not self._hands_on and not _is_exporting():
                compiled.trace_output(self.key, output, *self._kinds)
            return
        owner = self._owner
        if not owner.state.active or (owner.guard.any and owner.guard.disabled(self._name)):
            return
        try:
            with owner.lock:
                owner.output(self._name, module, inputs, output)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            owner.guard.failed(self._name)
