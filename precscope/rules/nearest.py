"""The known word that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 80
"""Characters compared: more than any known word has."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The word of ``known`` that is most like ``word``; ``known`` holds at least one."""
    words = list(known)
    found = get_close_matches(word[:LONGEST].lower(), words, n=1, cutoff=0.0)
    return found[0] if found else words[0]


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """``unknown WHAT 'word': the nearest is known``."""
    return f"unknown {what} {word[:LONGEST]!r}: the nearest is {nearest(word, known)}"
