"""DDP, FSDP1, FSDP2, meshes and tensor parallelism: observed as they are, on two processes.

What one process would count is counted, wherever each value exists once. Exceptions, by the
mathematics: gradients of activations are those of the rank's own mean loss (one octave up);
gradients that DDP accumulates in ``no_sync`` are those of a rank alone, of which rank 0's stand in
a merge; what tensor parallelism computes on every rank is counted on every rank.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

import precscope
from precscope import Recording
from precscope.histogram import ExponentHistogram
from tests.distributed.strategies import CASES, LOG2_SCALE, Case, exact_net, train
from tests.support.torchrun import torchrun

pytestmark = pytest.mark.distributed

ROUNDED = ("ddp fp16 hook", "ddp own hook", "fsdp2 bfloat16", "fsdp2 float16")
SCALED = [name for name, case in CASES.items() if case.scaler]
IN_PARTS = [name for name, case in CASES.items() if case.parts > 1]
EXACT = [name for name in CASES if name not in (*ROUNDED, *SCALED)]
WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "net")
Histograms = dict[tuple[str, str], ExponentHistogram]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, int], Any]]:
    """What two processes left behind and said, by case and rank."""
    folder = tmp_path_factory.mktemp("strategies")
    told = torchrun(str(Path(__file__).with_name("strategies.py")), str(folder))
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return folder, {(line["case"], line["rank"]): line for line in lines}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Histograms:
    """The same training in one process, on the whole batch."""
    path = tmp_path_factory.mktemp("alone") / "run.precscope"
    train(Case(exact_net), path, 0, 1)
    return histograms(Recording.open(path))


def histograms(recording: Recording) -> Histograms:
    """By name, without what wrappers put into it, and kind."""
    found = {}
    for index, site in enumerate(recording.sites):
        name = ".".join(part for part in site.name.split(".") if part not in WRAPPERS)
        found[name, str(site.kind)] = recording.histogram(index)
    return found


def same(one: ExponentHistogram, other: ExponentHistogram) -> bool:
    """Equal in every field: all sums here are exact."""
    return bool((one.counts == other.counts).all() and (one.powers == other.powers).all()) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("zeros", "infinities", "nans", "amax", "sum_abs", "sum_squares")
    )


def test_every_case_ran_on_both_ranks(ran: Any) -> None:
    assert ran[1].keys() == {(name, rank) for name in CASES for rank in (0, 1)}


@pytest.mark.parametrize("name", CASES)
def test_a_rank_trains_bit_identically_and_nothing_is_left(ran: Any, name: str) -> None:
    for rank in (0, 1):
        told = ran[1][name, rank]
        assert told["identical"]
        assert (told["left"], told["errors"], told["skipped"]) == ([], [], [])


@pytest.mark.parametrize("name", CASES)
def test_each_rank_leaves_a_readable_recording(ran: Any, name: str) -> None:
    for rank in (0, 1):
        recording = Recording.open(ran[0] / f"{name}.rank{rank}.precscope")
        assert recording.is_complete
        assert (recording.meta["rank"], recording.meta["world_size"]) == (rank, 2)
        assert len(recording.steps) == (3 if CASES[name].scaler else 2)


@pytest.mark.parametrize("name", EXACT)
def test_merged_counts_are_those_of_one_process(ran: Any, alone: Histograms, name: str) -> None:
    found = histograms(Recording.open(ran[0] / f"{name}.precscope"))
    for (site, kind), expected in alone.items():
        if name == "fsdp1 flat" and "." in site:
            continue  # in one flat parameter: see below
        if kind == "activation_gradient" and not (CASES[name].same_batch or CASES[name].adds):
            expected = expected.shifted(1)
        if CASES[name].same_batch and kind.startswith("activation") and site == "2":
            expected = expected.merged(expected)
        if kind == "weight_gradient" and name in IN_PARTS and name != "fsdp1 no_sync":
            continue  # partial sums of other micro-batches
        if kind == "weight_gradient" and name == "copied dtensors":
            continue  # partial sums of the ranks
        assert same(found[site, kind], expected), (site, kind)


@pytest.mark.parametrize("name", [n for n in CASES if n not in (*SCALED, *IN_PARTS)])
def test_weight_gradients_are_those_that_the_optimizer_gets(ran: Any, name: str) -> None:
    for rank in (0, 1):
        recording = Recording.open(ran[0] / f"{name}.rank{rank}.precscope")
        seen: dict[str, float] = defaultdict(float)
        for index, site in enumerate(recording.sites):
            if site.kind == "weight_gradient":
                seen[site.name] = recording.histogram(index).sum_abs
        told = ran[1][name, rank]["gradients"]
        assert {n: v for n, v in seen.items() if v} == {n: v for n, v in told.items() if v}


@pytest.mark.parametrize("name", [name for name in IN_PARTS if name.startswith("ddp")])
def test_partial_sums_of_no_sync_are_those_of_the_rank(ran: Any, name: str) -> None:
    ranks = [histograms(Recording.open(ran[0] / f"{name}.rank{rank}.precscope")) for rank in (0, 1)]
    merged = histograms(Recording.open(ran[0] / f"{name}.precscope"))
    key = ("0.weight", "weight_gradient")
    assert ranks[0][key].total == ranks[1][key].total == 2 * 2 * 24
    assert not same(ranks[0][key], ranks[1][key])
    assert same(merged[key], ranks[0][key])


def test_a_flat_parameter_is_the_sum_of_its_parts_and_its_padding(
    ran: Any, alone: Histograms
) -> None:
    found = histograms(Recording.open(ran[0] / "fsdp1 flat.precscope"))
    for layer, padding in (("0", 0), ("2", 1)):
        for kind in ("weight", "weight_gradient"):
            parts = alone[f"{layer}.weight", kind].merged(alone[f"{layer}.bias", kind])
            flat = found[f"{layer}._flat_param", kind]
            assert (flat.counts == parts.counts).all()
            assert flat.zeros == parts.zeros + 2 * padding
            assert flat.sum_abs == parts.sum_abs


@pytest.mark.parametrize("rank", [0, 1])
def test_sites_have_the_shape_of_the_whole_parameter(ran: Any, rank: int) -> None:
    for name in ("fsdp1", "hybrid shards", "tensor parallel"):
        recording = Recording.open(ran[0] / f"{name}.rank{rank}.precscope")
        shapes = {s.shape for s in recording.sites if s.kind == "weight"}
        assert shapes == {(6, 4), (6,), (1, 6), (1,)}


def test_gradients_are_seen_behind_a_communication_hook(ran: Any, alone: Histograms) -> None:
    found = histograms(Recording.open(ran[0] / "ddp own hook.precscope"))
    key = ("0.weight", "weight_gradient")
    assert found[key].total == alone[key].total
    assert found[key].sum_abs != alone[key].sum_abs
    assert found[key].sum_abs == pytest.approx(alone[key].sum_abs, rel=2**-8)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_fsdp2_shows_half_activations_and_fp32_shards(ran: Any, dtype: str) -> None:
    recording = Recording.open(ran[0] / f"fsdp2 {dtype}.precscope")
    kinds = {site.kind: site.dtype for site in recording.sites}
    assert kinds["activation"] == kinds["activation_gradient"] == dtype
    assert kinds["weight"] == kinds["weight_gradient"] == "float32"


@pytest.mark.parametrize("name", SCALED)
def test_a_step_that_one_rank_overflows_is_skipped_on_all(ran: Any, name: str) -> None:
    for path in (f"{name}.rank0.precscope", f"{name}.rank1.precscope", f"{name}.precscope"):
        recording = Recording.open(ran[0] / path)
        bad = recording.document("non_finite")["steps"]
        assert [(mark["step"], mark["skipped"]) for mark in bad] == [(1, True)]
        scales = [step.log2_scale for step in recording.steps]
        assert scales == [LOG2_SCALE, LOG2_SCALE, LOG2_SCALE - 1]
        assert {window.steps for rows in recording.updates.values() for window in rows} == {2}


def test_a_merged_run_gives_advice(ran: Any) -> None:
    for name in ("fsdp1", "tensor parallel", "hybrid copies"):
        advice = precscope.advise(Recording.open(ran[0] / f"{name}.precscope"))
        assert advice.recipe.compute_dtype in {"float16", "bfloat16", "float32"}
        assert torch.isfinite(torch.tensor(advice.loss_scale.minimum_log2 or 0.0))
