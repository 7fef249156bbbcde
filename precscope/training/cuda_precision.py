"""TF32 and reduced-precision accumulation of CUDA products, set for a while and put back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import torch

from precscope.errors import UsageError

REDUCTION, ACCUMULATION = "fp16_reduced_reduction", "fp16_accumulation"
HALF: Final = (REDUCTION, ACCUMULATION)
SPLIT: Final = "allow_fp16_reduced_precision_reduction_split_k"
HIGH, HIGHEST = "high", "highest"


@contextmanager
def cuda_precision(**wanted: Any) -> Iterator[None]:
    """Set CUDA precision switches, by the names that ``switches`` returns, and restore them."""
    owners = switches()
    saved = {name: _whole(name, *owners[name]) for name in wanted}
    older = OlderSwitches() if wanted.keys() - set(HALF) else None
    try:
        if older is not None:
            older.set(wanted.get("matmul") in (True, "tf32"))
        for name, value in wanted.items():
            setattr(*owners[name], value)
        yield
    finally:
        # The older ones set the newer ones, too. In a torch without those they are the same
        # switches, which only the older names tell in full.
        if older is not None and has_named_precisions():
            older.restore()
        for name, value in saved.items():
            setattr(*owners[name], value)
        if older is not None and not has_named_precisions():
            older.restore()


def float32_products(tf32: bool) -> dict[str, Any]:
    """Switch values with which float32 matrix products and convolutions use TF32, or do not.

    cuDNN's convolutions use TF32 by default, so a float32 baseline has to say no.
    """
    names = [name for name in switches() if name not in HALF]
    if has_named_precisions():
        return dict.fromkeys(names, "tf32" if tf32 else "ieee")
    return dict.fromkeys(names, tf32)


def float32_accumulation() -> dict[str, Any]:
    """Switch values with which FP16 products are summed in float32 throughout.

    By default the partial sums of a split product are rounded to FP16 between its parts.
    """
    return {name: False for name in switches() if name in HALF}


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
        operations = {name: NamedPrecision(name) for name in ("matmul", "conv", "rnn")}
        return {**half, **{name: (owner, "value") for name, owner in operations.items()}}
    return {**half, "matmul": (matmul, "allow_tf32"), "cudnn": (cudnn, "allow_tf32")}


def has_named_precisions() -> bool:
    """Whether this torch has ``fp32_precision`` (2.9 and later)."""
    return hasattr(torch._C, "_get_fp32_precision_getter")


class NamedPrecision:
    """``fp32_precision`` of one kind of CUDA operation.

    Not by ``torch.backends.cudnn.rnn``: before torch 2.13 that name is taken by a module of
    torch's own as soon as a recurrent layer has lain on a GPU.
    """

    def __init__(self, operation: str) -> None:
        self._operation = operation

    @property
    def value(self) -> str:
        """``"ieee"``, ``"tf32"`` or ``"none"``."""
        found: str = torch._C._get_fp32_precision_getter("cuda", self._operation)
        return found

    @value.setter
    def value(self, value: str) -> None:
        torch._C._set_fp32_precision_setter("cuda", self._operation, value)


class OlderSwitches:
    """The switches that torch had before 2.9, kept in step with the newer ones.

    A torch with both refuses to read an older switch that contradicts a newer one: the
    compilers of torch and many users' programs read them.
    """

    def __init__(self) -> None:
        silence_older_switches()
        self._matmul = _told(torch.get_float32_matmul_precision)
        self._cudnn = _told(torch._C._get_cudnn_allow_tf32)
        self._host = _host_precision()

    def set(self, tf32: bool) -> None:
        """Those that could be read; a contradiction that was there before stays."""
        if self._matmul is not None:
            torch.set_float32_matmul_precision(HIGH if tf32 else HIGHEST)
        if self._cudnn is not None:
            torch._C._set_cudnn_allow_tf32(tf32)

    def restore(self) -> None:
        """As they were."""
        if self._matmul is not None:
            torch.set_float32_matmul_precision(self._matmul)
        if self._cudnn is not None:
            torch._C._set_cudnn_allow_tf32(self._cudnn)
        if self._host is not None:
            torch._C._set_fp32_precision_setter("mkldnn", "matmul", self._host)


@cache
def silence_older_switches() -> None:
    """Let torch say once, unheard, that they are old: it is we who use them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _told(torch.get_float32_matmul_precision)
        _told(torch._C._get_cudnn_allow_tf32)


def _told(read: Any) -> Any:
    try:
        return read()
    except RuntimeError:
        return None


def _host_precision() -> str | None:
    if not has_named_precisions():
        return None
    found: str | None = _told(lambda: torch._C._get_fp32_precision_getter("mkldnn", "matmul"))
    return found


def _whole(name: str, owner: Any, attribute: str) -> Any:
    """The value of a switch, in full: newer torch sets two by one name, and reads one of them."""
    value = getattr(owner, attribute)
    if name == REDUCTION and isinstance(value, bool) and hasattr(owner, SPLIT):
        return value, getattr(owner, SPLIT)
    return value
