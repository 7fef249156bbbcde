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
from precscope.monitor.tensors import local_values, strided_values, unreadable

Place = tuple[str, nn.Parameter, str]
"""Name, parameter, type of the module that owns it."""


class ParameterHooks:
    """Observes every parameter of a model and its gradient.

    A tied parameter is one site, under the first of its names. A lazy parameter is taken up
    once it has a shape, a frozen one once it is trained.
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
        self._waiting: list[Place] = [
            (name, parameter, owners[name.rpartition(".")[0]])
            for name, parameter in model.named_parameters()
            if wanted(name)
        ]
        self._parameters: list[Place] = []
        self._frozen: list[Place] = []
        self._handles: list[RemovableHandle] = []
        self.attach_waiting()

    def attach_waiting(self) -> None:
        """Hook the parameters that have become real since the last call."""
        waiting, self._waiting = self._waiting, []
        for name, parameter, owner in waiting:
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                self.skipped[name] = "lazy parameter, not yet initialised"
                self._waiting.append((name, parameter, owner))
            elif not parameter.is_floating_point():
                self.skipped[name] = f"{parameter.dtype} has no binary exponents"
            else:
                self.skipped.pop(name, None)

                self._parameters.append((name, parameter, owner))
                self._frozen.append((name, parameter, owner))
        if self._state.weight_gradients:
            self._hook_thawed()

    def _hook_thawed(self) -> None:
        frozen, self._frozen = self._frozen, []
        for name, parameter, owner in frozen:
            if parameter.requires_grad:
                hook = self._gradient_hook(name, owner)
                self._handles.append(parameter.register_post_accumulate_grad_hook(hook))
            else:
                self._frozen.append((name, parameter, owner))

    @property
    def waiting(self) -> bool:
        """Whether some parameters have no shape yet."""
        return bool(self._waiting)

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
        reason = (
            f"gradient layout {gradient.layout} is not read"
            if values is None
            else unreadable(values)
        )
        if values is None or reason is not None:
            self.skipped[name] = str(reason)
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
                values = local_values(parameter)
                if (reason := unreadable(values)) is not None:
                    self.skipped[name] = reason
                    continue
                self._observe(values, self._book.row(name, "weight", values, owner))
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self._guard.failed(name)

    def remove(self) -> None:
        """Take every hook off the parameters."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
