"""Which format: FP16, BF16 or FP32 for each module, by range against rounding.

FP16 has 11 significant bits and reaches from 2^-24 to 65504; BF16 has FP32's range and 8 bits. So,
by the finite values,

    FP32  where autocast computes in it anyway, or where the recipe keeps the module in it
    BF16  where no loss scale works, or FP16 flushes more than 1e-3 of a forward sum |x|
    FP16  everywhere else: three bits more, and an update survives at 1/2048 of its weight
          instead of 1/256
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import log2
from typing import Literal

from precscope.advice.master_weights import ADVISED_BELOW, ParameterRetention
from precscope.advice.ranges import L1_FLUSHED_LIMIT, is_bias
from precscope.advice.risk import at_risk, module_of
from precscope.facts import GRADIENT_KINDS, Site
from precscope.formats import BF16, FP16
from precscope.histogram import ExponentHistogram
from precscope.recipe import Recipe

Choice = Literal["fp16", "bf16", "fp32"]

UPDATE_RATIO_BF16 = 2**BF16.mantissa_bits * 2
UPDATE_RATIO_FP16 = 2**FP16.mantissa_bits * 2
"""A weight that is so many times larger than its update may swallow it."""


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """One module's format.

    Attributes:
        module: qualified name.
        choice: the format.
        reason: one line.
    """

    module: str
    choice: Choice
    reason: str


@dataclass(slots=True)
class _Module:
    name: str
    forward: list[tuple[Site, ExponentHistogram]] = field(default_factory=list)
    retention: float | None = None


def choose_formats(
    sites: Sequence[tuple[Site, ExponentHistogram]],
    retention: Sequence[ParameterRetention],
    recipe: Recipe,
) -> list[FormatChoice]:
    """A choice for every module with an observed value, in order of execution.

    Args:
        sites: every observed site.
        retention: what FP16 weights keep of each parameter's updates.
        recipe: the advised one, whose policy the choices agree with.
    """
    modules: dict[str, _Module] = {}
    for site, histogram in sites:
        if site.kind not in GRADIENT_KINDS:
            module = modules.setdefault(module_of(site), _Module(module_of(site)))
            module.forward.append((site, histogram))
    for parameter in retention:
        owner = modules.get(parameter.name.rpartition(".")[0] or "(root)")
        judged = parameter.at_risk and not parameter.is_noise
        if owner is not None and parameter.retention is not None and judged:
            known = 1.0 if owner.retention is None else owner.retention
            owner.retention = min(parameter.retention, known)
    return [FormatChoice(m.name, *_choose(m, recipe)) for m in modules.values()]


def _choose(module: _Module, recipe: Recipe) -> tuple[Choice, str]:
    half = [h for s, h in module.forward if at_risk(s)]
    if not half:
        return "fp32", "FP16 weights or not, autocast computes it in FP32"
    if not any(h.nonzero or h.zeros for h in half):
        return "fp32", "none of its values was finite: there is nothing to choose by"
    top = max(h.amax for h in half)
    if FP16.overflows(top) or _kept_in_fp32(module.name, recipe):
        return "fp32", _kept_reason(top, _flushed(module))
    if recipe.compute_dtype == "bfloat16":
        return "bf16", f"no FP16 loss scale works; BF16 has FP32's range, {_cost_of_bf16()}"
    if lost := _flushed(module):
        return "bf16", f"FP16 flushes {lost}; BF16 keeps it, {_cost_of_bf16()}"
    return "fp16", _fp16_reason(top, module.retention)


def _kept_in_fp32(name: str, recipe: Recipe) -> bool:
    parents = [name.rsplit(".", n)[0] for n in range(name.count(".") + 1)]
    return any(fnmatchcase(p, pattern) for p in parents for pattern in recipe.fp32_modules)


def _kept_reason(top: float, flushed: str | None) -> str:
    if flushed and not FP16.overflows(top):
        return f"FP16 flushes {flushed}; BF16 would keep it, {_cost_of_bf16()}"
    if not FP16.overflows(top):
        return "it belongs to a module that the recipe keeps in FP32"
    return (
        f"values reach {top:.3g}, beyond FP16's {FP16.max_finite:.0f}; BF16 would hold them, "
        f"{_cost_of_bf16()}"
    )


def _cost_of_bf16() -> str:
    return (
        f"at {BF16.mantissa_bits + 1} bits: a BF16 weight swallows updates from 1/"
        f"{UPDATE_RATIO_BF16} of it on"
    )


def _flushed(module: _Module) -> str | None:
    """What FP16 flushes of its forward values; gradients are the loss scale's business."""
    for site, histogram in module.forward:
        share = histogram.l1_flushed_fraction(FP16)
        if at_risk(site) and not is_bias(site) and share > L1_FLUSHED_LIMIT:
            return f"{share:.1%} of sum |x| of its {site.kind}s"
    return None


def _fp16_reason(top: float, retention: float | None) -> str:
    room = f"{log2(FP16.overflow_threshold / top):.0f} doublings of room" if top > 0 else "all zero"
    words = (
        f"{room}, {FP16.mantissa_bits + 1} bits against BF16's {BF16.mantissa_bits + 1}: updates "
        f"down to 1/{UPDATE_RATIO_FP16} of a weight survive, not just to 1/{UPDATE_RATIO_BF16}"
    )
    if retention is not None and retention < ADVISED_BELOW:
        return (
            f"{words}; FP16 weights keep {retention:.0%} of its updates, BF16 weights fewer: keep "
            "an FP32 copy"
        )
    return words
