"""Where the values of a strided tensor lie: all in one block, or in blocks to be made.

A tensor that is contiguous under some order of its dimensions (transposed, channels-last) fills
one block of memory, and statistics do not care about order: it is read in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch

COPY_LIMIT: Final = 1 << 18
"""Values copied at a time where a copy is needed: 1 MiB of float32, so that it stays in cache
and a user's peak memory does not grow with the tensor."""


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the values fill ``numel()`` consecutive places, each once, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def without_repeats(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """A view with every expanded dimension (stride 0) cut to length 1, and how often it repeats.

    Example: a ``(3, 1)`` tensor expanded to ``(3, 5)`` gives a ``(3, 1)`` view and 5.
    """
    times = 1
    for dim, (stride, size) in enumerate(zip(tensor.stride(), tensor.shape, strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dim, 0, 1)
            times *= size
    return tensor, times


def dense_pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The values of a non-empty tensor as dense tensors: itself, parts of it, or small copies."""
    if is_dense(tensor):
        yield tensor
    elif tensor.numel() <= COPY_LIMIT:
        yield tensor.contiguous()
    else:
        outermost = max(
            (dim for dim in range(tensor.dim()) if tensor.size(dim) > 1), key=tensor.stride
        )
        for half in tensor.tensor_split(2, outermost):
            yield from dense_pieces(half)
