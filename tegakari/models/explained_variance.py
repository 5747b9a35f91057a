"""Reconstruction quality of SAEs on the residuals of held-out documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from tegakari.kernels import Encoder, encode
from tegakari.models.classifier import Classifier
from tegakari.models.outliers import finite_limit, ordinary_positions
from tegakari.models.sae import Sae
from tegakari.models.tokens import Batch


class LayerQuality(msgspec.Struct, frozen=True):
    """Quality of the SAE of one layer on held-out documents."""

    positions: int
    """ordinary positions, which all figures but `explained_variance_all` and `outlier_variance` are measured on."""
    explained_variance: float | None
    """1 - sum ||h - h_hat||^2 / sum ||h - mean(h)||^2; null where the residual does not vary."""
    l0: float
    """active features per position."""
    dead: int
    """features active on none of the positions."""
    explained_variance_all: float | None
    """explained variance over ordinary positions and norm outliers."""
    outlier_positions: int
    """positions whose residual is longer than the SAE's `max_norm`."""
    outlier_variance: float | None
    """share of sum ||h - mean(h)||^2 over all positions that the outliers add: 1 - sum of the ordinary / sum of all."""


def doubts(quality: LayerQuality) -> list[str]:
    """Reasons to doubt the SAE of a layer, as sentences; empty: none."""
    reasons = []
    if quality.outlier_variance is not None and quality.outlier_variance > 0.5:
        share = quality.outlier_positions / (quality.positions + quality.outlier_positions)
        reasons.append(
            f"{share:.1%} of the positions, norm outliers, hold {quality.outlier_variance:.0%} of the variance; "
            "they are left out"
        )
    if quality.explained_variance is not None and quality.explained_variance < 0:
        reasons.append(
            f"explained variance over ordinary positions is {quality.explained_variance:.2f}: "
            "the mean residual is a better reconstruction"
        )
    return reasons


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
    sums = VarianceSums(classifier, saes)
    for indices, batch in classifier.batches(documents, batch_tokens):
        classifier.run_blocks(batch, lambda layer, residual, b=batch: sums.add(b, layer, residual), list(saes))
        if advance is not None:
            advance(len(indices))
    return sums.quality() if documents else {}


class VarianceSums:
    """Sums of all layers over the batches of a pass over documents."""

    def __init__(self, classifier: Classifier, saes: Mapping[int, Sae]) -> None:
        """Start without documents; SAEs by layer."""
        self._layers = {layer: LayerSums(sae.to(classifier.device), classifier.dtype) for layer, sae in saes.items()}

    def add(self, batch: Batch, layer: int, residual: Tensor) -> None:
        """Add the positions of one batch and layer, [T, d_model]."""
        self._layers[layer].add(residual, batch.offsets)

    def quality(self) -> dict[int, LayerQuality]:
        """Quality by layer over the documents added, of which there is one at least."""
        return {layer: layer_sums.quality() for layer, layer_sums in self._layers.items()}


class _Moments:
    """Number, mean and spread of residuals and error of their reconstructions, in float64.

    The spread is added by Chan's merge, which loses no digits to a large mean.
    """

    def __init__(self, d_model: int, device: torch.device) -> None:
        self.positions = 0
        self._mean = torch.zeros(d_model, dtype=torch.float64, device=device)
        self._spread = torch.zeros((), dtype=torch.float64, device=device)
        self._error = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, h: Tensor, error: Tensor) -> None:
        """Add residuals, float64 [T, d_model], and the squared errors of their reconstructions, float64 [T]."""
        n, m = self.positions, len(h)
        if not m:
            return
        self._error += error.sum()
        mean = h.mean(0)
        delta = mean - self._mean
        self._spread += (h - mean).square().sum() + delta.square().sum() * (n * m / (n + m))
        self._mean += delta * (m / (n + m))
        self.positions = n + m

    @property
    def spread(self) -> float:
        """Sum of `||h - mean(h)||^2`."""
        return self._spread.item()

    @property
    def explained_variance(self) -> float | None:
        """None where the residual does not vary."""
        return 1 - self._error.item() / self.spread if self.spread > 0 else None


class LayerSums:
    """Sums of one layer over its ordinary positions and over all. They are the same for the same order of batches."""

    def __init__(self, sae: Sae, dtype: torch.dtype) -> None:
        """Start at 0.

        Args:
            sae: of the layer, on the device of the residuals.
            dtype: of the residuals.
        """
        self._sae = sae
        self._encoder: Encoder = sae.encoder(dtype)
        self._W_dec = sae.W_dec.float()
        device = sae.W_enc.device
        self._all = _Moments(sae.d_model, device)
        self._ordinary = self._all if finite_limit(sae.max_norm) is None else _Moments(sae.d_model, device)
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
        h_hat = self._sae.in_residual_units(decoded + self._sae.b_dec, residual)
        error = (h - h_hat.double()).square().sum(1)
        self._all.add(h, error)
        ordinary = ordinary_positions(residual, self._sae.max_norm)
        if ordinary is None:
            self._count += encoded.columns.count
        else:
            self._ordinary.add(h[ordinary], error[ordinary])
            active = rows.feature[ordinary.repeat_interleave(rows.indptr.diff())]
            self._count += active.long().bincount(minlength=self._sae.d_sae)

    def quality(self) -> LayerQuality:
        """Quality over the positions added."""
        ordinary, spread = self._ordinary, self._all.spread
        return LayerQuality(
            positions=ordinary.positions,
            explained_variance=ordinary.explained_variance,
            l0=self._count.sum().item() / max(1, ordinary.positions),
            dead=int((self._count == 0).sum()),
            explained_variance_all=self._all.explained_variance,
            outlier_positions=self._all.positions - ordinary.positions,
            outlier_variance=1 - ordinary.spread / spread if spread > 0 else None,
        )
