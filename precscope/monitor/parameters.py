"""Weights and weight gradients: a hook after each gradient is accumulated, a look before a step.

The gradient is observed as autograd leaves it in ``.grad``: before clipping, and with gradient
accumulation once per micro-batch, because each partial sum is a value that would be stored. DDP
reduces gradients behind the hooks: they are observed at the end of backward then, reduced.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from precscope import kernels
from precscope.monitor.guard import Guard
from precscope.monitor.places import Hook, Place, Places
from precscope.monitor.ranks import after_reduction, copy_index, data_parallel_rank
from precscope.monitor.sitebook import Observe, SiteBook
from precscope.monitor.state import State
from precscope.monitor.tensors import graph_task, local_values, strided_values, unreadable

TOGETHER = "weights"
"""What observes all weights in one call, in the errors of the guard."""


class ParameterHooks:
    """Observes every parameter of a model and its gradient.

    A tied parameter is one site. A lazy parameter is taken up once it has a shape, a frozen one
    once it is trained.
    """

    def __init__(
        self,
        model: nn.Module,
        book: SiteBook,
        observe: Observe,
        state: State,
        guard: Guard,
        wanted: Callable[[str], bool],
    ) -> None:
        self._book = book
        self._observe = observe
        self._state = state
        self._guard = guard
        self._copies_rank: int | None = None
        self._unreduced: list[Place] = []
        self._reduced_task = -1
        self._places = Places(model, wanted, self._hook if state.weight_gradients else None)
        self.skipped = self._places.skipped

    def pass_begins(self) -> None:
        """Called in a forward pass: DDP reduces gradients after the hooks have seen them."""
        rank = data_parallel_rank()
        if rank is not None:
            self._copies_rank = rank

    def update_begins(self) -> bool:
        """Look which parameters there are now; whether one was replaced."""
        return self._places.look()

    def _hook(self, place: Place) -> Hook:
        def observe_gradient(parameter: torch.Tensor) -> None:
            if not self._state.active or parameter.grad is None:
                return
            if self._copies_rank is None or not self._wait_for_reduction(place):
                self._gradient(place)

        return observe_gradient

    def _wait_for_reduction(self, place: Place) -> bool:
        task = graph_task()
        if task != self._reduced_task:
            # Gradients of a backward pass that raised are forgotten.
            self._reduced_task, self._unreduced = task, []
            if not after_reduction(self._observe_reduced):
                self._reduced_task = -1
                return False
        self._unreduced.append(place)
        return True

    def _observe_reduced(self) -> None:
        unreduced, self._unreduced, self._reduced_task = self._unreduced, [], -1
        for place in unreduced:
            self._gradient(place)

    def _gradient(self, place: Place) -> None:
        if self._guard.any and self._guard.disabled(f"{place.name} (gradient)"):
            return
        try:
            self._observe_gradient(place)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(f"{place.name} (gradient)")

    def _observe_gradient(self, place: Place) -> None:
        gradient = place.parameter.grad
        if gradient is None:
            return
        values = strided_values(gradient)
        if values is None:
            self.skipped[place.name] = f"gradient layout {gradient.layout} is not read"
        elif (reason := unreadable(values)) is not None:
            self.skipped[place.name] = reason
        else:
            shape = tuple(place.parameter.shape)
            row = self._book.row(place.name, "weight_gradient", values, place.owner, shape)
            self._observe(values, row)

    def observe_weights(self) -> None:
        """Observe every parameter as it is now: called before the optimizer moves it."""
        if not self._state.weights:
            return
        values: list[torch.Tensor] = []
        rows: list[torch.Tensor] = []
        for place in self._places.known:
            if not (self._guard.any and self._guard.disabled(place.name)):
                self._gather(place, values, rows)
        if self._guard.any and self._guard.disabled(TOGETHER):
            return
        try:
            kernels.observe_many(values, rows)
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
            shape = tuple(place.parameter.shape)
            row = self._book.row(place.name, "weight", local, place.owner, shape)
            if place.dtype is local.dtype:
                values.append(local)
                rows.append(row)
            else:
                self._observe(local, row)
                place.dtype = local.dtype
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(place.name)

    def replicas(self) -> dict[str, int]:
        """Parameters whose values an earlier rank holds as well, and how many ranks do."""
        rank = self._copies_rank
        found = {place.name: copy_index(place.parameter, rank) for place in self._places.known}
        return {name: index for name, index in found.items() if index}

    def remove(self) -> None:
        """Take every hook off the parameters."""
        self._places.remove()
