"""JSON Lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tegakari.indexer.corpus.lines import numbered_lines, open_text
from tegakari.indexer.corpus.reasons import Reason
from tegakari.indexer.corpus.rows import Columns, Reject, Row

_KEYS_REMEMBERED = 1000


def read_jsonl(path: Path, columns: Columns, keys: dict[str, None]) -> Iterator[Row | Reject]:
    """Read one file. An object without a configured key has no value there; empty lines are no rows.

    Args:
        path: the file, .gz or not.
        columns: the keys to read.
        keys: gains the keys that were met; a configured one that is in no object of the source is an error of the
            configuration, which only the caller can tell, at the end of the last file.
    """
    wanted = {name for name in columns if name}
    with open_text(path, newline="\n") as stream:
        for number, text in numbered_lines(stream):
            where = f"line {number}"
            if text is None:
                yield Reject(where, Reason.TOO_LARGE)
                continue
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                yield Reject(where, Reason.NOT_JSON)
                continue
            keys.update(dict.fromkeys(value.keys() & wanted))
            if len(keys) < _KEYS_REMEMBERED:
                keys.update(dict.fromkeys(value))
            yield Row(where, *(value.get(name) if name else None for name in columns))
