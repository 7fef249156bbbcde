"""The networks of the GPU benchmark: GPT-2-small-sized, and ResNet-50-shaped; random data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the transformer; the defaults are GPT-2 small with its vocabulary padded to 64."""

    vocabulary: int = 50304
    width: int = 768
    heads: int = 12
    blocks: int = 12
    tokens: int = 1024
    batch: int = 8


TINY = Sizes(64, 16, 2, 1, 8, 2)


class Block(nn.Module):
    """Pre-LN transformer block."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.GELU(approximate="tanh")
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens, width)`` to the same shape."""
        batch, tokens, width = x.shape
        q, k, v = (
            part.view(batch, tokens, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(self.act(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """GPT-2: 124 M parameters at the default sizes, head tied to the embedding."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embed = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position = nn.Parameter(torch.zeros(sizes.tokens, sizes.width))
        self.blocks = nn.Sequential(*(Block(sizes) for _ in range(sizes.blocks)))
        self.norm = nn.LayerNorm(sizes.width)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens)`` to logits ``(batch, tokens, vocabulary)``."""
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.position)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
        self.shortcut = shortcut if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, inputs, h, w)`` to ``(batch, 4 width, h / stride, w / stride)``."""
        y = self.act(self.norm1(self.conv1(x)))
        y = self.norm3(self.conv3(self.act(self.norm2(self.conv2(y)))))
        y += self.shortcut(x)
        return self.act(y)


def resnet(depths: tuple[int, ...], width: int, classes: int) -> nn.Sequential:
    """ResNet-50 with depths 3, 4, 6, 3, width 64 and 1000 classes."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            own = width << stage
            layers.append(Bottleneck(inputs, own, 2 if stage and not block else 1))
            inputs = 4 * own
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers)


class TransformerSession:
    """One training of the transformer on random tokens."""

    def __init__(self, sizes: Sizes, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self._sizes = sizes
        self._device = device
        self.model: nn.Module = Transformer(sizes).to(device)
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4)

    def batches(self) -> Iterator[Any]:
        """Tokens and the tokens that follow."""
        shape = (self._sizes.batch, self._sizes.tokens + 1)
        while True:
            tokens = torch.randint(0, self._sizes.vocabulary, shape, device=self._device)
            yield tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)

    def loss(self, batch: Any) -> torch.Tensor:
        """Cross entropy."""
        logits = self.model(batch[0])
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), batch[1])

    def evaluate(self) -> dict[str, float]:
        """Nothing to evaluate on random data."""
        return {}


class ResNetSession(TransformerSession):
    """One training of the ResNet on random images, channels last."""

    def __init__(self, batch: int, side: int, model: nn.Module, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self._batch, self._side, self._device = batch, side, device
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)

    def batches(self) -> Iterator[Any]:
        """Images and classes."""
        while True:
            images = torch.randn(self._batch, 3, self._side, self._side, device=self._device)
            classes = torch.randint(0, 10, (self._batch,), device=self._device)
            yield images.contiguous(memory_format=torch.channels_last), classes

    def loss(self, batch: Any) -> torch.Tensor:
        """Cross entropy."""
        return F.cross_entropy(self.model(batch[0]).float(), batch[1])


class Network:
    """What can be trained again and again from the same start."""

    def __init__(self, make: Callable[[int, str], TransformerSession]) -> None:
        self._make = make

    def session(self, seed: int, device: str) -> TransformerSession:
        """A new model and optimizer."""
        return self._make(seed, device)


def networks(dry: bool) -> dict[str, Network]:
    """Both networks by name; tiny ones for a dry run."""
    sizes = TINY if dry else Sizes()
    depths, width, batch, side = ((1, 1), 4, 2, 16) if dry else ((3, 4, 6, 3), 64, 64, 224)

    def images(seed: int, device: str) -> ResNetSession:
        torch.manual_seed(seed)
        return ResNetSession(batch, side, resnet(depths, width, 1000), seed, device)

    return {
        "gpt2-small": Network(lambda seed, device: TransformerSession(sizes, seed, device)),
        "resnet50": Network(images),
    }
