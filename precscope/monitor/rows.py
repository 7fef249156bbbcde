"""Rows of all sites, in blocks on each device, and the log of amax per step.

Nothing is read back to the host until a flush: the end of a step copies each block's amax
column into the next column of its log, on the device. A site costs 4.5 KB for its row and 8
bytes per step of the log, whatever the size of its tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from precscope.kernels.row import AMAX, ROW_SLOTS

BLOCK_ROWS = 32


@dataclass(slots=True)
class Block:
    """Rows of up to 32 sites on one device.

    Attributes:
        rows: ``(32, 562)`` int64, the kernels' accumulators.
        amax_log: ``(32, steps)`` float64, amax of each row in each step since the last flush.
        window_amax: ``(32,)`` float64, amax of the steps already logged.
        sites: site index of each used row.
    """

    rows: torch.Tensor
    amax_log: torch.Tensor
    window_amax: torch.Tensor
    sites: list[int] = field(default_factory=list)

    @property
    def amax(self) -> torch.Tensor:
        """The amax column of the rows, as float64, in place."""
        return self.rows.view(torch.float64)[:, AMAX]


class RowStore:
    """Hands out rows and turns them over at the end of a step and at a flush."""

    def __init__(self, log_steps: int) -> None:
        self.log_steps = log_steps
        self._open: dict[torch.device, Block] = {}
        self.blocks: list[Block] = []

    @property
    def memory_bytes(self) -> int:
        """Bytes held on all devices."""
        tensors = (t for b in self.blocks for t in (b.rows, b.amax_log, b.window_amax))
        return sum(t.numel() * t.element_size() for t in tensors)

    def new_row(self, site: int, device: torch.device) -> torch.Tensor:
        """An empty row for a site, shape ``(562,)``, on ``device``."""
        block = self._open.get(device)
        if block is None or len(block.sites) == BLOCK_ROWS:
            block = self._new_block(device)
        block.sites.append(site)
        return block.rows[len(block.sites) - 1]

    def _new_block(self, device: torch.device) -> Block:
        # Hooks may run inside inference mode, whose tensors could not be updated outside of it.
        with torch.inference_mode(False):
            rows = torch.zeros((BLOCK_ROWS, ROW_SLOTS), dtype=torch.int64, device=device)
            log = torch.zeros((BLOCK_ROWS, self.log_steps), dtype=torch.float64, device=device)
            window = torch.zeros(BLOCK_ROWS, dtype=torch.float64, device=device)
        block = Block(rows, log, window)
        self._open[device] = block
        self.blocks.append(block)
        return block

    @property
    def touched(self) -> bool:
        """Whether any finite non-zero value was observed since the last step ended."""
        return any(bool((block.amax > 0).any()) for block in self.blocks)

    def end_step(self, slot: int) -> None:
        """Log every row's amax of this step in column ``slot`` and start the next step at 0."""
        for block in self.blocks:
            amax = block.amax
            block.amax_log[:, slot] = amax
            torch.maximum(block.window_amax, amax, out=block.window_amax)
            amax.zero_()

    def take(self, steps: int) -> list[TakenBlock]:
        """Copy all rows to the host and empty them: one transfer per block.

        Args:
            steps: columns of the log in use.
        """
        taken = []
        for block in self.blocks:
            torch.maximum(block.window_amax, block.amax, out=block.amax)
            taken.append(
                TakenBlock(
                    block.rows[: len(block.sites)].to("cpu", copy=True),
                    block.amax_log[: len(block.sites), :steps].to("cpu", copy=True),
                    tuple(block.sites),
                )
            )
            block.rows.zero_()
            block.amax_log.zero_()
            block.window_amax.zero_()
        return taken


@dataclass(frozen=True, slots=True)
class TakenBlock:
    """Host copies of a block's used rows ``(n, 562)`` and log ``(n, steps)``, and their sites."""

    rows: torch.Tensor
    amax_log: torch.Tensor
    sites: tuple[int, ...]
