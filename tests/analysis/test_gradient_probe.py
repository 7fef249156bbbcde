"""Which scales are tried, and that what one probe has seen spares another its forward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from precscope.advice.evidence import Evidence
from precscope.advice.headroom import Headroom
from precscope.analysis import range_probe
from precscope.analysis.gradient_probe import Candidates, candidates
from precscope.recording import Recording
from precscope.recording.contents import Contents
from precscope.workload import Session


class Seen(Evidence):
    """Evidence of which only the two ends of the window are known."""

    def __init__(self, low: int, top: int) -> None:
        super().__init__(Recording(Contents(sites=())))
        self.window = low, top

    def screen_minimum(self) -> tuple[int, str]:
        return self.window[0], "site"

    def headroom(self) -> Headroom:
        return Headroom(self.window[1], 0, 0.0, 0.0, 0.0, 10)


@pytest.mark.parametrize(
    ("low", "top", "early", "more"),
    [
        (-8, 16, {0, 16}, set()),
        (0, 16, {0, 16}, set()),
        (4, 16, {0, 4, 16}, {-2, 1, 7}),
        (14, 16, {0, 14, 16}, {8, 11}),
        (20, 16, {0, 16}, {14}),
        (-9, -3, {-3}, {-15, -12, -9, -6}),
    ],
)
def test_no_scale_the_screens_and_the_safe_one_are_tried(
    low: int, top: int, early: set[int], more: set[int]
) -> None:
    found = candidates(Seen(low, top))
    assert found == Candidates(frozenset(early), frozenset(early | more), top)


class Overflowing(nn.Module):
    """Two linear layers, the second of which overflows FP16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        nn.init.constant_(self.second.weight, 6e4)
        nn.init.ones_(self.first.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)).float() * 1e-6


class Mask(nn.Module):
    """-inf for all that is to be left out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((4, 4), -torch.inf).triu(1) + 0.0 * x.mean()


class Masked(Overflowing):
    """The mask first, then attention-like weights, then what overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = Mask()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.mask(x).softmax(-1)
        value: torch.Tensor = super().forward(x @ weights.to(x.dtype))
        return value


def session_of(model: nn.Module) -> Session:
    class Only(Session):
        def __init__(self) -> None:
            self.model = model
            self.device = torch.device("cpu")

        def batches(self) -> Iterator[Any]:
            yield torch.ones(2, 4)

        def loss(self, batch: Any) -> torch.Tensor:
            value: torch.Tensor = self.model(batch).sum()
            return value

    return Only()


@pytest.fixture
def session() -> Session:
    return session_of(Overflowing())


def test_a_mask_of_infinities_hides_no_overflow_behind_it() -> None:
    session = session_of(Masked())
    found = range_probe.probe_range(session, next(session.batches()), ())
    assert found == {"fp32_modules": ["second"], "finite": True}


def forwards(monkeypatch: pytest.MonkeyPatch) -> list[list[nn.Module]]:
    """The modules kept in FP32 by each forward that is run from now on."""
    run: list[list[nn.Module]] = []
    real = range_probe._first_to_break

    def counted(session: Session, batch: Any, keep: list[nn.Module], over: Any) -> str | None:
        run.append(list(keep))
        return real(session, batch, keep, over)

    monkeypatch.setattr(range_probe, "_first_to_break", counted)
    return run


def test_a_forward_that_was_seen_is_not_run_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forwards(monkeypatch)
    batch = next(session.batches())
    blind = range_probe.probe_range(session, batch, ())
    assert (blind, len(run)) == ({"fp32_modules": ["second"], "finite": True}, 2)
    run.clear()
    assert range_probe.probe_range(session, batch, (), ["second"]) == blind
    assert [[type(m) for m in kept] for kept in run] == [[nn.Linear]]
    assert range_probe.probe_range(session, batch, (), [None]) == {
        "fp32_modules": [],
        "finite": True,
    }
    assert len(run) == 1


def test_what_was_seen_without_fp32_modules_says_nothing_of_a_forward_with_them(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forwards(monkeypatch)
    batch = next(session.batches())
    found = range_probe.probe_range(session, batch, ("second",), ["second"])
    assert (found, len(run)) == ({"fp32_modules": [], "finite": True}, 1)
