"""Advice that is broken on purpose, one rule at a time, is found out by a case of the suite."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from precscope.advice import (
    accumulation,
    arbiter,
    headroom,
    loss_scale,
    master_weights,
    noise,
    policy,
    ranges,
    screen,
)
from precscope.analysis import observe
from precscope.formats import NumberFormat
from precscope.training.batch_statistics import BatchStatistics
from tests.known_answers.suite import by_name, wrong


class Fault(NamedTuple):
    """A wrong value of something that the advice goes by, and the case that has to notice."""

    owner: Any
    name: str
    value: Any
    case: str


FAULTS = {
    "flush threshold a bit too high": Fault(
        NumberFormat,
        "log2_flush_threshold",
        property(lambda fmt: fmt.log2_smallest_subnormal),
        "gradients-at-exponent-minus-24",
    ),
    "overflow threshold too high": Fault(
        NumberFormat, "overflow_threshold", property(lambda fmt: 65521.0), "activation-of-65520"
    ),
    "safety margin of one bit": Fault(headroom, "MANY_STEPS", 1, "gradients-at-exponent-0"),
    "quantile ignored": Fault(
        headroom, "NORMAL_QUANTILE_0_999", 0.0, "gradients-that-halve-with-the-weights"
    ),
    "any gradient error tolerated": Fault(
        arbiter, "HARMLESS_ERROR", 10.0, "just-above-the-flushed-tie"
    ),
    "half of the values may be lost": Fault(
        screen, "COUNT_LOST_LIMIT", 0.5, "screen-allows-five-percent"
    ),
    "half of the mass may be lost": Fault(
        screen, "L1_LOST_LIMIT", 0.5, "screen-allows-five-percent"
    ),
    "sites in float32 counted": Fault(
        screen, "at_risk", lambda site: True, "gradient-of-a-norm-needs-no-scale"
    ),
    "swinging gradients ignored": Fault(
        loss_scale, "DRIFT_BITS", 99.0, "gradients-that-halve-with-the-weights"
    ),
    "narrow windows ignored": Fault(loss_scale, "NARROW_WINDOW_BITS", 0, "scale-window-5-to-8"),
    "probed at the start only": Fault(
        observe, "probe_steps", lambda steps: (0,), "need-rises-in-the-last-two-steps"
    ),
    "noise taken for gradients": Fault(
        noise, "CANCELLED", 2.0**-200, "bias-before-a-batch-norm-watched"
    ),
    "noise inside a gradient taken for a part of it": Fault(
        noise, "NEGLIGIBLE_MASS", -1.0, "keys-in-a-packed-bias-watched"
    ),
    "rounding error of a fused attention counted": Fault(
        noise, "UNRESOLVED", 2.0**-200, "first-query-of-a-causal-attention-watched"
    ),
    "no retention is too small": Fault(
        master_weights, "REQUIRED_BELOW", -1.0, "updates-just-under-half-an-ulp"
    ),
    "late losses count though converged": Fault(
        master_weights, "TELLING_STEP", 0.0, "updates-vanish-because-it-converged"
    ),
    "headroom not looked at": Fault(ranges, "HEADROOM_BITS", 0.0, "activation-of-65519"),
    "lost mass of weights ignored": Fault(
        ranges, "L1_FLUSHED_LIMIT", 1.0, "weights-below-the-subnormals"
    ),
    "no module kept in FP32": Fault(
        policy, "overflowing_modules", lambda *_: (), "overflow-before-a-norm"
    ),
    "statistics of skipped steps kept": Fault(
        BatchStatistics, "restore", lambda self: None, "a-skipped-step-never-was"
    ),
    "FP32 accumulation never advised": Fault(
        accumulation, "ERROR_RATIO", 1e9, "gaussian-sums-of-16384"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_broken_rule_makes_the_suite_report_a_wrong_answer(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = by_name(fault.case)
    assert wrong(case) == []
    monkeypatch.setattr(fault.owner, fault.name, fault.value)
    assert wrong(case) != []
