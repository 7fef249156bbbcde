"""The instruments in a script's process: torch's public global hooks, and ``Tensor.backward``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from precscope.script.discovery import Discovery, Root

Backward = Callable[..., None]
NewArguments = tuple[tuple[Any, ...], dict[str, Any]]


class Listener(Protocol):
    """What is done with what a script does."""

    def found(self, root: Root) -> None:
        """A model is about to be called for the first time."""

    def before_forward(self, root: Root) -> None:
        """A model is about to be called."""

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewArguments | None:
        """An optimizer is about to step, with these arguments; returns others to use."""

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""

    def backward(self, loss: torch.Tensor, run: Callable[[torch.Tensor], None]) -> None:
        """The script calls ``loss.backward()``; ``run`` does so for the tensor given."""


class Hooks:
    """Attached while a script is watched, and gone after ``remove``."""

    def __init__(self, listener: Listener, discovery: Discovery) -> None:
        self._listener = listener
        self._discovery = discovery
        self._backward: Backward = torch.Tensor.backward
        torch.Tensor.backward = self._patched()  # type: ignore[method-assign]
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
        torch.Tensor.backward = self._backward  # type: ignore[method-assign]

    def _forward(self, module: nn.Module, inputs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        found = self._discovery.called(module)
        if found is not None:
            self._listener.found(found)
        root = found or self._discovery.root_of(module)
        if root is not None:
            self._listener.before_forward(root)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewArguments | None:
        return self._listener.before_step(optimizer, args, kwargs)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._listener.after_step(optimizer)
        for root in self._discovery.stepped(optimizer):
            self._listener.found(root)

    def _patched(self) -> Backward:
        original, listener = self._backward, self._listener

        @functools.wraps(original)
        def backward(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("create_graph") or (len(args) > 2 and args[2]):
                # Gradients that are differentiated again must stay as autograd made them.
                original(self, *args, **kwargs)
            else:
                listener.backward(self, lambda loss: original(loss, *args, **kwargs))

        return backward
