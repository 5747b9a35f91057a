"""Names as segments of a path: of labels and documents, which may contain any character.

Clients and proxies remove the segments `.` and `..` from a path, also where they are spelled `%2E` (RFC 3986, 5.2.4;
the URL standard of browsers). A name that is one of these therefore stands in a path as its percent-encoding, which is
encoded like any other name: `..` is `%2E%2E` and its segment `%252E%252E`. A name that looks like such an encoding is
encoded once more, so that every segment stands for one name.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

_DOTS = re.compile(r"\.{1,2}")
_ENCODED_DOTS = re.compile(r"(%(25)*2E){1,2}", re.IGNORECASE)


def segment_of(name: str) -> str:
    """A name as a segment of a path, percent-encoded."""
    if _DOTS.fullmatch(name):
        name = name.replace(".", "%2E")
    elif _ENCODED_DOTS.fullmatch(name):
        name = quote(name, safe="")
    return quote(name, safe="")


def name_of(segment: str) -> str:
    """The name that a segment of a path stands for; `.` and `..` themselves are accepted as well."""
    name = unquote(segment)
    return unquote(name) if _ENCODED_DOTS.fullmatch(name) else name
