"""A service that warms up has its slow first results before a request asks for them, and answers meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig, Warm
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.study import SparsityResult
from tegakari.service.app import create_app
from tegakari.service.engine import queue
from tegakari.service.process.server import serve
from tegakari.service.routes import sparsity
from tegakari.service.routes.sparsity import sparsity_of_run
from tegakari.store import Run
from tests.support.live_case import LiveCase


def warm_client(store: Path, warm: Warm) -> TestClient:
    return TestClient(create_app(store, ServiceConfig(log="off", warm=warm)), base_url="http://127.0.0.1")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_slow_queries_of_the_newest_run_are_computed_at_the_start(
    live_case: LiveCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    def recorded(run: Run) -> SparsityResult:
        result = sparsity_of_run(run)
        runs.append(run.name)
        return result

    monkeypatch.setattr(sparsity, "sparsity_of_run", recorded)
    with warm_client(live_case.store, "queries") as client:
        wait_until(lambda: runs == ["small"])
        assert client.get("/healthz").status_code == 200
        assert client.app.state.model_queue.loaded == 0


def test_models_of_the_newest_run_are_loaded_at_the_start_if_the_configuration_says_so(live_case: LiveCase) -> None:
    with warm_client(live_case.store, "models") as client:
        wait_until(lambda: client.app.state.model_queue.loaded == 1)


@pytest.mark.parametrize("warm", ["queries", "models"])
def test_a_store_without_runs_or_models_starts_all_the_same(tmp_path: Path, store: Path, warm: Warm) -> None:
    for directory in (tmp_path, store):  # nothing; runs whose models are not on this machine
        with warm_client(directory, warm) as client:
            assert client.get("/readyz").status_code == 200


def preload_client(store: Path, *names: str) -> TestClient:
    config = ServiceConfig(log="off", warm="off", preload=list(names))
    return TestClient(create_app(store, config), base_url="http://127.0.0.1")


def test_the_service_is_ready_once_the_models_to_preload_are_in_memory(
    live_case: LiveCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()
    load = queue._load_run_models

    def slow_load(run: Run) -> object:
        may_load.wait(60)
        return load(run)

    monkeypatch.setattr(queue, "_load_run_models", slow_load)
    with preload_client(live_case.store, "small") as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["detail"] == "the models of 1 runs are loading"
        assert client.get("/v1/runs/small/labels").status_code == 200
        may_load.set()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json()["preloaded"] == 1
        assert client.app.state.model_queue.loaded == 1


def test_models_that_cannot_be_preloaded_leave_the_service_not_ready(store: Path) -> None:
    with preload_client(store, "demo-jpn") as client:
        wait_until(lambda: "could not be loaded" in client.get("/readyz").text)
        assert client.get("/readyz").status_code == 503
        assert "demo-jpn" not in client.get("/readyz").text


def test_a_run_to_preload_must_be_published(store: Path) -> None:
    with pytest.raises(ConfigError, match="no run 'nope'"):
        serve(ServiceConfig(log="off", preload=["nope"], port=0), store)


def test_a_knockout_says_that_its_models_are_loading_and_the_wait_is_kept(
    live_case: LiveCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()
    load = queue._load_run_models

    def slow_load(run: Run) -> object:
        may_load.wait(60)
        return load(run)

    monkeypatch.setattr(queue, "_load_run_models", slow_load)
    with warm_client(live_case.store, "off") as client:
        settings = {"label": "車/軽", "layer": 1, "k": 2, "draws": 0, "seed": 77}
        started = client.post("/v1/runs/small/knockouts", json=settings, params={"wait": 0.2})
        assert started.status_code == 202
        path = started.headers["location"]
        wait_until(lambda: client.get(path).json()["state"] == "loading")
        may_load.set()
        wait_until(lambda: client.get(path).json()["state"] == "done")
