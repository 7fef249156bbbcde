"""One operator call of a training step, and the place it belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import torch

Key = tuple[int, tuple[int, ...]]

NUMBERED: Final = 8
"""Calls of one kind that are told apart within a forward; a loop's later ones join the last."""


@dataclass(slots=True)
class Origin:
    """The forward call that an autograd node stands for.

    Attributes:
        site: where it happened.
        label: its name among its module's calls: ``product``, ``product 2``, ``forward``.
        factors: address and shape of the two factors of a product, first and second.
        weights: local name of the parameter that each factor is, None if it is none.
    """

    site: str
    label: str
    factors: tuple[Key, ...] = ()
    weights: tuple[str | None, ...] = ()


@dataclass(slots=True)
class Call:
    """An operator with its arguments by name.

    Attributes:
        operator: its name without overload: ``addmm``.
        arguments: every argument of its schema that was given, by name; others are absent.
        func: the operator itself.
        args: as it was called.
        kwargs: as it was called.
        result: what it returned.
        site: the module it belongs to.
        scale: loss scale of gradients; 1 in forward.
        is_backward: whether it runs in backward.
        origin: in backward the forward call it differentiates; in forward its own record, to
            be filled in by its sampler.
        seen: how often each kind of call was made in the module's running forward.
        weights: local name of each parameter by address of its memory.
    """

    operator: str
    arguments: dict[str, Any]
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    site: str
    scale: float
    is_backward: bool
    origin: Origin | None
    seen: Counter[str] = field(default_factory=Counter)
    weights: dict[int, str] = field(default_factory=dict)

    def tensor(self, *names: str) -> torch.Tensor:
        """The argument under the first of these names that the operator has."""
        for name in names:
            value = self.arguments.get(name)
            if isinstance(value, torch.Tensor):
                return value
        raise KeyError(f"{self.operator} has no tensor {' or '.join(names)}")

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, ``default`` where it was not given."""
        value = self.arguments.get(name)
        return default if value is None else value

    def output(self, position: int = 0) -> torch.Tensor | None:
        """A tensor that it returned; None if there is none at that position."""
        if isinstance(self.result, torch.Tensor):
            return self.result if position == 0 else None
        found = self.result[position] if position < len(self.result) else None
        return found if isinstance(found, torch.Tensor) else None

    def label(self, kind: str) -> str:
        """``kind``, numbered if its module's forward did the same before; asking counts."""
        self.seen[kind] += 1
        number = min(self.seen[kind], NUMBERED)
        return kind if number == 1 else f"{kind} {number}"


def key_of(tensor: torch.Tensor) -> Key:
    """Address and shape of a tensor that is alive."""
    return (tensor.data_ptr(), tuple(tensor.shape))


def bound(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names in the operator's schema."""
    names = (argument.name for argument in func._schema.arguments)
    return {**dict(zip(names, args, strict=False)), **kwargs}
