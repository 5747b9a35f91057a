"""Rows of any source with the cells of the configured columns, before they become documents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tegakari.indexer.corpus.reasons import Reason
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.errors import CorpusError

_MAX_NAMES = 20
_FIX_WITHOUT_COLUMN = {
    "id": 'or to "" to derive ids from the content',
    "title": 'or to "" if the documents have no title',
    "split": 'or to "" to sample the splits',
}


class Columns(NamedTuple):
    """Names of the configured columns; empty = no such column."""

    id: str
    label: str
    title: str
    body: str
    split: str


class Row(NamedTuple):
    """Cells of the configured columns, as in the file; None without a column or a value."""

    location: str
    """line or row in the file, such as "line 7"."""
    id: object
    label: object
    title: object
    body: object
    split: object


class Reject(NamedTuple):
    """A row that cannot become a document."""

    location: str
    """line or row in the file, or the id of the row."""
    reason: Reason


def configured_columns(config: CorpusConfig) -> Columns:
    """Column names of a configuration.

    Raises:
        CorpusError: the label or the body column has no name.
    """
    columns = Columns(
        config.id_column, config.label_column, config.title_column, config.body_column, config.split_column
    )
    for role, name in (("label", columns.label), ("body", columns.body)):
        if not name:
            raise CorpusError(
                f"a corpus needs a {role} column",
                field=f"corpus.{role}_column",
                fix="name a column of the source",
            )
    return columns


def check_columns(columns: Columns, header: Collection[str], source: str) -> None:
    """Check that a file has every configured column once.

    Args:
        columns: the configured columns.
        header: names of the file's columns.
        source: name of the file, for the error.

    Raises:
        CorpusError: a column is missing, or two columns have its name.
    """
    names = list(header)
    for role, name in zip(Columns._fields, columns, strict=True):
        if not name or names.count(name) == 1:
            continue
        # repr escapes characters that are not printable, such as those of a header in UTF-16.
        listed = ", ".join(map(repr, names[:_MAX_NAMES])) + (", ..." if len(names) > _MAX_NAMES else "")
        problem = f"has no column {name!r}" if name not in names else f"has more than one column {name!r}"
        fixes = ["set the key to one of them"]
        if role in _FIX_WITHOUT_COLUMN:
            fixes.append(_FIX_WITHOUT_COLUMN[role])
        if role == "label":
            fixes.append("or, if each label has a column of its own, write one column with their names")
        raise CorpusError(
            f"{source} {problem}; its columns are: {listed or 'none'}",
            field=f"corpus.{role}_column",
            fix=", ".join(fixes),
        )


def column_indices(columns: Columns, header: Sequence[str], source: str) -> list[int | None]:
    """Index of each configured column in a header; None for a column that is not configured.

    Raises:
        CorpusError: as `check_columns`.
    """
    check_columns(columns, header, source)
    return [header.index(name) if name else None for name in columns]
