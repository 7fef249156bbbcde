"""Which tensors a step has made so far: one that is handed on is not counted again."""

from __future__ import annotations

import weakref

import torch


class MadeTensors:
    """Tensors by identity and version, none of them kept alive.

    An in-place operation makes a new value: the tensor is not in the set any more.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Note a tensor as it is now."""
        self._known[id(tensor)] = (weakref.ref(tensor), _version(tensor))

    def __contains__(self, tensor: torch.Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known[0]() is tensor and known[1] == _version(tensor)

    def __bool__(self) -> bool:
        return bool(self._known)

    def clear(self) -> None:
        """Forget all of them."""
        self._known.clear()


def _version(tensor: torch.Tensor) -> int:
    # Tensors of inference mode do not count their versions.
    return -1 if tensor.is_inference() else tensor._version
