"""Numbered lines of a text file, of bounded length; decoding never fails."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from tegakari.indexer.corpus.decoded_size import DecodedSize
from tegakari.indexer.corpus.encodings import SAMPLE_BYTES, check_encoding, reading_codec

MAX_ROW_CHARACTERS = 64 * 2**20
"""Maximum length of a row. A longer row is a file without line ends or an open quote, not a post."""


class Line(NamedTuple):
    """One line, its line end included."""

    number: int
    """from 1."""
    text: str | None
    """None if the line exceeds MAX_ROW_CHARACTERS."""


@contextmanager
def open_text(path: Path, *, newline: str, encoding: str = "utf-8") -> Iterator[TextIO]:
    r"""Open a file, gzip for .gz, with or without a byte order mark.

    Bytes that are not of the encoding become lone surrogates, so that they invalidate one row and not the file.

    Args:
        path: the file.
        newline: as for `open`: "" ends a line at \n, \r or \r\n; "\n" at \n alone.
        encoding: a name of `codec_name`.

    Raises:
        CorpusError: the file has another encoding.
    """
    with _bytes_of(path) as content:
        sample = content.read(SAMPLE_BYTES)
    check_encoding(path, sample, encoding)
    codec = reading_codec(sample, encoding)
    with (
        _bytes_of(path) as content,
        TextIOWrapper(content, encoding=codec, errors="surrogateescape", newline=newline) as stream,
    ):
        yield stream


@contextmanager
def _bytes_of(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed."""
    with path.open("rb") as file:
        yield gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file  # pyright: ignore[reportReturnType]


def numbered_lines(stream: TextIO, decoded: DecodedSize) -> Iterator[Line]:
    """All lines of a stream, empty lines included.

    Args:
        stream: of a file.
        decoded: of the same file.

    Raises:
        CorpusError: the file decodes to far more bytes than it has.
    """
    number = 0
    while text := stream.readline(MAX_ROW_CHARACTERS):
        number += 1
        decoded.add(len(text))
        whole = len(text) < MAX_ROW_CHARACTERS or text.endswith(("\n", "\r"))
        yield Line(number, text if whole else None)
        while not whole:
            rest = stream.readline(MAX_ROW_CHARACTERS)
            decoded.add(len(rest))
            whole = len(rest) < MAX_ROW_CHARACTERS or rest.endswith(("\n", "\r"))
