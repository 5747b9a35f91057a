"""LanceDB tables of a run: decoder directions, document embeddings, and texts with an index of their words."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tegakari.schemas.run import RunManifest
from tegakari.store.disk.durable import random_suffix, staged_directory, translate_disk_full
from tegakari.store.disk.layout import VECTORS, added_vectors_directory, work_directory

# Lance warns of every table that it is asked to create.
os.environ.setdefault("LANCEDB_LOG", "error")

DIRECTIONS = "directions"
EMBEDDINGS = "embeddings"
TEXTS = "texts"

TOKENIZER = "icu"
"""Cuts text into words by Unicode's rules and a dictionary that is built in: the only one of Lance's that finds
Japanese words of one character without a download."""


def available() -> bool:
    """A run can be indexed where LanceDB is not installed; `tegakari runs add-vectors` adds them later."""
    return importlib.util.find_spec("lancedb") is not None


def write_vectors(
    directory: Path, directions: Mapping[int, np.ndarray], embeddings: np.ndarray, texts: Sequence[str]
) -> None:
    """Write the three tables.

    Args:
        directory: of the run, or of its added vectors, while it is not yet seen by readers.
        directions: layer -> decoder directions, float32 [d_sae, d_model].
        embeddings: float32 [documents, d_model], in document order.
        texts: of the documents.
    """
    import lancedb

    database = lancedb.connect(directory / VECTORS)
    width = next(iter(directions.values())).shape[1]
    schema = pa.schema([("layer", pa.int32()), ("feature", pa.int32()), ("vector", pa.list_(pa.float32(), width))])

    def batches() -> Iterator[pa.RecordBatch]:
        for layer, rows in sorted(directions.items()):
            numbers = np.arange(len(rows), dtype=np.int32)
            yield pa.record_batch([np.full_like(numbers, layer), numbers, _vectors(rows)], schema=schema)

    database.create_table(
        DIRECTIONS, pa.RecordBatchReader.from_batches(schema, batches()), schema=schema, mode="overwrite"
    )
    documents = pa.array(np.arange(len(embeddings), dtype=np.int32))
    database.create_table(
        EMBEDDINGS, pa.table({"document": documents, "vector": _vectors(embeddings)}), mode="overwrite"
    )
    words = database.create_table(
        TEXTS, pa.table({"document": documents, "text": pa.array(texts, pa.string())}), mode="overwrite"
    )
    words.create_index(
        "text",
        config=lancedb.index.FTS(base_tokenizer=TOKENIZER, with_position=True, stem=False, remove_stop_words=False),
    )


def publish_added(
    store: Path,
    manifest: RunManifest,
    directions: Mapping[int, np.ndarray],
    embeddings: np.ndarray,
    texts: Sequence[str],
) -> Path:
    """Write the tables beside a run that was indexed without them; they are there at once or not at all.

    Raises:
        DiskFullError: no space; nothing is shown.
    """
    target = added_vectors_directory(store, manifest)
    staged = work_directory(store, f"vectors-{manifest.fingerprint[:16]}-{random_suffix()}")
    with translate_disk_full(store, field="store"), staged_directory(target, staged):
        write_vectors(staged, directions, embeddings, texts)
    return target


def _vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32, copy=False).reshape(-1)), rows.shape[1])
