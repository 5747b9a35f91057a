"""Deterministic explanations of a run that was indexed without LanceDB."""

from __future__ import annotations

from pathlib import Path

from tegakari.schemas.errors import RunExistsError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run
from tegakari.store.disk.additions import publish_additions
from tegakari.store.disk.durable import translate_disk_full
from tegakari.store.disk.layout import additions_directory
from tegakari.store.explanations.term_files import explanations_of_run
from tegakari.terms.explain import explain_run


def add_explanations(run: Run, *, progress: Progress = NoProgress()) -> Path:
    """Write the deterministic explanations of a run as its additions; they appear whole or not at all.

    Args:
        run: published, with contexts of its own.
        progress: counts layers.

    Returns:
        directory of the additions.

    Raises:
        RunExistsError: the run has explanations, or additions without them.
        NotFoundError: the run has no contexts.
        DiskFullError: no space; nothing is published.
    """
    target = additions_directory(run.store, run.manifest)
    if explanations_of_run(run) is not None:
        raise RunExistsError(f"run {run.name!r} has explanations", field="run", fix="nothing needs to be done")
    if target.is_dir():
        raise RunExistsError(
            f"run {run.name!r} has additions without explanations",
            field="run",
            fix=f"remove {target}, then repeat the command",
        )
    with translate_disk_full(run.store, field="store"), publish_additions(run.store, run.manifest) as staged:
        explain_run(run, staged, progress)
    return target
