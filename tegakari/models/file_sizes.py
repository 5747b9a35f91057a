"""Sizes of the files of a model or SAE, checked before anything is read: a small file can claim to be a large one."""

from __future__ import annotations

import zipfile
from itertools import islice
from pathlib import Path

from tegakari.schemas.errors import ModelError, SaeError

MAX_ENTRIES = 10_000
"""Largest number of files and directories below the directory of a model or of SAEs."""

MAX_UNPACKED_RATIO = 4
"""Largest ratio of the content of an archive of weights to its file; weights hardly compress."""

_LARGE = 2**26
"""Bytes of files that are checked."""


def entries_below(directory: Path) -> list[Path]:
    """All entries below a directory, sorted.

    Raises:
        ModelError: there are more than MAX_ENTRIES, as below the root of a file system.
    """
    entries = list(islice(directory.rglob("*"), MAX_ENTRIES + 1))
    if len(entries) > MAX_ENTRIES:
        raise ModelError(
            f"{directory} has more than {MAX_ENTRIES:,} files", field="run", fix="name the directory of one model"
        )
    return sorted(entries)


def has_holes(file: Path) -> bool:
    """Whether most of a large file is not on the disk; it reads as zeros, which are no weights."""
    state = file.stat()
    return state.st_size > _LARGE and state.st_blocks * 512 < state.st_size / 2


_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is what a clone without Git LFS has in place of a large file: its hash and size."""
    with file.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def check_weights_file(file: Path) -> None:
    """Refuse a file of weights that has far fewer bytes than it claims.

    Raises:
        SaeError: a Git LFS pointer, a file with holes, or an archive whose content is much larger.
    """
    if is_lfs_pointer(file):
        raise SaeError(
            "it is a Git LFS pointer, not the file itself",
            field=file.name,
            fix="run `git lfs pull` in the clone, or download the files with `hf download`",
        )
    if has_holes(file):
        raise SaeError(
            f"most of its {file.stat().st_size:,} bytes are not on the disk", field=file.name, fix="copy it again"
        )
    if file.suffix in (".npz", ".pt") and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > max(_LARGE, MAX_UNPACKED_RATIO * file.stat().st_size):
            raise SaeError(
                f"it has {file.stat().st_size:,} bytes and unpacks to {size:,}",
                field=file.name,
                fix="save the weights without compression",
            )
