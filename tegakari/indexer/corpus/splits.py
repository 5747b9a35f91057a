"""Names of splits in data sets."""

from __future__ import annotations

import re
from pathlib import PurePath

from tegakari.schemas.corpus import Split

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "eval": "eval",
    "evaluation": "eval",
    "test": "eval",
    "testing": "eval",
    "validation": "eval",
    "valid": "eval",
    "val": "eval",
    "dev": "eval",
}


def split_of(name: str) -> Split | None:
    """The split of a name, in any case; None for an unknown name."""
    return _SPLITS.get(name.strip().lower())


def split_in_path(path: PurePath) -> Split | None:
    """The split named by a file, such as train-00000-of-00002.parquet, or by the nearest directory above it."""
    for part in reversed(path.parts):
        for word in re.findall("[a-z]+", part.lower()):
            if split := split_of(word):
                return split
    return None
