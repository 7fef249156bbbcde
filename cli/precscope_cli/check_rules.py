"""The rules and waivers of a check: from the command line, or from the project's settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from precscope.errors import UsageError
from precscope.rules import (
    Rule,
    RuleError,
    Waiver,
    make_waiver,
    needs_training,
    parse_rule,
    parse_waiver,
)
from precscope_cli.settings import Settings

NO_RULES = (
    'nothing to check: name a rule, as in --fail-on "flushed_l1 > 1e-3", or set fail-on in '
    "[tool.precscope] of pyproject.toml"
)


def chosen_rules(given: Sequence[str], settings: Settings) -> tuple[Rule, ...]:
    """The rules given, or those of the settings if none are.

    Raises:
        RuleError: one means nothing, or can never hit.
        UsageError: there is none.
    """
    texts = given or settings.fail_on
    if not texts:
        raise UsageError(NO_RULES)
    return tuple(parse_rule(text) for text in dict.fromkeys(texts))


def chosen_waivers(given: Iterable[str], settings: Settings) -> tuple[Waiver, ...]:
    """The waivers given, and those of the settings besides.

    Raises:
        RuleError: one means nothing or gives no reason.
    """
    own = [make_waiver(entry.rule, entry.reason, entry.sites) for entry in settings.waivers]
    return (*(parse_waiver(text) for text in given), *own)


def recipes_of(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The recipes to train for these rules: FP32, the advised one and those that they name."""
    named = [rule.selection.recipe for rule in rules if rule.selection.recipe]
    return tuple(dict.fromkeys(("fp32", "advised", *named)))


def check_trained(rules: Iterable[Rule]) -> None:
    """For an analysis that trains no recipe: no rule needs one.

    Raises:
        RuleError: one does.
    """
    for rule in rules:
        if needs_training(rule):
            raise RuleError(f"rule {rule.text!r} is about training runs: add --train")
