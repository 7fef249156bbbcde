"""What came of training: the advised recipe against its promise, the others beside FP32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from precscope.advice.breaches import (
    MANY_SKIPPED,
    SAME_LOSS,
    Run,
    first_run,
    relative_loss_gap,
    told,
)
from precscope.advice.findings import Finding, Verdict
from precscope.advice.parity import ADVISED, BASELINE, Comparison
from precscope.advice.promise import Proof, fp32_diverged_at, prove

CODE = 'recipe = precscope.Recipe.load("recipe.json")'


def training_verdict(runs: Sequence[Run], proof: Proof | None = None) -> Verdict:
    """One sentence: did the advised recipe train like FP32?

    Args:
        runs: the recorded runs.
        proof: what they proved; made from the runs alone if not given.
    """
    proof = prove(runs) if proof is None else proof
    baseline, advised = first_run(runs, BASELINE), first_run(runs, ADVISED)
    if not runs:
        return Verdict(
            "training", "advice", "Not trained: the advice has not been put to the test."
        )
    if advised is None or baseline is None:
        return Verdict("training", "advice", _without_advice(runs, proof))
    numbers = f"{_numbers(advised, baseline, proof)}; {_skipped(proof)}"
    if proof.breaches:
        begun = numbers[:1].upper() + numbers[1:]
        sentence = f"The advised recipe breaks its promise: it {told(proof.breaches)}. {begun}."
        return Verdict("training", "critical", sentence)
    diverged = fp32_diverged_at(runs, baseline.get("seed"))
    if diverged is not None and not _is_comparable(proof):
        return Verdict("training", "warning", _fp32_diverged(baseline, diverged))
    return _kept(proof, numbers)


def _is_comparable(proof: Proof) -> bool:
    return proof.parity is not None and bool(proof.parity.loss.seeds)


def _fp32_diverged(baseline: Run, step: int) -> str:
    on = f" (seed {baseline['seed']})" if baseline.get("seed") is not None else ""
    return (
        f"FP32 itself diverges, at step {step}{on}: half precision is not to blame, and no recipe"
        " can be compared with it."
    )


def broken_promise_first(*verdicts: Verdict) -> tuple[Verdict, ...]:
    """The verdicts in their order, but a critical one on training before all others."""
    return tuple(
        sorted(verdicts, key=lambda v: (v.question, v.severity) != ("training", "critical"))
    )


def _kept(proof: Proof, numbers: str) -> Verdict:
    loss = proof.parity.loss if proof.parity else None
    if loss is None or not loss.seeds:
        return Verdict("training", "warning", f"The runs cannot be compared: {numbers}.", CODE)
    if loss.verdict in ("parity", "better"):
        words = "trains like FP32" if loss.verdict == "parity" else "trains better than FP32"
        return Verdict("training", "ok", f"The advised recipe {words}: {numbers}.", CODE)
    if len(loss.seeds) > 1:
        sentence = f"Whether the advised recipe trains like FP32 cannot be told: {numbers}."
        return Verdict("training", "warning", sentence, CODE)
    sentence = (
        f"On one seed the advised recipe trains within {SAME_LOSS:.0%} of FP32, or better: "
        f"{numbers}. Parity takes several seeds (--seeds 3)."
    )
    return Verdict("training", "ok", sentence, CODE)


def _without_advice(runs: Sequence[Run], proof: Proof) -> str:
    names = ", ".join(dict.fromkeys(str(run.get("recipe")) for run in runs))
    missing = "the advised recipe" if first_run(runs, ADVISED) is None else "FP32"
    text = f"Trained {names}; {missing} was not among them, so the advice is not put to the test."
    found = proof.parity
    if found is None or len(found.loss.seeds) < 2:
        return text
    return f"{text} {found.recipe} beside FP32: {found.reason}."


def _numbers(advised: Run, baseline: Run, proof: Proof) -> str:
    loss = proof.parity.loss if proof.parity else None
    if loss is not None and len(loss.seeds) > 1:
        return _over_seeds(loss)
    return f"final loss {_number(advised)} beside FP32's {_number(baseline)}"


def _over_seeds(loss: Comparison) -> str:
    return (
        f"over {len(loss.seeds)} seeds its final loss differs from FP32's by "
        f"{loss.mean_difference:+.2g} on average, FP32's own spread from seed to seed is "
        f"{loss.fp32_range:.2g} (mean {loss.fp32_mean:.4g})"
    )


def _skipped(proof: Proof) -> str:
    return f"{proof.skipped} of {proof.steps} steps skipped"


def _number(run: Run) -> str:
    value = run.get("final_loss")
    return f"{value:.4g}" if isinstance(value, (int, float)) else "not finite"


def training_findings(runs: Sequence[Run], proof: Proof | None = None) -> list[Finding]:
    """Recipes that diverged or fell behind FP32 on the first seed.

    The advised recipe is not judged here but by its promise.
    """
    proof = prove(runs) if proof is None else proof
    baseline = first_run(runs, BASELINE)
    if baseline is None or baseline.get("diverged_at") is not None:
        return []
    first = {str(run.get("recipe")): run for run in reversed(runs)}
    others = [run for name, run in first.items() if name not in (BASELINE, ADVISED)]
    spread = proof.parity.loss.fp32_range if proof.parity else None
    instead = "stay with FP32 for now" if proof.breaches else "train with the advised recipe"
    found = [_run_finding(run, baseline, spread, instead) for run in reversed(others)]
    return [f for f in found if f is not None]


def _run_finding(run: Run, baseline: Run, spread: float | None, instead: str) -> Finding | None:
    gap = relative_loss_gap(run, baseline)
    diverged = run.get("diverged_at")
    allowed = _allowance(baseline, spread)
    if diverged is None and (gap is None or gap <= allowed):
        return None
    what = f"diverged at step {diverged}" if diverged is not None else f"ended {gap:.1%} above FP32"
    beyond = f", FP32's spread is {spread:.2g}" if spread and diverged is None else ""
    return Finding(
        "recipe_diverged" if diverged is not None else "recipe_behind",
        "advice",
        None,
        f"recipe {run.get('recipe')} {what} (final loss {_number(run)}, FP32 {_number(baseline)}"
        f"{beyond}){_steps_lost(run) if diverged is None else ''}",
        f"train it for longer before judging it (--recipe-steps), or {instead}"
        if diverged is None and _lost_many_steps(run)
        else instead,
        "",
        _evidence(run, baseline, spread),
    )


def _steps_lost(run: Run) -> str:
    """What skipped steps have to do with being behind; "" without any."""
    skipped, steps = int(run.get("skipped_steps") or 0), int(run.get("steps") or 0)
    if not skipped:
        return ""
    told = f"; {skipped} of {steps} steps were skipped{_scale_came_down(run)}"
    return f"{told}, which may be all the difference in so few" if _lost_many_steps(run) else told


def _lost_many_steps(run: Run) -> bool:
    skipped, steps = int(run.get("skipped_steps") or 0), int(run.get("steps") or 0)
    return skipped > MANY_SKIPPED * steps


def _scale_came_down(run: Run) -> str:
    """The scale before the first and after the last skipped step, if it fell."""
    skipped, scales = run.get("skipped_at") or (), run.get("log2_scales") or ()
    if not skipped or max(skipped) >= len(scales):
        return ""
    high, low = scales[min(skipped)], scales[min(max(skipped) + 1, len(scales) - 1)]
    return f" while the scale came down from 2^{high:g} to 2^{low:g}" if low < high else ""


def _allowance(baseline: Run, spread: float | None) -> float:
    """Relative difference that FP32's own spread allows; the convention where it is unknown."""
    final = baseline.get("final_loss")
    if not spread or not isinstance(final, (int, float)) or not final:
        return SAME_LOSS
    return spread / abs(final)


def _evidence(run: Run, baseline: Run, spread: float | None) -> dict[str, Any]:
    return {
        "final_loss": run.get("final_loss"),
        "final_loss_fp32": baseline.get("final_loss"),
        "fp32_range": spread,
        "skipped_steps": run.get("skipped_steps"),
        "steps": run.get("steps"),
    }
