"""README and docs: every link, file, make target, command and option that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from precscope_cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
SCRIPT = re.compile(r"\bpython ((?:benchmarks|examples|tests|cli)/[\w/]+\.py)")
TARGET = re.compile(r"(?:^ {4}|`)make ([a-z-]+)", re.MULTILINE)
COMMAND = re.compile(
    r"(?:^ {4,}(?:- run: )?|`|-m )precscope ([a-z][a-z-]*)([^`\n|#]*)", re.MULTILINE
)
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchors(text: str) -> set[str]:
    """Fragments of the headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there, or to headings that their page does not have."""
    broken = []
    for link in LINK.findall(text):
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (fragment and fragment not in anchors(target.read_text())):
            broken.append(link)
    return broken


def unknown_commands(text: str) -> list[str]:
    """Commands of precscope, and options of them, that do not exist."""
    unknown = []
    for name, rest in COMMAND.findall(text):
        found = cli.get_command(None, name)  # type: ignore[arg-type]
        if found is None:
            unknown.append(name)
            continue
        known = {option for p in found.params for option in (*p.opts, *p.secondary_opts)}
        own = re.split(r" -- |(?<=\s)'", rest)[0]
        unknown += [f"{name} {option}" for option in OPTION.findall(own) if option not in known]
    return unknown


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


@pages
def test_every_command_exists(page: Path) -> None:
    assert unknown_commands(page.read_text()) == []


@pages
def test_every_script_and_target_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # A name in capitals or a lone x stands for any file of the folder.
    scripts = [name for name in SCRIPT.findall(text) if Path(name).stem not in ("x", "NAME")]
    assert [name for name in scripts if not (ROOT / name).is_file()] == []
    assert set(TARGET.findall(text)) <= targets


def test_these_tests_can_fail() -> None:
    page = ROOT / "README.md"
    assert broken_links(page, "[a](docs/none.md) [b](docs/json.md#none) [c](docs/json.md)") == [
        "docs/none.md",
        "docs/json.md#none",
    ]
    text = (
        "    precscope analyse x\n    precscope train m.py --step 3  # --none\n`precscope doctor`"
    )
    assert unknown_commands(text) == ["analyse", "train --step"]
    assert len(COMMAND.findall(page.read_text())) >= 9
