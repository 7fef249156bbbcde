"""The wide and the portable kernel: group boundaries, every exponent, full bytes, both formats."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from precscope.kernels import new_rows, observe, row
from precscope.kernels.reference import observe_reference

ROOT = Path(__file__).parents[2]
SUMS = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
NARROW = (torch.float16, torch.bfloat16)


def assert_right(tensor: torch.Tensor) -> None:
    expected, actual = new_rows(2)
    observe_reference(tensor, expected)
    observe(tensor, actual)
    sums, right = actual[SUMS].view(torch.float64), expected[SUMS].view(torch.float64)
    torch.testing.assert_close(sums, right, rtol=1e-12, atol=0.0)
    actual[SUMS] = expected[SUMS]
    assert torch.equal(actual, expected)


def of_fields(fields: torch.Tensor, mantissa: int = 0x123456) -> torch.Tensor:
    return ((fields.to(torch.int32) << 23) | mantissa).view(torch.float32)


def check_group_boundaries() -> None:
    """Every distance between the highest and the lowest exponent up to four tables and more."""
    for octaves in range(1, 44):
        for highest in (44, 127, 253):
            fields = highest - torch.arange(octaves)
            assert_right(of_fields(fields.repeat(3)))
            assert_right(of_fields(fields[[0, -1]].repeat(70)))


def check_every_field() -> None:
    fields = torch.arange(1, 255)
    for lowest in (1, 20, 30, 62, 63, 64, 200):
        for highest in (31, 61, 62, 63, 190, 223, 224, 254):
            chosen = fields[(fields >= lowest) & (fields <= highest)]
            assert_right(of_fields(chosen.repeat_interleave(4)))
    assert_right(of_fields(torch.arange(256).repeat(20)))
    assert_right(of_fields(torch.arange(256).repeat(20), mantissa=0))


def check_full_counters() -> None:
    """One exponent in every lane: the most that the byte and word counters ever hold."""
    for dtype in (torch.float32, *NARROW):
        for value in (1.5, 1.0):
            assert_right(torch.full((70_001,), value).to(dtype))
    result = new_rows(1)[0]
    observe(torch.full((300_000,), 3.0), result)
    assert result[row.COUNTS + 149 + 1] == 300_000


def check_random_bytes() -> None:
    generator = torch.Generator().manual_seed(4)
    for dtype, width in ((torch.float32, 4), (torch.float16, 2), (torch.bfloat16, 2)):
        for size in (1, 63, 64, 65, 1000, 4095, 4097, 9000):
            data = torch.randint(0, 256, (size * width,), dtype=torch.uint8, generator=generator)
            assert_right(data.view(dtype))


def check_wide_spreads() -> None:
    generator = torch.Generator().manual_seed(5)
    for spread in (3.0, 6.0, 12.0):
        values = torch.randn(2, 9001, generator=generator)
        tensor = values[0] * torch.exp2((spread * values[1]).clamp(-60, 60))
        for dtype in (torch.float32, *NARROW, torch.float64):
            assert_right(tensor.to(dtype))


def check_rare_values() -> None:
    """One zero, power of two, subnormal, infinity or NaN anywhere in an ordinary chunk."""
    for value in (0.0, -0.0, 1.0, -0.25, 1e-40, torch.inf, torch.nan, 2.0**-126, 2.0**-133):
        for place in (0, 15, 16, 63, 64, 4095, 4096, 4999):
            tensor = torch.full((5000,), 1.3)
            tensor[place] = value
            assert_right(tensor)
            assert_right(tensor.to(torch.bfloat16))


def check_powers_of_two() -> None:
    """From none to all of a block, which the list of powers takes 64 at a time."""
    for dtype in NARROW:
        for powers in (1, 28, 63, 64, 65, 100, 127, 128, 4000, 4096):
            tensor = torch.full((4096,), 1.25, dtype=dtype)
            tensor[-powers:] = 0.5
            assert_right(tensor)
            assert_right(torch.where(torch.arange(4096) % 3 == 0, 0.0, tensor).to(dtype))


CHECKS = (
    check_group_boundaries,
    check_every_field,
    check_full_counters,
    check_random_bytes,
    check_wide_spreads,
    check_rare_values,
    check_powers_of_two,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kernel_of_this_machine(check: object) -> None:
    assert callable(check)
    check()


ALL_CHECKS = """
import sys, runpy
from precscope.kernels.wide import has_wide_registers
checks = runpy.run_path(sys.argv[1])["CHECKS"]
for check in checks:
    check()
print(has_wide_registers(), len(checks))
"""


@pytest.mark.parametrize(
    "environment", [{"PRECSCOPE_KERNEL": "portable"}, {"NUMBA_CPU_NAME": "generic"}], ids=str
)
def test_the_kernel_of_every_other_machine(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALL_CHECKS, __file__],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"False {len(CHECKS)}\n"
