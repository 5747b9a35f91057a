"""Label effects of features: their files, in the directory of a run or of its additions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import LABEL_EFFECTS
from tegakari.store.blocks.activations import rounded
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.additions import ADDITIONS
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import CONTENTS, EFFECTS, additions_directory, effect_file
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached


def write_effects(directory: Path, layer: int, effects: Iterable[np.ndarray]) -> None:
    """Write the label effects of a layer, rounded.

    A row group holds all features of a label: a query for a label reads one, a query for a feature one column of all.

    Args:
        directory: of a run or of its additions.
        layer: the layer.
        effects: per label, float32 [d_sae].
    """
    file = effect_file(directory, layer)
    file.parent.mkdir(parents=True, exist_ok=True)
    schema = arrow_schema(LABEL_EFFECTS)
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=False,
        # Floats compress byte by byte, consecutive numbers to nothing.
        column_encoding={
            "label_id": "DELTA_BINARY_PACKED",
            "feature": "DELTA_BINARY_PACKED",
            "effect": "BYTE_STREAM_SPLIT",
        },
        write_page_checksum=True,
    ) as writer:
        for label_id, values in enumerate(effects):
            features = np.arange(len(values), dtype=np.int32)
            columns = [np.full_like(features, label_id), features, _rounded(values.astype(np.float32, copy=False))]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(values))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Effects as stored: to 11 significant bits, as activations; 0 stays 0."""
    return np.where(values == 0, np.float32(0), np.copysign(rounded(np.abs(values)), values))


def effects_directory(store: Path, directory: Path, manifest: RunManifest) -> Path | None:
    """Directory that has the label effects of a run: its own, or that of its additions; None: there are none.

    Args:
        store: the store's directory.
        directory: of the run.
        manifest: of the run.

    Raises:
        StoreError: the directory has links or other files that are not part of it.
    """
    additions = additions_directory(store, manifest)
    for candidate, names in ((directory, CONTENTS), (additions, ADDITIONS)):
        if (candidate / EFFECTS).is_dir():
            check_contents(candidate, names)
            return candidate
    return None


def effect_files(store: Path, directory: Path, manifest: RunManifest) -> dict[int, Path]:
    """Files of the label effects of a run by layer; layers without effects are left out. Arguments as above.

    Raises:
        OSError, pyarrow.ArrowException, ValueError: a file is damaged.
    """
    parent = effects_directory(store, directory, manifest)
    files: dict[int, Path] = {}
    if parent is None:
        return files
    for layer, width in zip(manifest.saes.layers, manifest.saes.widths, strict=True):
        file = effect_file(parent, layer)
        if file.is_file():
            _check_file(file, width, manifest.corpus.labels)
            files[layer] = file
    return files


def effect_layers(run: Run) -> list[int]:
    """Layers of a run that have label effects.

    Raises:
        NotFoundError: the run is of format 3 and nothing was added.
        StoreError: a file is damaged.
    """
    return list(_files(run))


def feature_effects(run: Run, layer: int, feature: int) -> np.ndarray:
    """Effect of a feature on each label, float32 [labels].

    Raises:
        NotFoundError: the run or the layer has no label effects, or the run was deleted meanwhile.
        StoreError: the file is damaged.
    """
    file = _file(run, layer)
    with run.opening_files(), pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        effects = parquet.read(columns=["effect"])["effect"].to_numpy()
        return _finite(effects.reshape(run.manifest.corpus.labels, -1)[:, feature])


@weakly_cached(maxsize=1024)
def label_effects(run: Run, layer: int, label_id: int) -> np.ndarray:
    """Effect of each feature of a layer on a label, float32 [d_sae].

    Raises:
        NotFoundError: the run or the layer has no label effects, or the run was deleted meanwhile.
        StoreError: the file is damaged.
    """
    file = _file(run, layer)
    with run.opening_files(), pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        return _finite(parquet.read_row_group(label_id, columns=["effect"])["effect"].to_numpy())


def layer_effects(run: Run, layer: int) -> np.ndarray:
    """Effects of all features of a layer, float32 [labels, d_sae].

    Raises:
        NotFoundError: the run or the layer has no label effects, or the run was deleted meanwhile.
        StoreError: the file is damaged.
    """
    file = _file(run, layer)
    with run.opening_files(), pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        effects = parquet.read(columns=["effect"])["effect"].to_numpy()
        return _finite(effects.reshape(run.manifest.corpus.labels, -1))


def _finite(effects: np.ndarray) -> np.ndarray:
    if not np.isfinite(effects).all():
        raise ValueError("its label effects have a value that is not finite")
    return effects


def _file(run: Run, layer: int) -> Path:
    files = _files(run)
    if layer not in files:
        raise NotFoundError(
            f"layer {layer} of run {run.name!r} has no label effects: the blocks above it do not pass its residual on "
            "unchanged, as those of BERT, which normalize it",
            field="layer",
            fix=f"use {'layer' if len(files) == 1 else 'one of the layers'} {', '.join(map(str, files))}",
        )
    return files[layer]


@weakly_cached(maxsize=64)
def _files(run: Run) -> dict[int, Path]:
    with run.opening_files():
        files = effect_files(run.store, run.directory, run.manifest)
    if not files:
        raise NotFoundError(
            f"run {run.name!r} has no label effects",
            field="run",
            fix=f"`tegakari runs add-contexts {run.name}` adds them",
        )
    return files


def _check_file(file: Path, features: int, labels: int) -> None:
    """Refuse a file that is not of a layer with so many features and labels, in the order of `write_effects`."""
    with pq.ParquetFile(file) as parquet:
        if not parquet.schema_arrow.remove_metadata().equals(arrow_schema(LABEL_EFFECTS)):
            raise ValueError(f"{file.name} of the label effects has other columns")
        groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
    if [group.num_rows for group in groups] != [features] * labels:
        raise ValueError(f"{file.name} of the label effects has other rows than {labels} labels of {features} features")
    for label_id, group in enumerate(groups):
        bounds = group.column(0).statistics
        if bounds is None or not bounds.has_min_max or not bounds.min == bounds.max == label_id:
            raise ValueError(f"{file.name} of the label effects is not in the order of its labels")
