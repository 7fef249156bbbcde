"""What the root is called with: infinities and NaNs that came in with the batch."""

from __future__ import annotations

from typing import Any

import torch

from precscope import kernels
from precscope.kernels import Observer
from precscope.monitor.guard import Guard
from precscope.monitor.marks import INPUT
from precscope.monitor.rows import RowStore
from precscope.monitor.tensors import floating_tensors, unreadable


class Inputs:
    """Observes the floating-point tensors of a batch: one row per device, and no site."""

    def __init__(self, rows: RowStore, guard: Guard) -> None:
        self._store = rows
        self._guard = guard
        self._observers: dict[torch.device, Observer] = {}

    def observe(self, inputs: Any) -> None:
        """Count what is in ``inputs``, containers of any depth; never raises."""
        if self._guard.disabled("inputs"):
            return
        try:
            for tensor in floating_tensors(inputs):
                if unreadable(tensor) is None:
                    self._observer(tensor.device)(tensor.detach())
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("inputs")

    def _observer(self, device: torch.device) -> Observer:
        known = self._observers.get(device)
        if known is None:
            known = kernels.observer(self._store.new_row(INPUT, device, False))
            self._observers[device] = known
        return known
