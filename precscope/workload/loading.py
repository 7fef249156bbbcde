"""From a path to a Workload."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from precscope.errors import WorkloadError
from precscope.workload.randomness import RandomStream
from precscope.workload.source import REQUIRED, execute, missing_names
from precscope.workload.workload import Workload

DEFAULT_LEARNING_RATE = 1e-3


def load_workload(path: Path) -> Workload:
    """Load a model file.

    The file is run once, as a module of its own (``__name__`` is not ``"__main__"``), with its
    folder importable, from a fixed random state: what it draws at top level is the same in every
    process, and the caller's random stream is untouched.

    Raises:
        WorkloadError: no such file, not Python, it lacks ``model``, ``batches``, or ``loss`` and
            ``step``, one of them cannot be called, or it raises when run.
    """
    missing = missing_names(path)
    if missing:
        lacks = ", ".join(REQUIRED[name] for name in missing)
        raise WorkloadError(
            f"{path.name} is not a model file, it lacks {lacks}: define functions"
            " model(), batches() and loss(model, batch) at top level (or, for several losses,"
            " step(model, batch, trainer) in place of loss)"
        )
    path = path.resolve()
    with RandomStream(0, torch.device("cpu")):
        module = execute(path)
    return _workload(path, module)


def default_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW at 1e-3 on the parameters that need a gradient."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trainable, lr=DEFAULT_LEARNING_RATE)


def _workload(path: Path, module: ModuleType) -> Workload:
    names = ("model", "batches", "loss", "step", "optimizer", "evaluate")
    found: dict[str, Any] = {name: getattr(module, name, None) for name in names}
    _choose_step_or_loss(path, found)
    absent = "step" if found["step"] is None else "loss"
    for name, value in found.items():
        if not callable(value) and ((name in REQUIRED and name != absent) or value is not None):
            raise WorkloadError(
                f"{path.name}: {name} is of type {type(value).__name__}, not a function: def {name}(...)"
            )
    return Workload(
        name=path.stem,
        path=path,
        model=found["model"],
        batches=found["batches"],
        loss=found["loss"],
        optimizer=found["optimizer"] or default_optimizer,
        evaluate=found["evaluate"],
        default_optimizer=found["optimizer"] is None,
        step=found["step"],
    )


def _choose_step_or_loss(path: Path, found: dict[str, Any]) -> None:
    """Forget a ``step`` that is a helper of the file's own: one beside ``loss`` of another form.

    Raises:
        WorkloadError: both are there, and either could be meant.
    """
    if found["loss"] is None or found["step"] is None:
        return
    if _takes_three(found["step"]):
        raise WorkloadError(
            f"{path.name} defines both loss and step(model, batch, trainer): rename the one that"
            " is a helper"
        )
    found["step"] = None


def _takes_three(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (0, 1)]
    return len(needed) == 3
