"""The condition of a rule: does it suit its quantity, and can it ever hit?"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Callable

from precscope.rules.findings import FINDINGS
from precscope.rules.nearest import nearest, unknown
from precscope.rules.quantity import Quantity, matches
from precscope.rules.syntax import Syntax
from precscope.rules.tokens import Token

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
    "==": operators.eq,
    "!=": operators.ne,
}

Condition = tuple[str, float, tuple[str, ...]]
"""The operator, the number and the words of a condition."""


def checked_condition(syntax: Syntax, quantity: Quantity) -> Condition:
    """The condition in the terms of the quantity.

    Raises:
        RuleError: it does not suit the quantity, or no value could ever meet it.
    """
    check = {
        "number": _number,
        "word": _words,
        "flag": _flag,
        "level": _level,
        "finding": _findings,
    }
    return check[quantity.sort](syntax, quantity)


def _number(syntax: Syntax, quantity: Quantity) -> Condition:
    example = f"as in {quantity.name} > 0.1"
    if syntax.operator not in COMPARISONS:
        token = syntax.operands[0] if syntax.operands else _end(syntax)
        raise syntax.error(token, f"{quantity.name} is a number: compare it, {example}")
    operand = syntax.operands[0]
    if operand.kind != "number":
        raise syntax.error(
            operand, f"{quantity.name} is a number: {operand.text!r} is none, {example}"
        )
    limit = operand.number
    if not can_hit(syntax.operator, limit, quantity.lower, quantity.upper):
        raise syntax.error(operand, _never(quantity, operand))
    return syntax.operator, limit, ()


def can_hit(comparison: str, limit: float, lower: float, upper: float) -> bool:
    """Whether any number from ``lower`` to ``upper`` compares that way with ``limit``."""
    if comparison in (">", ">="):
        return COMPARISONS[comparison](upper, limit)
    if comparison in ("<", "<="):
        return COMPARISONS[comparison](lower, limit)
    return lower <= limit <= upper or comparison == "!="


def _never(quantity: Quantity, operand: Token) -> str:
    low, top = (f"{bound:g}" for bound in (quantity.lower, quantity.upper))
    bounds = f"lies from {low} to {top}"
    if math.isinf(quantity.upper):
        bounds = f"is never below {low}"
    elif math.isinf(quantity.lower):
        bounds = f"is never above {top}"
    in_percent = 1.0 < operand.number <= 100.0 and quantity.upper == 1.0
    hint = f"; did you mean {operand.text}%?" if in_percent else ""
    return f"this can never hit, {quantity.name} {bounds}{hint}"


def _words(syntax: Syntax, quantity: Quantity) -> Condition:
    negated, words = _chosen(syntax, quantity, "is", quantity.words)
    if negated and not set(quantity.words) - set(words):
        raise syntax.error(syntax.operands[0], f"this can never hit, {quantity.name} is always one")
    return ("is not" if negated else "is"), math.nan, words


def _chosen(
    syntax: Syntax, quantity: Quantity, example: str, known: tuple[str, ...]
) -> tuple[bool, tuple[str, ...]]:
    choices = ", ".join(known)
    if not syntax.operands:
        raise syntax.error(_end(syntax), f"say which {quantity.name}: {choices}")
    if syntax.operator in ("<", "<=", ">", ">="):
        raise syntax.error(
            syntax.operands[0],
            f"{quantity.name} is a word: write {quantity.name} {known[0]}, of {choices}",
        )
    for operand in syntax.operands:
        if operand.text not in known:
            raise syntax.error(operand, unknown(quantity.name, operand.text, known))
    return syntax.operator in ("is not", "!="), tuple(operand.text for operand in syntax.operands)


def _flag(syntax: Syntax, quantity: Quantity) -> Condition:
    if syntax.operator:
        raise syntax.error(
            syntax.operands[0], f"{quantity.name} stands alone: it hits where it is true"
        )
    return "", math.nan, ()


def _level(syntax: Syntax, quantity: Quantity) -> Condition:
    choices = ", ".join(quantity.words)
    if not syntax.operands:
        raise syntax.error(
            _end(syntax), f"say which severity, as in severity >= warning: {choices}"
        )
    for operand in syntax.operands:
        if operand.text not in quantity.words:
            raise syntax.error(operand, unknown("severity", operand.text, quantity.words))
    if syntax.operator not in COMPARISONS:
        return _words(syntax, quantity)
    operand = syntax.operands[0]
    limit = float(quantity.words.index(operand.text))
    if not can_hit(syntax.operator, limit, quantity.lower, quantity.upper):
        raise syntax.error(operand, f"this can never hit, severities are {choices}")
    return syntax.operator, limit, ()


def _findings(syntax: Syntax, quantity: Quantity) -> Condition:
    if not syntax.operands or syntax.operator not in ("is", "=="):
        token = syntax.operands[0] if syntax.operands else _end(syntax)
        raise syntax.error(token, "name the finding, as in finding overflow, or finding *")
    for operand in syntax.operands:
        if not any(matches(operand.text, name) for name in FINDINGS):
            message = f"unknown finding {operand.text!r}: the nearest is "
            raise syntax.error(operand, message + nearest(operand.text, FINDINGS))
    return "is", math.nan, tuple(operand.text for operand in syntax.operands)


def _end(syntax: Syntax) -> Token:
    return Token("end", "", len(syntax.text))
