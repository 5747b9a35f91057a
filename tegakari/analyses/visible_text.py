"""Text of data on one line, with control characters that can be seen. Needs the standard library alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible_text(text: str) -> str:
    """Text on one line: a line feed is ⏎, a tab ⇥, another control character its picture or a replacement character."""
    return _CONTROLS.sub(lambda match: _picture(match[0]), text.replace("\r\n", "\n"))


def _picture(character: str) -> str:
    code = ord(character)
    if character in "\n\u2028\u2029":
        return "⏎"
    if character == "\t":
        return "⇥"
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"


def visible_token(token: str) -> str:
    """A token; if it consists of spaces, they are written as ␣."""
    return visible_text(token) if token.strip(" \u3000") else "␣" * max(1, len(token))


def visible_tokens(tokens: Iterable[str]) -> str:
    """Tokens without the spaces around them, separated by spaces."""
    return " ".join(visible_token(token.strip(" ") or token) for token in tokens)
