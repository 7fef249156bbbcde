"""Which operators ``half_on_cpu`` reroutes, and why.

Measured with torch 2.13 on an x86 CPU without AVX512-FP16, one thread, against float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from precscope.arithmetic.widen import (
    Reroute,
    if_accumulating,
    into_out,
    into_self,
    widened,
    widened_affine,
    widened_attention,
    widened_attention_backward,
    widened_group_norm_backward,
    widened_layer_norm_backward,
)

SLOW: tuple[str, ...] = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "addbmm",
    "mv",
    "addmv",
    "dot",
    "convolution",
    "convolution_backward",
    "grid_sampler_2d",
    "grid_sampler_3d",
    "argmax",
    "argmin",
)
"""Native float16 takes 3 to 36 times as long as float32 (mv and dot: for some layouts)."""

MISSING: tuple[str, ...] = (
    "mkldnn_rnn_layer",
    "mkldnn_rnn_layer_backward",
    "_cdist_forward",
    "_cdist_backward",
    "_pdist_forward",
    "_pdist_backward",
)
"""No float16 kernel on such a CPU; autocast sends an LSTM to ``mkldnn_rnn_layer`` all the same."""

HALF_ACCUMULATION: tuple[str, ...] = (
    "index_add",
    "embedding_dense_backward",
    "_embedding_bag_backward",
    "_embedding_bag_dense_backward",
    "segment_reduce",
    "_segment_reduce_backward",
    "col2im",
    "unfold_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "avg_pool2d_backward",
    "avg_pool3d_backward",
    "max_pool2d_with_indices_backward",
    "max_pool3d_with_indices_backward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward",
    "replication_pad1d_backward",
    "replication_pad2d_backward",
    "replication_pad3d_backward",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
)
"""Native kernels add in float16: 8192 ones sum to 2048."""

ACCUMULATE_ON_REQUEST: tuple[str, ...] = ("index_put", "_index_put_impl", "put")
"""The same, where the argument ``accumulate`` is true; plain stores otherwise."""

SPECIAL: dict[str, Reroute] = {
    "_scaled_dot_product_flash_attention_for_cpu": widened_attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": widened_attention_backward,
    "native_layer_norm": widened_affine,
    "native_layer_norm_backward": widened_layer_norm_backward,
    "native_group_norm": widened_affine,
    "native_group_norm_backward": widened_group_norm_backward,
    "pow.Tensor_Scalar": widened,
}


@cache
def reroutes(accumulation_block: int | None = None) -> dict[Any, Reroute]:
    """Operator overload to reroute; operators that this torch lacks are left out.

    Args:
        accumulation_block: terms between two roundings of FP16 accumulators, None for float32
            accumulation. Operators that accumulate in FP16 natively are then not in the table.
    """
    table: dict[Any, Reroute] = {}
    names = (*SLOW, *MISSING, *(() if accumulation_block else HALF_ACCUMULATION))
    for name in names:
        table.update(_forms(name, widened))
    for name in () if accumulation_block else ACCUMULATE_ON_REQUEST:
        forms = _forms(name, widened).items()
        table.update({func: if_accumulating(reroute) for func, reroute in forms})
    for name, reroute in SPECIAL.items():
        table.update(_forms(name, reroute))
    if accumulation_block:
        table.update(_accumulating(accumulation_block))
    return table


def _accumulating(block: int) -> dict[Any, Reroute]:
    from precscope.arithmetic.half_operators import COMPUTED, accumulating

    table: dict[Any, Reroute] = {}
    for name, compute in COMPUTED.items():
        table.update(_forms(name, accumulating(compute, block)))
    return table


def _forms(name: str, reroute: Reroute) -> dict[Any, Reroute]:
    """The functional form of an operator, and its in-place and single-output ``out=`` forms.

    The last two only where ``name`` names no overload.
    """
    operator, _, overload = name.partition(".")
    functional = _overload(operator, overload or "default")
    if functional is None:
        return {}
    forms: dict[Any, Reroute] = {functional: reroute}
    if overload:
        return forms
    if in_place := _overload(f"{operator}_", "default"):
        forms[in_place] = into_self(functional, reroute)
    if (out := _overload(operator, "out")) and len(out._schema.returns) == 1:
        forms[out] = into_out(functional, reroute)
    return forms


def _overload(name: str, overload: str) -> Any:
    packet = getattr(torch.ops.aten, name, None)
    return getattr(packet, overload, None)
