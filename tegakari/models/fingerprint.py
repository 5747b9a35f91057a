"""Fingerprint of a model or SAE directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

_COMPUTED_FROM = {".safetensors", ".json", ".npz", ".pt", ".model"}
"""Suffixes of the files that decide what a model or SAE computes: weights, configurations, tokenizers."""

_REPORTS = {"report.json", "training.json"}
"""Files that tegakari writes beside a model about its training; they decide nothing."""


def fingerprint(directory: Path) -> str:
    """SHA-256 of the names and contents of the files that decide what a model or SAE computes, as hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file.suffix in _COMPUTED_FROM and file.name not in _REPORTS:
            digest.update(file.relative_to(directory).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
