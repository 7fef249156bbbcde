"""Rate of the CPU observation kernel beside torch.sum and torch.bincount.

All methods run in one process, interleaved and in rotating order, so that a change of clock or a
busy neighbour hits them alike. Prints a markdown table; --json writes the same as numbers.

    python benchmarks/kernel.py [--quick] [--json PATH] [--rounds N]
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from precscope.kernels import new_rows, observe
from precscope.kernels.cpu import PARALLEL_FROM

LIMITS = f"""\
What limits the kernel. With AVX-512 (VBMI, VBMI2, BITALG, GFNI), in cache: the number of vector
instructions, half of which are the conversions, additions and multiplications of the float64 sums.
Counting takes four for 64 values and eight exponents, so that a wider spread costs little. float16
pays for normalising its powers of two, which are frequent in it; zeros in float32 (after a ReLU) for
telling them from subnormals. Chunks of 4096 values with an infinity, a NaN or a subnormal are done
value by value. On other processors: a compare, mask move and population count per exponent and 64
values, some 15 exponents for the normal data here. From memory, with two threads: the memory.
A small tensor costs what Python takes to look at it and to call a C function.
Below {PARALLEL_FROM} values one thread is used whatever the setting."""

FIELDS = {
    torch.float32: (torch.int32, 23, 255),
    torch.bfloat16: (torch.int16, 7, 255),
    torch.float16: (torch.int16, 10, 31),
}
CACHE_SIZE, MEMORY_SIZE, QUICK_MEMORY_SIZE, CALL_SIZE = 1 << 16, 1 << 26, 1 << 23, 128
SHORTEST_SAMPLE_S = 0.01

Method = Callable[[torch.Tensor], object]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; rates in 10^9 values per second."""

    dtype: str
    size: int
    threads: int
    method: str
    median: float
    p10: float
    p90: float
    call_us: float


def bincount(tensor: torch.Tensor) -> torch.Tensor:
    """Exponent counts with torch alone."""
    as_integer, shift, mask = FIELDS[tensor.dtype]
    return torch.bincount((tensor.view(as_integer) >> shift) & mask, minlength=256)


def methods() -> dict[str, Method]:
    """What is compared. The kernel also finds amax, both sums, zeros, powers and special values."""
    row = new_rows(1)[0]
    return {
        "precscope": lambda tensor: observe(tensor, row),
        "torch.sum": torch.sum,
        "torch.bincount": bincount,
    }


def time_s(method: Method, tensor: torch.Tensor, calls: int) -> float:
    """Mean seconds of one call."""
    start = time.perf_counter()
    for _ in range(calls):
        method(tensor)
    return (time.perf_counter() - start) / calls


def calls_for(method: Method, tensor: torch.Tensor) -> int:
    """Warm up, and give how many calls make a sample long enough for the clock."""
    time_s(method, tensor, 2)
    once = time_s(method, tensor, 1)
    return max(1, int(SHORTEST_SAMPLE_S / once))


def measure(dtype: torch.dtype, size: int, threads: int, rounds: int) -> list[Result]:
    """Every method on one tensor, in turn, for so many rounds."""
    torch.set_num_threads(threads)
    tensor = torch.randn(size).to(dtype)
    contenders = methods()
    calls = {name: calls_for(method, tensor) for name, method in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            samples[name].append(time_s(contenders[name], tensor, calls[name]))
    return [result(dtype, size, threads, name, times) for name, times in samples.items()]


def result(dtype: torch.dtype, size: int, threads: int, name: str, times_s: list[float]) -> Result:
    """Rates from the seconds per call of every round."""
    rates = size / np.array(times_s) / 1e9
    p10, median, p90 = (float(value) for value in np.percentile(rates, [10, 50, 90]))
    dtype_name = str(dtype).removeprefix("torch.")
    call_us = float(np.median(times_s)) * 1e6
    return Result(dtype_name, size, threads, name, median, p10, p90, call_us)


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment() -> dict[str, str]:
    """What the numbers depend on."""
    packages = {name: version(name) for name in ("torch", "numba", "numpy")}
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    return {"date": today, "cpu": cpu_model(), "python": platform.python_version(), **packages}


def table(results: list[Result]) -> str:
    """The results as markdown."""
    lines = [
        "| dtype | values | threads | method | 10^9 values/s | p10-p90 | per call |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r.dtype} | {r.size} | {r.threads} | {r.method} | {r.median:.3g} "
        f"| {r.p10:.3g}-{r.p90:.3g} | {r.call_us:.3g} us |"
        for r in results
    ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2^23 values from memory, 5 rounds")
    parser.add_argument("--rounds", type=int, help="rounds per case (15; 5 with --quick)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write."""
    options = arguments()
    rounds = options.rounds or (5 if options.quick else 15)
    memory_size = QUICK_MEMORY_SIZE if options.quick else MEMORY_SIZE
    results = measure(torch.float32, CALL_SIZE, 1, rounds)
    for dtype in FIELDS:
        for size in (CACHE_SIZE, memory_size):
            for threads in (1, 2):
                results += measure(dtype, size, threads, rounds)
    where = environment()
    print(" · ".join(f"{name} {value}" for name, value in where.items()), end="\n\n")
    print(table(results), LIMITS, sep="\n\n")
    if options.json:
        report = {"environment": where, "rounds": rounds, "results": [asdict(r) for r in results]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
