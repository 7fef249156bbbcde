"""DDP and FSDP2 on two processes: one Recording per rank, and together the whole training.

Each rank's loss is the mean over half of the global batch, so the gradients of its activations
are twice those of one process, a shift by exactly one octave. DDP and FSDP2 average parameter
gradients over the ranks: those are the gradients of the global mean, on every rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from precscope import Recording
from precscope.histogram import ExponentHistogram
from tests.distributed.training import train
from tests.support.torchrun import torchrun

pytestmark = pytest.mark.distributed

WRAPPERS = ("ddp", "ddp inside", "fsdp")
Histograms = dict[tuple[str, str], ExponentHistogram]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left behind that trained with every wrapper, watched and not."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(str(Path(__file__).with_name("training.py")), str(folder))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Histograms:
    """The same training on the whole batch in one process."""
    path = tmp_path_factory.mktemp("alone") / "run.precscope"
    train("none", path)
    return histograms(Recording.open(path))


def histograms(recording: Recording) -> Histograms:
    return {
        (site.name, site.kind): recording.histogram(index)
        for index, site in enumerate(recording.sites)
    }


def results(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"results.rank{rank}")


def same(one: ExponentHistogram, other: ExponentHistogram) -> bool:
    """Equal in every field: all sums here are exact."""
    return bool((one.counts == other.counts).all() and (one.powers == other.powers).all()) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("zeros", "infinities", "nans", "amax", "sum_abs", "sum_squares")
    )


def test_the_arithmetic_of_this_training_is_exact() -> None:
    single, double = train("none", None), train("none", None, dtype=torch.float64)
    for key in ("losses", "weights"):
        for a, b in zip(single[key], double[key], strict=True):
            assert torch.equal(a.double(), b)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_watched_rank_trains_bit_identically(folder: Path, wrapper: str, rank: int) -> None:
    found = results(folder, rank)
    for key in ("losses", "weights"):
        pairs = zip(found[wrapper][key], found[f"{wrapper} watched"][key], strict=True)
        assert all(torch.equal(plain, watched) for plain, watched in pairs)
    assert all(
        torch.equal(a, b)
        for a, b in zip(found[wrapper]["weights"], train("none", None)["weights"], strict=True)
    )


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_each_rank_writes_a_recording_of_its_own(folder: Path, wrapper: str) -> None:
    for rank in (0, 1):
        recording = Recording.open(folder / f"{wrapper}.rank{rank}.precscope")
        assert recording.is_complete
        assert (recording.meta["rank"], recording.meta["world_size"]) == (rank, 2)
    assert not (folder / f"{wrapper}.precscope").exists()


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_ranks_merge_to_the_counts_of_one_process(
    folder: Path, alone: Histograms, wrapper: str
) -> None:
    merged = Recording.open(folder / f"{wrapper}.precscope")
    assert merged.meta["ranks"] == 2
    found = histograms(merged)
    assert found.keys() == alone.keys()
    for (name, kind), expected in alone.items():
        if kind == "activation_gradient":
            expected = expected.shifted(1)
        assert same(found[name, kind], expected), (name, kind)


@pytest.mark.parametrize("wrapper", ["ddp", "ddp inside"])
def test_every_rank_of_ddp_sees_the_reduced_gradients(
    folder: Path, alone: Histograms, wrapper: str
) -> None:
    for rank in (0, 1):
        found = histograms(Recording.open(folder / f"{wrapper}.rank{rank}.precscope"))
        for name, kind in found:
            if kind in ("weight", "weight_gradient"):
                assert same(found[name, kind], alone[name, kind]), (name, kind)


def test_the_shards_of_fsdp_are_the_whole_parameter(folder: Path) -> None:
    ranks = [Recording.open(folder / f"fsdp.rank{rank}.precscope") for rank in (0, 1)]
    for index, site in enumerate(ranks[0].sites):
        if site.kind in ("weight", "weight_gradient"):
            values = torch.Size(site.shape).numel()
            totals = [rank.histogram(index).total for rank in ranks]
            assert sum(totals) == 2 * values, site
            assert totals[0] > totals[1], site
    assert ranks[0].sites[-1].shape == ranks[1].sites[-1].shape


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_update_samples_of_shards_add_up_and_copies_count_once(folder: Path, wrapper: str) -> None:
    merged = Recording.open(folder / f"{wrapper}.precscope")
    sampled = {name: windows[0].sampled for name, windows in merged.updates.items()}
    assert sampled == {"0.weight": 20, "0.bias": 5, "2.weight": 5, "2.bias": 1}
    assert all(windows[0].steps == 2 for windows in merged.updates.values())
