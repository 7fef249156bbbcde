"""``docs/architecture.md`` says what the tree is: its folders, its paths, who imports whom."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SOURCES = ("precscope", "cli/precscope_cli", "reports/precscope_reports")
IN_CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"^[\w./{},-]+(?:/|\.py|\.md|\.toml)$")
FOLDER_OF_THE_LIBRARY = ROOT / "precscope"


def folders() -> list[str]:
    """Every folder that holds source, as the page writes it."""
    found = [path for source in SOURCES for path in (ROOT / source).rglob("*") if path.is_dir()]
    named = [path.relative_to(ROOT).as_posix() for path in found if path.name != "__pycache__"]
    return [f"{name}/" for name in (*SOURCES, *sorted(named)) if name != "precscope"]


def paths_in(page: str) -> list[str]:
    """Every path in code style, braces expanded."""
    return [one for text in IN_CODE.findall(page) if PATH.match(text) for one in expanded(text)]


def expanded(text: str) -> list[str]:
    match = re.search(r"\{([^}]*)\}", text)
    if match is None:
        return [text]
    return [text.replace(match.group(), name, 1) for name in match.group(1).split(",")]


def is_there(path: str) -> bool:
    """Whether a path exists, as seen from the root or from the library."""
    found = [folder / path for folder in (ROOT, FOLDER_OF_THE_LIBRARY)]
    return any(p.is_dir() if path.endswith("/") else p.is_file() for p in found)


def rooms() -> dict[str, int]:
    """The row of the table in which each room of the library stands."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    return {
        Path(name).name.removesuffix(".py"): place
        for place, cell in enumerate(rows)
        for name in IN_CODE.findall(cell)
        if not name.startswith(("cli/", "reports/"))
    }


def imported(file: Path) -> set[str]:
    """Rooms that a file of the library imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "precscope":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("precscope."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("precscope.")}
    return found & set(rooms())


@pytest.mark.parametrize("folder", folders())
def test_every_folder_is_named(folder: str) -> None:
    assert f"`{folder}`" in PAGE


@pytest.mark.parametrize("path", paths_in(PAGE))
def test_every_path_named_exists(path: str) -> None:
    assert is_there(path)


def test_every_room_imports_only_rooms_above_it() -> None:
    places = rooms()
    backwards = {
        f"{file.relative_to(ROOT)} imports {room}"
        for file in FOLDER_OF_THE_LIBRARY.rglob("*.py")
        for own in [file.relative_to(FOLDER_OF_THE_LIBRARY).parts[0].removesuffix(".py")]
        if own not in ("__init__", "__main__")
        for room in imported(file) - {own}
        if places[room] > places[own] or (places[room] == places[own] != 0)
    }
    assert backwards == set()


def test_every_dependency_is_named() -> None:
    project = (ROOT / "pyproject.toml").read_text().split("[dependency-groups]")[0]
    required = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert required is not None
    extras = re.findall(r"^(\w+) = \[", project.split("optional-dependencies]")[1], re.MULTILINE)
    names = [*re.findall(r'"([a-z0-9-]+)', required.group(1)), *extras]
    assert len(names) >= 10
    assert [name for name in names if name not in PAGE] == []


def test_these_tests_can_fail() -> None:
    assert paths_in("`rules/{sites,runs}.py` and `advice/`, `x = 1`") == [
        "rules/sites.py",
        "rules/runs.py",
        "advice/",
    ]
    assert is_there("advice/")
    assert not is_there("advise/")
    assert not is_there("docs/architecture")
    assert imported(FOLDER_OF_THE_LIBRARY / "result" / "build.py") >= {"advice", "recording"}
