"""Rows of JSON Lines files: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tegakari.indexer.corpus.decoded_size import DecodedSize
from tegakari.indexer.corpus.lines import numbered_lines, open_text
from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Columns, Reject, Row

_MAX_KEYS = 1000

_LONG_LINE = 2**20
"""Characters of a line above which only the configured keys are decoded: `[],[],...` takes 20 times as much."""


_MAX_LIST = 256
"""Bytes of a list that is decoded in a long line."""


def read_jsonl(path: Path, columns: Columns, keys: dict[str, None], encoding: str) -> Iterator[Row | Reject]:
    """Read the rows of a file. An object without a configured key has no value there; empty lines are not rows.

    Args:
        path: the file, plain or .gz.
        columns: the keys to read.
        keys: receives the keys of the objects. A configured key that no object of the source has is an error of the
            configuration, which the caller can detect after the last file.
        encoding: a name of `codec_name`.

    Raises:
        CorpusError: the file decodes to far more bytes than it has, or has another encoding.
    """
    configured = {name for name in columns if name}
    decode_long = _decoder_of(sorted(configured))
    with open_text(path, newline="\n", encoding=encoding) as stream:
        for number, text in numbered_lines(stream, DecodedSize(path)):
            location = f"line {number}"
            if text is None:
                yield Reject(location, Reason.TOO_LARGE)
                continue
            if not text.strip():
                continue
            try:
                value = json.loads(text) if len(text) <= _LONG_LINE else decode_long.decode(text)
            except (ValueError, RecursionError):  # msgspec's is a ValueError
                value = None
            if isinstance(value, msgspec.Struct):
                value = _values(value)
            if not isinstance(value, dict):
                yield Reject(location, Reason.NOT_JSON)
                continue
            keys.update(dict.fromkeys(value.keys() & configured))
            if len(keys) < _MAX_KEYS:
                keys.update(dict.fromkeys(value))
            yield Row(location, *(value.get(name) if name else None for name in columns))


def _decoder_of(names: list[str]) -> msgspec.json.Decoder[Any]:
    """Decoder of objects that leaves all but these keys undecoded."""
    fields = [(f"key_{number}", msgspec.Raw, msgspec.Raw()) for number in range(len(names))]
    keys = {field[0]: name for field, name in zip(fields, names, strict=True)}
    return msgspec.json.Decoder(msgspec.defstruct("_Object", fields, rename=keys))


def _values(raw: msgspec.Struct) -> Mapping[str, object] | None:
    """Values of the keys that an object has; two nulls for a list or an object that is too long for one label."""
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(raw):
        text = bytes(getattr(raw, field.name))
        if text:
            is_long = text[:1] in b"[{" and len(text) > _MAX_LIST
            values[field.encode_name] = [None, None] if is_long else json.loads(text)
    return values
