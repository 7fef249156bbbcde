"""From the advice to a recipe that can be trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from precscope.advice.accumulation import SumAdvice, fp32_modules_for_fp16_accumulation
from precscope.advice.findings import Finding
from precscope.advice.loss_scale import LossScaleAdvice
from precscope.advice.master_weights import Need
from precscope.advice.ranges import L1_FLUSHED_SEVERE
from precscope.advice.risk import module_of
from precscope.facts import Site
from precscope.histogram import ExponentHistogram
from precscope.recipe import LossScaling, Recipe

FREEDOM_BITS = 8
"""How far a dynamic scale may move from where it starts, at least."""

FALLBACK_LOG2_SCALE = 16
"""Where a dynamic scale starts if nothing was measured: GradScaler's own default."""


def advised_recipe(
    findings: list[Finding],
    sites: list[Site],
    loss_scale: LossScaleAdvice,
    need: Need,
    tried: Sequence[str] = (),
) -> Recipe:
    """The recipe that follows from the findings.

    BF16 where no single loss scale can work. Otherwise FP16 weights with an FP32 master copy
    unless the updates survive without one at any learning rate tried, the advised loss scale,
    and in FP32 every module whose activations or weights overflow FP16.

    Args:
        findings: those about the range.
        sites: every observed site, for the module that each belongs to.
        loss_scale: what was judged of it; ``unknown`` scales dynamically.
        need: the strongest need of any parameter for a master copy.
        tried: modules that a trial forward in FP16 could not do without in FP32.
    """
    if loss_scale.verdict == "impossible":
        bf16 = Recipe.named("bf16")
        return replace(bf16, name="advised", description="BF16 autocast: no FP16 loss scale works")
    scaling = _scaling(loss_scale)
    return replace(
        Recipe.named("paper"),
        name="advised",
        description=_description(loss_scale, need),
        master_weights=need != "not_needed",
        loss_scaling=scaling,
        scaler="none" if scaling.kind == "none" else "precscope",
        fp32_modules=overflowing_modules(findings, sites, tried),
    )


def with_fp16_accumulation(recipe: Recipe, sums: Sequence[SumAdvice], block: int = 16) -> Recipe:
    """The recipe with FP16 accumulators, and in FP32 every module whose sums would be lost.

    Only here do accumulation verdicts move a module. With FP32 accumulators, which every other
    recipe has, each of these sums is right whatever its verdict.

    Args:
        recipe: one that computes in float16.
        sums: the judged sums of a training step.
        block: terms summed in float32 before each rounding, one of 1, 4, 8 and 16.

    Raises:
        UsageError: the recipe does not compute in float16, or the block is another number.
    """
    return replace(
        recipe.keeping_fp32(*fp32_modules_for_fp16_accumulation(sums)),
        accumulation="fp16",
        accumulation_block=block,
        description=recipe.description.replace("FP32 accumulation", "FP16 accumulation"),
    )


def _scaling(advice: LossScaleAdvice) -> LossScaling:
    if advice.verdict == "not_needed":
        return LossScaling(kind="none", log2_initial=0)
    if advice.verdict == "static" and advice.recommended_log2 is not None:
        return LossScaling(kind="static", log2_initial=advice.recommended_log2)
    start = FALLBACK_LOG2_SCALE if advice.recommended_log2 is None else advice.recommended_log2
    limits = LossScaling()
    return LossScaling(
        kind="dynamic",
        log2_initial=start,
        log2_min=min(limits.log2_min, start - FREEDOM_BITS),
        log2_max=max(limits.log2_max, start + FREEDOM_BITS),
    )


def overflowing_modules(
    findings: list[Finding], sites: list[Site], tried: Sequence[str] = ()
) -> tuple[str, ...]:
    """Modules that the range findings want in FP32, and those found by trying, once each.

    An overflow asks for it, and an underflow that loses more than ``L1_FLUSHED_SEVERE`` of sum |x|.
    The whole model, ``(root)``, is never among them.

    Args:
        findings: those about the range.
        sites: every observed site.
        tried: names found by a trial forward; they come last.
    """
    owners = {site.name: module_of(site) for site in sites}
    names = [owners.get(str(f.site), "") for f in findings if _needs_fp32(f)]
    return tuple(dict.fromkeys(name for name in (*names, *tried) if name and name != "(root)"))


def finite_modules(
    tried: Sequence[str],
    sites: Sequence[tuple[Site, ExponentHistogram]],
    infinities_did_no_harm: bool,
) -> tuple[str, ...]:
    """Of the modules that a trial forward could not do without in FP32, those that FP32 helps.

    Where a weight is NaN or infinite already, or a mask holds infinities, the trial breaks in any
    format and says nothing.

    Args:
        tried: names found by the trial.
        sites: every observed site.
        infinities_did_no_harm: see ``range_findings``.
    """
    kinds = ("weight", "activation") if infinities_did_no_harm else ("weight",)
    owners = [
        module_of(site)
        for site, histogram in sites
        if site.kind in kinds and (histogram.nans or histogram.infinities)
    ]
    broken = {name for name in tried for o in owners if f"{o}.".startswith(f"{name}.")}
    return tuple(name for name in tried if name not in broken)


def _needs_fp32(finding: Finding) -> bool:
    if finding.rule == "underflow":
        lost = finding.evidence.get("l1_flushed_fraction")
        return isinstance(lost, float) and lost > L1_FLUSHED_SEVERE
    return finding.rule == "overflow"


def _description(loss_scale: LossScaleAdvice, need: Need) -> str:
    scaling = {
        "not_needed": "no loss scaling",
        "static": f"loss scale 2^{loss_scale.recommended_log2}",
        "dynamic": f"dynamic loss scale from 2^{loss_scale.recommended_log2}",
    }.get(loss_scale.verdict, "dynamic loss scale")
    weights = "FP16 weights" if need == "not_needed" else "FP16 weights with an FP32 master copy"
    return f"{weights}, {scaling}, FP32 accumulation"
