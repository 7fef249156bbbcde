"""From the advice to a recipe that can be trained with."""

from __future__ import annotations

from dataclasses import replace

from precscope.advice.findings import Finding
from precscope.advice.loss_scale import LossScaleAdvice
from precscope.advice.master_weights import Need
from precscope.advice.risk import module_of
from precscope.facts import Site
from precscope.recipe import LossScaling, Recipe

FALLBACK_LOG2_SCALE = 16
"""Where a dynamic scale starts if nothing was measured: GradScaler's own default."""


def advised_recipe(
    findings: list[Finding], sites: list[Site], loss_scale: LossScaleAdvice, need: Need
) -> Recipe:
    """The recipe that follows from the findings.

    BF16 where no single loss scale can work. Otherwise FP16 weights with an FP32 master copy
    unless the updates survive without one at any learning rate tried, the advised loss scale,
    and in FP32 every module whose activations or weights overflow FP16.
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
        fp32_modules=_fp32_modules(findings, sites),
    )


def _scaling(advice: LossScaleAdvice) -> LossScaling:
    if advice.verdict == "not_needed":
        return LossScaling(kind="none", log2_initial=0)
    if advice.verdict == "static" and advice.recommended_log2 is not None:
        return LossScaling(kind="static", log2_initial=advice.recommended_log2)
    start = FALLBACK_LOG2_SCALE if advice.recommended_log2 is None else advice.recommended_log2
    return LossScaling(kind="dynamic", log2_initial=start)


def _fp32_modules(findings: list[Finding], sites: list[Site]) -> tuple[str, ...]:
    owners = {site.name: module_of(site) for site in sites}
    names = [owners.get(str(f.site), "") for f in findings if f.rule == "overflow"]
    return tuple(dict.fromkeys(name for name in names if name and name != "(root)"))


def _description(loss_scale: LossScaleAdvice, need: Need) -> str:
    scaling = {
        "not_needed": "no loss scaling",
        "static": f"loss scale 2^{loss_scale.recommended_log2}",
        "dynamic": f"dynamic loss scale from 2^{loss_scale.recommended_log2}",
    }.get(loss_scale.verdict, "dynamic loss scale")
    weights = "FP16 weights" if need == "not_needed" else "FP16 weights with an FP32 master copy"
    return f"{weights}, {scaling}, FP32 accumulation"
