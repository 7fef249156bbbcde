"""JUnit XML: one test case per rule."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from precscope.rules import Hit, Judgement, Outcome, Waiver

ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped (section 2.2)."""


def junit_xml(outcome: Outcome, result: dict[str, Any]) -> str:
    """A document that every reader of JUnit XML takes, whatever the names in it hold.

    A rule that is hit is a failure, one that could not be judged an error, one of which every hit
    is waived is skipped.
    """
    title = str(result.get("title"))
    waivers = dict(outcome.waived)
    suite = ET.Element("testsuite", {"name": _text(f"precscope check {title}")})
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for judgement in outcome.judgements:
        totals["tests"] += 1
        if kind := _add_case(suite, title, judgement, waivers):
            totals[kind] += 1
    suite.attrib.update({key: str(value) for key, value in totals.items()}, time="0")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_case(
    suite: ET.Element, title: str, judgement: Judgement, waivers: dict[Hit, Waiver]
) -> str | None:
    """Add the case of one rule; the total that it counts for beside ``tests``."""
    names = {"classname": _text(f"precscope.{title}"), "name": _text(judgement.rule.text)}
    case = ET.SubElement(suite, "testcase", names | {"time": "0"})
    hits = [hit for hit in judgement.hits if hit not in waivers]
    waived = [hit for hit in judgement.hits if hit in waivers]
    told = "\n".join(str(hit) for hit in hits)
    if hits:
        places = "1 place" if len(hits) == 1 else f"{len(hits)} places"
        _add(case, "failure", f"hit in {places}, worst {hits[0].message}", told)
        return "failures"
    if judgement.problem:
        _add(case, "error", f"not judged: {judgement.problem}", "")
        return "errors"
    if waived:
        reasons = dict.fromkeys(waivers[hit].reason for hit in waived)
        _add(case, "skipped", f"waived: {'; '.join(reasons)}", "")
        return "skipped"
    return None


def _add(case: ET.Element, tag: str, message: str, text: str) -> None:
    element = ET.SubElement(case, tag, {"message": _text(message)})
    if tag != "skipped":
        element.set("type", "precscope")
    element.text = _text(text) or None


def _text(text: str) -> str:
    """``text`` with every character that XML cannot hold written as Python would escape it."""
    return ILLEGAL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)
