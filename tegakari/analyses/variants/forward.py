"""Forward passes of written variants: the strongest features of each sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.run_models import RunModels
from tegakari.schemas.progress import Progress


def strongest_features(models: RunModels, texts: Sequence[str], n: int, progress: Progress) -> np.ndarray:
    """The n features with the largest activation at any position of each text, by activation.

    Args:
        models: of the run.
        texts: sentences.
        n: number of features.
        progress: advanced by the texts of each batch; the caller begins the stage.

    Returns:
        int64 [layers, texts, n]; of equal activations the lower feature is first; -1 where fewer are active.
    """
    layers = sorted(models.saes)
    strongest = np.full((len(layers), len(texts), n), -1, np.int64)
    for members, batch in batches(models.classifier, tokenized(models.classifier, texts)):

        def on_residual(
            layer: int, residual: Tensor, members: list[int] = members, offsets: Tensor = batch.offsets
        ) -> None:
            encoded = models.encode(layer, residual, offsets, rows="none")
            order = torch.sort(encoded.pooled.max, dim=1, descending=True, stable=True)
            features = torch.where(order.values > 0, order.indices, -1)[:, :n]
            strongest[layers.index(layer), members] = features.cpu().numpy()

        models.classifier.run_blocks(batch, on_residual, layers)
        progress.advance(len(members))
    return strongest
