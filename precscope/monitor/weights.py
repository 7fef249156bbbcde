"""All weights of a model, observed in one call of the kernel."""

from __future__ import annotations

import torch

from precscope import kernels
from precscope.kernels import ObserverOfMany
from precscope.monitor.guard import Guard
from precscope.monitor.places import Place
from precscope.monitor.sitebook import Counter, SiteBook
from precscope.monitor.tensors import PLAIN, local_values, unreadable

TOGETHER = "weights"
"""What observes all weights in one call, in the errors of the guard."""


class Weights:
    """Observes the weights as they are at a step: looks at each, or at all as the step before.

    Args:
        book: the sites.
        guard: the errors of observers.
    """

    def __init__(self, book: SiteBook, guard: Guard) -> None:
        self._book = book
        self._guard = guard
        self._counters: dict[str, Counter] = {}
        self._observer: ObserverOfMany | None = None
        self._parameters: list[torch.Tensor] = []
        self.skipped: dict[str, str] = {}

    def again(self, places: list[Place]) -> bool:
        """Observe the parameters that were observed last; False if it is not as simple."""
        if self._observer is None or self._guard.any:
            return False
        now = [place.parameter for place in places]
        if len(now) != len(self._parameters) or any(
            a is not b for a, b in zip(now, self._parameters, strict=True)
        ):
            return False
        try:
            return self._observer(now)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(TOGETHER)
            return True

    def observe(self, places: list[Place]) -> None:
        """Look at every parameter, and observe those together that can be."""
        values: list[torch.Tensor] = []
        rows: list[torch.Tensor] = []
        for place in places:
            if not (self._guard.any and self._guard.disabled(place.name)):
                self._gather(place, values, rows)
        if self._guard.any and self._guard.disabled(TOGETHER):
            return
        try:
            kernels.observe_many(values, rows)
            self._keep(places, values, rows)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(TOGETHER)

    def _gather(self, place: Place, values: list[torch.Tensor], rows: list[torch.Tensor]) -> None:
        """Put a weight with those that are observed together; one that is new goes alone.

        So whatever cannot be observed fails alone, once.
        """
        try:
            local = local_values(place.parameter)
            if (reason := unreadable(local)) is not None:
                self.skipped[place.name] = reason
                return
            counter = self._counters.get(place.name)
            if counter is None:
                counter = Counter(self._book, place.name, "weight", place.owner)
                self._counters[place.name] = counter
            entry = counter.entry(local, place.whole)
            if place.dtype is local.dtype:
                values.append(local)
                rows.append(entry.row)
            else:
                entry.observe(local)
                place.dtype = local.dtype
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(place.name)

    def _keep(
        self, places: list[Place], values: list[torch.Tensor], rows: list[torch.Tensor]
    ) -> None:
        """Remember what to observe next time, if that was every parameter itself."""
        self._observer = None
        parameters: list[torch.Tensor] = [place.parameter for place in places]
        if len(values) == len(parameters) > 0 and all(type(p) in PLAIN for p in parameters):
            self._observer, self._parameters = kernels.observer_of_many(rows), parameters
