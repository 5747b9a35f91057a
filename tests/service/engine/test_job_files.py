"""Files of jobs: none of a refused one, and a bounded size of those that ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from tegakari.schemas.errors import BusyError
from tegakari.schemas.jobs import JobState, KnockoutJob
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.service.engine import jobs as jobs_module
from tegakari.service.engine.jobs import Jobs
from tegakari.service.engine.queue import ModelQueue
from tegakari.store import Store
from tegakari.store.disk.layout import jobs_directory
from tests.support.factories import LABELS, make_run

SETTINGS = KnockoutSettings(label=LABELS[0], layer=0, texts=["a text"] * 100)


def test_a_refused_job_leaves_no_file(tmp_path: Path):
    make_run(tmp_path, "drawn")

    async def refusal() -> Exception | None:
        queue = ModelQueue(max_waiting=0)
        active = Jobs(tmp_path, queue).start("0" * 32, Store(tmp_path).run("drawn"), SETTINGS)
        await active.ended.wait()
        queue.close()
        return active.error

    assert isinstance(asyncio.run(refusal()), BusyError)
    assert list(jobs_directory(tmp_path).glob("*")) == []


def test_states_beyond_the_size_are_forgotten_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = jobs_directory(tmp_path)
    directory.mkdir(parents=True)
    states: list[JobState] = ["failed", "failed", "failed", "running"]
    for number, state in enumerate(states):
        job = KnockoutJob(
            id=str(number), state=state, done=0, total=None, run="drawn", settings=SETTINGS, created="2026-01-01"
        )
        (directory / f"{number}.json").write_bytes(msgspec.json.encode(job))
        os.utime(directory / f"{number}.json", (2e9 + number, 2e9 + number))
    size = (directory / "0.json").stat().st_size
    monkeypatch.setattr(jobs_module, "RETENTION_BYTES", int(2.5 * size))
    Jobs(tmp_path, ModelQueue()).mark_interrupted()
    assert sorted(path.stem for path in directory.iterdir()) == ["2", "3"]
    assert msgspec.json.decode((directory / "3.json").read_bytes(), type=KnockoutJob).state == "interrupted"
