"""Routes for orchestrators: liveness and readiness."""

from __future__ import annotations

from pathlib import Path

from tests.support.factories import make_run
from tests.support.service import client_of


def test_readiness_follows_the_store(tmp_path: Path):
    store = tmp_path / "store"
    with client_of(store) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["type"] == "/docs/errors/not-ready"
        assert str(tmp_path) not in response.text
        assert client.get("/healthz").json() == {"status": "ok"}
        store.mkdir()
        assert client.get("/readyz").json() == {"status": "ready", "runs": 0, "preloaded": 0}
        make_run(store, "one", layers=1)
        assert client.get("/readyz").json() == {"status": "ready", "runs": 1, "preloaded": 0}
        assert client.get("/readyz").headers["cache-control"] == "no-store"
        store.rename(tmp_path / "away")
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
