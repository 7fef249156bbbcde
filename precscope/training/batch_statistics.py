"""BatchStatistics: running means and variances as they were before a step that gets skipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class BatchStatistics:
    """A snapshot of the running statistics of every batch and instance normalisation.

    Forward moves them before anybody knows whether the step will be skipped.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [m for m in model.modules() if isinstance(m, _NormBase)]
        self._saved: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self._regions = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save them before a forward inside, unless this step's are saved already."""
        self.take()
        self._regions += 1
        try:
            yield
        finally:
            self._regions -= 1

    def take(self) -> None:
        """Save them, unless this step's are saved already."""
        if self._saved is None:
            self._saved = [(buffer, buffer.clone()) for buffer in self._buffers()]

    def restore(self) -> None:
        """Put back what was saved, if anything was."""
        with torch.no_grad():
            for buffer, value in self._saved or ():
                buffer.copy_(value)

    def drop(self) -> None:
        """Forget the snapshot: the step is over, and inside ``kept`` the next one begins."""
        self._saved = None
        if self._regions:
            self.take()

    def _buffers(self) -> list[torch.Tensor]:
        found = (getattr(module, name, None) for module in self._modules for name in _BUFFERS)
        return [buffer for buffer in found if isinstance(buffer, torch.Tensor)]
