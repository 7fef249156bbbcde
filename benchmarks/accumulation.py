"""What FP16 accumulators do to dot products, by precscope's emulation and by plain torch.

    python benchmarks/accumulation.py                              # seconds on one core
    python benchmarks/accumulation.py --write docs/validation.md   # replace the table there

Each row: 512 dot products of length K of FP16 numbers, their RMS error relative to the RMS of the
result. Zero-mean: both factors normal. Same sign: a ReLU of a normal times the magnitude of another,
so the sum only grows. Beside precscope's accumulators stands one written here in plain torch, one
addend after the other; the two must agree bit for bit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from precscope.probes.accumulation.facts import Reduction, measured
from precscope.probes.accumulation.sums import sums_of

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from validation import circumstances, write_section  # noqa: E402 - found through the line above

BEGIN, END = "<!-- accumulation: begin -->", "<!-- accumulation: end -->"
DOT_PRODUCTS = 512
LENGTHS = (256, 1024, 4096, 16384)
BLOCKS = ("1", "4", "8", "16")

HEADER = (
    "| K | data | one by one | plain torch | blocks of 4 | of 8 | of 16 | FP32, FP16 store "
    "| expected, one by one | swamped energy |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the table as markdown; with ``--write``, put it between its marks in a file."""
    arguments = _arguments()
    torch.set_num_threads(1)
    lines = []
    for line in report():
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        write_section(arguments.write, "\n".join(lines), BEGIN, END)


def report() -> Iterator[str]:
    """The markdown lines."""
    yield from circumstances("python benchmarks/accumulation.py")
    yield ""
    yield HEADER
    for kind in ("zero-mean", "same sign"):
        for length in LENGTHS:
            yield _row(kind, length)


def products(kind: str, length: int) -> torch.Tensor:
    """Exact products of FP16 numbers, (K, 512) in float32; always the same for a length."""
    stream = torch.Generator().manual_seed(length)
    left, right = torch.randn(2, length, DOT_PRODUCTS, generator=stream)
    if kind == "same sign":
        left, right = left.relu(), right.abs()
    return left.half().float() * right.half().float()


def _row(kind: str, length: int) -> str:
    addends = products(kind, length)
    facts = measured(Reduction(kind, "product", length, lambda: addends))
    plain = _one_by_one(addends)
    ours = torch.from_numpy(sums_of(addends.numpy()).half[0])
    if not torch.equal(plain, ours):
        raise SystemExit(f"{kind}, K = {length}: precscope's accumulator differs from plain torch")
    errors = facts["errors_fp16"]
    exact = addends.double().sum(0)
    told = float((plain - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    cells = [errors["1"], told, *(errors[b] for b in BLOCKS[1:]), facts["error_fp32"]]
    cells += [facts["expected_errors"]["1"], facts["swamped"]["1"]]
    return f"| {length} | {kind} | " + " | ".join(f"{c:.1e}" for c in cells) + " |"


def _one_by_one(addends: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(addends.shape[1], dtype=torch.float16)
    for row in addends:
        total = (total.float() + row).half()
    return total.double()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="FP16 accumulators on dot products.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="markdown file to update")
    return parser.parse_args()


if __name__ == "__main__":
    main()
