"""The table of kernel names: names observed on real GPUs, and the traps among them."""

from __future__ import annotations

import pytest

from precscope.timing.eligible import is_eligible, shape_advice, sizes
from precscope.timing.kernel_rules import NO_RULE, RULES, classify, nvjet_formats

YES = {
    "nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT": "nvjet",
    "nvjet_tst_192x192_64x4_2x1_v_bz_TNT": "nvjet",
    "nvjet_sm90_hss_128x256_64x4_2x1_v_bz_coopA_NTN": "nvjet",
    "nvjet_qqtst_128x256_128x6_2x2_2cta_h_bz_TNT": "nvjet",
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_cublas": (
        "xmma-input"
    ),
    "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64_warpgroupsize1x1x1_cublas": (
        "xmma-input"
    ),
    "sm80_xmma_gemm_tf32f32_tf32f32_f32_tn_n_tilesize64x64x32_stage4_tensor16x8x8": "xmma-input",
    "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x32": (
        "xmma-input"
    ),
    "cutlass3x_sm90_tensorop_s64x128x16gemm_f16_f16_f32_void_f16_128x128x64": "tensorop",
    "cutlass_80_tensorop_f16_s16816gemm_relu_f16_64x64_64x6_tn_align8": "tensorop",
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_f16_s161616gemm_f16_32x32>": "tensorop",
    "ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_64x4_tn": "mma-shape",
    "ampere_s1688tf32gemm_128x128_nn": "mma-shape",
    "volta_fp16_s884gemm_fp16_128x64_ldg8_f2f_nn": "mma-shape",
    "turing_h1688gemm_128x128_nn": "mma-shape",
    "void flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false>>": "flash",
    "void flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<64>>": "flash",
    "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash>>>": "flash",
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128": "mma-name",
    "cudnn_generated_fort_native_sdpa_sm80_flash_bprop_f16_knob_3_64x64x64": "cudnn-attention",
    "fmha_cutlassF_f16_aligned_64x64_rf_sm80": "fmha-half",
    "void deep_gemm::sm90_fp8_gemm_1d2d_impl<0u, 7168u>": "deep-gemm",
}
NO = {
    "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3_warpsize2x2x1_ffma_aligna4": (
        "ffma"
    ),
    "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>": "simt",
    "ampere_sgemm_128x64_tn": "sgemm",
    "volta_sgemm_64x64_nt": "sgemm",
    "void implicit_convolve_sgemm<float, float, 128, 5, 5, 3, 3, 3, 1>": "sgemm",
    "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16>": "gemv",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __half>": "split-k-sum",
    "void flash_bwd_dot_do_o_kernel<true, Flash_bwd_kernel_traits<64, 128>>": "attention-beside",
    "void flash_bwd_convert_dq_kernel<Flash_bwd_kernel_traits<64, 128>>": "attention-beside",
    "void flash_fwd_splitkv_combine_kernel<Flash_fwd_kernel_traits<64>>": "split-k-sum",
    "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>": (
        "elementwise"
    ),
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>": "reduction",
    "void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, float>": "reduction",
    "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::Half>": "norm",
    "void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1>": "norm",
    "void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float>": "memory",
    "Memcpy DtoD (Device -> Device)": "memory",
    "Memset (Device)": "memory",
    "void cutlass::device_kernel<flash::FlashAttnBwdPreprocess<cute::tuple<>>>": "attention-beside",
    "void cub::DeviceReduceSingleTileKernel<cub::Policy600, float*>": "library-loops",
    "void at_cuda_detail::cub::DeviceScanKernel<Policy900, int*>": "library-loops",
    "ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclDevKernelArgsStorage<4096ul>)": "collective",
    "triton_poi_fused_add_gelu_3": "triton-pointwise",
    "void at::native::conv_depthwise2d_forward_kernel<5, c10::Half>": "depthwise",
}
UNKNOWN = (
    "my_own_kernel",
    "fmha_cutlassF_f32_aligned_64x64_rf_sm80",
    "sm90_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize64x64x64",
)


@pytest.mark.parametrize("name", YES)
def test_a_kernel_on_tensor_cores(name: str) -> None:
    found = classify(name)
    assert (found.tensor_cores, found.rule) == ("yes", YES[name])


@pytest.mark.parametrize("name", NO)
def test_a_kernel_on_cuda_cores(name: str) -> None:
    found = classify(name)
    assert (found.tensor_cores, found.rule) == ("no", NO[name])


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_no_rule_knows_is_unknown(name: str) -> None:
    assert (classify(name).tensor_cores, classify(name).rule) == ("unknown", NO_RULE)


def test_a_generated_reduction_is_unknown_whatever_its_name_lists() -> None:
    found = classify("triton_red_fused_native_layer_norm_2")
    assert (found.tensor_cores, found.rule) == ("unknown", "triton-generated")


@pytest.mark.parametrize(
    ("input_type", "tf32", "answer"),
    [
        ("c10::Half", None, "yes"),
        ("c10::BFloat16", False, "yes"),
        ("float", True, "yes"),
        ("float", False, "no"),
        ("float", None, "unknown"),
        (None, True, "unknown"),
    ],
)
def test_a_generated_product_is_told_by_its_format(
    input_type: str | None, tf32: bool | None, answer: str
) -> None:
    found = classify("triton_tem_fused_addmm_7", input_type, tf32)
    assert (found.tensor_cores, found.rule) == (answer, "triton-template")


def test_every_rule_decides_something_and_has_a_name_of_its_own() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    decided = {classify(name).rule for name in (*YES, *NO, "triton_tem_fused_mm_0")}
    untested = {rule.id for rule in RULES} - decided
    assert untested <= {"scudnn", "cutlass-3", "indexing", "pooling", "random", "at-native"} | {
        "triton-generated"
    }


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT", ("FP16", "FP32", "FP16")),
        ("nvjet_sm90_hhh_64x8_64x16_4x1_v_bz_TNN", ("FP16", "FP16", "FP16")),
        ("nvjet_tss_128x64_64x4", ("BF16", "FP32", "FP32")),
        ("nvjet_xyz_1", None),
        ("ampere_sgemm_128x64_tn", None),
    ],
)
def test_letters_of_nvjet(name: str, formats: tuple[str, ...] | None) -> None:
    assert nvjet_formats(name) == formats


@pytest.mark.parametrize(
    ("operator", "kind", "tf32", "capability", "expected"),
    [
        ("aten::mm", "c10::Half", False, (7, 0), True),
        ("aten::mm", "c10::Half", False, (6, 1), False),
        ("aten::mm", "c10::BFloat16", False, (7, 5), False),
        ("aten::mm", "c10::BFloat16", False, (8, 0), True),
        ("aten::mm", "float", False, (9, 0), False),
        ("aten::mm", "float", True, (9, 0), True),
        ("aten::mm", "float", True, (7, 5), False),
        ("aten::mm", "double", True, (9, 0), False),
        ("aten::_scaled_mm", "c10::Float8_e4m3fn", False, (8, 0), False),
        ("aten::_scaled_mm", "c10::Float8_e4m3fn", False, (9, 0), True),
        ("aten::cudnn_convolution", "c10::Half", False, (9, 0), True),
        ("aten::add", "c10::Half", True, (9, 0), False),
        ("aten::mm", None, True, (9, 0), False),
    ],
)
def test_eligibility(
    operator: str, kind: str | None, tf32: bool, capability: tuple[int, int], expected: bool
) -> None:
    assert is_eligible(operator, kind, tf32, capability) is expected


@pytest.mark.parametrize(
    ("operator", "dims", "expected"),
    [
        ("aten::mm", [(32, 511), (511, 64)], {"M": 32, "N": 64, "K": 511}),
        ("aten::addmm", [(10,), (32, 64), (64, 10)], {"M": 32, "N": 10, "K": 64}),
        ("aten::bmm", [(4, 8, 16), (4, 16, 24)], {"M": 8, "N": 24, "K": 16}),
        (
            "aten::cudnn_convolution",
            [(2, 3, 8, 8), (64, 3, 7, 7)],
            {"output channels": 64, "input channels": 3},
        ),
        ("aten::_flash_attention_forward", [(2, 4, 8, 16)], {}),
    ],
)
def test_sizes_that_alignment_is_about(
    operator: str, dims: list[tuple[int, ...]], expected: dict[str, int]
) -> None:
    assert sizes(operator, dims) == expected


def test_an_odd_shape_is_less_efficient_and_never_impossible() -> None:
    found = shape_advice("aten::mm", [(32, 511), (511, 64)], "c10::Half", (9, 0))
    assert found == "less efficient: K = 511 is no multiple of 8 (16 bytes)"
    found = shape_advice("aten::mm", [(32, 6), (6, 64)], "float", (9, 0))
    assert found == "less efficient: K = 6 is no multiple of 4 (16 bytes)"
    assert shape_advice("aten::mm", [(32, 64), (64, 8)], "c10::Half", (9, 0)) is None
