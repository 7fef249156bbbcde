from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.packaging import check_wheel

DIST_INFO = "precscope-0.1.0.dist-info/METADATA"


def write_wheel(path: Path, names: set[str]) -> str:
    with zipfile.ZipFile(path / "x.whl", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return str(path / "x.whl")


def test_the_marker_files_and_assets_are_required() -> None:
    required = check_wheel.required_names()
    packages = ("precscope", "precscope_cli", "precscope_reports")
    assert {f"{package}/py.typed" for package in packages} <= required
    assert {f"{package}/__init__.py" for package in packages} <= required
    assert any(name.endswith((".js", ".css")) for name in required)
    assert not any(name.endswith(".pyc") for name in required)


def test_a_whole_wheel_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = write_wheel(tmp_path, check_wheel.required_names() | {DIST_INFO})
    assert check_wheel.main([wheel]) == 0
    assert "nothing foreign, nothing missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["cli/__init__.py", "reports/html.py", "tests/test_x.py", "precscopes/x.py"]
)
def test_a_generic_package_in_a_wheel_is_refused(tmp_path: Path, name: str) -> None:
    wheel = write_wheel(tmp_path, check_wheel.required_names() | {DIST_INFO, name})
    assert check_wheel.main([wheel]) == 1


def test_a_missing_type_marker_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, check_wheel.required_names() - {"precscope_cli/py.typed"})
    assert check_wheel.main([wheel]) == 1
