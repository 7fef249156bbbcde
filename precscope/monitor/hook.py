"""Hooks that stay with the watched model: a copy of the model does not take them along."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch.utils.hooks import RemovableHandle

Hooks = dict[int, Callable[..., Any]]

_NOTHING: Final[Callable[..., Any]] = nullcontext().__exit__


class _Copying:
    """Kept in the memo of a copy that is being made: gone once it is made."""


class Guest:
    """A hook that drops out of ``deepcopy`` and ``pickle``.

    A deep copy has no hook of ours once it is made. In a pickle a function of the standard library
    stands in its place, which takes anything and does nothing, so that the model can be loaded
    where precscope is not installed.

    Args:
        home: the hooks of the module that this one is among.
    """

    def __init__(self, home: Hooks) -> None:
        self._home = home

    @property
    def __name__(self) -> str:
        # torch.jit.script asks for it, and would compile what it finds.
        raise AttributeError(
            "precscope watches this module, and TorchScript compiles no hook of it: give "
            "torch.jit.script a copy.deepcopy of the model, or close the watch first"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        copied = memo.get(id(self._home))
        if copied is not None:
            copying = _Copying()
            memo[id(copying)] = copying
            weakref.finalize(copying, _drop, copied)
        return _NOTHING

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (nullcontext(), "__exit__")


class Calling(Guest):
    """A guest that calls a function."""

    def __init__(self, home: Hooks, call: Callable[..., None]) -> None:
        super().__init__(home)
        self._call = call

    def __call__(self, *arguments: Any) -> None:
        """Pass everything on."""
        self._call(*arguments)


def _drop(copied: Hooks) -> None:
    for key in [key for key, hook in copied.items() if hook is _NOTHING]:
        del copied[key]


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


def hook_gradient(
    tensor: torch.Tensor, hook: Callable[[torch.Tensor], None]
) -> RemovableHandle | None:
    """``tensor.register_hook(hook)`` without a handle, which takes most of its time.

    Returns:
        the handle of a hook on a leaf, which outlives the graph: it has to be removed.
    """
    node = tensor.grad_fn
    if node is None:
        on_leaf: RemovableHandle = tensor.register_hook(hook)
        return on_leaf
    register = getattr(node, "_register_hook_dict", None)
    if register is None or tensor._backward_hooks is not None or type(tensor) is not torch.Tensor:
        tensor.register_hook(hook)
        return None
    tensor._backward_hooks = OrderedDict(((_KEY, hook),))
    register(tensor)
    return None
