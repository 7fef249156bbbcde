from __future__ import annotations

import pickle
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from precscope.errors import WorkloadError
from precscope.workload import is_model_file, load_workload, missing_names

Write = Callable[..., Path]


def test_loads_the_functions_of_the_contract(write: Write) -> None:
    path = write()
    workload = load_workload(path)
    assert workload.name == "toy"
    assert workload.path == path
    assert isinstance(workload.model(), torch.nn.Linear)
    assert workload.evaluate is None


def test_a_file_without_optimizer_gets_adamw(write: Write) -> None:
    workload = load_workload(write())
    optimizer = workload.optimizer(workload.model())
    assert workload.default_optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_the_default_optimizer_leaves_frozen_parameters_out(write: Write) -> None:
    workload = load_workload(write())
    model = workload.model()
    model.bias.requires_grad_(False)
    assert workload.optimizer(model).param_groups[0]["params"] == [model.weight]


def test_an_optimizer_of_the_file_is_used(write: Write) -> None:
    source = "def optimizer(model):\n    return torch.optim.SGD(model.parameters(), lr=0.5)"
    workload = load_workload(write(optimizer=source))
    assert not workload.default_optimizer
    assert isinstance(workload.session(0).optimizer, torch.optim.SGD)


def test_the_main_block_does_not_run(write: Write) -> None:
    path = write(main='if __name__ == "__main__":\n    raise SystemExit("ran")')
    assert load_workload(path).path == path


def test_loading_leaves_random_state_and_path_alone(write: Write) -> None:
    path = write(top="import torch, random\nnoise = torch.randn(3)\ncoin = random.random()")
    torch.manual_seed(7)
    random.seed(7)
    expected = torch.randn(4), random.random()
    before = list(sys.path)
    torch.manual_seed(7)
    random.seed(7)
    load_workload(path)
    assert torch.equal(torch.randn(4), expected[0])
    assert random.random() == expected[1]
    assert sys.path == before


def test_loading_leaves_no_cache_file_beside_the_model_file(write: Write, tmp_path: Path) -> None:
    load_workload(write())
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.py"]


def test_a_file_edited_between_two_loads_is_read_again(write: Write) -> None:
    first = load_workload(write(extra="SIZE = 1"))
    second = load_workload(write(extra="SIZE = 2"))
    sizes = [workload.model.__globals__["SIZE"] for workload in (first, second)]
    assert sizes == [1, 2]


def test_modules_beside_the_file_are_importable_then_and_later(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("beside_now", "beside_later"):
        (tmp_path / f"{name}.py").write_text("WIDTH = 3")
        monkeypatch.setitem(sys.modules, name, None)  # so that both are forgotten afterwards
        del sys.modules[name]
    later = "def model():\n    import beside_later as b\n    return torch.nn.Linear(b.WIDTH, 1)"
    workload = load_workload(write(top="import torch\nimport beside_now", model=later))
    assert workload.session(0).model.weight.shape == (1, 3)


def test_classes_of_the_file_pickle_and_dataclasses_work(write: Write) -> None:
    top = "\n".join(
        [
            "from __future__ import annotations",
            "from dataclasses import dataclass, KW_ONLY",
            "import torch",
            "@dataclass",
            "class Batch:",
            "    x: torch.Tensor",
            "    _: KW_ONLY",
            "    size: int = 2",
        ]
    )
    batches = "def batches():\n    yield Batch(torch.ones(2, 3))"
    loss = "def loss(model, batch):\n    return model(batch.x).mean()"
    batch = next(load_workload(write(top=top, batches=batches, loss=loss)).session(0).batches())
    assert pickle.loads(pickle.dumps(batch)).size == 2


def test_a_batch_that_is_a_dict_of_the_file_s_own_keeps_its_type(write: Write) -> None:
    top = "\n".join(
        [
            "import torch",
            "class Batch(dict):",
            "    def __getattr__(self, name):",
            "        return self[name]",
        ]
    )
    batches = "def batches():\n    yield Batch(x=torch.ones(2, 3))"
    loss = "def loss(model, batch):\n    return model(batch.x).mean()"
    session = load_workload(write(top=top, batches=batches, loss=loss)).session(0)
    assert session.loss(next(session.batches())).requires_grad


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("from elsewhere import model, batches\nloss = model.loss", []),
        ("class model: ...\nbatches = lambda: []\nif True:\n    def loss(m, b): ...", []),
        ("try:\n    from a import loss\nexcept ImportError:\n    pass", ["model", "batches"]),
        (
            "model = Net()\nfor batch in data:\n    loss = model(batch)",
            ["model", "batches", "loss"],
        ),
        ("def train():\n    def model(): ...", ["model", "batches", "loss"]),
        ("", ["model", "batches", "loss"]),
    ],
)
def test_missing_names_are_found_without_running(
    tmp_path: Path, source: str, missing: list[str]
) -> None:
    path = tmp_path / "some.py"
    path.write_text(source + "\nraise RuntimeError('this must not run')")
    assert missing_names(path) == missing
    assert is_model_file(path) == (not missing)


def test_looking_at_a_file_warns_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text('pattern = "\\d"')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_model_file(path)


def test_a_training_script_is_told_what_it_lacks(write: Write) -> None:
    path = write(model="model = torch.nn.Linear(3, 1)", loss=None)
    with pytest.raises(WorkloadError, match=r"lacks model\(\), loss\(model, batch\): define"):
        load_workload(path)
