"""Rows of all sites, in blocks on each device, and the logs of amax and of bad values per step.

Nothing is read back to the host until a flush: the end of a step copies each block's amax
column, and its count of infinities and NaNs, into the next line of its logs, on the device. A
site costs 4.5 KB for its row and 16 bytes per step of the logs, whatever the size of its
tensors; a gradient under a loss scale another 4.5 KB.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from precscope.kernels.launching import counting_device, is_capturing
from precscope.kernels.row import AMAX, INFINITIES, NANS, ROW_SLOTS
from precscope.monitor.unscaling import add_unscaled

SMALLEST_BLOCK = 32
LARGEST_BLOCK = 1024


@dataclass(slots=True)
class Block:
    """Rows of several sites on one device.

    Attributes:
        rows: ``(n, 562)`` int64, the kernels' accumulators.
        amax_log: ``(steps, n)`` float64, amax of each row in each step since the last flush.
        bad_log: ``(steps, n)`` int64, infinities and NaNs up to the end of each step.
        window_amax: ``(n,)`` float64, amax of the steps already logged.
        gradients: whether these are gradients, which a loss scale multiplies.
        sites: site index of each used row.
        unscaled: ``(n, 562)``, the rows of the steps before at their true scale; None until a
            loss scale is seen.
        amax: the amax column of ``rows``, as float64, in place.
        infinities: the column of ``window``, in place.
        nans: likewise.
        logs: a view of each line of the two logs: to index takes longer than to copy.
    """

    rows: torch.Tensor
    amax_log: torch.Tensor
    bad_log: torch.Tensor
    window_amax: torch.Tensor
    gradients: bool
    sites: list[int] = field(default_factory=list)
    unscaled: torch.Tensor | None = None
    amax: torch.Tensor = field(init=False)
    infinities: torch.Tensor = field(init=False)
    nans: torch.Tensor = field(init=False)
    logs: list[tuple[torch.Tensor, torch.Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.amax = self.rows.view(torch.float64)[:, AMAX]
        self.logs = [(self.amax_log[i], self.bad_log[i]) for i in range(len(self.amax_log))]
        self._look_at_window()

    def _look_at_window(self) -> None:
        self.infinities, self.nans = self.window[:, INFINITIES], self.window[:, NANS]

    @property
    def window(self) -> torch.Tensor:
        """The rows that hold what was counted since the last flush."""
        return self.rows if self.unscaled is None else self.unscaled

    def end_step(self, slot: int, scale: torch.Tensor | float | None) -> None:
        """Log this step's amax and bad values in line ``slot``; take ``scale`` off gradients."""
        amax_line, bad_line = self.logs[slot]
        if self.gradients and (scale is not None or self.unscaled is not None):
            amax_line.copy_(self._take_off(1.0 if scale is None else scale))
        else:
            amax_line.copy_(self.amax)
            torch.maximum(self.window_amax, self.amax, out=self.window_amax)
            self.amax.zero_()
        torch.add(self.infinities, self.nans, out=bad_line)

    def _take_off(self, scale: torch.Tensor | float) -> torch.Tensor:
        if self.unscaled is None:
            self.unscaled = torch.zeros_like(self.rows)
            self._look_at_window()
        amax = add_unscaled(self.unscaled, self.rows, scale)
        self.rows.zero_()
        return amax

    def filled(self, steps: int) -> tuple[torch.Tensor, ...]:
        """The used rows, their amax and the lines of the logs, for one transfer with others."""
        used = len(self.sites)
        logs = self.amax_log[:steps, :used], self.bad_log[:steps, :used]
        return self.window[:used], self._window_amax()[:used], *logs

    def _window_amax(self) -> torch.Tensor:
        if self.unscaled is None:
            return torch.maximum(self.window_amax, self.amax)
        return self.unscaled.view(torch.float64)[:, AMAX]

    def empty(self) -> None:
        """Forget what was counted, but for the amax of a step that is under way."""
        amax = self.amax.clone()
        for tensor in (self.window, self.amax_log, self.bad_log, self.window_amax):
            tensor.zero_()
        self.amax.copy_(amax)


class RowStore:
    """Hands out rows and turns them over at the end of a step and at a flush."""

    def __init__(self, log_steps: int) -> None:
        self.log_steps = log_steps
        self._open: dict[tuple[torch.device, bool], Block] = {}
        self.blocks: list[Block] = []

    @property
    def memory_bytes(self) -> int:
        """Bytes held on all devices."""
        parts = ((b.rows, b.amax_log, b.bad_log, b.window_amax, b.unscaled) for b in self.blocks)
        tensors = (t for part in parts for t in part if t is not None)
        return sum(t.numel() * t.element_size() for t in tensors)

    def new_row(self, site: int, device: torch.device, gradient: bool) -> torch.Tensor:
        """An empty row for a site, shape ``(562,)``, where tensors of ``device`` are counted."""
        device = counting_device(device)
        block = self._open.get((device, gradient))
        if block is None or len(block.sites) == len(block.rows):
            block = self._new_block(device, gradient)
        block.sites.append(site)
        return block.rows[len(block.sites) - 1]

    def _new_block(self, device: torch.device, gradient: bool) -> Block:
        # As large as all before it: few operations at the end of a step, at most half of it empty.
        used = sum(len(b.rows) for b in self.blocks if b.gradients == gradient)
        size = min(max(used, SMALLEST_BLOCK), LARGEST_BLOCK)
        if is_capturing():
            raise RuntimeError("a CUDA graph is captured: its memory cannot hold what is counted")
        # Hooks may run inside inference mode, whose tensors could not be updated outside of it.
        with torch.inference_mode(False):
            rows = torch.zeros((size, ROW_SLOTS), dtype=torch.int64, device=device)
            log = torch.zeros((self.log_steps, size), dtype=torch.float64, device=device)
            bad = torch.zeros((self.log_steps, size), dtype=torch.int64, device=device)
            window = torch.zeros(size, dtype=torch.float64, device=device)
            block = Block(rows, log, bad, window, gradient)
        self._open[(device, gradient)] = block
        self.blocks.append(block)
        return block

    @property
    def touched(self) -> bool:
        """Whether any finite non-zero value was observed since the last step ended."""
        return any(bool((block.amax > 0).any()) for block in self.blocks)

    def end_step(self, slot: int, scale: torch.Tensor | float | None = None) -> None:
        """Log every row's step in line ``slot`` and start the next step.

        Args:
            slot: line of the logs.
            scale: factor that the gradients of this step carry, None for none.
        """
        for block in self.blocks:
            block.end_step(slot, scale)

    def forget_gradients(self) -> None:
        """Empty what this step counted of gradients: their scale is not known."""
        for block in self.blocks:
            if block.gradients:
                block.rows.zero_()

    def filled(self, steps: int) -> list[torch.Tensor]:
        """Rows and logs of all blocks, where they are; ``taken`` asks for them in this order.

        Args:
            steps: lines of the logs in use.
        """
        return [tensor for block in self.blocks for tensor in block.filled(steps)]

    def taken(self, arrays: Iterator[npt.NDArray[Any]]) -> list[TakenBlock]:
        """What ``filled`` gave, once it is on the host."""
        found = []
        for block in self.blocks:
            rows, amax, amax_log, bad_log = itertools.islice(arrays, 4)
            rows.view(np.float64)[:, AMAX] = amax
            found.append(TakenBlock(rows, amax_log.T, bad_log.T, tuple(block.sites)))
        return found

    def empty(self) -> None:
        """Forget what was counted: it was taken."""
        for block in self.blocks:
            block.empty()


@dataclass(frozen=True, slots=True)
class TakenBlock:
    """Host copies of a block's used rows ``(n, 562)`` and logs ``(n, steps)``, and their sites.

    Arrays, because to look at them is then no read of a tensor, which waits for a device.
    """

    rows: npt.NDArray[np.int64]
    amax_log: npt.NDArray[np.float64]
    bad_log: npt.NDArray[np.int64]
    sites: tuple[int, ...]
