"""Content codings of HTTP, with the codecs that Arrow brings."""

from __future__ import annotations

import pyarrow as pa

_CODECS = {"zstd": ("zstd", 3), "br": ("brotli", 4), "gzip": ("gzip", 5)}
"""Name of Arrow's codec and level, by content coding."""

CODINGS = tuple(_CODECS)
"""In order of preference among codings that a client weighs equally."""

MIN_COMPRESSED_BYTES = 1024
"""Smaller bodies are not compressed."""


def compress(body: bytes | pa.Buffer, coding: str) -> bytes:
    """Compress a body with one of CODINGS; other threads run meanwhile."""
    name, level = _CODECS[coding]
    # A codec per body: two threads that compress with one crash the process, or spoil it for all later bodies.
    return pa.Codec(name, compression_level=level).compress(body, asbytes=True)
