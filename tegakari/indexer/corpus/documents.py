"""From the cells of a row to a document, or the reason why there is none."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import NamedTuple

from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Reject, Row
from tegakari.indexer.corpus.splits import split_of
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import Split

_CONTENT_ID_DIGITS = 16


class Candidate(NamedTuple):
    """A usable row."""

    id: str
    label: str
    split: Split | None
    """None if the draw decides."""
    text: str
    cut: bool
    """the text was longer than corpus.max_characters."""


class DocumentMaker:
    """Makes candidates; remembers the ids it has given out."""

    def __init__(self, config: CorpusConfig, *, by_split: bool) -> None:
        self._own_ids = bool(config.id_column)
        self._by_split = by_split
        self._max_characters = config.max_characters
        self._seen: set[str] = set()
        self._copies: Counter[tuple[str, Split | None]] = Counter()

    def make(self, row: Row) -> Candidate | Reject:
        """One document from one row: outer white space of the label goes, the text stays as it is."""
        try:
            id_, label, title, body, split_name = map(_text, (row.id, row.label, row.title, row.body, row.split))
        except _CellError as error:
            return Reject(row.where, error.reason)
        label = label.strip()
        whole = "\n".join(part for part in (title, body) if part.strip())
        text = whole[: self._max_characters]
        split = split_of(split_name) if self._by_split else None
        if reason := self._objection(id_, label, text, split):
            return Reject(id_ if id_.strip() else row.where, reason)
        if self._own_ids:
            self._seen.add(id_)
        else:
            id_ = self._content_id(label, text, split)
        return Candidate(id_, label, split, text, len(whole) > len(text))

    def _objection(self, id_: str, label: str, text: str, split: Split | None) -> Reason | None:
        if self._own_ids and not id_.strip():
            return Reason.EMPTY_ID
        if not label:
            return Reason.EMPTY_LABEL
        if not text.strip():
            return Reason.EMPTY_TEXT
        if self._by_split and split is None:
            return Reason.UNKNOWN_SPLIT
        return Reason.DUPLICATE_ID if self._own_ids and id_ in self._seen else None

    def _content_id(self, label: str, text: str, split: Split | None) -> str:
        # Copies are numbered within a split, so that the order of rows does not decide which split has the plain id.
        # Two splits never keep one content: the evaluation document was trained on and goes.
        base = hashlib.sha256(f"{label}\0{text}".encode()).hexdigest()[:_CONTENT_ID_DIGITS]
        self._copies[base, split] += 1
        copy = self._copies[base, split]
        return base if copy == 1 else f"{base}-{copy}"


class _CellError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _text(value: object) -> str:
    """A cell as text: nothing is empty, a number its digits."""
    match value:
        case None:
            return ""
        case str():
            text = value
        case bytes():
            try:
                text = value.decode()
            except UnicodeDecodeError:
                raise _CellError(Reason.NOT_UNICODE) from None
        case bool():
            return "true" if value else "false"
        case float():
            return "" if math.isnan(value) else str(value)
        case list() | tuple() | dict():
            raise _CellError(Reason.NOT_TEXT)
        case _:
            text = str(value)
    if "\0" in text:
        raise _CellError(Reason.NUL)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _CellError(Reason.NOT_UNICODE) from None
    return text
