"""``half_on_cpu``: float16 storage with float32 arithmetic, on a CPU.

A reroute applies to an operator whose native CPU kernel for float16 is slow, is missing, or
accumulates in float16 (``operators.py`` lists them with the reason). For float16 CPU tensors
``x`` it computes

    fp16(op(fp32(x)))

which is what a tensor core does: FP16 operands, exact products, FP32 sums, one rounding to
nearest even at the store. Every other operator runs as it is.

With an ``accumulation_block`` the partial sums are FP16 as well (``half_accumulation.py`` has the
definition, ``half_operators.py`` the operators).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from precscope.arithmetic.operators import reroutes
from precscope.arithmetic.widen import Reroute

_active = threading.local()


@contextmanager
def half_on_cpu(accumulation_block: int | None = None) -> Iterator[None]:
    """Compute in float32 and store in float16, for float16 tensors on the CPU, in this thread.

    Covers forward and backward alike (CPU gradients are computed in the calling thread). Float32
    and bfloat16 tensors, other devices, integer arguments and the random stream are untouched.
    Nested use costs nothing and changes nothing: the outermost block size counts. The mode is gone
    afterwards, also after an exception.

    Args:
        accumulation_block: round partial sums to FP16 after so many terms; None: never.
    """
    if getattr(_active, "depth", 0):
        yield
        return
    _active.depth = 1
    try:
        apart = _taken_apart if accumulation_block else nullcontext()
        with apart, _HalfOnCpu(reroutes(accumulation_block)):
            yield
    finally:
        _active.depth = 0


class _TakenApart:
    """Lets an LSTM, and attention with dropout, call products of float16 one by one.

    Otherwise the first is one operator, and the second widens its operands to float32 itself. The
    switches are the process's: of several threads inside, the first sets them and the last puts
    them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._before = (False, False)

    def __enter__(self) -> None:
        with self._lock:
            if not self._threads:
                self._before = (
                    torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed(),
                    torch._C._get_mkldnn_enabled(),
                )
                self._set(True, False)
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._set(*self._before)

    @staticmethod
    def _set(half_sums: bool, mkldnn: bool) -> None:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(half_sums)
        # torch.backends.mkldnn.flags would set TF32 as well, and warn where there is none.
        torch._C._set_mkldnn_enabled(mkldnn)


_taken_apart = _TakenApart()


class _HalfOnCpu(TorchDispatchMode):
    """Sends each operator to its reroute, if it has one."""

    def __init__(self, table: dict[Any, Reroute]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reroutes = table
        self._composite: dict[Any, bool] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        reroute = self._reroutes.get(func)
        if reroute is not None:
            return reroute(func, args, kwargs)
        if torch.is_inference_mode_enabled() and self._is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        return func(*args, **kwargs)

    def _is_composite(self, func: Any) -> bool:
        # Inference mode skips autograd, which elsewhere takes linear, conv2d, ... apart before
        # a dispatch mode sees them; left whole, they would call the slow kernels underneath.
        known = self._composite.get(func)
        if known is None:
            known = torch._C._dispatch_has_kernel_for_dispatch_key(
                func.name(), "CompositeImplicitAutograd"
            )
            self._composite[func] = known
        return known
