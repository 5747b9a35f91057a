"""A source as a stream of rows, whatever it is made of."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tegakari.indexer.corpus.arrow import read_arrow, read_parquet
from tegakari.indexer.corpus.delimited import read_delimited
from tegakari.indexer.corpus.jsonl import read_jsonl
from tegakari.indexer.corpus.layouts import FIELD, Part, parts_of
from tegakari.indexer.corpus.rows import Columns, Reject, Row, require
from tegakari.indexer.corpus.splits import split_of
from tegakari.schemas.errors import CorpusError
from tegakari.store.disk.durable import sha256_of


class Source(NamedTuple):
    """Everything that is read, in a fixed order."""

    name: str
    parts: Sequence[Part]

    @property
    def has_splits(self) -> bool:
        """Whether the layout tells training from evaluation documents; training files alone do not."""
        return {split_of(part.split) for part in self.parts if part.split} >= {"train", "eval"}

    def sha256(self) -> str:
        """SHA-256 of the file; of several, that of the lines `hash  name` that `sha256sum` prints for them.

        Raises:
            CorpusError: a file cannot be read.
        """
        hashes: list[str] = []
        for part in self.parts:
            try:
                hashes.append(sha256_of(part.path))
            except OSError as error:
                raise _unreadable(part.path, error) from None
        if len(hashes) == 1:
            return hashes[0]
        listing = "".join(f"{digest}  {part.name}\n" for digest, part in zip(hashes, self.parts, strict=True))
        return hashlib.sha256(listing.encode()).hexdigest()

    def rows(self, columns: Columns) -> Iterator[Row | Reject]:
        """Every row. Without a split column, what the layout calls a file's split stands in its place.

        Raises:
            CorpusError: a file is damaged or lacks a configured column.
        """
        keys: dict[str, None] = {}
        for part in self.parts:
            try:
                for row in _read(part, columns, keys):
                    where = f"{part.name} {row.where}" if len(self.parts) > 1 else row.where
                    if not columns.split and isinstance(row, Row):
                        yield row._replace(where=where, split=part.split)
                    else:
                        yield row._replace(where=where)
            except (OSError, EOFError, zlib.error, ValueError, OverflowError, pa.ArrowException) as error:
                raise _unreadable(part.path, error) from None
        if keys:
            require(columns, keys, self.name)


def open_source(path: Path, corpus: Path) -> Source:
    """Find out what a path holds.

    Args:
        path: file or directory.
        corpus: directory of the imported corpus; files below it are never part of a directory.

    Raises:
        CorpusError: it is not there, cannot be listed, has another format, or is no data set.
    """
    try:
        return Source(path.resolve().name, parts_of(path, corpus))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _read(part: Part, columns: Columns, keys: dict[str, None]) -> Iterator[Row | Reject]:
    match part.format:
        case "csv":
            return read_delimited(part.path, columns, ",")
        case "tsv":
            return read_delimited(part.path, columns, "\t")
        case "jsonl":
            return read_jsonl(part.path, columns, keys)
        case "parquet":
            return read_parquet(part.path, columns)
        case "arrow":
            return read_arrow(part.path, columns)


def _unreadable(path: Path, error: Exception) -> CorpusError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).strip() or type(error).__name__
    return CorpusError(f"cannot read {path}: {reason}", field=FIELD, fix="check that the file is whole and may be read")
