"""Second part of the merge of a layer: activations, the strongest documents and features, contexts and probes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from tegakari.indexer.array_file import StoredArray
from tegakari.indexer.feature_ranges import feature_ranges
from tegakari.indexer.layer_contexts import write_layer_contexts
from tegakari.indexer.layer_files import SUMMARY, LayerArrays, LayerInputs
from tegakari.indexer.merge_loops import merge_activations
from tegakari.indexer.partial import ACTIVATIONS
from tegakari.indexer.strongest import bits_of, no_entries, strongest_members
from tegakari.store.blocks.activations import Activations, Strongest, write_activations
from tegakari.store.blocks.files import TOP_DOCUMENTS, TOP_FEATURES, TopPositions
from tegakari.store.disk.layout import layer_file

TOP_DOCUMENT = "top_document"
TOP_FEATURE = "top_feature"
"""Subjects of the arrays of strongest documents of features, and strongest features of documents."""

_HEAP_BYTES = TOP_DOCUMENTS * 40
"""Memory per feature while its strongest documents are selected."""

_DOCUMENT_BYTES = TOP_FEATURES * 16
"""Memory per document while its strongest features are brought into order."""


class EntriesSummary(msgspec.Struct, frozen=True):
    """Content of layer.json."""

    activations: int
    """stored activations"""
    arrays: dict[str, StoredArray]


def write_entries(inputs: LayerInputs, strongest: TopPositions, directory: Path) -> None:
    """Write arrays, files of the run and, as the last file, the summary.

    Args:
        inputs: of the layer.
        strongest: positions of its features, which have contexts.
        directory: of all files.
    """
    types = Strongest.types().items()
    arrays = LayerArrays(
        directory,
        {f"{TOP_DOCUMENT}.{name}": (kind, (inputs.d_sae, TOP_DOCUMENTS)) for name, kind in types}
        | {f"{TOP_FEATURE}.{name}": (kind, (inputs.documents, TOP_FEATURES)) for name, kind in types},
    )
    file = layer_file(directory, inputs.layer)
    file.parent.mkdir(parents=True, exist_ok=True)
    activations = write_activations(file, _ordered_activations(inputs, arrays))
    _write_top_features(inputs, arrays)
    if inputs.settings.contexts:
        write_layer_contexts(
            directory, inputs.layer, inputs.d_sae, inputs.partials, inputs.corpus, strongest, inputs.memory
        )
    (directory / SUMMARY).write_bytes(msgspec.json.encode(EntriesSummary(activations, arrays.places)))


def _ordered_activations(inputs: LayerInputs, arrays: LayerArrays) -> Iterator[Activations]:
    """Activations by (feature, document); the strongest documents of each feature are written on the way."""
    for features in feature_ranges(
        inputs.partials, inputs.layer, inputs.d_sae, ACTIVATIONS, inputs.memory, _HEAP_BYTES
    ):
        document, activation = features.columns
        merged = tuple(np.empty(len(document), kind) for kind in (np.int32, np.int32, np.uint32))
        heaps = no_entries(features.stop - features.start, TOP_DOCUMENTS)
        merge_activations(features.starts, document, bits_of(activation), inputs.documents, merged, heaps)
        arrays.write_rows(TOP_DOCUMENT, features.start, strongest_members(heaps)._asdict())
        feature, document, bits = merged
        feature += features.start
        yield Activations(feature, document, bits.view(np.float32))


def _write_top_features(inputs: LayerInputs, arrays: LayerArrays) -> None:
    """Bring the strongest features of documents from the order of shards into that of documents."""
    at_once = max(1, inputs.memory // _DOCUMENT_BYTES)
    for start in range(0, inputs.documents, at_once):
        stop = min(start + at_once, inputs.documents)
        shape = stop - start, TOP_FEATURES
        rows = Strongest(*(np.empty(shape, kind) for kind in Strongest.types().values()))
        for partial in inputs.partials:
            numbers = partial.document_numbers() - start
            inside = (numbers >= 0) & (numbers < stop - start)
            if inside.any():
                for target, values in zip(rows, partial.top_features(inputs.layer), strict=True):
                    target[numbers[inside]] = values[inside]
        arrays.write_rows(TOP_FEATURE, start, rows._asdict())
