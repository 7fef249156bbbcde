"""What a monitor does on a GPU only, told without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from precscope.kernels import new_rows, observe
from precscope.kernels.row import AMAX
from precscope.monitor import Monitor, rows, steps
from precscope.monitor.modules import CAPTURED
from precscope.monitor.sink import NullSink
from precscope.monitor.unscaling import add_unscaled


class Names(TorchDispatchMode):
    """The operators that ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_scale_that_is_a_number_is_not_copied_to_the_device() -> None:
    # A copy of a number from the host makes it wait for the device, in every step.
    counted, total = new_rows(1), new_rows(1)
    observe(torch.full((3,), 8.0), counted[0])
    with Names() as names:
        amax = add_unscaled(total, counted, 4.0)
    assert amax.tolist() == [2.0]
    assert float(total.view(torch.float64)[0, AMAX]) == 2.0
    assert "full" in names.seen
    assert not {"lift_fresh", "_to_copy"} & set(names.seen[: names.seen.index("log2")])


def test_a_captured_pass_is_left_alone_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()

    with Monitor(model, optimizer, NullSink()) as monitor:
        step()
        with monkeypatch.context() as patch:
            patch.setattr(steps, "is_capturing", lambda: True)
            step()
        assert monitor.observed_steps == 1
        step()  # the rest of the step that was captured
        step()
        assert monitor.observed_steps == 2
        told = monitor.coverage()
    assert told["observer_errors"] == []
    (skipped,) = told["tensors_skipped"]
    assert skipped == {"what": "a training pass", "reason": CAPTURED, "count": 1}


def test_no_row_is_made_in_the_memory_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    store = rows.RowStore(4)
    monkeypatch.setattr(rows, "is_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA graph"):
        store.new_row(0, torch.device("cpu"), False)
    assert store.blocks == []
