"""What was measured at one place where a training step adds numbers up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, Literal

import numpy as np
import torch

from precscope.probes.accumulation.sums import BLOCKS, Doubles, Sums, sums_of

Family = Literal["product", "reduction", "scatter"]

VERDICT_BLOCK: Final[dict[Family, int]] = {"product": 16, "reduction": 1, "scatter": 1}
"""Addends between two roundings of an FP16 accumulator: a tensor core adds 16 products at a time
(4 and 8 on older ones), a reduction or a scatter one value after the other."""

UNIT_ROUNDOFF: Final = 2.0**-11

Facts = dict[str, Any]


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
        numbers: what the sums of the sampled elements came to; see ``measured``.
    """

    site: str
    operation: str
    operator: str
    phase: str
    family: Family
    length: int
    calls: int = 1
    numbers: Facts = field(default_factory=dict)

    def to_dict(self) -> Facts:
        """All of it as one JSON object."""
        known = ("site", "operation", "operator", "phase", "family", "length", "calls")
        return {**{name: getattr(self, name) for name in known}, **self.numbers}


def measured(reduction: Reduction) -> Facts:
    """Errors of FP16 and FP32 accumulation over the sampled outputs, and why.

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
    addends = reduction.addends().detach().to("cpu", torch.float32).contiguous()
    facts: Facts = {
        "sampled_length": int(addends.shape[0]),
        "samples": int(addends.shape[1]),
        "block": VERDICT_BLOCK[reduction.family],
        "cancellation": reduction.cancellation() if reduction.cancellation else None,
        "error_native_fp16": reduction.native() if reduction.native else None,
    }
    values = addends.numpy()
    if not np.isfinite(values).all():
        return {**facts, **_NOTHING, "unmeasured": "not finite"}
    sums = sums_of(values)
    if why := _no_sum(sums):
        return {**facts, **_NOTHING, "unmeasured": why}
    with np.errstate(all="ignore"):
        return {**facts, **_numbers(sums, len(values)), "unmeasured": None}


def _no_sum(sums: Sums) -> str | None:
    """Why there is no result to compare with; None if there is one.

    The gradient of a bias before a batch norm is zero in truth. What is left of it once its terms are
    rounded is noise of about u sqrt(sum p^2 / 6), and an error relative to that says nothing.
    """
    if not sums.exact.any():
        return "every sampled sum is zero"
    noise = UNIT_ROUNDOFF * float(np.sqrt(sums.energy[0].mean() / 3))
    if float(np.sqrt(np.square(sums.exact).mean())) < 2 * noise:
        return "the terms cancel to less than their own rounding"
    return None


def _numbers(sums: Sums, length: int) -> Facts:
    found = np.vstack((sums.half, sums.wide))
    size = float(np.sqrt(np.square(sums.exact).mean()))
    errors = np.sqrt(np.square(found - sums.exact).mean(1)) / size
    kappa = _median(sums.magnitude / abs(sums.exact))
    roundings = np.ceil(length / np.array(BLOCKS))
    expected = np.sqrt(sums.walk.mean(1) / 3) / size
    # Sums that hardly differ from each other have no variance to keep.
    variance = float(sums.exact.var())
    kept = found.var(1) / (variance if variance > (1e-12 * size) ** 2 else np.nan)
    return {
        "errors_fp16": _by_block(errors[:-1]),
        "error_fp32": _finite(errors[-1]),
        "kappa": _finite(kappa),
        "peak": _finite(sums.peak.max()),
        "swamped": _by_block(sums.swamped.sum(1) / sums.energy.sum(1)),
        "variance_retention": _by_block(kept[:-1]),
        "variance_retention_fp32": _finite(kept[-1]),
        "expected_errors": _by_block(np.where(np.isfinite(errors[:-1]), expected, np.nan)),
        "predicted_errors": _by_block(np.sqrt(roundings) * UNIT_ROUNDOFF * kappa),
        "worst_errors": _by_block(roundings * UNIT_ROUNDOFF * kappa),
    }


def _median(values: Doubles) -> float:
    return float(np.sort(values)[len(values) // 2])


def _by_block(values: Doubles) -> dict[str, float | None]:
    return dict(zip(_BLOCK_NAMES, map(_finite, values.tolist()), strict=True))


_BLOCK_NAMES: Final = tuple(map(str, BLOCKS))


_BY_BLOCK: Final = (
    *("errors_fp16", "swamped", "variance_retention"),
    *("expected_errors", "predicted_errors", "worst_errors"),
)
_NOTHING: Final[Facts] = {
    **{name: dict.fromkeys(_BLOCK_NAMES) for name in _BY_BLOCK},
    **dict.fromkeys(("error_fp32", "kappa", "peak", "variance_retention_fp32")),
}


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None
