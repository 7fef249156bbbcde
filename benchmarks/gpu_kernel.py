"""The observation kernel: counts against the CPU's, bandwidth against a plain read, and tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from gpu_setting import Setting

from precscope.kernels import new_rows, observe, observe_many, row
from precscope.kernels.device import KINDS, why_no_kernel
from precscope.kernels.library import EIGHT_BIT

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MEBIBYTE = 1 << 20
SUMS = slice(row.SUM_ABS, row.SUM_SQUARES + 1)


def counts(setting: Setting) -> dict[str, Any]:
    """Every case of every format: exact counts and amax, sums within 1e-9."""
    cases: list[dict[str, Any]] = []
    for name, make in _cases(setting):
        if setting.is_over:
            break
        own = setting.attempt(lambda make=make: _compare(make, setting))
        cases.append({"case": name, "equal": False, **own})
        setting.keep({"cases": cases})
    many = {"equal": False, **setting.attempt(lambda: _many(setting))}
    return {
        "cases": cases,
        "cut": setting.is_over,
        "many": many,
        "all_equal": all(case["equal"] for case in cases) and many["equal"],
        "kernel_reason": why_no_kernel(setting.device.type),
    }


def _cases(setting: Setting) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    size = setting.pick(1 << 22, 1 << 20, 1 << 10) + 3
    for dtype in (*DTYPES, torch.float64, *EIGHT_BIT):
        yield f"noise {dtype}", lambda d=dtype: (torch.randn(size) * 3e-3).to(d)
    spread = torch.linspace(-140, 120, size).exp2
    for dtype in DTYPES:
        yield f"all octaves {dtype}", lambda d=dtype: (torch.randn(size) * spread()).to(d)
    yield "transposed", lambda: torch.randn(301, 77).t()
    yield "channels last", lambda: torch.randn(2, 8, 9, 7).to(memory_format=torch.channels_last)
    yield "strided", lambda: torch.randn(99, 64)[::3, ::2]
    yield "expanded", lambda: torch.randn(33, 1).expand(33, 65)
    yield "empty", lambda: torch.randn(0, 4)
    large = setting.pick((1 << 31) + 4097, 1 << 24, 1 << 12)
    yield "more than 2^31 values, float8", lambda: _repeated(large).view(EIGHT_BIT[0])


def _repeated(size: int) -> torch.Tensor:
    """Bytes 0 to 250 in turn: cheap to make, every code occurs."""
    return torch.arange(251, dtype=torch.uint8).repeat(-(-size // 251))[:size].contiguous()


def _compare(make: Callable[[], torch.Tensor], setting: Setting) -> dict[str, Any]:
    torch.manual_seed(1)
    tensor = make()
    expected = new_rows(1)[0]
    observe(tensor, expected)
    found = new_rows(1, setting.device)[0]
    observe(_moved(tensor, setting), found)
    return {"values": tensor.numel(), **_agreement(found.cpu(), expected)}


def _moved(tensor: torch.Tensor, setting: Setting) -> torch.Tensor:
    """On the device in the same layout; a copy would make an expanded or strided one dense."""
    if tensor.numel() == 0 or tensor.is_contiguous():
        return tensor.to(setting.device)
    storage = torch.as_strided(
        tensor, (tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,)
    )
    return storage.to(setting.device).as_strided(tensor.shape, tensor.stride())


def _agreement(found: torch.Tensor, expected: torch.Tensor) -> dict[str, Any]:
    ours, theirs = found.view(torch.float64)[..., SUMS], expected.view(torch.float64)[..., SUMS]
    scale = theirs.abs().clamp_min(1e-300)
    error = float(((ours - theirs).abs() / scale).max())
    found, expected = found.clone(), expected.clone()
    found[..., SUMS] = expected[..., SUMS] = 0
    equal = bool(torch.equal(found, expected))
    return {"counts_equal": equal, "sum_error": error, "equal": equal and error < 1e-9}


def _many(setting: Setting) -> dict[str, Any]:
    torch.manual_seed(2)
    tensors = [torch.randn(n).half() for n in (1, 77, 4096, 70_000, 0, 5000) * 20]
    expected, found = new_rows(len(tensors)), new_rows(len(tensors), setting.device)
    observe_many(tensors, list(expected))
    on_device = [tensor.to(setting.device) for tensor in tensors]
    observe_many(on_device, list(found))
    result = _agreement(found.cpu(), expected)
    rows = list(found)
    together = setting.median_ms(lambda: observe_many(on_device, rows))

    def one_by_one() -> None:
        for tensor, own in zip(on_device, rows, strict=True):
            observe(tensor, own)

    return {
        **result,
        "tensors": len(tensors),
        "together_ms": together,
        "one_by_one_ms": setting.median_ms(one_by_one),
    }


def bandwidth(setting: Setting) -> dict[str, Any]:
    """Rate of the kernel beside that of the device's own fastest read of the same bytes."""
    # Those that the target is about come first.
    sizes = [1024, 4096, 64, 1, 16, 256, 4]
    if setting.quick:
        sizes = [1024, 64, 1]
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {"rows": rows, "target": 0.8}
    for size, dtype in product([0] if setting.dry else sizes, DTYPES):
        if setting.is_over:
            return {**found, "cut": True}
        own = setting.attempt(lambda size=size, dtype=dtype: _rates(size, dtype, setting))
        rows.append({"mebibytes": size, "dtype": str(dtype).removeprefix("torch."), **own})
        large = [r["ratio"] for r in rows if r["mebibytes"] > 256 and "ratio" in r]
        found["smallest_ratio_over_256_mebibytes"] = min(large, default=None)
        setting.keep(found)
    return found


def _rates(mebibytes: int, dtype: torch.dtype, setting: Setting) -> dict[str, Any]:
    nbytes = mebibytes * MEBIBYTE or 4096
    tensor = _normal(nbytes // dtype.itemsize, dtype, setting)
    into = new_rows(1, setting.device)[0]
    ours = setting.median_ms(lambda: observe(tensor, into))
    bits = tensor.view(torch.float32)
    reads = {
        "sum": setting.median_ms(lambda: torch.sum(bits)),
        "amax": setting.median_ms(lambda: torch.amax(bits)),
        "sum in its own format": setting.median_ms(lambda: torch.sum(tensor)),
    }
    best = min(reads.values())
    return {
        "kernel_ms": ours,
        "kernel_gb_s": nbytes / ours / 1e6,
        "read_gb_s": nbytes / best / 1e6,
        "reads_ms": reads,
        "ratio": best / ours,
    }


def _normal(count: int, dtype: torch.dtype, setting: Setting) -> torch.Tensor:
    """Normal values without a float32 copy of the whole."""
    tensor = torch.empty(count, dtype=dtype, device=setting.device)
    return tensor.normal_(0.0, 1e-2)


def tune(setting: Setting) -> dict[str, Any]:
    """Time of every tile, number of warps and of programs, on 1 GiB."""
    if setting.device.type != "cuda":
        return {"reason": "a launch needs a CUDA device", "rows": []}
    from precscope.kernels import triton_kernel as kernel

    rows: list[dict[str, Any]] = []
    per_thread = (16,) if setting.quick else (16, 32)
    for dtype, warps, values in product((torch.float16, torch.float32), (8, 4, 16), per_thread):
        if setting.is_over:
            return {"rows": rows, "cut": True, "best": _best(rows)}
        tensor = _normal((1 << 30) // dtype.itemsize, dtype, setting)
        for per_processor in (1, 2, 4, 8, 16):
            shape = {
                "tile": values * 32 * warps,
                "warps": warps,
                "programs_per_processor": per_processor,
            }
            own = setting.attempt(
                lambda tensor=tensor, shape=shape: _launched(tensor, setting, **shape)
            )
            rows.append({"dtype": str(dtype), **shape, **own})
        setting.keep({"rows": rows})
    return {"rows": rows, "best": _best(rows), "now": [kernel.TILE, kernel.WARPS]}


def _launched(
    tensor: torch.Tensor, setting: Setting, tile: int, warps: int, programs_per_processor: int
) -> dict[str, float]:
    """Time of the kernel over a tensor in one shape; some shapes are more than a device has."""
    from precscope.kernels import triton_kernel as kernel

    processors = torch.cuda.get_device_properties(setting.device).multi_processor_count
    source = tensor.view(torch.int32 if tensor.itemsize == 4 else torch.int16)
    into = new_rows(1, setting.device)[0]

    def launch() -> None:
        kernel.observe_one[(processors * programs_per_processor,)](
            source,
            source.numel(),
            into,
            KIND=KINDS[tensor.dtype],
            WIDTH=tile,
            PLANES=kernel.PLANES,
            **(kernel.LAUNCH | {"num_warps": warps}),
        )

    ms = setting.median_ms(launch, 0.05)
    return {"ms": ms, "gb_s": tensor.numel() * tensor.itemsize / ms / 1e6}


def _best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The fastest of each format."""
    found: dict[str, Any] = {}
    for own in rows:
        best = found.get(own["dtype"])
        if "ms" in own and (best is None or own["ms"] < best["ms"]):
            found[own["dtype"]] = own
    return found
