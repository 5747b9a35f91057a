"""CSV and TSV: a header, then one record a row; a quoted field may hold delimiters and line ends."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from tegakari.indexer.corpus.lines import MAX_ROW_CHARACTERS, Line, numbered_lines, open_text
from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Columns, Reject, Row, positions
from tegakari.schemas.errors import CorpusError


class _Record(NamedTuple):
    where: str
    fields: list[str]


def read_delimited(path: Path, columns: Columns, delimiter: str) -> Iterator[Row | Reject]:
    """Read one file. Empty lines are no rows.

    Raises:
        CorpusError: the file is empty or its header lacks a configured column.
    """
    with open_text(path, newline="") as stream:
        records = _records(stream, delimiter)
        header = next(records, None)
        if not isinstance(header, _Record):
            raise CorpusError(
                f"{path.name} has no header", field="corpus.source", fix="name the columns in the first line"
            )
        places = positions(columns, header.fields, path.name)
        for record in records:
            if isinstance(record, Reject):
                yield record
            elif len(record.fields) != len(header.fields):
                yield Reject(record.where, Reason.RAGGED)
            else:
                yield Row(record.where, *(None if place is None else record.fields[place] for place in places))


def _records(stream: TextIO, delimiter: str) -> Iterator[_Record | Reject]:
    """Split a stream into records.

    A quote that is never closed swallows what follows it. So a record whose quotes do not match, or match too late,
    costs its first line only: reading goes on with the second.
    """
    # The module has one limit for the process, and its default is less than a long post.
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_ROW_CHARACTERS))
    lines = _Lines(stream)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_record()
        try:
            fields = next(reader, [])
        except csv.Error:
            fields = None
        if not lines.record:
            return
        where = f"line {lines.record[0].number}"
        if fields is None or lines.too_large:
            lines.take_back_all_but_first()
            yield Reject(where, Reason.TOO_LARGE if lines.too_large else Reason.BAD_QUOTES)
        elif fields:
            yield _Record(where, fields)


class _Lines(Iterator[str]):
    """Feeds the csv module, and takes lines back from it."""

    def __init__(self, stream: TextIO) -> None:
        self._fresh = numbered_lines(stream)
        self._again: deque[Line] = deque()
        self._characters = 0
        self.record: list[Line] = []
        """lines given since the record began."""
        self.too_large = False
        """the record was given up before its quotes were closed."""

    def start_record(self) -> None:
        self.record, self.too_large, self._characters = [], False, 0

    def take_back_all_but_first(self) -> None:
        self._again.extendleft(reversed(self.record[1:]))

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._fresh, None)
        if line is None:
            raise StopIteration
        self.record.append(line)
        self._characters += len(line.text or "")
        if line.text is None or self._characters > MAX_ROW_CHARACTERS:
            self.too_large = True
            raise StopIteration
        return line.text
