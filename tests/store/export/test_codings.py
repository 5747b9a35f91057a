"""Content codings: what is compressed is what was sent, also by several threads at a time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from tegakari.store.export.codings import compress


@pytest.mark.parametrize(("coding", "codec"), [("gzip", "gzip"), ("br", "brotli"), ("zstd", "zstd")])
def test_threads_compress_at_the_same_time(coding: str, codec: str):
    """A codec that two threads share crashes the process."""
    bodies = [os.urandom(50_000) * 4 for _ in range(8)]

    def is_same(number: int) -> bool:
        body = bodies[number % 8]
        compressed = compress(body, coding)
        return pa.Codec(codec).decompress(compressed, len(body), asbytes=True) == body

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(is_same, range(80)))
