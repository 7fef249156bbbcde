"""Rule: a rule whose words all mean something, made from its text."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from precscope.rules.catalogue import (
    ADVISED_SCALE,
    EVERYTHING,
    FORMAT_WORDS,
    KIND_WORDS,
    QUANTITIES,
    UNSCALED,
)
from precscope.rules.conditions import checked_condition
from precscope.rules.findings import FINDINGS
from precscope.rules.nearest import unknown
from precscope.rules.quantity import QualifierKind, Quantity, Selection, matches
from precscope.rules.syntax import Syntax, parse
from precscope.rules.tokens import Token


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not happen.

    Attributes:
        text: as written.
        quantity: what it is about.
        selection: which of its values.
        operator: a comparison, ``is``, ``is not``, or empty for a flag.
        limit: what numbers are compared with; NaN where words are.
        limit_text: the limit as written.
        words: what words are compared with.
    """

    text: str
    quantity: Quantity
    selection: Selection
    operator: str
    limit: float
    limit_text: str
    words: tuple[str, ...]


def parse_rule(text: str) -> Rule:
    """The rule behind ``text``.

    Raises:
        RuleError: it does not follow the grammar, a word in it is unknown, or it can never hit;
            the message names the place, and the nearest known word.
    """
    syntax = parse(text)
    quantity = quantity_of(syntax)
    selection = _selection(syntax, quantity)
    operator, limit, words = checked_condition(syntax, quantity)
    shown = ", ".join(operand.text for operand in syntax.operands)
    return Rule(syntax.text, quantity, selection, operator, limit, shown, words)


def needs_training(rule: Rule) -> bool:
    """Whether only a run in which recipes were trained can hit the rule."""
    if rule.quantity.sort != "finding":
        return rule.quantity.trained
    named = {o for n, o in FINDINGS.items() if any(matches(p, n) for p in rule.words)}
    return named == {"training"}


def quantity_of(syntax: Syntax) -> Quantity:
    """What the rule is about.

    Raises:
        RuleError: there is nothing of that name.
    """
    name = syntax.quantity.text
    if name not in QUANTITIES:
        raise syntax.error(syntax.quantity, unknown("quantity", name, QUANTITIES))
    return QUANTITIES[name]


def _selection(syntax: Syntax, quantity: Quantity) -> Selection:
    if syntax.patterns and quantity.over in ("model", "runs"):
        what = "runs are chosen in brackets, as in [fp16]"
        whole = "it belongs to the whole model" if quantity.over == "model" else what
        raise syntax.error(syntax.patterns[0], f"{quantity.name} takes no @ pattern: {whole}")
    selection = Selection(patterns=tuple(token.text for token in syntax.patterns))
    used: set[QualifierKind] = set()
    for token in syntax.qualifiers:
        kind, selection = _qualified(syntax, quantity, selection, token)
        if kind in used and kind != "kind":
            raise syntax.error(token, f"{token.text} is the second {kind} in these brackets")
        used.add(kind)
    return selection


def _qualified(
    syntax: Syntax, quantity: Quantity, selection: Selection, token: Token
) -> tuple[QualifierKind, Selection]:
    word, allowed = token.text, quantity.qualifiers
    if not allowed:
        raise syntax.error(token, f"{quantity.name} takes no brackets")
    if token.kind == "number":
        return "scale", replace(selection, scale=_log2_scale(syntax, quantity, token))
    if "all" in allowed and word == EVERYTHING:
        return "all", replace(selection, everything=True)
    if "format" in allowed and word in FORMAT_WORDS:
        return "format", replace(selection, format=word)
    if "kind" in allowed and word in KIND_WORDS:
        return "kind", replace(selection, kinds=selection.kinds | KIND_WORDS[word])
    if "scale" in allowed and word in (UNSCALED, ADVISED_SCALE):
        return "scale", replace(selection, scale=0 if word == UNSCALED else "advised")
    if "recipe" in allowed:
        return "recipe", replace(selection, recipe=word)
    message = unknown("qualifier", word, known_qualifiers(quantity))
    raise syntax.error(token, f"{message} ({quantity.name})")


def known_qualifiers(quantity: Quantity) -> list[str]:
    """Every word that the brackets of this quantity may hold; recipes have names of their own."""
    words: dict[QualifierKind, tuple[str, ...]] = {
        "format": FORMAT_WORDS,
        "kind": tuple(KIND_WORDS),
        "scale": (UNSCALED, ADVISED_SCALE),
        "all": (EVERYTHING,),
        "recipe": (),
    }
    return [word for kind in words if kind in quantity.qualifiers for word in words[kind]]


def _log2_scale(syntax: Syntax, quantity: Quantity, token: Token) -> int:
    if "scale" not in quantity.qualifiers:
        raise syntax.error(token, f"{quantity.name} is judged at no loss scale")
    mantissa, exponent = math.frexp(token.number)
    if mantissa != 0.5 or not -64 <= exponent - 1 <= 64:
        raise syntax.error(token, f"{token.text[:40]} is no loss scale: write a power of two, 2^10")
    return exponent - 1
