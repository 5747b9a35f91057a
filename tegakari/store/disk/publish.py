"""Publication, deletion, verification and import of runs: a run appears and disappears with one rename."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.run import FORMAT, READ_FORMATS, RunManifest
from tegakari.store.disk.additions import damaged_additions
from tegakari.store.disk.contents import check_contents, read_bounded
from tegakari.store.disk.durable import (
    bury,
    checksums,
    publish_directory,
    random_suffix,
    remove_without_files,
    sha256_of,
    staged_directory,
    translate_disk_full,
)
from tegakari.store.disk.layout import (
    CONTENTS,
    MANIFEST,
    entries,
    is_run_name,
    run_directory,
    runs_directory,
    work_directory,
    work_root,
)

MAX_MANIFEST = 16 * 2**20
"""Maximum size of run.json in bytes; that of 26 layers has 30,000."""


def published_names(store: Path) -> list[str]:
    """Names of the published runs of a store, sorted; a directory without a run, or without its name, is none."""
    return sorted(
        entry.name
        for entry in entries(runs_directory(store))
        if is_run_name(entry.name) and (entry / MANIFEST).is_file()
    )


def read_manifest(directory: Path) -> RunManifest:
    """Read run.json of a published run.

    Raises:
        StoreError: it is missing or damaged, of another format, or of a run with another name.
    """
    manifest = _decode(directory, read_content(directory))
    if manifest.run != directory.name:  # paths are built from both names
        raise StoreError(
            f"the directory {directory.name} contains the run {manifest.run!r}",
            field="run",
            fix="give the directory the run's name, or adopt it into a store",
        )
    return manifest


def check_manifest(run: str, content: bytes) -> RunManifest:
    """Decode a run.json that came from elsewhere.

    Args:
        run: name of the run that it must describe.
        content: of run.json.

    Raises:
        StoreError: it is damaged, of another format, of another run, or its list of files cannot be one of a run.
    """
    manifest = _decode(Path(run), content)
    if manifest.run != run or content != _encode(manifest):
        raise StoreError(
            f"{MANIFEST} of run {run}: content differs from its checksum, or is of the run {manifest.run!r}",
            field="run",
            fix="delete the run there and publish it again",
        )
    paths = {entry.path for entry in manifest.files}
    directories = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    if len(paths) < len(manifest.files) or MANIFEST in paths or paths & directories:
        raise StoreError(
            f"{MANIFEST} of run {run} lists a path twice", field="run", fix="delete the run there; it is no run"
        )
    return manifest


def read_content(directory: Path) -> bytes:
    """The bytes of run.json.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return read_bounded(directory / MANIFEST, MAX_MANIFEST)
    except OSError as error:
        raise _damaged(directory, error) from None


def _decode(directory: Path, raw: bytes) -> RunManifest:
    try:
        version = decode_json(raw, _FormatOnly).format
    except msgspec.DecodeError as error:
        raise _damaged(directory, error) from None
    if version not in READ_FORMATS:
        readable = " and ".join(map(str, READ_FORMATS))
        raise StoreError(
            f"{MANIFEST} of run {directory.name} has format {version}, this program reads {readable}",
            field="run",
            fix="upgrade tegakari"
            if version > FORMAT
            else "delete the run and index again: classifier and SAEs are kept and need no training",
        )
    try:
        return decode_json(raw, RunManifest)
    except msgspec.DecodeError as error:
        raise _damaged(directory, error) from None


def _damaged(directory: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{MANIFEST} of run {directory.name} is missing or damaged: {error}",
        field="run",
        fix="restore it from a copy, or delete the run and index again",
    )


class _FormatOnly(msgspec.Struct):
    format: int


def _encode(manifest: RunManifest) -> bytes:
    """Content of run.json, including its checksum."""
    unsigned = msgspec.structs.replace(manifest, checksum="")
    digest = hashlib.sha256(msgspec.json.encode(unsigned)).hexdigest()
    return msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, checksum=digest)), indent=1)


def write_staged_manifest(staged: Path, manifest: RunManifest) -> None:
    """Write run.json of a run that is not published, so that `Run` opens it; `publish` replaces the file."""
    (staged / MANIFEST).write_bytes(_encode(manifest))


def publish(store: Path, staged: Path, manifest: RunManifest) -> RunManifest:
    """Checksum everything below `staged`, write run.json, flush, and rename it to its published name.

    Args:
        store: the store's directory.
        staged: directory of the run's files on the store's file system; its run.json, if any, is replaced.
        manifest: the run's manifest, with empty `files`.

    Returns:
        the manifest as published.

    Raises:
        RunExistsError: a run of this name was published meanwhile.
        DiskFullError: no space; nothing was published.
    """
    target = run_directory(store, manifest.run)
    name_taken = RunExistsError(f"run {manifest.run!r} exists", field="index.run", fix="choose another name")
    remove_without_files(target)
    if target.exists():
        raise name_taken
    with translate_disk_full(store, field="index.store"):
        content = _encode(msgspec.structs.replace(manifest, files=checksums(staged, exclude=MANIFEST)))
        (staged / MANIFEST).write_bytes(content)
        try:
            publish_directory(staged, target)
        except FileExistsError:  # another process published the name meanwhile
            raise name_taken from None
    return _decode(target, content)


def delete_run(store: Path, run: str) -> None:
    """Take a run out of sight with one rename, then remove its files. Readers keep the files that they have open.

    Raises:
        NotFoundError: no such run.
    """
    directory = _existing_run(store, run)
    try:
        bury(directory, work_root(store))
    except FileNotFoundError:  # another process deleted it first
        raise _no_run(store, run) from None


def damaged_files(store: Path, run: str) -> list[str]:
    """Compare every file of a run with run.json, and every file of its additions with their list.

    Returns:
        a description per file that is missing, changed, or not part of the run or its additions.

    Raises:
        NotFoundError: no such run.
        StoreError: run.json is missing, damaged or of another format.
    """
    directory = _existing_run(store, run)
    try:
        problems = run_damage(directory)
        additions = [] if problems else damaged_additions(store, _decode(directory, read_content(directory)))
        return problems + [f"additions: {problem}" for problem in additions]
    except FileNotFoundError:
        if directory.is_dir():
            raise
        raise _no_run(store, run) from None  # deleted while it was read


def _existing_run(store: Path, run: str) -> Path:
    directory = run_directory(store, run)
    if not directory.is_dir():
        raise _no_run(store, run)
    return directory


def _no_run(store: Path, run: str) -> NotFoundError:
    return NotFoundError(f"no run {run!r} in {store}", field="run", fix="`tegakari runs list` shows the runs")


def adopt_run(store: Path, source: Path) -> RunManifest:
    """Publish a copy of a run of another store, after comparing every file with its checksum.

    Args:
        store: directory of the store that the run is added to.
        source: directory of the run, which contains run.json.

    Raises:
        NotFoundError: `source` is not a run.
        StoreError: a file is damaged, or the run is of another format.
        RunExistsError: the store has a run of this name.
        DiskFullError: no space; nothing was published.
    """
    source = source.resolve()  # the user names it, also by a link; what is in it is someone else's
    if not (source / MANIFEST).is_file():
        raise NotFoundError(f"no {MANIFEST} in {source}", field="directory", fix="name the directory of one run")
    if damage := run_damage(source):
        raise StoreError("; ".join(damage), field=str(source), fix="copy the run again")
    manifest = _decode(source, read_content(source))
    target = run_directory(store, manifest.run)
    name_taken = RunExistsError(f"run {manifest.run!r} exists in {store}", field="run", fix="delete that run first")
    remove_without_files(target)
    if target.exists():
        raise name_taken
    try:
        with (
            translate_disk_full(store, field="store"),
            staged_directory(target, work_directory(store, f"adopt-{random_suffix()}")) as staged,
        ):
            shutil.copytree(source, staged, symlinks=True, dirs_exist_ok=True)
            check_contents(staged, CONTENTS)  # nobody replaced a file of the source by a link meanwhile
    except FileExistsError:  # another process published the name meanwhile
        raise name_taken from None
    return manifest


def run_damage(directory: Path) -> list[str]:
    """Compare the files of a run with its run.json.

    Returns:
        a description per file that is missing, changed, or not part of the run.

    Raises:
        FileNotFoundError: there is no such directory.
        StoreError: run.json is missing, damaged or of another format.
    """
    check_contents(directory)
    raw = read_content(directory)
    manifest = _decode(directory, raw)
    if raw != _encode(manifest):  # then its list of files cannot be trusted either
        return [f"{MANIFEST}: content differs from its checksum"]
    expected = {entry.path: entry for entry in manifest.files}
    present = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()} - {MANIFEST}
    problems = [f"{path}: missing" for path in sorted(expected.keys() - present)]
    problems += [f"{path}: not part of the run" for path in sorted(present - expected.keys())]
    for path in sorted(expected.keys() & present):
        if (size := (directory / path).stat().st_size) != expected[path].size:
            problems.append(f"{path}: has {size:,} bytes, not {expected[path].size:,}")
        elif sha256_of(directory / path) != expected[path].sha256:
            problems.append(f"{path}: content differs from its checksum")
    return problems
