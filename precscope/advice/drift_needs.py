"""The loss scale that the histogram screen asks for in each window of a recording."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from precscope.advice.evidence import Evidence
from precscope.advice.noise import resolved
from precscope.advice.risk import module_of
from precscope.advice.screen import (
    COUNT_LOST_LIMIT,
    L1_LOST_LIMIT,
    is_half_gradient,
    site_minimum,
)
from precscope.facts import Site
from precscope.formats import FP16
from precscope.histogram import ExponentHistogram

_Span = tuple[int, int]


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
    worst: dict[_Span, Need] = {}
    for site, span, histogram, terms in _judged_windows(evidence):
        known = worst.get(span)
        # Without its noise a gradient needs no more: what is enough with it is enough.
        if not histogram.nonzero or (known and _accepts(histogram, known.needed_log2)):
            continue
        need = site_minimum(resolved(site, histogram, terms), maximum_log2)
        if known is None or need > known.needed_log2:
            worst[span] = Need(*span, need, f"{site.name} ({site.kind.replace('_', ' ')})")
    return [worst[span] for span in sorted(worst)]


def _judged_windows(evidence: Evidence) -> Iterator[tuple[Site, _Span, ExponentHistogram, float]]:
    """Every window of a gradient that is not noise, with the sum of its module's output gradient.

    Outputs come first, because of these sums.
    """
    terms: dict[tuple[str, _Span], float] = defaultdict(float)
    half = [(i, s) for i, s in enumerate(evidence.recording.sites) if is_half_gradient(s)]
    for index, site in sorted(half, key=lambda pair: pair[1].kind != "activation_gradient"):
        if site.kind == "weight_gradient" and site.name in evidence.noise:
            continue
        for window in evidence.recording.windows(index):
            span, histogram = (window.first_step, window.last_step), window.histogram
            key = (module_of(site), span)
            if site.kind == "activation_gradient":
                terms[key] = max(terms[key], histogram.sum_abs)
            yield site, span, histogram, terms.get(key, 0.0)


def _accepts(histogram: ExponentHistogram, k: int) -> bool:
    """Whether a scale that another site needs is enough here: much cheaper than the search."""
    return (
        histogram.flushed_fraction(FP16, k) <= COUNT_LOST_LIMIT
        and histogram.l1_flushed_fraction(FP16, k) <= L1_LOST_LIMIT
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
