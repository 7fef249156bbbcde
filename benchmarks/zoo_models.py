"""Fifty small architectures of torch's own layers, each with a training step on random data.

``ZOO`` maps a name to a function without arguments that returns a model and its step: a function
of the model that returns a scalar loss. Both draw from torch's global random stream only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint

Step = Callable[[nn.Module], torch.Tensor]
ZOO: dict[str, Callable[[], tuple[nn.Module, Step]]] = {}


class Net(nn.Module):
    """Named parts, and a function of them and the input."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        """Apply the function."""
        return self.function(self, *inputs)


def entry(name: str, *shape: int, classes: int = 0, tokens: int = 0) -> Callable[[Any], Any]:
    """Register a builder of a model whose input has ``shape``.

    The loss is a mean square, or with ``classes`` the cross-entropy of random labels.
    """

    def step(model: nn.Module) -> torch.Tensor:
        x = torch.randint(0, tokens, shape) if tokens else torch.randn(*shape)
        out = model(x)
        if not classes:
            return out.square().mean()
        return F.cross_entropy(
            out.flatten(0, -2), torch.randint(0, classes, out.shape[:-1]).flatten()
        )

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ZOO[name] = lambda: (build(), step)
        return build

    return register


def own_step(name: str, step: Step) -> Callable[[Any], Any]:
    """Register a builder with a step of its own."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ZOO[name] = lambda: (build(), step)
        return build

    return register


def conv(i: int, o: int, k: int = 3, **more: Any) -> nn.Sequential:
    """Convolution, batch norm, in-place ReLU."""
    more.setdefault("padding", k // 2)
    return nn.Sequential(nn.Conv2d(i, o, k, **more), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


def head(i: int, o: int = 5) -> nn.Sequential:
    """Global pooling and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, o))


def residual(body: nn.Module) -> nn.Module:
    """The sum with the input, added in place, and an in-place ReLU."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        y += x
        return self.act(y)

    return Net(forward, body=body, act=nn.ReLU(inplace=True))


def pre_norm(body: nn.Module, width: int) -> nn.Module:
    """``x + body(norm(x))``."""
    return Net(lambda s, x: x + s.body(s.norm(x)), body=body, norm=nn.LayerNorm(width))


IMAGE = (4, 3, 16, 16)


@entry("linear regression", 8, 5)
def _() -> nn.Module:
    return nn.Linear(5, 1)


@entry("mlp", 8, 6, classes=3)
def _() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))


@entry("self-normalising mlp", 8, 6, classes=3)
def _() -> nn.Module:
    layers = [m for _ in range(4) for m in (nn.Linear(6, 6), nn.SELU(True), nn.AlphaDropout(0.1))]
    return nn.Sequential(*layers, nn.Linear(6, 3))


@entry("highway", 8, 6, classes=6)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(s.gate(x))
        return gate * F.relu(s.plain(x)) + (1 - gate) * x

    return nn.Sequential(
        *[Net(forward, gate=nn.Linear(6, 6), plain=nn.Linear(6, 6)) for _ in range(3)]
    )


@entry("lenet", *IMAGE, classes=5)
def _() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5),
    )  # fmt: skip


@entry("vgg", *IMAGE, classes=5)
def _() -> nn.Module:
    return nn.Sequential(
        conv(3, 8),
        conv(8, 8),
        nn.MaxPool2d(2),
        conv(8, 16),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.1),
        head(16),
    )


@entry("resnet", *IMAGE, classes=5)
def _() -> nn.Module:
    block = nn.Sequential(conv(8, 8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
    other = nn.Sequential(conv(8, 8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
    return nn.Sequential(conv(3, 8), residual(block), residual(other), head(8))


@entry("pre-activation resnet", *IMAGE, classes=5)
def _() -> nn.Module:
    body = nn.Sequential(
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        nn.ReLU(True),
        nn.Conv2d(4, 8, 3, padding=1),
    )
    return nn.Sequential(conv(3, 8), Net(lambda s, x: x + s.body(x), body=body), head(8))


@entry("densenet", *IMAGE, classes=5)
def _() -> nn.Module:
    blocks = [
        Net(lambda s, x: torch.cat([x, s.body(x)], 1), body=conv(3 + 4 * i, 4)) for i in range(3)
    ]
    return nn.Sequential(*blocks, head(15))


@entry("inception", *IMAGE, classes=5)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.out(torch.cat([s.a(x), s.b(x), s.c(x)], 1)),
        a=conv(3, 4, 1), b=conv(3, 4, 5), c=nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(3, 4, 1)), out=head(12),
    )  # fmt: skip


@entry("mobilenet", *IMAGE, classes=5)
def _() -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(inplace=True), nn.Conv2d(16, 8, 1),
    )  # fmt: skip
    return nn.Sequential(conv(3, 8, stride=2), Net(lambda s, x: x + s.body(x), body=body), head(8))


@entry("squeeze and excite", *IMAGE, classes=5)
def _() -> nn.Module:
    gate = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, 2, 1),
        nn.SiLU(inplace=True),
        nn.Conv2d(2, 8, 1),
        nn.Hardsigmoid(),
    )
    return nn.Sequential(
        conv(3, 8),
        Net(lambda s, x: x * s.gate(x), gate=gate),
        head(8),
    )


@entry("shufflenet", *IMAGE, classes=5)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat([a, s.body(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    return nn.Sequential(
        conv(3, 8), Net(forward, body=conv(4, 4)), Net(forward, body=conv(4, 4)), head(8)
    )


@entry("convnext", *IMAGE, classes=5)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.mix(s.deep(x).permute(0, 2, 3, 1))
        return x + y.permute(0, 3, 1, 2)

    mix = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4),
        Net(forward, deep=nn.Conv2d(8, 8, 7, padding=3, groups=8), mix=mix),
        head(8),
    )


@entry("unet", *IMAGE)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a = s.down(x)
        b = s.up(s.middle(s.pool(a)))
        return s.out(torch.cat([a, b], 1))

    return Net(
        forward,
        down=conv(3, 6),
        pool=nn.MaxPool2d(2),
        middle=conv(6, 8),
        up=nn.ConvTranspose2d(8, 6, 2, 2),
        out=nn.Conv2d(12, 3, 1),
    )


@entry("autoencoder", 8, 12)
def _() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 4), nn.ELU(inplace=True), nn.Linear(4, 12), nn.Sigmoid())


@entry("channels last", *IMAGE, classes=5)
def _() -> nn.Module:
    net = nn.Sequential(conv(3, 8), conv(8, 8), head(8)).to(memory_format=torch.channels_last)
    return Net(lambda s, x: s.net(x.contiguous(memory_format=torch.channels_last)), net=net)


@entry("wavenet", 4, 4, 32)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        for layer in s.layers:
            a, b = layer(x)[..., : x.shape[-1]].chunk(2, 1)
            x = x + torch.tanh(a) * torch.sigmoid(b)
        return x

    layers = [nn.Conv1d(4, 8, 2, dilation=2**i, padding=2**i) for i in range(4)]
    return Net(forward, layers=nn.ModuleList(layers))


@entry("3d convolution", 2, 1, 6, 6, 6)
def _() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.LeakyReLU(0.1, inplace=True),
        nn.MaxPool3d(2),
        nn.Flatten(),
        nn.Linear(32, 2),
    )


@entry("instance norm generator", *IMAGE)
def _() -> nn.Module:
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU(True),
        nn.Upsample(scale_factor=2), nn.Conv2d(6, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip


@entry("pixel shuffle", *IMAGE)
def _() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.PixelShuffle(2),
        nn.PReLU(),
        nn.Conv2d(3, 3, 3, padding=1),
    )


@entry("unfold convolution", *IMAGE)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.fold(s.map(s.unfold(x).transpose(1, 2)).transpose(1, 2)),
        unfold=nn.Unfold(2, stride=2), map=nn.Linear(12, 12), fold=nn.Fold((16, 16), 2, stride=2),
    )  # fmt: skip


@entry("lstm language model", 4, 7, tokens=11, classes=11)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.out(s.lstm(s.embed(x))[0]),
        embed=nn.Embedding(11, 6),
        lstm=nn.LSTM(6, 8, 2, batch_first=True, dropout=0.1),
        out=nn.Linear(8, 11),
    )


@entry("packed gru", 3, 5, 4)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        packed = rnn.pack_padded_sequence(x, torch.tensor([5, 2, 4]), True, False)
        return s.out(rnn.pad_packed_sequence(s.gru(packed)[0], True)[0].mean(1))

    return Net(
        forward, gru=nn.GRU(4, 6, bidirectional=True, batch_first=True), out=nn.Linear(12, 2)
    )


@entry("elman rnn", 4, 6, 3)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.out(s.rnn(x)[1].squeeze(0)),
        rnn=nn.RNN(3, 5, batch_first=True),
        out=nn.Linear(5, 2),
    )


@entry("lstm cell loop", 4, 6, 3)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        state = None
        for t in range(x.shape[1]):
            state = s.cell(x[:, t], state)
        return s.out(state[0])

    return Net(forward, cell=nn.LSTMCell(3, 5), out=nn.Linear(5, 2))


@entry("seq2seq with attention", 4, 6, tokens=9, classes=9)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        keys, state = s.encoder(s.embed(x))
        y, _ = s.decoder(s.embed(x.roll(1, 1)), state)
        weights = torch.softmax(y @ keys.transpose(1, 2), -1)
        return s.out(torch.cat([y, weights @ keys], -1))

    return Net(
        forward,
        embed=nn.Embedding(9, 6),
        encoder=nn.GRU(6, 8, batch_first=True),
        decoder=nn.GRU(6, 8, batch_first=True),
        out=nn.Linear(16, 9),
    )


@entry("transformer encoder", 3, 6, 8)
def _() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(8, 3))


@own_step("transformer", lambda m: m(torch.randn(3, 5, 8), torch.randn(3, 4, 8)).square().mean())
def _() -> nn.Module:
    return nn.Transformer(8, 2, 1, 1, 16, batch_first=True)


def attention(width: int, causal: bool) -> nn.Module:
    """Two heads of scaled dot-product attention."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        q, k, v = (p.view(n, t, 2, d // 2).transpose(1, 2) for p in s.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return s.out(y.transpose(1, 2).reshape(n, t, d))

    return Net(forward, qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width))


def block(width: int, causal: bool) -> nn.Module:
    """Attention and a GELU layer, pre-norm."""
    mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
    return nn.Sequential(pre_norm(attention(width, causal), width), pre_norm(mlp, width))


@entry("gpt with tied weights", 3, 6, tokens=13, classes=13)
def _() -> nn.Module:
    net = Net(
        lambda s, x: s.out(s.blocks(s.embed(x) + s.position.weight[: x.shape[1]])),
        embed=nn.Embedding(13, 8), position=nn.Embedding(6, 8), blocks=nn.Sequential(block(8, True), block(8, True)),
        out=nn.Linear(8, 13, bias=False),
    )  # fmt: skip
    net.out.weight = net.embed.weight
    return net


@entry("llama", 3, 6, tokens=13, classes=13)
def _() -> nn.Module:
    def rotate(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        angles = torch.arange(x.shape[1])[:, None] / 10.0 ** torch.arange(pairs.shape[-1])
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        x = s.embed(x)
        y = s.norm(x)
        x = x + s.o(
            F.scaled_dot_product_attention(rotate(s.q(y)), rotate(s.k(y)), s.v(y), is_causal=True)
        )
        y = s.second(x)
        return s.out(x + s.down(F.silu(s.gate(y)) * s.up(y)))

    square = {name: nn.Linear(8, 8, bias=False) for name in "qkvo"}
    wide = {"gate": nn.Linear(8, 16), "up": nn.Linear(8, 16), "down": nn.Linear(16, 8)}
    return Net(
        forward,
        embed=nn.Embedding(13, 8),
        norm=nn.RMSNorm(8),
        second=nn.RMSNorm(8),
        out=nn.Linear(8, 13),
        **square,
        **wide,
    )


@entry("vision transformer", *IMAGE, classes=5)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        patches = s.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([s.token.expand(len(x), -1, -1), patches], 1)
        return s.out(s.blocks(x)[:, 0])

    return Net(
        forward,
        patch=nn.Conv2d(3, 8, 4, 4),
        token=nn.Parameter(torch.zeros(1, 1, 8)),
        blocks=block(8, False),
        out=nn.Linear(8, 5),
    )


@entry("mlp mixer", 4, 6, 8)
def _() -> nn.Module:
    tokens = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
    mix = Net(lambda s, x: s.body(x.transpose(1, 2)).transpose(1, 2), body=tokens)
    return nn.Sequential(pre_norm(mix, 8), pre_norm(nn.Linear(8, 8), 8))


@entry("perceiver", 4, 6, 8)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.out(s.attend(s.latent.expand(len(x), -1, -1), x, x)[0]),
        latent=nn.Parameter(torch.randn(1, 3, 8)), attend=nn.MultiheadAttention(8, 2, batch_first=True), out=nn.Linear(8, 2),
    )  # fmt: skip


@entry("mixture of experts", 12, 8)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        weight, choice = torch.softmax(s.router(x), -1).max(-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(s.experts):
            chosen = choice == i
            y[chosen] = expert(x[chosen]) * weight[chosen, None]
        return y

    return Net(
        forward, router=nn.Linear(8, 4), experts=nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
    )


def graph() -> torch.Tensor:
    """A row-normalised adjacency of ten nodes."""
    links = (torch.arange(100).view(10, 10) % 7 < 3).float()
    return links / links.sum(1, keepdim=True)


@entry("graph convolution", 10, 6)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.b(graph() @ F.relu(s.a(graph() @ x), inplace=True)),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 2),
    )


@entry("sparse graph convolution", 10, 6)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.b(torch.sparse.mm(graph().to_sparse(), s.a(x).relu())),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 2),
    )


@own_step(
    "embedding bag",
    lambda m: m(torch.randint(0, 9, (12,)), torch.tensor([0, 4, 7])).square().mean(),
)
def _() -> nn.Module:
    return Net(lambda s, x, o: s.out(s.bag(x, o)), bag=nn.EmbeddingBag(9, 6), out=nn.Linear(6, 2))


@entry("sparse embedding", 8, tokens=9)
def _() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 6, sparse=True), nn.Linear(6, 2))


@entry("factorisation machine", 8, 3, tokens=9)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        e = s.embed(x)
        pairs = (e.sum(1).square() - e.square().sum(1)).sum(1, keepdim=True) / 2
        return s.linear(x).sum(1) + pairs

    return Net(forward, embed=nn.Embedding(9, 4), linear=nn.Embedding(9, 1))


def triplet(m: nn.Module) -> torch.Tensor:
    """Three calls of one model."""
    return F.triplet_margin_loss(*(m(torch.randn(6, 5)) for _ in range(3)))


@own_step("siamese", triplet)
def _() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))


@entry("deep sets", 4, 6, 3)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.after(s.each(x).sum(1)),
        each=nn.Sequential(nn.Linear(3, 8), nn.Softplus()),
        after=nn.Linear(8, 2),
    )


@entry("neural ode", 6, 4)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = x + 0.2 * s.field(x)
        return x

    return Net(forward, field=nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)))


@entry("hypernetwork", 6, 4)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        values = s.make(x.mean(0))
        weights = {"weight": values[:12].view(3, 4), "bias": values[12:]}
        return torch.func.functional_call(s.target, weights, (x,))

    return Net(forward, make=nn.Linear(4, 15), target=nn.Linear(4, 3))


@entry("checkpointed blocks", 3, 6, 8)
def _() -> nn.Module:
    return Net(
        lambda s, x: checkpoint(s.b, checkpoint(s.a, x, use_reentrant=False), use_reentrant=True),
        a=block(8, True),
        b=block(8, True),
    )


def penalty(m: nn.Module) -> torch.Tensor:
    """A critic's score and the norm of its gradient."""
    x = torch.randn(6, 5, requires_grad=True)
    score = m(x).sum()
    (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    return score + (gradient.norm(dim=1) - 1).square().mean()


@own_step("spectral norm critic", penalty)
def _() -> nn.Module:
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(5, 8)),
        nn.Softplus(),
        parametrizations.weight_norm(nn.Linear(8, 1)),
    )


@entry("fourier operator", 4, 16)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.out(torch.fft.irfft(torch.fft.rfft(x) * s.filter, n=16)),
        filter=nn.Parameter(torch.randn(9, dtype=torch.complex64)),
        out=nn.Linear(16, 4),
    )


@entry("state space", 3, 8, 4)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        decay, state, out = torch.exp(-s.rate.exp()), torch.zeros(len(x), 6), []
        for u in s.inward(x).unbind(1):
            state = decay * state + u
            out.append(state)
        return s.outward(torch.stack(out, 1))

    return Net(
        forward, rate=nn.Parameter(torch.zeros(6)), inward=nn.Linear(4, 6), outward=nn.Linear(6, 4)
    )


def nll(m: nn.Module) -> torch.Tensor:
    """The negative log-likelihood under a mixture; the model returns a dict."""
    out = m(torch.randn(8, 3))
    chosen = torch.distributions.Normal(out["mean"], out["scale"]).log_prob(torch.randn(8, 1))
    return -torch.logsumexp(chosen + out["weight"], 1).mean()


@own_step("mixture density", nll)
def _() -> nn.Module:
    return Net(
        lambda s, x: {"mean": s.mean(x), "scale": s.scale(x).exp(), "weight": F.log_softmax(s.weight(x), 1)},
        mean=nn.Linear(3, 4), scale=nn.Linear(3, 4), weight=nn.Linear(3, 4),
    )  # fmt: skip


def elbo(m: nn.Module) -> torch.Tensor:
    """The bound of a variational autoencoder; the model returns a tuple."""
    x = torch.randn(8, 6)
    y, mean, log_variance = m(x)
    return F.mse_loss(y, x) - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()


@own_step("variational autoencoder", elbo)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean, log_variance = s.encode(x).chunk(2, 1)
        return (
            s.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp()),
            mean,
            log_variance,
        )

    return Net(forward, encode=nn.Linear(6, 4), decode=nn.Linear(2, 6))


@entry("duelling q network", 8, 4)
def _() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.body(x)
        gain = s.gain(y)
        return s.value(y) + gain - gain.mean(1, keepdim=True)

    return Net(
        forward,
        body=nn.Sequential(nn.Linear(4, 8), nn.ReLU(True)),
        gain=nn.Linear(8, 3),
        value=nn.Linear(8, 1),
    )


@own_step("bilinear", lambda m: m(torch.randn(6, 3), torch.randn(6, 4)).square().mean())
def _() -> nn.Module:
    return nn.Bilinear(3, 4, 2)


@own_step("adaptive softmax", lambda m: m(torch.randn(8, 6), torch.randint(0, 20, (8,))).loss)
def _() -> nn.Module:
    return nn.AdaptiveLogSoftmaxWithLoss(6, 20, [4, 10])


@entry("lazy layers", 6, 5)
def _() -> nn.Module:
    return nn.Sequential(
        nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Mish(inplace=True), nn.LazyLinear(2)
    )


@entry("frozen backbone", 6, 5)
def _() -> nn.Module:
    body = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True)).requires_grad_(False)
    return nn.Sequential(body, nn.Linear(8, 2))


@entry("positional mlp", 8, 3)
def _() -> nn.Module:
    return Net(
        lambda s, x: s.out(
            torch.cat([f(2**i * math.pi * x) for i in range(3) for f in (torch.sin, torch.cos)], 1)
        ),
        out=nn.Linear(18, 3),
    )


def under_autocast(m: nn.Module) -> torch.Tensor:
    """The forward pass in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return m(torch.randn(6, 8)).float().square().mean()


@own_step("autocast mlp", under_autocast)
def _() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))
