"""A language model: a projected LSTM under a softmax over 10 000 words (the paper's section 4.5).

bigLSTM (Jozefowicz et al., 2016) in miniature: LSTM cells that are projected to a narrower state,
Adagrad, a large vocabulary. In the paper it diverges without loss scaling, after 300 000
iterations; with a scale of 128 it matches FP32. Here, too, the gradients are small: each is that of
a mean over all words of the batch, spread over the vocabulary by the softmax. It has full softmax
where the paper samples it.

The text is the docstrings and comments of Python's standard library. ``PRECSCOPE_PAPER_SIZE``
(quick, small, large) sets the sizes.

Train it plainly with ``python examples/paper/language_model.py``, or ask first with
``precscope analyze examples/paper/language_model.py``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = {"quick": 20, "small": 400, "large": 20_000}
RARE = 0  # stands for every word that is not in the vocabulary
HELD_OUT_EVERY = 10  # every tenth file is for validation
REMARKS = re.compile(r'"""[\s\S]*?"""|#.*')  # docstrings and comments
WORDS = re.compile(r"[a-z]+|[0-9]+|[.,;:()]")


class Size(NamedTuple):
    """``cells`` of each LSTM layer and the ``state`` that they are projected to."""

    cells: int
    state: int
    layers: int
    vocabulary: int
    batch: int
    context: int
    files: int | None
    test_windows: int


SIZES = {
    "quick": Size(64, 32, 1, 10_000, 4, 16, 40, 8),
    "small": Size(256, 64, 2, 10_000, 16, 32, None, 64),
    "large": Size(2048, 512, 2, 12_000, 256, 64, None, 512),
}
SIZE = os.environ.get("PRECSCOPE_PAPER_SIZE", "small")
HERE = SIZES[SIZE]
Pair = tuple[Tensor, Tensor]


@cache
def text(held_out: bool) -> Tensor:
    """Word numbers of every tenth file or of the others; 1 is the most frequent word."""
    files = {number: words_of(file) for number, file in enumerate(sources())}
    counts = Counter(itertools.chain.from_iterable(files.values()))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: HERE.vocabulary - 1]
    numbers = {word: number for number, word in enumerate(ranked, start=RARE + 1)}
    chosen = [files[number] for number in files if (number % HELD_OUT_EVERY == 0) == held_out]
    return torch.tensor([numbers.get(word, RARE) for words in chosen for word in words])


def sources() -> list[Path]:
    """The modules of the standard library, tests excluded."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [
        *library.glob("*.py"),
        *library.glob("[a-z]*/*.py"),
        *library.glob("[a-z]*/[a-z]*/*.py"),
    ]
    own = [
        f for f in files if not {"test", "tests", "site-packages"} & {*f.relative_to(library).parts}
    ]
    if not own:
        raise SystemExit("no text: install the source files of Python's standard library")
    return sorted(own)[: HERE.files]


def words_of(file: Path) -> list[str]:
    """Words, numbers and punctuation of the docstrings and comments."""
    source = file.read_text(encoding="utf-8", errors="replace").lower()
    return WORDS.findall(" ".join(REMARKS.findall(source)))


def windows(words: Tensor, starts: Tensor) -> Pair:
    """Words (B, context) and, for each, the one that follows it."""
    rows = words[starts[:, None] + torch.arange(HERE.context + 1)]
    return rows[:, :-1], rows[:, 1:]


class LanguageModel(nn.Module):
    """Words (B, T) to the logits of the next words, (B, T, vocabulary)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(HERE.vocabulary, HERE.state)
        self.recurrent = nn.LSTM(
            HERE.state, HERE.cells, HERE.layers, batch_first=True, proj_size=HERE.state
        )
        self.output = nn.Linear(HERE.state, HERE.vocabulary)

    def forward(self, words: Tensor) -> Tensor:
        """Every window starts from a state of zeros."""
        states, _ = self.recurrent(self.words(words))
        logits: Tensor = self.output(states)
        return logits


def model() -> nn.Module:
    """The language model."""
    return LanguageModel()


def batches() -> Iterator[Pair]:
    """Windows at random places of the training text, without end."""
    words = text(held_out=False)
    while True:
        yield windows(words, torch.randint(len(words) - HERE.context, (HERE.batch,)))


def loss(model: nn.Module, batch: Pair) -> Tensor:
    """Cross-entropy, in nats per word."""
    words, following = batch
    return F.cross_entropy(model(words).flatten(0, 1), following.flatten())


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Adagrad, as Jozefowicz et al. train."""
    return torch.optim.Adagrad(model.parameters(), lr=0.02)


def evaluate(model: nn.Module) -> dict[str, float]:
    """Perplexity of held-out text with its sign changed, so that higher is better.

    A model that knows nothing has minus the size of the vocabulary.
    """
    words = text(held_out=True)
    starts = torch.linspace(0, len(words) - HERE.context - 1, HERE.test_windows).long()
    device = next(model.parameters()).device
    parts = [windows(words, part) for part in starts.split(HERE.batch)]
    losses = [loss(model, (inputs.to(device), next_.to(device))).item() for inputs, next_ in parts]
    return {"negative_perplexity": -math.exp(sum(losses) / len(losses))}


def main() -> None:
    """Train in FP32 and say how it goes."""
    torch.manual_seed(0)
    net, steps = model(), STEPS[SIZE]
    updates = optimizer(net)
    for step, batch in enumerate(itertools.islice(batches(), steps), start=1):
        value = loss(net.train(), batch)
        updates.zero_grad()
        value.backward()
        updates.step()
        if step % max(steps // 10, 1) == 0:
            with torch.no_grad():
                print(f"step {step}  loss {value.item():.4f}  {evaluate(net.eval())}", flush=True)


if __name__ == "__main__":
    main()
