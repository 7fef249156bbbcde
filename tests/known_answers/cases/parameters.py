"""Parameters that are not like the others: norms, embeddings, tied and frozen ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from tests.known_answers.cases.loss_scale import ROOM
from tests.known_answers.cases.master_weights import UNDER, parameter
from tests.known_answers.claims import Case, Claim, above, exactly, names, near
from tests.known_answers.workloads import Result, analysed, sgd, workload

ADVISED = ("advised",)


def _weight_rows(result: Result) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in result["master_weights"]["parameters"]}


class Normed(nn.Module):
    """A LayerNorm whose weight moves by less than half an ulp, before a Linear that moves freely."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(64, bias=False)
        self.body = nn.Linear(64, 64, bias=False)
        nn.init.constant_(self.norm.weight, 1.25)
        nn.init.constant_(self.body.weight, 0.5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The normalised input, and what the layer makes of it."""
        normed = self.norm(x)
        return normed, self.body(x)


def _normed_loss(model: nn.Module, batch: tuple[torch.Tensor, float]) -> torch.Tensor:
    # The normalised input is +1 and -1 in turn, and so are the signs: UNDER for every norm weight.
    normed, out = model(batch[0])
    signs = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)
    free = (out * torch.full((64,), batch[1])).sum()
    return free - (normed.float() * signs * UNDER).sum()


def _norm_stays_fp32(folder: Path) -> Iterable[Claim]:
    row = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[None]
    batches = [(row, 1.0), (row, -1.0)]
    subject = workload(Normed, _normed_loss, batches, sgd(1.0))
    result = analysed(subject, folder, steps=16, recipes=ADVISED)
    yield near("R of the norm's weight", 0.0, parameter(result, "norm")["retention"], 1e-3)
    yield near("R of the layer's weight", 1.0, parameter(result, "body")["retention"], 1e-3)
    expected = {"norm.weight": "stays_fp32", "body.weight": "not_needed"}
    yield exactly("verdicts of the parameters", expected, _weight_rows(result))
    yield exactly("verdict of the model", "not_needed", result["master_weights"]["verdict"])


def _faint_norm(model: nn.Module, row: torch.Tensor) -> torch.Tensor:
    normed, out = model(row)
    return (out * torch.ones(64)).sum() + (normed.float() * row * 2.0**-40).sum()


def _norm_gradient_needs_no_scale(folder: Path) -> Iterable[Claim]:
    row = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[None]
    result = analysed(workload(Normed, _faint_norm, [row]), folder)
    for kind, name in (("weight_gradient", "norm.weight"), ("activation", "norm")):
        site = next(s for s in result["sites"] if (s["name"], s["kind"]) == (name, kind))
        yield exactly(f"dtype of {name} under autocast", "float32", site["autocast_dtype"])
    screened = result["loss_scale"]["screen_minimum_log2"]
    yield exactly("screen's minimum, log2", -24, screened, "to the bit")
    yield exactly("verdict", "not_needed", result["loss_scale"]["verdict"])


ROWS, COLUMNS = 64, 4


def _lookup() -> nn.Module:
    table = nn.Embedding(ROWS, COLUMNS)
    nn.init.constant_(table.weight, 1.25)
    return nn.Sequential(table)


def _embedding(folder: Path) -> Iterable[Claim]:
    coefficients = torch.full((COLUMNS,), -UNDER)
    subject = workload(
        _lookup,
        lambda model, rows: (model(rows) * coefficients).sum(),
        [torch.tensor([0]), torch.tensor([1])],
        sgd(1.0),
    )
    result = analysed(subject, folder, steps=16)
    row = parameter(result, "0")
    yield exactly("verdict", "required", result["master_weights"]["verdict"])
    yield near("retention R", 0.0, row["retention"], 1e-6)
    yield exactly("share of updates lost", 1.0, row["lost_updates_fraction"], "zeros not counted")
    site = next(s for s in result["sites"] if s["kind"] == "weight_gradient")
    yield exactly("share of zero gradients", 1 - 1 / ROWS, site["zero_fraction"])


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        nn.init.constant_(self.first.weight, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both, which is twice either."""
        total: torch.Tensor = self.first(x).float() + self.second(x).float()
        return total


def _tied(folder: Path) -> Iterable[Claim]:
    def still_tied(model: Tied) -> dict[str, float]:
        return {"tied": float(model.first.weight is model.second.weight)}

    subject = workload(
        Tied,
        lambda model, x: (model(x) * 2.0**-20).sum(),
        [torch.ones(1, 8)],
        evaluate=still_tied,
    )
    result = analysed(subject, folder, recipes=ADVISED)
    kinds = ("weight", "weight_gradient")
    found = [s["name"] for s in result["sites"] if s["kind"] in kinds]
    yield exactly("weight sites", ["first.weight"] * 2, found)
    yield exactly("parameters judged", ["first.weight"], list(_weight_rows(result)))
    advice = result["loss_scale"]
    yield exactly("maximum, log2", ROOM + 19, advice["maximum_log2"], "to the bit")
    yield names("site of the maximum", "first.weight", advice["limiting_sites"]["maximum"])
    tied = {run["recipe"]: run["metrics"]["tied"] for run in result["runs"]}
    yield exactly("tied during training", {"fp32": 1.0, "advised": 1.0}, tied)


class HalfFrozen(nn.Module):
    """A frozen layer and one that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(8, 64, bias=False).requires_grad_(False)
        self.body = nn.Linear(8, 64, bias=False)
        for weight in self.parameters():
            nn.init.constant_(weight, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both."""
        total: torch.Tensor = self.frozen(x).float() + self.body(x).float()
        return total


def _frozen(folder: Path) -> Iterable[Claim]:
    subject = workload(
        HalfFrozen,
        lambda model, batch: (model(torch.ones(1, 8)) * batch).sum(),
        [torch.full((64,), -1.0), torch.full((64,), 1.0)],
        sgd(1.0),
        lambda model: {"frozen": float(model.frozen.weight[0, 0])},
    )
    result = analysed(subject, folder, steps=16, recipes=ADVISED)
    gradients = [s["name"] for s in result["sites"] if s["kind"] == "weight_gradient"]
    yield exactly("weight gradients", ["body.weight"], gradients)
    yield exactly("verdict of the model", "not_needed", result["master_weights"]["verdict"])
    required = [name for name, verdict in _weight_rows(result).items() if verdict == "required"]
    yield exactly("parameters that need a master", [], required)
    advised = next(run for run in result["runs"] if run["recipe"] == "advised")
    yield exactly("frozen weight afterwards", 0.5, advised["metrics"]["frozen"])


def _weight_gradient_limits(folder: Path) -> Iterable[Claim]:
    subject = workload(
        lambda: nn.Sequential(nn.Linear(8, 8, bias=False)),
        lambda model, x: (model(x).float() * 1.0).sum(),
        [torch.full((4, 8), 2.0**10)],
        sgd(2.0**-60),
    )
    result = analysed(subject, folder)
    advice = result["loss_scale"]
    yield exactly("maximum, log2", ROOM - 12, advice["maximum_log2"], "to the bit")
    yield names("site of the maximum", "weight gradient", advice["limiting_sites"]["maximum"])


def _bias_before_batch_norm(folder: Path) -> Iterable[Claim]:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))

    batches = [(torch.randn(32, 8), torch.randint(4, (32,))) for _ in range(4)]
    subject = workload(
        model,
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]).float(), batch[1]),
        batches,
        sgd(0.1),
    )
    result = analysed(subject, folder)
    exact = next(s for s in result["sites"] if s["name"] == "0.bias" and "gradient" in s["kind"])
    yield above("gradient of the bias flushed", 0.5, exact["flushed_fp16"])
    yield exactly("verdict", "not_needed", result["loss_scale"]["verdict"])


CASES = (
    Case(
        "norm-weights-stay-in-fp32",
        "the norm's weight loses every update in FP16, but no recipe stores it there; the layer's moves"
        " by 1, of which FP16 keeps all",
        _norm_stays_fp32,
    ),
    Case(
        "gradient-of-a-norm-needs-no-scale",
        "autocast leaves the norm's weight in FP32, so that its gradient is not at risk: 1 alone"
        " counts, the gradient of the layer",
        _norm_gradient_needs_no_scale,
    ),
    Case(
        "embedding-is-an-fp16-weight",
        "autocast does not cast an embedding, an FP16 recipe does: every update is lost, and the rows"
        " that were not looked up are no lost updates",
        _embedding,
    ),
    Case(
        "tied-weights-are-one",
        "each use contributes 2^-20, so the one gradient is 2^-19 and allows 2^32",
        _tied,
    ),
    Case(
        "frozen-parameters-need-nothing",
        "a weight without a gradient has no update to lose, also where the optimizer holds it",
        _frozen,
    ),
    Case(
        "weight-gradient-sets-the-maximum",
        "the outputs' gradients are 1, the weights' are 4 * 2^10 = 2^12",
        _weight_gradient_limits,
    ),
    Case(
        "bias-before-a-batch-norm",
        "its true gradient is zero, so what was measured is rounding: to flush it harms nothing",
        _bias_before_batch_norm,
    ),
)
