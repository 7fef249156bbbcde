"""One of the tensors that a module returns: where its values and its gradient are counted."""

from __future__ import annotations

import threading
from collections import Counter as Counts
from typing import Protocol

import torch

from precscope.monitor.guard import Guard
from precscope.monitor.sitebook import Counter, SiteBook
from precscope.monitor.state import State
from precscope.monitor.tensors import local_values, unreadable


class Owner(Protocol):
    """What the outputs of a model share."""

    state: State
    guard: Guard
    lock: threading.RLock
    skipped: Counts[tuple[str, str]]


class Produced:
    """The output of a module at one position.

    Args:
        site: name of the site.
        module_type: of the module.
        book: the sites.
        owner: what all outputs share.
    """

    __slots__ = ("_guard", "_lock", "_skipped", "_state", "activation", "gradient", "site")

    def __init__(self, site: str, module_type: str, book: SiteBook, owner: Owner) -> None:
        self.site = site
        self.activation = Counter(book, site, "activation", module_type)
        self.gradient = Counter(book, site, "activation_gradient", module_type)
        self._state, self._guard = owner.state, owner.guard
        self._lock, self._skipped = owner.lock, owner.skipped

    def observe(self, tensor: torch.Tensor) -> None:
        """Count the values of an output that can be read."""
        values = local_values(tensor)
        self.activation.add(values, values)

    def observe_gradient(self, gradient: torch.Tensor) -> None:
        """The hook on the output: count the gradient that has come back. Never raises."""
        if not self._state.active or (self._guard.any and self._guard.disabled(self.site)):
            return
        try:
            with self._lock:
                values = local_values(gradient)
                reason = unreadable(values)
                if reason is None:
                    self.gradient.add(values, values)
                else:
                    self._skipped[(f"gradient of {self.site}", reason)] += 1
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self._guard.failed(self.site)


# As torch.utils.hooks.unserializable_hook does: who saves an output is not warned of our hook.
vars(Produced.observe_gradient)["__torch_unserializable__"] = True
