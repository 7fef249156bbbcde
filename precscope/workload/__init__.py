"""Workload: a model file, loaded and checked, and the sessions that train it."""

from __future__ import annotations

from precscope.workload.checks import check_batches_repeat, check_evaluation, check_first_loss
from precscope.workload.loading import load_workload
from precscope.workload.session import Session
from precscope.workload.source import is_model_file, missing_names
from precscope.workload.stepping import SteppingSession
from precscope.workload.workload import Workload

__all__ = [
    "Session",
    "SteppingSession",
    "Workload",
    "check_batches_repeat",
    "check_evaluation",
    "check_first_loss",
    "is_model_file",
    "load_workload",
    "missing_names",
]
