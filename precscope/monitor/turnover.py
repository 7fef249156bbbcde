"""From the rows of a flush to facts: windows of each site, and one record per observed step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from precscope.facts import GRADIENT_KINDS, Site, StepRecord, Window
from precscope.kernels.row import OBSERVATIONS, histogram_of
from precscope.monitor.marks import INPUT, EndedStep
from precscope.monitor.rows import TakenBlock
from precscope.monitor.tensors import local_values


@dataclass(frozen=True, slots=True)
class PendingStep:
    """A step that ended since the last flush; its tensors are still on their devices.

    Attributes:
        step: index of the step.
        loss: its loss, if it was told.
        scale: the loss scale its gradients carried, None for none.
        skipped: whether its update was skipped; a tensor where only the device knows.
    """

    step: int
    loss: torch.Tensor | None
    scale: torch.Tensor | float | None
    skipped: torch.Tensor | bool


def on_devices(pending: list[PendingStep]) -> list[torch.Tensor]:
    """The tensors of these steps; ``read_back`` asks for them in this order."""
    values = (v for entry in pending for v in (entry.loss, entry.scale, entry.skipped))
    return [local_values(value) for value in values if isinstance(value, torch.Tensor)]


def read_back(pending: list[PendingStep], arrays: Iterator[npt.NDArray[Any]]) -> list[EndedStep]:
    """The same steps as plain numbers.

    Args:
        pending: as they ended.
        arrays: what ``on_devices`` gave, on the host.
    """

    def number(value: torch.Tensor | float) -> float:
        return float(next(arrays).item()) if isinstance(value, torch.Tensor) else float(value)

    ended = []
    for entry in pending:
        loss = None if entry.loss is None else number(entry.loss)
        scale = 1.0 if entry.scale is None else number(entry.scale)
        log2_scale = math.log2(scale) if 0.0 < scale < math.inf else 0.0
        ended.append((entry.step, loss, log2_scale, bool(number(entry.skipped))))
    return ended


def windows(
    taken: list[TakenBlock], first_step: int, last_step: int
) -> Iterator[tuple[int, Window]]:
    """Yield (site index, window) of every row that observed something."""
    for block in taken:
        for site, row in zip(block.sites, block.rows, strict=True):
            observations = int(row[OBSERVATIONS])
            if observations and site != INPUT:
                yield site, Window(first_step, last_step, observations, histogram_of(row))


def step_records(
    taken: list[TakenBlock], pending: list[EndedStep], sites: dict[int, Site]
) -> list[StepRecord]:
    """One record per pending step: its loss, and the largest gradient at risk with its site."""
    amax, owners = _gradient_amax(taken, sites)
    records = []
    for column, (step, loss, log2_scale, _) in enumerate(pending):
        largest, owner = 0.0, None
        if owners:
            index = int(amax[:, column].argmax())
            largest = float(amax[index, column])
            owner = owners[index] if largest > 0.0 else None
        records.append(StepRecord(step, loss, largest, owner, log2_scale))
    return records


def _gradient_amax(
    taken: list[TakenBlock], sites: dict[int, Site]
) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Logs of the gradient sites that FP16 autocast stores in half, ``(sites, steps)``."""
    logs, owners = [], []
    for block in taken:
        for site, log in zip(block.sites, block.amax_log, strict=True):
            if site == INPUT:
                continue
            fact = sites[site]
            if fact.kind in GRADIENT_KINDS and fact.autocast_dtype != "float32":
                logs.append(log)
                owners.append(site)
    return (np.stack(logs) if logs else np.empty((0, 0))), owners
