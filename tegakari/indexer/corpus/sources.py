"""Sources: the files of a corpus before its import, as a stream of rows."""

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
from tegakari.indexer.corpus.rows import Columns, Reject, Row, check_columns
from tegakari.indexer.corpus.selections import read_selection
from tegakari.indexer.corpus.splits import split_of
from tegakari.schemas.errors import CorpusError
from tegakari.store.disk.durable import sha256_of


class Source(NamedTuple):
    """The files to import, in a fixed order."""

    name: str
    parts: Sequence[Part]

    @property
    def has_splits(self) -> bool:
        """Whether the layout has both training and evaluation files."""
        return {split_of(part.split) for part in self.parts if part.split} >= {"train", "eval"}

    def sha256(self) -> str:
        """SHA-256 of the file; for several files, of the lines `hash  name` that `sha256sum` prints for them.

        Raises:
            CorpusError: a file cannot be read.
        """
        hashes: list[tuple[str, str]] = []
        for name, path in (file for part in self.parts for file in part.files()):
            try:
                hashes.append((sha256_of(path), name))
            except OSError as error:
                raise _unreadable(path, error) from None
        if len(hashes) == 1:
            return hashes[0][0]
        listing = "".join(f"{digest}  {name}\n" for digest, name in hashes)
        return hashlib.sha256(listing.encode()).hexdigest()

    def rows(self, columns: Columns, encoding: str = "utf-8") -> Iterator[Row | Reject]:
        """All rows. Without a split column, the split of a row is that of its file in the layout.

        Args:
            columns: the configured columns.
            encoding: of text files, a name of `codec_name`.

        Raises:
            CorpusError: a file is damaged, lacks a configured column, or has another encoding.
        """
        keys: dict[str, None] = {}
        for part in self.parts:
            try:
                for row in _read(part, columns, keys, encoding):
                    location = f"{part.name} {row.location}" if len(self.parts) > 1 else row.location
                    if not columns.split and isinstance(row, Row):
                        yield row._replace(location=location, split=part.split)
                    else:
                        yield row._replace(location=location)
            except (OSError, EOFError, zlib.error, ValueError, OverflowError, pa.ArrowException) as error:
                raise _unreadable(part.path, error) from None
        if keys:
            check_columns(columns, keys, self.name)


def open_source(path: Path, corpus: Path) -> Source:
    """List the files of a path.

    Args:
        path: file or directory.
        corpus: directory of the imported corpus; files below it are never part of a directory.

    Raises:
        CorpusError: `path` does not exist, cannot be listed, has another format, or is not a data set.
    """
    try:
        return Source(path.resolve().name, parts_of(path, corpus))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _read(part: Part, columns: Columns, keys: dict[str, None], encoding: str) -> Iterator[Row | Reject]:
    if encoding not in ("utf-8", "utf-8-sig") and part.format in ("parquet", "arrow"):
        raise CorpusError(
            f"{part.path} is not a text file: its texts are UTF-8", field="corpus.encoding", fix="leave the key out"
        )
    if part.selection:
        return read_selection(part.selection, columns)
    match part.format:
        case "csv":
            return read_delimited(part.path, columns, ",", encoding)
        case "tsv":
            return read_delimited(part.path, columns, "\t", encoding)
        case "jsonl":
            return read_jsonl(part.path, columns, keys, encoding)
        case "parquet":
            return read_parquet(part.path, columns)
        case "arrow":
            return read_arrow(part.path, columns)


def _unreadable(path: Path, error: Exception) -> CorpusError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).strip() or type(error).__name__
    return CorpusError(f"cannot read {path}: {reason}", field=FIELD, fix="check that the file is complete and readable")
