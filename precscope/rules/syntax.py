"""The grammar of a rule, and nothing of its meaning.

    rule       = quantity [ qualifiers ] [ places ] [ condition ] [ places ]
    qualifiers = "[" word { "," word } "]"
    places     = "@" pattern { "," pattern }
    condition  = comparison word | [ "is" ] [ "not" ] word { "," word }
    comparison = ">" | ">=" | "<" | "<=" | "==" | "!="
    word       = name | number

``places`` may stand on either side of the condition, once.
"""

from __future__ import annotations

from dataclasses import dataclass

from precscope.rules.tokens import RuleError, Token, error_at, tokenise


@dataclass(frozen=True, slots=True)
class Syntax:
    """A rule taken apart.

    Attributes:
        text: the rule as written, without the space around it.
        quantity: what it is about.
        qualifiers: the words in brackets.
        patterns: what follows ``@``.
        operator: a comparison, ``is``, ``is not``, or empty where the rule has no condition.
        operands: the words after it.
    """

    text: str
    quantity: Token
    qualifiers: tuple[Token, ...]
    patterns: tuple[Token, ...]
    operator: str
    operands: tuple[Token, ...]

    def error(self, token: Token, message: str) -> RuleError:
        """The error for ``message`` at ``token``."""
        return error_at(self.text, token.position, message)


def parse(text: str) -> Syntax:
    """Take a rule apart.

    Raises:
        RuleError: it does not follow the grammar.
    """
    stripped = text.strip()
    reader = _Reader(stripped, tokenise(stripped))
    quantity = reader.take("name", 'a rule begins with what it is about, as in "flushed_l1 > 1e-3"')
    qualifiers = reader.qualifiers()
    patterns = reader.patterns()
    operator, operands = reader.condition()
    if not patterns:
        patterns = reader.patterns()
    reader.expect_end()
    return Syntax(stripped, quantity, qualifiers, patterns, operator, operands)


class _Reader:
    """The words of a rule, read from left to right."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def take(self, kind: str, missing: str) -> Token:
        token = self._token
        if token.kind != kind:
            raise error_at(self._text, token.position, missing)
        self._next += 1
        return token

    def qualifiers(self) -> tuple[Token, ...]:
        if not self._skip("["):
            return ()
        found = [self._word("a word is missing between the brackets, as in [bf16]")]
        while self._skip(","):
            found.append(self._word("a word is missing after the comma"))
        if not self._skip("]"):
            raise error_at(self._text, self._token.position, "the bracket is not closed with ]")
        return tuple(found)

    def patterns(self) -> tuple[Token, ...]:
        missing = 'a name or pattern is missing here, as in @ "encoder.*"'
        if not self._skip("@"):
            return ()
        found = [self.take("pattern", missing)]
        while self._skip(","):
            found.append(self.take("pattern", missing))
        return tuple(found)

    def condition(self) -> tuple[str, tuple[Token, ...]]:
        if self._token.kind == "operator":
            operator = self.take("operator", "").text
            return operator, (self._word(f"a number or a word is missing after {operator}"),)
        said = self._skip("is")
        operator = "is not" if self._skip("not") else "is"
        if not said and operator == "is" and self._token.kind not in ("name", "number"):
            return "", ()
        return operator, self._choices(operator)

    def expect_end(self) -> None:
        token = self._token
        if token.kind != "end":
            raise error_at(self._text, token.position, f"{token.text!r} is one word too many")

    def _choices(self, operator: str) -> tuple[Token, ...]:
        found = [self._word(f"a word is missing after {operator!r}")]
        while self._skip(","):
            found.append(self._word("a word is missing after the comma"))
        return tuple(found)

    def _word(self, missing: str) -> Token:
        kind = "number" if self._token.kind == "number" else "name"
        return self.take(kind, missing)

    def _skip(self, text: str) -> bool:
        token = self._token
        if token.kind not in ("mark", "name") or token.text != text:
            return False
        self._next += 1
        return True
