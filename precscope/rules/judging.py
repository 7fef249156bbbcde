"""Holding a result against rules: what hits, and which rules could not be judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from precscope.rules.conditions import COMPARISONS
from precscope.rules.findings import FINDINGS, lacking
from precscope.rules.quantity import Reading, Readings, Result, matches
from precscope.rules.rule import Rule
from precscope.rules.showing import shown_value

UNKNOWN = "unknown"

UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What comes of a result that was changed by hand or damaged."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One place at which a rule is hit.

    Attributes:
        rule: text of the rule.
        quantity: name of what it is about.
        name: the place, as patterns select it; empty for the whole model.
        label: the place as it is shown.
        value: the value with its unit.
        detail: how it came about; may be empty.
        limit: what it was held against.
        finding: name of the finding, where the rule is about findings.
    """

    rule: str
    quantity: str
    name: str
    label: str
    value: str
    detail: str
    limit: str
    finding: str = ""

    @property
    def message(self) -> str:
        """Place, value and limit, without the rule; of a finding what it says, with its place."""
        if self.finding:
            return self.value
        detail = f" ({self.detail})" if self.detail else ""
        limit = f", limit {self.limit}" if self.limit else ""
        return f"{self.label}: {self.value}{detail}{limit}"

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of one rule.

    Attributes:
        rule: the rule.
        hits: worst first.
        compared: values that it was held against.
        problem: why it could not be judged, or not everywhere; empty if it was.
    """

    rule: Rule
    hits: tuple[Hit, ...]
    compared: int
    problem: str = ""


def judge(rule: Rule, result: Result) -> Judgement:
    """Hold ``result`` against one rule.

    A value that is no number hits whatever the rule says. A quantity that the run does not have, a
    pattern that matches nothing, or a verdict of ``unknown`` that the rule does not name is a
    problem: a rule that cannot hit must not look like one that held.
    """
    try:
        readings = rule.quantity.read(result, rule.selection)
        problem = readings.absent or _cannot_hit(rule, readings, result)
    except UNREADABLE as error:
        told = f"{type(error).__name__}: {error}"
        return Judgement(rule, (), 0, f"the result cannot be read there ({told})")
    hits = [reading for reading in readings.found if is_hit(rule, reading)]
    hits.sort(key=lambda reading: _badness(rule, reading))
    return Judgement(rule, tuple(_hit(rule, r) for r in hits), len(readings.found), problem)


def judge_all(rules: Sequence[Rule], result: Result) -> list[Judgement]:
    """Hold ``result`` against each rule, in their order."""
    return [judge(rule, result) for rule in rules]


def is_hit(rule: Rule, reading: Reading) -> bool:
    """Whether the value is what the rule says must not be."""
    sort = rule.quantity.sort
    if sort == "finding":
        return any(matches(pattern, reading.words[1]) for pattern in rule.words)
    if rule.operator in ("is", "is not"):
        return (reading.words[0] in rule.words) == (rule.operator == "is")
    if math.isnan(reading.number):
        return True
    if sort == "flag":
        return reading.number != 0.0
    return COMPARISONS[rule.operator](reading.number, rule.limit)


def _cannot_hit(rule: Rule, readings: Readings, result: Result) -> str:
    if rule.quantity.sort == "finding":
        return _impossible_findings(rule, result)
    if rule.quantity.sort == "level":
        return ""
    if not readings.found:
        return "the run has no such value"
    if rule.quantity.sort == "word" and rule.operator == "is" and UNKNOWN not in rule.words:
        unknown = [r for r in readings.found if r.words[0] == UNKNOWN]
        return f"it is unknown: {unknown[0].detail}" if unknown else ""
    return ""


def _impossible_findings(rule: Rule, result: Result) -> str:
    """Why none of the findings named is possible; if only some are, the rule can hit."""
    origins = {
        origin
        for name, origin in FINDINGS.items()
        if any(matches(pattern, name) for pattern in rule.words)
    }
    reasons = [lacking(result, origin) for origin in sorted(origins)]
    return reasons[0] if reasons and all(reasons) else ""


def _badness(rule: Rule, reading: Reading) -> float:
    """Smaller is worse, no number at all the worst."""
    if rule.quantity.sort in ("word", "finding", "flag") or math.isnan(reading.number):
        return -math.inf
    return reading.number if rule.operator in ("<", "<=") else -reading.number


def _hit(rule: Rule, reading: Reading) -> Hit:
    is_finding = rule.quantity.over == "findings"
    limit = f"{rule.operator} {rule.limit_text}" if rule.operator in COMPARISONS else ""
    return Hit(
        rule=rule.text,
        quantity=rule.quantity.name,
        name=reading.name,
        label=reading.label,
        value=shown_value(rule, reading),
        detail="" if is_finding else reading.detail,
        limit=limit if rule.quantity.sort == "number" else "",
        finding=reading.words[1] if is_finding else "",
    )
