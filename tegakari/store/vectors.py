"""LanceDB tables of a run: decoder directions, document embeddings, and texts with an index of their words."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.run import RunManifest
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.durable import random_suffix, remove_without_files, staged_directory, translate_disk_full
from tegakari.store.disk.layout import VECTORS, added_vectors_directory, work_directory
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

# Lance logs a warning for every table that it creates.
os.environ.setdefault("LANCEDB_LOG", "error")

DIRECTIONS = "directions"
EMBEDDINGS = "embeddings"
TEXTS = "texts"

TOKENIZER = "icu"
"""Splits text into words by Unicode's rules and a built-in dictionary: Lance's only tokenizer that finds Japanese words
of one character without a download."""

_TEXTS_AT_ONCE = 4096


def available() -> bool:
    """Whether LanceDB is installed; `tegakari runs add-vectors` adds vectors to a run that was indexed without it."""
    return importlib.util.find_spec("lancedb") is not None


def write_vectors(
    directory: Path, directions: Mapping[int, np.ndarray], embeddings: Iterable[np.ndarray], texts: Sequence[str]
) -> None:
    """Write the three tables.

    Args:
        directory: staged directory of the run or of its added vectors.
        directions: layer -> decoder directions, float32 [d_sae, d_model].
        embeddings: of consecutive documents, float32 [n, d_model].
        texts: texts of the documents.
    """
    import lancedb

    database = lancedb.connect(directory / VECTORS)
    width = next(iter(directions.values())).shape[1]
    schema = pa.schema([("layer", pa.int32()), ("feature", pa.int32()), ("vector", pa.list_(pa.float32(), width))])

    def batches() -> Iterator[pa.RecordBatch]:
        for layer, rows in sorted(directions.items()):
            numbers = np.arange(len(rows), dtype=np.int32)
            yield pa.record_batch([np.full_like(numbers, layer), numbers, _vector_array(rows)], schema=schema)

    vectors = pa.schema([("document", pa.int32()), ("vector", schema.field("vector").type)])

    def vector_batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for rows in embeddings:
            numbers = np.arange(start, start + len(rows), dtype=np.int32)
            yield pa.record_batch([numbers, _vector_array(rows)], schema=vectors)
            start += len(rows)

    contents = pa.schema([("document", pa.int32()), ("text", pa.string())])

    def text_batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            of_batch = texts[start : start + _TEXTS_AT_ONCE]
            numbers = np.arange(start, start + len(of_batch), dtype=np.int32)
            yield pa.record_batch([numbers, pa.array(of_batch, pa.string())], schema=contents)

    def create(name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Any:
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        return database.create_table(name, reader, schema=schema, mode="overwrite")

    create(DIRECTIONS, schema, batches())
    create(EMBEDDINGS, vectors, vector_batches())
    words = create(TEXTS, contents, text_batches())
    words.create_index(
        "text",
        config=lancedb.index.FTS(base_tokenizer=TOKENIZER, with_position=True, stem=False, remove_stop_words=False),
    )


def publish_added(
    store: Path,
    manifest: RunManifest,
    directions: Mapping[int, np.ndarray],
    embeddings: Iterable[np.ndarray],
    texts: Sequence[str],
) -> Path:
    """Add vectors to a run that was indexed without them; the tables appear whole or not at all.

    Args:
        store: the store's directory.
        manifest: of the run.
        directions: layer -> decoder directions, float32 [d_sae, d_model].
        embeddings: of consecutive documents, float32 [n, d_model].
        texts: texts of the documents.

    Returns:
        the directory of the vectors.

    Raises:
        FileExistsError: the run has added vectors already.
        DiskFullError: no space; nothing is published.
    """
    target = added_vectors_directory(store, manifest)
    staged = work_directory(store, f"vectors-{manifest.fingerprint[:16]}-{random_suffix()}")
    with translate_disk_full(store, field="store"), staged_directory(target, staged):
        write_vectors(staged, directions, embeddings, texts)
    return target


@contextmanager
def open_vectors(run: Run, name: str) -> Iterator[Any]:
    """A LanceDB table of a run, for the queries of a block.

    Lance opens files by their paths, at any query. They are those of the run if it is published after the queries.

    Args:
        run: the run.
        name: DIRECTIONS, EMBEDDINGS or TEXTS.

    Raises:
        NotFoundError: the run was indexed without vectors, or was deleted or replaced meanwhile.
        StoreError: the table is damaged.
    """
    with run.opening_files():
        yield _table(run, name)


@weakly_cached(maxsize=64)
def _table(run: Run, name: str) -> Any:
    import lancedb

    for directory in (run.directory, added_vectors_directory(run.store, run.manifest)):
        if (directory / VECTORS / f"{name}.lance").is_dir():
            check_contents(directory)
            try:
                return _checked(run, name, lancedb.connect(directory / VECTORS).open_table(name))
            finally:
                remove_without_files(directory)  # connect has created it if the run was deleted at that moment
    raise NotFoundError(
        f"run {run.name!r} has no {name}", field="run", fix=f"`tegakari runs add-vectors {run.name}` adds them"
    )


def _checked(run: Run, name: str, table: Any) -> Any:
    """A table, whose columns and number of rows are those of the run.

    Raises:
        StoreError: they are not.
    """
    vector = pa.list_(pa.float32(), run.manifest.classifier.d_model)
    schema = {
        DIRECTIONS: pa.schema({"layer": pa.int32(), "feature": pa.int32(), "vector": vector}),
        EMBEDDINGS: pa.schema({"document": pa.int32(), "vector": vector}),
        TEXTS: pa.schema({"document": pa.int32(), "text": pa.string()}),
    }[name]
    rows = sum(run.manifest.saes.widths) if name == DIRECTIONS else run.manifest.corpus.documents
    if not table.schema.equals(schema) or table.count_rows() != rows:
        raise run.unreadable(ValueError(f"its table {name} has other columns or rows than the run"))
    return table


def vector_matrix(rows: pa.Table) -> np.ndarray:
    """Column `vector` of rows of DIRECTIONS or EMBEDDINGS, float32 [rows, d_model]."""
    vectors = rows["vector"].combine_chunks()
    return vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)


def _vector_array(rows: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32, copy=False).reshape(-1)), rows.shape[1])
