"""How products are computed while a recipe is in force: FP16 on a CPU, switches on CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

from precscope.arithmetic import half_on_cpu
from precscope.recipe import Recipe
from precscope.training.cuda_precision import (
    cuda_precision,
    float32_accumulation,
    float32_products,
    half_accumulation,
)


def products_of(recipe: Recipe, device_type: str) -> AbstractContextManager[None]:
    """Context for forward and backward. Autocast is not part of it.

    Raises:
        UsageError: FP16 accumulation on CUDA, where this torch has no switch for it.
    """
    if device_type == "cpu" and recipe.compute_dtype == "float16":
        return half_on_cpu(recipe.accumulation_block if recipe.accumulation == "fp16" else None)
    if device_type != "cuda":
        return nullcontext()
    if recipe.compute_dtype == "float32":
        return cuda_precision(**float32_products(recipe.tf32))
    if recipe.accumulation == "fp16":
        return cuda_precision(**half_accumulation())
    is_half = recipe.compute_dtype == "float16"
    return cuda_precision(**float32_accumulation()) if is_half else nullcontext()


@contextmanager
def forward_in(recipe: Recipe, device_type: str) -> Iterator[None]:
    """Context for forward and loss: the products, and autocast if the recipe has it."""
    with ExitStack() as stack:
        stack.enter_context(products_of(recipe, device_type))
        if recipe.compute_dtype != "float32":
            stack.enter_context(_without_fused_attention_layers())
            dtype = getattr(torch, recipe.compute_dtype)
            stack.enter_context(torch.autocast(device_type, dtype=dtype))
        yield


@contextmanager
def _without_fused_attention_layers() -> Iterator[None]:
    # In evaluation nn.TransformerEncoderLayer calls one fused operator that knows no autocast:
    # it would ignore the recipe, and fails on float16 weights beside a float32 input.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
