"""kill -9 at random moments of index and publish: readers see whole runs or none, and the tables are equal."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Store, queries
from tegakari.store.disk.publish import damaged_files, delete_run
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index
from tests.support.soak_length import KILLS

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(small_case: SmallCase, tmp_path: Path) -> tuple[Path, Path]:
    """A store and a configuration that indexes the small case into it, two documents per shard."""
    text = small_case.config_file.read_text()
    text = re.sub(r'(?m)^store = "store"', f'store = "{tmp_path / "store"}"', text)
    text = re.sub(r"(?m)^shard_documents = \d+", "shard_documents = 2", text)
    for key in ("corpus", "classifier", "saes"):
        text = text.replace(f'path = "{key}"', f'path = "{small_case.config_file.parent / key}"')
    (tmp_path / "tegakari.toml").write_text(text)
    return tmp_path / "store", tmp_path / "tegakari.toml"


def read(store: Path, stop: threading.Event, observations: list[object]) -> None:
    """Read labels and verify the files of every published run, until `stop`."""
    opened = Store(store)
    while not stop.is_set():
        for run in opened.runs():
            try:
                observation = queries.labels(run), damaged_files(store, run.name)
            except (NotFoundError, OSError):
                observation = None
            if run.is_published():  # else it was deleted meanwhile
                observations.append(observation)
        time.sleep(0.01)


def test_killed_at_random_moments(small_case: SmallCase, store: tuple[Path, Path], tmp_path: Path):
    directory, config = store
    unbroken = index(with_index(small_case, tmp_path / "unbroken", shard_documents=2)).manifest
    expected = tables_of(tmp_path / "unbroken" / "runs" / unbroken.run)
    labels = queries.labels(Store(tmp_path / "unbroken").run(unbroken.run))
    command = [sys.executable, "-m", "tests.support.soak_indexing"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert driver.stdin
    assert driver.stdout
    stop, observations = threading.Event(), []
    reader = threading.Thread(target=read, args=(directory, stop, observations))
    reader.start()
    generator = random.Random(0)
    kills = published = 0
    longest = 1.0
    try:
        while kills < KILLS or not published:
            driver.stdin.write(f"{config}\n")
            driver.stdin.flush()
            child = int(driver.stdout.readline())
            started = time.monotonic()
            if kills < KILLS:
                killer = threading.Timer(generator.uniform(0, longest), _kill, (child,))
                killer.start()
            status = int(driver.stdout.readline())
            if kills < KILLS:
                killer.cancel()
            if status == signal.SIGKILL:
                kills += 1
                continue
            assert status == 0
            longest = max(0.5, 1.2 * (time.monotonic() - started))
            assert tables_of(directory / "runs" / unbroken.run) == expected
            assert damaged_files(directory, unbroken.run) == []
            assert [path.name for path in (directory / "work").iterdir()] == []
            published += 1
            if kills < KILLS:
                delete_run(directory, unbroken.run)
    finally:
        driver.stdin.close()
        driver.wait()
        stop.set()
        reader.join()
    assert published >= 1
    assert observations
    assert all(observation == (labels, []) for observation in observations)


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return
