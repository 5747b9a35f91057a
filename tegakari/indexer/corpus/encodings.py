"""Character encodings of text files: the configured one, checked against the bytes."""

from __future__ import annotations

import codecs
import re
from io import BytesIO, TextIOWrapper
from pathlib import Path

from tegakari.schemas.errors import CorpusError

FIELD = "corpus.encoding"
SAMPLE_BYTES = 2**20
"""Bytes at the start of a file by which its encoding is checked."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_JAPANESE = re.compile(r"[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff60]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_BROKEN = re.compile(r"[\udc80-\udcff]")
_MIN_JAPANESE = 8
"""Characters; fewer are a damaged row of a file in ASCII."""
_MIN_JAPANESE_SHARE = 0.8
"""Of the characters beyond ASCII. EUC-JP read as cp932 is nearly all half-width katakana, which are not counted."""


def codec_name(encoding: str) -> str:
    """Python's name of an encoding of text.

    Raises:
        CorpusError: Python does not know it.
    """
    try:
        name = codecs.lookup(encoding).name
        TextIOWrapper(BytesIO(), encoding=name).close()
    except (LookupError, ValueError):
        raise CorpusError(
            f"{encoding!r} is not an encoding of text",
            field=FIELD,
            fix="use a name that Python knows, such as utf-8, cp932, euc_jp, utf-16 or cp1252",
        ) from None
    return name


def reading_codec(sample: bytes, encoding: str) -> str:
    """Codec that reads a file of an encoding, with or without a byte order mark.

    Args:
        sample: start of the file.
        encoding: a name of `codec_name`.
    """
    if encoding in ("utf-8", "utf-8-sig"):
        return "utf-8-sig"
    if encoding.startswith("utf-16") and sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return encoding


def check_encoding(path: Path, sample: bytes, encoding: str) -> None:
    """Compare the start of a text file with the encoding that it is read in.

    A few broken characters in a file of that encoding are no error: they invalidate their rows.

    Args:
        path: of the file, for the error.
        sample: its first SAMPLE_BYTES, decompressed.
        encoding: a name of `codec_name`.

    Raises:
        CorpusError: the bytes are of another encoding, which the error names.
    """
    detected = detected_encoding(sample)
    codec = reading_codec(sample, encoding)
    if detected is None or codec == ("utf-8-sig" if detected == "utf-8" else detected):
        return
    if detected != "utf-8" and codec != "utf-8-sig" and _decoded(sample, codec) is not None:
        return
    plain = path.name.removesuffix(".gz")
    unzipped = "gzip -dc" if plain != path.name else "cat"
    charset = detected.upper().replace("_", "-").replace("UTF-16-", "UTF-16").replace("ISO2022", "ISO-2022")
    convert = f"{unzipped} {path.name} | iconv -f {charset} -t UTF-8 > utf8-{plain}"
    raise CorpusError(
        f"{path} is not {encoding}: its bytes are those of {detected}",
        field=FIELD,
        fix=f'set corpus.encoding = "{detected}"' + ("" if detected == "utf-8" else f", or convert it: {convert}"),
    )


def detected_encoding(sample: bytes) -> str | None:
    """Encoding of the start of a file: UTF-8, UTF-16, UTF-32 or a Japanese one; None for ASCII and for others."""
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    for name in ("utf-16-le", "utf-16-be"):
        if _is_utf16(sample, name):
            return name
    if b"\x1b$B" in sample or b"\x1b$@" in sample:
        text = _decoded(sample, "iso2022_jp")
        return None if text is None else "iso2022_jp"  # its bytes are ASCII: nothing else says that they are not text
    text = sample.decode("utf-8", "surrogateescape")
    broken = len(_BROKEN.findall(text))
    valid = len(_NOT_ASCII.findall(text)) - broken
    if valid > broken:
        return "utf-8"
    for name in ("euc_jp", "cp932") if broken else ():
        text = _decoded(sample, name)
        if text is not None and _is_japanese(text):
            return name
    return None


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The text of a sample, which may end within a character; None if it is not of the encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeError:
        return None


def _is_japanese(text: str) -> bool:
    japanese = len(_JAPANESE.findall(text))
    return japanese >= _MIN_JAPANESE and japanese >= _MIN_JAPANESE_SHARE * len(_NOT_ASCII.findall(text))


def _is_utf16(sample: bytes, encoding: str) -> bool:
    """Whether a sample without a byte order mark is UTF-16: ASCII characters have a zero byte on one side."""
    high, low = (sample[1::2], sample[::2]) if encoding == "utf-16-le" else (sample[::2], sample[1::2])
    if not high.startswith(b"\0") or high.count(0) <= low.count(0):
        return False
    text = _decoded(sample, encoding)
    return text is not None and "\0" not in text and ("\n" in text or "\r" in text)
