"""Routes of runs: the list, one run, runs published and deleted while the service runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from litestar.testing import TestClient

from tegakari.store.disk.publish import delete_run
from tests.support.definitions import activations_by_position, label_ids
from tests.support.factories import Case, make_run
from tests.support.service import RUN, UNEVEN, client_of, get


def test_runs_are_listed_by_name(client: TestClient):
    runs = get(client, "/v1/runs")
    assert [run["run"] for run in runs["items"]] == [RUN, UNEVEN]
    assert runs["next"] is None


def test_a_run_names_its_inputs(client: TestClient, case: Case):
    run = get(client, f"/v1/runs/{RUN}")
    assert run == next(item for item in get(client, "/v1/runs")["items"] if item["run"] == RUN)
    assert run["synthetic"] is True
    assert run["pooling"] == "head"
    assert run["positions"] == len(activations_by_position(case, 0))
    assert run["corpus"]["documents"] == len(case.documents)
    assert run["saes"]["widths"] == [40, 40, 40]
    assert run["scores"]["accuracy"] == pytest.approx((label_ids(case) == case.predicted).mean())


def names(client: TestClient) -> list[str]:
    return [run["run"] for run in get(client, "/v1/runs")["items"]]


def test_published_and_deleted_runs_are_noticed(tmp_path: Path):
    store = tmp_path / "store"
    with client_of(store) as client:
        assert client.get("/v1/runs").json() == {"items": [], "next": None}
        make_run(store, "b", layers=1)
        assert names(client) == ["b"]
        make_run(store, "a", layers=1, seed=1)
        assert names(client) == ["a", "b"]
        assert get(client, "/v1/runs/a/labels")["items"]
        delete_run(store, "a")
        assert names(client) == ["b"]
        assert client.get("/v1/runs/a/labels").status_code == 404
        assert get(client, "/v1/runs/b/labels")["items"]


def test_unfinished_work_is_not_a_run(tmp_path: Path):
    make_run(tmp_path, "done", layers=1)
    shutil.copytree(tmp_path / "runs" / "done", tmp_path / "work" / "half")
    (tmp_path / "runs" / "stray").mkdir()
    with client_of(tmp_path) as client:
        assert names(client) == ["done"]
        assert client.get("/v1/runs/half").status_code == 404
        assert client.get("/v1/runs/stray").status_code == 404
