"""Scaled dot product attention with FP16 accumulation in its two products, and its backward.

Scores and probabilities are stored in FP16 between the products; softmax itself, its denominator
included, is float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from precscope.arithmetic.half_accumulation import half_product


def attention(
    block: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    is_causal: bool = False,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output, FP16 of shape (B, H, L, E'), and float32 log-sum-exp of the scores, (B, H, L).

    ``query`` is (B, H, L, E), ``key`` (B, H', S, E) and ``value`` (B, H', S, E'), where H is a
    multiple of H'. A row that may attend to nothing gives zeros.
    """
    key, value = _for_each_head(query, key), _for_each_head(query, value)
    scores = _scores(block, query, key, is_causal, attn_mask, scale)
    log_sum = torch.logsumexp(scores, -1)
    output = _product(_probabilities(scores, log_sum), value, block)
    # The native operator returns its log-sum-exp in this order of memory.
    return output.half(), log_sum.transpose(1, 2).contiguous().transpose(1, 2)


def attention_backward(
    block: int,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    log_sum: torch.Tensor,
    is_causal: bool = False,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, FP16, by the result of ``attention``."""
    keys, values = _for_each_head(query, key), _for_each_head(query, value)
    scores = _scores(block, query, keys, is_causal, attn_mask, scale)
    shares = _probabilities(scores, log_sum)
    by_value = _product(shares.transpose(2, 3), grad, block)
    by_share = _product(grad, values.transpose(2, 3), block)
    mean = (grad.float() * output.float()).sum(-1, keepdim=True)
    by_score = (shares.float() * (by_share - mean) * _scale(query, scale)).half()
    by_key = _product(by_score.transpose(2, 3), query, block)
    by_query = _product(by_score, keys, block).half()
    return by_query, _over_heads(by_key, key), _over_heads(by_value, value)


def _scores(
    block: int,
    query: torch.Tensor,
    key: torch.Tensor,
    is_causal: bool,
    attn_mask: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    """Scaled and masked scores as float32 tensors of FP16 values."""
    product = _product(query, key.transpose(2, 3), block)
    scores = (product * _scale(query, scale)).half().float()
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores if attn_mask is None else scores + attn_mask.float()


def _probabilities(scores: torch.Tensor, log_sum: torch.Tensor) -> torch.Tensor:
    nothing = log_sum == -math.inf
    shares = torch.exp(scores - log_sum.masked_fill(nothing, 0.0)[..., None])
    return shares.half()


def _scale(query: torch.Tensor, scale: float | None) -> float:
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def _product(left: torch.Tensor, right: torch.Tensor, block: int) -> torch.Tensor:
    product = half_product(left.flatten(0, 1), right.flatten(0, 1), block)
    return product.view(*left.shape[:3], right.shape[3])


def _for_each_head(query: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    return shared.repeat_interleave(query.shape[1] // shared.shape[1], 1)


def _over_heads(grad: torch.Tensor, shared: torch.Tensor) -> Any:
    """Sum over the heads that share one key or value."""
    return grad.unflatten(1, (shared.shape[1], -1)).sum(2).half()
