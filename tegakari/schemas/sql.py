"""Request and result of SQL over the tables of runs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tegakari.schemas.config import NAME_PATTERN

MAX_ROWS = 100_000
MAX_SECONDS = 60
MAX_RUNS = 16
MAX_SQL = 100_000
MAX_BODY_BYTES = 2**20
"""of a request"""

SqlValue = str | int | float | bool | None
"""Value of a `$name` parameter of a query."""


class SqlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One SELECT over the tables of runs."""

    sql: Annotated[str, Meta(min_length=1, max_length=MAX_SQL, description="one SELECT; parameters are `$name`")]
    runs: Annotated[
        list[Annotated[str, Meta(pattern=NAME_PATTERN)]] | None,
        Meta(description=f"names of the runs to query, {MAX_RUNS} at most; default: all published"),
    ] = None
    parameters: Annotated[dict[str, SqlValue], Meta(description="values of the parameters")] = {}
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS, description="maximum number of rows")] = 1000
    seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS, description="time limit in seconds")] = 10


class SqlColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a result."""

    name: str
    """a repeated name gets the suffix _2, _3, ..."""
    type: str
    """type of Arrow"""


class SqlResult(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a query."""

    columns: list[SqlColumn]
    items: list[dict[str, Any]]
    """rows: a value per column"""
    next: None = None
    """always null: page through a query with ORDER BY and LIMIT."""
    truncated: bool
    """whether rows were left out because of `limit`."""
