"""A small transformer that reads Python: bytes of the standard library's own source files.

What half precision does to it: it starts harmlessly and gets worse. At the first step FP16 without
loss scaling flushes 2 % of the gradients of activations and gets every weight's gradient right to
0.2 %; after fifty steps it flushes 6 %, and gradients come out wrong by up to 4 %. A loss scale of
8 brings them back to 0.1 %, the floor of FP16.

Train it plainly with ``python examples/python_lm.py``, or ask first with
``precscope analyze examples/python_lm.py``.
"""

import itertools
import sysconfig
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

BATCH = 16
CONTEXT = 96
WIDTH = 96
HEADS = 4
BLOCKS = 3
HELD_OUT_EVERY = 10  # every tenth file is for validation


@cache
def sources():
    """The bytes of the top-level modules, as (training, validation)."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    if not files:
        raise SystemExit("python_lm.py reads the standard library's source files: install them")
    held_out = files[::HELD_OUT_EVERY]
    kept = [file for file in files if file not in held_out]
    return tuple(_bytes_of(part) for part in (kept, held_out))


def _bytes_of(files):
    text = b"".join(file.read_bytes() for file in files)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def windows(text, starts):
    """Bytes (B, CONTEXT) and, for each, the byte that follows it."""
    rows = text[starts[:, None] + torch.arange(CONTEXT + 1)].long()
    return rows[:, :-1], rows[:, 1:]


class Block(nn.Module):
    """Causal self-attention, then a two-layer perceptron, each on a normalised residual stream."""

    def __init__(self):
        super().__init__()
        self.norm_attention = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm_mlp = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        """(B, T, WIDTH) to the same."""
        x = x + self.attend(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))

    def attend(self, x):
        """Mix each position with those before it."""
        batch, length, _ = x.shape
        split = self.query_key_value(x).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.mix(mixed.transpose(1, 2).reshape(batch, length, WIDTH))


class Transformer(nn.Module):
    """Bytes in, the logits of the next byte out: (B, T) to (B, T, 256)."""

    def __init__(self):
        super().__init__()
        self.bytes = nn.Embedding(256, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 256)

    def forward(self, text):
        """Logits of the byte that follows each position."""
        places = torch.arange(text.shape[1], device=text.device)
        return self.head(self.norm(self.blocks(self.bytes(text) + self.positions(places))))


def model():
    return Transformer()


def batches():
    """Random windows of the training text, without end."""
    text, _ = sources()
    while True:
        yield windows(text, torch.randint(len(text) - CONTEXT, (BATCH,)))


def loss(model, batch):
    text, following = batch
    return F.cross_entropy(model(text).flatten(0, 1), following.flatten())


def optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=2e-3)


def evaluate(model):
    """Share of the next bytes guessed right in 64 windows spread over the held-out files."""
    _, text = sources()
    starts = torch.linspace(0, len(text) - CONTEXT - 1, 64).long()
    device = next(model.parameters()).device
    inputs, following = (part.to(device) for part in windows(text, starts))
    return {"byte_accuracy": (model(inputs).argmax(-1) == following).float().mean().item()}


def main():
    torch.manual_seed(0)
    net = model()
    steps = optimizer(net)
    for step, batch in enumerate(itertools.islice(batches(), 301)):
        value = loss(net, batch)
        steps.zero_grad()
        value.backward()
        steps.step()
        if step % 50 == 0:
            with torch.no_grad():
                print(f"step {step}  loss {value.item():.4f}  {evaluate(net)}")


if __name__ == "__main__":
    main()
