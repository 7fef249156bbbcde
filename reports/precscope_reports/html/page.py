"""The page: its sections in order, its data, and what the browser is allowed to run."""

from __future__ import annotations

import re
from typing import Any

from precscope_reports.html import embed
from precscope_reports.html.details import details_data
from precscope_reports.html.markup import Html, esc, join
from precscope_reports.html.payload import page_data, site_data
from precscope_reports.html.sections import Section, chosen
from precscope_reports.phrases import counted, moment

_SLOT = re.compile(r"\{\{(\w+)\}\}")


def build(result: dict[str, Any]) -> str:
    """The whole page for a result of schema 1."""
    sections = [render(result) for render in chosen(result)]
    script = embed.page_script()
    plotly, plotly_hash = embed.packed_plotly()
    slots = {
        "policy": _policy(embed.script_hash(script), plotly_hash),
        "title": esc(result["title"]),
        "subtitle": _subtitle(result),
        "style": embed.asset("report.css"),
        "first": esc(sections[0].id),
        "navigation": join(
            Html(f'<li><a href="#{s.id}">{esc(s.short)}</a></li>') for s in sections
        ),
        "sections": join(map(_section, sections)),
        "data": embed.json_script("report-data", page_data(result)),
        "sites": _packed("report-sites", site_data(result)),
        "details": _packed("report-details", details_data(result)),
        "plotly": embed.packed_script("plotly-bundle", plotly),
        "script": script,
    }
    # One pass: text that came in through a slot is never searched for further slots.
    return _SLOT.sub(lambda match: slots[match[1]], embed.asset("page.html"))


def _packed(element_id: str, value: Any) -> Html:
    return embed.packed_script(element_id, embed.pack(embed.dumps(value)))


def _policy(*script_hashes: str) -> str:
    """Nothing may be fetched and no other script may run, even if escaping ever failed."""
    return (
        f"default-src 'none'; script-src {' '.join(script_hashes)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _section(section: Section) -> Html:
    lead = f'<p class="lead">{section.lead}</p>' if section.lead else ""
    return Html(
        f'<section id="{section.id}" aria-labelledby="{section.id}-title">'
        f'<h2 id="{section.id}-title">{esc(section.title)}</h2>{lead}{section.body}</section>'
    )


def _subtitle(result: dict[str, Any]) -> Html:
    # A Recording of a training that was only watched may hold no environment, or part of one.
    environment = result["environment"]
    observed = result["coverage"]["observed_steps"]
    torch, created = environment.get("torch"), environment.get("created")
    parts = [
        environment.get("device_name") or environment.get("device"),
        f"torch {torch}" if torch else None,
        counted(observed, "observed step") if observed or not result.get("scale_sweep") else None,
        moment(created) if created else None,
    ]
    return join((Html(f"<span>{esc(part)}</span>") for part in parts if part), " ")
