"""Deterministic explanations of all features of a run, written layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog

from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.contexts import layer_contexts
from tegakari.store.explanations.term_files import write_term_rows
from tegakari.store.reader import Run
from tegakari.store.threads import on_threads
from tegakari.terms import words
from tegakari.terms.term_rows import LayerLabels, term_rows
from tegakari.terms.windows import Corpus, open_corpus

log = structlog.get_logger()

LABELS = 3
"""Labels of a feature."""


def explain_run(
    run: Run,
    directory: Path,
    progress: Progress = NoProgress(),
    *,
    contexts: Path | None = None,
    threads: int | None = None,
) -> None:
    """Explain every feature of a run, layers on threads; memory does not grow with the number of layers.

    Where LanceDB is missing, which cuts the words, nothing is written and a warning is logged.

    Args:
        run: published, or staged with its run.json; it is read only.
        directory: of the staged run, or of its staged additions, for the files.
        progress: receives the layers.
        contexts: directory that has the run's contexts; default: where the run has them.
        threads: layers at a time; default: one per core. It does not affect the files.

    Raises:
        NotFoundError: the run has no contexts.
        StoreError: the run is damaged.
    """
    if not words.available():
        log.warning("no explanations", reason="lancedb, which cuts the words, is not installed or too old")
        return
    layers = run.manifest.saes.layers
    progress.stage("explaining features", len(layers))
    corpus = open_corpus(run.blocks.documents, run.manifest)

    def explain(layer: int) -> None:
        write_term_rows(directory, layer, _layer_rows(run, corpus, layer, contexts))

    for _ in on_threads(explain, layers, name="explain-layer", threads=threads):
        progress.advance()


def _layer_rows(run: Run, corpus: Corpus, layer: int, directory: Path | None) -> Iterator[pa.RecordBatch]:
    labels = layer_labels(run, layer)
    for features, contexts in layer_contexts(run, layer, directory=directory, windows=False):
        yield term_rows(run.labels, corpus, labels.of(features), features, contexts)


def layer_labels(run: Run, layer: int) -> LayerLabels:
    """The labels of the largest d of each feature of a layer."""
    blocks, pooling = run.blocks, run.manifest.pooling
    places = blocks.places.slice_of(layer)
    d = np.asarray(blocks.statistics["d", pooling][:, places])
    above = np.where(np.isnan(d) | (d < run.manifest.variety_threshold), -np.inf, d)
    documents = np.bincount(blocks.documents.label_id, minlength=len(d))
    active = blocks.documents_active["max"][:, places] / np.maximum(documents, 1)[:, None]
    features = np.arange(above.shape[1])
    label_id, largest, active_share = [], [], []
    for _ in range(min(LABELS, len(d))):
        best = above.argmax(0)  # of equal ones the first
        largest.append(above[best, features])
        label_id.append(np.where(np.isfinite(largest[-1]), best, -1))
        active_share.append(active[best, features].astype(np.float32))
        above[best, features] = -np.inf
    return LayerLabels(
        label_id=np.column_stack(label_id),
        d=np.column_stack(largest),
        active_share=np.column_stack(active_share),
        density=blocks.features["density"][places],
    )
