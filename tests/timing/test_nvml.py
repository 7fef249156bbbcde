"""Every reading of NVML, and every way in which it refuses, through the real pynvml."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pynvml
import pytest

from precscope.timing.gpm import MIG, NO_GPM, Gpm
from precscope.timing.nvml import Nvml
from precscope.timing.reasons import PERMISSION_PAGE, NvmlUnavailable
from precscope.timing.sampler import Sampler
from precscope.timing.windows import summary
from tests.timing.nvml_library import (
    FUNCTION_MISSING,
    NAN,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UUID,
    Library,
    installed,
)


@pytest.fixture
def library() -> Iterator[Library]:
    with installed(Library()) as found:
        yield found


def gpm_refusal(library: Library) -> str:
    with installed(library), Nvml.open(UUID) as nvml, pytest.raises(NvmlUnavailable) as refused:
        Gpm(nvml)
    assert library.inits == 0
    assert library.open_samples == 0
    return str(refused.value)


def sampled(library: Library, seconds: float = 0.15) -> Sampler:
    with installed(library), Nvml.open(UUID) as nvml, Sampler(nvml, period_s=0.02) as sampler:
        time.sleep(seconds)
    assert library.inits == 0
    assert library.open_samples == 0
    return sampler


def test_every_reading_has_its_unit(library: Library) -> None:
    with Nvml.open(UUID) as nvml:
        assert nvml.driver == "999.42.1"
        assert nvml.mig is False
        assert nvml.power_cap_w == 700.0
        assert nvml.max_sm_clock_mhz == 1980
        assert nvml.power_w() == 652.25
        assert nvml.energy_j() == 10_140.0
        assert (nvml.clock_mhz("SM"), nvml.clock_mhz("MEM")) == (1755, 2619)
        assert nvml.clock_event_reasons() == 0
        assert nvml.compute_processes() == 1
        assert nvml.reasons == {}


def test_power_is_that_of_the_module_where_the_gpu_has_none() -> None:
    with installed(Library(power_scope=1)), Nvml.open(UUID) as nvml:
        assert nvml.power_w() == 652.25
        assert nvml.reasons == {}


def test_nothing_is_ever_set(library: Library) -> None:
    with Nvml.open(UUID) as nvml, Sampler(nvml, period_s=0.01):
        time.sleep(0.05)
    assert not [name for name in library.asked if "Set" in name]


@pytest.mark.parametrize("what", ["power", "energy", "sm_clock", "clock_event_reasons"])
def test_a_reading_that_is_refused_is_none_with_its_reason(what: str) -> None:
    function = {
        "power": "nvmlDeviceGetFieldValues",
        "energy": "nvmlDeviceGetTotalEnergyConsumption",
        "sm_clock": "nvmlDeviceGetClockInfo",
        "clock_event_reasons": "nvmlDeviceGetCurrentClocksEventReasons",
    }[what]
    sampler = sampled(Library(failing={function: NOT_SUPPORTED}), 0.03)
    key = "sm_clock_mhz" if what == "sm_clock" else what
    suffix = {"power": "_w", "energy": "_j"}.get(what, "")
    assert getattr(sampler.readings.taken[0], f"{key}{suffix}") is None
    assert sampler.readings.reasons[what] == "not supported by this device"


def test_an_older_pynvml_is_named(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "NVML_FI_DEV_POWER_INSTANT")
    with Nvml.open(UUID) as nvml:
        assert nvml.power_w() is None
        assert "nvidia-ml-py is too old" in nvml.reasons["power"]


def test_no_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NvmlUnavailable, match="pip install nvidia-ml-py"):
        Nvml.open(UUID)


def test_no_library() -> None:
    failing = Library(failing={"nvmlInitWithFlags": pynvml.NVML_ERROR_LIBRARY_NOT_FOUND})
    with installed(failing), pytest.raises(NvmlUnavailable, match="no NVML library here"):
        Nvml.open(UUID)


def test_a_device_that_nvml_does_not_know(library: Library) -> None:
    with pytest.raises(NvmlUnavailable, match="NVML knows no such device"):
        Nvml.open("GPU-other")
    assert library.inits == 0


def test_a_device_without_uuid(library: Library) -> None:
    with pytest.raises(NvmlUnavailable, match="no UUID"):
        Nvml.open(None)


def test_gpm_gives_each_metric_between_two_samples(library: Library) -> None:
    with Nvml.open(UUID) as nvml:
        gpm = Gpm(nvml)
        assert gpm.next_window() is None
        assert gpm.next_window() == {
            "sm_util": 88.0,
            "any_tensor_util": 61.5,
            "hmma_tensor_util": 61.5,
            "imma_tensor_util": 0.0,
            "dram_bandwidth_util": 37.0,
            "fp32_util": 4.5,
            "fp16_util": 0.5,
        }
        gpm.close()
    assert library.open_samples == 0


def test_each_metric_is_checked_alone() -> None:
    library = Library(gpm={5: NAN}, gpm_returns={7: NOT_SUPPORTED})
    with installed(library), Nvml.open(UUID) as nvml:
        gpm = Gpm(nvml)
        gpm.next_window()
        found = gpm.next_window()
        gpm.close()
    assert found is not None
    assert (found["any_tensor_util"], found["hmma_tensor_util"]) == (None, None)
    assert found["sm_util"] == 88.0
    assert gpm.reasons["any_tensor_util"].startswith("NVML gave NaN")
    assert gpm.reasons["hmma_tensor_util"] == "not supported by this device"


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (Library(supports_gpm=False), NO_GPM),
        (Library(failing={"nvmlGpmQueryDeviceSupport": NOT_SUPPORTED}), NO_GPM),
        (Library(failing={"nvmlGpmQueryDeviceSupport": NO_PERMISSION}), PERMISSION_PAGE),
        (Library(failing={"nvmlGpmSampleAlloc": NO_PERMISSION}), PERMISSION_PAGE),
        (Library(failing={"nvmlGpmQueryDeviceSupport": FUNCTION_MISSING}), "driver is too old"),
        (Library(missing=("nvmlGpmQueryDeviceSupport",)), "driver is too old"),
        (Library(mig=True), MIG),
        (Library(instance=True), MIG),
    ],
)
def test_why_there_is_no_gpm(library: Library, reason: str) -> None:
    assert reason in gpm_refusal(library)


def test_a_pynvml_without_gpm(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlGpmQueryDeviceSupport")
    assert "nvidia-ml-py is too old: 'nvmlGpmQueryDeviceSupport'" in gpm_refusal(Library())


def test_an_instance_of_a_split_gpu_is_found_by_the_uuid_that_torch_gives() -> None:
    with installed(Library(instance=True)), Nvml.open(UUID) as nvml:
        assert nvml.mig is True
        assert nvml.reasons == {}


def test_a_pynvml_that_lacks_a_part_of_gpm_ends_gpm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "NVML_GPM_METRICS_GET_VERSION")
    sampler = sampled(Library())
    assert "nvidia-ml-py is too old" in sampler.readings.reasons["gpm"]
    assert len(sampler.readings.taken) >= 2


def test_without_gpm_the_sampler_reads_the_rest_and_says_why() -> None:
    sampler = sampled(Library(supports_gpm=False))
    assert len(sampler.readings.taken) >= 2
    assert all(reading.gpm is None for reading in sampler.readings.taken)
    assert sampler.readings.taken[0].power_w == 652.25
    assert sampler.readings.reasons["gpm"] == NO_GPM


def test_permission_that_is_lost_on_the_way_ends_gpm_only() -> None:
    sampler = sampled(Library(failing={"nvmlGpmSampleGet": NO_PERMISSION}))
    assert PERMISSION_PAGE in sampler.readings.reasons["gpm"]
    assert len(sampler.readings.taken) >= 2


def test_a_shared_gpu_keeps_clocks_and_drops_energy_and_counters() -> None:
    sampler = sampled(Library(processes=3))
    taken = sampler.readings.taken
    found = summary(sampler.readings, taken[0].time_ns, taken[-1].time_ns, 10)
    assert found["sm_clock_median_mhz"] == 1755
    assert found["mean_power_w"] is None
    assert "any_tensor_util_percent" not in found
    assert "3 processes compute on this GPU" in found["reasons"]["shared"]


def test_an_error_in_the_thread_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Nvml) -> float:
        raise ValueError("a bug")

    monkeypatch.setattr(Nvml, "energy_j", broken)
    assert sampled(Library(), 0.03).readings.reasons["sampling"] == "ValueError: a bug"
