"""States of jobs on disk: whole, read back, and removed by age and size."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tegakari.schemas.jobs import JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.store.disk.garbage import collect, find_garbage
from tegakari.store.disk.job_files import JobFiles, Retention
from tegakari.store.disk.layout import jobs_directory

DAY = 86_400


def job(number: int, state: JobState) -> KnockoutJob:
    settings = KnockoutSettings(label="label", layer=0, texts=["a text"] * 200)
    return KnockoutJob(id=str(number), state=state, done=0, total=None, run="run", settings=settings, created="2026")


def write(store: Path, states: list[JobState], days_old: list[float]) -> JobFiles:
    files = JobFiles(store)
    for number, (state, days) in enumerate(zip(states, days_old, strict=True)):
        files.write(job(number, state))
        changed = time.time() - days * DAY
        os.utime(jobs_directory(store) / f"{number}.json", (changed, changed))
    return files


def test_a_state_is_read_back(tmp_path: Path):
    files = JobFiles(tmp_path)
    assert files.read("1") is None
    files.write(job(1, "running"))
    files.write(job(1, "failed"))
    assert files.read("1") == job(1, "failed")
    assert files.read("../1") is None
    (jobs_directory(tmp_path) / "2.json").write_bytes(b"{")
    assert files.read("2") is None
    assert list(files.unfinished()) == []
    files.remove("1")
    assert files.read("1") is None


@pytest.mark.parametrize(
    ("states", "days_old", "retention", "expired"),
    [
        (["failed", "cancelled", "interrupted"], [1, 31, 40], Retention(30, 2**20), {"1", "2"}),
        (["failed", "failed", "failed"], [3, 2, 1], Retention(30, 5000), {"0"}),  # about 2,200 bytes per state
        (["running", "failed", "failed"], [3, 2, 1], Retention(30, 3000), {"1"}),  # a job that runs is kept
        (["running", "failed", "queued"], [40, 2, 1], Retention(30, 2**20), {"0"}),  # no job runs for a month
    ],
    ids=["age", "size", "running", "abandoned"],
)
def test_old_states_and_those_beyond_the_size_expire(
    tmp_path: Path, states: list[JobState], days_old: list[float], retention: Retention, expired: set[str]
):
    files = write(tmp_path, states, days_old)
    assert {path.stem for path in files.expired(retention)} == expired
    garbage = find_garbage(tmp_path, jobs=retention)
    assert {entry.path.stem for entry in garbage} == expired
    collect(tmp_path, garbage)
    assert {path.stem for path in jobs_directory(tmp_path).iterdir()} == {"0", "1", "2"} - expired
    assert files.expired(retention) == []


def test_a_store_without_jobs_has_none_expired(tmp_path: Path):
    assert JobFiles(tmp_path).expired(Retention(0, 0)) == []
