"""Opaque keyset cursors: the sort key of the last row, so that a page costs the same wherever it starts."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from tegakari.schemas.api import Page
from tegakari.schemas.errors import CursorError
from tegakari.store.queries.parameters import check_limit

T = TypeVar("T")


def write_cursor(question: str, key: object) -> str:
    """Pack the key of a page's last row; `question` names what was asked, so that no other list accepts it."""
    return base64.urlsafe_b64encode(msgspec.json.encode((question, key))).decode().rstrip("=")


def read_cursor(cursor: str, question: str, key_type: type[T]) -> T:
    """Unpack a cursor.

    Raises:
        CursorError: it is damaged, or belongs to another question.
    """
    error = CursorError("not a cursor of this list", field="cursor", fix="use `next` of the page before, unchanged")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        asked, key = msgspec.json.decode(raw, type=tuple[str, msgspec.Raw])
        if asked != question:
            raise error
        return msgspec.json.decode(key, type=key_type)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise error from None


def _page(rows: list[T], question: str, limit: int, cursor: str | None) -> Page[T]:
    """A page of a list that is short enough to be made whole; the cursor is the place of its last row."""
    check_limit(limit)
    at = _number(cursor, question, len(rows)) + 1 if cursor else 0
    following = write_cursor(question, at + limit - 1) if at + limit < len(rows) else None
    return Page(rows[at : at + limit], following)


def _number(cursor: str, question: str, below: int) -> int:
    number = read_cursor(cursor, question, int)
    if not 0 <= number < below:
        raise _foreign()
    return number


def _foreign() -> CursorError:
    return CursorError("not a cursor of this list", field="cursor", fix="use `next` of the page before, unchanged")
