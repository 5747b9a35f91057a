"""Where everything of a store lies."""

from __future__ import annotations

import re
from pathlib import Path

from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest

MANIFEST = "run.json"
DATABASE = "index.duckdb"
ACTIVATIONS = "activations"
VECTORS = "vectors.lance"
BLOCKS = "hot"

_NAME = re.compile(NAME_PATTERN)


def check_run_name(run: str) -> str:
    """Refuse a name that could not be a directory of its own.

    Raises:
        StoreError: the name has other characters than a-z, 0-9, dot, dash, underscore, or is longer than 64.
    """
    if not _NAME.fullmatch(run):
        raise StoreError(
            f"{run!r} cannot be the name of a run", field="run", fix="use a-z, 0-9, '.', '_' and '-', 64 at most"
        )
    return run


def runs_directory(store: Path) -> Path:
    return store / "runs"


def run_directory(store: Path, run: str) -> Path:
    """The published run."""
    return runs_directory(store) / check_run_name(run)


def work_root(store: Path) -> Path:
    """Directories that no reader opens: unfinished work, and what deletions have left."""
    return store / "work"


def work_directory(store: Path, name: str) -> Path:
    """Directory of unfinished work: that of a run under the run's name, or of another task."""
    return work_root(store) / check_run_name(name)


def analyses_directory(store: Path) -> Path:
    return store / "analyses"


def analysis_directory(store: Path, kind: str, key: str) -> Path:
    """A stored analysis."""
    return analyses_directory(store) / kind / key


def jobs_directory(store: Path) -> Path:
    """Jobs of the service: what was asked and how it ended, a small file each."""
    return store / "jobs"


def vectors_directory(store: Path) -> Path:
    return store / "vectors"


def added_vectors_directory(store: Path, manifest: RunManifest) -> Path:
    """Vectors of a run that was indexed without them; named by the run's content, so that they are never another's."""
    return vectors_directory(store) / f"{manifest.run}-{manifest.fingerprint[:16]}"


def layer_file(run: Path, layer: int) -> Path:
    """The activations of one layer."""
    return run / ACTIVATIONS / f"layer={layer:02d}" / "part-0.parquet"
