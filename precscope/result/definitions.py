"""What the words in a report mean, printed in every report."""

from __future__ import annotations

from precscope.advice.arbiter import FLOOR_FACTOR, HARMLESS_ERROR
from precscope.advice.master_weights import ADVISED_BELOW, REQUIRED_BELOW
from precscope.advice.outcome import SAME_LOSS
from precscope.advice.screen import COUNT_LOST_LIMIT, L1_LOST_LIMIT
from precscope.formats import FP16


def definitions() -> list[dict[str, str]]:
    """Terms and definitions, with the thresholds in force."""
    terms = {
        "flushed": f"becomes zero in FP16: 0 < |x| <= 2^{FP16.log2_flush_threshold}, half the "
        "smallest subnormal (round to nearest even). Exact zeros are never counted.",
        "subnormal": f"survives in FP16 below its smallest normal number 2^"
        f"{FP16.log2_smallest_normal}, with fewer than {FP16.mantissa_bits + 1} significant bits",
        "overflow": f"becomes infinite in FP16: |x| >= {FP16.overflow_threshold:.0f} (largest "
        f"finite number {FP16.max_finite:.0f})",
        "share": "of the finite non-zero values, unless it says otherwise",
        "L1 mass": "sum of |x|; the lost part is counted per binary octave at 1.5 times its lower "
        "edge, which is within a third of the truth for any distribution",
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
        "retention R": "<d,u> / <u,u> with u the FP32 update and d = fp16(w16 + u) - w16: the part "
        "of the intended step that an FP16 weight makes, on up to 256 sampled elements of each "
        f"parameter; below {REQUIRED_BELOW} master weights are required, below {ADVISED_BELOW} "
        "(also at a tenth and a hundredth of the update) advised",
        "at risk": "stored in half under FP16 autocast, by one real autocast step; other sites stay "
        "in FP32 whatever their values",
        "trains like FP32": f"final loss (mean of the last tenth) at most {SAME_LOSS:.0%} above "
        "FP32's, same seed and batches; a single seed cannot show more",
        "simulated": "FP16 storage with products accumulated in FP32 and rounded at the store, on a "
        "CPU without fast half arithmetic: the numbers are meaningful, the speed is not",
    }
    return [{"term": t, "definition": d} for t, d in terms.items()]
