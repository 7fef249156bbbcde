"""The kernels compile to machine code for Ampere, Hopper and Blackwell, without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the CUDA kernel needs triton, which is for Linux on x86-64")

REPOSITORY = Path(__file__).parents[2]
SHARED_BYTES_OF_A_PROCESSOR = 160 * 1024
STACK_BYTES = 64
"""What older compilers spill, outside the path of ordinary tiles."""
TOO_OLD = "unexpected keyword argument 'constexprs'"
INSTRUCTIONS_OF_A_VALUE = 21
"""Of Hopper, found 17 to 20; with more, 16-bit formats are bound by instructions, not by memory."""
VALUES_OF_A_THREAD = 16
NAMES = [
    *(f"sm_90 {kernel} {kind}" for kernel in ("observe_one", "observe_jobs") for kind in range(3)),
    *(f"sm_90 observe_one {kind} i32" for kind in range(3)),
    "sm_90 count_codes",
    *(f"sm_{other} {kernel}" for other in (80, 100) for kernel in ("observe_one 1", "count_codes")),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int | None]]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("TRITON_INTERPRET", None)
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    worker = Path(__file__).with_name("compile_worker.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", worker, "90", "80", "100"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if TOO_OLD in done.stderr:
        pytest.skip("NOT RUN: the compiler of this triton is older than what the worker speaks")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int | None]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_kernel_is_compiled(compiled: dict[str, dict[str, int | None]]) -> None:
    assert sorted(compiled) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_fits_the_device(name: str, compiled: dict[str, dict[str, int | None]]) -> None:
    found = compiled[name]
    assert found["cubin_bytes"]
    assert (found["stack_bytes"] or 0) <= STACK_BYTES, "registers are spilled to memory"
    assert (found["shared_bytes"] or 0) * 4 < SHARED_BYTES_OF_A_PROCESSOR


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_keeps_subnormals_and_divides_outside_its_loop(
    name: str, compiled: dict[str, dict[str, int | None]]
) -> None:
    found = compiled[name]
    assert found["flushes"] == 0
    assert (found["divisions"] or 0) <= 1, "which program has the rest is the one division"
    if "observe_one" in name:
        assert found["wide_loads"], "complete tiles are to be loaded 16 bytes at a time"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("sm_90 observe")])
def test_an_ordinary_value_takes_few_instructions(
    name: str, compiled: dict[str, dict[str, int | None]]
) -> None:
    instructions = compiled[name]["tile_instructions"]
    if instructions is None:
        pytest.skip("NOT RUN: the blocks of the loop are not told apart in this compiler's code")
    assert 16 < instructions / VALUES_OF_A_THREAD < INSTRUCTIONS_OF_A_VALUE
