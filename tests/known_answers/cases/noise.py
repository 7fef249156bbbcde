"""Gradients that are zero in exact arithmetic: what FP32 leaves of them decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tests.known_answers.claims import Case, Claim, below, exactly, names
from tests.known_answers.workloads import Result, analysed, sgd, watched, workload

STEPS = 12


class Normalised(nn.Module):
    """A convolution with a bias before a BatchNorm, which subtracts it again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of four classes."""
        out: torch.Tensor = self.head(torch.relu(self.norm(self.conv(x))).flatten(1))
        return out


Pictures = tuple[torch.Tensor, torch.Tensor]


def _pictures(count: int) -> list[Pictures]:
    return [(torch.randn(16, 3, 6, 6), torch.randint(0, 4, (16,))) for _ in range(count)]


def _scored(model: nn.Module, batch: Pictures) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]).float(), batch[1])


def _screened(result: Result, noise: str) -> Iterable[Claim]:
    advice = result["loss_scale"]
    yield exactly("verdict", "not_needed", advice["verdict"])
    named = noise in str(advice["limiting_sites"]["minimum"])
    yield exactly(f"{noise} sets the minimum", False, named)
    unscaled = next(point for point in advice["curve"] if point["log2_scale"] == 0)
    yield below("worst share of sum |g| lost at 2^0", 1e-3, unscaled["l1_lost"])
    yield exactly("drift", "inside", result["drift"]["state"])
    yield below(
        "need of any window, log2", 1, max(n["needed_log2"] for n in result["drift"]["needs"])
    )


def _batch_norm_watched(folder: Path) -> Iterable[Claim]:
    model, batches = Normalised(), _pictures(STEPS)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    result = watched(model, optimizer, lambda i: _scored(model, batches[i]), STEPS, folder)
    yield from _screened(result, "conv.bias")


def _batch_norm_in_a_model_file(folder: Path) -> Iterable[Claim]:
    subject = workload(Normalised, _scored, _pictures(4), sgd(0.01))
    result = analysed(subject, folder)
    yield from _screened(result, "conv.bias")
    sentence = next(v for v in result["verdicts"] if v["question"] == "master_weights")["sentence"]
    yield exactly("conv.bias is called the worst weight", False, "conv.bias" in sentence)
    rows = {row["name"]: row["is_noise"] for row in result["master_weights"]["parameters"]}
    yield exactly("parameters that are noise", ["conv.bias"], [n for n in rows if rows[n]])


class Packed(nn.Module):
    """Self-attention whose queries, keys and values come of one layer with one bias."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.packed = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of four classes, from the mean over all places."""
        query, key, value = self.packed(x).chunk(3, -1)
        weights = (query @ key.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(-1)
        out: torch.Tensor = self.head((weights @ value).mean(1))
        return out


def _packed_bias(folder: Path) -> Iterable[Claim]:
    model = Packed()
    batches = [(torch.randn(16, 8, 32), torch.randint(0, 4, (16,))) for _ in range(STEPS)]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    result = watched(model, optimizer, lambda i: _scored(model, batches[i]), STEPS, folder)
    bias = next(
        s for s in result["sites"]
        if (s["name"], s["kind"]) == ("packed.bias", "weight_gradient")
    )  # fmt: skip
    yield below("keys' share of the bias's flushed values", 0.34, bias["flushed_fp16"])
    yield from _screened(result, "packed.bias")


def _packed_bias_in_a_model_file(folder: Path) -> Iterable[Claim]:
    batches = [(torch.randn(16, 8, 32), torch.randint(0, 4, (16,))) for _ in range(4)]
    result = analysed(workload(Packed, _scored, batches, sgd(0.01)), folder)
    yield from _screened(result, "packed.bias")
    yield below("screen's minimum, log2", 1, result["loss_scale"]["screen_minimum_log2"])


class Causal(nn.Module):
    """Self-attention over few places, each of which sees itself and those before it."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of four classes, from the mean over all places."""
        query, key, value = [f(x).unsqueeze(1) for f in (self.query, self.key, self.value)]
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: torch.Tensor = self.head(seen.squeeze(1).mean(1))
        return out


def _first_query(folder: Path) -> Iterable[Claim]:
    model = Causal()
    batches = [(torch.randn(16, 8, 32), torch.randint(0, 4, (16,))) for _ in range(STEPS)]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    result = watched(model, optimizer, lambda i: _scored(model, batches[i]), STEPS, folder)
    yield from _screened(result, "query")


def _small_bias(folder: Path) -> Iterable[Claim]:
    # Outputs of one row: the bias's gradient is the output's, no term cancels.
    for small, minimum in ((3, 6), (1, -13)):
        coefficients = torch.where(torch.arange(32) < small, 2.0**-30, 2.0**-11)
        model = nn.Sequential(nn.Linear(8, 32))
        optimizer = torch.optim.SGD(model.parameters(), 2.0**-20)
        row = torch.ones(1, 8)

        def step(
            _: int,
            model: nn.Module = model,
            row: torch.Tensor = row,
            c: torch.Tensor = coefficients,
        ) -> torch.Tensor:
            out: torch.Tensor = (model(row) * c).sum()
            return out

        advice = watched(model, optimizer, step, 4, folder)["loss_scale"]
        yield exactly(f"minimum, {small} of 32 small, log2", minimum, advice["minimum_log2"])
    faint = nn.Sequential(nn.Linear(8, 32))
    optimizer = torch.optim.SGD(faint.parameters(), 2.0**-20)
    result = watched(
        faint, optimizer, lambda _: (faint(torch.ones(1, 8)) * 2.0**-30).sum(), 4, folder
    )
    yield exactly("minimum, all of them small, log2", 6, result["loss_scale"]["minimum_log2"])
    yield names("verdict", "static", result["loss_scale"]["verdict"])


CASES = (
    Case(
        "bias-before-a-batch-norm-watched",
        "BatchNorm subtracts the mean, so no bias before it has a gradient: what FP32 shows of it is"
        " rounding error near 2^-35, and by the histograms alone no scale is needed",
        _batch_norm_watched,
    ),
    Case(
        "bias-before-a-batch-norm-in-a-model-file",
        "the same with a real backward, and its updates are no evidence about FP16 weights",
        _batch_norm_in_a_model_file,
    ),
    Case(
        "keys-in-a-packed-bias-watched",
        "softmax is blind to what all its scores share, so the keys' third of a packed bias has no"
        " gradient; the other two thirds have, and need no scale",
        _packed_bias,
    ),
    Case(
        "keys-in-a-packed-bias-in-a-model-file",
        "the same with a real backward, at scales that the screen proposes while the training runs",
        _packed_bias_in_a_model_file,
    ),
    Case(
        "first-query-of-a-causal-attention-watched",
        "the first of 8 places sees itself alone, whatever its query: an eighth of the queries has no"
        " gradient, and a fused kernel leaves rounding error there",
        _first_query,
    ),
    Case(
        "small-gradient-of-a-bias",
        "3 of 32 gradients of 2^-30 are a tenth and need 2^6 although they are 2^19 times smaller than"
        " the rest: they are whole terms, not what is left of terms; 1 of 32 may be lost",
        _small_bias,
    ),
)
