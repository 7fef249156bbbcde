"""Which sampler knows which operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from precscope.probes.accumulation import (
    attention,
    convolutions,
    normalisation,
    products,
    reductions,
    scatter,
)
from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.facts import Reduction

Sampler = Callable[[Call], Iterator[Reduction]]


def _table() -> dict[str, Sampler]:
    by_sampler: dict[Sampler, tuple[str, ...]] = {
        products.product: ("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot"),
        convolutions.convolution: ("convolution", "_convolution"),
        convolutions.convolution_backward: ("convolution_backward",),
        reductions.total: ("sum", "mean"),
        reductions.squares: ("linalg_vector_norm", "norm"),
        reductions.variance: ("var", "var_mean", "std", "std_mean"),
        reductions.softmax: ("_softmax", "_log_softmax", "_safe_softmax"),
        reductions.softmax_backward: ("_softmax_backward_data", "_log_softmax_backward_data"),
        reductions.likelihood: ("nll_loss_forward", "nll_loss2d_forward"),
        reductions.distance: ("mse_loss", "smooth_l1_loss", "huber_loss"),
        normalisation.statistics: (
            "native_layer_norm",
            "native_batch_norm",
            "_native_batch_norm_legit",
            "_batch_norm_with_update",
            "cudnn_batch_norm",
            "native_group_norm",
        ),
        normalisation.affine_gradients: (
            "native_layer_norm_backward",
            "native_batch_norm_backward",
            "batch_norm_backward",
            "cudnn_batch_norm_backward",
            "native_group_norm_backward",
        ),
        attention.attention: _ATTENTION,
        attention.attention_backward: tuple(f"{name}_backward" for name in _ATTENTION),
        scatter.embedding: ("embedding_dense_backward",),
        scatter.embedding_bag: ("_embedding_bag_dense_backward",),
        scatter.index_add: ("index_add", "index_add_"),
        scatter.index_put: (
            "index_put",
            "index_put_",
            "_index_put_impl_",
            "_unsafe_index_put",
        ),
        scatter.scatter_add: ("scatter_add", "scatter_add_"),
        scatter.put: ("put", "put_"),
        scatter.max_pool_backward: (
            "max_pool2d_with_indices_backward",
            "max_pool3d_with_indices_backward",
        ),
    }
    return {name: sampler for sampler, names in by_sampler.items() for name in names}


_ATTENTION: Final = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)

SAMPLERS: Final[dict[str, Sampler]] = _table()
"""Sampler by operator name, without overload."""

NOT_SAMPLED: Final = frozenset(
    (
        "mkldnn_rnn_layer",
        "mkldnn_rnn_layer_backward",
        "_cudnn_rnn",
        "_cudnn_rnn_backward",
        "_thnn_fused_lstm_cell",
        "_thnn_fused_gru_cell",
        "_cdist_forward",
        "_cdist_backward",
        "_ctc_loss",
        "_ctc_loss_backward",
        "cumsum",
        "logsumexp",
        "prod",
        "avg_pool2d",
        "avg_pool3d",
        "avg_pool2d_backward",
        "avg_pool3d_backward",
        "col2im",
        "unfold_backward",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "segment_reduce",
        "scatter_reduce",
        "binary_cross_entropy",
        "kl_div",
        "_fused_rms_norm",
        "_fused_rms_norm_backward",
    )
)
"""Operators that add up and that no sampler knows: the report says that they were passed over."""
