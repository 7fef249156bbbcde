"""Master weights: does FP16 swallow the updates?

    retention  R = <d, u> / <u, u>,   d = fp16(w16 + u) - w16

The share of lost updates by count does not predict harm (60-90 % lost without damage in small
nets); R, the part of the intended step that the weights make, does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from precscope.advice.findings import Finding, Severity, Verdict
from precscope.facts import RetentionSums, UpdateWindow

Need = Literal["required", "advised", "not_needed", "unknown"]
ParameterVerdict = Need | Literal["stays_fp32"]

REQUIRED_BELOW = 0.8
ADVISED_BELOW = 0.95
MIN_UPDATES = 32
"""Updates under which R may be chance. Rounded to a place or none, d / u of a single one scatters by
about a half, and R of n that move the weight by 0.5 / sqrt(n): with 32 twice that is 0.18, less
than the 0.2 that ``REQUIRED_BELOW`` tolerates."""

TELLING_STEP = 0.1
"""Windows whose update per learning rate is below this part of the largest window's are not
judged: the gradient has died away there (the network has converged), and losing what is left of
it does no harm. A small learning rate does not exclude a window, because it is divided out."""


@dataclass(frozen=True, slots=True)
class ParameterRetention:
    """What FP16 weights keep of one parameter's updates.

    Attributes:
        name: qualified parameter name.
        at_risk: whether a half precision run would store it in FP16.
        retention: R of the window in which it is farthest from 1, None if it never moved.
        retention_0_1: the same for updates a tenth as large (a later learning rate).
        retention_0_01: and a hundredth.
        accumulated_retention: smallest R of a whole window's movement; shown, not judged: where
            updates cancel, its denominator is noise.
        noise: ``||d - u|| / ||u||`` over the run.
        lost_updates_fraction: non-zero updates that leave the FP16 weight as it was.
        below_2_24_fraction: non-zero updates smaller than 2^-24.
        ratio_above_2048_fraction: non-zero updates under 1/2048 of their weight.
        learning_rate: at the last observed step.
        verdict: what this parameter needs; ``stays_fp32`` if no half precision run would store
            it in FP16.
        is_noise: whether its gradient is rounding error, so that its R says nothing; see
            ``cancelled_parameters``.
    """

    name: str
    at_risk: bool
    retention: float | None
    retention_0_1: float | None
    retention_0_01: float | None
    accumulated_retention: float | None
    noise: float | None
    lost_updates_fraction: float | None
    below_2_24_fraction: float | None
    ratio_above_2048_fraction: float | None
    learning_rate: float | None
    verdict: ParameterVerdict
    is_noise: bool = False


def parameter_retention(
    name: str, windows: list[UpdateWindow], at_risk: bool, is_noise: bool = False
) -> ParameterRetention:
    """Summarise one parameter's windows; the worst R counts, because one bad phase is enough.

    Args:
        name: qualified parameter name.
        windows: its windows, at least one.
        at_risk: whether a half precision run would store it in FP16.
        is_noise: whether its updates are rounding error, see ``cancelled_parameters``.
    """
    telling = _telling(windows)
    by_factor = [_minimum([w.single[i] for w in telling]) for i in range(3)]
    accumulated = _minimum([w.accumulated for w in telling if w.accumulated is not None])
    total = [w.single[0] for w in windows]
    nonzero = sum(s.nonzero for s in total)
    squares = sum(s.update_squares for s in total)
    return ParameterRetention(
        name=name,
        at_risk=at_risk,
        retention=by_factor[0],
        retention_0_1=by_factor[1],
        retention_0_01=by_factor[2],
        accumulated_retention=accumulated,
        noise=(sum(s.noise_squares for s in total) / squares) ** 0.5 if squares else None,
        lost_updates_fraction=_share(sum(s.lost for s in total), nonzero),
        below_2_24_fraction=_share(sum(w.below_2_24 for w in windows), nonzero),
        ratio_above_2048_fraction=_share(sum(w.ratio_above_2048 for w in windows), nonzero),
        learning_rate=windows[-1].learning_rate,
        verdict=_verdict(by_factor, at_risk, is_noise),
        is_noise=is_noise,
    )


def _telling(windows: list[UpdateWindow]) -> list[UpdateWindow]:
    sizes = [_step_size(w) for w in windows]
    largest = max(sizes, default=0.0)
    return [w for w, s in zip(windows, sizes, strict=True) if s >= TELLING_STEP * largest]


def _step_size(window: UpdateWindow) -> float:
    """RMS update of a step, per learning rate."""
    mean_square = window.single[0].update_squares / max(window.steps, 1)
    rate = window.learning_rate or 1.0
    return float(mean_square**0.5 / rate)


def _minimum(sums: list[RetentionSums]) -> float | None:
    values = [s.dot / s.update_squares for s in sums if _is_evidence(s)]
    if values:
        return min(values, key=_kept)
    squares = sum(s.update_squares for s in sums)
    return sum(s.dot for s in sums) / squares if squares > 0 else None


def _is_evidence(sums: RetentionSums) -> bool:
    """Whether R is farther from 1 than chance takes it, or of enough updates; none moved is R = 0.

    Of an embedding whose rows are hardly hit, the updates that move a weight are few, and the
    weight decay of all others counts for nothing in R.
    """
    if sums.nonzero < MIN_UPDATES or sums.update_squares <= 0:
        return False
    moved = sums.nonzero - sums.lost
    off = abs(1.0 - sums.dot / sums.update_squares)
    return moved == 0 or moved >= MIN_UPDATES or off * moved**0.5 >= 1.0


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _kept(retention: float) -> float:
    """1 for R = 1, less on either side: a weight that moves twice as far is as wrong as none."""
    return 1.0 - abs(1.0 - retention)


def _verdict(by_factor: list[float | None], at_risk: bool, is_noise: bool) -> ParameterVerdict:
    if not at_risk:
        return "stays_fp32"
    return "not_needed" if is_noise else _need(by_factor)


def _need(by_factor: list[float | None]) -> Need:
    now = by_factor[0]
    if now is None:
        return "unknown"
    if _kept(now) < REQUIRED_BELOW:
        return "required"
    later = [_kept(r) for r in by_factor[1:] if r is not None]
    return "advised" if min([_kept(now), *later]) < ADVISED_BELOW else "not_needed"


def model_need(parameters: list[ParameterRetention]) -> Need:
    """The strongest need of any parameter that a half precision run stores in FP16."""
    verdicts = {p.verdict for p in parameters if p.at_risk}
    for need in ("required", "advised", "not_needed"):
        if need in verdicts:
            return need
    return "unknown"


ALTERNATIVES = (
    "FP32 master copy: 4 bytes per parameter more; autocast keeps one by design",
    "Kahan compensation in FP16: 2 bytes per parameter more",
    "stochastic rounding of the weight: no memory; unbiased, noisier",
    "BF16 weights are worse here: 8 significant bits swallow updates below 1/256 of the weight",
)


def master_weight_verdict(
    parameters: list[ParameterRetention], need: Need, proof: str = "", stored_in: str = ""
) -> Verdict:
    """One sentence: is an FP32 master copy needed?

    Args:
        parameters: what FP16 weights keep of their updates; noise is not told of.
        need: what was judged of them.
        proof: what a run without the copy showed, as a clause; said where none is needed.
        stored_in: the half dtype that the observed weights have already, if they have one.
    """
    risky = [p for p in parameters if p.at_risk and not p.is_noise and p.retention is not None]
    if need == "unknown" or not risky:
        return _nothing_seen(parameters, stored_in)
    worst = min(risky, key=_key)
    code = 'trainer = precscope.MixedPrecision(model, optimizer, recipe="paper")'
    numbers = f"worst {worst.name}: R = {worst.retention:.2f}"
    if need == "required":
        sentence = (
            f"FP32 master weights are required: FP16 weights would {_harm(worst)} updates "
            f"({numbers})."
        )
        return Verdict("master_weights", "critical", sentence, code)
    if need == "advised":
        sentence = (
            f"FP32 master weights are advised: updates survive now ({numbers}) and would not at a "
            f"learning rate 10 to 100 times smaller (R = {_later(risky):.2f})."
        )
        return Verdict("master_weights", "advice", sentence, code)
    sentence = f"Master weights are not needed here: FP16 weights keep the updates ({numbers}"
    sentence += f"); {proof}." if proof else ")."
    return Verdict("master_weights", "ok", sentence)


def _nothing_seen(parameters: list[ParameterRetention], stored_in: str) -> Verdict:
    if stored_in and parameters:
        sentence = (
            f"Whether master weights are needed cannot be told: the weights are {stored_in} "
            "already, and what that swallows is gone before it can be seen; observe them in FP32."
        )
        return Verdict("master_weights", "advice", sentence)
    only_noise = any(p.at_risk and p.is_noise for p in parameters)
    more = " that is more than rounding error" if only_noise else ""
    return Verdict("master_weights", "ok", f"No update of an FP16 weight was observed{more}.")


def _harm(parameter: ParameterRetention) -> str:
    return "overshoot" if (parameter.retention or 0.0) > 1.0 else "swallow"


def _key(parameter: ParameterRetention) -> float:
    return 1.0 if parameter.retention is None else _kept(parameter.retention)


def _later(parameters: list[ParameterRetention]) -> float:
    values = [v for p in parameters for v in (p.retention_0_1, p.retention_0_01) if v is not None]
    return min(values, default=float("nan"))


def master_weight_findings(parameters: list[ParameterRetention], limit: int = 5) -> list[Finding]:
    """A finding for each of the worst parameters whose updates FP16 weights swallow."""
    risky = [p for p in parameters if p.at_risk and p.verdict == "required"]
    return [_finding(p, "critical") for p in sorted(risky, key=_key)[:limit]]


def _finding(p: ParameterRetention, severity: Severity) -> Finding:
    return Finding(
        "updates_swallowed",
        severity,
        p.name,
        f"FP16 weights {'make' if _harm(p) == 'overshoot' else 'keep'} R = {p.retention:.2f} of "
        f"the updates of {p.name} ({p.lost_updates_fraction or 0.0:.0%} of them vanish)",
        "keep an FP32 master copy (autocast does), or round the weight stochastically",
        'trainer = precscope.MixedPrecision(model, optimizer, recipe="paper")',
        {
            "retention": p.retention,
            "accumulated_retention": p.accumulated_retention,
            "lost_updates_fraction": p.lost_updates_fraction,
            "below_2_24_fraction": p.below_2_24_fraction,
            "ratio_above_2048_fraction": p.ratio_above_2048_fraction,
        },
    )
