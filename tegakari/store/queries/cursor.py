"""Opaque keyset cursors: the sort key of a page's last row, so that every page costs the same."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from tegakari.schemas.api import Page
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import CursorError
from tegakari.store.queries.parameters import check_limit
from tegakari.store.reader import Run

T = TypeVar("T")


def list_name(run: Run, query: str, *parameters: object) -> str:
    """Name of a list of results: cursors of one list are refused by all others.

    Args:
        run: the run that is queried.
        query: name of the query.
        parameters: all parameters that the rows of the list or their order depend on.
    """
    return f"{query} {run.manifest.fingerprint[:16]} {parameters!r}"


def write_cursor(list_: str, key: object) -> str:
    """Encode the key of a page's last row.

    Args:
        list_: name of the list, by `list_name`.
        key: sort key of the row.
    """
    return base64.urlsafe_b64encode(msgspec.json.encode((list_, key))).decode().rstrip("=")


def read_cursor(cursor: str, list_: str, key_type: type[T]) -> T:
    """Decode a cursor.

    Raises:
        CursorError: it is damaged, or belongs to another list.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        cursor_list, key = decode_json(raw, tuple[str, msgspec.Raw])
        if cursor_list != list_:
            raise cursor_error()
        return decode_json(bytes(key), key_type)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise cursor_error() from None


def read_number(cursor: str | None, list_: str, count: int) -> int | None:
    """Decode a cursor whose key is a number from 0 to `count` - 1; None without a cursor.

    Raises:
        CursorError: it is damaged, belongs to another list, or its number is out of range.
    """
    if not cursor:
        return None
    number = read_cursor(cursor, list_, int)
    if not 0 <= number < count:
        raise cursor_error()
    return number


def cursor_error() -> CursorError:
    """The error for a cursor that does not come from a page of the list."""
    return CursorError("not a cursor of this list", field="cursor", fix="use `next` of the page before, unchanged")


def page_of(rows: list[T], list_: str, limit: int, cursor: str | None) -> Page[T]:
    """A page of a list that is short enough to be computed whole; the key is the index of a row.

    Raises:
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of the list.
    """
    check_limit(limit)
    last = read_number(cursor, list_, len(rows))
    start = 0 if last is None else last + 1
    following = write_cursor(list_, start + limit - 1) if start + limit < len(rows) else None
    return Page(rows[start : start + limit], following)
