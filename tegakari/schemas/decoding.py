"""JSON of others, decoded: whatever is wrong with it is one error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(content: bytes | str, kind: type[T]) -> T:
    """Decode JSON into a type.

    Raises:
        msgspec.DecodeError: it is not JSON in UTF-8, is nested too deeply, or has another shape.
    """
    try:
        # The decoder alone skips what it does not decode, `msgspec.Raw` included, without a look at its characters.
        text = content if isinstance(content, str) else content.decode("utf-8")
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("JSON is nested too deeply") from None
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise msgspec.DecodeError(f"JSON is not UTF-8: {error.reason}") from None
