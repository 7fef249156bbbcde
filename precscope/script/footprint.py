"""What a run of a script takes: step time, and the bytes that training it holds."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter
from typing import Any

import torch

from precscope.script.discovery import Root
from precscope.training.gradients import optimizer_parameters
from precscope.training.memory import gradient_bytes, optimizer_bytes, saved_tensors, tensor_bytes


class StepClock:
    """Wall-clock time from the end of one step to the end of the next."""

    def __init__(self) -> None:
        self._ended: float | None = None

    def lap(self) -> float | None:
        """Seconds since the last call; None at the first."""
        before, self._ended = self._ended, perf_counter()
        return None if before is None else self._ended - before


class Footprint:
    """Sizes of weights, gradients, optimizer state and saved tensors of all models of a script.

    Args:
        counts_saved: count what forward passes save for backward, until it is set to False. The
            hooks that do so are closed to ``torch.func``.
    """

    def __init__(self, counts_saved: bool) -> None:
        self.counts_saved = counts_saved
        self._roots: list[Root] = []
        self._saved_bytes: int | None = None
        self._gradient_bytes: dict[int, int] = {}
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def add(self, root: Root) -> None:
        """Measure a model too."""
        self._roots.append(root)

    def called(self, root: Root) -> None:
        """A forward pass of ``root`` begins: count what it saves for backward."""
        if not (self.counts_saved and torch.is_grad_enabled()):
            return
        scope = ExitStack()
        counted = scope.enter_context(saved_tensors(root.module))

        def leave(*_: object) -> None:
            handle.remove()
            scope.close()
            self._saved_bytes = (self._saved_bytes or 0) + counted.bytes

        # Within the call: the script's own hooks for saved tensors are entered and left around it.
        handle = root.module.register_forward_hook(leave, always_call=True)

    def look_at_gradients(self) -> None:
        """Note the gradients that are there: an optimizer has just stepped."""
        for root in self._roots:
            size = gradient_bytes(root.module)
            self._gradient_bytes[id(root)] = max(self._gradient_bytes.get(id(root), 0), size)

    def document(self) -> dict[str, Any]:
        """All sizes, in bytes, as JSON; None where nothing was measured."""
        optimizers = {id(o): o for root in self._roots for o in root.optimizers}.values()
        held = [p for optimizer in optimizers for p in optimizer_parameters(optimizer)]
        models = [p for root in self._roots for p in root.module.parameters()]
        is_cuda = any(root.device.type == "cuda" for root in self._roots)
        return {
            "weight_bytes": tensor_bytes([*models, *held]),
            "gradient_bytes": sum(self._gradient_bytes.values()),
            "optimizer_bytes": sum(map(optimizer_bytes, optimizers)),
            "saved_tensor_bytes": self._saved_bytes,
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if is_cuda else None,
        }
