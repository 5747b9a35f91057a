"""A run becomes visible by one rename, and goes by one rename."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.run import FORMAT, RunManifest
from tegakari.store.disk.durable import checksums, fsync_tree, rename_into_place, sha256_of, translate_disk_full
from tegakari.store.disk.layout import MANIFEST, run_directory, runs_directory, work_directory


def published_names(store: Path) -> list[str]:
    """Names of the published runs of a store, sorted."""
    root = runs_directory(store)
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if (entry / MANIFEST).is_file())


def read_manifest(directory: Path) -> RunManifest:
    """Read run.json of a published run.

    Raises:
        StoreError: it cannot be read, or another version of tegakari wrote it.
    """
    return _decode(directory, _read(directory))


def _read(directory: Path) -> bytes:
    try:
        return (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise _damaged(directory, error) from None


def _decode(directory: Path, raw: bytes) -> RunManifest:
    try:
        version = msgspec.json.decode(raw, type=_FormatOnly).format
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(directory, error) from None
    if version != FORMAT:
        raise StoreError(
            f"{MANIFEST} of run {directory.name} says format {version}, this program reads {FORMAT}",
            field="run",
            fix="upgrade tegakari"
            if version > FORMAT
            else "delete the run and index again: classifier and SAEs are kept and need no training",
        )
    try:
        return msgspec.json.decode(raw, type=RunManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(directory, error) from None


def _damaged(directory: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{MANIFEST} of run {directory.name} is missing or damaged: {error}",
        field="run",
        fix="restore it from a copy, or delete the run and index again",
    )


class _FormatOnly(msgspec.Struct):
    format: int


def _written(manifest: RunManifest) -> bytes:
    """Content of run.json, with its checksum."""
    bare = msgspec.structs.replace(manifest, checksum="")
    digest = hashlib.sha256(msgspec.json.encode(bare)).hexdigest()
    return msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, checksum=digest)), indent=1)


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
    with translate_disk_full(store):
        runs_directory(store).mkdir(parents=True, exist_ok=True)
        complete = msgspec.structs.replace(manifest, files=checksums(staged, leave_out=MANIFEST))
        written = _written(complete)
        (staged / MANIFEST).write_bytes(written)
        fsync_tree(staged)
        taken = RunExistsError(f"run {manifest.run!r} exists", field="index.run", fix="choose another name")
        if target.exists():
            raise taken
        _show(staged, target, taken)
    return _decode(target, written)


def delete_run(store: Path, run: str) -> None:
    """Take a run out of sight with one rename, then remove its files. Readers that have it open keep their answers.

    Raises:
        NotFoundError: no such run.
    """
    source = run_directory(store, run)
    missing = NotFoundError(f"no run {run!r} in {store}", field="run", fix="`tegakari runs list` shows what is there")
    if not source.is_dir():
        raise missing
    grave = work_directory(store, run).with_name(f".deleted-{run}-{os.getpid()}")
    grave.parent.mkdir(parents=True, exist_ok=True)
    try:
        rename_into_place(source, grave)
    except FileNotFoundError:  # another process was faster
        raise missing from None
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
    return _damage(directory)


def adopt_run(store: Path, source: Path) -> RunManifest:
    """Publish a copy of a run that was made elsewhere, if every file of it is as it was published there.

    Args:
        store: the store that takes it.
        source: directory of the run: the one that holds run.json.

    Raises:
        NotFoundError: there is no run.
        StoreError: a file is damaged, or the run is of another format.
        RunExistsError: the store has a run of its name.
        DiskFullError: no space; nothing was published.
    """
    if not (source / MANIFEST).is_file():
        raise NotFoundError(f"no {MANIFEST} in {source}", field="directory", fix="name the directory of one run")
    if damage := _damage(source):
        raise StoreError("; ".join(damage), field=str(source), fix="copy the run again")
    manifest = read_manifest(source)
    target = run_directory(store, manifest.run)
    taken = RunExistsError(f"run {manifest.run!r} exists in {store}", field="run", fix="delete that one first")
    if target.exists():
        raise taken
    staged = work_directory(store, f"adopt-{os.getpid()}")
    with translate_disk_full(store):
        shutil.rmtree(staged, ignore_errors=True)
        staged.parent.mkdir(parents=True, exist_ok=True)
        runs_directory(store).mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(source, staged)
            fsync_tree(staged)
            _show(staged, target, taken)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return manifest


def _show(staged: Path, target: Path, taken: RunExistsError) -> None:
    try:
        rename_into_place(staged, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
            raise taken from None
        raise


def _damage(directory: Path) -> list[str]:
    raw = _read(directory)
    manifest = _decode(directory, raw)
    if raw != _written(manifest):  # then its list of files says nothing either
        return [f"{MANIFEST}: content differs from its checksum"]
    expected = {entry.path: entry for entry in manifest.files}
    present = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()} - {MANIFEST}
    problems = [f"{path}: missing" for path in sorted(expected.keys() - present)]
    problems += [f"{path}: not part of the run" for path in sorted(present - expected.keys())]
    for path in sorted(expected.keys() & present):
        if sha256_of(directory / path) != expected[path].sha256:
            problems.append(f"{path}: content differs from its checksum")
    return problems
