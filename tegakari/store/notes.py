"""Notes on features, stored beside the runs.

Runs are immutable, and a note is a person's work: it stays when its run is deleted, and belongs to the run again when
that is indexed from the same inputs. Every note is a file of its own, replaced whole under a lock, so that several
processes can write; a file that is damaged or a link is logged and left out.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec

from tegakari.schemas.api import Page
from tegakari.schemas.errors import NotFoundError, QueryError, StoreError
from tegakari.schemas.notes import NOTE_FORMAT, Note, NoteChange, StoredNote
from tegakari.schemas.run import RunManifest
from tegakari.store.disk.durable import translate_disk_full, write_atomically
from tegakari.store.disk.layout import notes_directory
from tegakari.store.field_checks import check_name, checked
from tegakari.store.folding import folded
from tegakari.store.note_files import all_notes, file_name, is_linked, note_entries, note_key, notes_on, read_note
from tegakari.store.queries.cursor import list_name, read_cursor, write_cursor
from tegakari.store.queries.parameters import check_limit, feature_place
from tegakari.store.reader import Run

MAX_NOTES = 10_000
"""Notes of a run."""


def write_note(run: Run, layer: int, feature: int, author: str, change: NoteChange) -> Note:
    """Change the note of an author on a feature, or write the first; a note with nothing in it is removed.

    Args:
        run: the run.
        layer: of the feature.
        feature: its number in the layer.
        author: of the note; that of the change is not read.
        change: what is new; of two changes of the same field the last one stays.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: a field has a value that is not allowed, or the run has MAX_NOTES notes.
        StoreError: the note cannot be written.
    """
    feature_place(run, layer, feature)
    change = _checked(msgspec.structs.replace(change, author=author))
    with _locked(run) as directory:
        file = directory / file_name(layer, feature, author)
        before = read_note(file, run.manifest)
        if before is None and sum(1 for _ in note_entries(directory)) >= MAX_NOTES:
            raise QueryError(f"run {run.name} has {MAX_NOTES:,} notes", field="note", fix="delete some")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        note = before or Note(layer=layer, feature=feature, author=author, created=now, updated=now)
        note = msgspec.structs.replace(note, updated=now, **_new_values(change))
        if note.empty:
            file.unlink(missing_ok=True)
        else:
            stored = StoredNote(format=NOTE_FORMAT, run=run.name, fingerprint=run.manifest.fingerprint, note=note)
            write_atomically(file, msgspec.json.format(msgspec.json.encode(stored), indent=1) + b"\n")
    return note


def delete_note(run: Run, layer: int, feature: int, author: str) -> Note:
    """Remove the note of an author on a feature, and return it.

    Raises:
        NotFoundError: no such layer, feature or note.
        StoreError: it cannot be removed.
    """
    feature_place(run, layer, feature)
    if _directory(run).is_dir():
        with _locked(run) as directory:
            file = directory / file_name(layer, feature, author)
            note = read_note(file, run.manifest)
            if note is not None:
                file.unlink()
                return note
    raise NotFoundError(
        f"{author!r} has no note on feature {layer}:{feature} of run {run.name}",
        field="author",
        fix="the list of notes shows the authors",
    )


def notes(
    run: Run,
    *,
    layer: int | None = None,
    feature: int | None = None,
    tag: str | None = None,
    starred: bool | None = None,
    author: str | None = None,
    q: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Note]:
    """Notes of a run that pass every filter, by layer, feature and author.

    Args:
        run: the run.
        layer: only notes on features of this layer.
        feature: only notes on features of this number.
        tag: only notes with this tag.
        starred: only notes with a star; False: without.
        author: only notes of this author.
        q: only notes with all these words in text or tags; case and width of characters are ignored.
        limit: rows per page.
        cursor: `next` of the page before; notes that were written since then appear in their place.

    Raises:
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    check_limit(limit)
    words = folded(q or "").split()
    list_ = list_name(run, "notes", layer, feature, tag, starred, author, words)
    last = read_cursor(cursor, list_, tuple[int, int, str]) if cursor else None
    rows = all_notes(run.store, run.manifest)
    matching = (
        note
        for note in rows[bisect_right(rows, last, key=note_key) if last else 0 :]
        if (layer is None or layer == note.layer)
        and (feature is None or feature == note.feature)
        and (tag is None or tag in note.tags)
        and (starred is None or starred == note.starred)
        and (author is None or author == note.author)
        and _has_words(note, words)
    )
    found = list(islice(matching, limit + 1))
    following = write_cursor(list_, note_key(found[limit - 1])) if len(found) > limit else None
    return Page(found[:limit], following)


def starred_features(run: Run, features: Collection[tuple[int, int]]) -> frozenset[tuple[int, int]]:
    """Those of some features, each by layer and number, that have a star of anybody."""
    found = notes_on(run.store, run.manifest, features)
    return frozenset((note.layer, note.feature) for note in found if note.starred)


def count_notes(store: Path, manifest: RunManifest) -> int:
    """Number of files of notes of a run."""
    return sum(1 for _ in note_entries(notes_directory(store, manifest)))


def _has_words(note: Note, words: list[str]) -> bool:
    text = folded("\n".join((note.text, *note.tags))) if words else ""
    return all(word in text for word in words)


def _checked(change: NoteChange) -> NoteChange:
    """The change, with line feeds alone as line breaks and every tag once.

    Raises:
        QueryError: a field has a value that is not allowed.
    """
    change = checked(change)
    check_name("author", change.author or "")
    for number, tag in enumerate(change.tags or ()):
        check_name(f"tags[{number}]", tag, ",")
    text = None if change.text is None else change.text.replace("\r\n", "\n").replace("\r", "\n").strip()
    tags = None if change.tags is None else list(dict.fromkeys(change.tags))
    return msgspec.structs.replace(change, text=text, tags=tags)


def _new_values(change: NoteChange) -> dict[str, object]:
    values = {"starred": change.starred, "tags": change.tags, "text": change.text}
    return {name: value for name, value in values.items() if value is not None}


def _directory(run: Run) -> Path:
    return notes_directory(run.store, run.manifest)


@contextmanager
def _locked(run: Run) -> Iterator[Path]:
    """The directory of a run's notes, made if it is missing; only one process at a time writes in it.

    Raises:
        StoreError: it is a link, or cannot be written.
    """
    directory = _directory(run)
    if is_linked(directory):
        raise StoreError("cannot write notes: their directory is a link", field="note", fix="put a directory there")
    try:
        with translate_disk_full(run.store, field="note", fix="make space and write the note again"):
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield directory
            finally:
                os.close(lock)
    except OSError as error:
        raise StoreError(
            f"cannot write notes: {error.strerror or error}",
            field="note",
            fix="make the store's directory `notes` writable",
        ) from None
