"""Rows of JSON Lines files: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tegakari.indexer.corpus.lines import numbered_lines, open_text
from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Columns, Reject, Row

_MAX_KEYS = 1000


def read_jsonl(path: Path, columns: Columns, keys: dict[str, None]) -> Iterator[Row | Reject]:
    """Read the rows of a file. An object without a configured key has no value there; empty lines are not rows.

    Args:
        path: the file, plain or .gz.
        columns: the keys to read.
        keys: receives the keys of the objects. A configured key that no object of the source has is an error of the
            configuration, which the caller can detect after the last file.
    """
    configured = {name for name in columns if name}
    with open_text(path, newline="\n") as stream:
        for number, text in numbered_lines(stream):
            location = f"line {number}"
            if text is None:
                yield Reject(location, Reason.TOO_LARGE)
                continue
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                yield Reject(location, Reason.NOT_JSON)
                continue
            keys.update(dict.fromkeys(value.keys() & configured))
            if len(keys) < _MAX_KEYS:
                keys.update(dict.fromkeys(value))
            yield Row(location, *(value.get(name) if name else None for name in columns))
