"""Nothing of the machine on which a file was written stays in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE_PATH = re.compile(
    # Written so that this file does not match itself.
    r"(?<![\w/.~-])/(?:home|Users|root|work|opt|mnt)/[A-Za-z_][\w.-]*|[A-Z]:\\\\?Users\\\\?\w"
)


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("NOT RUN: needs a git checkout to know which files are ours")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def machine_paths(text: str) -> list[str]:
    """Absolute paths that mean something on one machine only."""
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    files = tracked_files()
    assert len(files) > 20
    found = {
        str(path.relative_to(ROOT)): hits
        for path in files
        if (hits := machine_paths(path.read_bytes().decode("utf-8", "replace")))
    }
    assert found == {}


def test_no_tracked_file_is_large() -> None:
    large = {path.name: size for path in tracked_files() if (size := path.stat().st_size) > 2**20}
    assert large == {}


@pytest.mark.parametrize("folder", ["home", "Users", "root", "work", "opt"])
def test_a_machine_path_is_recognised(folder: str) -> None:
    assert machine_paths(f'open("/{folder}/somebody/run.precscope")')


@pytest.mark.parametrize("text", ["a/home/b", "https://example.org/home/x", "~/work/x", "(root)"])
def test_other_paths_are_not(text: str) -> None:
    assert machine_paths(text) == []
