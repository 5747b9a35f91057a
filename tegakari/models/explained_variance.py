"""Reconstruction quality of SAEs on the residuals of held-out documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from tegakari.kernels import Encoder, encode
from tegakari.models.classifier import Classifier
from tegakari.models.sae import Sae


class LayerQuality(msgspec.Struct, frozen=True):
    """Quality of the SAE of one layer on held-out documents."""

    positions: int
    """non-special positions it was measured on."""
    explained_variance: float | None
    """1 - sum ||h - h_hat||^2 / sum ||h - mean(h)||^2; null where the residual does not vary."""
    l0: float
    """active features per position."""
    dead: int
    """features active on none of the positions."""


def explained_variance(
    classifier: Classifier,
    saes: Mapping[int, Sae],
    texts: Sequence[str],
    *,
    batch_tokens: int,
    advance: Callable[[int], None] | None = None,
) -> dict[int, LayerQuality]:
    """Measure all SAEs on the same documents, with one forward pass per batch.

    Args:
        classifier: the model whose residuals the SAEs reconstruct.
        saes: by layer.
        texts: documents that neither the classifier nor the SAEs were trained on.
        batch_tokens: tokens per forward pass.
        advance: called after each batch with its number of documents.

    Returns:
        quality by layer; empty where the documents have no countable position.
    """
    documents = [document for document in classifier.tokenize(texts) if document.positions]
    sums = {layer: _Sums(sae.to(classifier.device), classifier.dtype) for layer, sae in saes.items()}
    for indices, batch in classifier.batches(documents, batch_tokens):
        classifier.run(batch, lambda layer, residual, b=batch: sums[layer].add(residual, b.offsets), list(sums))
        if advance is not None:
            advance(len(indices))
    return {layer: layer_sums.quality() for layer, layer_sums in sums.items()} if documents else {}


class _Sums:
    """Running sums of one layer in float64; the spread by Chan's merge, which loses no digits to a large mean."""

    def __init__(self, sae: Sae, dtype: torch.dtype) -> None:
        self._sae = sae
        self._encoder: Encoder = sae.encoder(dtype)
        self._W_dec = sae.W_dec.float()
        device = sae.W_enc.device
        self._positions = 0
        self._mean = torch.zeros(sae.d_model, dtype=torch.float64, device=device)
        self._spread = torch.zeros((), dtype=torch.float64, device=device)
        self._error = torch.zeros((), dtype=torch.float64, device=device)
        self._count = torch.zeros(sae.d_sae, dtype=torch.int64, device=device)

    def add(self, residual: Tensor, offsets: Tensor) -> None:
        """Add the positions of one batch: residual [T, d_model], offsets [D + 1] of its documents."""
        encoded = encode(residual, self._encoder, offsets, rows="all")
        assert encoded.rows is not None
        rows = encoded.rows.trimmed()
        h = residual.double()
        # A sparse decode: the decoder rows of a position's active features, weighted and summed.
        decoded = embedding_bag(
            rows.feature.long(), self._W_dec, rows.indptr[:-1], mode="sum", per_sample_weights=rows.activation
        )
        h_hat = (decoded + self._sae.b_dec) / self._sae.scale
        self._error += (h - h_hat.double()).square().sum()
        n, m = self._positions, len(residual)
        mean = h.mean(0)
        delta = mean - self._mean
        self._spread += (h - mean).square().sum() + delta.square().sum() * (n * m / (n + m))
        self._mean += delta * (m / (n + m))
        self._positions = n + m
        self._count += encoded.columns.count

    def quality(self) -> LayerQuality:
        """Quality over all positions added."""
        spread = self._spread.item()
        return LayerQuality(
            self._positions,
            1 - self._error.item() / spread if spread > 0 else None,
            self._count.sum().item() / self._positions,
            int((self._count == 0).sum()),
        )
