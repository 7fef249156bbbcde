"""The instruments in a script's process: torch's public global hooks, and two of its functions."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from precscope.script.differentiation import Differentiation, listening_backward, listening_grad
from precscope.script.discovery import Discovery, Root

NewArguments = tuple[tuple[Any, ...], dict[str, Any]]


class Listener(Protocol):
    """What is done with what a script does."""

    def found(self, root: Root) -> None:
        """A model is about to be called for the first time."""

    def lost(self, module: nn.Module, error: Exception) -> None:
        """It could not be found out whether ``module`` is a model, or how to watch it."""

    def before_forward(self, root: Root) -> None:
        """A model is about to be called."""

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewArguments | None:
        """An optimizer is about to step, with these arguments; returns others to use."""

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""

    def differentiate(self, asked: Differentiation) -> Any:
        """The script asks for gradients; returns what it gets."""


class Hooks:
    """Attached while a script is watched, and gone after ``remove``."""

    def __init__(self, listener: Listener, discovery: Discovery) -> None:
        self._listener = listener
        self._discovery = discovery
        self._backward, self._grad = torch.autograd.backward, torch.autograd.grad
        # Tensor.backward calls the first by this name.
        torch.autograd.backward = listening_backward(self._backward, listener.differentiate)
        torch.autograd.grad = listening_grad(self._grad, listener.differentiate)
        self._handles = [
            register_module_forward_pre_hook(self._forward),
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Take all of it away. Safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        torch.autograd.backward, torch.autograd.grad = self._backward, self._grad

    def _forward(self, module: nn.Module, inputs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._look_at(module)
        root = self._discovery.root_of(module)
        if root is not None:
            self._listener.before_forward(root)

    def _look_at(self, module: nn.Module) -> None:
        try:
            found = self._discovery.called(module)
        except Exception as error:  # noqa: BLE001 - nothing of ours stops the user's program
            self._discovery.give_up(module)
            self._listener.lost(module, error)
            return
        if found is not None:
            found.in_call = found.module is module
            self._tell(found)

    def _tell(self, found: Root) -> None:
        try:
            self._listener.found(found)
        except Exception as error:  # noqa: BLE001 - see _look_at
            self._listener.lost(found.module, error)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewArguments | None:
        return self._listener.before_step(optimizer, args, kwargs)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._listener.after_step(optimizer)
        for root in self._discovery.stepped(optimizer):
            self._tell(root)
