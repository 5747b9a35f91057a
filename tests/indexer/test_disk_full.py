"""An index on a full disk, a small tmpfs: a clear error, no published run, and resumption after space is made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import DiskFullError
from tegakari.store import Store, queries
from tests.support.small_case import SmallCase, with_index


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 64 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def grow(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_full_disk_is_reported_at_every_stage_and_the_index_resumes(small_case: SmallCase, disk: Path):
    config = with_index(small_case, disk / "store")
    refusals: list[DiskFullError] = []
    # Each size fills up in another stage: the partials, the blocks, DuckDB, the vectors.
    for size in ("64k", "300k", "600k", "1m", "1500k", "2m", "3m"):
        grow(disk, size)
        try:
            index(config)
            break
        except DiskFullError as error:
            refusals.append(error)
        assert Store(disk / "store").names() == []
    assert len(refusals) >= 2
    assert all("no space left" in error.message and error.fix for error in refusals)
    grow(disk, "200m")
    run = Store(disk / "store").run(index(config).manifest.run)
    assert len(queries.labels(run)) == 3
