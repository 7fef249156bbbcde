"""The Triton kernel against the reference, count for count, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from precscope.kernels import new_rows, row
from precscope.kernels.device import KINDS, PIECE, observe_on_device, why_no_kernel
from precscope.kernels.library import EIGHT_BIT
from precscope.kernels.reference import observe_reference

pytest.importorskip("triton", reason="the CUDA kernel needs triton, which is for Linux on x86-64")

REPOSITORY = Path(__file__).parents[2]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def float32_edges() -> torch.Tensor:
    places = [field << 23 for field in range(256)] + [1 << bit for bit in range(23)]
    codes = [place + step for place in places for step in (-1, 0, 1) if 0 <= place + step < 1 << 31]
    edges = torch.tensor(codes, dtype=torch.int32).view(torch.float32)
    return torch.cat([edges, -edges])


def near_edges() -> torch.Tensor:
    """Tiles of 4096 that just are, and just are not, near: 2^-45 to below 2^17."""
    low, high = torch.tensor([2.0**-45, 2.0**17 - 2.0**-7])
    tiles = [torch.full((4096,), float(low)), torch.full((4096,), float(high))]
    tiles += [tiles[0].clone(), tiles[1].clone(), torch.full((4096,), -0.0)]
    tiles[2][5], tiles[3][7] = low / 2, 2.0**17
    return torch.cat(tiles)


def window_edges(dtype: torch.dtype) -> torch.Tensor:
    """Tiles of 64: the first has 1 as its largest, so that 2^-28 to below 2^4 can be in planes."""
    inside = [0.0, 2.0**-28, 2.0**4 * (1 - 2.0**-7), 2.0**-27, 2.0**3, -1.5]
    outside = [2.0**-29, 2.0**4, 2.0**-140, float("inf"), float("nan"), 2.0**-28 * (1 - 2.0**-7)]
    tiles = [torch.linspace(-1, 1, 64)] * 12
    tiles = [
        torch.cat([tile[1:], torch.tensor([x])])
        for tile, x in zip(tiles, inside + outside, strict=True)
    ]
    return torch.cat([torch.linspace(-1, 1, 64), *tiles, *tiles]).to(dtype)


def every_code(dtype: torch.dtype) -> torch.Tensor:
    codes = torch.arange(1 << 8 * dtype.itemsize, dtype=torch.int32)
    return codes.to(torch.uint8 if dtype.itemsize == 1 else torch.int16).view(dtype)


def special() -> torch.Tensor:
    values = noise(5000) * torch.linspace(-140, 120, 5000).exp2()
    values[:700] = 0.0
    values[700:740] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0] * 10)
    return values


ALONE = {
    **{f"noise {dtype}": noise(9001).to(dtype) for dtype in KINDS},
    **{f"special {dtype}": special().to(dtype) for dtype in KINDS},
    **{f"every code {dtype}": every_code(dtype) for dtype in (torch.float16, torch.bfloat16)},
    **{f"every code {dtype}": every_code(dtype) for dtype in EIGHT_BIT},
    **{f"far after near {dtype}": torch.cat([noise(4096), special()]).to(dtype) for dtype in KINDS},
    **{f"edges of what is near {dtype}": near_edges().to(dtype) for dtype in KINDS},
    "noise float8": noise(3001).to(EIGHT_BIT[0]),
    "float32 octave edges": float32_edges(),
    "nothing but NaN": torch.full((300,), float("nan")),
    "nothing but ones": torch.ones(5000, dtype=torch.float16),
    "one value": torch.tensor(-0.3),
    "one tile": noise(4096),
    "one more than a tile": noise(4097),
    "empty": noise(0, 4),
    "transposed": noise(30, 7).t(),
    "channels-last": noise(2, 3, 8, 9).to(memory_format=torch.channels_last),
    "every third row": noise(40, 12)[::3, ::2],
    "offset by 4 bytes": noise(5001)[1:],
    "expanded": noise(9, 1).expand(9, 11),
}
NARROW = {
    **{f"narrow noise {dtype}": noise(1001).to(dtype) for dtype in KINDS},
    **{f"narrow special {dtype}": special()[500:1300].to(dtype) for dtype in KINDS},
    **{f"edges of the window {dtype}": window_edges(dtype) for dtype in KINDS},
    **{
        f"one octave in every lane {dtype}": torch.full((900,), 1.25, dtype=dtype)
        for dtype in KINDS
    },
    **{
        f"one power in every lane {dtype}": torch.full((900,), -2.0, dtype=dtype) for dtype in KINDS
    },
    **{f"half zeros {dtype}": noise(801).relu().to(dtype) for dtype in KINDS},
    **{f"nothing but zeros {dtype}": torch.zeros(300, dtype=dtype) for dtype in KINDS},
    "every code, mixed": every_code(torch.float16)[::61].contiguous(),
    "small, then large": torch.cat([torch.full((300,), 2.0**-24), noise(500) * 3e4]).half(),
}
"""Tiles of 64 values, so that planes are often full, and a window is often left."""

TOGETHER = {
    "small weights": [noise(n) for n in (1, 77, 4096, 0, 5000)],
    "half gradients": [noise(n).half() * 1e-7 for n in (3000, 12)],
    "one in several pieces": [noise(PIECE + 5).bfloat16(), noise(100).bfloat16()],
}


NUMPY_IS_TOO_NEW = "only 0-dimensional arrays can be converted to Python scalars"
LOOP = """
import torch, triton
import triton.language as tl

@triton.jit
def count(found, size):
    for place in range(0, size):
        tl.store(found + place, place)

found = torch.zeros(4, dtype=torch.int64)
count[(1,)](found, 4)
assert found.tolist() == [0, 1, 2, 3]
"""


def interpreter_can_loop(folder: Path) -> bool:
    """Whether a loop of nobody's kernel runs: with numpy 2.4 triton 3.6 runs none."""
    (folder / "loop.py").write_text(LOOP)
    done = subprocess.run(
        [sys.executable, folder / "loop.py"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("triton")
    torch.save({"alone": ALONE, "together": TOGETHER, "narrow": NARROW}, folder / "cases")
    worker = Path(__file__).with_name("triton_worker.py")
    done = subprocess.run(
        [sys.executable, worker, folder / "cases", folder / "rows"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    if NUMPY_IS_TOO_NEW in done.stderr and not interpreter_can_loop(folder):
        pytest.skip("NOT RUN: the interpreter of this triton does not run with this numpy")
    assert done.returncode == 0, done.stderr
    found: dict[str, torch.Tensor] = torch.load(folder / "rows", weights_only=True)
    return found


def assert_rows_agree(actual: torch.Tensor, expected: torch.Tensor) -> None:
    sums = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
    torch.testing.assert_close(
        actual[..., sums].view(torch.float64),
        expected[..., sums].view(torch.float64),
        rtol=1e-12,
        atol=0.0,
    )
    actual, expected = actual.clone(), expected.clone()
    actual[..., sums] = expected[..., sums] = 0
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", ALONE)
def test_counts_and_amax_are_those_of_the_reference(
    name: str, rows: dict[str, torch.Tensor]
) -> None:
    expected = new_rows(1)[0]
    observe_reference(ALONE[name], expected)
    assert_rows_agree(rows[name], expected)


@pytest.mark.parametrize("name", NARROW)
def test_planes_never_overflow_and_are_exact_at_the_edges_of_their_window(
    name: str, rows: dict[str, torch.Tensor]
) -> None:
    expected = new_rows(1)[0]
    observe_reference(NARROW[name], expected)
    assert_rows_agree(rows[name], expected)


@pytest.mark.parametrize("name", TOGETHER)
def test_many_tensors_in_one_launch_count_as_one_by_one(
    name: str, rows: dict[str, torch.Tensor]
) -> None:
    expected = new_rows(2)
    for number, tensor in enumerate(TOGETHER[name]):
        observe_reference(tensor, expected[number % 2])
    assert_rows_agree(rows[name], expected)


def test_a_device_without_the_kernel_says_why_and_falls_back() -> None:
    found, expected = new_rows(2)
    observe_on_device(ALONE["special torch.float32"], found)
    observe_reference(ALONE["special torch.float32"], expected)
    assert_rows_agree(found, expected)
    assert why_no_kernel("mps") == "the kernel is for CUDA devices, not mps"
