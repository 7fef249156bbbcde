"""What the doctor finds with and without each piece of hardware; NVML's library is replaced here."""

from __future__ import annotations

import sys
import types
from typing import Any

import pynvml
import pytest

from precscope_cli import checks, gpu_checks
from tests.timing.nvml_library import (
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    UUID,
    Library,
    installed,
)


def with_nvml(library: Library) -> list[checks.Check]:
    with installed(library):
        found = list(gpu_checks.nvml([UUID]))
    assert library.inits == 0
    assert library.open_samples == 0
    return found


def test_everything_is_listed_once_and_lack_has_a_meaning(invoke: Any) -> None:
    result = invoke("doctor")
    assert result.exit_code == 0, result.stderr
    for name in ("Python", "PyTorch", "Threads", "NVML", "Triton", "Numba", "Cache", "Results"):
        assert sum(line.split()[1] == name for line in result.stdout.splitlines() if line[0] != " ")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout
    assert all(check.meaning for check in checks.all_checks() if check.state != "ok")


def test_a_gpu_with_everything() -> None:
    driver, readings, counters = with_nvml(Library())
    assert driver.found.endswith("driver 999.42.1")
    assert readings.found.startswith("power, energy, clocks, reasons for low clocks; power cap 700")
    assert counters.name == "GPM 0"
    assert {check.state for check in (driver, readings, counters)} == {"ok"}


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlSystemGetDriverVersion"])
def test_an_nvml_error_is_a_finding(call: str) -> None:
    library = Library(failing={call: pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
    with installed(library):
        last = list(gpu_checks.nvml([]))[-1]
    assert last.state == "missing"
    assert "driver is not loaded" in last.found
    assert library.inits == 0


def test_a_library_that_somebody_else_shut_down_is_no_error() -> None:
    failing = {"nvmlShutdown": pynvml.NVML_ERROR_UNINITIALIZED}
    with installed(Library(failing=failing)):
        assert {check.state for check in gpu_checks.nvml([UUID])} == {"ok"}


def test_a_gpu_that_nvml_does_not_know_is_a_finding() -> None:
    *_, gpu = with_nvml(Library(failing={"nvmlDeviceGetHandleByUUID": NOT_FOUND}))
    assert gpu.state == "missing"
    assert "NVML knows no such device" in gpu.found


def test_a_reading_that_fails_is_named() -> None:
    _, gpu, _ = with_nvml(Library(failing={"nvmlDeviceGetFieldValues": NOT_SUPPORTED}))
    assert gpu.found.startswith("energy, clocks")
    assert gpu.meaning == "not in reports: power (not supported by this device)"


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (Library(supports_gpm=False), "Hopper or newer"),
        (Library(failing={"nvmlGpmSampleGet": NO_PERMISSION}), "ERR_NVGPUCTRPERM"),
        (Library(mig=True), "split by MIG"),
    ],
)
def test_without_counters_their_reason_and_what_it_costs(library: Library, reason: str) -> None:
    *_, counters = with_nvml(library)
    assert (counters.name, counters.state) == ("GPM 0", "missing")
    assert reason in counters.found
    assert "kernel names" in counters.meaning


def test_other_processes_are_told() -> None:
    *_, shared = with_nvml(Library(processes=2))
    assert (shared.name, shared.found) == ("Shared", "2 processes compute on GPU 0")


def test_a_gpu_that_only_nvml_sees_is_told() -> None:
    with installed(Library()):
        (driver,) = gpu_checks.nvml([])
    assert driver.found.endswith("1 GPU not usable by this PyTorch")


def test_without_pynvml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (check,) = gpu_checks.nvml([])
    assert check.state == "missing"
    assert "nvidia-ml-py" in check.found


def test_a_known_peak_and_an_unknown_one() -> None:
    assert gpu_checks.peak("NVIDIA H100 80GB HBM3").found.startswith("FP16 989, FP32 67 TFLOP/s")
    unknown = gpu_checks.peak("NVIDIA H1000")
    assert (unknown.state, unknown.meaning) == ("missing", gpu_checks.NO_PEAK)


def test_triton_is_tried_on_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "_version", lambda name: "3.9.0")
    assert "not tried without a CUDA device" in gpu_checks.triton(None).found
    monkeypatch.setattr(gpu_checks, "_version", lambda name: None)
    missing = gpu_checks.triton(None)
    assert (missing.state, missing.meaning) == ("missing", gpu_checks.NO_KERNEL)


def torch_with(devices: int, major: int = 9, built: bool = True) -> Any:
    facts = types.SimpleNamespace(
        name="H100", total_memory=80 * 2**30, major=major, minor=0, multi_processor_count=132
    )
    return types.SimpleNamespace(
        backends=types.SimpleNamespace(cuda=types.SimpleNamespace(is_built=lambda: built)),
        cuda=types.SimpleNamespace(
            is_available=lambda: devices > 0,
            device_count=lambda: devices,
            get_device_properties=lambda index: facts,
        ),
    )


def test_every_cuda_device_is_listed() -> None:
    found = list(gpu_checks.cuda(torch_with(2)))
    assert [check.name for check in found] == ["cuda:0", "cuda:1"]
    assert found[0].found == "H100, 80 GiB, sm_90, 132 SMs, tensor cores"


def test_a_gpu_without_tensor_cores_is_told() -> None:
    (check,) = gpu_checks.cuda(torch_with(1, major=6))
    assert check.state == "missing"
    assert "no tensor cores" in check.meaning


@pytest.mark.parametrize(("devices", "built"), [(0, True), (1, False)])
def test_without_cuda_the_meaning_is_told(devices: int, built: bool) -> None:
    (check,) = gpu_checks.cuda(torch_with(devices, built=built))
    assert check.state == "missing"
    assert "simulated" in check.meaning


def test_a_broken_driver_is_a_finding() -> None:
    torch = torch_with(1)

    def fail(index: int) -> None:
        raise RuntimeError("CUDA driver initialization failed")

    torch.cuda.get_device_properties = fail
    (check,) = gpu_checks.cuda(torch)
    assert check.found == "CUDA driver initialization failed"


def test_without_numba_the_doctor_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, invoke: Any
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "pip install numba" in result.stdout


def test_more_threads_than_processors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_usable_processors", lambda: 2)
    check = checks.threads(types.SimpleNamespace(get_num_threads=lambda: 8))
    assert check.state == "missing"
    assert "OMP_NUM_THREADS=2" in check.meaning


def test_no_folder_for_compiled_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_writable", lambda path: False)
    assert checks.cache_folder().state == "missing"
    assert checks.working_folder().meaning == "name a folder with --output"
