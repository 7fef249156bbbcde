"""What the doctor finds with and without each piece of hardware; NVML is replaced here."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from precscope_cli import checks


class NVMLError(Exception):
    """As pynvml's: the base of all its errors."""


class FakeNvml(types.ModuleType):
    """Enough of pynvml for one GPU, with chosen calls failing."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(self, **failing: Exception) -> None:
        super().__init__("pynvml")
        self._failing = failing
        self.shutdowns = 0
        answers = {
            "nvmlInit": None,
            "nvmlSystemGetDriverVersion": "999.1",
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": object(),
            "nvmlDeviceGetPowerUsage": 100_000,
            "nvmlDeviceGetTotalEnergyConsumption": 5,
            "nvmlDeviceGetClockInfo": 1500,
            "nvmlGpmQueryDeviceSupport": types.SimpleNamespace(isSupportedDevice=1),
        }
        for name, answer in answers.items():
            setattr(self, name, self._call(name, answer))

    def _call(self, name: str, answer: object) -> Any:
        def call(*_: object) -> object:
            if name in self._failing:
                raise self._failing[name]
            return answer

        return call

    def nvmlShutdown(self) -> None:
        self.shutdowns += 1


def with_nvml(monkeypatch: pytest.MonkeyPatch, **failing: Exception) -> list[checks.Check]:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(**failing))
    return list(checks.nvml())


def test_everything_is_listed_once_and_lack_has_a_meaning(invoke: Any) -> None:
    result = invoke("doctor")
    assert result.exit_code == 0, result.stderr
    for name in ("Python", "PyTorch", "Threads", "NVML", "Triton", "Numba", "Cache", "Results"):
        assert sum(line.split()[1] == name for line in result.stdout.splitlines() if line[0] != " ")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout
    assert all(check.meaning for check in checks.all_checks() if check.state != "ok")


def test_a_gpu_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, gpu = with_nvml(monkeypatch)
    assert (driver.state, driver.found) == ("ok", "driver 999.1")
    assert (gpu.state, gpu.found) == ("ok", "power, energy, clocks, tensor-core counters")


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount"])
def test_an_nvml_error_is_a_finding(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    last = with_nvml(monkeypatch, **{call: NVMLError("Driver Not Loaded\nmore")})[-1]
    assert (last.state, last.found) == ("missing", "Driver Not Loaded")


def test_an_error_of_one_gpu_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, gpu = with_nvml(monkeypatch, nvmlDeviceGetHandleByIndex=NVMLError("GPU is lost"))
    assert gpu.state == "missing"
    assert "GPU is lost" in gpu.found


@pytest.mark.parametrize("error", [NVMLError("Not Supported"), AttributeError("too old")])
def test_a_reading_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    _, gpu = with_nvml(monkeypatch, nvmlGpmQueryDeviceSupport=error)
    assert gpu.found == "power, energy, clocks"
    assert gpu.meaning == "not in reports: tensor-core counters"


def test_nvml_is_shut_down_as_often_as_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(nvmlDeviceGetCount=NVMLError("x"))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    list(checks.nvml())
    assert fake.shutdowns == 1


def test_without_pynvml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (check,) = checks.nvml()
    assert check.state == "missing"
    assert "nvidia-ml-py" in check.meaning


def torch_with(devices: int, major: int = 9, built: bool = True) -> Any:
    facts = types.SimpleNamespace(name="H100", total_memory=80 * 2**30, major=major, minor=0)
    return types.SimpleNamespace(
        backends=types.SimpleNamespace(cuda=types.SimpleNamespace(is_built=lambda: built)),
        cuda=types.SimpleNamespace(
            is_available=lambda: devices > 0,
            device_count=lambda: devices,
            get_device_properties=lambda index: facts,
        ),
    )


def test_every_cuda_device_is_listed() -> None:
    found = list(checks.cuda(torch_with(2)))
    assert [check.name for check in found] == ["cuda:0", "cuda:1"]
    assert found[0].found == "H100, 80 GiB, sm_90, tensor cores"


def test_a_gpu_without_tensor_cores_is_told() -> None:
    (check,) = checks.cuda(torch_with(1, major=6))
    assert check.state == "missing"
    assert "no tensor cores" in check.meaning


@pytest.mark.parametrize(("devices", "built"), [(0, True), (1, False)])
def test_without_cuda_the_meaning_is_told(devices: int, built: bool) -> None:
    (check,) = checks.cuda(torch_with(devices, built=built))
    assert check.state == "missing"
    assert "simulated" in check.meaning


def test_a_broken_driver_is_a_finding() -> None:
    torch = torch_with(1)

    def fail(index: int) -> None:
        raise RuntimeError("CUDA driver initialization failed")

    torch.cuda.get_device_properties = fail
    (check,) = checks.cuda(torch)
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
