"""Partial results: the contribution of one shard to the run's tables, as a directory that is whole or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.indexer.array_file import StoredArray, read_columns, read_rows, write_arrays
from tegakari.indexer.candidates import Candidates, ContextEntries
from tegakari.indexer.merge_loops import add_features
from tegakari.indexer.shard import Shard
from tegakari.indexer.shard_tokens import ShardTokens, shard_tokens
from tegakari.indexer.strongest import bits_of, no_entries, strongest_members
from tegakari.store.blocks.activations import Activations, Strongest
from tegakari.store.blocks.files import TOP_FEATURES
from tegakari.store.disk.durable import random_suffix, staged_directory

_ARRAYS = "arrays.bin"
_SUMMARY = "shard.json"


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
    contexts: ContextEntries | None = None
    """None: of a run without contexts."""
    probes: np.ndarray | None = None
    """bool [P, d_sae]: whether each feature is active in each of the shard's probes; None as above."""


class EntryKind(NamedTuple):
    """Entries of a layer that are stored feature after feature."""

    name: str
    """field of `LayerPartial`."""
    columns: tuple[str, ...]
    """its columns but `feature`."""
    merge_bytes: int
    """memory per entry while the entries of a range of features are merged."""


CANDIDATES = EntryKind("candidates", Candidates._fields[1:], 48)
ACTIVATIONS = EntryKind("activations", Activations._fields[1:], 40)
CONTEXTS = EntryKind("contexts", ContextEntries._fields[1:], 100)


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
    numbers = np.concatenate([part.document for part in parts])
    places = np.empty(len(numbers), np.int64)
    places[np.argsort(numbers)] = np.arange(len(numbers))
    joined = [np.empty((len(numbers), *array.shape[1:]), array.dtype) for array in parts[0]]
    start = 0
    for part in parts:  # one part after the other: the embeddings of a corpus are in memory once
        rows = places[start : start + len(part.document)]
        for target, array in zip(joined, part, strict=True):
            target[rows] = array
        start += len(part.document)
    return DocumentPartial(*joined)


class DocumentClasses(NamedTuple):
    """The fields of `DocumentPartial` but the embedding."""

    document: np.ndarray
    predicted_id: np.ndarray
    label_logit: np.ndarray
    predicted_logit: np.ndarray


class ShardSums(NamedTuple):
    """Sums of a shard over one layer; fields of `LayerPartial`."""

    mean: np.ndarray
    m2: np.ndarray
    documents_active: np.ndarray
    active: np.ndarray
    total: np.ndarray


class ShardSummary(msgspec.Struct, frozen=True):
    """Content of shard.json."""

    key: str
    labels: dict[int, int]
    """as of `Shard.labels`."""
    positions: int
    layers: list[int]
    outliers: list[int]
    """positions that are norm outliers, by layer, parallel to `layers`."""
    probes: list[int]
    """as of `Shard.probes`."""
    arrays: dict[str, StoredArray]


class Partial:
    """The partial of a shard on disk."""

    def __init__(self, directory: Path, layer: int | None = None) -> None:
        """Read what the partial contains.

        Args:
            directory: of the partial.
            layer: the only layer that is read; what is known of the others would take most of the memory.
        """
        self.directory = directory
        self.summary = msgspec.json.decode((directory / _SUMMARY).read_bytes(), type=ShardSummary)
        if layer is not None:
            arrays = self.summary.arrays.items()
            own = {name: array for name, array in arrays if "." not in name or name.startswith(f"{layer}.")}
            self.summary = msgspec.structs.replace(self.summary, arrays=own)

    def _rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return read_rows(self.directory / _ARRAYS, self.summary.arrays[name], start, stop)

    def _columns(self, name: str, start: int, stop: int) -> np.ndarray:
        return read_columns(self.directory / _ARRAYS, self.summary.arrays[name], start, stop)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return sum(self.summary.labels.values())

    def outliers(self, layer: int) -> int:
        """Positions of a layer that are norm outliers."""
        return self.summary.outliers[self.summary.layers.index(layer)]

    def sums(self, layer: int, start: int, stop: int) -> ShardSums:
        """Read the sums of the features of a layer from `start` to `stop`."""
        return ShardSums(*(self._columns(f"{layer}.{name}", start, stop) for name in ShardSums._fields))

    def offsets(self, layer: int, kind: EntryKind, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read the first entry of the features of a layer from `start` to `stop`; int64, [d_sae + 1] in all."""
        return self._rows(f"{layer}.{kind.name}.offsets", start, stop)

    def column(self, layer: int, kind: EntryKind, name: str, start: int, stop: int) -> np.ndarray:
        """Read a column of the entries of a layer from one entry to another."""
        return self._rows(f"{layer}.{kind.name}.{name}", start, stop)

    def top_features(self, layer: int) -> Strongest:
        """Read the strongest features of a layer in each document, by the rows of `document_numbers`."""
        return Strongest(*(self._rows(f"{layer}.top_features.{name}") for name in Strongest._fields))

    def probes(self, layer: int, start: int, stop: int) -> np.ndarray:
        """Read in which features of a layer the shard's probes are active, bool [P, stop - start].

        Args:
            layer: the layer.
            start: first feature, a multiple of 8.
            stop: the feature after the last.
        """
        packed = self._columns(f"{layer}.probes", start // 8, -(-stop // 8))
        return np.unpackbits(packed, axis=1, count=stop - start).astype(bool)

    def document_numbers(self) -> np.ndarray:
        """Read the numbers of the documents, int32 [D]."""
        return self._rows("document")

    def token_counts(self) -> np.ndarray:
        """Read the number of tokens of each document, int32 [D]."""
        return self._rows("token_counts")

    def tokens(self) -> ShardTokens:
        """Read the tokens of the documents."""
        return ShardTokens(*map(self._rows, ShardTokens._fields))

    def classes(self) -> DocumentClasses:
        """Read what the classifier predicted for the documents."""
        return DocumentClasses(*map(self._rows, DocumentClasses._fields))

    def embeddings(self, start: int, stop: int) -> np.ndarray:
        """Read the embeddings of the documents from row `start` to `stop`, float32 [stop - start, d_model]."""
        return self._rows("embedding", start, stop)


def write_partial(
    directory: Path,
    shard: Shard,
    positions: int,
    layers: dict[int, LayerPartial],
    documents: DocumentPartial,
    special_tokens: Mapping[int, str],
) -> None:
    """Write the partial of a shard, which appears under the shard's key with one rename.

    Args:
        directory: directory of all partials.
        shard: the shard.
        positions: countable positions of its documents.
        layers: its contribution by layer.
        documents: its predictions, in any order, which is also that of the stored tokens.
        special_tokens: as of `shard_tokens`.
    """
    target = directory / shard.key
    # A worker that was given up may finish the same shard at the same time; its partial is equal to this one.
    with suppress(FileExistsError), staged_directory(target, directory / f".{shard.key}.{random_suffix()}") as staged:
        outliers = [layers[layer].outliers for layer in sorted(layers)]
        by_number = {document.number: document for document in shard.documents}
        tokens = shard_tokens([by_number[number] for number in documents.document.tolist()], special_tokens)
        arrays = write_arrays(staged / _ARRAYS, _arrays(layers, documents, tokens))
        summary = ShardSummary(shard.key, shard.labels, positions, sorted(layers), outliers, shard.probes, arrays)
        (staged / _SUMMARY).write_bytes(msgspec.json.encode(summary))


def _arrays(
    layers: dict[int, LayerPartial], documents: DocumentPartial, tokens: ShardTokens
) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays by name; those of a layer have its number before a dot."""
    yield from documents._asdict().items()
    yield from tokens._asdict().items()
    for layer, partial in sorted(layers.items()):
        for name in ShardSums._fields:
            yield f"{layer}.{name}", getattr(partial, name)
        d_sae = len(partial.active)
        kinds = (CANDIDATES, ACTIVATIONS) if partial.contexts is None else (CANDIDATES, ACTIVATIONS, CONTEXTS)
        for kind in kinds:
            entries = getattr(partial, kind.name)
            yield f"{layer}.{kind.name}.offsets", _offsets(entries.feature, d_sae)
            for name in kind.columns:
                yield f"{layer}.{kind.name}.{name}", getattr(entries, name)
        if partial.probes is not None:
            yield f"{layer}.probes", np.packbits(partial.probes, axis=1)
        for name, array in _top_features(partial.activations, d_sae, documents.document)._asdict().items():
            yield f"{layer}.top_features.{name}", array


def _offsets(feature: np.ndarray, d_sae: int) -> np.ndarray:
    """First entry of each feature, int64 [d_sae + 1]; `feature` is ascending."""
    return np.searchsorted(feature, np.arange(d_sae + 1, dtype=feature.dtype))


def _top_features(activations: Activations, d_sae: int, numbers: np.ndarray) -> Strongest:
    """The strongest features of each document; a document's activations are all in its shard.

    Args:
        activations: of the layer, by (feature, document).
        d_sae: features of the layer.
        numbers: int32 [D], numbers of the documents.
    """
    rows = np.zeros(numbers.max() + 1, np.int32)
    rows[numbers] = np.arange(len(numbers), dtype=np.int32)
    heaps = no_entries(len(numbers), TOP_FEATURES)
    offsets = _offsets(activations.feature, d_sae)
    add_features(offsets, rows[activations.document], bits_of(activations.activation), heaps)
    return strongest_members(heaps)


def partial_exists(directory: Path, key: str) -> bool:
    """Whether the partial of a shard is in the directory of partials."""
    return (directory / key / _SUMMARY).is_file()


def open_partial(directory: Path, key: str, layer: int | None = None) -> Partial:
    """The partial of a shard, by the shard's key; to read one layer, or all."""
    return Partial(directory / key, layer)
