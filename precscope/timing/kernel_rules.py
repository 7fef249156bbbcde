"""Which kernels work on tensor cores, by name: a table of rules, the first that matches decides.

A name is a hint, not a measurement; NVIDIA documents no scheme. So there are three answers, each
with the rule that gave it, and what no rule knows is ``unknown``, counted apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

TensorCores = Literal["yes", "no", "unknown"]

RULES_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    Attributes:
        id: kept in the result beside what it decided.
        answer: ``by dtype`` asks the operator's input format.
        pattern: searched for in the kernel's name, case ignored.
    """

    id: str
    answer: Literal["yes", "no", "unknown", "by dtype"]
    pattern: str


# Negative rules for products come first: xmma and cutlass names stand for either kind.
RULES: Final[tuple[Rule, ...]] = (
    Rule("ffma", "no", r"(_|\b)[fh]fma2?(_|\b)"),
    Rule("simt", "no", r"simt"),
    Rule("scudnn", "no", r"scudnn|hcudnn"),
    Rule("sgemm", "no", r"^(?!.*(tensorop|tf32)).*[sd]gemm(?!.*(tensorop|tf32))"),
    Rule("gemv", "no", r"gemv|\bdot_kernel|gemm[sS]N_"),
    Rule("split-k-sum", "no", r"splitk.?reduce|splitkv_combine|cublasLt::.*reduce"),
    Rule("attention-beside", "no", r"dot_do_o|convert_d[qkv]|flashattnbwd(pre|post)"),
    Rule("depthwise", "no", r"depthwise|grouped_direct"),
    Rule("nvjet", "yes", r"\bnvjet_"),
    Rule("tensorop", "yes", r"tensorop"),
    Rule("mma-shape", "yes", r"(?<![a-z0-9])[shidb]?_?(161616|16816|16832|1688|884)"),
    Rule("mma-name", "yes", r"(_|\b)(hmma|imma|dmma|qmma|wgmma|wmma|tcgen05)"),
    Rule("xmma-input", "yes", r"xmma_.*_(f16|bf16|tf32|e4m3|e5m2|i8)|xmma_.*tf32f32"),
    Rule("cutlass-3", "yes", r"cutlass3x_sm(90|100|103|120)"),
    Rule("flash", "yes", r"flash_(fwd|bwd)|flashattn"),
    Rule("fmha-half", "yes", r"fmha.*(f16|bf16|half)"),
    Rule("cudnn-attention", "yes", r"sdpa_sm\d+_flash_[fb]prop"),
    Rule("deep-gemm", "yes", r"deep_gemm"),
    Rule("triton-template", "by dtype", r"\btriton_tem_"),
    Rule("triton-pointwise", "no", r"\btriton_poi_"),
    # A generated reduction may hold a product; its name lists what was fused, whatever that was.
    Rule("triton-generated", "unknown", r"\btriton_"),
    Rule("memory", "no", r"^mem(cpy|set)\b|\bcopy_kernel|catarray|nchwtonhwc|nhwctonchw"),
    Rule("elementwise", "no", r"elementwise|multi_tensor_apply|fused_adam|fused_dropout"),
    Rule("reduction", "no", r"reduce_kernel|softmax|cunn_|nll_loss|cumsum|scan_"),
    Rule("norm", "no", r"(layer|batch|group|rms)_?norm|bn_(fw|bw)|gammabeta"),
    Rule("indexing", "no", r"indexselect|index_|embedding|gather|scatter|radixsort|bitonicsort"),
    Rule("pooling", "no", r"_pool|pool2d|upsample|im2col|col2im"),
    Rule("random", "no", r"distribution_"),
    Rule("library-loops", "no", r"\bcub::\w*Device|\bthrust::"),
    Rule("collective", "no", r"\bnccl(Dev)?Kernel"),
    Rule("at-native", "no", r"\bat::native::"),
)

_COMPILED: Final = tuple((rule, re.compile(rule.pattern, re.IGNORECASE)) for rule in RULES)

NO_RULE: Final = "no-rule"

HALF: Final = frozenset({"c10::Half", "c10::BFloat16"})
EIGHT_BIT: Final = frozenset(
    {"c10::Float8_e4m3fn", "c10::Float8_e5m2", "c10::Float8_e4m3fnuz", "c10::Float8_e5m2fnuz"}
)
FLOAT32: Final = "float"


@dataclass(frozen=True, slots=True)
class KernelClass:
    """What a kernel's name says.

    Attributes:
        tensor_cores: the answer.
        rule: id of the rule that gave it; ``no-rule`` if none did.
    """

    tensor_cores: TensorCores
    rule: str


def classify(name: str, input_type: str | None = None, tf32: bool | None = None) -> KernelClass:
    """The class of a kernel.

    Args:
        name: as the trace has it.
        input_type: of the operator that launched it, as torch.profiler writes types; asked by
            rules for generated kernels, whose names do not tell.
        tf32: whether float32 products may use TF32; None if not known.
    """
    for rule, pattern in _COMPILED:
        if pattern.search(name):
            if rule.answer == "by dtype":
                return KernelClass(_by_dtype(input_type, tf32), rule.id)
            return KernelClass(rule.answer, rule.id)
    return KernelClass("unknown", NO_RULE)


def _by_dtype(input_type: str | None, tf32: bool | None) -> TensorCores:
    if input_type in HALF or input_type in EIGHT_BIT:
        return "yes"
    if input_type == FLOAT32 and tf32 is not None:
        return "yes" if tf32 else "no"
    return "unknown"


_NVJET: Final = re.compile(r"\bnvjet_(?:sm\d+_)?([a-z]{3,5})_")
_LETTERS: Final = {"h": "FP16", "t": "BF16", "s": "FP32", "q": "FP8"}


def nvjet_formats(name: str) -> tuple[str, ...] | None:
    """Formats that the letters of an ``nvjet`` name seem to stand for, the output last.

    ``hsh``: FP16 in, FP32 sums, FP16 out. Inferred from observed names, not documented: evidence
    for a person, never for a verdict.
    """
    found = _NVJET.search(name)
    if found is None or any(letter not in _LETTERS for letter in found[1]):
        return None
    return tuple(_LETTERS[letter] for letter in found[1])
