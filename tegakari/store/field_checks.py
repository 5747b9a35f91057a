"""Fields that people write: their values are those that schema and lists of names allow."""

from __future__ import annotations

import unicodedata
from typing import TypeVar

import msgspec

from tegakari.schemas.errors import QueryError

T = TypeVar("T", bound=msgspec.Struct)

_BREAKS = ("Cc", "Zl", "Zp")
"""Categories of Unicode: control characters, separators of lines and paragraphs."""


def checked(change: T) -> T:
    """What someone writes, where every field has a value that its type allows.

    Raises:
        QueryError: names the field and the value.
    """
    try:
        change = msgspec.convert(msgspec.to_builtins(change), type(change))
        msgspec.json.encode(change)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`")
        value = getattr(change, field.partition("[")[0], None)
        shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}…"
        raise QueryError(
            f"{shown} is not allowed: {reason}", field=field, fix="see the limits in docs/api.md"
        ) from None
    except UnicodeEncodeError:
        raise QueryError("the text has half of a surrogate pair", field="text", fix="send valid Unicode") from None
    return change


def check_name(field: str, name: str, excluded: str = "") -> None:
    """Refuse an author or a tag with characters that lists of names cannot have.

    Raises:
        QueryError: names the field.
    """
    breaks = [letter for letter in name if letter in excluded or unicodedata.category(letter) in _BREAKS]
    if breaks or name != name.strip():
        what = f"contains {breaks[0]!r}" if breaks else "has spaces around it"
        raise QueryError(f"{name!r} {what}", field=field, fix="leave these characters out")
