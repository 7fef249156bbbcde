"""Whether a file is a model file or a script: judged by its source, star imports included."""

from __future__ import annotations

from pathlib import Path

import pytest

from precscope.script.target import is_script
from precscope.workload import load_workload, missing_names

PARTS = """import torch
def model(): return torch.nn.Linear(2, 1)
def batches(): yield torch.ones(3, 2)
def loss(model, batch): return model(batch).mean()
def _hidden(): ...
"""
MUST_NOT_RUN = "\nraise RuntimeError('looking at a file must not run another one')\n"

KINDS: dict[str, tuple[dict[str, str], list[str]]] = {
    "beside it": ({"file.py": "from parts import *", "parts.py": PARTS}, []),
    "a package": (
        {
            "file.py": "from kit.inner import *",
            "kit/__init__.py": "",
            "kit/inner/__init__.py": "from ..deep import *\nfrom .own import *",
            "kit/inner/own.py": "def loss(m, b): ...",
            "kit/deep.py": "def model(): ...\nbatches = model",
        },
        [],
    ),
    "only what is listed": (
        {"file.py": "from parts import *", "parts.py": f"__all__ = ['model', 'loss']\n{PARTS}"},
        ["batches"],
    ),
    "a circle": (
        {"file.py": "from a import *", "a.py": "from b import *", "b.py": "from a import *"},
        ["model", "batches", "loss"],
    ),
    "variables": (
        {"file.py": "from a import *", "a.py": "model = Net()\nloss = model(1)\nbatches = []"},
        ["model", "batches", "loss"],
    ),
    "not there": ({"file.py": "from nowhere.at import *"}, ["model", "batches", "loss"]),
    "not Python": (
        {"file.py": "from a import *", "a.py": "def ("},
        ["model", "batches", "loss"],
    ),
    "a fallback": (
        {
            "file.py": "try:\n    import fast\nexcept ImportError:\n    from parts import *",
            "parts.py": PARTS,
        },
        [],
    ),
}


def written(folder: Path, files: dict[str, str], end: str) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + end)
    return folder / "file.py"


@pytest.mark.parametrize("kind", KINDS)
def test_star_imports_count_as_definitions_and_nothing_is_run(tmp_path: Path, kind: str) -> None:
    files, missing = KINDS[kind]
    path = written(tmp_path, files, MUST_NOT_RUN)
    assert missing_names(path) == missing
    assert is_script(path) == (len(missing) > 1)


def test_a_model_file_made_of_a_star_import_loads(tmp_path: Path) -> None:
    path = written(tmp_path, {"file.py": "from the_parts import *", "the_parts.py": PARTS}, "\n")
    assert not is_script(path)
    assert load_workload(path).name == "file"


def test_installed_packages_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    written(installed, {"file.py": "", "zoo.py": PARTS}, "")
    monkeypatch.syspath_prepend(str(installed))
    assert is_script(written(tmp_path, {"file.py": "from zoo import *"}, ""))
