"""Weights and weight gradients: a hook after each gradient is accumulated, a look before a step.

The gradient is observed as autograd leaves it in ``.grad``: before clipping, and with gradient
accumulation once per micro-batch, because each partial sum is a value that would be stored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from precscope.monitor.guard import Guard
from precscope.monitor.sitebook import Observe, SiteBook
from precscope.monitor.state import State
from precscope.monitor.tensors import strided_values


class ParameterHooks:
    """Observes every parameter of a model and its gradient.

    A tied parameter is one site, under the first of its names.
    """

    def __init__(
        self,
        model: nn.Module,
        book: SiteBook,
        observe: Observe,
        state: State,
        guard: Guard,
        wanted: Callable[[str], bool],
    ) -> None:
        self._book = book
        self._observe = observe
        self._state = state
        self._guard = guard
        self.skipped: dict[str, str] = {}
        owners = {name: type(module).__name__ for name, module in model.named_modules()}
        self._parameters = [
            (name, parameter, owners[name.rpartition(".")[0]])
            for name, parameter in model.named_parameters()
            if wanted(name) and self._usable(name, parameter)
        ]
        self._handles: list[RemovableHandle] = [
            parameter.register_post_accumulate_grad_hook(self._gradient_hook(name, owner))
            for name, parameter, owner in self._parameters
            if state.weight_gradients and parameter.requires_grad
        ]

    def _usable(self, name: str, parameter: nn.Parameter) -> bool:
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            self.skipped[name] = "lazy parameter, not initialised when watching began"
        elif not parameter.is_floating_point():
            self.skipped[name] = f"{parameter.dtype} has no binary exponents"
        else:
            return True
        return False

    def _gradient_hook(self, name: str, owner: str) -> Callable[[torch.Tensor], None]:
        where = f"{name} (gradient)"

        def observe_gradient(parameter: torch.Tensor) -> None:
            if not self._state.active or parameter.grad is None:
                return
            if self._guard.any and self._guard.disabled(where):
                return
            try:
                self._gradient(name, owner, parameter.grad)
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self._guard.failed(where)

        return observe_gradient

    def _gradient(self, name: str, owner: str, gradient: torch.Tensor) -> None:
        values = strided_values(gradient)
        if values is None:
            self.skipped[name] = f"gradient layout {gradient.layout} is not read"
            return
        self._observe(values, self._book.row(name, "weight_gradient", values, owner))

    def observe_weights(self) -> None:
        """Observe every parameter as it is now: called before the optimizer moves it."""
        if not self._state.weights:
            return
        for name, parameter, owner in self._parameters:
            if self._guard.any and self._guard.disabled(name):
                continue
            try:
                self._observe(parameter, self._book.row(name, "weight", parameter, owner))
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self._guard.failed(name)

    def remove(self) -> None:
        """Take every hook off the parameters."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
