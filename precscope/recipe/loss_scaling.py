"""LossScaling: how a recipe scales its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from precscope.errors import UsageError
from precscope.recipe.checked import check_choice, check_type

ScalingKind = Literal["none", "static", "dynamic"]

MAX_LOG2_SCALE = 126
"""Float32 has a scale up to here, and what undoes it."""


@dataclass(frozen=True, slots=True)
class LossScaling:
    """Multiply the loss by ``2^k`` before backward, the gradients by ``2^-k`` after it.

    Attributes:
        kind: ``"none"``; ``"static"``: always ``2^log2_initial``, a step whose gradients are not
            finite is skipped; ``"dynamic"``: such a step also lowers the scale, and clean steps
            raise it again.
        log2_initial: k at the first step.
        growth_interval: clean steps before a dynamic scale doubles.
        log2_min: floor of a dynamic scale, log2.
        log2_max: ceiling of a dynamic scale, log2.

    Raises:
        UsageError: another kind, a number that is no integer, an interval below one step, a scale
            that float32 does not have, or a dynamic one that starts outside its limits.
    """

    kind: ScalingKind = "none"
    log2_initial: int = 0
    growth_interval: int = 2000
    log2_min: int = -8
    log2_max: int = 24

    def __post_init__(self) -> None:
        check_choice("loss_scaling.kind", self.kind, get_args(ScalingKind))
        for name in ("log2_initial", "growth_interval", "log2_min", "log2_max"):
            check_type(f"loss_scaling.{name}", getattr(self, name), int)
        if self.growth_interval < 1:
            raise UsageError("loss_scaling.growth_interval must be at least 1 step")
        if abs(self.log2_initial) > MAX_LOG2_SCALE:
            raise UsageError(
                f"loss_scaling.log2_initial {self.log2_initial} must lie between"
                f" {-MAX_LOG2_SCALE} and {MAX_LOG2_SCALE}"
            )
        if self.kind == "dynamic" and not self.log2_min <= self.log2_initial <= self.log2_max:
            raise UsageError(
                f"loss_scaling.log2_initial {self.log2_initial} must lie between log2_min "
                f"{self.log2_min} and log2_max {self.log2_max}"
            )
