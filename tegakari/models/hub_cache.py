"""The Hugging Face hub's cache on disk: the revision of a directory in it, and files that are not what the hub has.

Layout: `models--OWNER--NAME/snapshots/REVISION/...`, whose files are links to `blobs/HASH`. HASH is the SHA-256 of a
file that the hub stores with Git LFS, and git's hash of a smaller one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tegakari.models.fingerprint import file_digests
from tegakari.schemas.errors import ModelError, SaeError
from tegakari.schemas.run import HubRevision

_SNAPSHOTS = "snapshots"
_REPOSITORY = re.compile(r"^models--(.+)$")
_REVISION = re.compile(r"^[0-9a-f]{40}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


def error_of(field: str) -> type[ModelError] | type[SaeError]:
    """Class of errors about the model that a configuration key names."""
    return SaeError if field.startswith("saes.") else ModelError


def hub_revision(directory: Path) -> HubRevision | None:
    """Repository and revision of a directory in a hub's cache; None: it is in none."""
    for revision in (directory, *directory.parents):
        repository = _REPOSITORY.match(revision.parent.parent.name)
        if revision.parent.name == _SNAPSHOTS and repository and _REVISION.match(revision.name):
            return HubRevision(repository=repository[1].replace("--", "/"), revision=revision.name)
    return None


def snapshot_directory(directory: Path, field: str) -> Path:
    """The snapshot of a repository's directory in a hub's cache: of `main`, or the only one; else the directory itself.

    Raises:
        ModelError, SaeError: by the field: there are several snapshots, and none is that of `main`.
    """
    if not _REPOSITORY.match(directory.name) or not (directory / _SNAPSHOTS).is_dir():
        return directory
    snapshots = sorted(path for path in (directory / _SNAPSHOTS).iterdir() if path.is_dir())
    main = directory / "refs" / "main"
    current = directory / _SNAPSHOTS / main.read_text(encoding="utf-8").strip() if main.is_file() else None
    if current in snapshots:
        return current
    if len(snapshots) != 1:
        raise error_of(field)(
            f"{directory} has {len(snapshots)} snapshots, and none of them is main",
            field=field,
            fix=f"name one of: {', '.join(str(path) for path in snapshots)}" if snapshots else "download it again",
        )
    return snapshots[0]


def check_blobs(files: Sequence[Path], field: str) -> None:
    """Compare files of a hub's cache with the hashes that they are named after; other files are not looked at.

    Raises:
        ModelError, SaeError: by the field: the content of a file is not that of its hash.
    """
    blobs = {file: file.resolve().name for file in files if file.is_symlink()}
    large = [file for file, name in blobs.items() if _SHA256.match(name)]
    digests = dict(zip(large, file_digests(large), strict=True))
    for file, name in blobs.items():
        if file in digests:
            content = digests[file].hex()
        elif _REVISION.match(name):
            data = file.read_bytes()
            content = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        else:
            continue
        if content != name:
            raise error_of(field)(
                f"{file} is damaged: its hash is {content}, the hub's is {name}",
                field=field,
                fix=f"delete {file.resolve()} and download it again",
            )
