"""What one shard contributes, as files: present and whole, or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

from tegakari.indexer.shard import Shard
from tegakari.indexer.top_tokens import Candidates
from tegakari.store.blocks.activations import Activations, read_row_group, write_activations
from tegakari.store.disk.durable import fsync_tree, rename_into_place

_STATISTICS = "statistics.safetensors"
_CANDIDATES = "candidates.parquet"
_ACTIVATIONS = "activations.parquet"
_DOCUMENTS = "documents.parquet"
_SUMMARY = "shard.json"
_STATISTIC_NAMES = ("mean", "m2", "active", "total")


class LayerPartial(NamedTuple):
    """One layer of a shard."""

    mean: np.ndarray
    """float64 [3, d_sae]: mean pooled activation over the shard's documents; poolings last, max, mean."""
    m2: np.ndarray
    """float64 [3, d_sae]"""
    active: np.ndarray
    """int64 [d_sae]: active positions."""
    total: np.ndarray
    """float64 [d_sae]: sum of activations."""
    candidates: Candidates
    activations: Activations
    """for the run's pooling, by (feature, document), rounded."""


class DocumentPartial(NamedTuple):
    """What the classifier said of the shard's documents, in document order."""

    document: np.ndarray
    """int32 [D]"""
    predicted_id: np.ndarray
    """int32 [D]"""
    label_logit: np.ndarray
    """float32 [D]"""
    predicted_logit: np.ndarray
    """float32 [D]"""
    embedding: np.ndarray
    """float32 [D, d_model]"""


def in_document_order(parts: Sequence[DocumentPartial]) -> DocumentPartial:
    """Join what was said of documents, by their numbers."""
    joined = DocumentPartial(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(joined.document)
    return DocumentPartial(*(array[order] for array in joined))


class ShardSummary(msgspec.Struct, frozen=True):
    """What a partial is of."""

    key: str
    label_id: int
    documents: int
    positions: int
    layers: list[int]


class Partial:
    """A finished shard on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.summary = msgspec.json.decode((directory / _SUMMARY).read_bytes(), type=ShardSummary)

    def layer(self, layer: int) -> LayerPartial:
        """Read one layer; nothing of the others is touched but file footers."""
        with safe_open(self._directory / _STATISTICS, framework="numpy") as tensors:
            mean, m2, active, total = (tensors.get_tensor(f"{layer}.{name}") for name in _STATISTIC_NAMES)
        place = self.summary.layers.index(layer)
        found = pq.ParquetFile(self._directory / _CANDIDATES).read_row_group(place)
        candidates = Candidates(*(found[name].to_numpy() for name in Candidates._fields))
        activations = read_row_group(self._directory / _ACTIVATIONS, place)
        return LayerPartial(mean, m2, active, total, candidates, activations)

    def documents(self) -> DocumentPartial:
        """Read the documents."""
        table = pq.read_table(self._directory / _DOCUMENTS)
        embedding = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        columns = {name: table[name].to_numpy() for name in DocumentPartial._fields[:-1]}
        return DocumentPartial(**columns, embedding=embedding)


def write_partial(
    directory: Path, shard: Shard, positions: int, layers: dict[int, LayerPartial], documents: DocumentPartial
) -> None:
    """Write a shard's partial; it appears under its key, whole, with one rename."""
    staged = directory / f".{shard.key}.{os.getpid()}"
    if staged.exists():
        shutil.rmtree(staged)
    staged.mkdir(parents=True)
    tensors = {
        f"{layer}.{name}": np.ascontiguousarray(getattr(partial, name))
        for layer, partial in layers.items()
        for name in _STATISTIC_NAMES
    }
    save_file(tensors, staged / _STATISTICS)
    ordered = [partial for _, partial in sorted(layers.items())]
    _write_row_groups(
        staged / _CANDIDATES, [pa.table(dict(zip(Candidates._fields, p.candidates, strict=True))) for p in ordered]
    )
    write_activations(staged / _ACTIVATIONS, (partial.activations for partial in ordered))
    width = documents.embedding.shape[1]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(documents.embedding.reshape(-1)), width)
    columns = {name: pa.array(getattr(documents, name)) for name in DocumentPartial._fields[:-1]}
    pq.write_table(pa.table({**columns, "embedding": embedding}), staged / _DOCUMENTS)
    summary = ShardSummary(shard.key, shard.label_id, len(shard.documents), positions, sorted(layers))
    (staged / _SUMMARY).write_bytes(msgspec.json.encode(summary))
    fsync_tree(staged)
    try:
        rename_into_place(staged, directory / shard.key)
    except OSError:
        if not finished(directory, shard.key):
            raise
        shutil.rmtree(staged)  # a process that was given up wrote it in its last moment; it holds the same


def _write_row_groups(file: Path, tables: Sequence[pa.Table]) -> None:
    """One row group a layer, so that a merge reads one layer of a shard without the others."""
    with pq.ParquetWriter(file, tables[0].schema, compression="zstd", compression_level=1) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def finished(directory: Path, key: str) -> bool:
    """Whether the partial of this shard is there."""
    return (directory / key / _SUMMARY).is_file()


def open_partial(directory: Path, key: str) -> Partial:
    return Partial(directory / key)
