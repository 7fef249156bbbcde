"""TF32 and reduced-precision accumulation of CUDA products, set for a while and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from precscope.errors import UsageError

REDUCTION, ACCUMULATION = "fp16_reduced_reduction", "fp16_accumulation"


@contextmanager
def cuda_precision(**wanted: Any) -> Iterator[None]:
    """Set CUDA precision switches, by the names that ``switches`` returns, and restore them."""
    owners = switches()
    saved = {name: getattr(owners[name][0], owners[name][1]) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(*owners[name], value)
        yield
    finally:
        for name, value in saved.items():
            setattr(*owners[name], value)


def float32_products(tf32: bool) -> dict[str, Any]:
    """Switch values with which float32 matrix products and convolutions use TF32, or do not.

    cuDNN's convolutions use TF32 by default, so a float32 baseline has to say no.
    """
    names = [name for name in switches() if name not in (REDUCTION, ACCUMULATION)]
    if has_named_precisions():
        return dict.fromkeys(names, "tf32" if tf32 else "ieee")
    return dict.fromkeys(names, tf32)


def float32_accumulation() -> dict[str, Any]:
    """Switch values with which FP16 products are summed in float32 throughout.

    By default the partial sums of a split product are rounded to FP16 between its parts.
    """
    return {name: False for name in switches() if name in (REDUCTION, ACCUMULATION)}


def half_accumulation() -> dict[str, Any]:
    """Switch values with which FP16 matrix products use FP16 accumulators.

    cuBLAS only: convolutions and attention have no such switch.

    Raises:
        UsageError: this torch has no such switch.
    """
    if ACCUMULATION not in switches():
        raise UsageError('accumulation "fp16" on CUDA needs torch 2.7 or later')
    return {ACCUMULATION: True}


def switches() -> dict[str, tuple[Any, str]]:
    """Name of each switch: the object and attribute that hold it, in this torch."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    half = {REDUCTION: (matmul, "allow_fp16_reduced_precision_reduction")}
    if hasattr(matmul, "allow_fp16_accumulation"):
        half[ACCUMULATION] = (matmul, "allow_fp16_accumulation")
    if has_named_precisions():
        # The older switches warn, and refuse to be read once the newer ones were used.
        precision = "fp32_precision"
        owners = {"matmul": matmul, "conv": cudnn.conv, "rnn": cudnn.rnn}
        return {**half, **{name: (owner, precision) for name, owner in owners.items()}}
    return {**half, "matmul": (matmul, "allow_tf32"), "cudnn": (cudnn, "allow_tf32")}


def has_named_precisions() -> bool:
    """Whether this torch has ``fp32_precision`` (2.9 and later)."""
    return hasattr(torch.backends.cudnn, "conv")
