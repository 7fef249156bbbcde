"""The definitions: each term once, and true."""

from __future__ import annotations

from precscope.histogram import MEAN_SIGNIFICAND
from precscope.result.definitions import definitions

TERMS = {entry["term"]: entry["definition"] for entry in definitions()}


def test_each_term_is_defined_once_in_full_sentences() -> None:
    assert len(TERMS) == len(definitions()) == 20
    assert all(TERMS.values())


def test_the_bound_on_the_l1_mass_holds_at_both_ends_of_an_octave() -> None:
    assert "the truth is within a third of that" in TERMS["L1 mass"]
    for truth in (1.0, 2.0):
        assert abs(truth - MEAN_SIGNIFICAND) <= MEAN_SIGNIFICAND / 3
        assert MEAN_SIGNIFICAND - 1.0 > 1.0 / 3  # it is not within a third of the truth
