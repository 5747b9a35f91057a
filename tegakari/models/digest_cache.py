"""SHA-256 of large files, remembered between processes in the user's cache directory."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

LARGE = 2**24
"""Bytes from which a file's digest is remembered: smaller files are read in milliseconds."""

_SETTLED = 2.0
"""Seconds since its last change after which a file's times tell a later change from it on every file system."""


class _Entry(msgspec.Struct, frozen=True):
    """A digest, and what the system said of the file when it was read. Every write changes `ctime_ns`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    sha256: str = ""

    def is_of(self, state: _Entry) -> bool:
        return msgspec.structs.replace(self, sha256="") == state


def cached_digests(files: Sequence[Path], compute: Callable[[list[Path]], Iterable[bytes]]) -> list[bytes]:
    """SHA-256 of files, computed where it is not remembered.

    A file is known by its path, size, times of change, device and inode. The cache is a convenience: it is left out
    where it cannot be read or written.

    Args:
        files: the files.
        compute: gives the digests of files.
    """
    cache_file = _cache_file()
    cache = _read(cache_file) if cache_file else {}
    states = {file: _state(file) for file in files}
    digests: dict[Path, bytes] = {}
    for file, state in states.items():
        entry = cache.get(str(file.resolve()))
        if entry is not None and entry.is_of(state):
            digests[file] = bytes.fromhex(entry.sha256)
    missing = [file for file in files if file not in digests]
    digests |= zip(missing, compute(missing), strict=True)
    settled = time.time_ns() - _SETTLED * 1e9
    new = {
        str(file.resolve()): msgspec.structs.replace(states[file], sha256=digests[file].hex())
        for file in missing
        if states[file].size >= LARGE and states[file].ctime_ns < settled and states[file] == _state(file)
    }
    if cache_file and new:
        _write(cache_file, new)
    return [digests[file] for file in files]


def _cache_file() -> Path | None:
    """None: this user has no home directory."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tegakari" / "sha256.json"
    except RuntimeError:
        return None


def _state(file: Path) -> _Entry:
    stat = file.stat()
    return _Entry(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino)


def _read(cache_file: Path) -> dict[str, _Entry]:
    try:
        return msgspec.json.decode(cache_file.read_bytes(), type=dict[str, _Entry])
    except (OSError, msgspec.DecodeError):
        return {}


def _write(cache_file: Path, new: dict[str, _Entry]) -> None:
    """Add entries, and drop those of files that are gone."""
    entries = {path: entry for path, entry in _read(cache_file).items() if Path(path).is_file()} | new
    part = cache_file.with_name(f".{cache_file.name}.{secrets.token_hex(8)}")
    with suppress(OSError):
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.format(msgspec.json.encode(entries)))
        part.replace(cache_file)
