"""The sites met so far: one entry, and one row, for each place and kind."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from precscope import kernels
from precscope.facts import GRADIENT_KINDS, Site, SiteKind
from precscope.kernels import Observer
from precscope.monitor.rows import RowStore
from precscope.monitor.sink import Sink


@dataclass(slots=True)
class Entry:
    """A site with the row that its statistics go to.

    Attributes:
        index: its number in the sink.
        site: the place.
        device: where its tensors were met last.
        row: the row there.
        observe: adds a tensor to it.
        elsewhere: row and observer on the other devices where they were met.
    """

    index: int
    site: Site
    device: torch.device
    row: torch.Tensor
    observe: Observer
    elsewhere: dict[torch.device, tuple[torch.Tensor, Observer]] = field(default_factory=dict)

    def move(self, device: torch.device, rows: RowStore) -> None:
        """Go on with the row on another device; one module may be called on two in turn."""
        self.elsewhere[self.device] = (self.row, self.observe)
        if device not in self.elsewhere:
            row = rows.new_row(self.index, device, self.site.kind in GRADIENT_KINDS)
            self.elsewhere[device] = (row, kernels.observer(row))
        self.row, self.observe = self.elsewhere[device]
        self.device = device


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
        self._by_key: dict[tuple[str, SiteKind], Entry] = {}
        self.entries: list[Entry] = []

    def entry(
        self, name: str, kind: SiteKind, tensor: torch.Tensor, module_type: str, whole: torch.Tensor
    ) -> Entry:
        """The entry for a place, opened from ``tensor``, this process's shard of ``whole``.

        A module that moves to another device gets a row there; its site stays the same.
        """
        found = self._by_key.get((name, kind))
        if found is None:
            found = self._open(name, kind, tensor, module_type, whole)
        elif found.device != tensor.device:
            found.move(tensor.device, self._rows)
        return found

    def _open(
        self, name: str, kind: SiteKind, tensor: torch.Tensor, module_type: str, whole: torch.Tensor
    ) -> Entry:
        site = Site(
            name=name,
            kind=kind,
            shape=tuple(whole.shape),
            dtype=dtype_name(tensor.dtype),
            autocast_dtype=self._autocast_dtypes.get((name, kind)),
            module_type=module_type,
            order=len(self.entries),
        )
        index = self._sink.add_site(site)
        row = self._rows.new_row(index, tensor.device, kind in GRADIENT_KINDS)
        entry = Entry(index, site, tensor.device, row, kernels.observer(row))
        self.entries.append(entry)
        self._by_key[(name, kind)] = entry
        return entry


class Counter:
    """Counts what is met at one place; looks its entry up once, and when the device changes."""

    __slots__ = ("_book", "_entry", "_kind", "_module_type", "name")

    def __init__(self, book: SiteBook, name: str, kind: SiteKind, module_type: str) -> None:
        self.name = name
        self._book = book
        self._kind = kind
        self._module_type = module_type
        self._entry: Entry | None = None

    def entry(self, tensor: torch.Tensor, whole: torch.Tensor) -> Entry:
        """The entry for ``tensor``, this process's shard of ``whole``."""
        entry = self._entry
        if entry is None or entry.device != tensor.device:
            entry = self._book.entry(self.name, self._kind, tensor, self._module_type, whole)
            self._entry = entry
        return entry

    def add(self, tensor: torch.Tensor, whole: torch.Tensor) -> None:
        """Count ``tensor``, this process's shard of ``whole``."""
        entry = self._entry
        if entry is None or entry.device != tensor.device:
            entry = self.entry(tensor, whole)
        entry.observe(tensor)


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float16`` as ``"float16"``."""
    return str(dtype).removeprefix("torch.")


def output_name(module_name: str, position: int) -> str:
    """Name of the tensor at ``position`` of a module's output: ``"lstm"``, then ``"lstm[1]"``."""
    base = module_name or "(root)"
    return base if position == 0 else f"{base}[{position}]"
