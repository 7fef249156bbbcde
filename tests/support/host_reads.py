"""Counting what brings a value from a tensor to the host: each is a synchronisation on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READING_OPERATORS = frozenset(
    f"aten.{name}"
    for name in (
        "_local_scalar_dense",
        "equal",
        "is_nonzero",
        "item",
        "allclose",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
    )
)
READING_METHODS = ("tolist", "numpy", "item", "cpu", "__bool__", "__float__", "__int__")
"""Those that read the memory of a CPU tensor without an operator, and those that need one."""


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket)
        if name in READING_OPERATORS:
            self._found[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_host_reads() -> Iterator[Counter[str]]:
    """Count the reads inside the block, by operator and by method."""
    found: Counter[str] = Counter()

    def counting(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def method(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            found[f"Tensor.{name}"] += 1
            return original(self, *args, **kwargs)

        return patch.object(torch.Tensor, name, method)

    patches = [counting(name) for name in READING_METHODS]
    with _Operators(found):
        for each in patches:
            each.start()
        try:
            yield found
        finally:
            for each in patches:
                each.stop()
