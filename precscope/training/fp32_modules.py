"""Fp32Modules: chosen modules run in float32 inside an autocast region."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from precscope.errors import UsageError


class Fp32Modules:
    """Hooks that switch autocast off around modules and hand them float32 inputs.

    Args:
        modules: the modules; what they call inside runs in float32 as well.
        device_type: whose autocast to switch off, ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, modules: Sequence[nn.Module], device_type: str) -> None:
        self._device_type = device_type
        self._open: list[tuple[nn.Module, torch.autocast]] = []
        self._handles: list[Any] = []
        for module in modules:
            self._handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            # A forward that raises must not leave autocast switched off.
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        off = torch.autocast(self._device_type, enabled=False)
        off.__enter__()
        self._open.append((module, off))
        return to_float32(args), to_float32(kwargs)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._open and self._open[-1][0] is module:
            _, off = self._open.pop()
            off.__exit__(None, None, None)


def select_modules(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Modules whose qualified name matches one of ``patterns`` (``*``, ``?``, ``[...]``).

    Raises:
        UsageError: a pattern matches no module.
    """
    named = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        matches = {name: m for name, m in named.items() if name and fnmatchcase(name, pattern)}
        if not matches:
            raise UsageError(f"fp32_modules: no module of the model is named {pattern!r}")
        found.update(matches)
    return list(found.values())


def with_submodules(modules: Sequence[nn.Module]) -> set[nn.Module]:
    """The modules and everything inside them."""
    return {inner for module in modules for inner in module.modules()}


def to_float32(value: Any) -> Any:
    """Float16 and bfloat16 tensors as float32, inside tuples, lists and dicts too.

    A dict without any is handed on itself, so that a module may fill it; another is copied, as the
    type that it has.
    """
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, dict):
        return _items_to_float32(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_float32(item) for item in value))
    if type(value) in (tuple, list):
        return type(value)(to_float32(item) for item in value)
    return value


def _items_to_float32(value: dict[Any, Any]) -> dict[Any, Any]:
    pairs = [(key, item, to_float32(item)) for key, item in value.items()]
    changed = [(key, wide) for key, item, wide in pairs if not _is_same(item, wide)]
    if not changed:
        return value
    copied = copy.copy(value)
    for key, wide in changed:
        copied[key] = wide
    return copied


def _is_same(item: Any, wide: Any) -> bool:
    if type(item) in (tuple, list) or hasattr(item, "_fields"):
        return all(_is_same(a, b) for a, b in zip(item, wide, strict=True))
    return item is wide
