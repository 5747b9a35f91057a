"""A Gemma 2 classifier with random weights, made in memory on its device, and documents of random tokens."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import cast

import torch
from torch import Tensor
from transformers import Gemma2ForSequenceClassification, PreTrainedTokenizerBase

from benchmarks.case import Shape, configuration_of
from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.rerun.tail import find_tail
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized

LABELS = 4

SMOKE = Shape(
    layers=3, d_model=32, intermediate=64, heads=4, kv_heads=2, head_dim=8, vocabulary=512, d_sae=64, active=8
)
"""Shapes for a run that only shows that everything works, in seconds on a CPU."""


def device_of(smoke: bool) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and not smoke else "cpu")


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype) -> Gemma2ForSequenceClassification:
    """The model in evaluation mode; eager attention, as Gemma 2 is loaded for its soft-capped scores."""
    config = configuration_of(shape, [f"label {number}" for number in range(LABELS)])
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return Gemma2ForSequenceClassification(config).eval()
    finally:
        torch.set_default_dtype(former)


def random_classifier(shape: Shape, device: torch.device, dtype: torch.dtype) -> Classifier:
    """The classifier without a tokenizer: its documents are `random_documents`."""
    model = random_model(shape, device, dtype)
    labels = tuple(f"label {number}" for number in range(LABELS))
    no_tokenizer = cast(PreTrainedTokenizerBase, None)
    arguments = frozenset({(1, "attention_mask")})  # what the self-test of a classifier finds, which needs a tokenizer
    classifier = Classifier(model, no_tokenizer, find_blocks(model), labels, 512, device, dtype, "last", arguments)
    with torch.inference_mode():
        tail = find_tail(classifier, classifier.batch(random_documents(2, range(4, 8), shape.vocabulary)))
    return replace(classifier, tail=tail)


def random_documents(count: int, lengths: range, vocabulary: int, seed: int = 0) -> list[Tokenized]:
    """Documents of random tokens, lengths drawn uniformly."""
    rng = Random(seed)
    documents = []
    for _ in range(count):
        length = rng.choice(lengths)
        ids = [rng.randrange(2, min(vocabulary, 4096)) for _ in range(length)]
        documents.append(Tokenized(ids, [(0, 0)] * length, [False] * length, False, length - 1))
    return documents


def random_sae(shape: Shape, layer: int, device: torch.device) -> Sae:
    """SAE with random directions; without a bias, a feature is active at half of all positions."""
    generator = torch.Generator(device).manual_seed(layer)

    def zeros(size: int) -> Tensor:
        return torch.zeros(size, device=device)

    directions = torch.randn(shape.d_sae, shape.d_model, generator=generator, device=device)
    directions /= directions.norm(dim=1, keepdim=True)
    return Sae(directions.T.contiguous(), directions, zeros(shape.d_sae), zeros(shape.d_model), layer=layer)
