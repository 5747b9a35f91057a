"""Shards over several processes: the same tables, and processes that die."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import ModelError, StoreError
from tegakari.store import Store
from tests.indexer.conftest import SmallCase, with_index
from tests.indexer.test_pipeline import tables_of
from tests.support.soak_length import only_in_a_soak


@pytest.fixture(scope="module")
def tables(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process gives, a shard a document."""
    store = tmp_path_factory.mktemp("alone")
    index(with_index(small_case, store, shard_documents=1))
    return tables_of(store / "runs" / "small")


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=only_in_a_soak)])
def test_any_number_of_workers_gives_the_same_tables(small_case: SmallCase, tmp_path: Path, tables, workers: int):
    index(with_index(small_case, tmp_path, shard_documents=1), workers=workers)
    assert tables_of(tmp_path / "runs" / "small") == tables


def children() -> set[int]:
    """Processes whose parent is this one, zombies left out."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and "spawn_main" in command:
            found.add(int(stat.parent.name))
    return found


def test_a_worker_that_dies_is_said_and_its_work_is_done_again(small_case: SmallCase, tmp_path: Path, tables):
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
        index(config, workers=2)
    killer.join()
    assert caught.value.field == "--workers"
    assert Store(tmp_path / "store").names() == []
    kept = len(list(shards.glob("[0-9a-f]*")))
    assert kept >= 1
    index(config)
    assert tables_of(tmp_path / "store" / "runs" / "small") == tables


def test_an_error_of_a_worker_keeps_its_field_and_fix_between_processes():
    error = pickle.loads(pickle.dumps(ModelError("gone", field="classifier.path", fix="put it back")))
    assert (error.message, error.field, error.fix) == ("gone", "classifier.path", "put it back")
