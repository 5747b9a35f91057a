"""Activations of one layer: sorting, rounding, and their Parquet files.

Feature, document and rounded activation are packed into one 64-bit integer per activation, because sorting integers is
ten times as fast as sorting rows by two keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import ACTIVATIONS
from tegakari.store.blocks.row_groups import row_groups
from tegakari.store.column_types import arrow_schema

ROW_GROUP = 2**17
"""Rows per row group of the activation files: the least that a query for one feature reads."""

DROPPED_BITS = 13
"""Dropped bits of the 23 of a float32's fraction: ten remain, as in a float16, with the exponent of a float32."""

_VALUE_BITS = 18
"""Bits of a rounded activation: exponent and ten bits of fraction; activations are positive."""

_FEATURE_BITS = 20
_DOCUMENT_BITS = 26

_LARGEST = (0x7F7F_FFFF >> DROPPED_BITS) & (2**_VALUE_BITS - 1)


class Activations(NamedTuple):
    """Active features of documents; parallel arrays."""

    feature: np.ndarray
    """int32"""
    document: np.ndarray
    """int32"""
    activation: np.ndarray
    """float32, > 0"""


class Strongest(NamedTuple):
    """The strongest members of each group, strongest first."""

    member: np.ndarray
    """int32 [groups, n]; -1 beyond a group's last member."""
    activation: np.ndarray
    """float32 [groups, n]; 0 beyond the last member."""

    @staticmethod
    def types() -> dict[str, type]:
        """Type of each column."""
        return {"member": np.int32, "activation": np.float32}


def rounded(activation: np.ndarray) -> np.ndarray:
    """Round positive activations to 11 significant bits, as stored: to nearest, ties to even, never to 0 or infinity.

    The relative error is at most 2**-11, that of a float16, over the whole range of float32.
    """
    return _value(_bits(activation))


def ordered(parts: Sequence[Activations]) -> Activations:
    """Concatenate activations, sort them by (feature, document) and round them.

    Raises:
        StoreError: more than 1,048,576 features or 67,108,864 documents.
    """
    keys = np.empty(sum(len(part.feature) for part in parts), np.uint64)
    at = 0
    for part in parts:
        if len(part.feature):
            _check_fits(part)
            keys[at : at + len(part.feature)] = _packed(
                (part.feature, _FEATURE_BITS), (part.document, _DOCUMENT_BITS), (_bits(part.activation), _VALUE_BITS)
            )
            at += len(part.feature)
    keys.sort()
    feature, document, bits = _unpacked(keys, _FEATURE_BITS, _DOCUMENT_BITS, _VALUE_BITS)
    return Activations(feature, document, _value(bits))


def write_activations(file: Path, parts: Iterable[Activations], *, row_group: int = ROW_GROUP) -> int:
    """Write sorted activations as Parquet, and return their number.

    Args:
        file: path of the file; its content does not depend on how the activations are divided into parts.
        parts: consecutive activations.
        row_group: rows per row group, which readers can skip.
    """
    rows = 0
    schema = arrow_schema(ACTIVATIONS)
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        # Sorted documents differ by little, and floats compress byte by byte: two fifths of the default's size.
        # Features repeat for long stretches: zstd alone shrinks them to nothing, in less time than any encoding takes.
        column_encoding={
            "feature": "PLAIN",
            "document": "DELTA_BINARY_PACKED",
            "activation": "BYTE_STREAM_SPLIT",
        },
        write_page_checksum=True,
    ) as writer:
        tables = (pa.table([pa.array(column) for column in part], schema=schema) for part in parts)
        for group in row_groups(tables, schema, row_group):
            writer.write_table(group, row_group_size=row_group)
            rows += len(group)
    return rows


def check_file(file: Path, features: int, documents: int) -> None:
    """Check the columns of a layer's file, its size, and the bounds of its numbers that its footer states.

    Args:
        file: of the layer.
        features: number of features of the layer.
        documents: number of documents of the run.

    Raises:
        OSError, pyarrow.ArrowException: the file is missing or damaged.
        ValueError: it is not the file of such a layer.
    """
    with pq.ParquetFile(file) as parquet:
        if not parquet.schema_arrow.equals(arrow_schema(ACTIVATIONS)):
            raise ValueError(f"{file.name} has other columns than {', '.join(Activations._fields)}")
        if parquet.metadata.num_rows > features * documents:
            raise ValueError(f"{file.name} has more rows than pairs of a feature and a document")
        for group in map(parquet.metadata.row_group, range(parquet.num_row_groups)):
            for column, size in ((0, features), (1, documents)) if group.num_rows else ():
                bounds = group.column(column).statistics  # by which `read_feature` skips row groups
                if bounds is None or not bounds.has_min_max or bounds.null_count:
                    raise ValueError(f"{file.name} does not state the bounds of its columns, or has no value in one")
                if not 0 <= bounds.min <= bounds.max < size:
                    raise ValueError(f"{file.name} has numbers beyond {size}")


def read_feature(file: Path, feature: int) -> Activations:
    """Read the activations of one feature; row groups without it are skipped, checksums of pages are checked.

    Raises:
        OSError, pyarrow.ArrowException: the file is missing or damaged.
    """
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        groups = []
        for group in range(parquet.num_row_groups):
            bounds = parquet.metadata.row_group(group).column(0).statistics
            if bounds is not None and bounds.min <= feature <= bounds.max:
                groups.append(group)
        table = parquet.read_row_groups(groups)
    columns = [table[name].to_numpy() for name in Activations._fields]
    start, stop = np.searchsorted(columns[0], [feature, feature + 1])
    return Activations(*(column[start:stop] for column in columns))


def read_layer(file: Path) -> Iterator[Activations]:
    """Read the activations of a layer, one row group at a time.

    Raises:
        OSError, pyarrow.ArrowException: the file is missing or damaged.
    """
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            yield Activations(*(table[name].to_numpy() for name in Activations._fields))


class Totals(NamedTuple):
    """Totals of one layer's activations per document."""

    active: np.ndarray
    """int64 [documents]: number of active features"""
    mass: np.ndarray
    """float64 [documents]: sum of their activations"""


def layer_totals(file: Path, documents: int) -> Totals:
    """Count and add up the activations of each document, one row group at a time.

    Raises:
        OSError, pyarrow.ArrowException: the file is missing or damaged.
    """
    active, mass = np.zeros(documents, np.int64), np.zeros(documents)
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, columns=["document", "activation"])
            document = table["document"].to_numpy()
            if len(document) and not 0 <= document.min() <= document.max() < documents:
                raise ValueError(f"{file.name} has numbers beyond {documents}")
            active += np.bincount(document, minlength=documents)
            mass += np.bincount(document, table["activation"].to_numpy(), documents)
    return Totals(active, mass)


def _check_fits(part: Activations) -> None:
    features, documents = int(part.feature.max()) + 1, int(part.document.max()) + 1
    if features > 2**_FEATURE_BITS or documents > 2**_DOCUMENT_BITS:
        raise StoreError(
            f"{features:,} features or {documents:,} documents are more than a layer can hold "
            f"({2**_FEATURE_BITS:,} and {2**_DOCUMENT_BITS:,})",
            field="index.run",
            fix="index the corpus in several runs",
        )


def rounded_bits(raw: Any) -> Any:
    """Upper bits of positive float32 activations, rounded; they have the order of the activations.

    Args:
        raw: int32 array or tensor of the bits of the activations.
    """
    to_even = (raw >> DROPPED_BITS) & 1
    nearest = (raw + (2 ** (DROPPED_BITS - 1) - 1) + to_even) >> DROPPED_BITS
    return nearest.clip(1, _LARGEST)


def _bits(activation: np.ndarray) -> np.ndarray:
    return rounded_bits(activation.astype(np.float32, copy=False).view(np.int32))


def _value(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.int32, copy=False) << DROPPED_BITS).view(np.float32)


def _packed(*fields: tuple[np.ndarray, int]) -> np.ndarray:
    """Pack (values, bits) of non-negative integers side by side into uint64, the first in the uppermost bits."""
    keys = np.zeros(len(fields[0][0]), np.uint64)
    for values, bits in fields:
        keys <<= np.uint64(bits)
        keys |= values.astype(np.uint64)
    return keys


def _unpacked(keys: np.ndarray, *widths: int) -> list[np.ndarray]:
    """Unpack the arrays that were packed with these widths in bits; int32."""
    fields = []
    shift = sum(widths)
    for bits in widths:
        shift -= bits
        fields.append(((keys >> np.uint64(shift)).astype(np.uint32) & np.uint32(2**bits - 1)).view(np.int32))
    return fields
