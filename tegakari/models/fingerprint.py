"""Fingerprint of a model or SAE directory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tegakari.models.digest_cache import cached_digests
from tegakari.models.file_sizes import entries_below

_COMPUTED_FROM = {".safetensors", ".json", ".npz", ".pt", ".model"}
"""Suffixes of the files that decide what a model or SAE computes: weights, configurations, tokenizers."""

_REPORTS = {"report.json", "training.json"}
"""Files that tegakari writes beside a model about its training; they decide nothing."""


def model_files(directory: Path) -> list[Path]:
    """The files that decide what a model or SAE computes, sorted.

    Raises:
        ModelError: it has more entries than a directory of a model.
    """
    return [
        file
        for file in entries_below(directory)
        if file.suffix in _COMPUTED_FROM and file.name not in _REPORTS and file.is_file()
    ]


def size_of(files: Sequence[Path]) -> int:
    """Bytes of files together."""
    return sum(file.stat().st_size for file in files)


def fingerprint(directory: Path, files: Sequence[Path] | None = None) -> str:
    """SHA-256 of the names and contents of files, as hexadecimal.

    Files are read in parallel; the digest of a large file that has not changed since it was read is not computed again.

    Args:
        directory: of the model or the SAEs; names are relative to it.
        files: below it, sorted; None: those of `model_files`.
    """
    files = model_files(directory) if files is None else files
    digest = hashlib.sha256()
    for file, file_digest in zip(files, file_digests(files), strict=True):
        digest.update(file.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(file_digest)
    return digest.hexdigest()


def file_digests(files: Sequence[Path]) -> list[bytes]:
    """SHA-256 of each file's content."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sha256") as pool:
        return cached_digests(files, lambda missing: pool.map(_digest, missing))


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
