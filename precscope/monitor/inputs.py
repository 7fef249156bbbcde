"""What the root is called with: infinities and NaNs that came in with the batch."""

from __future__ import annotations

from typing import Any

import torch

from precscope.monitor.guard import Guard
from precscope.monitor.marks import INPUT
from precscope.monitor.rows import RowStore
from precscope.monitor.sitebook import Observe
from precscope.monitor.tensors import floating_tensors, unreadable


class Inputs:
    """Observes the floating-point tensors of a batch: one row per device, and no site."""

    def __init__(self, observe: Observe, rows: RowStore, guard: Guard) -> None:
        self._observe = observe
        self._store = rows
        self._guard = guard
        self._rows: dict[torch.device, torch.Tensor] = {}

    def observe(self, inputs: Any) -> None:
        """Count what is in ``inputs``, containers of any depth; never raises."""
        if self._guard.disabled("inputs"):
            return
        try:
            for tensor in floating_tensors(inputs):
                if unreadable(tensor) is None:
                    self._observe(tensor.detach(), self._row(tensor.device))
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed("inputs")

    def _row(self, device: torch.device) -> torch.Tensor:
        row = self._rows.get(device)
        if row is None:
            row = self._rows[device] = self._store.new_row(INPUT, device, False)
        return row
