"""A service that warms up has its slow first results before a request asks for them, and answers meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig, Warm
from tegakari.schemas.study import SparsityResult
from tegakari.service.app import create_app
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
