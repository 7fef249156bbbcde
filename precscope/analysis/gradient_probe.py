"""Choosing the scales to try, and trying them at several stages of a training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from precscope.advice.arbiter import Arbitration, arbitrate, overflow_log2
from precscope.advice.evidence import Evidence
from precscope.advice.noise import without_errors_of
from precscope.probes.shadow_backward import measure_gradient_errors
from precscope.workload import Session

STEP_BITS = 3
"""Distance between scales on the first pass; the gap around the answer is then filled in."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Scales to try, log2.

    Attributes:
        early: no scale at all, the screened minimum if it is larger, and the safe one: enough on
            the way.
        tried: those, and more around the screened minimum, but below 0 only where 0 itself
            overflows: how far below a working 0 one could go is of use to nobody.
        safe: the largest that does not overflow: what FP16 costs anyway. One is enough, because
            all scales share a forward: FP16 gradients at two of them are the same but for the
            factor, unless one is subnormal or overflows.
    """

    early: frozenset[int]
    tried: frozenset[int]
    safe: int


def candidates(evidence: Evidence) -> Candidates | None:
    """Scales to try on what was seen so far; None if that holds no gradient."""
    screened, room = evidence.screen_minimum(), evidence.headroom()
    if screened is None or room is None:
        return None
    top, low = room.maximum_log2, screened[0]
    early = frozenset(k for k in (max(low, 0), 0) if k <= top) | {top}
    is_narrowed = low > 0 or top < 0
    around = range(low - 2 * STEP_BITS, low + STEP_BITS + 1, STEP_BITS) if is_narrowed else ()
    return Candidates(early, early.union(k for k in around if k <= top), top)


class GradientProbe:
    """Runs the shadow backward at several stages of a training, each judged by its own floor.

    Attributes:
        breaks: the first module that breaks in an FP16 forward of the last batch, see
            ``first_break``; empty before the last stage.
    """

    def __init__(self) -> None:
        self.breaks: list[str | None] = []
        self._stages: list[Document] = []
        self._batches = 0
        self._noise: set[str] = set()

    def __call__(
        self, session: Session, batches: list[Any], evidence: Evidence, is_last: bool
    ) -> None:
        """Probe this stage at the candidates that the evidence gives.

        Args:
            session: the training, given back unchanged.
            batches: probe batches. All are used at the last stage if the screen asks for a scale;
                where it asks for none, and on the way, the last of them has to agree.
            evidence: what was observed so far.
            is_last: whether no stage follows: only then the minimum is narrowed down.
        """
        wanted = candidates(evidence)
        if wanted is None:
            return
        self._noise = evidence.noise
        scales = wanted.tried if is_last else wanted.early
        used = batches if scales != wanted.early else batches[-1:]
        stage = _StageErrors(session, used)
        self.breaks = stage.measure(scales, is_last)
        safe = stage.find_safe(wanted.safe)
        self._stages.append({"floor_log2s": [safe], "errors": stage.errors})
        self._batches += len(used)
        while is_last and (gap := self._gap(safe)):
            stage.measure(gap)

    def document(self) -> Document | None:
        """``{"batches", "stages": [{"floor_log2s", "errors"}]}``; None if nothing was tried."""
        return {"batches": self._batches, "stages": self._stages} if self._stages else None

    def arbitration(self) -> Arbitration | None:
        """What the stages until now say together."""
        return arbitrate(without_errors_of(self._noise, self.document()))

    def _gap(self, top: int) -> set[int]:
        """Up to two untried scales between the smallest sufficient one and the next below it."""
        arbitration = self.arbitration()
        minimum = None if arbitration is None else arbitration.minimum_log2
        if arbitration is None or minimum is None or minimum <= 0 <= top:
            return set()
        below = [p.log2_scale for p in arbitration.points if p.log2_scale < minimum]
        if not below:
            return set()
        low, distance = below[-1], minimum - below[-1]
        return {low + round(distance * i / 3) for i in (1, 2)} - {low, minimum}


class _StageErrors:
    """The errors of one stage, at more and more scales on the same batches."""

    def __init__(self, session: Session, batches: list[Any]) -> None:
        self._session = session
        self._batches = batches
        self.errors: dict[str, dict[str, float | None]] = {}

    def measure(self, scales: Collection[int], find_breaks: bool = False) -> list[str | None]:
        """Try these scales; returns where the last batch's forward breaks, if asked to find it."""
        session, kind = self._session, self._session.device.type
        found = measure_gradient_errors(
            session.model, session.loss, self._batches, scales, kind, find_breaks=find_breaks
        )
        self.errors.update(found.to_dict()["errors"])  # type: ignore[call-overload]
        return found.breaks

    def find_safe(self, expected: int) -> int:
        """The safe scale; a lower one than expected where the backward itself overflows.

        The largest scale that it survives is found by bisection, two bits below it are left.
        """
        while (broken := self._overflow_log2()) is not None and broken <= expected:
            finite = max(int(k) for k in self.errors if int(k) < broken)
            if broken - finite == 1:
                safe = broken - 2
                self.measure({safe})
                return safe
            self.measure({(broken + finite) // 2})
        return expected

    def _overflow_log2(self) -> int | None:
        return overflow_log2({int(k): row for k, row in self.errors.items()})
