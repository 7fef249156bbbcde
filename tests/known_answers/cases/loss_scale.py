"""The smallest loss scale: gradients at exact places of FP16's range.

A gradient of exactly 2^e survives a scale of 2^k exactly if e + k >= -24, FP16's smallest number,
and becomes zero below. Half of it, 2^-25, is the tie that goes to the even code, which is zero.
The screen and the real backward then have to agree to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from tests.known_answers.claims import Case, Claim, exactly, exponent_name, names
from tests.known_answers.workloads import Result, analysed, heads, workload

SMALLEST = -24
"""log2 of FP16's smallest number."""

ROOM = 13
"""floor(log2 65520), less the margin of two bits of a run under 500 steps."""


def scale_claims(
    result: Result, minimum: int, maximum: int, verdict: str, recommended: int | None
) -> Iterator[Claim]:
    """The four numbers of the loss scale, all of them exact."""
    advice = result["loss_scale"]
    yield exactly("minimum, log2", minimum, advice["minimum_log2"], "to the bit")
    yield exactly("maximum, log2", maximum, advice["maximum_log2"], "to the bit")
    width = f"window of {maximum - minimum} bits"
    yield exactly("verdict", verdict, advice["verdict"], width)
    yield exactly("recommended, log2", recommended, advice["recommended_log2"], "to the bit")


def _at(exponent: int) -> Case:
    minimum, maximum = SMALLEST - exponent, ROOM - exponent
    needed = minimum > 0

    def judge(folder: Path) -> Iterable[Claim]:
        result = analysed(heads({"body": 2.0**exponent}), folder)
        recommended = (minimum + maximum) // 2 if needed else 0
        verdict = "static" if needed else "not_needed"
        yield from scale_claims(result, minimum, maximum, verdict, recommended)
        screened = result["loss_scale"]["screen_minimum_log2"]
        yield exactly("screen's minimum, log2", minimum, screened, "to the bit")

    why = (
        f"every gradient is exactly 2^{exponent}: kept from {SMALLEST} - ({exponent}) = {minimum} on,"
        f" overflowing from 16 - ({exponent}) on, with two bits of margin {maximum}"
    )
    return Case(f"gradients-at-exponent-{exponent_name(exponent)}", why, judge)


def _just_above_a_tie(folder: Path) -> Iterable[Claim]:
    result = analysed(heads({"body": (1 + 2.0**-10) * 2.0**-25}), folder)
    yield from scale_claims(result, 1, 38, "static", 19)
    screened = result["loss_scale"]["screen_minimum_log2"]
    yield exactly("screen's minimum, log2", 0, screened, "to the bit")


def _just_below_the_smallest(folder: Path) -> Iterable[Claim]:
    result = analysed(heads({"body": (1 - 2.0**-11) * 2.0**-24}), folder)
    yield from scale_claims(result, 0, 38, "not_needed", 0)


def _mixed(*exponents: int) -> torch.Tensor:
    return torch.tensor([2.0 ** exponents[i % len(exponents)] for i in range(32)])


def _three_octaves_in_one(folder: Path) -> Iterable[Claim]:
    result = analysed(heads({"body": _mixed(-20, -23, -26, -26)}), folder)
    yield from scale_claims(result, 2, 33, "static", 17)


def _three_parameters(folder: Path) -> Iterable[Claim]:
    result = analysed(heads({"high": 2.0**-12, "middle": 2.0**-20, "low": 2.0**-28}), folder)
    yield from scale_claims(result, 4, 25, "static", 14)
    limits = result["loss_scale"]["limiting_sites"]
    yield names("site of the minimum", "heads.low", limits["minimum"])
    yield names("site of the maximum", "heads.high", limits["maximum"])


class Masked(nn.Module):
    """A ReLU that lets one output in sixteen through."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 64)
        self.relu = nn.ReLU()
        nn.init.constant_(self.body.weight, 0.125)
        signs = torch.where(torch.arange(64) % 16 == 0, 1.0, -2.0)
        self.body.bias = nn.Parameter(signs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``relu(W x + b)``: 2 where b = 1, and 0 where b = -2."""
        rectified: torch.Tensor = self.relu(self.body(x))
        return rectified


def _heavy_zeros(folder: Path) -> Iterable[Claim]:
    batch = (torch.ones(4, 8), torch.full((64,), 2.0**-22))
    subject = workload(Masked, lambda model, batch: (model(batch[0]) * batch[1]).sum(), [batch])
    result = analysed(subject, folder)
    site = next(
        s for s in result["sites"] if (s["name"], s["kind"]) == ("body", "activation_gradient")
    )
    yield exactly("share of exact zeros", 15 / 16, site["zero_fraction"])
    yield exactly("share flushed in FP16", 0.0, site["flushed_fp16"])
    yield exactly("verdict", "not_needed", result["loss_scale"]["verdict"])
    yield exactly("minimum, log2", -2, result["loss_scale"]["minimum_log2"], "to the bit")


CASES = (
    *map(_at, (-36, -30, -25, -24, 0)),
    Case(
        "just-above-the-flushed-tie",
        "(1 + 2^-10) 2^-25 is not flushed, so the screen is content at 2^0; but it rounds to 2^-24,"
        " an error of 100 %: the real backward needs 2^1, where the error is 2^-10",
        _just_above_a_tie,
    ),
    Case(
        "just-below-the-smallest-number",
        "(1 - 2^-11) 2^-24 rounds to 2^-24, an error of 2^-11; half of it is below 2^-25 and lost."
        " It is 65504 * 2^-40, so the maximum is one more than for 2^-24",
        _just_below_the_smallest,
    ),
    Case(
        "three-exponents-in-one-parameter",
        "without the half of the values at 2^-26 the gradient is wrong by 4.4 % (1 % is tolerated), and"
        " 5 % of its sum is lost (0.1 % is): 2^2 keeps them; 2^-20 sets the maximum",
        _three_octaves_in_one,
    ),
    Case(
        "three-parameters-far-apart",
        "each parameter is judged by itself: 2^-28 sets the minimum at 2^4, 2^-12 the maximum at 2^25",
        _three_parameters,
    ),
    Case(
        "zeros-of-a-relu-are-not-underflow",
        "a ReLU passes 1 value in 16, at 2^-22: 15 in 16 gradients are exact zeros, none is flushed,"
        " and from 2^-2 on all are kept",
        _heavy_zeros,
    ),
)
