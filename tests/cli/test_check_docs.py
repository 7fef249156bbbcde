"""``docs/check.md`` says what the code does: its table, its examples and its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from precscope.rules import needs_training, parse_rule, parse_waiver
from precscope.rules.catalogue import QUANTITIES
from precscope.rules.findings import FINDINGS, SEVERITIES
from precscope.rules.quantity import Quantity
from precscope.rules.rule import known_qualifiers
from precscope_cli.check_reporting import HIT, NOT_JUDGED
from precscope_cli.settings import KEYS, WAIVER_KEYS, load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text()

OF = {
    "model": "the model",
    "sites": "each site",
    "parameters": "each parameter",
    "sums": "each sum",
    "modules": "the modules",
    "metrics": "each metric of each run",
    "findings": "each finding",
    "runs": "each run",
}


def row(quantity: Quantity) -> str:
    """The line of the table for a quantity."""
    unit = quantity.unit or "-"
    if quantity.sort == "word":
        unit = ", ".join(f"`{word}`" for word in quantity.words)
    if quantity.sort == "level":
        unit = " < ".join(f"`{word}`" for word in quantity.words)
    if quantity.sort == "flag":
        unit = "true or not"
    if quantity.sort == "finding":
        unit = "names"
    brackets = ", ".join(kind for kind in QUALIFIER_ORDER if kind in quantity.qualifiers)
    return (
        f"| `{quantity.name}` | {OF[quantity.over]} | {unit} | {brackets or '-'} "
        f"| {quantity.definition} |"
    )


QUALIFIER_ORDER = ("format", "kind", "scale", "recipe", "all")


@pytest.mark.parametrize("name", QUANTITIES)
def test_the_table_has_every_quantity_as_it_is(name: str) -> None:
    assert row(QUANTITIES[name]) in PAGE.splitlines()


def test_the_table_has_no_other_quantity() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:the model|each|the modules)", PAGE, re.MULTILINE)
    assert rows == list(QUANTITIES)


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_rule_and_waiver_in_the_page_means_something() -> None:
    rules = re.findall(r"--fail-on (?:\"([^\"]+)\"|'([^']+)')", PAGE)
    listed = [line.split("  #")[0].strip() for line in "".join(code_blocks("rules")).splitlines()]
    texts = [a or b for a, b in rules] + [line for line in listed if line]
    assert len(texts) > 15
    assert any(needs_training(parse_rule(text)) for text in texts)
    waivers = [a or b for a, b in re.findall(r"--waive (?:\"([^\"]+)\"|'([^']+)')", PAGE)]
    assert waivers
    assert all(parse_waiver(text).reason for text in waivers)


def test_the_settings_in_the_page_can_be_read(tmp_path: Path) -> None:
    (block,) = (block for block in code_blocks("toml") if "[tool.precscope]" in block)
    path = tmp_path / "pyproject.toml"
    path.write_text(block)
    found = load_settings(path)
    assert all(parse_rule(text) for text in found.fail_on)
    assert found.waivers


def test_the_page_names_every_key_word_and_exit_code() -> None:
    for word in (*KEYS, *WAIVER_KEYS, *FINDINGS, *SEVERITIES, *known_words()):
        assert f"`{word}`" in PAGE, word
    assert f"| {HIT} |" in PAGE
    assert f"| {NOT_JUDGED} |" in PAGE


def known_words() -> set[str]:
    return {word for quantity in QUANTITIES.values() for word in known_qualifiers(quantity)}
