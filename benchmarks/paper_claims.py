"""The paper's claims, each beside what was measured here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paper_judge import FP32, WHOLE, Cells, Outcome, by_name, outcome, runs_of
from paper_plan import (
    CLIP_DOMAIN,
    DOMAINS,
    DOSE_DOMAIN,
    SLOW_DOMAIN,
    SLOW_LOG2_RATE,
    SLOW_RECIPES,
)

AGREES, DIFFERS, UNTESTABLE, UNKNOWN = "agrees", "differs", "not testable at this size", "not run"

FLUSHED_EXPONENT = -24
"""Values below 2^-24 are what the paper counts as lost."""

GOOD_ERROR = 0.01
"""A gradient error below this, or twice its floor, does no harm (see docs/validation.md)."""

HALF = (0.4, 0.6)

LSTM_WORKSPACE = "translation"
"""Its FP32 LSTM saves oneDNN's workspace on a CPU, its FP16 one does not run there: what the two
save is exact, and says nothing about half the size."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the table."""

    claim: str
    paper: str
    ours: str
    verdict: str


def claims(cells: Cells, device: str) -> list[Claim]:
    """All of them, in the order of the paper."""
    return [
        master_copy(cells),
        weight_gradients(cells),
        activation_gradients(cells),
        dose_response(cells),
        *(parity_claim(cells, domain.name) for domain in DOMAINS),
        *(scaling_claim(cells, d.name) for d in DOMAINS if d.needs_scaling is not None),
        accumulation(cells),
        memory(cells),
        clipping(cells),
        skipping(cells),
        speed(cells, device),
    ]


def parity_claim(cells: Cells, name: str) -> Claim:
    """Mixed precision ends where FP32 does."""
    domain = by_name(name)
    found = outcome(cells, domain, "paper")
    claim = f"{domain.title}: mixed precision matches FP32"
    if found is None:
        return Claim(claim, domain.paper, "", UNKNOWN)
    verdicts = {"parity": AGREES, "better": AGREES, "unknown": UNTESTABLE}
    return Claim(claim, domain.paper, _numbers(found), verdicts.get(found.verdict, DIFFERS))


def scaling_claim(cells: Cells, name: str) -> Claim:
    """Loss scaling is needed, or is not."""
    domain = by_name(name)
    found = outcome(cells, domain, "paper-no-scaling")
    need = "needed" if domain.needs_scaling else "not needed"
    claim = f"{domain.title}: loss scaling is {need}"
    if found is None:
        return Claim(claim, need, "", UNKNOWN)
    if found.verdict == "unknown":
        return Claim(claim, need, _numbers(found), UNTESTABLE)
    if found.is_harmed == domain.needs_scaling:
        return Claim(claim, need, _numbers(found), AGREES)
    if domain.needs_scaling:
        return Claim(
            claim, need, f"no harm: {_numbers(found)}", f"{UNTESTABLE}: {domain.untestable}"
        )
    return Claim(claim, need, _numbers(found), DIFFERS)


def master_copy(cells: Cells) -> Claim:
    """Figure 2a."""
    claim = "FP16 weights without an FP32 master copy train worse, where updates are small"
    paper = "80 % relative accuracy loss (Mandarin speech); not universal"
    runs = [cells.get(f"{SLOW_DOMAIN}/slow/{recipe}/0", {}) for recipe in SLOW_RECIPES]
    ends = [run.get("final_loss") for run in runs]
    if None in ends:
        return Claim(claim, paper, "", UNKNOWN)
    fp32, copy, without = ends
    learned = runs[0]["first_loss"] - fp32
    lost, kept = ((end - fp32) / learned for end in (without, copy))
    told = (
        f"{SLOW_DOMAIN} at its learning rate times 2^{SLOW_LOG2_RATE}: loss {fp32:.4g} in FP32,"
        f" {copy:.4g} with a master copy, {without:.4g} without: {lost:.0%} of what FP32 learns is lost"
    )
    return Claim(claim, paper, told, AGREES if lost > max(0.1, 4 * abs(kept)) else DIFFERS)


def weight_gradients(cells: Cells) -> Claim:
    """Figure 2b."""
    claim = "some weight gradients are smaller than FP16 can hold"
    shares = {}
    for domain in DOMAINS:
        found = cells.get(f"{domain.name}/histograms/fp32/0", {}).get("weight_gradient")
        if found:
            shares[domain.name] = share_below(found["counts"], FLUSHED_EXPONENT)
    if not shares:
        return Claim(claim, "about 5 % below 2^-24", "", UNKNOWN)
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    verdict = AGREES if max(shares.values()) > 0.01 else DIFFERS
    return Claim(claim, "about 5 % below 2^-24 (Mandarin speech)", told, verdict)


def activation_gradients(cells: Cells) -> Claim:
    """Figure 3."""
    claim = "activation gradients of an SSD: mostly zero, most of FP16's range unused"
    paper = "67 % exactly zero, 2 % in [2^-34, 2^-32), 2 % in [2^-24, 2^-23)"
    found = cells.get(f"{DOSE_DOMAIN}/histograms/fp32/0", {}).get("activation_gradient")
    if not found:
        return Claim(claim, paper, "", UNKNOWN)
    counts, zeros = found["counts"], found["zeros"]
    total = zeros + sum(counts.values())
    top = max(map(int, counts))
    lost = sum(c for e, c in counts.items() if int(e) < FLUSHED_EXPONENT) / total
    told = f"{zeros / total:.0%} exactly zero, {lost:.0%} below 2^-24, largest in [2^{top}, 2^{top + 1})"
    return Claim(claim, paper, told, AGREES if zeros / total > 0.5 and top < 0 else DIFFERS)


def needed_dose(errors: Mapping[str, float | None]) -> int | None:
    """Smallest log2 scale from which on no error exceeds twice its floor, or 0.01."""
    finite = {int(k): e for k, e in errors.items() if e is not None}
    if not finite:
        return None
    bound = max(2 * min(finite.values()), GOOD_ERROR)
    good = [k for k in sorted(finite) if finite[k] <= bound]
    return good[0] if good else None


def dose_response(cells: Cells) -> Claim:
    """Section 3.2 in words."""
    claim = "SSD: the smallest gradients do not matter, those an octave or three above them do"
    paper = "below 2^-27 irrelevant, [2^-27, 2^-24) necessary: a scale of 8"
    errors = cells.get(f"{DOSE_DOMAIN}/probe/fp32/0", {}).get("errors")
    dose = needed_dose(errors) if errors else None
    if dose is None:
        return Claim(claim, paper, "", UNKNOWN)
    here = "is needed" if dose > 0 else "is not, a smaller one would do"
    told = (
        f"the FP16 gradient is as good as it gets from a scale of 2^{dose} on: values below"
        f" 2^{-24 - dose} do not matter, those just above do; a scale above 1 {here}"
    )
    return Claim(claim, paper, told, AGREES if dose > 0 else f"{DIFFERS} in place, not in kind")


def accumulation(cells: Cells) -> Claim:
    """FP32 partial sums."""
    found = list(_outcomes(cells, "paper-fp16-accumulation", WHOLE))
    claim = "dot products need FP32 accumulation in some networks"
    if not found:
        return Claim(claim, "some networks require it; none is named", "", UNKNOWN)
    harmed = [name for name, one in found if one.is_harmed]
    told = f"harmed: {', '.join(harmed) or 'none'} of {len(found)} domains, blocks of 16 terms"
    verdict = AGREES if harmed else f"{UNTESTABLE}: no harm in networks and runs as small as these"
    return Claim(claim, "some networks require it; none is named", told, verdict)


def memory(cells: Cells) -> Claim:
    """What autograd saves."""
    ratios = {}
    for domain in DOMAINS:
        fp32, paper = (runs_of(cells, domain.name, r).get(0) for r in ("fp32", "paper"))
        if fp32 and paper and fp32["saved_tensor_bytes"]:
            ratios[domain.name] = paper["saved_tensor_bytes"] / fp32["saved_tensor_bytes"]
    claim = "activation memory is about halved"
    if not ratios:
        return Claim(claim, "roughly halved", "", UNKNOWN)
    apart = ratios.pop(LSTM_WORKSPACE, None)
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    if apart is not None:
        told += f"; not comparable: {LSTM_WORKSPACE} {apart:.2f}, whose FP32 LSTM saves a workspace"
    halves = sum(HALF[0] <= ratio <= HALF[1] for ratio in ratios.values())
    verdict = f"{AGREES} in {halves} of {len(ratios)}" if halves else DIFFERS
    return Claim(claim, "roughly halved", f"of FP32's: {told}", verdict)


def clipping(cells: Cells) -> Claim:
    """Gradients have their true size before anything looks at them."""
    claim = "unscale before clipping, then no hyper-parameter changes"
    found = cells.get(f"{CLIP_DOMAIN}/clip/fp32/0", {}).get("clip")
    if not found or None in found.values():
        return Claim(claim, "stated", "", UNKNOWN)
    fp32, after, before = found["fp32"], found["after"], found["before"]
    told = f"loss {fp32:.4g} in FP32, {after:.4g} unscaled first, {before:.4g} clipped while scaled"
    return Claim(
        claim, "stated", told, AGREES if abs(after - fp32) < abs(before - fp32) else DIFFERS
    )


def skipping(cells: Cells) -> Claim:
    """An update left out now and then."""
    claim = "skipping the update of a step that overflows does no harm"
    found = [*_outcomes(cells, "fp16"), *_outcomes(cells, "paper")]
    with_skips = [(name, one) for name, one in found if one.skipped]
    if not with_skips:
        return Claim(claim, "stated", "no step overflowed", UNKNOWN)
    skipped = sum(one.skipped for _, one in with_skips)
    steps = sum(one.steps for _, one in with_skips)
    harmed = sorted({f"{name} {one.recipe}" for name, one in with_skips if one.is_harmed})
    told = f"{skipped} of {steps} steps skipped; behind FP32: {', '.join(harmed) or 'none'}"
    return Claim(claim, "stated", told, DIFFERS if harmed else AGREES)


def speed(cells: Cells, device: str) -> Claim:
    """Only hardware can tell."""
    claim, paper = "operations are faster", "2 to 6 times on Volta (DeepBench); no end-to-end claim"
    if device == "cpu":
        return Claim(claim, paper, "FP16 is simulated on a CPU", f"{UNTESTABLE}: GPU only")
    told = []
    for domain in DOMAINS:
        fp32, half = (runs_of(cells, domain.name, r).get(0) for r in ("fp32", "fp16"))
        if fp32 and half and fp32["step_ms"] and half["step_ms"]:
            told.append(
                f"{domain.name} {fp32['step_ms']['median'] / half['step_ms']['median']:.2f}"
            )
    return Claim(claim, paper, f"whole steps, times FP32's speed: {', '.join(told)}", "see numbers")


def share_below(counts: Mapping[str, int], exponent: int) -> float:
    """Share of the non-zero values below 2^exponent."""
    total = sum(counts.values())
    return sum(c for e, c in counts.items() if int(e) < exponent) / total if total else 0.0


def _outcomes(cells: Cells, recipe: str, beside: str = FP32) -> Iterator[tuple[str, Outcome]]:
    for domain in DOMAINS:
        found = outcome(cells, domain, recipe, beside)
        if found is not None:
            yield domain.name, found


def _numbers(found: Outcome) -> str:
    if found.diverged:
        return f"diverged on {found.diverged} of its seeds"
    parts: list[Any] = [found.judged]
    if found.metric is not None and found.metric is not found.judged:
        parts.append(found.metric)
    return "; ".join(_comparison(part) for part in parts)


def _comparison(part: Any) -> str:
    mean, spread, fp32 = part.mean_difference, part.fp32_range, part.fp32_mean
    if mean is None or fp32 is None:
        return f"{part.name}: no finished run"
    told = f"{part.name.replace('_', ' ')} {fp32:.4g} in FP32, {mean:+.2g}"
    return told if spread is None else f"{told}, seed spread {spread:.2g}"
