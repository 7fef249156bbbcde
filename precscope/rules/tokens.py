"""The words of a rule, each with its place in the text; and the error that names that place."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from precscope.errors import UsageError

Kind = Literal["name", "number", "pattern", "operator", "mark", "end"]

SCANNER = re.compile(
    r"""(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?:\^[+-]?[0-9]+)?%?)
    |(?P<name>(?:[^\W\d]|[*?])[\w.*?-]*)
    |(?P<operator>[<>]=?|[=!]=)
    |(?P<mark>[\[\],@])""",
    re.VERBOSE,
)
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
BARE = re.compile(r"[^\s,<>=!\"'@]+")
NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<base>[^^%]+)(?:\^(?P<power>[+-]?\d+))?(?P<percent>%?)")


class RuleError(UsageError):
    """A rule that means nothing; the message has the rule, the place and the nearest known word."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a rule.

    Attributes:
        kind: what it is; ``end`` stands behind the last one.
        text: as written; a pattern without its quotes.
        position: index of its first character.
        number: value of a ``number``, NaN for all others.
    """

    kind: Kind
    text: str
    position: int
    number: float = math.nan


def error_at(rule: str, position: int, message: str) -> RuleError:
    """The error for ``message`` at ``position`` of ``rule``; people count from 1."""
    return RuleError(f"rule {rule!r}, character {position + 1}: {message}")


def tokenise(rule: str) -> list[Token]:
    """The words of ``rule`` and an ``end``.

    What follows ``@``, and each comma after that, is a pattern: quoted, or bare up to the next
    space, comma or comparison, because names such as ``2.1.weight[1]`` are no words.

    Raises:
        RuleError: a character that begins no word, a quote that is not closed, a number that is
            not finite.
    """
    tokens: list[Token] = []
    position, in_patterns = 0, False
    while position < len(rule):
        if rule[position].isspace():
            position += 1
            continue
        token, position = (_pattern if _awaits_pattern(tokens, in_patterns) else _word)(
            rule, position
        )
        more = token.kind == "pattern" or (token.kind == "mark" and token.text == ",")
        in_patterns = (in_patterns and more) or (token.kind == "mark" and token.text == "@")
        tokens.append(token)
    return [*tokens, Token("end", "", len(rule))]


def _awaits_pattern(tokens: list[Token], in_patterns: bool) -> bool:
    return in_patterns and tokens[-1].kind == "mark"


def _pattern(rule: str, position: int) -> tuple[Token, int]:
    if quoted := QUOTED.match(rule, position):
        text = re.sub(r"\\(.)", r"\1", quoted.group()[1:-1], flags=re.DOTALL)
        return Token("pattern", text, position), quoted.end()
    if rule[position] in "\"'":
        raise error_at(rule, position, f"this {rule[position]} is never closed")
    if bare := BARE.match(rule, position):
        return Token("pattern", bare.group(), position), bare.end()
    raise error_at(rule, position, 'a name or pattern is missing here, as in @ "encoder.*"')


def _word(rule: str, position: int) -> tuple[Token, int]:
    found = SCANNER.match(rule, position)
    if found is None:
        raise error_at(rule, position, _not_a_word(rule, position))
    text = found.group()
    if found.lastgroup == "number":
        return Token("number", text, position, _number(rule, position, text)), found.end()
    kind: Kind = found.lastgroup  # type: ignore[assignment]
    return Token(kind, text, position), found.end()


def _not_a_word(rule: str, position: int) -> str:
    character = rule[position]
    if character in "\"'":
        return 'quotes are for patterns after @, as in @ "encoder.*"'
    if character in "=!":
        return f"{character!r} alone is no comparison: write == or !="
    return f"{character!r} means nothing in a rule"


def _number(rule: str, position: int, text: str) -> float:
    parts = NUMBER.fullmatch(text)
    assert parts is not None  # SCANNER's numbers are of this form
    try:
        value = float(parts["base"]) ** int(parts["power"] or 1)
    except (OverflowError, ZeroDivisionError, ValueError):
        value = math.inf
    if not math.isfinite(value):
        raise error_at(rule, position, f"{text[:40]} is no finite number")
    value = -value if parts["sign"] == "-" else value
    return value / 100.0 if parts["percent"] else value
