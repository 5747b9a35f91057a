"""Small random classifiers of several families of transformers, and random SAEs of every activation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    Qwen2Config,
)

from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.models.sae import Sae
from tegakari.models.tokens import Head
from tests.support.tokenizer_kinds import save_qwen2_tokenizer

D_MODEL, D_SAE = 32, 40
_SIZES = {
    "vocab_size": 512,
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "num_labels": 3,
}
_GEMMA2 = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 4,
    "eos_token_id": 1,
}
_MODERNBERT = {"bos_token_id": 2, "eos_token_id": 1, "cls_token_id": 2, "sep_token_id": 1, "reference_compile": False}
FAMILIES = {
    "gemma2": Gemma2Config(**_SIZES, **_GEMMA2),
    "gemma2-eos": Gemma2Config(**_SIZES, **_GEMMA2),
    "llama": LlamaConfig(**_SIZES, num_key_value_heads=2),
    "mistral": MistralConfig(**_SIZES, num_key_value_heads=2, sliding_window=4),
    "qwen2": Qwen2Config(**_SIZES, num_key_value_heads=2),
    "bert": BertConfig(**_SIZES),
    "modernbert-mean": ModernBertConfig(**_SIZES, classifier_pooling="mean", **_MODERNBERT),
}
"""Configuration by family: decoders whose documents begin with BOS; one whose documents have no BOS and end with EOS,
which its head reads; encoders whose head reads the first position, and the mean of all."""

HEADS: dict[str, Head] = {"bert": "first", "modernbert-mean": "all"}
"""Positions that the head of a family reads, if it is not the last one."""


def make_classifier(family: str, directory: Path, tokenizer_directory: Path) -> Classifier:
    """Write a random classifier of a family to a directory and load it."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(FAMILIES[family])
    for parameter in model.parameters():  # large enough that every part matters
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.25)
    model.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory)
    if family.endswith("-eos"):
        template = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
        tokenizer.backend_tokenizer.post_processor = template
    if family == "qwen2":  # every tokenizer in its directory is loaded as Qwen's, which has other tokens
        save_qwen2_tokenizer(directory)
    else:
        tokenizer.save_pretrained(directory)
    return replace(load_classifier(directory, max_length=32, device="cpu"), tokenizer=tokenizer)


def make_sae(kind: str, seed: int) -> Sae:
    """Random SAE with an activation, an input scale and b_dec subtracted from the input."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    parameters = {
        "relu": {},
        "jumprelu": {"threshold": random(D_SAE).abs()},
        "topk": {"k": 9},
        "batch_topk": {"threshold": torch.full((D_SAE,), 0.7)},
        "gated": {"r_mag": 0.1 * random(D_SAE), "b_mag": 0.1 * random(D_SAE)},
    }[kind]
    return Sae(
        W_enc=random(D_MODEL, D_SAE),
        W_dec=random(D_SAE, D_MODEL),
        b_enc=0.1 * random(D_SAE),
        b_dec=0.1 * random(D_MODEL),
        activation=kind,
        scale=0.5,
        apply_b_dec_to_input=True,
        **parameters,
    )
