"""Workload: what is trained, the functions of a model file."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from precscope.workload.blame import calling
from precscope.workload.session import Session
from precscope.workload.stepping import SteppingSession


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained: the functions of a model file.

    Attributes:
        name: the file's name without its suffix.
        path: the file, absolute.
        model: builds a new module on every call.
        batches: an iterable of batches, called again when it ends.
        loss: ``loss(model, batch)``, a scalar tensor; None if the file has ``step`` instead.
        optimizer: ``optimizer(model)``, one, or with ``step`` a dict of several.
        evaluate: ``evaluate(model)``, higher-is-better metrics; None if the file has none.
        default_optimizer: the file has no optimizer, so this is AdamW at 1e-3.
        step: ``step(model, batch, trainer)``, a whole training step that returns its losses by
            name; None if the file has ``loss``.
    """

    name: str
    path: Path
    model: Callable[[], torch.nn.Module]
    batches: Callable[[], Iterable[Any]]
    loss: Callable[[torch.nn.Module, Any], torch.Tensor] | None
    optimizer: Callable[[torch.nn.Module], Any]
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None
    default_optimizer: bool
    step: Callable[[torch.nn.Module, Any, Any], Mapping[str, torch.Tensor]] | None = None
    _built: weakref.WeakSet[torch.nn.Module] = field(
        default_factory=weakref.WeakSet, init=False, repr=False, compare=False
    )
    _gave: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def session(self, seed: int, device: str = "cpu") -> Session:
        """A new model and optimizer, and the batches of ``seed``.

        Seeds the global generators, so run one session after the other, not interleaved.

        Args:
            seed: 0 to 2^32 - 1. The same seed gives the same weights and batches bit for bit.
            device: a torch device, ``"cpu"`` or ``"cuda:1"``.

        Raises:
            UsageError: the seed is out of range, or this machine has no such device.
            WorkloadError: the model file breaks its contract or raises.
        """
        return (
            Session(self, seed, device)
            if self.step is None
            else SteppingSession(self, seed, device)
        )

    def calling(self, what: str) -> AbstractContextManager[None]:
        """Context for a call into the model file: its folder importable, its errors told."""
        return calling(self.path, what)
