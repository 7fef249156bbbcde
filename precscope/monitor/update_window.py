"""A window of sampled updates whose sums are still on their device, and the facts made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from precscope.facts import RetentionSums, UpdateWindow

UPDATE_FACTORS: tuple[float, ...] = (1.0, 0.1, 0.01)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled parameter.

    Attributes:
        name: qualified name.
        count: sampled elements.
        learning_rate: at the last step of the window; None if its group has none.
    """

    name: str
    count: int
    learning_rate: float | None


@dataclass(frozen=True, slots=True)
class EndedWindow:
    """Steps of the parameters of one device.

    Attributes:
        parameters: in the order of the last axis of the sums.
        steps: those that were observed.
        sums: ``(5, factors, parameters)`` float64, of single updates.
        reasons: ``(2, parameters)`` float64, counts of the paper's two reasons.
        accumulated: ``(5, parameters)`` float64, of the whole window; None for a single step.
    """

    parameters: tuple[Sampled, ...]
    steps: tuple[int, ...]
    sums: torch.Tensor
    reasons: torch.Tensor
    accumulated: torch.Tensor | None

    def filled(self) -> list[torch.Tensor]:
        """The sums, where they are; ``facts`` asks for them in this order."""
        sums = [self.sums, self.reasons]
        return sums if self.accumulated is None else [*sums, self.accumulated]

    def facts(self, arrays: Iterator[npt.NDArray[Any]]) -> list[UpdateWindow]:
        """One record per parameter, from what ``filled`` gave, on the host."""
        sums, reasons = next(arrays), next(arrays)
        accumulated = None if self.accumulated is None else next(arrays)
        return [
            UpdateWindow(
                parameter=sample.name,
                first_step=self.steps[0],
                last_step=self.steps[-1],
                steps=len(self.steps),
                sampled=sample.count,
                learning_rate=sample.learning_rate,
                below_2_24=int(reasons[0, i]),
                ratio_above_2048=int(reasons[1, i]),
                single=tuple(_to_sums(f, sums[:, j, i]) for j, f in enumerate(UPDATE_FACTORS)),
                accumulated=None if accumulated is None else _to_sums(1.0, accumulated[:, i]),
            )
            for i, sample in enumerate(self.parameters)
        ]


def _to_sums(factor: float, column: npt.NDArray[Any]) -> RetentionSums:
    dot, squares, noise, lost, nonzero = column.tolist()
    return RetentionSums(factor, dot, squares, noise, int(lost), int(nonzero))
