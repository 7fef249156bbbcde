"""The loss scale that the histogram screen asks for in each window of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from precscope.advice.evidence import Evidence
from precscope.advice.risk import at_risk
from precscope.advice.screen import COUNT_LOST_LIMIT, L1_LOST_LIMIT, site_minimum
from precscope.facts import GRADIENT_KINDS, Window
from precscope.formats import FP16


@dataclass(frozen=True, slots=True)
class Need:
    """The screen's minimum in one window.

    Attributes:
        first_step: first observed step.
        last_step: last observed step, inclusive.
        needed_log2: smallest scale that the screen accepts for every site, log2.
        site: the site that sets it.
    """

    first_step: int
    last_step: int
    needed_log2: int
    site: str


def needs_over_time(evidence: Evidence, maximum_log2: int | None) -> list[Need]:
    """The screen's minimum of each window of the recording, in order of time.

    Args:
        evidence: of the recording.
        maximum_log2: largest safe scale, above which only mass is judged; see ``site_minimum``.
    """
    worst: dict[tuple[int, int], Need] = {}
    for index, site in enumerate(evidence.recording.sites):
        if site.kind not in GRADIENT_KINDS or not at_risk(site):
            continue
        name = f"{site.name} ({site.kind.replace('_', ' ')})"
        for window in evidence.recording.windows(index):
            span = (window.first_step, window.last_step)
            known = worst.get(span)
            if not window.histogram.nonzero or (known and _accepts(window, known.needed_log2)):
                continue
            need = site_minimum(window.histogram, maximum_log2)
            if known is None or need > known.needed_log2:
                worst[span] = Need(*span, need, name)
    return [worst[span] for span in sorted(worst)]


def _accepts(window: Window, k: int) -> bool:
    """Whether a scale that another site needs is enough here: much cheaper than the search."""
    return (
        window.histogram.flushed_fraction(FP16, k) <= COUNT_LOST_LIMIT
        and window.histogram.l1_flushed_fraction(FP16, k) <= L1_LOST_LIMIT
    )


def sustained(needs: Sequence[Need]) -> list[Need]:
    """The needs without peaks of a single window: ``min(need_t, max(need_t-1, need_t+1))``.

    In one window a bias of ten elements can exceed 5 % by a single value.
    """
    found = list(needs)
    for i, need in enumerate(needs):
        beside = [needs[j].needed_log2 for j in (i - 1, i + 1) if 0 <= j < len(needs)]
        if beside and max(beside) < need.needed_log2:
            found[i] = replace(need, needed_log2=max(beside))
    return found
