"""Reconstruction quality of trained SAEs on the evaluation documents, measured by the ranks that own their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch

from tegakari.indexer.training.saes.forward_passes import ForwardPasses
from tegakari.models.explained_variance import LayerQuality, LayerSums
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized, bucketed
from tegakari.schemas.progress import Progress


def measure(
    passes: ForwardPasses,
    saes: Mapping[int, Sae],
    documents: Sequence[Tokenized],
    batch_tokens: int,
    progress: Progress,
) -> dict[int, LayerQuality]:
    """Measure the SAEs of this rank's layers.

    Args:
        passes: forward passes for the layers of all ranks.
        saes: by layer, those that this rank owns.
        documents: of the evaluation, each with a countable position.
        batch_tokens: tokens per forward pass.
        progress: receives one stage.
    """
    classifier = passes.classifier
    progress.stage("measuring on evaluation documents", len(documents))
    groups = bucketed([len(document) for document in documents], batch_tokens)
    batches = [[documents[index] for index in indices] for indices in groups]
    offsets = [list(accumulate((len(document.positions) for document in batch), initial=0)) for batch in batches]
    sums = {layer: LayerSums(sae.to(classifier.device), classifier.dtype) for layer, sae in saes.items()}
    for numbers in passes.run(
        batches,
        lambda number, layer, residual: sums[layer].add(
            residual, torch.tensor(offsets[number], device=residual.device)
        ),
    ):
        progress.advance(sum(len(batches[number]) for number in numbers))
    return {layer: layer_sums.quality() for layer, layer_sums in sums.items()}
