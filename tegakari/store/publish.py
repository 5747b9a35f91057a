"""A run becomes visible by one rename, and goes by one rename."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.run import FORMAT, RunManifest
from tegakari.store.files import checksums, disk_full_is_said, fsync_tree, rename_into_place, sha256_of
from tegakari.store.layout import MANIFEST, run_directory, runs_directory, work_directory


def read_manifest(directory: Path) -> RunManifest:
    """Read run.json of a published run.

    Raises:
        StoreError: it cannot be read, or a newer version of tegakari wrote it.
    """
    try:
        raw = (directory / MANIFEST).read_bytes()
        version = msgspec.json.decode(raw, type=_FormatOnly).format
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(f"{directory.name} has no readable {MANIFEST}: {error}", field="run") from None
    if version > FORMAT:
        raise StoreError(
            f"run {directory.name} has format {version}, this program reads up to {FORMAT}",
            field="run",
            fix="upgrade tegakari",
        )
    try:
        return msgspec.json.decode(raw, type=RunManifest)
    except msgspec.DecodeError as error:
        raise StoreError(f"{MANIFEST} of run {directory.name} is damaged: {error}", field="run") from None


class _FormatOnly(msgspec.Struct):
    format: int


def publish(store: Path, staged: Path, manifest: RunManifest) -> RunManifest:
    """Checksum everything below `staged`, write run.json, flush, and rename it to its published name.

    Args:
        store: the store's directory.
        staged: the run's files, complete but for run.json, on the store's file system.
        manifest: without its `files`.

    Raises:
        RunExistsError: the name was taken meanwhile.
        DiskFullError: no space; nothing was published.
    """
    target = run_directory(store, manifest.run)
    with disk_full_is_said(store):
        runs_directory(store).mkdir(parents=True, exist_ok=True)
        complete = msgspec.structs.replace(manifest, files=checksums(staged, leave_out=MANIFEST))
        (staged / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(complete), indent=1))
        fsync_tree(staged)
        if target.exists():
            raise RunExistsError(f"run {manifest.run!r} exists", field="index.run", fix="choose another name")
        rename_into_place(staged, target)
    return complete


def delete_run(store: Path, run: str) -> None:
    """Take a run out of sight with one rename, then remove its files. Readers that have it open keep their answers.

    Raises:
        NotFoundError: no such run.
    """
    source = run_directory(store, run)
    if not source.is_dir():
        raise NotFoundError(f"no run {run!r} in {store}", field="run", fix="`tegakari runs list` shows what is there")
    grave = work_directory(store, run).with_name(f".deleted-{run}-{os.getpid()}")
    grave.parent.mkdir(parents=True, exist_ok=True)
    rename_into_place(source, grave)
    shutil.rmtree(grave)


def damaged_files(store: Path, run: str) -> list[str]:
    """Check every file of a run against run.json; return what is missing, changed or was not there at publication.

    Raises:
        NotFoundError: no such run.
        StoreError: run.json itself cannot be read.
    """
    directory = run_directory(store, run)
    if not directory.is_dir():
        raise NotFoundError(f"no run {run!r} in {store}", field="run", fix="`tegakari runs list` shows what is there")
    expected = {entry.path: entry for entry in read_manifest(directory).files}
    present = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()} - {MANIFEST}
    problems = [f"{path}: missing" for path in sorted(expected.keys() - present)]
    problems += [f"{path}: not part of the run" for path in sorted(present - expected.keys())]
    for path in sorted(expected.keys() & present):
        if sha256_of(directory / path) != expected[path].sha256:
            problems.append(f"{path}: content differs from its checksum")
    return problems
