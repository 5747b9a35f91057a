"""Runs come and go without a restart; the probes say what is so; nothing that waits holds up the others."""

from __future__ import annotations

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from litestar.testing import TestClient

from tegakari.service.app import create_app
from tegakari.store import queries
from tegakari.store.disk.publish import delete_run
from tests.service.conftest import RUN, client_of, get
from tests.support.factories import make_run


def names(client: TestClient) -> list[str]:
    return [run["run"] for run in get(client, "/v1/runs")["items"]]


def test_runs_come_and_go(tmp_path: Path):
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


def test_unfinished_work_is_no_run(tmp_path: Path):
    make_run(tmp_path, "done", layers=1)
    shutil.copytree(tmp_path / "runs" / "done", tmp_path / "work" / "half")
    (tmp_path / "runs" / "stray").mkdir()
    with client_of(tmp_path) as client:
        assert names(client) == ["done"]
        assert client.get("/v1/runs/half").status_code == 404
        assert client.get("/v1/runs/stray").status_code == 404


def test_readiness_follows_the_store(tmp_path: Path):
    store = tmp_path / "store"
    with client_of(store) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["type"] == "/docs/errors/not-ready"
        assert str(tmp_path) not in response.text
        assert client.get("/healthz").json() == {"status": "ok"}
        store.mkdir()
        assert client.get("/readyz").json() == {"status": "ready", "runs": 0}
        make_run(store, "one", layers=1)
        assert client.get("/readyz").json() == {"status": "ready", "runs": 1}
        assert client.get("/readyz").headers["cache-control"] == "no-store"
        store.rename(tmp_path / "away")
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


async def _while_a_question_takes_its_time(store: Path) -> tuple[float, float]:
    app: Any = create_app(store)
    transport = httpx.ASGITransport(app)  # both requests run on one event loop
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        start = time.perf_counter()

        async def seconds_until(path: str) -> float:
            response = await client.get(path)
            assert response.status_code == 200
            return time.perf_counter() - start

        slow, quick = await asyncio.gather(seconds_until(f"/v1/runs/{RUN}/specificity"), seconds_until("/healthz"))
        return slow, quick


def test_a_slow_question_does_not_hold_up_others(store: Path, monkeypatch):
    real = queries.specificity

    def slow(*arguments, **options):
        time.sleep(1)
        return real(*arguments, **options)

    monkeypatch.setattr(queries, "specificity", slow)
    slow_seconds, quick_seconds = asyncio.run(_while_a_question_takes_its_time(store))
    assert slow_seconds >= 1
    assert quick_seconds < 0.8


def test_many_questions_at_once_get_their_own_answers(server):
    paths = [f"/v1/runs/{RUN}/layers/{layer}/features/{feature}" for layer in range(3) for feature in range(40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda path: server.get(path).json(), paths))
    for path, answer in zip(paths, answers, strict=True):
        assert path.endswith(f"/layers/{answer['layer']}/features/{answer['feature']}")
