"""What was measured at one place where a training step adds numbers up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import torch

from precscope.probes.accumulation.numbers import NOTHING, numbers_of, unmeasured
from precscope.probes.accumulation.sums import Sums, stacked, sums_of

Family = Literal["product", "reduction", "scatter"]

VERDICT_BLOCK: Final[dict[Family, int]] = {"product": 16, "reduction": 1, "scatter": 1}
"""Addends between two roundings of an FP16 accumulator: a tensor core adds 16 products at a time
(4 and 8 on older ones), a reduction or a scatter one value after the other."""

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of one kind of sum in one operator call.

    Attributes:
        facts: what is known before anything is worked out.
        sums: the sums of the sampled elements; None where an addend is not finite.
    """

    facts: Facts
    sums: Sums | None

    @property
    def is_measured(self) -> bool:
        """Whether there is a sum to compare with."""
        return self.sums is not None and unmeasured(stacked([self.sums]))[0] is None


@dataclass(slots=True)
class Reduction:
    """One kind of sum in one operator call, not yet measured.

    Attributes:
        operation: what it computes for its module: ``forward``, ``weight gradient``, ...
        family: what the hardware does it with.
        length: addends per output element.
        addends: gathers them, FP16 values or exact products of two, shape (K, m).
        cancellation: how many times larger the sum of squares is than what is left of it when
            the squared mean is taken off; 1 where nothing is subtracted.
        native: measures the real half operator; None where it adds in float32 or does not exist.
    """

    operation: str
    family: Family
    length: int
    addends: Callable[[], torch.Tensor]
    cancellation: Callable[[], float] | None = None
    native: Callable[[], float | None] | None = None


@dataclass(slots=True)
class Site:
    """A measured sum.

    Attributes:
        site: qualified name of the module, ``(root)`` for the model itself, ``loss`` outside it.
        operation: see ``Reduction``.
        operator: the operator that does it in this step.
        phase: ``forward`` or ``backward``.
        family: see ``Reduction``.
        length: addends per output element.
        calls: how often a step does it.
        taken: the sums of the sampled elements.
        numbers: what they came to, worked out when the step is over; see ``worked_out``.
    """

    site: str
    operation: str
    operator: str
    phase: str
    family: Family
    length: int
    taken: Taken
    calls: int = 1
    numbers: Facts = field(default_factory=dict)

    def to_dict(self) -> Facts:
        """All of it as one JSON object."""
        known = ("site", "operation", "operator", "phase", "family", "length", "calls")
        return {**{name: getattr(self, name) for name in known}, **self.numbers}


def taken(reduction: Reduction) -> Taken:
    """Gather the addends of one kind of sum, and add them up in every way."""
    addends = reduction.addends().detach().to("cpu", torch.float32).contiguous()
    facts: Facts = {
        "sampled_length": int(addends.shape[0]),
        "samples": int(addends.shape[1]),
        "block": VERDICT_BLOCK[reduction.family],
        "cancellation": reduction.cancellation() if reduction.cancellation else None,
        "error_native_fp16": reduction.native() if reduction.native else None,
    }
    values = addends.numpy()
    return Taken(facts, sums_of(values) if np.isfinite(values).all() else None)


def measured(reduction: Reduction) -> Facts:
    """One kind of sum by itself: ``worked_out`` of what is ``taken``."""
    return worked_out([taken(reduction)])[0]


def worked_out(sums: Sequence[Taken]) -> list[Facts]:
    """The numbers of each of these: errors of FP16 and FP32 accumulation, and why.

    With s the sums in FP16, r those in float64, u = 2^-11 and K the addends that were looked at:

    - ``errors_fp16[b]``, ``error_fp32``: RMS(s - r) / RMS(r); None if s is not finite
    - ``kappa``: median of sum |p| / |r|
    - ``peak``: largest |partial sum|, at the loss scale in backward
    - ``swamped[b]``: share of the energy of the block sums below half an ulp of the accumulator
    - ``variance_retention[b]``, ``variance_retention_fp32``: Var(s) / Var(r) over the samples
    - ``expected_errors[b]``: sqrt(sum (ulp(partial) / 2)^2 / 3) / RMS(r): every rounding errs evenly
      within half a place of the partial sum it rounds
    - ``predicted_errors[b]``: sqrt(K / b) u kappa, without looking at the partial sums
    - ``worst_errors[b]``: (K / b) u kappa, if all roundings err the same way

    Everything is None, and ``unmeasured`` says why, where an addend is not finite or all sums are
    zero, also zero but for the rounding of their terms.
    """
    found = [{**one.facts, **NOTHING, "unmeasured": NOT_FINITE} for one in sums]
    by_samples: dict[int, list[tuple[int, Sums]]] = {}
    for place, one in enumerate(sums):
        if one.sums is not None:
            by_samples.setdefault(len(one.sums.exact), []).append((place, one.sums))
    for group in by_samples.values():
        places = [place for place, _ in group]
        lengths = np.array([sums[place].facts["sampled_length"] for place in places])
        numbers = numbers_of(stacked([one for _, one in group]), lengths)
        for place, more in zip(places, numbers, strict=True):
            found[place] |= more
    return found


NOT_FINITE: Final = "not finite"
