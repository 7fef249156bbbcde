"""Who broke first: the origin of every infinity or NaN that reached a loss, gradient or weight.

From the marks that the monitor left (the document ``non_finite``): the places that held bad
values, in execution order. Everything before the first of them was finite, so what broke lies
between it and the place before. A place that also holds infinities in healthy steps, as a mask
does, is not suspected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log2
from typing import Any, Literal

from precscope.advice.findings import Finding
from precscope.recording import Recording

Origin = Literal["weight", "input", "forward", "loss", "backward", "unknown"]
MANY_SKIPPED = 0.05
"""Share of skipped steps from which the scale is in trouble; healthy runs stay near 1/1000."""


@dataclass(frozen=True, slots=True)
class Break:
    """A step in which something was not finite.

    Attributes:
        step: index of the step.
        log2_scale: loss scale in force, log2; 0 for none.
        skipped: whether the update was skipped.
        origin: where it began.
        site: the first place that was not finite, None if none was seen.
        kind: its kind.
        count: bad values there.
        parameter: first parameter, in the order of backward, whose gradient was not finite.
        upstream: first activation gradient that was not finite, which that gradient is made of.
        trail: (step, largest finite value) of the site in the observed steps before.
    """

    step: int
    log2_scale: float
    skipped: bool
    origin: Origin
    site: str | None
    kind: str | None
    count: int
    parameter: str | None
    upstream: str | None
    trail: tuple[tuple[int, float], ...]

    @property
    def amax_before(self) -> float | None:
        """Largest finite value at the site in the observed step before."""
        return self.trail[-1][1] if self.trail else None


def breaks(document: Mapping[str, Any] | None) -> tuple[Break, ...]:
    """Every marked step, judged; () for a Recording without marks."""
    return tuple(_judge(mark) for mark in (document or {}).get("steps", ()))


def observed_steps(recording: Recording) -> int:
    """All observed steps, of which a long Recording keeps only some."""
    coverage: dict[str, Any] = recording.document("coverage") or {}
    return max(len(recording.steps), int(coverage.get("observed_steps", 0)))


def _judge(mark: Mapping[str, Any]) -> Break:
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for place in mark["sites"]:
        side = "gradient" if place["kind"].endswith("gradient") else place["kind"]
        by_kind.setdefault(side, []).append(place)
    origin, first = _origin(mark, by_kind)
    upstream = [p for p in by_kind.get("gradient", ()) if p["kind"] == "activation_gradient"]
    return Break(
        step=mark["step"],
        log2_scale=mark["log2_scale"],
        skipped=mark["skipped"],
        origin=origin,
        site=None if first is None else first["name"],
        kind=None if first is None else first["kind"],
        count=0 if first is None else first["count"],
        parameter=mark["parameter"],
        upstream=upstream[0]["name"] if upstream else None,
        trail=_trail(mark, first),
    )


def _origin(
    mark: Mapping[str, Any], by_kind: Mapping[str, list[Mapping[str, Any]]]
) -> tuple[Origin, Mapping[str, Any] | None]:
    activations, gradients = by_kind.get("activation", []), by_kind.get("gradient", [])
    if weights := by_kind.get("weight"):
        return "weight", weights[0]
    if activations:
        return ("input" if mark["input"] else "forward"), activations[0]
    if not mark["loss_finite"]:
        return "loss", None
    return ("backward", gradients[0]) if gradients else ("unknown", None)


def _trail(
    mark: Mapping[str, Any], first: Mapping[str, Any] | None
) -> tuple[tuple[int, float], ...]:
    for known in mark["before"] if first is not None else ():
        if first is not None and (known["name"], known["kind"]) == (first["name"], first["kind"]):
            return tuple((step, amax) for step, amax in known["amax"])
    return ()


def blame_findings(
    found: Iterable[Break], skipped_steps: int, observed_steps: int, saw_loss: bool = True
) -> list[Finding]:
    """The first break that loss scaling does not explain, and what made the scaler skip.

    Args:
        found: the judged marks, of which a long run keeps only some.
        skipped_steps: all skipped steps, kept or not.
        observed_steps: all observed steps.
        saw_loss: whether the observer was given the losses.
    """
    skips = [b for b in found if _is_skip(b)]
    rest = [b for b in found if not _is_skip(b)]
    first = [_first_finding(found, saw_loss) for found in rest[:1]]
    return first + _skip_findings(skips, skipped_steps, observed_steps)


def _is_skip(found: Break) -> bool:
    """A gradient that overflowed under a loss scale, whose update was skipped: no harm done."""
    return found.skipped and found.origin in ("backward", "unknown")


def _first_finding(first: Break, saw_loss: bool) -> Finding:
    unseen = first.origin == "backward" and not saw_loss
    return Finding(
        rule="first_non_finite",
        severity="critical",
        site=first.site,
        message=f"Step {first.step}: {_what(first, saw_loss)}{_before(first)}.",
        remedy=f"{_LOSS_UNSEEN} {_REMEDIES[first.origin]}" if unseen else _REMEDIES[first.origin],
        evidence=_evidence(first),
    )


def _what(first: Break, saw_loss: bool) -> str:
    before = "forward pass and loss were finite"
    if not saw_loss:
        before = "what was observed of the forward pass was finite, the loss was not observed"
    kind = (first.kind or "").replace("_", " ")
    place = f"{first.site} ({kind}, {first.count} values)"
    under = f" under a loss scale of 2^{first.log2_scale:g}" if first.log2_scale else ""
    return {
        "weight": f"the weight {place} was already not finite before the forward pass",
        "input": f"the input of the model was not finite, and {place} took it up",
        "forward": f"{place} is the first output in the forward pass that was not finite",
        "loss": "the loss was not finite, and every activation that made it was",
        "backward": f"{place} is the first gradient that was not finite{under}; {before}",
        "unknown": "the update was skipped, and nothing that was observed was bad",
    }[first.origin]


_LOSS_UNSEEN = "Look at the loss of that step first."

_REMEDIES: dict[Origin, str] = {
    "weight": "Look at the update before: a bad gradient was applied. Check gradients before the "
    "optimizer's step, or lower the learning rate.",
    "input": "Check this batch: the data holds infinities or NaNs.",
    "forward": "Keep this module, or the operation just before it, in FP32, or bound its input "
    "(a logarithm, division, square root or exponential is the usual cause).",
    "loss": "Compute the loss in FP32, from logits, with a bounded logarithm.",
    "backward": "Lower the loss scale if there is one; otherwise look for a derivative that is "
    "infinite where the forward value is finite (a square root or norm at 0).",
    "unknown": "Observe all modules and every step to see where it begins.",
}


def _before(first: Break) -> str:
    amax = first.amax_before
    if not amax:
        return ""
    return f"; in step {first.trail[-1][0]} its largest value was 2^{log2(amax):.1f}"


def _evidence(first: Break) -> dict[str, float | str | None]:
    return {
        "step": first.step,
        "origin": first.origin,
        "kind": first.kind,
        "values": first.count,
        "log2_scale": first.log2_scale,
        "amax_before": first.amax_before,
        "parameter": first.parameter,
        "upstream": first.upstream,
    }


def _skip_findings(skips: list[Break], skipped: int, observed_steps: int) -> list[Finding]:
    if not skips:
        return []
    parameter, _ = Counter(b.parameter for b in skips).most_common(1)[0]
    upstream = next((b.upstream for b in skips if b.parameter == parameter), None)
    share = skipped / max(1, observed_steps)
    came = f", out of the gradient of {upstream}'s output" if upstream else ""
    cause = f"; most often {parameter} was hit first{came}" if parameter else ""
    many = share > MANY_SKIPPED and skipped > 2
    return [
        Finding(
            rule="skipped_steps",
            severity="warning" if many else "ok",
            site=parameter,
            message=f"The loss scaler skipped {skipped} of {observed_steps} observed steps{cause}.",
            remedy="Start from a smaller loss scale, or keep that module in FP32."
            if many
            else "Nothing to do: a scaler finds its scale by overflowing now and then.",
            evidence={
                "skipped": skipped,
                "share": share,
                "parameter": parameter,
                "upstream": upstream,
                "log2_scale": skips[-1].log2_scale,
            },
        )
    ]
