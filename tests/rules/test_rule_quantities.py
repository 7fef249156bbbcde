"""Every quantity: at its limit, beyond it, as no number, and absent."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from precscope.rules.catalogue import QUANTITIES
from precscope.rules.model import NOTHING_TO_SEE
from tests.rules.sample_run import is_hit, judged, parameter, run, sample, site

Result = dict[str, Any]

MASS = 1.5 * 2.0**-31 / (3.0 + 1.5 * 2.0**-31)

NUMBERS: dict[str, tuple[str, float]] = {
    # The rule up to its comparison, and the one value that it is about in the sample.
    "flushed": ("flushed[activation]", 0.25),
    "flushed_l1": ("flushed_l1[activation]", MASS),
    "subnormal": ("subnormal[weight]", 0.25),
    "overflow": ("overflow[activation, all] @ head", 0.5),
    "headroom_log2": ("headroom_log2[weight]", math.log2(65520.0) + 1.0),
    "amax": ("amax[gradient]", 2.0**-2),
    "non_finite": ("non_finite @ broken", 3.0),
    "minimum_log2": ("minimum_log2", 4.0),
    "maximum_log2": ("maximum_log2", 12.0),
    "recommended_log2": ("recommended_log2", 8.0),
    "safe_window_log2": ("safe_window_log2", 8.0),
    "gradient_error": ("gradient_error", 0.0625),
    "modules_not_seen": ("modules_not_seen", 1.0),
    "sites": ("sites", 4.0),
    "observed_steps": ("observed_steps", 60.0),
    "tensors_skipped": ("tensors_skipped", 3.0),
    "observer_errors": ("observer_errors", 2.0),
    "overhead_ratio": ("overhead_ratio", 1.5),
    "retention": ("retention @ *.weight", 0.75),
    "retention_0_1": ("retention_0_1 @ enc.0.bias", 0.5),
    "retention_0_01": ("retention_0_01 @ enc.0.bias", 0.25),
    "lost_updates": ("lost_updates @ enc.0.bias", 0.125),
    "accumulation_error": ("accumulation_error", 0.125),
    "final_loss": ("final_loss", 0.5),
    "loss_gap": ("loss_gap", 1.0),
    "skipped_steps": ("skipped_steps[fp16]", 50.0),
    "skipped_share": ("skipped_share", 0.02),
    "step_ms": ("step_ms", 8.0),
    "peak_memory_bytes": ("peak_memory_bytes", 1024.0),
    "metric": ("metric @ accuracy", 0.75),
}

WORDS = {
    "loss_scale": "static",
    "drift": "inside",
    "master_weights": "required",
    "accumulation": "fp32_required",
    "parity": "worse",
    "promise": "broken",
}


def with_broken_site() -> Result:
    result = sample()
    result["sites"].append(site("broken", "activation", 1.0, math.nan, math.nan, math.inf))
    return result


def test_every_quantity_is_tested_here() -> None:
    others = {"diverged", "finding", "severity"}
    assert set(NUMBERS) | set(WORDS) | others == set(QUANTITIES)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_hits_beyond_its_limit_and_not_at_it(name: str) -> None:
    rule, value = NUMBERS[name]
    result = with_broken_site() if name == "non_finite" else sample()
    below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    assert [is_hit(f"{rule} {op} {value!r}", result) for op in (">", ">=", "<", "<=")] == [
        False,
        True,
        False,
        True,
    ]
    assert is_hit(f"{rule} == {value!r}", result)
    assert not is_hit(f"{rule} != {value!r}", result)
    assert is_hit(f"{rule} > {below!r}", result)
    assert not is_hit(f"{rule} <= {below!r}", result)
    if above <= QUANTITIES[name].upper:
        assert is_hit(f"{rule} < {above!r}", result)
        assert not is_hit(f"{rule} >= {above!r}", result)


def spoil(result: Result, name: str) -> None:
    """Make the value that the rule of ``NUMBERS`` is about no number."""
    for entry in result["sites"]:
        entry["histogram"]["nans"] = 1
    spoiled: dict[str, Callable[[], Any]] = {
        "minimum_log2": lambda: result["loss_scale"].update(minimum_log2="NaN"),
        "maximum_log2": lambda: result["loss_scale"].update(maximum_log2=math.nan),
        "recommended_log2": lambda: result["loss_scale"].update(recommended_log2="NaN"),
        "safe_window_log2": lambda: result["loss_scale"].update(maximum_log2="NaN"),
        "gradient_error": lambda: result["loss_scale"]["curve"][0].update(gradient_error="NaN"),
        "sites": lambda: result["coverage"].update(sites=None),
        "observed_steps": lambda: result["coverage"].update(observed_steps=math.nan),
        "tensors_skipped": lambda: result["coverage"]["tensors_skipped"][0].update(count="NaN"),
        "observer_errors": lambda: result["coverage"]["observer_errors"][0].update(count=None),
        "overhead_ratio": lambda: result["timing"].update(overhead_ratio="Infinity"),
        "accumulation_error": lambda: result["accumulation"]["sites"][0].update(error_fp16=None),
    }
    for entry in result["master_weights"]["parameters"]:
        entry.update(retention=None, retention_0_1=None, retention_0_01="NaN")
        entry["lost_updates_fraction"] = math.nan if name == "lost_updates" else 0.5
    for entry in result["runs"]:
        entry.update(final_loss=None, skipped_steps=math.nan, metrics={"accuracy": None})
        entry.update(step_ms={"median": "NaN"}, peak_memory_bytes=math.nan)
    spoiled.get(name, lambda: None)()


COUNTED = {"non_finite", "modules_not_seen"}
"""They count; there is nothing in them that could be no number."""


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - COUNTED))
def test_what_is_no_number_always_hits(name: str) -> None:
    result = sample()
    spoil(result, name)
    rule, value = NUMBERS[name]
    for comparison in ("<", "<=", ">", ">=", "==", "!="):
        found = judged(f"{rule} {comparison} {value!r}", result)
        assert found.hits, comparison
        assert "no number" in found.hits[0].value


@pytest.mark.parametrize("name", WORDS)
def test_a_word_hits_if_it_is_named_and_only_then(name: str) -> None:
    word = WORDS[name]
    others = [w for w in QUANTITIES[name].words if w not in (word, "unknown")]
    assert is_hit(f"{name} {word}")
    assert is_hit(f"{name} is {word}")
    assert is_hit(f"{name} == {word}")
    assert is_hit(f"{name} is not {others[0]}")
    assert is_hit(f"{name} != {others[0]}")
    assert is_hit(f"{name} {others[0]}, {word}")
    assert not is_hit(f"{name} {', '.join(others)}")
    assert not is_hit(f"{name} is not {word}")


def test_a_run_that_diverged_hits_and_one_that_did_not_does_not() -> None:
    result = sample()
    assert not is_hit("diverged", result)
    result["runs"].append(run("advised", seed=1, diverged_at=7, final_loss=None, metrics={}))
    assert [hit.label for hit in judged("diverged", result).hits] == ["advised, seed 1"]
    assert "step 7" in judged("diverged", result).hits[0].message
    assert [hit.label for hit in judged("final_loss > 9", result).hits] == ["advised, seed 1"]
    assert [h.label for h in judged("metric < 0.1", result).hits] == ["accuracy of advised, seed 1"]
    result["runs"].append(run("fp32", seed=1))
    assert [hit.label for hit in judged("loss_gap > 2", result).hits] == ["advised, seed 1"]


ABSENT: dict[str, Callable[[Result], Any]] = {
    "flushed[activation] > 0": lambda r: r["sites"].clear(),
    "non_finite > 0": lambda r: r["sites"].clear(),
    "flushed @ nowhere > 0": lambda r: None,
    "flushed @ head > 0": lambda r: None,
    "flushed[weight_gradient] > 0": lambda r: None,
    "minimum_log2 > 0": lambda r: r["loss_scale"].update(minimum_log2=None),
    "maximum_log2 > 0": lambda r: r["loss_scale"].update(maximum_log2=None),
    "recommended_log2 > 0": lambda r: r["loss_scale"].update(recommended_log2=None),
    "safe_window_log2 > 0": lambda r: r["loss_scale"].update(minimum_log2=None),
    "gradient_error > 0": lambda r: r["loss_scale"].update(recommended_log2=None),
    "gradient_error[2^9] > 0": lambda r: None,
    "gradient_error[2^5] > 0": lambda r: None,
    "loss_scale impossible": lambda r: r["loss_scale"].update(verdict="unknown"),
    "drift left": lambda r: r["drift"].update(state="unknown"),
    "drift leaving": lambda r: r.pop("drift"),
    "master_weights required": lambda r: r["master_weights"].update(verdict="unknown"),
    "modules_not_seen > 0": lambda r: r["coverage"].update(observed_steps=0),
    "modules_not_seen @ nowhere > 0": lambda r: None,
    "tensors_skipped > 0": lambda r: r["coverage"].update(observed_steps=0),
    "observer_errors > 0": lambda r: r["coverage"].update(observed_steps=0),
    "overhead_ratio > 1": lambda r: r["timing"].update(overhead_ratio=None),
    "retention < 1": lambda r: r["master_weights"]["parameters"].clear(),
    "retention @ nowhere < 1": lambda r: None,
    "retention @ norm.* < 1": lambda r: None,
    "lost_updates > 0": lambda r: [
        p.update(lost_updates_fraction=None) for p in r["master_weights"]["parameters"]
    ],
    "accumulation fp32_required": lambda r: r["accumulation"]["sites"].clear(),
    "accumulation @ nowhere fp32_required": lambda r: None,
    "accumulation_error > 0": lambda r: r["accumulation"]["sites"].clear(),
    "final_loss > 0": lambda r: r["runs"].clear(),
    "final_loss[bf16] > 0": lambda r: None,
    "skipped_steps > 0": lambda r: r["parity"].update(recipe=None),
    "diverged": lambda r: r["runs"].clear(),
    "loss_gap > 0": lambda r: r["runs"].pop(0),
    "skipped_share > 0": lambda r: [entry.update(steps=0) for entry in r["runs"]],
    "step_ms > 0": lambda r: [entry.update(simulated=True) for entry in r["runs"]],
    "step_ms[fp16] > 0": lambda r: [entry.update(step_ms=None) for entry in r["runs"]],
    "peak_memory_bytes > 0": lambda r: r["runs"][1].update(peak_memory_bytes=None),
    "metric > 0": lambda r: [entry.update(metrics={}) for entry in r["runs"]],
    "metric @ f1 > 0": lambda r: None,
    "metric @ accuracy > 0": lambda r: r["runs"][1].update(metrics={}),
    "parity worse": lambda r: r["parity"].update(recipe=None),
    "parity better": lambda r: r["parity"].update(verdict="unknown"),
    "promise broken": lambda r: r["parity"].update(recipe="fp16"),
    "severity >= ok": lambda r: (r["coverage"].update(observed_steps=0), r["runs"].clear()),
    "finding updates_swallowed": lambda r: r["master_weights"]["parameters"].clear(),
    "finding fp32_*": lambda r: r["accumulation"]["sites"].clear(),
    "finding promise_broken": lambda r: r["runs"].clear(),
    "finding overflow": lambda r: r["coverage"].update(observed_steps=0),
}


@pytest.mark.parametrize("rule", ABSENT)
def test_what_the_run_does_not_have_is_told(rule: str) -> None:
    result = sample()
    ABSENT[rule](result)
    found = judged(rule, result)
    assert len(found.problem) > 10


def test_every_quantity_has_a_way_to_be_absent_in_these_tests() -> None:
    always = {"sites", "observed_steps"}
    like_flushed = {"flushed_l1", "subnormal", "overflow", "headroom_log2", "amax"}
    like_retention = {"retention_0_1", "retention_0_01"}
    told = {rule.split()[0].split("[")[0] for rule in ABSENT}
    assert told | always | like_flushed | like_retention == set(QUANTITIES)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_damaged_result_is_told_and_raises_nothing(quantity: str) -> None:
    sorts = {"number": "!= 0.5", "level": ">= warning", "finding": "*", "flag": ""}
    condition = sorts.get(QUANTITIES[quantity].sort, " ".join(QUANTITIES[quantity].words[:1]))
    damage: list[Any] = [None, [], {}, 3, "text", [None], [{}], {"x": 3}]
    for wrong in damage:
        result = dict.fromkeys(sample(), wrong)
        assert judged(f"{quantity} {condition}", result).problem


def test_retention_above_one_is_as_bad_as_below() -> None:
    result = sample()
    result["master_weights"]["parameters"] = [parameter("w", 1.75)]
    assert is_hit("retention < 0.26", result)
    assert not is_hit("retention < 0.25", result)


def test_a_loss_of_zero_has_a_gap_too() -> None:
    result = sample()
    result["runs"] = [run("fp32", final_loss=0.0), run("advised", final_loss=0.0)]
    assert not is_hit("loss_gap > 0", result)
    result["runs"][1]["final_loss"] = 1e-9
    assert is_hit("loss_gap > 1000", result)


def test_runs_of_every_seed_and_of_all_recipes_are_judged() -> None:
    result = sample()
    result["runs"].append(run("advised", seed=1, final_loss=0.75))
    assert [hit.label for hit in judged("final_loss >= 0.5", result).hits] == [
        "advised, seed 1",
        "advised, seed 0",
    ]
    assert judged("final_loss[all] > 0", result).compared == 4


def test_modules_without_values_of_their_own_are_not_missed() -> None:
    hit = judged("modules_not_seen > 0").hits[0]
    assert "unused: its forward was not called" in hit.message
    assert "(root)" not in hit.message
    assert not is_hit("modules_not_seen @ enc.* > 0")
    assert is_hit("modules_not_seen @ un* > 0")


def test_the_reasons_that_are_no_loss_are_those_of_the_monitor() -> None:
    monitor = Path(__file__).parents[2] / "precscope" / "monitor"
    source = "".join(path.read_text() for path in monitor.glob("*.py"))
    assert len(NOTHING_TO_SEE) == 4
    assert {reason for reason in NOTHING_TO_SEE if f'"{reason}"' not in source} == set()
