"""Partial results: the contribution of one shard to the run's tables, as a directory that is whole or absent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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
from tegakari.store.disk.durable import random_suffix, staged_directory

_STATISTICS = "statistics.safetensors"
_CANDIDATES = "candidates.parquet"
_ACTIVATIONS = "activations.parquet"
_DOCUMENTS = "documents.parquet"
_SUMMARY = "shard.json"
_STATISTIC_NAMES = ("mean", "m2", "documents_active", "active", "total")
_OUTLIERS = "outliers"


class LayerPartial(NamedTuple):
    """Contribution of a shard to one layer."""

    mean: np.ndarray
    """float64 [L, 3, d_sae]: mean pooled activation over the documents of each of the shard's L labels, in the order of
    `Shard.labels`; poolings head, max, mean."""
    m2: np.ndarray
    """float64 [L, 3, d_sae]: sum of squared deviations from `mean`."""
    documents_active: np.ndarray
    """int32 [L, 3, d_sae]: documents of each label with a pooled activation above 0."""
    active: np.ndarray
    """int64 [d_sae]: positions at which each feature is active."""
    total: np.ndarray
    """float64 [d_sae]: sum of activations."""
    candidates: Candidates
    """for the strongest positions of each feature, by (feature, activation descending, document, position)."""
    activations: Activations
    """of the run's pooling, by (feature, document), rounded."""
    outliers: int
    """positions that are norm outliers, which no other figure includes."""


class DocumentPartial(NamedTuple):
    """Predictions of the classifier for the shard's documents, by document number."""

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
    """Join predictions and sort them by document number."""
    joined = DocumentPartial(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(joined.document)
    return DocumentPartial(*(array[order] for array in joined))


class ShardSummary(msgspec.Struct, frozen=True):
    """Content of shard.json."""

    key: str
    labels: dict[int, int]
    """as of `Shard.labels`."""
    positions: int
    layers: list[int]


class Partial:
    """The partial of a shard on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.summary = msgspec.json.decode((directory / _SUMMARY).read_bytes(), type=ShardSummary)

    def layer(self, layer: int) -> LayerPartial:
        """Read one layer. Of other layers only file footers are read."""
        with safe_open(self._directory / _STATISTICS, framework="numpy") as tensors:
            mean, m2, documents_active, active, total = (
                tensors.get_tensor(f"{layer}.{name}") for name in _STATISTIC_NAMES
            )
            (outliers,) = tensors.get_tensor(f"{layer}.{_OUTLIERS}").tolist()
        row_group = self.summary.layers.index(layer)
        columns = pq.ParquetFile(self._directory / _CANDIDATES).read_row_group(row_group)
        candidates = Candidates(*(columns[name].to_numpy() for name in Candidates._fields))
        activations = read_row_group(self._directory / _ACTIVATIONS, row_group)
        return LayerPartial(mean, m2, documents_active, active, total, candidates, activations, outliers)

    def documents(self) -> DocumentPartial:
        """Read the predictions for the documents."""
        table = pq.read_table(self._directory / _DOCUMENTS)
        embedding = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        columns = {name: table[name].to_numpy() for name in DocumentPartial._fields[:-1]}
        return DocumentPartial(**columns, embedding=embedding)


def write_partial(
    directory: Path, shard: Shard, positions: int, layers: dict[int, LayerPartial], documents: DocumentPartial
) -> None:
    """Write the partial of a shard, which appears under the shard's key with one rename.

    Args:
        directory: directory of all partials.
        shard: the shard.
        positions: countable positions of its documents.
        layers: its contribution by layer.
        documents: its predictions.
    """
    target = directory / shard.key
    # A worker that was given up may finish the same shard at the same time; its partial is equal to this one.
    with suppress(FileExistsError), staged_directory(target, directory / f".{shard.key}.{random_suffix()}") as staged:
        _write_layers(staged, [partial for _, partial in sorted(layers.items())], sorted(layers))
        _write_documents(staged / _DOCUMENTS, documents)
        summary = ShardSummary(shard.key, shard.labels, positions, sorted(layers))
        (staged / _SUMMARY).write_bytes(msgspec.json.encode(summary))


def _write_layers(staged: Path, partials: Sequence[LayerPartial], layers: Sequence[int]) -> None:
    tensors = {
        f"{layer}.{name}": np.ascontiguousarray(getattr(partial, name))
        for layer, partial in zip(layers, partials, strict=True)
        for name in _STATISTIC_NAMES
    }
    for layer, partial in zip(layers, partials, strict=True):
        tensors[f"{layer}.{_OUTLIERS}"] = np.array([partial.outliers], np.int64)
    save_file(tensors, staged / _STATISTICS)
    candidates = [pa.table(dict(zip(Candidates._fields, partial.candidates, strict=True))) for partial in partials]
    _write_row_groups(staged / _CANDIDATES, candidates)
    write_activations(staged / _ACTIVATIONS, (partial.activations for partial in partials))


def _write_documents(file: Path, documents: DocumentPartial) -> None:
    width = documents.embedding.shape[1]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(documents.embedding.reshape(-1)), width)
    columns = {name: pa.array(getattr(documents, name)) for name in DocumentPartial._fields[:-1]}
    pq.write_table(pa.table({**columns, "embedding": embedding}), file)


def _write_row_groups(file: Path, tables: Sequence[pa.Table]) -> None:
    """Write one row group per table, so that one layer of a shard can be read without the others."""
    with pq.ParquetWriter(file, tables[0].schema, compression="zstd", compression_level=1) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def partial_exists(directory: Path, key: str) -> bool:
    """Whether the partial of a shard is in the directory of partials."""
    return (directory / key / _SUMMARY).is_file()


def open_partial(directory: Path, key: str) -> Partial:
    """The partial of a shard, by the shard's key."""
    return Partial(directory / key)
