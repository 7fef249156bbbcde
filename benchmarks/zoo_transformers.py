"""Architectures of the Transformers library, tiny, from configuration, with random weights.

    python benchmarks/zoo.py        # lists these after its own, where Transformers is installed

Nothing is downloaded: a configuration is data in this file, the weights are random.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import nn

Step = Callable[[nn.Module], torch.Tensor]
FAMILIES: dict[str, Callable[[], tuple[nn.Module, Step]]] = {}

TOKENS, LENGTH, BATCH = 32, 8, 2
LAYERS = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
"""The names that most families give to the sizes of their layers."""
TEXT = {**LAYERS, "vocab_size": TOKENS, "max_position_embeddings": 32}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = {**LAYERS, "image_size": 16, "patch_size": 8, "num_channels": 3}
GROUPED = {**TEXT, **SPECIAL, "num_key_value_heads": 1, "head_dim": 8}

Inputs = Callable[[], dict[str, Any]]


def ids(length: int = LENGTH) -> torch.Tensor:
    """Random tokens; none is padding, beginning or end."""
    return torch.randint(3, TOKENS, (BATCH, length))


def causal() -> dict[str, torch.Tensor]:
    """Tokens that are their own labels, the last of one row ignored."""
    tokens = ids()
    labels = tokens.clone()
    labels[0, -2:] = -100
    return {"input_ids": tokens, "labels": labels}


def padded() -> dict[str, torch.Tensor]:
    """Tokens whose second row is shorter, and labels for every token."""
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": ids(), "attention_mask": mask, "labels": ids()}


def text_classes() -> dict[str, torch.Tensor]:
    """A class per row of tokens."""
    return {"input_ids": ids(), "labels": torch.randint(0, 2, (BATCH,))}


def replaced() -> dict[str, torch.Tensor]:
    """Which tokens are not the original ones."""
    return {**padded(), "labels": torch.randint(0, 2, (BATCH, LENGTH))}


def answers() -> dict[str, torch.Tensor]:
    """Tokens, and others that answer them."""
    return {"input_ids": ids(), "labels": ids(6)}


def image_classes() -> dict[str, torch.Tensor]:
    """A class per image."""
    return {"pixel_values": torch.randn(BATCH, 3, 16, 16), "labels": torch.randint(0, 2, (BATCH,))}


def segments() -> dict[str, torch.Tensor]:
    """A class per pixel."""
    image = torch.randn(BATCH, 3, 32, 32)
    return {"pixel_values": image, "labels": torch.randint(0, 2, (BATCH, 32, 32))}


def detection() -> dict[str, Any]:
    """Boxes in images."""
    boxes = {"class_labels": torch.tensor([1, 0]), "boxes": torch.rand(2, 4) * 0.4 + 0.1}
    return {"pixel_values": torch.randn(BATCH, 3, 32, 32), "labels": [boxes, boxes]}


def image_and_text() -> dict[str, Any]:
    """Pairs of an image and a caption."""
    return {"pixel_values": torch.randn(BATCH, 3, 16, 16), "input_ids": ids(), "return_loss": True}


def spectrogram() -> dict[str, torch.Tensor]:
    """Mel bands over time, and what was said."""
    return {"input_features": torch.randn(BATCH, 8, 16), "labels": ids(6)}


def sound() -> dict[str, torch.Tensor]:
    """Samples of sound, and what was said."""
    return {"input_values": torch.randn(BATCH, 400), "labels": ids(3)}


def family(name: str, model: str, inputs: Inputs, **sizes: Any) -> None:
    """Add one family under ``name``.

    Args:
        name: as the table shows it.
        model: class of the model in Transformers.
        inputs: makes a batch; the model returns its loss.
        sizes: arguments of the configuration.
    """

    def build() -> tuple[nn.Module, Step]:
        model_class = getattr(transformers, model)
        config = model_class.config_class(**sizes)
        return model_class(config).train(), lambda m: m(**inputs()).loss

    FAMILIES[f"transformers {name}"] = build


# Decoders.
GPT2 = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 32, "vocab_size": TOKENS}
BLOOM = {"n_layer": 2, "n_head": 2, "hidden_size": 16, "vocab_size": TOKENS}
family("gpt2", "GPT2LMHeadModel", causal, **GPT2, **SPECIAL)
family("gpt neox", "GPTNeoXForCausalLM", causal, **TEXT, **SPECIAL)
family("opt", "OPTForCausalLM", causal, ffn_dim=32, word_embed_proj_dim=16, **TEXT, **SPECIAL)
family("bloom", "BloomForCausalLM", causal, **BLOOM, **SPECIAL)
family("llama", "LlamaForCausalLM", causal, **GROUPED)
family("mistral", "MistralForCausalLM", causal, sliding_window=4, **GROUPED)
family("phi", "PhiForCausalLM", causal, **TEXT, **SPECIAL)
family("gemma 2", "Gemma2ForCausalLM", causal, **GROUPED)
family("qwen 3", "Qwen3ForCausalLM", causal, **GROUPED)

# Mixtures of experts.
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "output_router_logits": True}
family("mixtral", "MixtralForCausalLM", causal, num_local_experts=4, **GROUPED, **EXPERTS)
family("qwen 3 moe", "Qwen3MoeForCausalLM", causal, num_experts=4, **GROUPED, **EXPERTS)

# Recurrent and state space models, on their paths in plain torch.
RECURRENT = {"hidden_size": 16, "num_hidden_layers": 3, "vocab_size": TOKENS, **SPECIAL}
GRIFFIN = {"lru_width": 16, "attention_window_size": 4, "num_attention_heads": 2}
family("mamba", "MambaForCausalLM", causal, state_size=4, **RECURRENT)
family("rwkv", "RwkvForCausalLM", causal, attention_hidden_size=16, **RECURRENT)
family("recurrent gemma", "RecurrentGemmaForCausalLM", causal, **GRIFFIN, **RECURRENT)

# Encoders.
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": TOKENS}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
XLNET = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "vocab_size": TOKENS}
family("bert", "BertForMaskedLM", padded, **TEXT)
family("roberta", "RobertaForSequenceClassification", text_classes, **TEXT, **SPECIAL)
family("distilbert", "DistilBertForMaskedLM", padded, **DISTILBERT)
family("albert", "AlbertForSequenceClassification", text_classes, embedding_size=8, **TEXT)
family("electra", "ElectraForPreTraining", replaced, embedding_size=8, **TEXT)
family("deberta v2", "DebertaV2ForSequenceClassification", text_classes, **DISENTANGLED, **TEXT)
family(
    "modernbert", "ModernBertForMaskedLM", padded, cls_token_id=1, sep_token_id=2, **TEXT, **SPECIAL
)
family("xlnet", "XLNetForSequenceClassification", text_classes, **XLNET, **SPECIAL)

# Encoders with decoders.
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": TOKENS}
BOTH = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
}  # fmt: skip
BART = {"vocab_size": TOKENS, "max_position_embeddings": 32, "decoder_start_token_id": 2, **BOTH}
family("t5", "T5ForConditionalGeneration", answers, decoder_start_token_id=0, **T5)
family("bart", "BartForConditionalGeneration", answers, **BART, **SPECIAL)

# Images.
SWIN = {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
SEGFORMER = {
    "num_encoder_blocks": 2, "num_attention_heads": [1, 2], "sr_ratios": [2, 1], "strides": [4, 2],
    "patch_sizes": [7, 3], "mlp_ratios": [2, 2], "decoder_hidden_size": 16,
}  # fmt: skip
TOWERS = {"text_config": {**TEXT, **SPECIAL}, "vision_config": IMAGE}
BACKBONE = {"model_type": "resnet", "embedding_size": 8, "out_features": ["stage2"], **STAGES}
DETR = {"backbone_config": BACKBONE, "num_queries": 4, "num_labels": 3}
family("vit", "ViTForImageClassification", image_classes, **IMAGE)
family("deit", "DeiTForImageClassification", image_classes, **IMAGE)
family("swin", "SwinForImageClassification", image_classes, image_size=16, **SWIN)
family(
    "convnext",
    "ConvNextForImageClassification",
    image_classes,
    patch_size=2,
    num_stages=2,
    **STAGES,
)
family("resnet", "ResNetForImageClassification", image_classes, embedding_size=8, **STAGES)
family("segformer", "SegformerForSemanticSegmentation", segments, **SEGFORMER, **STAGES)
family("clip", "CLIPModel", image_and_text, projection_dim=8, **TOWERS)
family("siglip", "SiglipModel", image_and_text, **TOWERS)
family("detr", "DetrForObjectDetection", detection, **DETR, **BOTH)

# Sound.
WHISPER = {
    "num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 16,
    "vocab_size": TOKENS, "decoder_start_token_id": 1,
}  # fmt: skip
WAV2VEC2 = {
    "conv_dim": [8, 8], "conv_stride": [4, 4], "conv_kernel": [8, 4], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "mask_time_length": 2,
    "vocab_size": TOKENS, "ctc_loss_reduction": "mean",
}  # fmt: skip
family("whisper", "WhisperForConditionalGeneration", spectrogram, **WHISPER, **BOTH, **SPECIAL)
family("wav2vec2", "Wav2Vec2ForCTC", sound, **WAV2VEC2, **LAYERS)
