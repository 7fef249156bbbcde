"""A small model under the instruments of a script's process, in this one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from precscope.recipe import Recipe
from precscope.script import Script
from precscope.script.discovery import Discovery
from precscope.script.hooks import Hooks
from precscope.script.job import EventReader, Events, Job
from precscope.script.observation import Observation
from precscope.script.rerun import Rerun


def net(activation: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), activation or nn.ReLU(inplace=True), nn.Linear(8, 2))


@contextmanager
def watching(
    tmp_path: Path, recipe: Recipe | None = None, steps: int = 3
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Inside, models are found and observed, or trained by a recipe; yields what was told.

    Only optimizers that are made inside are found.
    """
    gc.freeze()
    recording = str(tmp_path / "run.precscope") if recipe is None else None
    job = Job(Script("x.py"), str(tmp_path / "events"), steps, recording=recording, recipe=recipe)
    discovery, events = Discovery(), Events(str(tmp_path / "events"))
    listener = Observation(job, events) if recipe is None else Rerun(job, events, discovery)
    hooks = Hooks(listener, discovery)
    try:
        yield lambda: list(EventReader(tmp_path / "events"))
    finally:
        hooks.remove()
        listener.close()
        events.close()
        gc.unfreeze()
