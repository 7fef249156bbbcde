"""The two networks that the cost of observing is measured on."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, WIDTH, HEADS, BLOCKS, TOKENS = 1000, 128, 4, 4, 64


class Block(nn.Module):
    """Pre-LN transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens, width)`` to the same shape."""
        batch, tokens, _ = x.shape
        q, k, v = (
            part.view(batch, tokens, HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.down(self.act(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Four blocks, 1000 words, 0.99 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(torch.zeros(TOKENS, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens)`` to logits ``(batch, tokens, vocabulary)``."""
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.position)))


def transformer() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Model, batch of 8 x 64 tokens, targets."""
    tokens = torch.randint(0, VOCABULARY, (8, TOKENS + 1))
    return Transformer(), tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)


class Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm, ReLU in place, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, inputs, h, w)`` to ``(batch, outputs, h / stride, w / stride)``."""
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        y += self.shortcut(x)
        return self.act(y)


def resnet() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A ResNet-20-shaped net on 32 x 32 images, batch 32."""
    widths = (16, 16, 16, 32, 32, 32, 64, 64, 64)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
    ]  # fmt: skip
    before = 16
    for width in widths:
        layers.append(Residual(before, width, 1 if width == before else 2))
        before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers), torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))


MODELS = {"transformer": transformer, "resnet": resnet}
