"""Drift in words, which agree with what is advised: a scale, or none."""

from __future__ import annotations

from dataclasses import dataclass

from precscope.advice.drift_needs import Need

SMALLEST = "the smallest scale that is enough"


def movement(slope: float | None) -> str:
    """How the need moves, by the bits per step of ``trend``; None for too few windows."""
    if slope is None:
        return f"too few windows to see {SMALLEST} move"
    if slope == 0.0:
        return f"{SMALLEST} shows no trend"
    word = "rises" if slope > 0.0 else "falls"
    return f"{SMALLEST} {word} by {abs(100 * slope):.2g} bits per 100 steps"


@dataclass(frozen=True, slots=True)
class DriftWords:
    """One sentence for each state of a drift that is held against a constant scale.

    Attributes:
        advised_log2: that scale; 0 where none is advised.
        is_scaled: whether a scale is advised at all.
    """

    advised_log2: int
    is_scaled: bool

    def inside(self, slope: float | None, last: Need) -> str:
        """All windows do with what is advised."""
        moves = f"{movement(slope)}; at step {last.last_step} it is 2^{last.needed_log2}"
        if self.is_scaled:
            return f"{moves}, the advised scale is 2^{self.advised_log2}"
        return f"no window needs a loss scale: {moves}"

    def leaving(self, slope: float, last: Need, leaves_at_step: int) -> str:
        """They do, but by the trend they will not for long."""
        moves = f"{movement(slope)}; at step {last.last_step} it is 2^{last.needed_log2}"
        if self.is_scaled:
            rate = f"at this rate more than the advised 2^{self.advised_log2}"
            return f"{moves}, and {rate} from step {leaves_at_step}"
        rate = f"at this rate a loss scale is needed from step {leaves_at_step}"
        return f"no window needs a loss scale yet: {moves}, and {rate}"

    def left(self, peak: Need) -> str:
        """Some window needs more."""
        several = peak.last_step > peak.first_step
        when = f"in step{'s' if several else ''} {peak.first_step}"
        when += f" to {peak.last_step}" if several else ""
        limit = f"more than the advised 2^{self.advised_log2}"
        if not self.is_scaled:
            limit = "and no scaling is advised"
        return f"{when} 2^{peak.needed_log2} is needed, {limit}"
