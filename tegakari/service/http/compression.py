"""Compression of responses."""

from __future__ import annotations

from functools import lru_cache

from tegakari.service.http.headers import MAX_PREFERENCES, preferences
from tegakari.store.export.codings import CODINGS

_TEXTUAL = (b"application/json", b"application/problem+json", b"application/vnd.oai", b"text/", b"image/svg")


def coding_of(accept_encoding: str) -> str | None:
    """The content coding for a value of Accept-Encoding; None: no compression."""
    return _coding(accept_encoding[:MAX_PREFERENCES])  # the cache holds no long texts


@lru_cache(maxsize=256)
def _coding(accept_encoding: str) -> str | None:
    accepted = preferences(accept_encoding)
    return next((coding for coding in CODINGS if coding in accepted), None)


def is_textual(content_type: bytes) -> bool:
    """Whether bodies of a content type shrink; Parquet is compressed already."""
    return content_type.startswith(_TEXTUAL)
