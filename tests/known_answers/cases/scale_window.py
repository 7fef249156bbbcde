"""Both ends of the loss scale at once: narrow, empty and moving windows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from tests.known_answers.cases.loss_scale import ROOM, SMALLEST, scale_claims
from tests.known_answers.claims import (
    Case,
    Claim,
    above,
    below,
    exactly,
    exponent_name,
    names,
    near,
)
from tests.known_answers.workloads import analysed, heads, workload


def _two_ends(large: int, small: int, verdict: str, recommended: int | None) -> Case:
    minimum, maximum = SMALLEST - small, ROOM - large

    def judge(folder: Path) -> Iterable[Claim]:
        result = analysed(heads({"large": 2.0**large, "small": 2.0**small}), folder)
        yield from scale_claims(result, minimum, maximum, verdict, recommended)
        limits = result["loss_scale"]["limiting_sites"]
        yield names("site of the minimum", "heads.small", limits["minimum"])
        yield names("site of the maximum", "heads.large", limits["maximum"])
        if verdict == "impossible":
            yield exactly("advised dtype", "bfloat16", result["recipe"]["compute_dtype"])

    why = (
        f"2^{small} needs 2^{minimum}, 2^{large} allows 2^{maximum}: {maximum - minimum} bits; under 4"
        " a constant has no room, under 0 no scale works (from -3 on not even without the margin)"
    )
    name = f"scale-window-{exponent_name(minimum)}-to-{exponent_name(maximum)}"
    return Case(name, why, judge)


def _scale_below_one(folder: Path) -> Iterable[Claim]:
    recipes = ("advised", "paper-no-scaling")
    result = analysed(heads({"body": 2.0**16}), folder, recipes=recipes)
    yield from scale_claims(result, -40, -3, "static", -3)
    runs = {run["recipe"]: run for run in result["runs"]}
    yield exactly("skipped with the advice", 0, runs["advised"]["skipped_steps"])
    yield exactly("advised run diverged at", None, runs["advised"]["diverged_at"])
    unscaled = runs["paper-no-scaling"]["diverged_at"] is not None
    yield exactly("diverges without scaling", True, unscaled)


def _swinging(low: int, high: int, maximum: int, verdict: str) -> Case:
    minimum = SMALLEST - low

    def judge(folder: Path) -> Iterable[Claim]:
        result = analysed(heads({"body": 2.0**low}, {"body": 2.0**high}), folder)
        advice, scaling = result["loss_scale"], result["recipe"]["loss_scaling"]
        yield exactly("minimum, log2", minimum, advice["minimum_log2"], "to the bit")
        yield exactly("maximum, log2", maximum, advice["maximum_log2"], "to the bit")
        sd = (high - low) / 2
        yield exactly("verdict", verdict, advice["verdict"], f"{abs(sd - 1.5):g} bits of deviation")
        yield exactly("kind of scaling in the recipe", verdict, scaling["kind"])
        yield above("scale of the recipe, log2", minimum - 1, scaling["log2_initial"])
        yield below("scale of the recipe, log2", maximum + 1, scaling["log2_initial"])

    middle, sd = (low + high) / 2, (high - low) / 2
    why = (
        f"steps alternate between 2^{low} and 2^{high}: the 0.999 quantile of the largest gradient is"
        f" 2^({middle:g} + 3.09 * {sd:g}); a standard deviation above 1.5 bits makes it dynamic"
    )
    return Case(f"gradients-swinging-by-{high - low}-bits", why, judge)


LATE = 2
"""Last batches, of 60, in which one head's gradient is small."""


def _late_drift(folder: Path) -> Iterable[Claim]:
    early = {"steady": 2.0**-10, "sinking": 2.0**-20}
    late = {"steady": 2.0**-10, "sinking": 2.0**-30}
    result = analysed(heads(*[early] * (60 - LATE), *[late] * LATE), folder, steps=60)
    yield from scale_claims(result, 6, 23, "static", 14)
    screened = result["loss_scale"]["screen_minimum_log2"]
    yield exactly("screen's minimum, log2", -4, screened, f"{LATE / 60:.1%} lost, 5 % allowed")
    yield names("site of the minimum", "sinking", result["loss_scale"]["limiting_sites"]["minimum"])


def _rising_need(folder: Path) -> Iterable[Claim]:
    batches = [{"steady": 2.0**-10, "sinking": 2.0 ** (-10 - t // 4)} for t in range(64)]
    result = analysed(heads(*batches), folder, steps=64)
    yield from scale_claims(result, 1, 23, "static", 12)
    drift = result["drift"]
    yield exactly("drift", "leaving", drift["state"])
    yield near("bits per 100 steps", 25.0, drift["slope_bits_per_100_steps"], 2.5)
    yield near("leaves the scale at step", 108, drift["leaves_at_step"], 12)


class Shrinking(nn.Module):
    """One weight per output; the loss ``2^-8 w^2 / 2`` and the rate 2^7 halve it in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(1, 64, bias=False)
        nn.init.ones_(self.body.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The weights, for an input of 1."""
        out: torch.Tensor = self.body(x)
        return out


def _shrinking_weights(folder: Path) -> Iterable[Claim]:
    curvature = torch.full((64,), 2.0**-9)
    subject = workload(
        Shrinking,
        lambda model, x: (model(x).float().square() * curvature).sum(),
        [torch.ones(1, 1)],
        lambda model: torch.optim.SGD(model.parameters(), 2.0**7),
    )
    result = analysed(subject, folder, steps=20)
    yield from scale_claims(result, 3, 13, "dynamic", 13)


CASES = (
    _two_ends(4, -29, "static", 7),
    _two_ends(5, -29, "dynamic", 8),
    _two_ends(5, -32, "dynamic", 8),
    _two_ends(6, -34, "impossible", None),
    _two_ends(20, -40, "impossible", None),
    _two_ends(24, -11, "dynamic", -11),
    Case(
        "scale-below-one",
        "gradients of 2^16 overflow as they are; at 2^-3 they are 2^13, two bits from overflow",
        _scale_below_one,
    ),
    _swinging(-26, -24, 35, "static"),
    _swinging(-26, -22, 31, "dynamic"),
    Case(
        "need-rises-in-the-last-two-steps",
        "one head's gradient falls from 2^-20 to 2^-30 in 2 of 60 steps: 3.3 % of its values and a"
        " thirty-thousandth of their sum, below the screen's limits; the probe at the end needs 2^6",
        _late_drift,
    ),
    Case(
        "need-rises-by-a-bit-every-four-steps",
        "one head's gradient is 2^(-10 - t/4): step 63 needs 2^1, and more than the advised 2^12 is"
        " needed from step 4 * 27 = 108 on",
        _rising_need,
    ),
    Case(
        "gradients-that-halve-with-the-weights",
        "at step t the gradient is 2^(-8-t): 2^-27 at the last probe needs 2^3; log2 of it has mean"
        " -17.5 and deviation 5.77 over 20 steps, so 15.99 - (-17.5 + 3.09 * 5.77) - 2 = 13, dynamic",
        _shrinking_weights,
    ),
)
