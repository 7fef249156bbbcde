"""What the words in a report mean, printed in every report."""

from __future__ import annotations

from precscope.advice.accumulation import (
    ERROR_RATIO,
    HARMFUL_ERROR,
    SWAMPED_LIMIT,
    VARIANCE_KEPT,
)
from precscope.advice.arbiter import FLOOR_FACTOR, HARMLESS_ERROR
from precscope.advice.breaches import MANY_SKIPPED, SAME_LOSS
from precscope.advice.master_weights import ADVISED_BELOW, REQUIRED_BELOW
from precscope.advice.residual import BREAKING_ERROR
from precscope.advice.screen import COUNT_LOST_LIMIT, L1_LOST_LIMIT
from precscope.formats import FP16


def definitions() -> list[dict[str, str]]:
    """Terms and definitions, with the thresholds in force."""
    terms = _formats() | _loss_scale() | _weights() | _proof() | _accumulation()
    return [{"term": t, "definition": d} for t, d in terms.items()]


def _formats() -> dict[str, str]:
    return {
        "flushed": f"becomes zero in FP16: 0 < |x| <= 2^{FP16.log2_flush_threshold}, half the "
        "smallest subnormal (round to nearest even). Exact zeros are never counted.",
        "subnormal": f"survives in FP16 below its smallest normal number 2^"
        f"{FP16.log2_smallest_normal}, with fewer than {FP16.mantissa_bits + 1} significant bits",
        "overflow": f"becomes infinite in FP16: |x| >= {FP16.overflow_threshold:.0f} (largest "
        f"finite number {FP16.max_finite:.0f})",
        "share": "of the finite non-zero values, unless it says otherwise",
        "L1 mass": "sum of |x|; the lost part is counted per binary octave at 1.5 times its lower "
        "edge: the truth is within a third of that for any distribution",
    }


def _loss_scale() -> dict[str, str]:
    return {
        "loss scale": "factor 2^k on the loss before backward; gradients are divided by it before "
        "the update",
        "gradient error": "||g16 / 2^k - g32|| / ||g32|| of one parameter's gradient: a real FP16 "
        "backward at scale 2^k beside FP32, same batch; the worst parameter is shown",
        "floor": "gradient error at a large safe scale: what FP16 rounding costs whatever the scale",
        "minimum scale": f"smallest 2^k whose gradient error is at most {FLOOR_FACTOR:g} x the "
        f"floor, or {HARMLESS_ERROR:g}, for every parameter; the histogram screen alone allows "
        f"{L1_LOST_LIMIT:g} of the L1 mass and {COUNT_LOST_LIMIT:.0%} of the values to be flushed",
        "maximum scale": "largest 2^k at which no gradient overflows FP16, with a margin of one or "
        "two bits and an expected overflow in at most one of 1000 steps",
        "smallest scale that is enough": "the minimum scale by the histograms of one window of the "
        "run, shifted to the level of the real backward where one ran",
    }


def _weights() -> dict[str, str]:
    return {
        "retention R": "<d,u> / <u,u> with u the FP32 update and d = fp16(w16 + u) - w16: the part "
        "of the intended step that an FP16 weight makes, on up to 256 sampled elements of each "
        f"parameter; below {REQUIRED_BELOW} master weights are required, below {ADVISED_BELOW} "
        "(also at a tenth and a hundredth of the update) advised; an R above 1, of weights that move "
        "too far, counts like one as far below it",
        "at risk": "stored in half with FP16 weights under FP16 autocast, by one real step; others stay "
        "in FP32 whatever their values",
    }


def _proof() -> dict[str, str]:
    return {
        "parity": "the final loss (mean of the last tenth) differs from FP32's on the same seeds, on "
        "average, by no more than FP32's own losses differ from seed to seed (largest minus "
        f"smallest); with one seed there is no such yardstick, and {SAME_LOSS:.0%} above FP32's "
        "stands in for it",
        "residual error": "gradient error at the scale in force, measured during the advised run on "
        "its own weights and batches; the floor is the error at larger scales",
        "broken promise": "the advised recipe diverged, ended worse than FP32 by more than the "
        f"spread, left a gradient error above {BREAKING_ERROR:.0%} and above what is tolerated, or "
        f"skipped more than {MANY_SKIPPED:.0%} of its steps",
        "simulated": "FP16 storage with products accumulated in FP32 and rounded at the store, on a "
        "CPU without fast half arithmetic: the numbers are meaningful, the speed is not",
    }


def _accumulation() -> dict[str, str]:
    return {
        "accumulation error": "RMS(s - r) / RMS(r) over up to 64 sampled results r of a sum in FP64, "
        "with s the same FP16 addends in an FP16 accumulator that is rounded after 16 products (as "
        "on a tensor core), or after each addend of any other sum",
        "FP32 required": f"of an accumulator: partial sums above {FP16.max_finite / 2:.0f}, more "
        f"than {SWAMPED_LIMIT:.0%} of the addends' energy below half a place of the sum they are "
        f"added to, a variance of the sums outside {VARIANCE_KEPT[0]} to {VARIANCE_KEPT[1]} times "
        f"what it should be, or an error above {HARMFUL_ERROR:g}, also of the variance that is left "
        "of a mean of squares",
        "FP32 advised": f"of an accumulator: an error of more than {ERROR_RATIO:g} times that of an "
        "FP32 sum stored in FP16, which is two bits",
    }
