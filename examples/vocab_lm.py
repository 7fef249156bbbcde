"""A word language model with 10 000 words, on the text of the standard library's source files.

What half precision does to it: without loss scaling FP16 flushes much of the gradient to zero.
The cross-entropy is a mean over 1024 words and its softmax is spread over 10 000, so the gradient
of an average logit is 1 / (1024 * 10 000) = 2^-23.3, and once the frequent words have taken most of
the probability, the others fall below 2^-25, which FP16 rounds to zero. What is lost is tiny but all
of one sign, so it adds up: after fifty steps the gradients of the lower layers are wrong by more
than 10 %. A loss scale of 64 or more cures it.

The network is that of Bengio et al. (2003): the embeddings of the last words, side by side,
through one hidden layer. Train it plainly with ``python examples/vocab_lm.py``, or ask first with
``precscope analyze examples/vocab_lm.py``.
"""

import itertools
import re
import sysconfig
from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY = 10_000
RARE = 0  # stands for every word that is not among the most frequent
CONTEXT = 6
BATCH = 1024
HELD_OUT_EVERY = 10  # every tenth file is for validation


@cache
def words():
    """Word numbers of the text as (training, validation); 1 is the most frequent word."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted([*library.glob("*.py"), *library.glob("[a-z]*/*.py")])
    if not files:
        raise SystemExit("vocab_lm.py reads the standard library's source files: install them")
    texts = [_words_of(file) for file in files]
    counts = Counter(itertools.chain.from_iterable(texts))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 1]
    numbers = {word: number for number, word in enumerate(ranked, start=1)}
    held_out = texts[::HELD_OUT_EVERY]
    kept = [text for index, text in enumerate(texts) if index % HELD_OUT_EVERY]
    return tuple(_numbered(part, numbers) for part in (kept, held_out))


def _words_of(file):
    return re.findall(r"[a-z]+", file.read_text(encoding="utf-8", errors="replace").lower())


def _numbered(texts, numbers):
    return torch.tensor([numbers.get(word, RARE) for text in texts for word in text])


def windows(text, starts):
    """CONTEXT word numbers (B, CONTEXT) and the word that follows them (B,)."""
    rows = text[starts[:, None] + torch.arange(CONTEXT + 1)]
    return rows[:, :-1], rows[:, -1]


def model():
    layers = OrderedDict(
        embedding=nn.Embedding(VOCABULARY, 48),
        side_by_side=nn.Flatten(),
        hidden=nn.Linear(CONTEXT * 48, 96),
        tanh=nn.Tanh(),
        vocabulary=nn.Linear(96, VOCABULARY),
    )
    return nn.Sequential(layers)


def batches():
    """Random places in the training text, without end."""
    text, _ = words()
    while True:
        yield windows(text, torch.randint(len(text) - CONTEXT, (BATCH,)))


def loss(model, batch):
    context, following = batch
    return F.cross_entropy(model(context), following)


def optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=3e-3)


def evaluate(model):
    """Share of the next words guessed right at 4096 places spread over the held-out files."""
    _, text = words()
    starts = torch.linspace(0, len(text) - CONTEXT - 1, 4096).long()
    device = next(model.parameters()).device
    context, following = (part.to(device) for part in windows(text, starts))
    return {"word_accuracy": (model(context).argmax(-1) == following).float().mean().item()}


def main():
    torch.manual_seed(0)
    net = model()
    steps = optimizer(net)
    for step, batch in enumerate(itertools.islice(batches(), 201)):
        value = loss(net, batch)
        steps.zero_grad()
        value.backward()
        steps.step()
        if step % 20 == 0:
            with torch.no_grad():
                print(f"step {step}  loss {value.item():.4f}  {evaluate(net)}")


if __name__ == "__main__":
    main()
