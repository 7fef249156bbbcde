"""No exception of ours reaches the user's program: errors disable the observer and are counted."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(slots=True)
class ObserverError:
    """An error inside an observer.

    Attributes:
        where: the observer that failed: a site, or a part of the monitor.
        message: the exception's type and text.
        count: how often it failed before it was disabled.
    """

    where: str
    message: str
    count: int = 1


class Guard:
    """Collects what went wrong inside observers, and remembers which of them are disabled.

    Attributes:
        any: whether anything has failed: the fast check before ``disabled``.
    """

    def __init__(self) -> None:
        self.any = False
        self._errors: dict[str, ObserverError] = {}

    def failed(self, where: str) -> None:
        """Note the exception being handled, and disable the observer called ``where``."""
        kind, value, _ = sys.exc_info()
        message = f"{kind.__name__}: {value}" if kind is not None else "unknown error"
        self.any = True
        known = self._errors.get(where)
        if known is None:
            self._errors[where] = ObserverError(where, message[:500])
        else:
            known.count += 1

    def disabled(self, where: str) -> bool:
        """Whether the observer called ``where`` has failed before."""
        return where in self._errors

    def report(self) -> list[dict[str, str | int]]:
        """The errors as plain records, for the coverage document."""
        return [
            {"where": e.where, "message": e.message, "count": e.count}
            for e in self._errors.values()
        ]
