"""Which operators could use tensor cores, and what their shapes cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from precscope.timing.kernel_rules import EIGHT_BIT, FLOAT32, HALF

PRODUCTS: Final = frozenset(
    {
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "aten::baddbmm",
        "aten::addbmm",
        "aten::_scaled_mm",
    }
)
CONVOLUTIONS: Final = frozenset(
    {
        "aten::cudnn_convolution",
        "aten::cudnn_convolution_transpose",
        "aten::convolution_backward",
        "aten::_convolution",
        "aten::_slow_conv2d_forward",
    }
)
ATTENTION: Final = frozenset(
    {
        "aten::_flash_attention_forward",
        "aten::_flash_attention_backward",
        "aten::_efficient_attention_forward",
        "aten::_efficient_attention_backward",
        "aten::_scaled_dot_product_cudnn_attention",
        "aten::_scaled_dot_product_cudnn_attention_backward",
        "aten::_cudnn_attention_forward",
        "aten::_cudnn_attention_backward",
    }
)
RECURRENT: Final = frozenset({"aten::_cudnn_rnn", "aten::_cudnn_rnn_backward"})
MATRIX_OPERATORS: Final = PRODUCTS | CONVOLUTIONS | ATTENTION | RECURRENT

FIRST_HALF: Final = (7, 0)
FIRST_BF16_TF32: Final = (8, 0)
FIRST_EIGHT_BIT: Final = (8, 9)

ELEMENT_BYTES: Final = {"c10::Half": 2, "c10::BFloat16": 2, "float": 4}

ALIGNED_BYTES: Final = 16
ALIGNED_BYTES_A100: Final = 128


def is_eligible(
    operator: str, input_type: str | None, tf32: bool, capability: tuple[int, int]
) -> bool:
    """Whether tensor cores of the device can do the operator in this format."""
    if operator not in MATRIX_OPERATORS or input_type is None:
        return False
    if input_type == "c10::Half":
        return capability >= FIRST_HALF
    if input_type in HALF:
        return capability >= FIRST_BF16_TF32
    if input_type in EIGHT_BIT:
        return capability >= FIRST_EIGHT_BIT
    return input_type == FLOAT32 and tf32 and capability >= FIRST_BF16_TF32


def sizes(operator: str, dims: Sequence[Sequence[int]]) -> dict[str, int]:
    """The sizes that alignment is about: M, N, K of a product, channels of a convolution.

    {} where the shapes are not those of the operator.
    """
    shapes = [list(shape) for shape in dims if len(shape) >= 2]
    if operator in ("aten::addmm", "aten::baddbmm"):
        shapes = shapes[-2:]
    if operator in PRODUCTS and len(shapes) >= 2:
        left, right = shapes[0], shapes[1]
        return {"M": left[-2], "N": right[-1], "K": left[-1]}
    if operator == "aten::convolution_backward" and len(shapes) >= 3:
        return {"output channels": shapes[2][0], "input channels": shapes[1][1]}
    if operator in CONVOLUTIONS and len(shapes) >= 2 and len(shapes[1]) >= 3:
        return {"output channels": shapes[1][0], "input channels": shapes[0][1]}
    return {}


def shape_advice(
    operator: str,
    dims: Sequence[Sequence[int]],
    input_type: str | None,
    capability: tuple[int, int],
) -> str | None:
    """What makes a shape less efficient on tensor cores; None if nothing does.

    NVIDIA's matrix multiplication guide: since cuBLAS 11.0 and cuDNN 7.6.3 any size may use tensor
    cores, most efficient are multiples of 16 bytes, on A100 of 128. Only the former is advised:
    the latter costs little and is often impossible.
    """
    element = ELEMENT_BYTES.get(input_type or "", 0)
    if not element or capability < FIRST_HALF:
        return None
    multiple = ALIGNED_BYTES // element
    odd = {name: size for name, size in sizes(operator, dims).items() if size % multiple}
    if not odd:
        return None
    found = ", ".join(f"{name} = {size}" for name, size in odd.items())
    return f"less efficient: {found} is no multiple of {multiple} (16 bytes)"
