"""How wrong a sequence is, as speech and pronunciation are scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def error_rate(pairs: Iterable[tuple[Sequence[object], Sequence[object]]]) -> float:
    """Edits that turn each guess into its truth, summed, over the summed lengths of the truths."""
    known = list(pairs)
    return sum(edits(*pair) for pair in known) / sum(len(truth) for _, truth in known)


def edits(guess: Sequence[object], truth: Sequence[object]) -> int:
    """Levenshtein distance: insertions, deletions and substitutions."""
    row = list(range(len(truth) + 1))
    for done, symbol in enumerate(guess, start=1):
        diagonal, row[0] = row[0], done
        for i, wanted in enumerate(truth, start=1):
            kept = diagonal + (symbol != wanted)
            diagonal, row[i] = row[i], min(kept, row[i] + 1, row[i - 1] + 1)
    return row[-1]
