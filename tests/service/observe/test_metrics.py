"""Metrics of models, jobs and caches count what happens."""

from __future__ import annotations

import re

from litestar.testing import TestClient

from tests.support.live_case import LiveCase
from tests.support.service import RUN


def value(client: TestClient, name: str) -> float:
    """Of a sample with its labels; 0 if it is not there yet."""
    match = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.M)
    return float(match[1]) if match else 0.0


def test_knockouts_are_counted_by_their_end_and_by_what_the_store_has(live_case: LiveCase):
    client = live_case.client
    names = [
        "tegakari_model_load_seconds_count",
        'tegakari_jobs_ended_total{state="done"}',
        'tegakari_jobs_ended_total{state="cancelled"}',
        'tegakari_cache_lookups_total{cache="knockout"}',
        'tegakari_cache_hits_total{cache="knockout"}',
    ]
    before = [value(client, name) for name in names]
    settings = {"label": live_case.run.labels[0], "layer": 0, "k": 1, "draws": 0}
    for _ in range(2):
        assert client.post("/v1/runs/small/knockouts", json=settings, params={"wait": 60}).status_code == 200
    slow = {**settings, "texts": [f"軽トラ {number}" for number in range(250)], "draws": 100, "k": 3}
    location = client.post("/v1/runs/small/knockouts", json=slow, params={"wait": 0}).headers["location"]
    assert value(client, "tegakari_jobs_active") == 1
    client.delete(location)
    after = [value(client, name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 2, 1, 3, 1]
    assert value(client, "tegakari_jobs_active") == 0
    assert value(client, "tegakari_model_requests_waiting") == 0


def test_results_in_memory_are_counted_as_hits(client: TestClient):
    lookups, hits = (f'tegakari_cache_{what}_total{{cache="sparsity"}}' for what in ("lookups", "hits"))
    client.get(f"/v1/runs/{RUN}/sparsity")
    before = value(client, lookups), value(client, hits)
    client.get(f"/v1/runs/{RUN}/sparsity")
    assert (value(client, lookups) - before[0], value(client, hits) - before[1]) == (1, 1)
