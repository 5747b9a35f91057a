"""Deterministic explanations of a run that was indexed without contexts, or without LanceDB."""

from __future__ import annotations

import shutil
from pathlib import Path

from tegakari.schemas.errors import RunExistsError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run
from tegakari.store.disk.durable import random_suffix, staged_directory, translate_disk_full
from tegakari.store.disk.layout import EXPLANATIONS, additions_directory, work_directory
from tegakari.store.explanations.term_files import explanations_of_run
from tegakari.terms.explain import explain_run


def add_explanations(store: Path, run: Run, *, progress: Progress = NoProgress()) -> Path:
    """Write the deterministic explanations of a run beside it; they appear whole or not at all.

    Args:
        store: the store's directory.
        run: published, with contexts.
        progress: counts layers.

    Returns:
        directory of the explanations.

    Raises:
        RunExistsError: the run has explanations.
        NotFoundError: the run has no contexts.
        DiskFullError: no space; nothing is published.
    """
    if explanations_of_run(run) is not None:
        raise RunExistsError(f"run {run.name!r} has explanations", field="run", fix="nothing needs to be done")
    target = additions_directory(store, run.manifest) / EXPLANATIONS
    work = work_directory(store, f"explanations-{run.manifest.fingerprint[:16]}-{random_suffix()}")
    try:
        with translate_disk_full(store, field="store"), staged_directory(target, work / EXPLANATIONS):
            explain_run(run, work, progress)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
