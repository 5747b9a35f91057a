"""Rows of CSV and TSV files: a header, then one record per row; quoted fields may hold delimiters and line ends."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from tegakari.indexer.corpus.decoded_size import DecodedSize
from tegakari.indexer.corpus.lines import MAX_ROW_CHARACTERS, Line, numbered_lines, open_text
from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Columns, Reject, Row, column_indices
from tegakari.schemas.errors import CorpusError


class _Record(NamedTuple):
    location: str
    fields: list[str]


def read_delimited(path: Path, columns: Columns, delimiter: str, encoding: str) -> Iterator[Row | Reject]:
    """Read the rows of a file. Empty lines are not rows.

    Raises:
        CorpusError: the file is empty, its header lacks a configured column, or it decodes to far more bytes than it
            has, or has another encoding.
    """
    with open_text(path, newline="", encoding=encoding) as stream:
        records = _records(stream, delimiter, DecodedSize(path))
        header = next(records, None)
        if not isinstance(header, _Record):
            raise CorpusError(
                f"{path.name} has no header",
                field="corpus.source",
                fix="write the column names in its first line",
            )
        indices = column_indices(columns, header.fields, path.name)
        for record in records:
            if isinstance(record, Reject):
                yield record
            elif len(record.fields) != len(header.fields):
                yield Reject(record.location, Reason.RAGGED)
            else:
                yield Row(record.location, *(None if index is None else record.fields[index] for index in indices))


def _records(stream: TextIO, delimiter: str, decoded: DecodedSize) -> Iterator[_Record | Reject]:
    """Split a stream into records.

    A quote without an end would include all following lines in its record. So a record whose quotes do not match, or
    match too late, is rejected with its first line only: reading continues at its second line.
    """
    # The csv module has one limit per process, and its default is shorter than a long post.
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_ROW_CHARACTERS))
    lines = _Lines(stream, decoded)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_record()
        try:
            fields = next(reader, [])
        except csv.Error:
            fields = None
        if not lines.record:
            return
        location = f"line {lines.record[0].number}"
        if fields is None or lines.too_large:
            lines.return_all_but_first()
            yield Reject(location, Reason.TOO_LARGE if lines.too_large else Reason.BAD_QUOTES)
        elif fields:
            yield _Record(location, fields)


class _Lines(Iterator[str]):
    """Lines for the csv module, which can be returned and are then read again."""

    def __init__(self, stream: TextIO, decoded: DecodedSize) -> None:
        self._unread = numbered_lines(stream, decoded)
        self._returned: deque[Line] = deque()
        self._characters = 0
        self.record: list[Line] = []
        """lines of the current record."""
        self.too_large = False
        """whether the record exceeded the limit before its quotes were closed."""

    def start_record(self) -> None:
        self.record, self.too_large, self._characters = [], False, 0

    def return_all_but_first(self) -> None:
        self._returned.extendleft(reversed(self.record[1:]))

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._unread, None)
        if line is None:
            raise StopIteration
        self.record.append(line)
        self._characters += len(line.text or "")
        if line.text is None or self._characters > MAX_ROW_CHARACTERS:
            self.too_large = True
            raise StopIteration
        return line.text
