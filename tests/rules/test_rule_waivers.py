"""Waivers: what they cover, that they need a reason, and that idle ones are told."""

from __future__ import annotations

import pytest

from precscope.rules import (
    Outcome,
    RuleError,
    judge_all,
    make_waiver,
    needs_training,
    parse_rule,
    parse_waiver,
    waive,
)
from tests.rules.sample_run import sample


def outcome(rules: list[str], *waivers: str) -> Outcome:
    judgements = judge_all([parse_rule(rule) for rule in rules], sample())
    return waive(judgements, [parse_waiver(text) for text in waivers])


def test_a_waiver_takes_its_hits_out_and_leaves_the_others() -> None:
    found = outcome(["amax > 0"], "amax @ *.weight: tied, see the notes")
    assert [hit.name for hit in found.hits] == ["enc.0", "enc.0"]
    ((hit, waiver),) = found.waived
    assert (hit.name, waiver.reason) == ("enc.0.weight", "tied, see the notes")
    assert not found.idle


def test_a_waiver_covers_every_rule_about_its_quantity_and_no_other() -> None:
    rules = ["amax > 0", "amax[all] > 0", "flushed > 0"]
    assert {hit.quantity for hit in outcome(rules, "amax: known").hits} == {"flushed"}


def test_a_waiver_of_a_finding_covers_its_severity_too() -> None:
    found = outcome(["severity >= ok", "finding overflow"], "finding over* @ head: accepted")
    assert [hit.finding for hit in found.hits] == ["scale_drift"]
    assert len(found.waived) == 2
    assert not outcome(["severity >= ok"], "severity: all of it").hits
    assert len(outcome(["finding overflow"], "severity: all of it").hits) == 1


def test_an_idle_waiver_is_told() -> None:
    found = outcome(["amax > 0"], "amax @ nowhere: x", "flushed: y", "amax @ enc.*: z")
    assert [waiver.quantity for waiver in found.idle] == ["amax", "flushed"]


def test_two_waivers_of_one_hit_are_both_used() -> None:
    assert not outcome(["amax > 0"], "amax: x", "amax @ enc.0: y").idle


def test_the_reason_may_hold_colons_and_the_pattern_too() -> None:
    waiver = parse_waiver('flushed @ "a:b", c: see: the notes')
    assert waiver.places.patterns == ("a:b", "c")
    assert waiver.reason == "see: the notes"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flushed", "ends in its reason"),
        ("flushed:", "gives no reason"),
        ("flushed:  \n", "gives no reason"),
        (": because", "begins with what it is about"),
        ("", "ends in its reason"),
        ("flushd: because", "the nearest is flushed"),
        ("flushed > 0.1: because", "without a limit"),
        ("loss_scale impossible: because", "without a limit"),
        ("flushed[bf16]: because", "has no brackets"),
        ('flushed @ "a: because', "ends in its reason"),
    ],
)
def test_a_waiver_that_means_nothing_is_a_usage_error(text: str, told: str) -> None:
    with pytest.raises(RuleError, match=told):
        parse_waiver(text)


def test_places_can_be_named_apart() -> None:
    waiver = make_waiver("flushed", "because", ["a > b", "c"])
    assert waiver.places.patterns == ("a > b", "c")
    assert waiver.text == "flushed @ a > b, c"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("parity worse", True),
        ("final_loss > 1", True),
        ("finding promise_broken", True),
        ("finding recipe_*", True),
        ("finding *", False),
        ("flushed > 0.5", False),
    ],
)
def test_rules_that_only_training_can_hit_are_known(rule: str, expected: bool) -> None:
    assert needs_training(parse_rule(rule)) is expected
