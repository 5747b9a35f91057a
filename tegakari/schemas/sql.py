"""What SQL over the runs is asked for, and what it answers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tegakari.schemas.config import NAME_PATTERN

MAX_ROWS = 100_000
MAX_SECONDS = 60
MAX_RUNS = 16
MAX_SQL = 100_000


class SqlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One SELECT over the tables of runs."""

    sql: Annotated[str, Meta(min_length=1, max_length=MAX_SQL, description="one SELECT; parameters are `$name`")]
    runs: Annotated[
        list[Annotated[str, Meta(pattern=NAME_PATTERN)]] | None,
        Meta(description=f"runs that the tables are of, {MAX_RUNS} at most; default: all published"),
    ] = None
    parameters: Annotated[dict[str, str | int | float | bool | None], Meta(description="values of the parameters")] = {}
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS, description="rows that are given at most")] = 1000
    seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS, description="time it may take")] = 10


class SqlColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of an answer."""

    name: str
    """a name that comes a second time has _2 behind it, and so on."""
    type: str
    """of Arrow"""


class SqlAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, and whether they are all."""

    columns: list[SqlColumn]
    items: list[dict[str, Any]]
    """rows: a value for each column"""
    next: None = None
    """always null: ORDER BY and LIMIT page through a query."""
    truncated: bool
    """whether rows were left out because of `limit` or of the size of the answer."""
