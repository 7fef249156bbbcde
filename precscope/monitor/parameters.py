"""Weights and weight gradients: a hook after each gradient is accumulated, a look before a step.

The gradient is observed as autograd leaves it in ``.grad``: before clipping, and with gradient
accumulation once per micro-batch, because each partial sum is a value that would be stored. DDP
and FSDP1 reduce gradients behind the hooks: they are observed at the end of backward then.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from precscope.monitor.guard import Guard
from precscope.monitor.places import Hook, Place, Places
from precscope.monitor.ranks import after_reduction, copy_index, data_parallel_rank
from precscope.monitor.sitebook import Counter, SiteBook
from precscope.monitor.state import State
from precscope.monitor.tensors import graph_task, strided_values, unreadable
from precscope.monitor.weights import Weights


class ParameterHooks:
    """Observes every parameter of a model and its gradient.

    A tied parameter is one site. A lazy parameter is taken up once it has a shape, a frozen one
    once it is trained.
    """

    def __init__(
        self,
        model: nn.Module,
        book: SiteBook,
        state: State,
        guard: Guard,
        wanted: Callable[[str], bool],
    ) -> None:
        self._book = book
        self._state = state
        self._guard = guard
        self._copies_rank: int | None = None
        self._unreduced: list[tuple[Place, Counter]] = []
        self._reduced_task = -1
        self._weights = Weights(book, guard)
        self._places = Places(model, wanted, self._hook if state.weight_gradients else None)
        self.skipped = self._weights.skipped = self._places.skipped
        self.names = self._places.names

    def pass_begins(self) -> None:
        """Called in a forward pass: DDP reduces gradients after the hooks have seen them."""
        rank = data_parallel_rank()
        if rank is not None:
            self._copies_rank = rank

    def update_begins(self) -> bool:
        """Look which parameters there are now; whether one was replaced."""
        return self._places.look()

    def _hook(self, place: Place) -> Hook:
        counter = Counter(self._book, place.name, "weight_gradient", place.owner)
        state = self._state

        def observe_gradient(parameter: torch.Tensor) -> None:
            if not state.active or parameter.grad is None:
                return
            reduced_later = self._copies_rank is not None or place.share is not None
            if not reduced_later or not self._wait_for_reduction(place, counter):
                self._gradient(place, counter)

        return observe_gradient

    def _wait_for_reduction(self, place: Place, counter: Counter) -> bool:
        task = graph_task()
        if task != self._reduced_task:
            # Gradients of a backward pass that raised are forgotten.
            self._reduced_task, self._unreduced = task, []
            if not after_reduction(self._observe_reduced):
                self._reduced_task = -1
                return False
        self._unreduced.append((place, counter))
        return True

    def _observe_reduced(self) -> None:
        unreduced, self._unreduced, self._reduced_task = self._unreduced, [], -1
        for place, counter in unreduced:
            self._gradient(place, counter)

    def _gradient(self, place: Place, counter: Counter) -> None:
        if self._guard.any and self._guard.disabled(f"{place.name} (gradient)"):
            return
        try:
            gradient = place.parameter.grad
            if gradient is not None and (place.share is None or place.share.is_reduced):
                self._count_gradient(place, counter, gradient)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(f"{place.name} (gradient)")

    def _count_gradient(self, place: Place, counter: Counter, gradient: torch.Tensor) -> None:
        values = strided_values(gradient)
        if values is None:
            self.skipped[place.name] = f"gradient layout {gradient.layout} is not read"
        elif (reason := unreadable(values)) is not None:
            self.skipped[place.name] = reason
        else:
            counter.add(values, place.whole)

    def observe_weights(self) -> None:
        """Observe every parameter as it is now: called before the optimizer moves it."""
        if self._state.weights and not self._weights.again(self._places.known):
            self._weights.observe(self._places.known)

    def replicas(self) -> dict[str, int]:
        """Parameters whose values an earlier rank holds as well, and how many ranks do."""
        rank = self._copies_rank
        found = {
            place.name: place.share.copy if place.share else copy_index(place.parameter, rank)
            for place in self._places.known
        }
        return {name: index for name, index in found.items() if index}

    def remove(self) -> None:
        """Take every hook off the parameters."""
        self._places.remove()
