"""Content codings of HTTP, with the codecs that Arrow brings."""

from __future__ import annotations

import pyarrow as pa

_CODECS = {
    "zstd": pa.Codec("zstd", compression_level=3),
    "br": pa.Codec("brotli", compression_level=4),
    "gzip": pa.Codec("gzip", compression_level=5),
}

CODINGS = tuple(_CODECS)
"""In order of preference among codings that a client weighs equally."""

MIN_COMPRESSED_BYTES = 1024
"""Smaller bodies are not compressed."""


def compress(body: bytes | pa.Buffer, coding: str) -> bytes:
    """Compress a body with one of CODINGS; other threads run meanwhile."""
    return _CODECS[coding].compress(body, asbytes=True)
