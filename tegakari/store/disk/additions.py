"""What was added to a run after its publication: contexts, probes, label effects and explanations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import FileEntry, RunManifest
from tegakari.store.disk.contents import check_contents, read_bounded
from tegakari.store.disk.durable import checksums, random_suffix, sha256_of, staged_directory
from tegakari.store.disk.layout import CONTEXTS, EFFECTS, EXPLANATIONS, additions_directory, work_directory

CHECKSUMS = "files.json"
"""List of the files of the additions, with their checksums."""

ADDITIONS = (CHECKSUMS, CONTEXTS, EFFECTS, EXPLANATIONS)
"""Names of what the additions of a run contain."""

MAX_CHECKSUMS = 16 * 2**20
"""bytes of CHECKSUMS"""


@contextmanager
def publish_additions(store: Path, manifest: RunManifest) -> Iterator[Path]:
    """An empty directory for the block to fill, which is published as the additions of a run, whole or not at all.

    Raises:
        FileExistsError: the run has additions already.
    """
    staged = work_directory(store, f"additions-{manifest.fingerprint[:16]}-{random_suffix()}")
    with staged_directory(additions_directory(store, manifest), staged) as directory:
        yield directory
        (directory / CHECKSUMS).write_bytes(msgspec.json.encode(checksums(directory, exclude=CHECKSUMS)))


def damaged_additions(store: Path, manifest: RunManifest) -> list[str]:
    """Compare every file of a run's additions with their list.

    Returns:
        a description per file that is missing, changed, or not part of them; none where the run has no additions.
    """
    directory = additions_directory(store, manifest)
    if not directory.is_dir():
        return []
    try:
        check_contents(directory, ADDITIONS)
        entries = decode_json(read_bounded(directory / CHECKSUMS, MAX_CHECKSUMS), list[FileEntry])
    except (OSError, msgspec.DecodeError, StoreError) as error:
        return [f"{CHECKSUMS}: {getattr(error, 'message', error)}"]
    expected = {entry.path: entry.sha256 for entry in entries}
    present = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()} - {CHECKSUMS}
    problems = [f"{path}: missing" for path in sorted(expected.keys() - present)]
    problems += [f"{path}: not part of the additions" for path in sorted(present - expected.keys())]
    return problems + [
        f"{path}: content differs from its checksum"
        for path in sorted(expected.keys() & present)
        if sha256_of(directory / path) != expected[path]
    ]
