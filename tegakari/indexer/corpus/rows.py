"""One row of any source, before anything is made of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tegakari.indexer.corpus.reasons import Reason
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.errors import CorpusError

_SHOWN = 20
_WITHOUT = {
    "id": 'or to "" to have ids made from the content',
    "title": 'or to "" if the documents have no title',
    "split": 'or to "" to have the splits sampled',
}


class Columns(NamedTuple):
    """Names of the configured columns; empty = there is none."""

    id: str
    label: str
    title: str
    body: str
    split: str


class Row(NamedTuple):
    """The cells of the configured columns as the file has them; None where there is no column or no value."""

    where: str
    id: object
    label: object
    title: object
    body: object
    split: object


class Reject(NamedTuple):
    """A row of which not even the cells can be told apart."""

    where: str
    reason: Reason


def configured_columns(config: CorpusConfig) -> Columns:
    """The columns that a configuration names.

    Raises:
        CorpusError: no label or body column is named.
    """
    columns = Columns(
        config.id_column, config.label_column, config.title_column, config.body_column, config.split_column
    )
    for role, name in (("label", columns.label), ("body", columns.body)):
        if not name:
            raise CorpusError(
                f"a corpus needs a {role} column", field=f"corpus.{role}_column", fix="name the column of the source"
            )
    return columns


def require(columns: Columns, present: Collection[str], source: str) -> None:
    """Check that a file has every configured column once.

    Raises:
        CorpusError: a column is missing, or its name stands over two columns.
    """
    names = list(present)
    for role, name in zip(Columns._fields, columns, strict=True):
        if not name or names.count(name) == 1:
            continue
        # repr keeps what is not printable, such as a header in UTF-16, from reaching the terminal.
        shown = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        wrong = f"has no column {name!r}" if name not in names else f"has more than one column {name!r}"
        fix = ["set the key to one of them", _WITHOUT[role]] if role in _WITHOUT else ["set the key to one of them"]
        raise CorpusError(
            f"{source} {wrong}; its columns are: {shown or 'none'}",
            field=f"corpus.{role}_column",
            fix=", ".join(fix),
        )


def positions(columns: Columns, header: Sequence[str], source: str) -> list[int | None]:
    """Where each configured column stands in a header.

    Raises:
        CorpusError: as `require`.
    """
    require(columns, header, source)
    return [header.index(name) if name else None for name in columns]
