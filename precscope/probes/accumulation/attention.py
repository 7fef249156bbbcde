"""Fused attention: its two products, its softmax, and the four products of its gradient.

    s = scale q k^T     p = softmax(s)     o = p v
    dv = p^T do         dp = do v^T        ds = p (dp - sum(do o))       dq = ds k       dk = ds^T q

The fused operator stores neither s nor p, so the rows and columns of the sampled elements are
computed again, for a few heads; no matrix of all queries by all keys is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

import torch

from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import SAMPLES, fp16, kept_length, sampled
from precscope.probes.accumulation.reductions import exponentials

HEADS: Final = 4
"""Heads, of all in the batch, that samples are drawn from."""

MANY_SCORES: Final = 1 << 22
"""Scores of one head computed at a time."""


@dataclass(frozen=True, slots=True)
class Head:
    """One head of one example, in float32: q (L, E), k (S, E), v (S, V), mask added to s (L, S)."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    scale: float
    is_causal: bool

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        """Rows of s for these query numbers, (n, S)."""
        found = (self.q[queries] @ self.k.T) * self.scale
        if self.mask is not None:
            found = found + self.mask[queries]
        if self.is_causal:
            keys = torch.arange(len(self.k), device=found.device)
            found = found.masked_fill(keys[None, :] > queries[:, None], -torch.inf)
        return found

    def probabilities(self, queries: torch.Tensor) -> torch.Tensor:
        """Rows of p."""
        return self.scores(queries).softmax(-1)

    def columns(self, keys: torch.Tensor) -> torch.Tensor:
        """Columns of p for these key numbers, (L, n); rows are made in pieces and dropped."""
        piece = max(1, MANY_SCORES // len(self.k))
        rows = torch.arange(len(self.q), device=self.q.device).split(piece)
        return torch.cat([self.probabilities(r)[:, keys] for r in rows])


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sampled head with its gradient.

    Attributes:
        head: operands.
        grad: do, (L, V); None in forward.
        inner: sum of do o over V, (L,).
        queries: sampled query numbers.
        keys: sampled key numbers.
    """

    head: Head
    grad: torch.Tensor
    inner: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor


def attention(call: Call) -> Iterator[Reduction]:
    """Forward: ``q k^T``, the softmax denominators, ``p v``."""
    chosen = _choose(call, None)
    if chosen is None:
        return
    heads, q, k, _ = chosen
    if call.origin is not None:
        call.origin.label = call.label("attention")

    def sites(one: Callable[[Chosen], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: torch.cat([one(c) for c in heads], 1)

    yield Reduction(call.label("attention scores"), "product", q.shape[-1], sites(_scores))
    yield Reduction(
        call.label("attention softmax denominator"), "reduction", k.shape[-2], sites(_denominators)
    )
    yield Reduction(call.label("attention output"), "product", k.shape[-2], sites(_output))


def attention_backward(call: Call) -> Iterator[Reduction]:
    """Backward: gradients of v, of p, of q and of k."""
    chosen = _choose(call, call.tensor("grad_out", "grad_out_", "grad_output", "grad"))
    if chosen is None:
        return
    heads, q, k, v = chosen

    def sites(one: Callable[[Chosen, float], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: torch.cat([one(c, call.scale) for c in heads], 1)

    names = ("value", "probability", "query", "key")
    lengths = (q.shape[-2], v.shape[-1], k.shape[-2], q.shape[-2])
    measures = (_value_gradient, _probability_gradient, _query_gradient, _key_gradient)
    for name, length, measure in zip(names, lengths, measures, strict=True):
        yield Reduction(f"attention {name} gradient", "product", length, sites(measure))


Tensors = tuple[list[Chosen], torch.Tensor, torch.Tensor, torch.Tensor]


def _choose(call: Call, gradient: torch.Tensor | None) -> Tensors | None:
    q, k, v = call.tensor("query"), call.tensor("key"), call.tensor("value")
    if q.dim() != 4 or not q.numel() or not k.numel():
        return None
    out = call.tensor("out") if gradient is not None else q
    dropped = float(call.get("dropout_p", 0.0))
    numbers = sampled(prod(q.shape[:2]), HEADS)
    each = SAMPLES // len(numbers)
    found = []
    for number in numbers.tolist():
        b, h = divmod(number, q.shape[1])
        head = _head(call, q, k, v, b, h)
        grad = head.q if gradient is None else gradient[b, h].detach().float()
        inner = (grad * out[b, h].detach().float()).sum(-1)
        queries = sampled(len(head.q), each).to(q.device)
        keys = sampled(len(head.k), each).to(q.device)
        found.append(Chosen(head, grad / (1 - dropped), inner, queries, keys))
    return found, q, k, v


def _head(call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, b: int, h: int) -> Head:
    shared = h * k.shape[1] // q.shape[1]  # grouped queries share a key head
    scale = call.get("scale")
    return Head(
        q[b, h].detach().float(),
        k[b, shared].detach().float(),
        v[b, shared].detach().float(),
        _mask(call, b, h, (q.shape[2], k.shape[2])),
        float(q.shape[-1] ** -0.5 if scale is None else scale),
        bool(call.get("is_causal", False)),
    )


def _mask(call: Call, b: int, h: int, shape: tuple[int, int]) -> torch.Tensor | None:
    mask = call.get("attn_mask", call.get("attn_bias"))
    if mask is None or not mask.numel():
        return None
    while mask.dim() < 4:
        mask = mask[None]
    chosen: torch.Tensor = mask[b % mask.shape[0], h % mask.shape[1]].expand(shape)
    if chosen.dtype is torch.bool:
        return torch.zeros(shape, device=mask.device).masked_fill(~chosen, -torch.inf)
    return chosen.detach().float()


def _paired(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """As many coordinates along the other dimension, spread over it."""
    return sampled(count, len(numbers)).to(numbers.device)[
        torch.arange(len(numbers), device=numbers.device) % min(count, len(numbers))
    ]


def _cut(length: int) -> int:
    return kept_length(length, SAMPLES)


def _scores(c: Chosen) -> torch.Tensor:
    keys = _paired(c.queries, len(c.head.k))
    return (fp16(c.head.q[c.queries]) * fp16(c.head.k[keys])).T


def _denominators(c: Chosen) -> torch.Tensor:
    return exponentials(c.head.scores(c.queries).T[: _cut(len(c.head.k))])


def _output(c: Chosen) -> torch.Tensor:
    columns = _paired(c.queries, c.head.v.shape[1])
    p, cut = c.head.probabilities(c.queries), _cut(len(c.head.k))
    return (fp16(p).T * fp16(c.head.v[:, columns]))[:cut]


def _value_gradient(c: Chosen, scale: float) -> torch.Tensor:
    columns = _paired(c.keys, c.grad.shape[1])
    cut = _cut(len(c.grad))
    return (fp16(c.head.columns(c.keys)) * fp16(c.grad[:, columns], scale))[:cut]


def _probability_gradient(c: Chosen, scale: float) -> torch.Tensor:
    keys = _paired(c.queries, len(c.head.k))
    return (fp16(c.grad[c.queries], scale) * fp16(c.head.v[keys])).T


def _query_gradient(c: Chosen, scale: float) -> torch.Tensor:
    p = c.head.probabilities(c.queries)
    dp = c.grad[c.queries] @ c.head.v.T
    ds = p * (dp - c.inner[c.queries][:, None])
    columns = _paired(c.queries, c.head.k.shape[1])
    return (fp16(ds, scale).T * fp16(c.head.k[:, columns]))[: _cut(len(c.head.k))]


def _key_gradient(c: Chosen, scale: float) -> torch.Tensor:
    p = c.head.columns(c.keys)
    dp = c.grad @ c.head.v[c.keys].T
    ds = p * (dp - c.inner[:, None])
    columns = _paired(c.keys, c.head.q.shape[1])
    return (fp16(ds, scale) * fp16(c.head.q[:, columns]))[: _cut(len(c.head.q))]
