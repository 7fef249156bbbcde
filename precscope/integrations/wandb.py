"""A Recording into Weights & Biases: ``log_recording(recording, wandb.init(...))``."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import wandb

from precscope.integrations.series import exponents, scalars
from precscope.recording import Recording


def log_recording(recording: Recording, run: Any) -> None:
    """Log scalars per step, and per window the histogram of binary exponents.

    Args:
        recording: what ``precscope.watch`` wrote.
        run: a run that has logged nothing later; the steps are those of the training.
    """
    by_step: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for scalar in scalars(recording):
        by_step[scalar.step][scalar.tag] = scalar.value
    for found in exponents(recording):
        octaves = np.array(found.counts), np.array(found.edges)
        by_step[found.step][found.tag] = wandb.Histogram(np_histogram=octaves)
    for step in sorted(by_step):
        run.log(by_step[step], step=step)
