"""What to do first: the four verdicts by urgency, then the findings behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import QUESTION_WORDS, counted, urgency
from precscope_reports.terminal.page import Page

FINDINGS_SHOWN = 8
SITES_NAMED = 4

Finding = Mapping[str, Any]


def verdicts(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """One sentence per question, the most urgent first, each with the code to change."""
    yield page.heading("What to do first")
    for verdict in sorted(result["verdicts"], key=lambda one: urgency(one["severity"])):
        question = QUESTION_WORDS.get(verdict["question"], verdict["question"])
        sentence = page.lead(page.text(f"{question}.", "bold"), verdict["sentence"])
        yield page.entry(page.severity(verdict["severity"]), sentence)
        yield from page.code(verdict["code"])


def findings(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """Findings that ask for something, one per rule and remedy, with the sites they are about."""
    told = {verdict["code"] for verdict in result["verdicts"]}
    groups = _grouped([found for found in result["findings"] if found["severity"] != "ok"])
    if not groups:
        return
    yield page.heading("Findings")
    for group in groups[:FINDINGS_SHOWN]:
        yield page.entry(page.severity(group[0]["severity"]), *_told(group, page))
        if group[0]["code"] not in told:
            yield from page.code(group[0]["code"])
    if len(groups) > FINDINGS_SHOWN:
        hidden = counted(len(groups) - FINDINGS_SHOWN, "more finding")
        yield page.note(f"{hidden} in the page and the JSON.")


def _told(group: list[Finding], page: Page) -> Iterator[Text]:
    site, message = group[0]["site"], group[0]["message"]
    named = site is None or site in message
    yield page.text(message) if named else page.lead(page.text(f"{site}:", "bold"), message)
    others = [found["site"] for found in group[1:] if found["site"]]
    if others:
        more = len(others) - SITES_NAMED
        rest = f" and {more} more" if more > 0 else ""
        yield page.note(f"also {', '.join(others[:SITES_NAMED])}{rest}")
    if group[0]["remedy"]:
        yield page.text(group[0]["remedy"], "italic")


def _grouped(found: list[Finding]) -> list[list[Finding]]:
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in sorted(found, key=lambda one: urgency(one["severity"])):
        key = (finding["rule"], finding["severity"], finding["remedy"])
        groups.setdefault(key, []).append(finding)
    return list(groups.values())
