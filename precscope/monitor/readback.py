"""Reading tensors back to the host: all that lie on one device come by one transfer.

On the device they are laid side by side as 64-bit words; on CUDA the words are copied to pinned
memory, which is kept for the next time, and the host waits for that copy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from precscope.kernels.launching import counting_device, is_capturing, on

Words = npt.NDArray[np.int64]

AS_THEY_ARE: Final = {torch.int64: np.dtype(np.int64), torch.float64: np.dtype(np.float64)}


class HostReader:
    """Brings tensors of any devices to the host."""

    def __init__(self) -> None:
        self._pinned: dict[torch.device, torch.Tensor] = {}

    def read(self, tensors: Sequence[torch.Tensor]) -> list[npt.NDArray[Any]]:
        """A copy of each tensor on the host, in their order: int64 as it is, all others float64.

        Raises:
            RuntimeError: a CUDA graph is captured, in which nothing can be read.
        """
        if is_capturing():
            raise RuntimeError("a CUDA graph is captured: nothing can be read from the device")
        by_device: dict[torch.device, list[int]] = {}
        for index, tensor in enumerate(tensors):
            by_device.setdefault(tensor.device, []).append(index)
        # All copies are under way before the first of them is waited for.
        coming = {
            device: self._send([tensors[index] for index in indices], device)
            for device, indices in by_device.items()
            if device.type != "cpu" and counting_device(device) == device
        }
        found: dict[int, npt.NDArray[Any]] = {}
        for device, indices in by_device.items():
            parts = [tensors[index] for index in indices]
            copied = _unpacked(parts, _arrived(*coming[device])) if device in coming else None
            found |= zip(indices, copied or map(_copied, parts), strict=True)
        return [found[index] for index in range(len(tensors))]

    def _send(
        self, tensors: list[torch.Tensor], device: torch.device
    ) -> tuple[torch.Tensor, Any | None]:
        """Start the one transfer of a device; its host memory, and the event of its end."""
        with on(device), torch.inference_mode(False), torch.no_grad():
            packed = torch.cat([_words(tensor) for tensor in tensors])
            if device.type != "cuda":
                return packed.to("cpu"), None
            space = self._space(device, packed.numel())
            space.copy_(packed, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        return space, done

    def _space(self, device: torch.device, words: int) -> torch.Tensor:
        """Pinned memory, made once unless more is needed than ever before."""
        held = self._pinned.get(device)
        if held is None or held.numel() < words:
            size = 1 << (words - 1).bit_length()
            held = torch.empty(size, dtype=torch.int64, device="cpu", pin_memory=True)
            self._pinned[device] = held
        return held[:words]


def _words(tensor: torch.Tensor) -> torch.Tensor:
    values = tensor.detach()
    values = values if values.dtype in AS_THEY_ARE else values.to(torch.float64)
    return values.reshape(-1).view(torch.int64)


def _copied(tensor: torch.Tensor) -> npt.NDArray[Any]:
    dtype = tensor.dtype if tensor.dtype in AS_THEY_ARE else torch.float64
    # In two steps: a device without float64 cannot convert.
    found: npt.NDArray[Any] = tensor.detach().to("cpu").to(dtype, copy=True).numpy()
    return found


def _arrived(space: torch.Tensor, done: Any | None) -> Words:
    """The words once they have come, out of the memory that the next reading uses."""
    if done is None:
        return space.numpy()
    done.synchronize()
    return space.numpy().copy()


def _unpacked(tensors: list[torch.Tensor], words: Words) -> list[npt.NDArray[Any]]:
    sizes = np.cumsum([tensor.numel() for tensor in tensors])
    parts = np.split(words, sizes[:-1])
    return [
        part.view(AS_THEY_ARE.get(tensor.dtype, np.dtype(np.float64))).reshape(tuple(tensor.shape))
        for tensor, part in zip(tensors, parts, strict=True)
    ]
