"""Speech recognition with a bidirectional GRU and CTC (the paper's section 4.3 and Figure 2a).

DeepSpeech 2 (Amodei et al., 2016) in miniature: log-mel features, convolutions over time, two
bidirectional GRU layers, connectionist temporal classification over letters. In the paper's Table 3
mixed precision is 5 to 10 % better than FP32 in character error rate; in its Figure 2a the same
network with FP16 weights, without an FP32 copy, loses 80 % of its accuracy.

The speech is one person's, recorded for a telephone exchange: see ``data_speech.py``.
``PRECSCOPE_PAPER_SIZE`` (quick, small, large) sets the sizes.

Train it plainly with ``python examples/paper/speech.py``, or ask first with
``precscope analyze examples/paper/speech.py``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from data_speech import MELS, log_mel, prompts
from edits import error_rate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

STEPS = {"quick": 20, "small": 500, "large": 20_000}
LETTERS = "_ 'abcdefghijklmnopqrstuvwxyz"  # 0 is CTC's blank
HELD_OUT_EVERY = 8


class Size(NamedTuple):
    """``width`` of each direction; ``shift`` in frames of 10 ms, of the augmentation."""

    width: int
    layers: int
    batch: int
    longest_seconds: float


SIZES = {
    "quick": Size(24, 1, 8, 0.8),
    "small": Size(96, 2, 16, 2.0),
    "large": Size(800, 5, 64, 8.0),
}
SIZE = os.environ.get("PRECSCOPE_PAPER_SIZE", "small")
HERE = SIZES[SIZE]


class Batch(NamedTuple):
    """Padded features (B, T, MELS), letters one after another (sum of ``lengths``), and lengths."""

    features: Tensor
    frames: Tensor
    letters: Tensor
    lengths: Tensor


@cache
def utterances(held_out: bool) -> list[tuple[Tensor, Tensor]]:
    """Features (T, MELS) and letters (L,) of every eighth prompt, or of the others."""
    chosen = [
        prompt
        for number, prompt in enumerate(prompts(HERE.longest_seconds))
        if (number % HELD_OUT_EVERY == 0) == held_out
    ]
    return [(log_mel(path), torch.tensor([LETTERS.index(c) for c in s])) for path, s in chosen]


def together(chosen: list[tuple[Tensor, Tensor]]) -> Batch:
    """A batch of utterances."""
    features, letters = zip(*chosen, strict=True)
    frames, lengths = (torch.tensor([len(x) for x in part]) for part in (features, letters))
    return Batch(
        pad_sequence(list(features), batch_first=True), frames, torch.cat(letters), lengths
    )


class Recogniser(nn.Module):
    """Features (B, T, MELS) and their frames to logits (B, T / 3, letters) and their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(MELS, 2 * HERE.width, 11, stride=3, padding=5)
        self.recurrent = nn.GRU(
            2 * HERE.width, HERE.width, HERE.layers, batch_first=True, bidirectional=True
        )
        self.norm = nn.LayerNorm(2 * HERE.width)
        self.letters = nn.Linear(2 * HERE.width, len(LETTERS))

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Both directions of the GRU see only the frames that are there."""
        x = F.relu(self.front(features.transpose(1, 2))).transpose(1, 2)
        lengths = (frames + 2) // 3
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.letters(self.norm(x)), lengths


def model() -> nn.Module:
    """The recogniser."""
    return Recogniser()


def batches() -> Iterator[Batch]:
    """One shuffled epoch of whole batches."""
    known = utterances(held_out=False)
    for rows in torch.randperm(len(known)).split(HERE.batch):
        if len(rows) == HERE.batch:
            yield together([known[row] for row in rows.tolist()])


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """CTC: minus the log probability per letter, over every way to align letters with frames."""
    logits, lengths = model(batch.features, batch.frames)
    likely = F.log_softmax(logits, -1).transpose(0, 1)
    return F.ctc_loss(likely, batch.letters, lengths, batch.lengths, zero_infinity=True)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW."""
    return torch.optim.AdamW(model.parameters(), lr=2e-3)


def evaluate(model: nn.Module) -> dict[str, float]:
    """1 - character error rate of the best letter per frame, on held-out prompts.

    A network that says nothing has 0; one that says too much has less.
    """
    device = next(model.parameters()).device
    batch = together(utterances(held_out=True))
    logits, lengths = model(batch.features.to(device), batch.frames)
    truths = [letters.tolist() for letters in batch.letters.split(batch.lengths.tolist())]
    guesses = [
        collapse(row[:end].argmax(-1).tolist()) for row, end in zip(logits, lengths, strict=True)
    ]
    return {"character_accuracy": 1 - error_rate(zip(guesses, truths, strict=True))}


def collapse(path: list[int]) -> list[int]:
    """The letters of a path: repeats merged, then blanks dropped."""
    return [letter for letter, _ in itertools.groupby(path) if letter]


def main() -> None:
    """Train in FP32 and say how it goes."""
    torch.manual_seed(0)
    net, steps = model(), STEPS[SIZE]
    updates = optimizer(net)
    epochs = itertools.chain.from_iterable(batches() for _ in itertools.count())
    for step, batch in enumerate(itertools.islice(epochs, steps), start=1):
        value = loss(net.train(), batch)
        updates.zero_grad()
        value.backward()
        updates.step()
        if step % max(steps // 10, 1) == 0:
            with torch.no_grad():
                print(f"step {step}  loss {value.item():.4f}  {evaluate(net.eval())}", flush=True)


if __name__ == "__main__":
    main()
