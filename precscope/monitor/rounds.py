"""When a step ends if several optimizers train one model."""

from __future__ import annotations

from collections.abc import Hashable

PATIENCE = 16


class StepRounds:
    """A step is a round: it ends when every optimizer has stepped at least once.

    So five discriminator steps and one generator step are one step. An optimizer that has not
    moved while another stepped 16 times is no longer waited for, until it steps again.
    """

    def __init__(self, optimizers: list[Hashable]) -> None:
        self._awaited = set(optimizers)
        self._steps: dict[Hashable, int] = {}

    @property
    def begun(self) -> bool:
        """Whether any optimizer has stepped in the present round."""
        return bool(self._steps)

    def stepped(self, optimizer: Hashable) -> bool:
        """Note a step of ``optimizer``; returns whether the round ends with it."""
        self._awaited.add(optimizer)
        self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        if self._steps[optimizer] >= PATIENCE:
            self._awaited = set(self._steps)
        if not self._awaited <= self._steps.keys():
            return False
        self.end()
        return True

    def end(self) -> None:
        """Begin the next round."""
        self._steps = {}
