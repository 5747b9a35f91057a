"""SHA-256 of the files that decide what a model or SAE computes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tegakari.models.classifier import _COMPUTES, _REPORTS


def fingerprint(directory: Path) -> str:
    """SHA-256 over the names and contents of the files that decide what a model or SAE computes; reports do not."""
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file.suffix in _COMPUTES and file.name not in _REPORTS:
            digest.update(file.relative_to(directory).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
