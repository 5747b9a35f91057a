"""Compression of answers, with the codecs that Arrow brings."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from tegakari.service.http.headers import preferences

_CODECS = {
    "zstd": pa.Codec("zstd", compression_level=3),
    "br": pa.Codec("brotli", compression_level=4),
    "gzip": pa.Codec("gzip", compression_level=5),
}
"""By content coding, the one preferred among equals first."""

WORTHWHILE = 1024
"""Bytes from which an answer is compressed."""

_TEXTUAL = (b"application/json", b"application/problem+json", b"application/vnd.oai", b"text/", b"image/svg")


@lru_cache(maxsize=256)
def coding_of(accept_encoding: str) -> str | None:
    """The content coding for a client that accepts these; None = as it is."""
    accepted = preferences(accept_encoding)
    return next((coding for coding in _CODECS if coding in accepted), None)


def is_textual(content_type: bytes) -> bool:
    """Whether answers of a type shrink; Parquet is compressed already."""
    return content_type.startswith(_TEXTUAL)


def compress(body: bytes, coding: str) -> bytes:
    """Encode a body by one of the codings that `coding_of` gives."""
    return _CODECS[coding].compress(body, asbytes=True)
