"""Waivers: hits that somebody accepts, each with a reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from precscope.rules.judging import Hit, Judgement
from precscope.rules.quantity import Selection, matches
from precscope.rules.rule import quantity_of
from precscope.rules.syntax import parse
from precscope.rules.tokens import QUOTED, RuleError, error_at

COLON = re.compile(rf"(?:{QUOTED.pattern}|[^:\"'])*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Waiver:
    """A hit that is accepted.

    Attributes:
        text: what it covers, as written.
        quantity: name of the quantity of the rules covered.
        findings: for findings, patterns of their names; empty for all.
        places: the patterns of the places covered; none for all.
        reason: why.
    """

    text: str
    quantity: str
    findings: tuple[str, ...]
    places: Selection
    reason: str

    def covers(self, hit: Hit) -> bool:
        """Whether the hit is the one that is accepted.

        A waiver of a finding covers it under ``severity`` rules as well.
        """
        if hit.finding and self.quantity in ("finding", hit.quantity):
            named = not self.findings or any(matches(p, hit.finding) for p in self.findings)
            return named and self.places.names(hit.name)
        return hit.quantity == self.quantity and self.places.names(hit.name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of all rules.

    Attributes:
        judgements: one per rule, in their order.
        waived: the hits that are accepted, each with its waiver.
        idle: waivers that covered no hit.
    """

    judgements: tuple[Judgement, ...]
    waived: tuple[tuple[Hit, Waiver], ...]
    idle: tuple[Waiver, ...]

    @property
    def hits(self) -> list[Hit]:
        """Every hit that is not waived, in the order of the rules."""
        accepted = {hit for hit, _ in self.waived}
        return [hit for j in self.judgements for hit in j.hits if hit not in accepted]

    @property
    def problems(self) -> list[Judgement]:
        """The rules that could not be judged."""
        return [judgement for judgement in self.judgements if judgement.problem]


def parse_waiver(text: str) -> Waiver:
    """A waiver from ``QUANTITY [@ PATTERN]: REASON``, or ``finding NAME [@ PATTERN]: REASON``.

    Raises:
        RuleError: there is no reason, or what is waived means nothing.
    """
    end = COLON.match(text)
    colon = end.end() if end else 0
    if text[colon : colon + 1] != ":":
        raise error_at(text, colon, "a waiver ends in its reason: QUANTITY @ PATTERN: REASON")
    return make_waiver(text[:colon], text[colon + 1 :])


def make_waiver(what: str, reason: str, places: Sequence[str] = ()) -> Waiver:
    """A waiver of ``what``, of which ``places`` may be named apart.

    Raises:
        RuleError: the reason is empty, or ``what`` means nothing.
    """
    syntax = parse(what)
    quantity = quantity_of(syntax)
    is_finding = quantity.name == "finding"
    if syntax.qualifiers:
        raise syntax.error(syntax.qualifiers[0], "a waiver has no brackets: it covers all of them")
    if syntax.operands and not (is_finding and syntax.operator == "is"):
        raise syntax.error(syntax.operands[0], "a waiver names a quantity, without a limit")
    if not reason.strip():
        raise RuleError(f"the waiver of {syntax.text!r} gives no reason: say why it is accepted")
    return Waiver(
        text=" @ ".join([syntax.text, ", ".join(places)] if places else [syntax.text]),
        quantity=quantity.name,
        findings=tuple(operand.text for operand in syntax.operands),
        places=Selection(tuple(token.text for token in syntax.patterns) + tuple(places)),
        reason=" ".join(reason.split()),
    )


def waive(judgements: Sequence[Judgement], waivers: Sequence[Waiver]) -> Outcome:
    """Take the accepted hits out; the first waiver that covers a hit is the one that counts."""
    waived: list[tuple[Hit, Waiver]] = []
    used: set[int] = set()
    for hit in (hit for judgement in judgements for hit in judgement.hits):
        covering = [i for i, waiver in enumerate(waivers) if waiver.covers(hit)]
        used.update(covering)
        if covering:
            waived.append((hit, waivers[covering[0]]))
    idle = tuple(waiver for i, waiver in enumerate(waivers) if i not in used)
    return Outcome(tuple(judgements), tuple(waived), idle)
