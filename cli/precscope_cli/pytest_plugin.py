"""pytest plug-in: the fixture ``precscope_check``. Importing it brings in nothing but pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from precscope_cli.check_pytest import PrecscopeCheck

OPTIONS = {
    "precscope_fail_on": ("linelist", "rules of precscope_check, one per line (docs/check.md)"),
    "precscope_waive": ("linelist", "waivers of precscope_check, as WHAT [@ PATTERN]: REASON"),
    "precscope_steps": ("string", "training steps that precscope_check observes"),
    "precscope_every": ("string", "precscope_check observes every N-th step"),
    "precscope_seed": ("string", "seed of precscope_check"),
    "precscope_device": ("string", "device of precscope_check: auto, cpu, cuda or cuda:N"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the options known that may stand in the ini file."""
    for name, (kind, told) in OPTIONS.items():
        parser.addini(name, told, type=kind)  # type: ignore[arg-type]


@pytest.fixture
def precscope_check(request: pytest.FixtureRequest) -> PrecscopeCheck:
    """Fail the test if a precision rule is hit.

    ``precscope_check(model, batches, loss, rules=["flushed_l1 > 1e-3"])`` analyzes a model;
    ``precscope_check(run, rules=[...])`` takes a Recording, a result, or the path of a run or of a
    model file. Without ``rules``, those of the ini file or of ``[tool.precscope]`` are checked.
    Returns the result, a dict (docs/json.md).
    """
    from precscope_cli.check_pytest import PrecscopeCheck

    return PrecscopeCheck(request)
