"""The text of rules: what is read, and what is said about everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from precscope.errors import UsageError
from precscope.rules import RuleError, parse_rule, parse_waiver
from precscope.rules.catalogue import FORMAT_WORDS, KIND_WORDS, QUANTITIES
from precscope.rules.findings import FINDINGS
from precscope.rules.syntax import parse
from precscope.rules.tokens import tokenise

PIECES = st.sampled_from(
    [
        *QUANTITIES,
        *FINDINGS,
        *FORMAT_WORDS,
        *KIND_WORDS,
        *("is", "not", "[", "]", "@", ",", ">", ">=", "<", "==", "!=", "=", "unscaled", "all"),
        *("1e-3", "2^8", "-5", "50%", "0", "1e999", "2^99999", ".5", "enc.*", '"a b"', "'", '"'),
        *("warning", "impossible", "fp32_required", "*", "\\", "\n", "#", "é", "\x00", "\ud800"),
    ]
)


def test_a_rule_is_taken_apart() -> None:
    found = parse('  flushed_l1[bf16, gradient]@"enc.*",dec.1[0] > 1e-3 ')
    assert found.text == 'flushed_l1[bf16, gradient]@"enc.*",dec.1[0] > 1e-3'
    assert found.quantity.text == "flushed_l1"
    assert [token.text for token in found.qualifiers] == ["bf16", "gradient"]
    assert [token.text for token in found.patterns] == ["enc.*", "dec.1[0]"]
    assert (found.operator, [token.number for token in found.operands]) == (">", [1e-3])


def test_patterns_end_where_the_condition_begins() -> None:
    found = parse("accumulation @ a.*, b fp32_required, fp32_advised")
    assert [token.text for token in found.patterns] == ["a.*", "b"]
    assert [token.text for token in found.operands] == ["fp32_required", "fp32_advised"]


def test_patterns_may_stand_behind_the_condition() -> None:
    assert parse("flushed > 0.5 @ a, b").patterns == parse("flushed > 0.5 @ a, b").patterns
    assert [token.text for token in parse("flushed > 0.5 @ a, b").patterns] == ["a", "b"]


def test_quotes_keep_any_character() -> None:
    (pattern,) = parse(r'flushed @ "a \"b\" , > \\ c" > 0.5').patterns
    assert pattern.text == 'a "b" , > \\ c'
    (pattern,) = parse("flushed @ 'it[1] @ \"x\"' > 0.5").patterns
    assert pattern.text == 'it[1] @ "x"'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("+2", 2.0),
        ("-3", -3.0),
        ("5%", 0.05),
        ("2^10", 1024.0),
        ("2^-3", 0.125),
        ("-2^2", -4.0),
        ("1.", 1.0),
    ],
)
def test_numbers(text: str, value: float) -> None:
    assert parse(f"loss_gap > {text}").operands[0].number == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_exactly(value: float) -> None:
    assert parse_rule(f"loss_gap > {value!r}").limit == value


@pytest.mark.parametrize(
    ("rule", "character", "told"),
    [
        ("", 1, "begins with what it is about"),
        ("   ", 1, "begins with what it is about"),
        ("> 3", 1, "begins with what it is about"),
        ("flushd > 0.5", 1, "unknown quantity 'flushd': the nearest is flushed"),
        ("retension < 0.8", 1, "the nearest is retention"),
        ("flushed", 8, "compare it, as in flushed > 0.1"),
        ("flushed >", 10, "missing after >"),
        ("flushed = 0.5", 9, "write == or !="),
        ("flushed > x", 11, "'x' is none"),
        ("flushed > 1e-3 1", 16, "one word too many"),
        ("flushed > 1e-3x", 15, "one word too many"),
        ("flushed > 1e999", 11, "no finite number"),
        ("flushed > 2^99999", 11, "no finite number"),
        ("flushed > 0^-1", 11, "no finite number"),
        ("flushed[ > 0.5", 10, "word is missing between the brackets"),
        ("flushed[bf16 > 0.5", 14, "not closed with ]"),
        ("flushed[bf16,] > 0.5", 14, "missing after the comma"),
        ("flushed[bff16] > 0.5", 9, "unknown qualifier 'bff16': the nearest is bf16"),
        ("flushed[gradiant] > 0.5", 9, "the nearest is gradient"),
        ("flushed[bf16,fp16] > 0.5", 14, "second format"),
        ("flushed[unscaled,2^3] > 0.5", 18, "second scale"),
        ("flushed[3] > 0.5", 9, "no loss scale: write a power of two"),
        ("flushed[2^65] > 0.5", 9, "no loss scale"),
        ("flushed[-4] > 0.5", 9, "no loss scale"),
        ("retention[2^3] < 0.5", 11, "judged at no loss scale"),
        ("minimum_log2[bf16] > 3", 14, "takes no brackets"),
        ("minimum_log2 @ x > 3", 16, "takes no @ pattern"),
        ("final_loss @ x > 3", 14, "chosen in brackets"),
        ("flushed @ > 0.5", 11, "name or pattern is missing"),
        ("flushed @", 10, "name or pattern is missing"),
        ("flushed @ a, > 0.5", 14, "name or pattern is missing"),
        ('flushed @ "a > 0.5', 11, "never closed"),
        ('flushed "a" > 0.5', 9, "quotes are for patterns"),
        ("flushed > 0.5 @ a @ b", 19, "one word too many"),
        ("flushed # 3", 9, "means nothing in a rule"),
        ("loss_scale", 11, "say which loss_scale: not_needed, static"),
        ("loss_scale > 3", 14, "is a word"),
        ("loss_scale imposible", 12, "unknown loss_scale 'imposible': the nearest is impossible"),
        ("loss_scale is", 14, "missing after 'is'"),
        ("loss_scale is not", 18, "missing after 'is not'"),
        ("loss_scale static,", 19, "missing after the comma"),
        ("loss_scale == 3", 15, "unknown loss_scale '3'"),
        ("diverged yes", 10, "stands alone"),
        ("diverged > 0", 12, "stands alone"),
        ("finding", 8, "name the finding"),
        ("finding > 3", 11, "name the finding"),
        ("finding is not overflow", 16, "name the finding"),
        ("finding overflow_risk", 9, "unknown finding 'overflow_risk': the nearest is overflow"),
        ("severity", 9, "say which severity"),
        ("severity >= warn", 13, "unknown severity 'warn': the nearest is warning"),
    ],
)
def test_an_error_names_the_place_and_the_nearest_word(
    rule: str, character: int, told: str
) -> None:
    with pytest.raises(RuleError) as raised:
        parse_rule(rule)
    message = str(raised.value)
    assert f", character {character}: " in message
    assert told in message
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "rule",
    [
        "flushed > 1",
        "flushed > 100%",
        "flushed >= 1.5",
        "flushed < 0",
        "flushed <= -1",
        "flushed == 2",
        "retention > 1",
        "non_finite < 0",
        "severity > critical",
        "severity < ok",
        "severity not ok, advice, warning, critical",
        "loss_scale is not not_needed, static, dynamic, impossible, unknown",
        "promise != kept, broken",
    ],
)
def test_a_rule_that_can_never_hit_is_refused(rule: str) -> None:
    with pytest.raises(RuleError, match=r"can never hit|one word too many"):
        parse_rule(rule)


@pytest.mark.parametrize(
    "rule",
    ["flushed >= 1", "flushed <= 0", "retention >= 1", "severity >= critical", "flushed != 2"],
)
def test_a_rule_that_only_its_bound_hits_is_not(rule: str) -> None:
    assert parse_rule(rule).text == rule


def test_a_percentage_that_was_meant_is_offered() -> None:
    with pytest.raises(RuleError, match=r"did you mean 5%\?"):
        parse_rule("flushed > 5")


@given(st.text())
@example("loss_scale\x00")
@example("\ud800 > 3")
@example("flushed > \uff19")
@example("flushed > 1^" + "9" * 5000)
@example("a" * 10_000)
def test_any_text_is_a_rule_or_a_usage_error(text: str) -> None:
    _rule_or_usage_error(text)


@given(st.lists(PIECES, max_size=12), st.sampled_from(["", " "]))
def test_any_words_are_a_rule_or_a_usage_error(words: list[str], between: str) -> None:
    _rule_or_usage_error(between.join(words))


def _rule_or_usage_error(text: str) -> None:
    _read(parse_waiver, text)
    rule = _read(parse_rule, text)
    if rule is not None:
        assert rule.quantity.name in text
        assert parse_rule(rule.text) == rule or math.isnan(rule.limit)


def _read(reader: Callable[[str], Any], text: str) -> Any:
    try:
        return reader(text)
    except UsageError as error:
        assert error.args[0]  # noqa: PT017 - either outcome is right; an error has words
        return None


@given(st.text())
def test_the_words_are_found_where_they_stand(text: str) -> None:
    try:
        tokens = tokenise(text)
    except RuleError:
        return
    assert tokens[-1].position == len(text)
    positions = [token.position for token in tokens]
    assert positions == sorted(positions)
    for token in tokens[:-1]:
        assert token.kind == "pattern" or text.startswith(token.text, token.position)
