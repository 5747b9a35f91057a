"""Candidates: documents from the cells of a row, or the reason for a rejection."""

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
    """A document that may be drawn into the corpus."""

    id: str
    label: str
    split: Split | None
    """None: the draw decides."""
    text: str
    cut: bool
    """whether the text was longer than corpus.max_characters."""


class DocumentMaker:
    """Creates candidates from rows; stores the ids of all candidates."""

    def __init__(self, config: CorpusConfig, *, by_split: bool) -> None:
        self._has_ids = bool(config.id_column)
        self._by_split = by_split
        self._max_characters = config.max_characters
        self._seen: set[str] = set()
        self._copies: Counter[tuple[str, Split | None]] = Counter()

    def make(self, row: Row) -> Candidate | Reject:
        """Create a candidate from a row: the label without outer white space, the text unchanged."""
        try:
            id_, label = _text(row.id), _text(_single(row.label))
            title, body, split_name = map(_text, (row.title, row.body, row.split))
        except _CellError as error:
            return Reject(row.location, error.reason)
        label = label.strip()
        full_text = "\n".join(part for part in (title, body) if part.strip())
        text = full_text[: self._max_characters]
        split = split_of(split_name) if self._by_split else None
        if reason := self._rejection(id_, label, text, split):
            return Reject(id_ if id_.strip() else row.location, reason)
        if self._has_ids:
            self._seen.add(id_)
        else:
            id_ = self._content_id(label, text, split)
        return Candidate(id_, label, split, text, len(full_text) > len(text))

    def _rejection(self, id_: str, label: str, text: str, split: Split | None) -> Reason | None:
        if self._has_ids and not id_.strip():
            return Reason.EMPTY_ID
        if not label:
            return Reason.EMPTY_LABEL
        if not text.strip():
            return Reason.EMPTY_TEXT
        if self._by_split and split is None:
            return Reason.UNKNOWN_SPLIT
        return Reason.DUPLICATE_ID if self._has_ids and id_ in self._seen else None

    def _content_id(self, label: str, text: str, split: Split | None) -> str:
        # Copies are numbered within a split, so that the order of rows does not decide which split has the plain id.
        # Ids stay unique: of equal documents in both splits, the evaluation documents are dropped later.
        base = hashlib.sha256(f"{label}\0{text}".encode()).hexdigest()[:_CONTENT_ID_DIGITS]
        self._copies[base, split] += 1
        copy = self._copies[base, split]
        return base if copy == 1 else f"{base}-{copy}"


class _CellError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _single(label: object) -> object:
    """The label of a list of one, as sources with several labels per document store it."""
    if not isinstance(label, list):
        return label
    if len(label) > 1:
        raise _CellError(Reason.SEVERAL_LABELS)
    return label[0] if label else None


def _text(value: object) -> str:
    """A cell as text: a missing value is empty, a number is its digits."""
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
