"""Limits of norms for SAEs whose files have none, from the residuals of some documents of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.outliers import finite_limit, norm_limit, norms_of
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized
from tegakari.store.disk.durable import write_atomically

T = TypeVar("T")

SAMPLE_DOCUMENTS = 256
"""Documents that the limits are determined on, at equal steps over the corpus."""


def with_norm_limits(
    saes: Mapping[int, Sae], classifier: Classifier, documents: Sequence[Tokenized], batch_tokens: int, cache: Path
) -> dict[int, Sae]:
    """SAEs that all have a limit of norms: that of their files, or else one of a sample of residuals.

    Args:
        saes: by layer.
        classifier: the model whose residuals the SAEs reconstruct.
        documents: of the run, each with a countable position.
        batch_tokens: tokens per forward pass.
        cache: file of the limits, for a resumed index, whose limits must not differ.
    """
    unlimited = [layer for layer, sae in saes.items() if sae.max_norm is None]
    if not unlimited:
        return dict(saes)
    if not cache.is_file():
        sample = at_equal_steps(documents, SAMPLE_DOCUMENTS)
        limits = sampled_limits(classifier, unlimited, sample, batch_tokens)
        write_atomically(cache, msgspec.json.encode({layer: finite_limit(limit) for layer, limit in limits.items()}))
    limits = msgspec.json.decode(cache.read_bytes(), type=dict[int, float | None])
    return with_limits(saes, limits)


def at_equal_steps(documents: Sequence[T], n: int) -> list[T]:
    """Up to n documents at equal steps over a sequence."""
    n = min(n, len(documents))
    return [documents[place * len(documents) // n] for place in range(n)]


def with_limits(saes: Mapping[int, Sae], limits: Mapping[int, float | None]) -> dict[int, Sae]:
    """SAEs with other limits of norms in some layers; None: no residual is an outlier."""
    return {
        layer: replace(sae, max_norm=limit if (limit := limits[layer]) is not None else math.inf)
        if layer in limits
        else sae
        for layer, sae in saes.items()
    }


def sampled_limits(
    classifier: Classifier, layers: Sequence[int], documents: Sequence[Tokenized], batch_tokens: int
) -> dict[int, float]:
    """Limit of norms of each layer, `norm_limit` of the positions of documents."""
    norms: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for _, batch in classifier.batches(documents, batch_tokens):
        classifier.run_blocks(batch, lambda layer, residual: norms[layer].append(norms_of(residual)), layers)
    return {layer: norm_limit(torch.cat(parts)) for layer, parts in norms.items()}
