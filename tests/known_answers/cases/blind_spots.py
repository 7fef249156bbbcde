"""Where a look at the modules' tensors alone misleads: what happens between them decides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from tests.known_answers.cases.loss_scale import scale_claims
from tests.known_answers.claims import Case, Claim, below, exactly, names, near
from tests.known_answers.workloads import (
    Heads,
    Result,
    analysed,
    heads,
    sgd,
    watched,
    weighted_sum,
    workload,
)

ADVISED = ("advised",)


def _loss_in_half(folder: Path) -> Iterable[Claim]:
    def model() -> nn.Module:
        made = nn.Linear(8, 64, bias=False)
        nn.init.constant_(made.weight, 2.0**7)
        return nn.Sequential(made)

    # 64 outputs of 2^10: their mean times 2^-24 is still a float16 number.
    subject = workload(model, lambda m, x: (m(x) * 2.0**-24).mean(), [torch.ones(1, 8)])
    result = analysed(subject, folder, recipes=ADVISED)
    advice = result["loss_scale"]
    yield exactly("minimum, log2", 6, advice["minimum_log2"], "to the bit")
    yield exactly("verdict", "static", advice["verdict"])
    yield below("maximum, log2", 16, advice["maximum_log2"])
    advised = next(run for run in result["runs"] if run["recipe"] == "advised")
    yield exactly("steps skipped with the advice", 0, advised["skipped_steps"], "of 10")


def _damped(model: Heads, batch: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> torch.Tensor:
    outputs = model(batch[0])
    small = (outputs["small"] * batch[1]["small"]).sum()
    return small + ((outputs["damped"] * 2.0**-16) * batch[1]["damped"]).sum()


def _hidden_gradient(folder: Path) -> Iterable[Claim]:
    coefficients = {"damped": torch.ones(32), "small": torch.full((32,), 2.0**-30)}
    batch = (torch.ones(1, 8), coefficients)
    subject = workload(lambda: Heads(("damped", "small")), _damped, [batch])
    result = analysed(subject, folder, recipes=ADVISED)
    advice = result["loss_scale"]
    yield exactly("minimum, log2", 6, advice["minimum_log2"], "to the bit")
    yield below("maximum, log2", 16, advice["maximum_log2"])
    yield below("recommended, log2", 16, advice["recommended_log2"])
    advised = next(run for run in result["runs"] if run["recipe"] == "advised")
    yield exactly("steps skipped with the advice", 0, advised["skipped_steps"], "of 10")


def _gradient_between_the_probes(folder: Path) -> Iterable[Claim]:
    nothing, small = {"body": 0.0}, {"body": 2.0**-30}
    result = analysed(heads(*[nothing] * 2, *[small] * 8, *[nothing] * 2), folder)
    yield from scale_claims(result, 6, 43, "static", 24)


def _some_steps_without_gradient(folder: Path) -> Iterable[Claim]:
    result = analysed(heads({"body": 2.0**-30}, {"body": 0.0}), folder)
    yield from scale_claims(result, 6, 43, "static", 24)


def _watched_heads(coefficients: dict[str, torch.Tensor], folder: Path) -> Result:
    model = Heads(tuple(coefficients), width=len(next(iter(coefficients.values()))))
    batch = (torch.ones(1, 8), coefficients)
    optimizer = torch.optim.SGD(model.parameters(), 2.0**-20)
    result = watched(model, optimizer, lambda _: weighted_sum(model, batch), 4, folder)
    found: Result = result["loss_scale"]
    return found


def _mostly(exponent: int, small: int) -> torch.Tensor:
    """320 gradients of this exponent, the first of them 2^-26."""
    return torch.where(torch.arange(320) < small, 2.0**-26, 2.0**exponent)


def _screen_alone(folder: Path) -> Iterable[Claim]:
    for exponent, small, minimum in ((-11, 16, -13), (-11, 17, 2), (-22, 16, 2)):
        advice = _watched_heads({"body": _mostly(exponent, small)}, folder)
        mass = small * 2.0**-26 / (small * 2.0**-26 + (320 - small) * 2.0**exponent)
        share = f"{small / 320:.2%} of 5 %, sum {mass:.1e} of 1e-3"
        what = f"minimum, {small} small beside 2^{exponent}"
        yield exactly(what, minimum, advice["minimum_log2"], share)


def _watched_impossible(folder: Path) -> Iterable[Claim]:
    advice = _watched_heads(
        {"large": torch.full((32,), 2.0**6), "small": torch.full((32,), 2.0**-34)}, folder
    )
    yield exactly("minimum, log2", 10, advice["minimum_log2"], "to the bit")
    yield exactly("maximum, log2", 7, advice["maximum_log2"], "to the bit")
    yield exactly("verdict", "impossible", advice["verdict"], "by one bit")
    limits = advice["limiting_sites"]
    yield names("site of the minimum", "heads.small", limits["minimum"])
    yield names("site of the maximum", "heads.large", limits["maximum"])


def _fp16_embedding(folder: Path) -> Iterable[Claim]:
    def model() -> nn.Module:
        table, body = nn.Embedding(8, 32), nn.Linear(32, 4)
        nn.init.constant_(table.weight, 0.5)
        return nn.ModuleDict({"table": table, "body": body})

    def loss(model: nn.ModuleDict, rows: torch.Tensor) -> torch.Tensor:
        looked_up = model["table"](rows)
        beside = model["body"](torch.ones(1, 32)).float()
        return -(looked_up * small).sum() - (beside * 2.0**-10).sum()

    small = torch.full((32,), 2.0**-30)
    subject = workload(
        model, loss, [torch.tensor([0])], sgd(2.0**20),
        lambda model: {"moved": float(model["table"].weight[0, 0]) - 0.5},
    )  # fmt: skip
    result = analysed(subject, folder, recipes=ADVISED)
    runs = {run["recipe"]: run["metrics"] for run in result["runs"]}
    yield near("FP32 moves the row by", 10 * 2.0**-10, runs["fp32"]["moved"], 1e-7)
    yield near("the advice moves it by", 10 * 2.0**-10, runs["advised"].get("moved"), 2.0**-12)


def _large_embedding(folder: Path) -> Iterable[Claim]:
    def model() -> nn.Module:
        table = nn.Embedding(8, 32)
        nn.init.constant_(table.weight, 2.0**17)
        return nn.Sequential(table)

    subject = workload(
        model,
        lambda model, rows: (model(rows).float() * 2.0**-17).square().mean(),
        [torch.tensor([0])],
        sgd(2.0**-60),
    )
    result = analysed(subject, folder, recipes=ADVISED)
    runs = {run["recipe"]: run for run in result["runs"]}
    yield near("loss in FP32", 1.0, runs["fp32"]["final_loss"], 1e-6)
    yield near("loss with the advice", 1.0, runs["advised"]["final_loss"], 1e-3)


class Faint(nn.Module):
    """``faint`` returns 2^-27, which is multiplied by 2^27 in float32 right behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.faint = nn.Linear(8, 16, bias=False)
        nn.init.constant_(self.faint.weight, 2.0**-14)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """1 in float32; 0 if the layer's output was stored in FP16."""
        out: torch.Tensor = self.faint(x).float() * 2.0**27
        return out


def _faint_activation(folder: Path) -> Iterable[Claim]:
    subject = workload(
        Faint,
        lambda model, x: (model(x) - 2.0).square().mean(),
        [torch.full((1, 8), 2.0**-16)],
        sgd(2.0**-60),
    )
    result = analysed(subject, folder, recipes=ADVISED)
    flushed = [f["site"] for f in result["findings"] if f["rule"] == "underflow"]
    yield exactly("underflow found at", ["faint"], flushed)
    runs = {run["recipe"]: run["final_loss"] for run in result["runs"]}
    yield near("loss in FP32", 1.0, runs["fp32"], 1e-6)
    yield near("loss with the advice", 1.0, runs["advised"], 1e-3)


CASES = (
    Case(
        "loss-computed-in-half",
        "mean() of a float16 output is float16 on a CPU: the scale itself, the loss's first gradient,"
        " may be 2^15 and not 2^16; the outputs' gradients are 2^-30 and need 2^6",
        _loss_in_half,
    ),
    Case(
        "gradient-overflows-between-modules",
        "behind a factor of 2^-16 outside any module the gradient is 1, at the module 2^-16: the"
        " modules alone allow 2^29, but from 2^16 on it overflows; the other head needs 2^6",
        _hidden_gradient,
    ),
    Case(
        "no-gradient-where-it-is-probed",
        "gradients of 2^-30 in steps 2 to 9, none in the steps that are probed: a backward that saw"
        " nothing cannot overrule the screen's 2^6",
        _gradient_between_the_probes,
    ),
    Case(
        "every-other-step-without-gradient",
        "steps whose gradients are all zero say nothing about the scale",
        _some_steps_without_gradient,
    ),
    Case(
        "screen-allows-five-percent",
        "by the histograms alone: 16 of 320 values may be lost, 17 may not, and not 16 either where"
        " they are more than a thousandth of the sum",
        _screen_alone,
    ),
    Case(
        "watched-impossible-by-one-bit",
        "by the histograms alone: 2^6 overflows from 2^10 on, and 2^-34 needs 2^10",
        _watched_impossible,
    ),
    Case(
        "embedding-gradient-in-an-fp16-weight",
        "autocast leaves an embedding in FP32; the advised recipe stores it, and its gradient of 2^-30,"
        " in FP16: without a scale the row would not move",
        _fp16_embedding,
    ),
    Case(
        "embedding-weight-beyond-fp16",
        "autocast would leave the table of 2^17 in FP32; a recipe with FP16 weights makes it infinite",
        _large_embedding,
    ),
    Case(
        "activation-below-fp16",
        "the layer's output is 2^-27, zero in FP16, and made 1 again behind it: it has to stay in FP32",
        _faint_activation,
    ),
)
