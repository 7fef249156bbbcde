"""The sites met so far: one entry, and one row, for each place and kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from precscope.facts import GRADIENT_KINDS, Site, SiteKind
from precscope.monitor.rows import RowStore
from precscope.monitor.sink import Sink


@dataclass(slots=True)
class Entry:
    """A site with the row that its statistics go to."""

    index: int
    site: Site
    row: torch.Tensor
    device: torch.device


class SiteBook:
    """Opens an entry the first time a tensor is met at a place.

    Args:
        sink: registers the sites.
        rows: provides a row on the tensor's device.
        autocast_dtypes: dtype name under autocast by (name, kind), where it was measured.
    """

    def __init__(
        self, sink: Sink, rows: RowStore, autocast_dtypes: dict[tuple[str, str], str]
    ) -> None:
        self._sink = sink
        self._rows = rows
        self._autocast_dtypes = autocast_dtypes
        self.entries: list[Entry] = []
        self.by_key: dict[tuple[str, SiteKind], Entry] = {}

    def row(
        self,
        name: str,
        kind: SiteKind,
        tensor: torch.Tensor,
        module_type: str,
        shape: tuple[int, ...] | None = None,
    ) -> torch.Tensor:
        """The row for a place, opened from ``tensor`` on the first call.

        ``shape`` is that of the whole, where ``tensor`` is this process's shard of it.

        A module that moves to another device gets a row there; its site stays the same.
        """
        found = self.by_key.get((name, kind))
        if found is None:
            found = self._open(name, kind, tensor, module_type, shape)
        elif found.device != tensor.device:
            found.device = tensor.device
            found.row = self._rows.new_row(found.index, tensor.device, kind in GRADIENT_KINDS)
        return found.row

    def _open(
        self,
        name: str,
        kind: SiteKind,
        tensor: torch.Tensor,
        module_type: str,
        shape: tuple[int, ...] | None,
    ) -> Entry:
        site = Site(
            name=name,
            kind=kind,
            shape=tuple(tensor.shape) if shape is None else shape,
            dtype=dtype_name(tensor.dtype),
            autocast_dtype=self._autocast_dtypes.get((name, kind)),
            module_type=module_type,
            order=len(self.entries),
        )
        index = self._sink.add_site(site)
        row = self._rows.new_row(index, tensor.device, kind in GRADIENT_KINDS)
        entry = Entry(index, site, row, tensor.device)
        self.entries.append(entry)
        self.by_key[(name, kind)] = entry
        return entry


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float16`` as ``"float16"``."""
    return str(dtype).removeprefix("torch.")


def output_name(module_name: str, position: int) -> str:
    """Name of the tensor at ``position`` of a module's output: ``"lstm"``, then ``"lstm[1]"``."""
    base = module_name or "(root)"
    return base if position == 0 else f"{base}[{position}]"


Observe = Callable[[torch.Tensor, torch.Tensor], None]
