"""Single operations: FP16 beside FP32 as in the paper's DeepBench table, and errors of sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_setting import Setting
from torch import nn
from torch.nn import functional as F

from precscope.training.cuda_precision import (
    ACCUMULATION,
    REDUCTION,
    cuda_precision,
    float32_products,
    switches,
)

Make = Callable[[torch.dtype, torch.device], Callable[[], object]]

GEMMS = (
    (5124, 700, 2048),
    (35, 700, 2048),
    (3072, 3000, 1024),
    (7680, 5481, 2560),
    (4096, 4096, 4096),
)
CONVOLUTIONS = (
    (16, 64, 56, 128, 3),
    (8, 128, 28, 256, 3),
    (16, 512, 14, 512, 3),
    (16, 832, 7, 256, 1),
)
RECURRENT = (
    ("LSTM", 512, 16, 25),
    ("LSTM", 1024, 64, 25),
    ("GRU", 1536, 32, 50),
    ("GRU", 2560, 32, 50),
)


def operations(setting: Setting) -> dict[str, Any]:
    """Time of each operation in FP16, in IEEE float32 and in TF32, and the ratios."""
    rows: list[dict[str, Any]] = []
    for name, kind, make in _operations(setting):
        if setting.is_over:
            return {"rows": rows, "cut": True}
        own = setting.attempt(lambda make=make: _times(make, setting))
        rows.append({"operation": name, "kind": kind, **own})
        setting.keep({"rows": rows})
    return {"rows": rows, "paper": "2 to 6 times for operations bound by memory or arithmetic"}


def _times(make: Make, setting: Setting) -> dict[str, Any]:
    half = torch.float32 if setting.dry else torch.float16
    fp16 = setting.median_ms(make(half, setting.device), 0.05)
    with cuda_precision(**float32_products(tf32=False)):
        fp32 = setting.median_ms(make(torch.float32, setting.device), 0.05)
    with cuda_precision(**float32_products(tf32=True)):
        tf32 = setting.median_ms(make(torch.float32, setting.device), 0.05)
    return {
        "fp16_ms": fp16,
        "fp32_ms": fp32,
        "tf32_ms": tf32,
        "fp32_over_fp16": fp32 / fp16,
        "tf32_over_fp16": tf32 / fp16,
    }


def _operations(setting: Setting) -> Iterator[tuple[str, str, Make]]:
    small = 64 if setting.dry else 1
    for m, n, k in GEMMS:
        yield f"gemm {m}x{n}x{k}", "product", _gemm(m // small, n // small, k // small)
    for batch, inputs, side, outputs, kernel in CONVOLUTIONS:
        sizes = (2, 8, 8, 8) if setting.dry else (batch, inputs, side, outputs)
        name = f"conv {batch}x{inputs}x{side}x{side} to {outputs}, {kernel}x{kernel}"
        yield name, "convolution", _convolution(*sizes, kernel)
    for cell, width, batch, steps in RECURRENT:
        sizes3 = (8, 2, 3) if setting.dry else (width, batch, steps)
        yield (
            f"{cell} {width}, batch {batch}, {steps} steps",
            "recurrent",
            _recurrent(cell, *sizes3),
        )
    count = setting.pick(1 << 26, 1 << 24, 1 << 10)
    yield f"add of {count}", "point-wise", _pointwise(count, lambda x: x + x)
    yield f"gelu of {count}", "point-wise", _pointwise(count, F.gelu)
    yield f"sum of {count}", "reduction", _pointwise(count, torch.sum)
    yield f"softmax of {count}", "reduction", _rows(count, lambda x: F.softmax(x, -1))
    yield f"layer norm of {count}", "reduction", _rows(count, lambda x: F.layer_norm(x, (256,)))


def _gemm(m: int, n: int, k: int) -> Make:
    def make(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
        a, b = (torch.randn(*s, device=device).to(dtype) for s in ((m + 1, k + 1), (k + 1, n + 1)))
        a, b = a[:m, :k].contiguous(), b[:k, :n].contiguous()
        return lambda: a @ b

    return make


def _convolution(batch: int, inputs: int, side: int, outputs: int, kernel: int) -> Make:
    def make(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
        x = torch.randn(batch, inputs, side, side, device=device, dtype=dtype)
        weight = torch.randn(outputs, inputs, kernel, kernel, device=device, dtype=dtype)
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        return lambda: F.conv2d(x, weight, padding=kernel // 2)

    return make


def _recurrent(cell: str, width: int, batch: int, steps: int) -> Make:
    def make(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
        net: Any = getattr(nn, cell)(width, width).to(device, dtype).eval()
        x = torch.randn(steps, batch, width, device=device, dtype=dtype)

        def call() -> object:
            with torch.no_grad():
                return net(x)

        return call

    return make


def _pointwise(count: int, act: Callable[[torch.Tensor], object]) -> Make:
    def make(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
        x = torch.randn(count, device=device, dtype=dtype)
        return lambda: act(x)

    return make


def _rows(count: int, act: Callable[[torch.Tensor], object]) -> Make:
    def make(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
        x = torch.randn(count // 256, 256, device=device, dtype=dtype)
        return lambda: act(x)

    return make


def accumulation(setting: Setting) -> dict[str, Any]:
    """Error of real FP16 GEMMs by the length of their sums, for each way of accumulating."""
    dtype = torch.bfloat16 if setting.dry else torch.float16
    ways: dict[str, dict[str, Any]] = {
        "float32 sums": {REDUCTION: False},
        "reduced-precision reduction allowed": {REDUCTION: True},
        "float16 sums": {ACCUMULATION: True, REDUCTION: True},
    }
    known = switches()
    rows: list[dict[str, Any]] = []
    for log2 in range(6, setting.pick(18, 14, 7)):
        if setting.is_over:
            break
        setting.keep({"rows": rows})
        for positive in (False, True):
            a, b, exact = _factors(1 << log2, positive, dtype, setting)
            for way, wanted in ways.items():
                if not set(wanted) <= set(known):
                    continue
                with cuda_precision(**wanted):
                    found = (a @ b).double()
                error = (found - exact).square().mean().sqrt() / exact.square().mean().sqrt()
                rows.append(
                    {"length": 1 << log2, "positive": positive, "sums": way, "error": float(error)}
                )
    return {
        "rows": rows,
        "cut": setting.is_over,
        "missing": [w for w in ways if not set(ways[w]) <= set(known)],
    }


def _factors(
    length: int, positive: bool, dtype: torch.dtype, setting: Setting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two factors whose products stay in range, and their product in float64."""
    torch.manual_seed(length)
    side = setting.pick(256, 256, 8)
    a = torch.randn(side, length, device=setting.device)
    b = torch.randn(length, side, device=setting.device) / length**0.5
    if positive:
        a, b = a.abs(), b.abs() / length**0.5
    a, b = a.to(dtype), b.to(dtype)
    return a, b, a.double() @ b.double()
