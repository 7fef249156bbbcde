"""From the rows of a flush to facts: windows of each site, and one record per observed step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from precscope.facts import GRADIENT_KINDS, Site, StepRecord, Window
from precscope.kernels.row import OBSERVATIONS, to_histogram
from precscope.monitor.rows import TakenBlock

PendingStep = tuple[int, float | None, float]


def windows(
    taken: list[TakenBlock], first_step: int, last_step: int
) -> Iterator[tuple[int, Window]]:
    """Yield (site index, window) of every row that observed something."""
    for block in taken:
        for site, row in zip(block.sites, block.rows, strict=True):
            observations = int(row[OBSERVATIONS])
            if observations:
                yield site, Window(first_step, last_step, observations, to_histogram(row))


def step_records(
    taken: list[TakenBlock], pending: list[PendingStep], sites: dict[int, Site]
) -> list[StepRecord]:
    """One record per pending step: its loss, and the largest gradient at risk with its site."""
    amax, owners = _gradient_amax(taken, sites)
    records = []
    for column, (step, loss, log2_scale) in enumerate(pending):
        largest, owner = 0.0, None
        if owners:
            value, index = amax[:, column].max(0)
            largest = float(value)
            owner = owners[int(index)] if largest > 0.0 else None
        records.append(StepRecord(step, loss, largest, owner, log2_scale))
    return records


def _gradient_amax(
    taken: list[TakenBlock], sites: dict[int, Site]
) -> tuple[torch.Tensor, list[int]]:
    """Logs of the gradient sites that FP16 autocast stores in half, ``(sites, steps)``."""
    logs, owners = [], []
    for block in taken:
        for site, log in zip(block.sites, block.amax_log, strict=True):
            fact = sites[site]
            if fact.kind in GRADIENT_KINDS and fact.autocast_dtype != "float32":
                logs.append(log)
                owners.append(site)
    return (torch.stack(logs) if logs else torch.empty(0)), owners
