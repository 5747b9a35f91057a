"""Answers of language models on disk, by the hash of model and prompt: the same question is asked once."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tegakari.analyses.explanations.endpoint import Answer, Prompt
from tegakari.schemas.errors import StoreError
from tegakari.store.disk.durable import translate_disk_full
from tegakari.store.disk.layout import answers_file

_SECONDS = 30
"""Time for which a process waits for another one that writes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, prompt_version TEXT NOT NULL, answer TEXT NOT NULL, created TEXT NOT NULL
) STRICT
"""


class AnswerCache:
    """Answers of language models. Several processes may use the same file."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file

    def get(self, model: str, prompt: Prompt) -> Answer | None:
        """The answer of a model to a prompt; None: it has not been asked.

        Raises:
            StoreError: the file is damaged.
        """
        with _translate_errors(self._file):
            row = self._connection.execute(
                "SELECT answer FROM answers WHERE key = ?", [key_of(model, prompt)]
            ).fetchone()
        try:
            return None if row is None else msgspec.json.decode(row[0], type=Answer)
        except msgspec.DecodeError:
            return None

    def put(self, model: str, prompt: Prompt, answer: Answer) -> None:
        """Store an answer; it outlives the process at once, and the machine once the block of `open_cache` ends.

        Raises:
            DiskFullError: no space.
            StoreError: the file is damaged, or cannot be written.
        """
        row = (key_of(model, prompt), model, prompt.version, msgspec.json.encode(answer).decode(), _now())
        with _translate_errors(self._file):
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)


@contextmanager
def open_cache(store: Path) -> Iterator[AnswerCache]:
    """The answers of a store; the file is made if it is missing.

    Raises:
        StoreError: the file is a link or damaged, or cannot be written.
    """
    file = answers_file(store)
    if file.is_symlink() or file.parent.is_symlink():
        raise StoreError(f"cannot use {file.name}: it is a link", field="store", fix="remove the link")
    with _translate_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=_SECONDS, isolation_level=None)
    with closing(connection):
        with _translate_errors(file):
            # With a write-ahead log, an answer costs no flush of the disk, and a killed process loses none.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute(_SCHEMA)
        yield AnswerCache(connection, file)


def key_of(model: str, prompt: Prompt) -> str:
    """SHA-256 of everything that an answer depends on: model, messages, schema and length."""
    content = msgspec.json.encode((model, prompt.messages, prompt.schema, prompt.max_tokens), order="deterministic")
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _translate_errors(file: Path) -> Iterator[None]:
    """Translate errors of the library and the system.

    Raises:
        DiskFullError: no space.
        StoreError: anything else.
    """
    try:
        with translate_disk_full(file.parent, field="store"):
            try:
                yield
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname == "SQLITE_FULL":
                    raise OSError(28, "No space left on device") from error
                raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"the answers in {file} cannot be used: {error}",
            field="store",
            fix="make the directory writable; a damaged file can be deleted: its answers are asked for again",
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
