"""Memory of each recipe beside FP32's: the paper's "roughly halved", checked part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PARTS = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "saved_tensor_bytes")
"""What training keeps: weights with their copies, gradients, optimizer state, activations."""

ROUGHLY_HALF = (0.4, 0.6)
"""Shares of FP32's memory that are called roughly half."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of one recipe.

    Attributes:
        recipe: its name.
        part_bytes: by name of ``PARTS``; None where it was not measured.
        total_bytes: their sum, None if one is missing.
        part_ratio: each part as a share of FP32's; None where that is zero or missing.
        total_ratio: the same for the total.
        peak_ratio: largest memory allocated, as a share of FP32's; None on a CPU.
    """

    recipe: str
    part_bytes: dict[str, int | None]
    total_bytes: int | None
    part_ratio: dict[str, float | None]
    total_ratio: float | None
    peak_ratio: float | None

    @property
    def is_roughly_half(self) -> bool:
        """Whether the total is between 0.4 and 0.6 of FP32's."""
        low, high = ROUGHLY_HALF
        return self.total_ratio is not None and low <= self.total_ratio <= high


def memory_table(runs: Sequence[Mapping[str, Any]]) -> list[MemoryUse]:
    """One row per run, in order; ``runs`` are ``TrainingRun.to_dict()`` or those of a result.

    Without a run of ``fp32`` every ratio is None.
    """
    baseline = next((run for run in runs if run["recipe"] == "fp32"), {})
    return [_row(run, baseline) for run in runs]


def _row(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> MemoryUse:
    parts = {name: run.get(name) for name in PARTS}
    total = _total(run)
    return MemoryUse(
        recipe=run["recipe"],
        part_bytes=parts,
        total_bytes=total,
        part_ratio={name: _ratio(size, baseline.get(name)) for name, size in parts.items()},
        total_ratio=_ratio(total, _total(baseline)),
        peak_ratio=_ratio(run.get("peak_memory_bytes"), baseline.get("peak_memory_bytes")),
    )


def _total(run: Mapping[str, Any]) -> int | None:
    sizes = [run.get(name) for name in PARTS]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _ratio(size: int | None, reference: int | None) -> float | None:
    return size / reference if size is not None and reference else None
