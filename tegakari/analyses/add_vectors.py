"""Vectors of a run that was indexed on a machine without LanceDB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.run_models import load_run_models
from tegakari.models.tokens import bucketed
from tegakari.schemas.errors import RunExistsError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run
from tegakari.store.disk.layout import VECTORS, added_vectors_directory
from tegakari.store.vectors import TEXTS, publish_added


def add_vectors(store: Path, run: Run, *, device: str = "auto", progress: Progress = NoProgress()) -> Path:
    """Write decoder directions, document embeddings and the word index of a run beside it.

    The directions come from the run's SAEs, the embeddings from one forward pass over its documents.

    Args:
        store: the store's directory.
        run: published.
        device: auto, cpu, cuda or cuda:N.
        progress: counts documents.

    Returns:
        directory of the vectors.

    Raises:
        RunExistsError: the run has vectors.
        ModelNotHereError: the run's models are not on this machine, or have changed.
        DiskFullError: no space; nothing is published.
    """
    for directory in (run.directory, added_vectors_directory(store, run.manifest)):
        # Runs of earlier versions have vectors without the word index.
        if (directory / VECTORS / f"{TEXTS}.lance").is_dir():
            raise RunExistsError(f"run {run.name!r} has vectors", field="run", fix="nothing needs to be done")
    models = load_run_models(run, device)
    texts = [row["text"] for row in run.rows("SELECT text FROM documents ORDER BY document")]
    documents = models.classifier.tokenize(texts)
    embeddings = np.empty((len(texts), models.classifier.d_model), np.float32)
    progress.stage("embedding documents", len(texts))
    for members in bucketed([len(document.input_ids) for document in documents], BATCH_TOKENS):
        batch = models.classifier.batch([documents[number] for number in members])
        embeddings[members] = models.classifier.run(batch).embeddings.cpu().numpy()
        progress.advance(len(members))
    directions = {layer: sae.decoder_directions().float().cpu().numpy() for layer, sae in models.saes.items()}
    return publish_added(store, run.manifest, directions, [embeddings], texts)
