"""Contexts of features, and the probes: what a run keeps so that explanations and their scores need no model.

A context is a window of tokens around a position at which a feature is active, with the feature's activation at every
token. A probe is a document of which is known in which features it is active.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import CONTEXTS as CONTEXTS_TABLE
from tegakari.schemas.tables import PROBES as PROBES_TABLE
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.additions import ADDITIONS
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import CONTEXTS, additions_directory, context_file, probe_bits_file, probes_file
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

WINDOW = 8
"""Tokens of a context on each side of its position, where the document has as many."""

WINDOW_TOKENS = 2 * WINDOW + 1
"""Most tokens of a context."""

STRONGEST = 0
"""Quantile of the strongest positions."""

TENTHS = 10
"""Quantiles of the sample: 1, the weakest, to 10."""

TENTH_CONTEXTS = 2
"""Contexts of each tenth."""

POOL_DOCUMENTS = 80
"""Documents in which a feature is active that are drawn to be cut into tenths."""

_POSITIONS = "feature", "quantile", "rank", "document", "position", "activation"
"""Columns of a file beside the windows."""

_GROUPS_AT_ONCE = 8
"""Row groups of a layer that are read at once, of 8,192 contexts."""


class FeatureContexts(NamedTuple):
    """C contexts, by (quantile, rank); parallel arrays."""

    quantile: np.ndarray
    """int32 [C]: STRONGEST, or from 1 (weakest tenth) to TENTHS."""
    rank: np.ndarray
    """int32 [C], from 1: of the strongest positions by activation, within a tenth in random order."""
    document: np.ndarray
    """int32 [C]: number of the document."""
    position: np.ndarray
    """int32 [C]: token index in the document at which the feature is active."""
    activation: np.ndarray
    """float32 [C]: activation there, rounded to 11 significant bits."""
    start: np.ndarray
    """int32 [C]: token index of the first token of the window."""
    length: np.ndarray
    """int32 [C]: tokens of the window."""
    activations: np.ndarray
    """float32 [C, WINDOW_TOKENS]: rounded activation at each token of the window; 0 beyond its length."""


class LayerContexts(NamedTuple):
    """Contexts of several features of a layer, by (feature, quantile, rank)."""

    feature: np.ndarray
    """int32 [C]"""
    contexts: FeatureContexts
    """[C]"""


class Probes(NamedTuple):
    """P documents of which is known in which features they are active."""

    document: np.ndarray
    """int32 [P], ascending: number of the document."""
    label_id: np.ndarray
    """int32 [P]: its label."""


def contexts_directory(run: Run) -> Path:
    """Directory that has the contexts of a run: its own, or that of its additions.

    Raises:
        NotFoundError: the run is of format 3 and nothing was added.
    """
    directory = _directory(run.store, run.directory, run.manifest)
    if directory is not None:
        return directory
    raise NotFoundError(
        f"run {run.name!r} has no contexts", field="run", fix=f"`tegakari runs add-contexts {run.name}` adds them"
    )


def has_contexts(run: Run) -> bool:
    """Whether a run has contexts, its own or added ones."""
    return _directory(run.store, run.directory, run.manifest) is not None


def _directory(store: Path, directory: Path, manifest: RunManifest) -> Path | None:
    """Of the directory of a run and that of its additions, the one that has contexts; None: there are none."""
    if (directory / CONTEXTS).is_dir():
        return directory
    additions = additions_directory(store, manifest)
    if not (additions / CONTEXTS).is_dir():
        return None
    check_contents(additions, ADDITIONS)
    return additions


def context_files(store: Path, directory: Path, manifest: RunManifest) -> list[Path]:
    """Files of the contexts of a run, one per layer, whose columns are those of such files; none: it has none.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: a file is missing or damaged.
    """
    found = _directory(store, directory, manifest)
    files = [] if found is None else [context_file(found, layer) for layer in manifest.saes.layers]
    for file in files:
        with pq.ParquetFile(file) as parquet:
            if not parquet.schema_arrow.equals(arrow_schema(CONTEXTS_TABLE)):
                raise ValueError(f"{file.name} has other columns than contexts")
    return files


def feature_contexts(run: Run, layer: int, feature: int) -> FeatureContexts:
    """Contexts of a feature; none if it is never active.

    Raises:
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    (contexts,) = contexts_of(run, layer, [feature])
    return contexts


def contexts_of(run: Run, layer: int, features: Sequence[int]) -> Iterator[FeatureContexts]:
    """Contexts of each of some features of a layer, in their order; ascending ones read each part of the file once.

    Raises:
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    with run.opening_files(), pq.ParquetFile(_file(run, layer), page_checksum_verification=True) as parquet:
        bounds = np.array([_feature_bounds(parquet, group) for group in range(parquet.num_row_groups)])
        bounds = bounds.reshape(-1, 2)
        empty = _contexts(run, layer, parquet.schema_arrow.empty_table())
        parts: dict[int, LayerContexts] = {}
        for feature in features:
            groups = np.flatnonzero((bounds[:, 0] <= feature) & (feature <= bounds[:, 1])).tolist()
            parts = {
                group: parts[group] if group in parts else _contexts(run, layer, parquet.read_row_group(group))
                for group in groups
            }
            part = _joined(list(parts.values())) if parts else empty
            start, stop = np.searchsorted(part.feature, [feature, feature + 1]).tolist()
            yield _sliced(part, slice(start, stop)).contexts


def _feature_bounds(parquet: pq.ParquetFile, group: int) -> tuple[int, int]:
    bounds = parquet.metadata.row_group(group).column(0).statistics
    if bounds is None or not bounds.has_min_max:
        raise ValueError("the contexts do not state the bounds of their features")
    return bounds.min, bounds.max


def layer_contexts(
    run: Run, layer: int, *, directory: Path | None = None, windows: bool = True
) -> Iterator[tuple[range, LayerContexts]]:
    """Contexts of a layer, one range of features after the other; together the ranges are all features of the layer.

    Args:
        run: the run.
        layer: of the run.
        directory: of the contexts; default: where the run has them.
        windows: whether to read the windows, four fifths of the file; else `start`, `length` and `activations` are
            empty arrays.

    Raises:
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    with (
        run.opening_files(),
        pq.ParquetFile(
            context_file(directory, layer) if directory else _file(run, layer), page_checksum_verification=True
        ) as parquet,
    ):
        first = 0
        rest: list[LayerContexts] = []  # of a feature that goes on in the next row groups
        groups = range(parquet.num_row_groups)
        columns = None if windows else list(_POSITIONS)
        for start in groups[::_GROUPS_AT_ONCE]:
            rows = parquet.read_row_groups(groups[start : start + _GROUPS_AT_ONCE], columns)
            part = _joined([*rest, _contexts(run, layer, rows, windows=windows)])
            last = int(part.feature[-1]) if len(part.feature) else first
            if start + _GROUPS_AT_ONCE >= len(groups) or last == first:
                rest = [part]
                continue
            end = int(np.searchsorted(part.feature, last))
            yield range(first, last), _sliced(part, slice(None, end))
            first, rest = last, [_sliced(part, slice(end, None))]
        if rest:
            yield range(first, width), _joined(rest)
        else:
            empty = parquet.schema_arrow.empty_table()
            yield (
                range(width),
                _contexts(run, layer, empty if columns is None else empty.select(columns), windows=windows),
            )


def probes(run: Run) -> Probes:
    """The probes of a run.

    Raises:
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    return _probes(run)


def silent_probes(run: Run, layer: int, feature: int) -> np.ndarray:
    """Whether a feature is active at no token of each probe, bool [P].

    Raises:
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    packed = _probe_bits(run, layer)[feature]
    return np.unpackbits(packed, count=len(probes(run).document)) == 0


def _file(run: Run, layer: int) -> Path:
    return context_file(contexts_directory(run), layer)


@weakly_cached(maxsize=64)
def _probes(run: Run) -> Probes:
    with run.opening_files():
        table = pq.ParquetFile(probes_file(contexts_directory(run)), page_checksum_verification=True).read()
        if not table.schema.remove_metadata().equals(arrow_schema(PROBES_TABLE)):
            raise ValueError("the probes have other columns")
        document, label_id = (table[name].to_numpy() for name in Probes._fields)
        _check(document, run.manifest.corpus.documents)
        _check(label_id, run.manifest.corpus.labels)
        if (np.diff(document) <= 0).any():
            raise ValueError("the probes are not in the order of their documents")
        return Probes(document, label_id)


@weakly_cached(maxsize=256)
def _probe_bits(run: Run, layer: int) -> np.ndarray:
    """uint8 [d_sae, ceil(P / 8)], mapped."""
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    expected = width, -(-len(_probes(run).document) // 8)
    with run.opening_files():
        bits = np.asarray(np.load(probe_bits_file(contexts_directory(run), layer), mmap_mode="r"))
        if bits.dtype != np.uint8 or bits.shape != expected:
            raise ValueError(f"probes of layer {layer} are {bits.dtype} {bits.shape}, not uint8 {expected}")
        return bits


def _contexts(run: Run, layer: int, rows: pa.Table, *, windows: bool = True) -> LayerContexts:
    """Rows of a layer's file, whose numbers are those of the run."""
    schema = arrow_schema(CONTEXTS_TABLE)
    expected = schema if windows else pa.schema([schema.field(name) for name in _POSITIONS])
    if not rows.schema.remove_metadata().equals(expected):
        raise ValueError(f"the contexts of layer {layer} have other columns")
    rows.validate(full=True)
    if any(column.null_count for column in rows.columns):
        raise ValueError(f"the contexts of layer {layer} have no value in a column")
    feature, quantile, rank, document, position, activation = (rows[name].to_numpy() for name in _POSITIONS)
    _check(feature, run.manifest.saes.widths[run.manifest.saes.layers.index(layer)])
    _check(quantile, TENTHS + 1)
    _check(document, run.manifest.corpus.documents)
    tokens = run.blocks.documents.first_token
    tokens_of_document = tokens[document + 1] - tokens[document]
    _check(position, tokens_of_document)
    positions = quantile, rank, document, position, activation
    if not windows:
        empty = np.empty(0, np.int32)
        return LayerContexts(feature, FeatureContexts(*positions, empty, empty, np.empty((0, WINDOW_TOKENS), "f4")))
    of_tokens = rows["activations"].combine_chunks()
    offsets, values = of_tokens.offsets.to_numpy(), of_tokens.values.to_numpy()
    start, length = rows["start"].to_numpy(), np.diff(offsets).astype(np.int32)
    _check(length, WINDOW_TOKENS + 1)
    _check(start, tokens_of_document - length + 1)
    _check(position - start, length)
    activations = np.zeros((len(rows), WINDOW_TOKENS), np.float32)
    inside = np.arange(WINDOW_TOKENS) < length[:, None]
    activations[inside] = values[offsets[0] : offsets[-1]] if len(rows) else values[:0]
    return LayerContexts(feature, FeatureContexts(*positions, start, length, activations))


def _check(numbers: np.ndarray, size: int | np.ndarray) -> None:
    """Refuse numbers that are not from 0 to below a size."""
    if numbers.size and not bool(((numbers >= 0) & (numbers < size)).all()):
        raise ValueError("its contexts have numbers outside of the run")


def _sliced(part: LayerContexts, rows: slice) -> LayerContexts:
    return LayerContexts(part.feature[rows], FeatureContexts(*(column[rows] for column in part.contexts)))


def _joined(parts: list[LayerContexts]) -> LayerContexts:
    if len(parts) == 1:
        return parts[0]
    return LayerContexts(
        np.concatenate([part.feature for part in parts]),
        FeatureContexts(*map(np.concatenate, zip(*(part.contexts for part in parts), strict=True))),
    )
