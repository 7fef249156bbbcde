"""Every case of the suite comes out as its construction says."""

from __future__ import annotations

import pytest

from tests.known_answers.claims import Case
from tests.known_answers.suite import CASES, wrong


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_answer_is_the_known_one(case: Case) -> None:
    assert wrong(case) == [], case.why


def test_the_suite_is_large_and_its_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 20
    assert len(set(names)) == len(names)
