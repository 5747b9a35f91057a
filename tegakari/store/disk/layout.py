"""Paths of a store: runs, unfinished work, analyses, jobs, additions, vectors, notes, explanations."""

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
"""Directory of the memory-mapped blocks."""
CONTEXTS = "contexts"
EFFECTS = "effects"
"""Directory of the label effects."""
WORK = "work"
"""Directory of unfinished work, of a store on a disk or in a bucket."""
EXPLANATIONS = "explanations"
"""Directory of the deterministic explanations of a run."""

CONTENTS = (MANIFEST, DATABASE, ACTIVATIONS, VECTORS, BLOCKS, CONTEXTS, EFFECTS, EXPLANATIONS)
"""Names of what the directory of a run contains."""

_NAME = re.compile(NAME_PATTERN)


def is_run_name(name: str) -> bool:
    """Whether a name can be that of a run."""
    return _NAME.fullmatch(name) is not None


def entries(directory: Path) -> list[Path]:
    """What is in a directory, by name; nothing if there is no such directory."""
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def check_run_name(run: str) -> str:
    """Refuse a name that is not a valid directory name, and return it otherwise.

    Raises:
        StoreError: the name has characters other than a-z, 0-9, dot, dash and underscore, or is longer than 64.
    """
    if not is_run_name(run):
        fix = "use a-z, 0-9, '.', '_' and '-', 64 at most"
        if "," in run:
            fix = "name one run; where several are compared, the option is repeated: --run a --run b"
        raise StoreError(f"{run!r} cannot be the name of a run", field="run", fix=fix)
    return run


def runs_directory(store: Path) -> Path:
    """Directory of the published runs."""
    return store / "runs"


def run_directory(store: Path, run: str) -> Path:
    """Directory of a published run."""
    return runs_directory(store) / check_run_name(run)


def work_root(store: Path) -> Path:
    """Directories that no reader opens: unfinished work and graves."""
    return store / WORK


def work_directory(store: Path, name: str) -> Path:
    """Directory of unfinished work, of a run under the run's name or of another task."""
    return work_root(store) / check_run_name(name)


def analyses_directory(store: Path) -> Path:
    """Directory of the stored analyses."""
    return store / "analyses"


def analysis_directory(store: Path, kind: str, key: str) -> Path:
    """Directory of a stored analysis."""
    return analyses_directory(store) / kind / key


def jobs_directory(store: Path) -> Path:
    """Directory of the service's jobs: a small file per job, with its settings and state."""
    return store / "jobs"


def replicas_directory(store: Path) -> Path:
    """Directory of the servers of the store that run jobs: a directory per server, named by its id."""
    return jobs_directory(store) / "replicas"


def claims_directory(store: Path) -> Path:
    """Directory of who computes which job: a directory per job, with an empty file named by the id of the server."""
    return jobs_directory(store) / "claims"


def vectors_directory(store: Path) -> Path:
    """Directory of the vectors that were added to published runs."""
    return store / "vectors"


def added_vectors_directory(store: Path, manifest: RunManifest) -> Path:
    """Vectors of a run that was indexed without them; the name contains the run's fingerprint, which identifies it."""
    return vectors_directory(store) / f"{manifest.run}-{manifest.fingerprint[:16]}"


def additions_root(store: Path) -> Path:
    """Directory of what was added to runs of format 3, which lack contexts and label effects."""
    return store / "additions"


def additions_directory(store: Path, manifest: RunManifest) -> Path:
    """Contexts and label effects of a run that was indexed without them; named by the run and its fingerprint."""
    return additions_root(store) / f"{manifest.run}-{manifest.fingerprint[:16]}"


def notes_root(store: Path) -> Path:
    """Directory of the notes on features."""
    return store / "notes"


def notes_directory(store: Path, manifest: RunManifest) -> Path:
    """Notes on features of a run; the name contains the run's fingerprint, which identifies it."""
    return notes_root(store) / f"{manifest.run}-{manifest.fingerprint[:16]}"


def explanations_root(store: Path) -> Path:
    """Directory of the explanations of features that people and language models write."""
    return store / "explanations"


def explanations_directory(store: Path, manifest: RunManifest) -> Path:
    """Explanations of features of a run; the name contains the run's fingerprint, which identifies it."""
    return explanations_root(store) / f"{manifest.run}-{manifest.fingerprint[:16]}"


def answers_file(store: Path) -> Path:
    """Database of the answers of language models, by model and prompt."""
    return explanations_root(store) / "answers.sqlite"


def layer_file(run: Path, layer: int) -> Path:
    """File of one layer's activations."""
    return run / ACTIVATIONS / f"layer={layer:02d}" / "part-0.parquet"


def context_file(directory: Path, layer: int) -> Path:
    """File of one layer's contexts, in the directory of a run or of its additions."""
    return directory / CONTEXTS / f"layer={layer:02d}" / "part-0.parquet"


def probes_file(directory: Path) -> Path:
    """File of the probes, in the directory of a run or of its additions."""
    return directory / CONTEXTS / "probes.parquet"


def probe_bits_file(directory: Path, layer: int) -> Path:
    """File of the bits of one layer's features on the probes, beside its contexts."""
    return directory / CONTEXTS / f"layer={layer:02d}" / "probes.npy"


def effect_file(directory: Path, layer: int) -> Path:
    """File of one layer's label effects, in the directory of a run or of its additions."""
    return directory / EFFECTS / f"layer={layer:02d}" / "part-0.parquet"


def explanation_file(directory: Path, layer: int) -> Path:
    """File of one layer's deterministic explanations, in the directory of a run or of its additions."""
    return directory / EXPLANATIONS / f"layer={layer:02d}" / "part-0.parquet"


def catalogue_directory(store: Path) -> Path:
    """run.json of every run of the bucket that the store is a cache of; a store of its own has no such directory."""
    return store / "catalogue"


def use_file(store: Path, run: str) -> Path:
    """File of a cache whose time is that of the last request for a run; readers of the run hold a shared lock on it."""
    return store / "use" / check_run_name(run)
