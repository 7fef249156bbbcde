"""NVML that hangs, is shut down by others, is foreign or ancient: a reason, never an exception."""

from __future__ import annotations

import sys
import threading
import time
import types
from typing import Any

import pynvml
import pytest

from precscope.timing import sampler as sampling
from precscope.timing.nvml import Nvml
from precscope.timing.reasons import NvmlUnavailable
from precscope.timing.sampler import Sampler
from tests.timing.nvml_library import NOT_SUPPORTED, UUID, Library, installed


def test_a_shutdown_that_fails_loses_nothing() -> None:
    with installed(Library(failing={"nvmlShutdown": 1})):
        with Nvml.open(UUID) as nvml:
            assert nvml.energy_j() is not None
        with pytest.raises(NvmlUnavailable, match="NVML knows no such device"):
            Nvml.open("GPU-other")


def test_another_module_of_this_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", types.ModuleType("pynvml"))
    with pytest.raises(NvmlUnavailable, match="not that of nvidia-ml-py"):
        Nvml.open(UUID)


def test_a_pynvml_that_only_knows_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(uuid: Any) -> None:
        raise TypeError("bytes or integer address expected instead of str instance")

    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: b"999.42.1")
    library = Library()
    with installed(library):
        with Nvml.open(UUID) as nvml:
            assert nvml.driver == "999.42.1"
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", handle)
        with pytest.raises(NvmlUnavailable, match="nvidia-ml-py is too old: bytes"):
            Nvml.open(UUID)
    assert library.inits == 0


def test_a_gpu_that_cannot_be_split_lacks_nothing() -> None:
    failing = {"nvmlDeviceGetMigMode": NOT_SUPPORTED}
    with installed(Library(failing=failing)), Nvml.open(UUID) as nvml:
        assert nvml.mig is False
        assert nvml.reasons == {}


@pytest.mark.parametrize("answer", [1, types.SimpleNamespace(value=1)])
def test_an_instance_is_one_however_pynvml_says_so(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceIsMigDeviceHandle", lambda handle: answer)
    with installed(Library()), Nvml.open(UUID) as nvml:
        assert nvml.mig is True


def test_a_driver_that_hangs_does_not_hang_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ANSWER_S", 0.05)
    answers = threading.Event()

    def hanging(self: Nvml) -> float:
        answers.wait()
        return 1.0

    monkeypatch.setattr(Nvml, "energy_j", hanging)
    with installed(Library()), Nvml.open(UUID) as nvml:
        sampler = Sampler(nvml)
        start = time.monotonic()
        with sampler:
            pass
        took = time.monotonic() - start
        answers.set()
        sampler._thread.join()
    assert took < 5.0
    assert "did not answer" in sampler.readings.reasons["sampling"]


def test_a_thread_that_cannot_be_had_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    library = Library()
    with installed(library), Nvml.open(UUID) as nvml:
        sampler = Sampler(nvml)
        monkeypatch.setattr(threading.Thread, "start", refused)
        with sampler:
            pass
    assert sampler.readings.reasons["sampling"] == "can't start new thread"
    assert library.open_samples == 0
