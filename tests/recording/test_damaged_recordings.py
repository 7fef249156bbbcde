"""Every damaged file gives the undamaged answer or one clear line, whatever reads it."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from precscope.errors import RecordingError
from precscope.recording import Recording
from precscope_cli.main import cli
from tests.support import damaged_files
from tests.support.damaged_files import MARK, Case

EVERY_LEAF = 12
"""Of the forged leaves every twelfth is tried here; ``benchmarks/hostile.py`` tries them all."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Recording with everything in it that an analysis can record."""
    return damaged_files.good_recording(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def all_cases(good: Path) -> Sequence[Case]:
    return damaged_files.cases(good.read_bytes())


@pytest.fixture
def spoiled(good: Path, tmp_path: Path) -> Callable[[Case], Path]:
    numbers = itertools.count()

    def make(case: Case) -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        case.make(good.read_bytes(), folder / "case.precscope")
        return folder / "case.precscope"

    return make


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def outcome(case: Case, result: Result) -> str:
    """``read`` or ``refused``; anything else is a failure."""
    told = f"{case.group}: {case.name}: {result.stderr}"
    assert isinstance(result.exception, SystemExit | None), told
    if result.exit_code == 0:
        return "read"
    assert result.exit_code in (1, 2), told
    assert result.stderr.startswith("error: "), told
    assert result.stderr.count("\n") == 1, told
    assert "Traceback" not in result.stderr, told
    return "refused"


def test_there_are_more_than_two_hundred_cases(all_cases: Sequence[Case]) -> None:
    assert len([case for case in all_cases if not case.is_forged]) >= 200
    names = Counter((case.group, case.name) for case in all_cases)
    assert names.most_common(1)[0][1] == 1


def test_damage_never_shows_as_another_number(
    all_cases: Sequence[Case], good: Path, spoiled: Callable[[Case], Path]
) -> None:
    truth = call("report", good, "--json", "-").stdout
    found: Counter[str] = Counter()
    for case in (case for case in all_cases if not case.is_forged):
        path = spoiled(case)
        answer = call("report", path, "--json", "-")
        found[outcome(case, answer)] += 1
        if answer.exit_code == 0:
            assert answer.stdout == truth, f"{case.group}: {case.name}"
        opened = opens(path)
        assert opened == (answer.exit_code == 0), f"{case.group}: {case.name}"
        path.unlink(missing_ok=True) if not path.is_dir() else shutil.rmtree(path)
    assert found["refused"] > 150
    assert found["read"] > 20


def opens(path: Path) -> bool:
    try:
        Recording.open(path)
    except RecordingError:
        return False
    return True


@pytest.fixture(scope="module")
def few_cases(all_cases: Sequence[Case]) -> list[Case]:
    """Some of each group."""
    by_group: dict[str, list[Case]] = {}
    for case in all_cases:
        by_group.setdefault(case.group, []).append(case)
    return [case for found in by_group.values() for case in found[:: max(1, len(found) // 8)]]


def test_comparing_and_exporting_damaged_files_is_as_safe(
    few_cases: list[Case], good: Path, spoiled: Callable[[Case], Path]
) -> None:
    found: Counter[str] = Counter()
    for case in few_cases:
        path = spoiled(case)
        for command in (("compare", good, path), ("compare", path, good)):
            found[outcome(case, call(*command, "--json", "-"))] += 1
        outcome(case, call("export", path, "--csv", path.with_suffix(".csv"), "-q"))
        outcome(case, call("watch", path, "--once"))
        outcome(case, call("check", path, "--fail-on", "flushed_l1 > 1"))
    assert found["refused"] > 50
    assert found["read"] > 50


def forged(all_cases: Sequence[Case]) -> Iterator[Case]:
    leaves = [case for case in all_cases if case.group == "forged leaves"]
    yield from leaves[::EVERY_LEAF]
    yield from (case for case in all_cases if case.is_forged and case.group != "forged leaves")


def test_forged_content_is_shown_as_it_is_or_refused(
    all_cases: Sequence[Case], spoiled: Callable[[Case], Path]
) -> None:
    found: Counter[str] = Counter()
    for case in forged(all_cases):
        found[outcome(case, call("report", spoiled(case)))] += 1
    assert found["refused"] > 30
    assert found["read"] > 30


def test_forged_text_is_never_markup(
    all_cases: Sequence[Case], good: Path, spoiled: Callable[[Case], Path]
) -> None:
    pages = 0
    marked = [case for case in all_cases if case.is_forged and "<b" in case.name]
    for case in marked[::EVERY_LEAF]:
        path = spoiled(case)
        reported, compared = path.with_name("report.html"), path.with_name("compare.html")
        outcome(case, call("report", path, "-q", "-o", reported))
        outcome(case, call("compare", good, path, "-q", "-o", compared))
        for page in (page for page in (reported, compared) if page.exists()):
            pages += 1
            assert MARK not in page.read_text(), f"{case.group}: {case.name}"
    assert pages > 10
