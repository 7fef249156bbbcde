"""Choosing the scales to try, and keeping the worst that any stage of the training showed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from precscope.advice.arbiter import arbitrate, overflow_log2
from precscope.advice.evidence import Evidence
from precscope.probes.shadow_backward import measure_gradient_errors
from precscope.recording import Recording
from precscope.workload import Session

STEP_BITS = 3
"""Distance between scales on the first pass; the gap around the answer is then filled in."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Scales to try, log2.

    Attributes:
        early: the screened minimum, no scale at all, and the safe ones: enough on the way.
        tried: those, and more around the minimum.
        safe: the largest that do not overflow, far above the minimum: what FP16 costs anyway.
    """

    early: frozenset[int]
    tried: frozenset[int]
    safe: tuple[int, ...]


def candidates(evidence: Evidence) -> Candidates | None:
    """Scales to try on what the recording shows so far; None if it holds no gradient."""
    screened, room = evidence.screen_minimum(), evidence.headroom()
    if screened is None or room is None:
        return None
    top, low = room.maximum_log2, screened[0]
    safe = tuple(k for k in (top, top - STEP_BITS) if k == top or k >= low + STEP_BITS)
    early = frozenset(k for k in (low, 0) if k <= top).union(safe)
    around = (low - 2 * STEP_BITS, low - STEP_BITS, low + STEP_BITS)
    return Candidates(early, early.union(k for k in around if k <= top), safe)


class GradientProbe:
    """Runs the shadow backward at several stages of a training and merges what they show."""

    def __init__(self) -> None:
        self._errors: dict[str, dict[str, float | None]] = {}
        self._safe: tuple[int, ...] = ()
        self._batches = 0

    def __call__(
        self, session: Session, batches: list[Any], recording: Recording, is_last: bool
    ) -> None:
        """Probe this stage at the candidates so far and those that the recording adds.

        Args:
            session: the training, given back unchanged.
            batches: probe batches.
            recording: what was observed so far.
            is_last: whether no stage follows: only then the minimum is narrowed down.
        """
        wanted = candidates(Evidence(recording))
        if wanted is None:
            return
        tried = {int(k) for k in self._errors if int(k) <= max(wanted.safe)}
        self._measure(session, batches, tried | (wanted.tried if is_last else wanted.early))
        self._batches += len(batches)
        self._safe = self._find_safe(session, batches, wanted.safe)
        while is_last and (gap := self._gap()):
            self._measure(session, batches, gap)

    def _find_safe(
        self, session: Session, batches: list[Any], expected: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The safe scales; lower ones than expected where the backward itself overflows.

        The largest scale that it survives is found by bisection, two bits below it are left.
        """
        while (broken := self._overflow_log2()) is not None and broken <= max(expected):
            finite = max(int(k) for k in self._errors if int(k) < broken)
            if broken - finite == 1:
                top = broken - 2
                safe = (top, top - STEP_BITS)
                self._measure(session, batches, set(safe))
                return safe
            self._measure(session, batches, {(broken + finite) // 2})
        return expected

    def _overflow_log2(self) -> int | None:
        return overflow_log2({int(k): row for k, row in self._errors.items()})

    def document(self) -> Document | None:
        """``{"batches", "floor_log2s", "errors"}``; None if nothing could be tried."""
        if not self._safe:
            return None
        return {
            "batches": self._batches,
            "floor_log2s": list(self._safe),
            "errors": self._errors,
        }

    def _measure(self, session: Session, batches: list[Any], scales: set[int]) -> None:
        found = measure_gradient_errors(
            session.model, session.loss, batches, scales, session.device.type
        )
        for k, row in found.to_dict()["errors"].items():  # type: ignore[attr-defined]
            known = self._errors.setdefault(k, {})
            for parameter, error in row.items():
                known[parameter] = _worse(known.get(parameter, 0.0), error)

    def _gap(self) -> set[int]:
        """Up to two untried scales between the smallest sufficient one and the next below it."""
        arbitration = arbitrate(self.document())
        if arbitration is None or arbitration.minimum_log2 is None:
            return set()
        tried = sorted(int(k) for k in self._errors)
        below = [k for k in tried if k < arbitration.minimum_log2]
        if not below:
            return set()
        low, distance = below[-1], arbitration.minimum_log2 - below[-1]
        return {low + round(distance * i / 3) for i in (1, 2)} - {low, arbitration.minimum_log2}


def _worse(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else max(a, b)
