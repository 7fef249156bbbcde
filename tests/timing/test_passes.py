"""All passes end to end, on a pretended H100: CPU work and clock, NVML and kernels put in."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from precscope.analysis.timing import (
    put_timing,
    time_workload,
    without_modules,
)
from precscope.recipe import Recipe
from precscope.recording import Recording, RecordingWriter
from precscope.result import build_result
from precscope.timing import measure as passes
from precscope.timing import profiling
from precscope.timing.clocks import CpuClock
from precscope.timing.document import timing_document
from precscope.timing.identify import NO_CUDA
from precscope.timing.measure import TIME_IS_UP, arithmetic_of
from precscope.timing.stepping import stepping as real_stepping
from precscope.timing.steps import Plan
from precscope.timing.trace import Trace, parse_trace
from precscope_reports.html.sections import speed
from tests.support.small_workload import Phases, small_workload
from tests.timing.kernels_in_trace import with_kernels
from tests.timing.nvml_library import UUID, Library, installed

SHORT = Plan(warm_up_steps=1, warm_up_s=0.0, steps=3, seconds=0.0, rounds=2)
READ = replace(SHORT, seconds=0.3)
LONG = replace(SHORT, seconds=0.7, rounds=1)
CPU = torch.device("cpu")
H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132,
    total_memory=80 << 30, uuid=UUID.removeprefix("GPU-"),
)  # fmt: skip


def kernel_of(operator: str, _: bool) -> str | None:
    names = {
        "aten::addmm": "nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT",
        "aten::mm": "nvjet_hsh_128x128_64x4_1x2_h_bz_NNT",
        "aten::tanh": "void at::native::vectorized_elementwise_kernel<4>",
        "aten::native_batch_norm": "somebodys_own_kernel",
    }
    return names.get(operator)


def read_with_kernels(path: Path) -> Trace:
    return parse_trace(with_kernels(json.loads(path.read_text())["traceEvents"], kernel_of))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda: dict[str, Any] = {
        "device": lambda _: nullcontext(),
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda _: None,
        "max_memory_allocated": lambda _: 1 << 20,
        "get_device_properties": lambda _: H100,
    }
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(passes, "CudaClock", lambda *_: CpuClock())
    monkeypatch.setattr(passes, "cuda_index", lambda _: 0)
    monkeypatch.setattr("precscope.timing.identify.cuda_index", lambda _: 0)
    monkeypatch.setattr(profiling, "read_trace", read_with_kernels)


def document(
    folder: Path, library: Library | None, plan: Plan = SHORT, subject: str = "fp16"
) -> dict[str, Any]:
    recipes = [Recipe.named(name) for name in ("fp32", "tf32", "fp16")]
    workload = small_workload(folder)
    failing = Library(failing={"nvmlInitWithFlags": 12})
    with installed(library or failing):
        found = passes.measure(workload, recipes, subject, CPU, 0, plan)
    return timing_document(found, subject, subject)


def test_everything_is_measured(pretended: None, tmp_path: Path) -> None:
    found = document(tmp_path, Library(), READ)
    json.dumps(found, allow_nan=False)
    assert found["device"]["name"] == H100.name
    assert found["device"]["power_cap_w"] == 700.0
    assert [entry["recipe"] for entry in found["recipes"]] == ["fp32", "tf32", "fp16"]
    assert [len(entry["blocks_ms"]) for entry in found["recipes"]] == [2, 2, 2]
    fp16 = found["recipes"][2]
    assert [beside["baseline"] for beside in fp16["beside"]] == ["fp32", "tf32"]
    assert 0 < fp16["tensor_core_share"] < 1
    assert 0 < fp16["unknown_share"] < 1
    assert fp16["peak_memory_bytes"] == 1 << 20
    assert all(entry["achieved_tflops"] > 0 for entry in found["recipes"])
    # The same rate is a smaller share of a larger peak.
    shares = [entry["mfu_percent"] / entry["achieved_tflops"] for entry in found["recipes"]]
    assert shares == pytest.approx([100 / 67.0, 100 / 494.7, 100 / 989.4])
    cores = found["tensor_cores"]
    assert cores["peak_tflops"] == 989.4
    assert cores["achieved_tflops"] > 0
    assert cores["mfu_at_clock_percent"] > cores["mfu_percent"]
    names = [check["name"] for check in cores["checks"]]
    assert "kernels within the step" in names
    assert "clock held back" in names
    assert found["nvml"]["sm_clock_median_mhz"] == 1755


def test_a_module_has_risk_time_eligibility_and_rule(pretended: None, tmp_path: Path) -> None:
    modules = {m["module"]: m for m in document(tmp_path, Library())["modules"]}
    linear = modules["0"]
    assert (linear["module_type"], linear["tensor_cores"]) == ("Linear", "yes")
    assert linear["rule"] == "nvjet"
    assert linear["eligible"] is True
    assert linear["flops"] > 0
    assert linear["forward_ms"] > 0
    assert linear["backward_ms"] > 0
    assert modules["2"]["tensor_cores"] == "no"
    assert modules["1"]["tensor_cores"] == "unknown"


def test_products_in_tf32_are_eligible_and_used(pretended: None, tmp_path: Path) -> None:
    found = document(tmp_path, Library(), subject="tf32")
    linear = next(m for m in found["modules"] if m["module"] == "4")
    assert (linear["eligible"], linear["used"]) == (True, 1.0)
    tf32, fp32 = found["recipes"][1], found["recipes"][0]
    assert (tf32["used_share"], fp32["used_share"]) == (1.0, None)
    assert 0 < tf32["eligible_share"] < 1
    assert found["tensor_cores"]["peak_tflops"] == 494.7


def test_counters_of_the_timed_window_are_in_the_document(pretended: None, tmp_path: Path) -> None:
    found = document(tmp_path, Library(), LONG)
    assert found["nvml"]["any_tensor_util_percent"] == pytest.approx(61.5)
    assert found["nvml"]["gpm_windows"] >= 1
    assert found["nvml"]["traces"]["any tensor util"]["unit"] == "%"
    assert "below the sensor's 3 s" in found["nvml"]["reasons"]["energy_per_step"]
    cores = found["tensor_cores"]
    assert cores["pipe_time_ms"] == pytest.approx(0.615 * cores["step_ms"])
    checks = {check["name"]: check["passed"] for check in cores["checks"]}
    assert checks["names and counters"] is True
    assert checks["rate and counters"] is True


def test_without_nvml_the_rest_remains_with_the_reason(pretended: None, tmp_path: Path) -> None:
    found = document(tmp_path, None)
    assert found["nvml"] is None
    assert found["nvml_reason"].startswith("no NVML library here")
    assert found["modules"]
    assert found["tensor_cores"]["step_ms"] > 0
    assert found["tensor_cores"]["mfu_at_clock_percent"] is None
    assert found["recipes"][2]["energy_per_step_j"] is None


def test_an_unknown_gpu_has_a_rate_and_no_share(
    pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = SimpleNamespace(**{**vars(H100), "name": "NVIDIA H1000"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: unknown)
    cores = document(tmp_path, Library())["tensor_cores"]
    assert cores["achieved_tflops"] > 0
    assert (cores["mfu_percent"], cores["mfu_at_clock_percent"]) == (None, None)


def test_without_kernels_there_is_a_reason(
    pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "read_trace", lambda _: Trace())
    found = document(tmp_path, Library())
    assert "CUPTI" in found["reasons"]["kernels"]
    assert all(module["tensor_cores"] is None for module in found["modules"])
    assert found["tensor_cores"]["busy_ms"] is None


def test_when_the_time_is_up_what_was_measured_remains(pretended: None, tmp_path: Path) -> None:
    found = document(tmp_path, Library(), replace(SHORT, limit_s=0.0))
    assert found["recipes"] == []
    assert found["modules"] == []
    assert found["tensor_cores"] is None
    for part in ("blocks", "modules", "kernels"):
        assert found["reasons"][part] == TIME_IS_UP


@pytest.mark.parametrize("short", ["fp32", "fp16"], ids=["the baseline", "the subject"])
def test_a_recipe_that_does_not_fit_the_memory_costs_itself_only(
    short: str, pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(workload: Any, recipe: Recipe, device: torch.device, seed: int) -> Any:
        if recipe.name == short:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
        return real_stepping(workload, recipe, device, seed)

    monkeypatch.setattr(passes, "stepping", short_of_memory)
    found = document(tmp_path, Library(), READ)
    json.dumps(found, allow_nan=False)
    reason = f"{short} does not fit the memory of this device"
    left = [name for name in ("fp32", "tf32", "fp16") if name != short]
    assert [entry["recipe"] for entry in found["recipes"]] == left
    assert found["reasons"]["blocks"] == reason
    if short == "fp32":
        assert found["tensor_cores"]["busy_ms"] > 0
        assert found["tensor_cores"]["achieved_tflops"] is None
        assert {m["module"] for m in found["modules"]} >= {"", "0"}
    else:
        assert found["tensor_cores"] is None
        assert found["modules_reason"] == found["nvml_reason"] == reason
        assert "out of memory" in found["tensor_cores_reason"]


def test_a_trace_that_cannot_be_read_costs_the_kernels_only(
    pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"ph": "X", "cat": "cpu_op", "name": "aten::mm"}
    monkeypatch.setattr(profiling, "read_trace", lambda path: parse_trace([broken]))
    found = document(tmp_path, None)
    assert found["reasons"]["kernels"].startswith("torch.profiler: KeyError")
    assert found["modules"]
    assert [entry["busy_ms"] for entry in found["recipes"]] == [None] * 3


def test_on_a_cpu_modules_are_timed_by_its_clock(tmp_path: Path) -> None:
    found = time_workload(small_workload(tmp_path), [], Recipe.named("fp16"), CPU, 0)
    assert (found["clock"], found["recipe"]) == ("cpu", "fp32")
    assert [m["module"] for m in found["modules"]] == ["", "0", "1", "2", "3", "4"]
    for part in ("tensor_cores", "nvml", "device"):
        assert found[part] is None
        assert found[f"{part}_reason"] == NO_CUDA


def test_it_is_stored_in_the_recording(tmp_path: Path) -> None:
    path, phases = tmp_path / "run.precscope", Phases()
    with RecordingWriter(path, {"title": "t"}) as writer:
        put_timing(writer, small_workload(tmp_path), CPU, 0, None, phases)
    assert Recording.open(path).document("timing")["clock"] == "cpu"
    assert phases.names == ["time of each module"]


def test_what_fails_in_timing_is_a_reason_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr("precscope.analysis.timing.time_workload", fail)
    path = tmp_path / "run.precscope"
    with RecordingWriter(path, {"title": "t"}) as writer:
        put_timing(writer, small_workload(tmp_path), CPU, 0, Recipe.named("fp16"), Phases())
    found = Recording.open(path).document("timing")
    assert found["modules_reason"] == "timing failed: RuntimeError: CUDA error: out of memory"


def test_a_slow_cpu_step_is_not_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precscope.analysis.timing.CPU_STEP_LIMIT_S", 0.0)
    found = time_workload(small_workload(tmp_path), [], Recipe.named("fp16"), CPU, 0)
    assert found["modules"] == []
    assert "s on this CPU: timing its modules would take 5" in found["modules_reason"]
    assert found["nvml_reason"] == NO_CUDA


@pytest.mark.parametrize(
    ("name", "arithmetic"),
    [("fp32", "fp32"), ("tf32", "tf32"), ("bf16", "bf16"), ("fp16", "fp16"), ("paper", "fp16")],
)
def test_arithmetic_of_a_recipe(name: str, arithmetic: str) -> None:
    assert arithmetic_of(Recipe.named(name)) == arithmetic


def recorded(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "run.precscope"
    with RecordingWriter(path, {"title": "t"}) as writer:
        writer.put_document("timing", document)
    return build_result(Recording.open(path))


def test_the_result_and_the_page_show_it(pretended: None, tmp_path: Path) -> None:
    result = recorded(document(tmp_path, Library(), READ), tmp_path)
    assert speed.is_measured(result)
    page = str(speed.render(result).body)
    for text in ("Linear", "not used", "clock held back", "NVML"):
        assert text in page


def test_the_result_without_modules_says_why(tmp_path: Path) -> None:
    timing = recorded(without_modules("no clock here"), tmp_path)["timing"]
    assert timing["modules"] == []
    assert timing["modules_reason"] == timing["nvml_reason"] == "no clock here"
    assert timing["plain_step_ms"] is None
