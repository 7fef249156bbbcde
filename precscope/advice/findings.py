"""What advice says: findings with evidence and remedy, and one verdict per question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["critical", "warning", "advice", "ok"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "advice", "ok")

Question = Literal["range", "loss_scale", "master_weights", "training", "accumulation"]
Evidence = dict[str, float | str | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know or change.

    Attributes:
        rule: identifier of the rule that found it, stable across versions.
        severity: ``critical`` breaks or corrupts a half precision run, ``warning`` may,
            ``advice`` is an improvement, ``ok`` says that nothing needs changing.
        site: the place, None for the whole model.
        message: what was found, one sentence with its numbers.
        remedy: what to do about it.
        code: Python to paste, empty if there is none.
        evidence: the numbers behind the message.
    """

    rule: str
    severity: Severity
    site: str | None
    message: str
    remedy: str
    code: str = ""
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one of the questions, in one sentence, with the code that acts on it.

    Attributes:
        question: which one.
        severity: as of a finding; ``ok`` where nothing needs changing.
        sentence: the answer, with its numbers.
        code: Python to paste, empty if there is none.
    """

    question: Question
    severity: Severity
    sentence: str
    code: str = ""


def most_severe_first(findings: list[Finding]) -> list[Finding]:
    """Findings sorted by severity; equal ones keep their order."""
    return sorted(findings, key=lambda f: SEVERITIES.index(f.severity))
