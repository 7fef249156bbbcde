"""The outcome of a check in lines: one per hit, one for the whole."""

from __future__ import annotations

from typing import Any

from precscope.rules import Outcome
from precscope_cli.streams import one_line


def hit_lines(outcome: Outcome) -> list[str]:
    """One line for each hit that is not waived."""
    return [one_line(str(hit)) for hit in outcome.hits]


def problem_lines(outcome: Outcome) -> list[str]:
    """One line for each rule that could not be judged."""
    return [one_line(f"not judged: {j.rule.text}: {j.problem}") for j in outcome.problems]


def idle_lines(outcome: Outcome) -> list[str]:
    """One line for each waiver that covered nothing."""
    return [
        one_line(
            f"unused waiver: {waiver.text} covers no hit, remove it (its reason: {waiver.reason})"
        )
        for waiver in outcome.idle
    ]


def summary_line(outcome: Outcome, result: dict[str, Any]) -> str:
    """What was checked on what, and how it went."""
    judged = len(outcome.judgements)
    hit_rules = len({hit.rule for hit in outcome.hits})
    parts = [f"{_count(judged, 'rule')} checked"]
    places = f"{_count(hit_rules, 'rule')} hit in {_count(len(outcome.hits), 'place')}"
    parts += [places if outcome.hits else "none hit"]
    parts += [f"{len(outcome.problems)} not judged"] if outcome.problems else []
    parts += [f"{_count(len(outcome.waived), 'hit')} waived"] if outcome.waived else []
    return one_line(f"precscope check {result.get('title')}: {', '.join(parts)} ({_seen(result)})")


def _seen(result: dict[str, Any]) -> str:
    seen = [
        _count(len(result["sites"]), "site"),
        _count(int(result["coverage"].get("observed_steps") or 0), "observed step"),
    ]
    seen += [_count(len(result["runs"]), "training run")] if result["runs"] else []
    return ", ".join(seen)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
