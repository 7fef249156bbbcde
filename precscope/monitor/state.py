"""The switches that hooks read: whether this step is observed, and which kinds are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from precscope.errors import UsageError
from precscope.facts import SITE_KINDS

UPDATES = "weight_update"
KINDS: tuple[str, ...] = (*SITE_KINDS, UPDATES)


@dataclass(slots=True)
class State:
    """What is observed now.

    Attributes:
        active: whether the present step is observed.
        step: index of the present optimizer step.
    """

    active: bool = False
    step: int = 0
    activations: bool = True
    activation_gradients: bool = True
    weights: bool = True
    weight_gradients: bool = True
    updates: bool = True

    @classmethod
    def of_kinds(cls, kinds: Iterable[str]) -> State:
        """A state that observes the given kinds only; see ``checked_kinds``."""
        wanted = checked_kinds(kinds)
        return cls(
            activations="activation" in wanted,
            activation_gradients="activation_gradient" in wanted,
            weights="weight" in wanted,
            weight_gradients="weight_gradient" in wanted,
            updates=UPDATES in wanted,
        )


def checked_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds, if all of them exist.

    Raises:
        UsageError: an unknown kind; the message lists those that exist.
    """
    found = tuple(kinds)
    unknown = sorted(set(found) - set(KINDS))
    if unknown:
        raise UsageError(f"unknown kind {', '.join(unknown)}: choose among {', '.join(KINDS)}")
    return found
