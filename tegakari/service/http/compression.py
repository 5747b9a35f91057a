"""Compression of responses, with the codecs that Arrow brings."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from tegakari.service.http.headers import MAX_PREFERENCES, preferences

_CODECS = {"zstd": ("zstd", 3), "br": ("brotli", 4), "gzip": ("gzip", 5)}
"""Name of Arrow's codec and level by content coding, in order of preference among codings of equal weight."""

MIN_COMPRESSED_BYTES = 1024
"""Smaller bodies are not compressed."""

_TEXTUAL = (b"application/json", b"application/problem+json", b"application/vnd.oai", b"text/", b"image/svg")


def coding_of(accept_encoding: str) -> str | None:
    """The content coding for a value of Accept-Encoding; None: no compression."""
    return _coding(accept_encoding[:MAX_PREFERENCES])  # the cache holds no long texts


@lru_cache(maxsize=256)
def _coding(accept_encoding: str) -> str | None:
    accepted = preferences(accept_encoding)
    return next((coding for coding in _CODECS if coding in accepted), None)


def is_textual(content_type: bytes) -> bool:
    """Whether bodies of a content type shrink; Parquet is compressed already."""
    return content_type.startswith(_TEXTUAL)


def compress(body: bytes, coding: str) -> bytes:
    """Compress a body with a coding that `coding_of` returned."""
    name, level = _CODECS[coding]
    # A codec per body: two threads that compress with one crash the process, or spoil it for all later bodies.
    return pa.Codec(name, compression_level=level).compress(body, asbytes=True)
