"""What the words of a comparison mean, printed with it."""

from __future__ import annotations

from precscope.comparison.sites import NOTABLE_BITS, NOTABLE_FRACTION, NOTABLE_L1_FRACTION
from precscope.formats import FP16


def definitions() -> list[dict[str, str]]:
    """Terms and definitions, with the thresholds in force."""
    terms = {
        "A, B": "the run before and the run after, in the order in which they were named; every "
        "difference is B minus A",
        "shift": "of log2 |x| over the finite non-zero values, in bits: the median (interpolated "
        "inside its octave), the mean (each value at the middle of its octave), and the largest "
        "magnitude (amax). Values that are all multiplied by 2^k shift by exactly k.",
        "moved by": "Wasserstein-1 distance of the two distributions of binary exponents: the "
        "octaves that a value moves by on average to turn one into the other; never negative",
        "newly flushed": f"share of the finite non-zero values (count) and of the sum of |x| (L1) "
        f"at or below 2^{FP16.log2_flush_threshold}, unscaled, in B minus the same in A; negative "
        "where less is flushed",
        "new zeros": "share of exact zeros among all values in B minus the same in A. A run in "
        "FP16 cannot show what it flushed as small values any more: it shows up as zeros.",
        "change": "of a site, the gravest that applies. non-finite: infinities or NaNs on one side "
        "only; overflow: FP16 overflows on one side only, also at the loss scale advised for A; "
        f"flushed: L1 mass changed by more than {NOTABLE_L1_FRACTION:g}, or flushed values or zeros "
        f"by more than {NOTABLE_FRACTION:.0%}; shifted: some shift of {NOTABLE_BITS:g} bit or more",
    }
    return [{"term": term, "definition": text} for term, text in terms.items()]
