"""What FP16 weights would keep of each update: retention on a bounded sample of each parameter.

    u = w_after - w_before          the update that the optimizer made
    d = fp16(w16 + c*u) - w16       what an FP16 weight moves by, with w16 = fp16(w_before)
    R = <d, c*u> / <c*u, c*u>       retention: 1 if nothing is lost, 0 if the weight stands still

The factor c in (1, 0.1, 0.01) asks the same of a later, smaller learning rate. Over a window of
steps the FP16 weight is also carried along, so that updates which add up in FP32 and never in
FP16 are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer

from precscope.facts import UpdateWindow
from precscope.kernels.launching import counting_device
from precscope.monitor.samples import SAMPLES, Sample
from precscope.monitor.tensors import local_values, unreadable
from precscope.monitor.update_window import UPDATE_FACTORS, EndedWindow, Sampled

_SUMS = 5


class UpdateSampler:
    """Compares weights before and after an optimizer step, on the parameters' device.

    Args:
        parameters: (qualified name, parameter, its optimizer group) of one device.
    """

    def __init__(self, parameters: list[tuple[str, torch.Tensor, dict[str, object]]]) -> None:
        self._samples = [Sample(n, p, g) for n, p, g in parameters if p.numel()]
        self._finished: list[EndedWindow] = []
        self._prepare()

    @property
    def has_moved(self) -> bool:
        """Whether the parameters are no longer on the device that their samples are on."""
        return self._samples[0].parameter.device != self._home

    def _prepare(self) -> None:
        self._home = self._samples[0].parameter.device
        device = counting_device(self._home)
        # By name: the user may have made another dtype the default.
        new = partial(torch.full, dtype=torch.float32, device=device)
        self._padding = [new((SAMPLES - s.view.numel(),), 0.0) for s in self._samples]
        self._factors = torch.cat([new((1, 1, 1), factor) for factor in UPDATE_FACTORS])
        self._device = device
        self._before: torch.Tensor | None = None
        self._reset()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the sampled weights: before a step, and at, carried and moved by the window."""
        return 4 * len(self._samples) * SAMPLES * 4

    def abandon_step(self) -> None:
        """Forget a step that began and did not end."""
        self._before = None

    def _reset(self) -> None:
        count = len(self._samples)
        shape = (_SUMS, len(UPDATE_FACTORS), count)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._reasons = torch.zeros((2, count), dtype=torch.float64, device=self._device)
        self._carried: torch.Tensor | None = None
        self._start: torch.Tensor | None = None
        self._moved: torch.Tensor | None = None
        self._steps: list[int] = []
        self._rates = self._last_rates = [s.rate for s in self._samples]

    def _rates_moved(self) -> bool:
        """Whether a learning rate has left an octave around the window's: R would mix the two."""
        if not self._steps:
            self._rates = [s.rate for s in self._samples]
            return False
        pairs = zip(self._rates, (s.rate for s in self._samples), strict=True)
        return any(not start / 2 <= now <= start * 2 for start, now in pairs)

    def _gather(self) -> torch.Tensor:
        pieces: list[torch.Tensor] = []
        for sample, padding in zip(self._samples, self._padding, strict=True):
            sample.refresh()
            view = sample.view.to(self._device, torch.float32)
            pieces += (view, padding) if padding.numel() else (view,)
        return torch.cat(pieces).view(len(self._samples), SAMPLES)

    def before_step(self) -> None:
        """Keep the sampled weights as they are before the update."""
        if self.has_moved:
            self._end_window()
            self._prepare()
        if self._rates_moved():
            self._end_window()
        self._before = self._gather()

    def after_step(self, step: int) -> None:
        """Add this step's retention sums; nothing is read back to the host."""
        before, self._before = self._before, None
        if before is None:
            return
        update = self._gather() - before
        weight16 = before.half().float()
        scaled = update * self._factors
        self._sums += _retention_sums((weight16 + scaled).half().float() - weight16, scaled)
        self._add_reasons(before, update)
        self._carry(weight16, update)
        self._steps.append(step)
        self._last_rates = [s.rate for s in self._samples]

    def _add_reasons(self, weight: torch.Tensor, update: torch.Tensor) -> None:
        size = update.abs()
        moved = size > 0
        self._reasons[0] += (moved & (size < 2.0**-24)).sum(1)
        self._reasons[1] += (moved & (weight.abs() > 2048 * size)).sum(1)

    def _carry(self, weight16: torch.Tensor, update: torch.Tensor) -> None:
        if self._carried is None or self._moved is None:
            self._start = self._carried = weight16
            self._moved = torch.zeros_like(update)
        self._carried = (self._carried + update).half().float()
        self._moved = self._moved + update

    def filled(self) -> list[torch.Tensor]:
        """The sums of all windows so far, where they are; ``taken`` asks for them in this order.

        A window in which a learning rate changed comes as several, one after the other.
        """
        self._end_window()
        return [tensor for window in self._finished for tensor in window.filled()]

    def taken(self, arrays: Iterator[npt.NDArray[Any]]) -> list[UpdateWindow]:
        """One record per window and parameter, from what ``filled`` gave, on the host."""
        return [fact for window in self._finished for fact in window.facts(arrays)]

    def empty(self) -> None:
        """Forget the windows that have ended: they were taken."""
        self._finished = []

    def _end_window(self) -> None:
        """Put the window aside, on its device, and start the next."""
        if self._steps:
            parameters = zip(self._samples, self._last_rates, strict=True)
            self._finished.append(
                EndedWindow(
                    tuple(
                        Sampled(s.name, s.view.numel(), rate if "lr" in s.group else None)
                        for s, rate in parameters
                    ),
                    tuple(self._steps),
                    self._sums,
                    self._reasons,
                    self._accumulated(),
                )
            )
        self._reset()

    def _accumulated(self) -> torch.Tensor | None:
        if len(self._steps) < 2 or self._carried is None or self._moved is None:
            return None
        assert self._start is not None
        return _retention_sums(self._carried - self._start, self._moved)


def make_samplers(
    model: nn.Module, optimizers: list[Optimizer], wanted: Callable[[str], bool]
) -> list[UpdateSampler]:
    """One sampler per device for the parameters of ``model`` that an optimizer moves."""
    names = {id(p): n for n, p in model.named_parameters() if wanted(n)}
    by_device: dict[torch.device, list[tuple[str, torch.Tensor, dict[str, Any]]]] = {}
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        for parameter in group["params"]:
            name = names.pop(id(parameter), None)
            if name is not None and _can_sample(parameter):
                by_device.setdefault(parameter.device, []).append((name, parameter, group))
    return [UpdateSampler(parameters) for parameters in by_device.values()]


def _can_sample(parameter: torch.Tensor) -> bool:
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        return False
    values = local_values(parameter)
    return values.is_floating_point() and values.numel() > 0 and unreadable(values) is None


def _retention_sums(kept: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """``(5, ..., parameters)`` float64: <d,u>, <u,u>, |d-u|^2, lost and non-zero updates.

    Args:
        kept: what FP16 weights move by, shape ``(..., parameters, samples)``.
        update: what they should move by, same shape.
    """
    d, u = kept.double(), update.double()
    nonzero = update != 0
    noise = d - u
    return torch.stack(
        [
            (d * u).sum(-1),
            (u * u).sum(-1),
            (noise * noise).sum(-1),
            (nonzero & (kept == 0)).sum(-1).double(),
            nonzero.sum(-1).double(),
        ]
    )
