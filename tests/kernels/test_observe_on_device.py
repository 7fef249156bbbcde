"""What happens around the kernel of a GPU, told with a device that is pretended."""

from __future__ import annotations

import pytest
import torch

from precscope.kernels import codes, device, new_rows, row
from precscope.kernels.library import EIGHT_BIT
from precscope.kernels.reference import observe_reference


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A kernel that may run, and the reasons against it that are found."""
    found: dict[str, str] = {}
    monkeypatch.setattr(device, "_reasons", found)
    monkeypatch.setattr(device, "why_no_kernel", lambda _: None)
    return found


def fail(error: Exception) -> object:
    def launch(tensor: torch.Tensor, into: torch.Tensor) -> None:
        raise error

    return launch


def test_a_kernel_that_cannot_be_launched_is_given_up_and_the_counts_are_there(
    reasons: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "launch", fail(RuntimeError("Failed to find C compiler\nmore")))
    found, expected = new_rows(2)
    device.observe_on_device(torch.ones(5), found)
    observe_reference(torch.ones(5), expected)
    assert torch.equal(found, expected)
    assert reasons == {"cpu": "RuntimeError: Failed to find C compiler"}


def test_memory_that_is_full_is_no_fault_of_the_kernel(
    reasons: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "launch", fail(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        device.observe_on_device(torch.ones(5), new_rows(1)[0])
    assert reasons == {}


def test_the_table_of_an_8_bit_format_is_not_made_while_a_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codes, "_tables", {})
    monkeypatch.setattr(device, "is_capturing", lambda: True)
    values = torch.randn(300).to(EIGHT_BIT[0])
    found, expected = new_rows(2)
    device.launch(values, found)
    observe_reference(values, expected)
    assert not codes._tables
    sums = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
    found[sums] = expected[sums] = 0
    assert torch.equal(found, expected)
