"""The examples of docs/integrations.md run as they stand and leave a Recording."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import wandb

import precscope

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning:lightning.pytorch.utilities")
@pytest.mark.filterwarnings("ignore:.*num_workers:UserWarning:lightning.pytorch.trainer")
@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning:lightning.pytorch")
@pytest.mark.parametrize(
    ("example", "steps"),
    list(zip(EXAMPLES, (8, 12, 10, 10), strict=True)),
    ids=["lightning", "transformers", "tensorboard", "wandb"],
)
def test_an_example_runs(
    example: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("SILENT", "DISABLE_GIT", "DISABLE_CODE", "X_DISABLE_STATS", "X_DISABLE_META"):
        monkeypatch.setenv(f"WANDB_{name}", "true")
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    wandb.teardown()
    (path,) = tmp_path.glob("*.precscope")
    recording = precscope.Recording.open(path)
    assert recording.is_complete
    assert len(recording.steps) == steps
