"""Floating-point operations of one training step, by module and by operator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@contextmanager
def silenced(logger_name: str) -> Iterator[None]:
    """Let nothing through that this logger, not its children, is told inside the block."""
    logger = logging.getLogger(logger_name)

    def refuse(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)


# A torch for CUDA on a machine without triton says so at this import, on the user's terminal.
with silenced("torch.utils.flop_counter"):
    from torch.utils.flop_counter import FlopCounterMode

WHOLE = "Global"


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of one forward and backward.

    Counted are products, convolutions and attention, two for a multiply-add, again where a checkpoint
    repeats them. Matrix-vector products, fused recurrent layers, element-wise and custom operators
    are not counted by torch.

    Attributes:
        total: of the step.
        modules: by qualified name, modules inside included; the model itself is ``""``.
        operators: by ATen operator.
    """

    total: int
    modules: dict[str, int]
    operators: dict[str, int]


def count_flops(model: nn.Module, step: Callable[[], object]) -> Flops:
    """Count one call of ``step``, which runs ``model`` forward and backward.

    Slow (a dispatch mode), and compiled code runs eagerly in it: never in a timed step.
    """
    counter = FlopCounterMode(display=False)
    _name_all(counter, model)
    with counter:
        step()
    counts = counter.get_flop_counts()
    root = type(model).__name__
    modules = {
        _name(key, root): sum(operators.values())
        for key, operators in counts.items()
        if key == root or key.startswith(f"{root}.")
    }
    operators = {str(name): int(count) for name, count in counts.get(WHOLE, {}).items()}
    return Flops(int(counter.get_total_flops()), modules, operators)


def _name_all(counter: FlopCounterMode, model: nn.Module) -> None:
    """Name every module from the model down, whether or not the model itself is called.

    Otherwise a part that is called alone goes by its class.
    """
    name = getattr(getattr(counter, "mod_tracker", None), "_get_mod_name", None)
    if name is not None:
        name(model)


def _name(key: str, root: str) -> str:
    """``Net.block.0`` is ``block.0``, ``Net`` itself ``""``."""
    return key.removeprefix(root).removeprefix(".")


def achieved_tflops(flops: int, step_ms: float) -> float:
    """10^12 operations per second: the operations of a step over its time."""
    return flops / (step_ms / 1e3) / 1e12
