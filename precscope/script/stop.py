"""When a script has done enough, and how it is made to end."""

from __future__ import annotations

from torch.optim import Optimizer

MAX_RAISED = 3
"""A script that swallows the exception as often as this is left to run on."""


class StopRule:
    """Counts the steps of every optimizer.

    A run is done when all optimizers that step have taken ``steps`` steps, or when the first of
    them wants to take one more. It ends at the next forward pass or update: what the script
    still does for its last step (a schedule, a log line) is done.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._taken: dict[int, int] = {}
        self._leader: int | None = None
        self._raised = 0

    @property
    def leader_steps(self) -> int:
        """Steps of the optimizer that stepped first."""
        return 0 if self._leader is None else self._taken[self._leader]

    @property
    def is_done(self) -> bool:
        """Whether enough steps were taken."""
        return bool(self._taken) and min(self._taken.values()) >= self._steps

    def is_leader(self, optimizer: Optimizer) -> bool:
        """Whether this optimizer stepped first, or would now."""
        return self._leader in (None, id(optimizer))

    def is_beyond(self, optimizer: Optimizer) -> bool:
        """Whether a step of ``optimizer`` that begins now is one too many."""
        return self.is_done or (self.is_leader(optimizer) and self.leader_steps >= self._steps)

    def took(self, optimizer: Optimizer) -> None:
        """A step of ``optimizer`` is over."""
        if self._leader is None:
            self._leader = id(optimizer)
        self._taken[id(optimizer)] = self._taken.get(id(optimizer), 0) + 1

    def stop(self) -> None:
        """End the script, unless it has refused to end: ``finally`` blocks and exit handlers run.

        Raises:
            SystemExit: with code 0, the first three times. ``except Exception`` does not swallow it,
                and event loops and threads let it through without a word: threads only what is
                of this very class.
        """
        self._raised += 1
        if self._raised <= MAX_RAISED:
            raise SystemExit(0)
