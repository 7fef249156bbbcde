"""The zoo of benchmarks/zoo.py: watching changes no bit of any architecture."""

from __future__ import annotations

import pytest

from benchmarks.zoo import compare, zoo


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize("name", zoo())
def test_watching_changes_no_bit(name: str) -> None:
    row = compare(name, steps=2)
    assert not row.crash
    assert row.good, row


def test_the_zoo_holds_the_families_of_transformers() -> None:
    names = zoo()
    assert sum(name.startswith("transformers ") for name in names) >= 12
    assert len(names) >= 40
