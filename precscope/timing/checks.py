"""Cross-checks: two ways to measure the same thing must agree, or the reader is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

BUSY_PERCENT: Final = 0.5
"""A tensor pipe below this is idle: counters are averaged over 200 ms of other work. Kernels that
run for a smaller share of the step cannot make it busier."""

POINTS: Final = 5.0
THROTTLED: Final = 0.05
BUSY_SLACK: Final = 1.02
"""The profiler stretches kernels a little, and its steps are not the timed ones."""


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """One comparison.

    Attributes:
        name: what is checked.
        passed: False is a warning, not an error.
        message: what was compared, with the numbers.
    """

    name: str
    passed: bool
    message: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def cross_checks(
    tensor_core_ms: float | None,
    busy_ms: float | None,
    step_ms: float,
    flops_share_percent: float | None,
    nvml: Mapping[str, Any] | None,
) -> list[CrossCheck]:
    """Those of the four that can be made from what was measured.

    Args:
        tensor_core_ms: kernel time per step that the names call tensor-core.
        busy_ms: time per step in which a kernel ran.
        step_ms: median step.
        flops_share_percent: achieved rate over the peak of the tensor cores at the measured clock;
            None for arithmetic that is not theirs.
        nvml: summary of the timed window.
    """
    counters = nvml or {}
    tensor = counters.get("any_tensor_util_percent")
    throttled = counters.get("throttled_share")
    found: list[CrossCheck | None] = [
        _names(tensor_core_ms, step_ms, tensor),
        _rate(flops_share_percent, tensor),
        _busy(busy_ms, step_ms),
        _throttle(throttled),
    ]
    return [check for check in found if check is not None]


def _names(tensor_core_ms: float | None, step_ms: float, tensor: float | None) -> CrossCheck | None:
    if tensor_core_ms is None or tensor is None:
        return None
    at_most = 100 * tensor_core_ms / step_ms
    agrees = (at_most > BUSY_PERCENT) == (tensor > BUSY_PERCENT)
    message = (
        f"kernel names: {tensor_core_ms:.3f} ms of tensor-core kernels in a step; "
        f"counter: tensor pipes {tensor:.1f} % active"
    )
    return CrossCheck("names and counters", agrees, message)


def _rate(flops_share: float | None, tensor: float | None) -> CrossCheck | None:
    if flops_share is None or tensor is None:
        return None
    message = f"achieved {flops_share:.1f} % of the peak at this clock; tensor pipes {tensor:.1f} % active"
    return CrossCheck("rate and counters", flops_share <= tensor + POINTS, message)


def _busy(busy_ms: float | None, step_ms: float) -> CrossCheck | None:
    if busy_ms is None:
        return None
    message = f"kernels run for {busy_ms:.3f} ms of a step of {step_ms:.3f} ms"
    return CrossCheck("kernels within the step", busy_ms <= BUSY_SLACK * step_ms, message)


def _throttle(share: float | None) -> CrossCheck | None:
    if share is None:
        return None
    message = f"the clock was held back in {share:.0%} of the readings"
    return CrossCheck("clock held back", share <= THROTTLED, message)
