"""A tiny random classifier of every family that transformers knows for sequence classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

FAMILIES: tuple[str, ...] = tuple(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
"""`model_type` of every family, as the installed transformers lists them."""

LABELS = 3
VOCABULARY = 512
D_MODEL = 32
PAD, END, BEGIN = 0, 1, 2
"""Token ids."""

_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")

_SIZES: dict[tuple[str, ...], int] = {
    (
        *("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "embedding_size", "input_embedding_size"),
        *("output_embedding_size", "pooler_hidden_size", "word_embed_proj_dim", "entity_emb_size", "d_latents"),
        *("out_hidden_size", "cross_attention_hidden_size", "input_size"),
    ): D_MODEL,
    (
        *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "encoder_layers"),
        *("decoder_layers", "num_self_attends_per_block", "depth"),
    ): 3,
    (
        *("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
        *("decoder_attention_heads", "num_self_attention_heads", "num_cross_attention_heads"),
        *("linear_num_value_heads", "num_local_experts", "num_experts", "n_routed_experts"),
    ): 4,
    (
        *("num_key_value_heads", "num_kv_heads", "linear_num_key_heads", "num_experts_per_tok", "moe_topk"),
        *("n_group", "topk_group", "index_n_heads"),
    ): 2,
    (
        *("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "d_ff", "d_inner"),
        *("dff", "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size"),
        *("feed_forward_size", "prediction_head_size"),
    ): 48,
    (
        *("head_dim", "d_head", "d_kv", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim"),
        *("linear_key_head_dim", "linear_value_head_dim", "kv_channels", "index_head_dim", "mamba_dt_rank"),
        *("kv_lora_rank", "q_lora_rank", "gated_norm_rank", "query_pre_attn_scalar", "attention_head_size"),
        *("intra_bottleneck_size", "num_landmarks", "num_latents", "index_topk", "chunk_size"),
    ): 8,
    ("image_size", "max_position_embeddings", "n_positions", "entity_vocab_size"): 64,
    ("vocab_size",): VOCABULARY,
    ("pad_token_id",): PAD,
    ("eos_token_id", "sep_token_id"): END,
    ("bos_token_id", "cls_token_id"): BEGIN,
}
"""Names of keys, and the value of those that a configuration has."""

_SMALL = {name: value for names, value in _SIZES.items() for name in names}

_NESTED = ("text_config", "vision_config", "encoder", "decoder")

_VISION = {"num_hidden_layers": 1, "depth": 1, "patch_size": 16}

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}

_CHANGES: dict[str, dict[str, Any]] = {
    "axk1": {"num_key_value_heads": 4},
    "axk2": {"num_key_value_heads": 4, "index_topk": 64},
    "big_bird": {"max_position_embeddings": 1024},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {**_ROPE, "mrope_section": [2, 1, 1]}}},
    "deepseek_v2": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4, "first_k_dense_replace": 1},
    "doge": {"num_experts": 16},
    "esmc": {"num_key_value_heads": 4},
    "funnel": {"block_sizes": [2, 2], "num_decoder_layers": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "window_size": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": [6, 6, 6]},
    "minicpm3": {"num_key_value_heads": 4},
    "mistral4": {"num_key_value_heads": 4, "head_dim": 16},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32},
    "nystromformer": {"num_landmarks": 64},
    "qwen3_5": {"text_config": {"num_hidden_layers": 4}},
    "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_next": {"num_hidden_layers": 4},
    "reformer": {"axial_pos_embds": False, "num_buckets": 2, "attn_layers": ["local", "lsh", "local"]},
    "roc_bert": {
        **{"pronunciation_embed_dim": 8, "pronunciation_vocab_size": 8},
        **{"shape_embed_dim": 8, "shape_vocab_size": 8},
    },
    "t5": {"decoder_start_token_id": PAD},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 6, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "num_hidden_layers": 4,
    },
}
"""What a family needs besides."""


_DEVIATIONS = {"mobilebert": 0.05}
"""Standard deviation of weights, where a tenfold embedding or the like would saturate the head."""


def tiny_config(family: str) -> PreTrainedConfig:
    """Configuration of a tiny classifier of a family."""
    kind = CONFIG_MAPPING[family]
    small = _small_values(kind().to_dict())
    for name, value in _CHANGES.get(family, {}).items():
        small[name] = small[name] | value if name in _NESTED else value
    small["num_labels"] = LABELS
    return kind(**small)


def _small_values(defaults: Mapping[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {name: value for name, value in _SMALL.items() if name in defaults}
    for name in _NESTED:
        if isinstance(nested := defaults.get(name), dict):
            small[name] = _small_values(nested) | {"model_type": nested["model_type"]}
            if name == "vision_config":
                small[name] |= {key: value for key, value in _VISION.items() if key in nested}
    return small


def tiny_model(family: str) -> PreTrainedModel:
    """Random classifier of a family, with weights so large that each of its parts matters.

    Raises:
        ImportError: it needs a package that is not installed.
    """
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(family)).eval()
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.data.normal_(0, _DEVIATIONS.get(family, 0.25))
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx] = 0  # as transformers makes it
    return model


def save_tiny_model(family: str, labels: Sequence[str], directory: Path) -> None:
    """Write the classifier of a family, with its tokenizer, to a directory."""
    model = tiny_model(family)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(directory)
    PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    ).save_pretrained(directory)


def _tokenizer() -> Tokenizer:
    """One token per byte, as GPT-2 spells it, BOS in front; every class of tokenizer can read it."""
    spelled = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *spelled])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<bos> $A", special_tokens=[("<bos>", BEGIN)]
    )
    return tokenizer
