"""Files of notes, `notes/<run>-<fingerprint>/<layer>-<feature>-<author>.json`, and what a process has read of them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.notes import Note, StoredNote
from tegakari.schemas.run import RunManifest
from tegakari.store.disk.contents import read_bounded
from tegakari.store.disk.layout import notes_directory

MAX_FILE = 256 * 2**10
"""Maximum size of the file of a note in bytes."""

MAX_CACHED = 32 * 2**20
"""Size of the files whose notes a process has in memory, in bytes; those of the directories that were read last."""

SETTLED_NS = 100_000_000
"""What changed less than this time ago may change again at the same time, by the clock of its file system."""

_FILE = re.compile(r"(\d{1,9})-(\d{1,9})-[0-9a-f]{16}\.json")

log = structlog.get_logger()


def file_name(layer: int, feature: int, author: str) -> str:
    """Name of the file of an author's note on a feature."""
    digest = hashlib.sha256(author.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{layer}-{feature}-{digest}.json"


def is_linked(directory: Path) -> bool:
    """Whether the directory of a run's notes, or the one above, is a link, which would lead out of the store."""
    return directory.is_symlink() or directory.parent.is_symlink()


def note_entries(directory: Path, selected: Callable[[int, int], bool] = lambda *_: True) -> Iterator[os.DirEntry[str]]:
    """Entries of notes on selected features, by layer and number; none where the directory is a link."""
    if is_linked(directory):
        log.warning("notes left out", directory=directory.name, reason="the directory is a link")
        return
    try:
        with os.scandir(directory) as entries:  # paths of 10,000 entries take ten times as long
            for entry in entries:
                match = _FILE.fullmatch(entry.name)
                if match and selected(int(match[1]), int(match[2])):
                    yield entry
    except (FileNotFoundError, NotADirectoryError):
        return


def all_notes(store: Path, manifest: RunManifest) -> list[Note]:
    """Notes of a run by layer, feature and author; files that cannot be read are logged and left out."""
    return _listings.notes(notes_directory(store, manifest), manifest)


def notes_on(store: Path, manifest: RunManifest, features: Collection[tuple[int, int]]) -> Iterator[Note]:
    """Notes on some features of a run, each by layer and number, in no order; of many notes only these are read."""
    directory = notes_directory(store, manifest)
    wanted = frozenset(features)
    listed = _listings.unchanged(directory)
    if listed is not None:
        yield from (note for note in listed if (note.layer, note.feature) in wanted)
        return
    for entry in note_entries(directory, lambda *feature: feature in wanted):
        note = read_note(Path(entry.path), manifest)
        if note is not None:
            yield note


def note_key(note: Note) -> tuple[int, int, str]:
    """What notes are sorted by."""
    return note.layer, note.feature, note.author


def read_note(file: Path, manifest: RunManifest) -> Note | None:
    """The note in a file; None: it is missing, or it is damaged, which is logged."""
    try:
        stored = decode_json(read_bounded(file, MAX_FILE), StoredNote)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("note left out", file=file.name, reason=str(error))
        return None
    note = stored.note
    if stored.fingerprint != manifest.fingerprint or file.name != file_name(note.layer, note.feature, note.author):
        log.warning("note left out", file=file.name, reason="it belongs to another run, feature or author")
        return None
    return note


class _File(NamedTuple):
    """A file of a listing."""

    identity: tuple[int, ...]
    """inode, size and times"""
    note: Note | None
    """None: it is damaged"""


class _Listing(NamedTuple):
    """What a directory had when it was read."""

    state: tuple[int, ...] | None
    """its inode and times; None: it had just changed, and may change again without new times"""
    files: dict[str, _File]
    """by name"""
    notes: list[Note]
    """sorted"""
    size: int
    """of the files, in bytes"""


class NoteListings:
    """Notes by directory. Every change of a note replaces its file, which gives the directory other times.

    A file that is edited in its place is read again with the next change of a note.
    """

    def __init__(self) -> None:
        self._listings: dict[Path, _Listing] = {}
        self._lock = threading.Lock()

    def unchanged(self, directory: Path) -> list[Note] | None:
        """The sorted notes of a directory that did not change since it was read; None: it was not, or did."""
        listing = self._listings.get(directory)
        return listing.notes if listing and listing.state and listing.state == _state(directory) else None

    def notes(self, directory: Path, manifest: RunManifest) -> list[Note]:
        """The sorted notes of a directory; files are read that are new or have changed."""
        notes = self.unchanged(directory)
        return self._read(directory, manifest).notes if notes is None else notes

    def _read(self, directory: Path, manifest: RunManifest) -> _Listing:
        state, now = _state(directory), time.time_ns()  # before reading: a change meanwhile shows as another state
        before = self._listings.get(directory)
        files: dict[str, _File] = {}
        size = 0
        for entry in note_entries(directory):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            identity = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            file = before.files.get(entry.name) if before else None
            if file is None or file.identity != identity or now - status.st_ctime_ns < SETTLED_NS:
                file = _File(identity, read_note(Path(entry.path), manifest))
            files[entry.name] = file
            size += status.st_size
        notes = sorted((file.note for file in files.values() if file.note is not None), key=note_key)
        settled = state is not None and now - state[-1] > SETTLED_NS
        listing = _Listing(state if settled else None, files, notes, size)
        self._keep(directory, listing)
        return listing

    def _keep(self, directory: Path, listing: _Listing) -> None:
        with self._lock:
            self._listings.pop(directory, None)
            self._listings[directory] = listing
            while self.size > MAX_CACHED:
                self._listings.pop(next(iter(self._listings)))

    @property
    def size(self) -> int:
        """Of the files whose notes are in memory, in bytes."""
        return sum(listing.size for listing in self._listings.values())


def _state(directory: Path) -> tuple[int, ...] | None:
    """Inode and times of a directory; None: there is none, or it is a link."""
    try:
        status = directory.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if is_linked(directory) else (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


_listings = NoteListings()
