"""The loss scale in words: one verdict, and findings with the line of code to change."""

from __future__ import annotations

from precscope.advice.findings import Finding, Verdict
from precscope.advice.loss_scale import NARROW_WINDOW_BITS, LossScaleAdvice


def scaler_code(advice: LossScaleAdvice) -> str:
    """Lines that act on the advice with torch's own tools, or with precscope's trainer."""
    k = advice.recommended_log2
    if advice.verdict == "not_needed":
        return "with torch.autocast(device_type, dtype=torch.float16):\n    loss = ...\nloss.backward()"
    if advice.verdict == "impossible":
        return "with torch.autocast(device_type, dtype=torch.bfloat16):\n    loss = ..."
    if advice.verdict == "static":
        return f"loss_scale = 2.0**{k}\nscaler = torch.amp.GradScaler(init_scale=loss_scale)"
    if advice.verdict == "dynamic":
        return f"scaler = torch.amp.GradScaler(init_scale=2.0**{k}, growth_interval=200)"
    return ""


def loss_scale_verdict(advice: LossScaleAdvice) -> Verdict:
    """One sentence: which factor is needed, which is safe."""
    low, top, k = advice.minimum_log2, advice.maximum_log2, advice.recommended_log2
    code = scaler_code(advice)
    if advice.verdict == "unknown" or low is None or top is None:
        return Verdict("loss_scale", "advice", f"Loss scale unknown: {advice.reason}.", code)
    if advice.verdict == "not_needed":
        sentence = f"No loss scaling is needed; any factor from 2^{low} to 2^{top} is safe."
        return Verdict("loss_scale", "ok", sentence, code)
    if advice.verdict == "impossible":
        sentence = (
            f"No single loss scale works: {advice.minimum_site or 'a gradient'} needs 2^{low}, and "
            f"{advice.maximum_site or 'another'} overflows above 2^{top}."
        )
        return Verdict("loss_scale", "critical", sentence, code)
    by = f" (by {advice.minimum_site})" if advice.minimum_site else ""
    window = f"2^{low} is needed{by}, up to 2^{top} is safe"
    if advice.verdict == "static":
        sentence = f"Scale the loss by 2^{k} = {2.0 ** (k or 0):g}: {window}."
    else:
        moves = "that window moves" if top - low >= NARROW_WINDOW_BITS else "that is narrow"
        sentence = f"Scale the loss dynamically from 2^{k}: {window}, and {moves}."
    return Verdict("loss_scale", "warning", sentence, code)


def loss_scale_findings(advice: LossScaleAdvice) -> list[Finding]:
    """What to change about the loss scale; empty where nothing is."""
    verdict = loss_scale_verdict(advice)
    if advice.verdict in ("not_needed", "unknown"):
        return []
    site = advice.maximum_site if advice.verdict == "impossible" else advice.minimum_site
    return [
        Finding(
            f"loss_scale_{advice.verdict}",
            verdict.severity,
            site,
            verdict.sentence,
            _remedy(advice),
            verdict.code,
            {
                "minimum_log2": advice.minimum_log2,
                "maximum_log2": advice.maximum_log2,
                "recommended_log2": advice.recommended_log2,
                "screen_minimum_log2": advice.screen_minimum_log2,
                "decided": advice.reason,
            },
        )
    ]


def _remedy(advice: LossScaleAdvice) -> str:
    if advice.verdict == "impossible":
        return (
            f"use BF16, keep {advice.maximum_site or 'the larger one'} in FP32, or change the "
            "reduction of the loss "
            "(sum against mean)"
        )
    if advice.verdict == "static":
        return "multiply the loss by this factor before backward, and unscale before clipping"
    return "use a dynamic scaler that starts here; it halves the scale when a gradient overflows"
