"""Hooks that stay with the watched model: a copy of the model does not take them along."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch.utils.hooks import RemovableHandle


class Guest:
    """A hook that drops out of ``deepcopy`` and ``pickle``.

    In its place stands a function of the standard library that takes anything and does nothing,
    so that a pickled model can be loaded where precscope is not installed.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return nullcontext().__exit__

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (nullcontext(), "__exit__")


class Calling(Guest):
    """A guest that calls a function."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> None:
        """Pass everything on."""
        self._call(*arguments)


class Attachment:
    """A hook that can be taken off for a while."""

    def __init__(self, attach: Callable[[], RemovableHandle]) -> None:
        self._attach = attach
        self._handle: RemovableHandle | None = attach()

    def put_back(self) -> None:
        """Attach the hook, if it is off."""
        if self._handle is None:
            self._handle = self._attach()

    def take_off(self) -> None:
        """Remove the hook, if it is on."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


_KEY: Final = RemovableHandle(OrderedDict()).id
"""An id that torch gives to no other hook."""


def hook_gradient(tensor: torch.Tensor, hook: Callable[[torch.Tensor], None]) -> None:
    """``tensor.register_hook(hook)`` without a handle, which takes most of its time."""
    node = tensor.grad_fn
    register = getattr(node, "_register_hook_dict", None)
    if register is None or tensor._backward_hooks is not None or type(tensor) is not torch.Tensor:
        tensor.register_hook(hook)
        return
    tensor._backward_hooks = OrderedDict(((_KEY, hook),))
    register(tensor)
