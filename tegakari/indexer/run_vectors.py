"""Vectors of a run: directions of its SAEs, embeddings and words of its documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from tegakari.indexer.predictions import Predictions
from tegakari.indexer.shard import IndexedDocument
from tegakari.models.sae import Sae
from tegakari.store import vectors

log = structlog.get_logger()


def write_run_vectors(
    directory: Path, saes: Mapping[int, Sae], documents: Sequence[IndexedDocument], predictions: Predictions
) -> None:
    """Write the vectors; where LanceDB is missing, nothing is written and a warning is logged.

    Args:
        directory: of the staged run.
        saes: by layer.
        documents: of the run, by number.
        predictions: for the documents.
    """
    if not vectors.available():
        log.warning("no vectors", reason="lancedb is not installed", fix="`tegakari runs add-vectors` where it is")
        return
    directions = {layer: sae.decoder_directions().float().cpu().numpy() for layer, sae in saes.items()}
    texts = [document.text for document in documents]
    vectors.write_vectors(directory, directions, predictions.embeddings(), texts)
