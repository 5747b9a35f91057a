"""Cached results of functions of a run, and what a deleted run leaves open."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from litestar.testing import TestClient

from tegakari.analyses.knockout.holdout import holdout_of
from tegakari.store import Run, Store, queries
from tegakari.store.disk.publish import delete_run
from tegakari.store.weak_cache import weakly_cached
from tests.support.factories import LABELS, make_run
from tests.support.service import client_of, segment


class Owner:
    pass


def test_the_results_used_last_are_kept():
    calls: list[int] = []

    @weakly_cached(maxsize=2)
    def doubled(_: Owner, number: int, *, plus: int = 0) -> int:
        calls.append(number)
        return 2 * number + plus

    owner = Owner()
    assert [doubled(owner, n) for n in (1, 2, 1, 3, 1, 2)] == [2, 4, 2, 6, 2, 4]
    assert calls == [1, 2, 3, 2]
    assert doubled(owner, 2, plus=1) == 5
    assert doubled(Owner(), 2) == 4  # another owner
    assert calls == [1, 2, 3, 2, 2, 2]
    assert doubled.__name__ == "doubled"


def test_results_are_released_with_their_owners():
    class Result:
        pass

    released: list[str] = []

    @weakly_cached(maxsize=8)
    def result(a: Owner, *, b: Owner) -> Result:
        value = Result()
        weakref.finalize(value, released.append, "result")
        return value

    a, b = Owner(), Owner()
    assert result(a, b=b) is result(a, b=b)
    del b
    assert released == ["result"]
    del a


READS: dict[str, Callable[[Run], object]] = {
    "blocks": lambda run: queries.label_features(run, LABELS[0]),
    "order": lambda run: queries.features(run, order="variety"),
    "holdout": lambda run: holdout_of(run, 0).strongest(LABELS[0], 0, 2),
    "sql": queries.labels,
}


@pytest.mark.parametrize("read", READS)
def test_a_deleted_run_is_released(tmp_path: Path, read: str):
    make_run(tmp_path, "drawn")
    store = Store(tmp_path)
    READS[read](store.run("drawn"))
    assert open_files(tmp_path)
    delete_run(tmp_path, "drawn")
    make_run(tmp_path, "next")
    store.run("next")
    gc.collect()
    assert open_files(tmp_path) == []


def open_files(directory: Path) -> list[str]:
    """Files below a directory that this process has open or mapped."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the listing's own
            continue
    mapped = [line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()]
    return [target for target in (*targets, *mapped) if target.startswith(str(directory))]


def test_a_service_whose_runs_come_and_go_holds_the_files_and_threads_of_none(tmp_path: Path):
    with client_of(tmp_path) as client:
        counts = [churn(client, tmp_path, number) for number in range(8)]
    (files, threads), (last_files, last_threads) = counts[1], counts[-1]
    assert last_files <= files
    assert last_threads <= threads + 2  # a pool may grow by one


def churn(client: TestClient, store: Path, number: int) -> tuple[int, int]:
    """Publish a run, read it by several routes, delete it; open files of the store and threads afterwards."""
    run, label = f"run-{number}", segment(LABELS[0])
    make_run(store, run)
    for path in ("labels", f"labels/{label}/features", "features?order=variety", "sparsity", "classification"):
        assert client.get(f"/v1/runs/{run}/{path}").status_code == 200, path
    delete_run(store, run)
    client.get("/v1/runs")
    gc.collect()
    return len(open_files(store)), len(list(Path("/proc/self/task").iterdir()))
