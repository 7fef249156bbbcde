"""Rows of all sites, in blocks on each device, and the logs of amax and of bad values per step.

Nothing is read back to the host until a flush: the end of a step copies each block's amax
column, and its count of infinities and NaNs, into the next column of its logs, on the device. A
site costs 4.5 KB for its row and 16 bytes per step of the logs, whatever the size of its
tensors; a gradient under a loss scale another 4.5 KB.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from precscope.kernels.row import AMAX, INFINITIES, NANS, ROW_SLOTS
from precscope.monitor.unscaling import add_unscaled

BLOCK_ROWS = 32


@dataclass(slots=True)
class Block:
    """Rows of up to 32 sites on one device.

    Attributes:
        rows: ``(32, 562)`` int64, the kernels' accumulators.
        amax_log: ``(32, steps)`` float64, amax of each row in each step since the last flush.
        bad_log: ``(32, steps)`` int64, infinities and NaNs up to the end of each step.
        window_amax: ``(32,)`` float64, amax of the steps already logged.
        gradients: whether these are gradients, which a loss scale multiplies.
        sites: site index of each used row.
        unscaled: ``(32, 562)``, the rows of the steps before at their true scale; None until a
            loss scale is seen.
    """

    rows: torch.Tensor
    amax_log: torch.Tensor
    bad_log: torch.Tensor
    window_amax: torch.Tensor
    gradients: bool
    sites: list[int] = field(default_factory=list)
    unscaled: torch.Tensor | None = None

    @property
    def amax(self) -> torch.Tensor:
        """The amax column of the rows, as float64, in place."""
        return self.rows.view(torch.float64)[:, AMAX]

    @property
    def window(self) -> torch.Tensor:
        """The rows that hold what was counted since the last flush."""
        return self.rows if self.unscaled is None else self.unscaled

    def end_step(self, slot: int, scale: torch.Tensor | float | None) -> None:
        """Log this step's amax and bad values in column ``slot``; take ``scale`` off gradients."""
        if self.gradients and (scale is not None or self.unscaled is not None):
            if self.unscaled is None:
                self.unscaled = torch.zeros_like(self.rows)
            factor = 1.0 if scale is None else scale
            self.amax_log[:, slot] = add_unscaled(self.unscaled, self.rows, factor)
            self.rows.zero_()
        else:
            amax = self.amax
            self.amax_log[:, slot] = amax
            torch.maximum(self.window_amax, amax, out=self.window_amax)
            amax.zero_()
        window = self.window
        torch.add(window[:, INFINITIES], window[:, NANS], out=self.bad_log[:, slot])

    def take(self, steps: int) -> TakenBlock:
        """Copy the used rows and logs to the host and empty them."""
        if self.unscaled is None:
            torch.maximum(self.window_amax, self.amax, out=self.amax)
        used = len(self.sites)
        taken = TakenBlock(
            self.window[:used].to("cpu", copy=True),
            self.amax_log[:used, :steps].to("cpu", copy=True),
            self.bad_log[:used, :steps].to("cpu", copy=True),
            tuple(self.sites),
        )
        for tensor in (self.window, self.amax_log, self.bad_log, self.window_amax):
            tensor.zero_()
        return taken


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
        """An empty row for a site, shape ``(562,)``, on ``device``."""
        block = self._open.get((device, gradient))
        if block is None or len(block.sites) == BLOCK_ROWS:
            block = self._new_block(device, gradient)
        block.sites.append(site)
        return block.rows[len(block.sites) - 1]

    def _new_block(self, device: torch.device, gradient: bool) -> Block:
        # Hooks may run inside inference mode, whose tensors could not be updated outside of it.
        with torch.inference_mode(False):
            rows = torch.zeros((BLOCK_ROWS, ROW_SLOTS), dtype=torch.int64, device=device)
            log = torch.zeros((BLOCK_ROWS, self.log_steps), dtype=torch.float64, device=device)
            bad = torch.zeros((BLOCK_ROWS, self.log_steps), dtype=torch.int64, device=device)
            window = torch.zeros(BLOCK_ROWS, dtype=torch.float64, device=device)
        block = Block(rows, log, bad, window, gradient)
        self._open[(device, gradient)] = block
        self.blocks.append(block)
        return block

    @property
    def touched(self) -> bool:
        """Whether any finite non-zero value was observed since the last step ended."""
        return any(bool((block.amax > 0).any()) for block in self.blocks)

    def end_step(self, slot: int, scale: torch.Tensor | float | None = None) -> None:
        """Log every row's step in column ``slot`` and start the next step.

        Args:
            slot: column of the logs.
            scale: factor that the gradients of this step carry, None for none.
        """
        for block in self.blocks:
            block.end_step(slot, scale)

    def forget_gradients(self) -> None:
        """Empty what this step counted of gradients: their scale is not known."""
        for block in self.blocks:
            if block.gradients:
                block.rows.zero_()

    def take(self, steps: int) -> list[TakenBlock]:
        """Copy all rows to the host and empty them: one transfer per block and log.

        Args:
            steps: columns of the logs in use.
        """
        return [block.take(steps) for block in self.blocks]


@dataclass(frozen=True, slots=True)
class TakenBlock:
    """Host copies of a block's used rows ``(n, 562)`` and logs ``(n, steps)``, and their sites."""

    rows: torch.Tensor
    amax_log: torch.Tensor
    bad_log: torch.Tensor
    sites: tuple[int, ...]
