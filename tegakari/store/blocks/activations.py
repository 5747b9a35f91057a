"""Activations of one layer: put in order, rounded, written as Parquet, and the strongest of each group found.

Feature, document and rounded activation are packed into one 64-bit integer each, because sorting integers is ten times
as fast as sorting rows by two keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.errors import StoreError
from tegakari.schemas.tables import ACTIVATIONS

_DROPPED_BITS = 13
"""of the 23 of a float32's fraction. Ten are left, as in a float16, with the exponent of a float32."""

_VALUE_BITS = 18
"""exponent and ten bits of fraction; activations are positive."""

_FEATURE_BITS = 20
_DOCUMENT_BITS = 26

_LARGEST = (0x7F7F_FFFF >> _DROPPED_BITS) & (2**_VALUE_BITS - 1)


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
    """int32 [groups, n]; -1 where a group has no more."""
    activation: np.ndarray
    """float32 [groups, n]; 0 there."""


def rounded(activation: np.ndarray) -> np.ndarray:
    """Positive activations to 11 significant bits, as they are stored: nearest, ties to even, never to 0 or infinity.

    The relative error is at most 2**-11, that of a float16, over the whole range of float32.
    """
    return _value(_bits(activation))


def ordered(parts: Sequence[Activations]) -> Activations:
    """Join activations by (feature, document), rounded.

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


def strongest_documents(activations: Activations, features: int, n: int) -> Strongest:
    """The n documents in which each feature is strongest, of `features` features; ties by document."""
    return _strongest(
        (activations.feature, _FEATURE_BITS),
        (activations.document, _DOCUMENT_BITS),
        activations.activation,
        features,
        n,
    )


def strongest_features(activations: Activations, documents: int, n: int) -> Strongest:
    """The n features that are strongest in each document, of `documents` documents; ties by feature."""
    return _strongest(
        (activations.document, _DOCUMENT_BITS),
        (activations.feature, _FEATURE_BITS),
        activations.activation,
        documents,
        n,
    )


def write_activations(file: Path, parts: Iterable[Activations], *, row_group: int | None = None) -> None:
    """Write activations that are in order.

    Args:
        file: to write.
        parts: each begins a row group of its own, an empty one too.
        row_group: rows of a row group, which readers can skip; default: as many as the part has.
    """
    with pq.ParquetWriter(
        file,
        ACTIVATIONS.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        # Documents are small differences, and floats compress byte by byte: two fifths of the default's size. Features
        # are one number for a long while: zstd alone makes nothing of them, in less time than any encoding takes.
        column_encoding={
            "feature": "PLAIN",
            "document": "DELTA_BINARY_PACKED",
            "activation": "BYTE_STREAM_SPLIT",
        },
        write_page_checksum=True,
    ) as writer:
        for part in parts:
            table = pa.table([pa.array(column) for column in part], schema=ACTIVATIONS.schema)
            writer.write_table(table, row_group_size=row_group or max(1, len(table)))


def read_row_group(file: Path, place: int) -> Activations:
    """Read one row group.

    Raises:
        OSError: the file is damaged.
    """
    table = pq.ParquetFile(file, page_checksum_verification=True).read_row_group(place)
    return Activations(*(table[name].to_numpy() for name in Activations._fields))


def read_feature(file: Path, feature: int) -> Activations:
    """Read one feature; row groups without it are skipped, and the checksums of pages are compared.

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
    """All of a layer, a row group at a time.

    Raises:
        OSError, pyarrow.ArrowException: the file is missing or damaged.
    """
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            yield Activations(*(table[name].to_numpy() for name in Activations._fields))


class Totals(NamedTuple):
    """Of the documents in a layer."""

    active: np.ndarray
    """int64 [documents]: features that are not zero"""
    mass: np.ndarray
    """float64 [documents]: sum of their activations"""


def layer_totals(file: Path, documents: int) -> Totals:
    """Count and add up the activations of each document, a row group at a time.

    Raises:
        OSError, pyarrow.ArrowException: the file is missing or damaged.
    """
    active, mass = np.zeros(documents, np.int64), np.zeros(documents)
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, columns=["document", "activation"])
            document = table["document"].to_numpy()
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


def _strongest(
    group: tuple[np.ndarray, int], member: tuple[np.ndarray, int], activation: np.ndarray, groups: int, n: int
) -> Strongest:
    # Inverted, so that an ascending sort puts the largest value first and the smallest member before equal ones.
    falling = 2**_VALUE_BITS - 1 - _bits(activation)
    keys = _packed(group, (falling, _VALUE_BITS), member)
    keys.sort()
    found = np.bincount(group[0], minlength=groups)
    place = np.arange(n)
    there = place < found[:, None]
    kept = keys[((np.cumsum(found) - found)[:, None] + place)[there]]
    _, falling, members = _unpacked(kept, group[1], _VALUE_BITS, member[1])
    strongest = Strongest(np.full((groups, n), -1, np.int32), np.zeros((groups, n), np.float32))
    strongest.member[there] = members
    strongest.activation[there] = _value(2**_VALUE_BITS - 1 - falling)
    return strongest


def _bits(activation: np.ndarray) -> np.ndarray:
    """Upper bits of rounded float32; int32."""
    raw = activation.astype(np.float32, copy=False).view(np.int32)
    to_even = (raw >> _DROPPED_BITS) & 1
    nearest = (raw + (2 ** (_DROPPED_BITS - 1) - 1) + to_even) >> _DROPPED_BITS
    return np.clip(nearest, 1, _LARGEST)


def _value(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.int32, copy=False) << _DROPPED_BITS).view(np.float32)


def _packed(*fields: tuple[np.ndarray, int]) -> np.ndarray:
    """Arrays of non-negative integers side by side in 64 bits, the first uppermost."""
    keys = np.zeros(len(fields[0][0]), np.uint64)
    for values, bits in fields:
        keys <<= np.uint64(bits)
        keys |= values.astype(np.uint64)
    return keys


def _unpacked(keys: np.ndarray, *widths: int) -> list[np.ndarray]:
    """The arrays that were packed with these widths; int32."""
    fields = []
    shift = sum(widths)
    for bits in widths:
        shift -= bits
        fields.append(((keys >> np.uint64(shift)).astype(np.uint32) & np.uint32(2**bits - 1)).view(np.int32))
    return fields
