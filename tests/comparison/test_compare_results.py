"""What a comparison says of two runs that are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from precscope.comparison import Side, compare, load_side, side_of_recording
from precscope.errors import RecordingError, UsageError
from precscope.recording import Recording
from precscope.result import build_result
from tests.support.recordings import recording, update_window
from tests.support.runs import runs

KEYS = {
    "schema",
    "sides",
    "note",
    "counts",
    "verdicts",
    "findings",
    "sites",
    "only_in",
    "parameters",
    "accumulation",
    "runs",
    "observed_loss",
    "definitions",
}


def side(found: Recording, label: str = "run") -> Side:
    return side_of_recording(found, label)


def gradients(*values: float, name: str = "layer.weight") -> Recording:
    return recording([(name, "weight_gradient", values)])


def site(comparison: dict[str, Any], name: str = "layer.weight") -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in comparison["sites"] if s["name"] == name)
    return found


def test_a_run_compared_with_itself_moves_nowhere() -> None:
    found = side(gradients(1.5, 2.5, 2.0**-30))
    comparison = compare(found, found)
    assert set(comparison) == KEYS
    assert not any(verdict["moved"] for verdict in comparison["verdicts"])
    assert site(comparison)["change"] == "same"
    assert site(comparison)["shift_bits"] == {"median": 0.0, "mean": 0.0, "amax": 0.0}
    assert comparison["findings"]["appeared"] == comparison["findings"]["disappeared"] == []
    assert comparison["note"] is None


def test_smaller_gradients_shift_and_flush() -> None:
    before = side(gradients(*[1.5 * 2.0**-10] * 8))
    after = side(gradients(*[1.5 * 2.0**-30] * 8))
    comparison = compare(before, after)
    found = site(comparison)
    assert found["shift_bits"] == {"median": -20.0, "mean": -20.0, "amax": -20.0}
    assert found["distance_bits"] == 20.0
    assert found["newly_flushed"] == {"count": 1.0, "l1": 1.0, "zeros": 0.0}
    assert found["change"] == "flushed"
    moved = {v["key"]: (v["a"], v["b"]) for v in comparison["verdicts"] if v["moved"]}
    assert moved["loss_scale.verdict"] == ("not_needed", "static")


def test_the_other_way_round_changes_every_sign() -> None:
    before, after = side(gradients(1.5, 2.0**-30, 0.0)), side(gradients(3.0, 3.0, 3.0))
    there, back = site(compare(before, after)), site(compare(after, before))
    for key in ("median", "mean", "amax"):
        assert there["shift_bits"][key] == -back["shift_bits"][key]
    for key in ("count", "l1", "zeros"):
        assert there["newly_flushed"][key] == -back["newly_flushed"][key]
    assert there["distance_bits"] == back["distance_bits"]


def test_what_fp16_flushed_shows_as_new_zeros() -> None:
    before = side(gradients(1.5, *[2.0**-30] * 9))
    after = side(gradients(1.5, *[0.0] * 9))
    new = site(compare(before, after))["newly_flushed"]
    assert new["zeros"] == pytest.approx(0.9)
    assert new["count"] == pytest.approx(-0.9)


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ((1.0,), (float("inf"), 1.0), "non_finite"),
        ((float("nan"), 1.0), (1.0,), "non_finite"),
        ((1.0,), (70000.0,), "overflow"),
        ((1.0, 1.0), (1.0, 2.0**-26), "flushed"),
        ((1.0, 1.0), (4.0, 4.0), "shifted"),
        ((1.0, 1.0), (1.25, 1.0), "same"),
    ],
)
def test_a_site_is_named_after_its_gravest_change(
    before: tuple[float, ...], after: tuple[float, ...], change: str
) -> None:
    comparison = compare(side(gradients(*before)), side(gradients(*after)))
    assert site(comparison)["change"] == change
    assert comparison["counts"][change] == 1


def test_the_gravest_site_comes_first() -> None:
    names = ("same", "shifted", "flushed", "broken")
    before = recording([(name, "weight_gradient", (1.5, 1.5)) for name in names])
    values = {
        "same": (1.5, 1.5),
        "shifted": (24.0, 24.0),
        "flushed": (1.5, 2.0**-30),
        "broken": (1.5, float("nan")),
    }
    after = recording([(name, "weight_gradient", values[name]) for name in names])
    order = [found["name"] for found in compare(side(before), side(after))["sites"]]
    assert order == ["broken", "flushed", "shifted", "same"]


def test_a_scale_set_for_the_first_run_is_tried_on_the_second() -> None:
    before = side(gradients(*[1.5 * 2.0**-22, 1.5 * 2.0**-28] * 8))
    comparison = compare(before, side(gradients(*[1.5 * 2.0**10] * 16)))
    found = site(comparison)["at_scale"]
    assert found["log2_scale"] > 5
    assert (found["a"]["overflow"], found["b"]["overflow"]) == (0.0, 1.0)
    assert site(comparison)["change"] == "overflow"


def test_findings_and_parameters_that_moved_are_told() -> None:
    def run(retention: float) -> Side:
        updates = {"layer.weight": [update_window("layer.weight", (retention,) * 3)]}
        values = (1.0,) * 8
        return side(recording([("layer.weight", "weight", values)], updates=updates))

    comparison = compare(run(1.0), run(0.1))
    appeared = {found["rule"] for found in comparison["findings"]["appeared"]}
    assert "updates_swallowed" in appeared
    (parameter,) = comparison["parameters"]
    assert parameter["moved"]
    assert parameter["difference"] == pytest.approx(-0.9)
    assert (parameter["verdict_a"], parameter["verdict_b"]) == ("not_needed", "required")


def test_runs_match_by_recipe_and_seed() -> None:
    before = recording([], runs=_complete(runs(fp32=[2.0, 2.5], fp16=[2.1])))
    after = recording([], runs=_complete(runs(fp32=[1.0, None], bf16=[9.0])))
    comparison = compare(side(before), side(after))
    first, second = comparison["runs"]
    assert (first["difference"], first["relative_difference"]) == (-1.0, -0.5)
    assert (second["seed"], second["difference"], second["diverged_at_b"]) == (1, None, 7)


def _complete(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "saved_tensor_bytes")
    more = dict.fromkeys((*parts, "peak_memory_bytes"))
    return [{"losses": [], "simulated": False, **more, **run} for run in made]


def test_two_models_with_nothing_in_common_are_an_error_that_names_them() -> None:
    with pytest.raises(UsageError, match=r"no site .* in common: one has layer.weight; two has x"):
        compare(side(gradients(1.0), "one"), side(gradients(1.0, name="x"), "two"))


def test_two_models_with_something_in_common_are_told_apart_in_one_line() -> None:
    before = recording([("a", "weight", (1.0,)), ("b", "weight", (1.0,))])
    after = recording([("b", "weight", (1.0,)), ("c", "weight", (1.0,))])
    comparison = compare(side(before), side(after))
    assert comparison["note"] == "sites in common: 1, only in A: 1, only in B: 1"
    assert comparison["only_in"]["b"] == [{"name": "c", "kind": "weight"}]


def test_a_comparison_is_json_without_nan() -> None:
    broken = side(gradients(float("inf"), float("nan"), 1.0))
    comparison = compare(side(gradients(0.0)), broken)
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison
    assert site(comparison)["shift_bits"]["mean"] is None


def test_a_result_compares_as_the_recording_it_came_from(tmp_path: Path) -> None:
    found = gradients(1.5, 2.0**-30, 0.0)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(build_result(found)))
    comparison = compare(side(found), load_side(path))
    assert site(comparison)["distance_bits"] == 0.0
    assert not any(verdict["moved"] for verdict in comparison["verdicts"])


def _break(result: dict[str, Any], *place: Any, value: Any) -> str:
    target: Any = result
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return json.dumps(result)


BREAKS: tuple[tuple[tuple[Any, ...], Any], ...] = (
    (("schema",), 2),
    (("schema",), None),
    (("title",), 7),
    (("sites",), {}),
    (("sites", 0, "name"), None),
    (("sites", 0, "kind"), "elsewhere"),
    (("sites", 0, "amax"), -1.0),
    (("sites", 0, "amax"), "big"),
    (("sites", 0, "sum_abs"), True),
    (("sites", 0, "histogram", "counts"), [-1]),
    (("sites", 0, "histogram", "counts"), [1.5]),
    (("sites", 0, "histogram", "counts"), [2**61] * 9),
    (("sites", 0, "histogram", "first_exponent"), 1000),
    (("sites", 0, "histogram", "powers"), [99]),
    (("sites", 0, "histogram", "nans"), 2**70),
    (("sites", 0, "flushed_fp16"), "half"),
    (("loss_scale", "recommended_log2"), "2"),
    (("loss_scale",), None),
    (("master_weights", "parameters"), [{"name": 1}]),
    (("findings",), [None]),
    (("runs",), "many"),
    (("coverage", "observed_steps"), -1),
)


@pytest.mark.parametrize(("place", "value"), BREAKS)
def test_a_result_of_a_stranger_is_refused_in_one_line(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    path = tmp_path / "result.json"
    path.write_text(_break(build_result(gradients(1.0, 2.0)), *place, value=value))
    with pytest.raises(RecordingError) as refused:
        load_side(path)
    assert str(refused.value).startswith(f"{path} is not a result of precscope: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}', b"1e999"]
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as refused:
        load_side(path)
    assert "\n" not in str(refused.value)


def test_a_result_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="there is no such file"):
        load_side(tmp_path / "result.json")


def test_the_documentation_names_every_key() -> None:
    told = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
    comparison = compare(side(gradients(1.0)), side(gradients(2.0)))
    keys = KEYS | set(site(comparison)) | set(site(comparison)["a"]) | set(comparison["sides"]["a"])
    keys |= {verdict["key"] for verdict in comparison["verdicts"]} | set(comparison["counts"])
    assert [key for key in sorted(keys) if not re.search(rf"\b{re.escape(key)}\b", told)] == []
