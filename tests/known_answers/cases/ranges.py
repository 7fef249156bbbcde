"""Forward values: what overflows FP16, what nearly does, what is too small, what was never finite.

The largest finite number is 65504; from 65520, half a step further, a value rounds to infinity.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from precscope.workload import Workload
from tests.known_answers.claims import Case, Claim, above, exactly
from tests.known_answers.workloads import Result, analysed, sgd, workload

STANDSTILL = 2.0**-60
"""A learning rate at which no weight moves, so that every step has the same values."""

ADVISED = ("advised",)


def rules(result: Result, *wanted: str) -> list[tuple[str, str]]:
    """(rule, site) of the findings by these rules, most severe first."""
    return [(f["rule"], f["site"]) for f in result["findings"] if f["rule"] in wanted]


RANGE = ("non_finite", "overflow", "headroom", "underflow")


class Sum(nn.Module):
    """``wide`` adds the inputs up; ``narrow`` is an ordinary layer beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(2, 4, bias=False)
        self.narrow = nn.Linear(2, 4, bias=False)
        nn.init.ones_(self.wide.weight)
        nn.init.constant_(self.narrow.weight, 2.0**-16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both, the wide one made small again in float32."""
        total: torch.Tensor = self.wide(x).float() * 2.0**-16 + self.narrow(x).float()
        return total


def squared(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Mean square of the output, in float32."""
    output: torch.Tensor = model(batch)
    return output.float().square().mean()


def uneven_sum(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The output summed with weights 2^-10 and 2^-9 in turn, in float32."""
    output: torch.Tensor = model(batch)
    coefficients = 2.0**-10 * (1 + torch.arange(output.shape[1]) % 2)
    return (output.float() * coefficients).sum()


def _sum_of(first: float, second: float) -> Workload:
    return workload(Sum, squared, [torch.tensor([[first, second]])], sgd(STANDSTILL))


def _fits(total: int, second: float, rule: str | None) -> Case:
    def judge(folder: Path) -> Iterable[Claim]:
        result = analysed(_sum_of(total - second, second), folder, recipes=ADVISED)
        expected = [(rule, "wide")] if rule else []
        wide = [found for found in rules(result, *RANGE) if found[1] == "wide"]
        margin = f"{abs(total - (65520 if total > 40000 else 32760))} from the threshold"
        yield exactly("findings on wide", expected, wide, margin)
        kept = ["wide"] if rule == "overflow" else []
        yield exactly("kept in FP32", kept, result["recipe"]["fp32_modules"])
        advised = next(run for run in result["runs"] if run["recipe"] == "advised")
        yield exactly("advised run diverged at", None, advised["diverged_at"])

    why = {
        None: "32760 times 2 is 65520: exactly one doubling of room, which is enough",
        "headroom": f"{total} is stored as a finite number, with less than one doubling of room",
        "overflow": f"{total} is the first number that rounds to infinity in FP16",
    }[rule]
    return Case(f"activation-of-{total}", why, judge)


def _stack(last: nn.Module) -> nn.Module:
    model = nn.Sequential(OrderedDict(first=nn.Linear(4, 8), wide=nn.Linear(8, 8), last=last))
    for name, parameter in model.named_parameters():
        if name.startswith(("first", "wide")):
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 2.0**7)
    return model


def _linear_after_overflow() -> nn.Module:
    last = nn.Linear(8, 4, bias=False)
    nn.init.constant_(last.weight, 2.0**-14)
    return _stack(last)


def _keeps_wide(make: Callable[[], nn.Module]) -> Callable[[Path], Iterable[Claim]]:
    def judge(folder: Path) -> Iterable[Claim]:
        subject = workload(make, uneven_sum, [torch.ones(2, 4)], sgd(STANDSTILL))
        result = analysed(subject, folder, recipes=ADVISED)
        yield exactly(
            "overflows", [("overflow", "wide")], rules(result, "overflow"), "8 times 2^16"
        )
        yield exactly("wide kept in FP32", True, "wide" in result["recipe"]["fp32_modules"])
        advised = next(run for run in result["runs"] if run["recipe"] == "advised")
        yield exactly("advised run diverged at", None, advised["diverged_at"])
        yield exactly("steps skipped", 0, advised["skipped_steps"])
        yield exactly("findings of a broken promise", [], rules(result, "promise_broken"))

    return judge


def _tiny_weights(exponents: tuple[int, int], severity: str) -> Callable[[Path], Iterable[Claim]]:
    def model() -> nn.Module:
        tiny = nn.Linear(8, 8, bias=False)
        values = torch.tensor([2.0 ** exponents[i % 2] for i in range(64)])
        tiny.weight = nn.Parameter(values.view(8, 8))
        return nn.Sequential(OrderedDict(tiny=tiny))

    def judge(folder: Path) -> Iterable[Claim]:
        subject = workload(model, squared, [torch.full((2, 8), 2.0**10)])
        result = analysed(subject, folder)
        found = [
            (f["rule"], f["severity"]) for f in result["findings"] if f["site"] == "tiny.weight"
        ]
        yield exactly("findings on tiny.weight", [("underflow", severity)], found)
        site = next(s for s in result["sites"] if s["kind"] == "weight")
        flushed = sum(e <= -25 for e in exponents) / 2
        yield exactly("share flushed", flushed, site["flushed_fp16"])
        yield exactly("share subnormal", 1 - flushed, site["subnormal_fp16"])

    return judge


class Exponential(nn.Module):
    """The exponential function as a module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``exp(x)``, infinite in float32 from 88.7 on."""
        return x.exp()


def _blown_up(bad: int, steps: int) -> Callable[[Path], Iterable[Claim]]:
    def model() -> nn.Module:
        first = nn.Linear(4, 8)
        nn.init.constant_(first.weight, 0.25)
        layers = OrderedDict(first=first, exponential=Exponential(), last=nn.Linear(8, 4))
        return nn.Sequential(layers)

    def judge(folder: Path) -> Iterable[Claim]:
        batches = [torch.full((2, 4), 1000.0 if i == bad else 1.0) for i in range(steps)]
        result = analysed(workload(model, squared, batches, sgd(1e-3)), folder, steps=steps)
        found = rules(result, "non_finite")
        yield exactly("first site named", "exponential", found[0][1] if found else None)
        yield exactly("severity", "critical", result["verdicts"][0]["severity"])

    return judge


def _hidden_overflow(folder: Path) -> Iterable[Claim]:
    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        large = model(batch) * 2.0**17
        return (large * 2.0**-17).float().square().mean()

    def model() -> nn.Module:
        made = nn.Linear(4, 8)
        nn.init.ones_(made.weight)
        return nn.Sequential(made)

    result = analysed(workload(model, loss, [torch.ones(2, 4)], sgd(1e-3)), folder, recipes=ADVISED)
    yield exactly("overflow found", [], rules(result, "overflow"))
    yield exactly("first verdict is about", "training", result["verdicts"][0]["question"])
    yield exactly("its severity", "critical", result["verdicts"][0]["severity"])
    yield above("findings of a broken promise", 0, len(rules(result, "promise_broken")))


CASES = (
    _fits(32760, 8.0, None),
    _fits(32761, 9.0, "headroom"),
    _fits(65519, 15.0, "headroom"),
    _fits(65520, 16.0, "overflow"),
    Case(
        "overflow-before-a-norm",
        "4 * 2^7 * 8 * 2^7 = 2^19 overflows in wide; LayerNorm takes float32, so keeping wide in FP32"
        " is enough",
        _keeps_wide(lambda: _stack(nn.LayerNorm(8))),
    ),
    Case(
        "overflow-before-a-linear",
        "the same, but the next layer is a Linear, which autocast gives its input in FP16: keeping"
        " wide alone in FP32 moves the overflow into the cast, so last has to be kept as well",
        _keeps_wide(_linear_after_overflow),
    ),
    Case(
        "weights-in-the-subnormals",
        "2^-16 and 2^-20 are below FP16's smallest normal number and above its flush threshold",
        _tiny_weights((-16, -20), "advice"),
    ),
    Case(
        "weights-below-the-subnormals",
        "half of the weights are 2^-26, which FP16 flushes: 1.5 % of their sum",
        _tiny_weights((-20, -26), "warning"),
    ),
    Case(
        "infinite-in-float32-at-the-end",
        "exp(1000) is infinite in FP32 in the last step: the exponential is to blame",
        _blown_up(11, 12),
    ),
    Case(
        "infinite-in-float32-half-way",
        "the same in step 5 of 12: afterwards every weight is NaN, and still the exponential is to"
        " blame, because it was first in time",
        _blown_up(5, 12),
    ),
    Case(
        "overflow-outside-any-module",
        "a product in the loss reaches 2^18 and is divided again: no module returns it, so nothing can"
        " be found; the advised run diverges and the report has to say so first",
        _hidden_overflow,
    ),
)
