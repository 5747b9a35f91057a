"""Indexing in several processes: equal tables, and processes that die."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from tegakari.indexer.executors import Processes
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import ModelError, StoreError
from tegakari.store import Store
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index
from tests.support.soak_length import only_in_a_soak


@pytest.fixture(scope="module")
def tables(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tables of an index in one process, with one document per shard."""
    store = tmp_path_factory.mktemp("one-process")
    index(with_index(small_case, store, shard_documents=1))
    return tables_of(store / "runs" / "small")


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=only_in_a_soak)])
def test_the_number_of_workers_does_not_change_the_tables(small_case: SmallCase, tmp_path: Path, tables, workers: int):
    index(with_index(small_case, tmp_path, shard_documents=1), executor=Processes(workers))
    assert tables_of(tmp_path / "runs" / "small") == tables


def children() -> set[int]:
    """Child processes of this process, without zombies."""
    ids = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and "spawn_main" in command:
            ids.add(int(stat.parent.name))
    return ids


def test_the_death_of_a_worker_is_reported_and_the_next_index_resumes(small_case: SmallCase, tmp_path: Path, tables):
    config = with_index(small_case, tmp_path / "store", shard_documents=1)
    shards = tmp_path / "store" / "work" / "small" / "shards"
    before = children()

    def kill_one() -> None:
        while not any(shards.glob("[0-9a-f]*")):
            time.sleep(0.005)
        os.kill(next(iter(children() - before)), signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    with pytest.raises(StoreError, match="worker process died") as caught:
        index(config, executor=Processes(2))
    killer.join()
    assert caught.value.field == "--workers"
    assert Store(tmp_path / "store").names() == []
    finished = len(list(shards.glob("[0-9a-f]*")))
    assert finished >= 1
    index(config)
    assert tables_of(tmp_path / "store" / "runs" / "small") == tables


def test_an_error_keeps_its_field_and_fix_between_processes():
    error = pickle.loads(pickle.dumps(ModelError("gone", field="classifier.path", fix="put it back")))
    assert (error.message, error.field, error.fix) == ("gone", "classifier.path", "put it back")
