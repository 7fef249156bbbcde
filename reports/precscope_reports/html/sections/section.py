"""What a section of the page consists of."""

from __future__ import annotations

from dataclasses import dataclass

from precscope_reports.html.markup import Html, esc
from precscope_reports.phrases import counted

NO_LEAD = Html("")


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Attributes:
        id: fragment that links lead to.
        short: name in the navigation.
        title: heading.
        body: everything below the lead.
        lead: one paragraph that says what is to be seen, empty for none.
    """

    id: str
    short: str
    title: str
    body: Html
    lead: Html = NO_LEAD


def chart(element_id: str, label: str, min_height_px: int) -> Html:
    """An empty place that a script draws into; its height is kept so that nothing jumps."""
    return Html(
        f'<div class="chart" id="{element_id}" role="img" aria-label="{esc(label)}" '
        f'style="min-height:{min_height_px}px"></div>'
    )


def nothing(text: object) -> Html:
    """A quiet sentence that stands where there is nothing to show."""
    return Html(f'<p class="nothing">{esc(text)}</p>')


def worst_of(total: int, limit: int, noun: str) -> str:
    """Caption of a table that is sorted and may be cut: ``The worst 50 of 80 sums``."""
    if total <= limit:
        return f"{counted(total, noun)}, worst first" if total > 1 else counted(total, noun)
    return f"The worst {limit:,} of {counted(total, noun)}"
