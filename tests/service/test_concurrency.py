"""Requests at the same time: a slow query holds up no others, and every request gets its own result."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tegakari.service.app import create_app
from tegakari.store import queries
from tests.support.service import RUN


async def _seconds_of_simultaneous_requests(store: Path) -> tuple[float, float]:
    """Of a slow query, and of a request sent at the same time."""
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


def test_a_slow_query_does_not_hold_up_others(store: Path, monkeypatch):
    real = queries.specificity

    def slow(*arguments, **options):
        time.sleep(2)
        return real(*arguments, **options)

    monkeypatch.setattr(queries, "specificity", slow)
    slow_seconds, quick_seconds = asyncio.run(_seconds_of_simultaneous_requests(store))
    assert slow_seconds >= 2
    assert quick_seconds < slow_seconds - 0.5


def test_simultaneous_requests_get_their_own_results(server):
    paths = [f"/v1/runs/{RUN}/layers/{layer}/features/{feature}" for layer in range(3) for feature in range(40)]
    with ThreadPoolExecutor(16) as pool:
        features = list(pool.map(lambda path: server.get(path).json(), paths))
    for path, feature in zip(paths, features, strict=True):
        assert path.endswith(f"/layers/{feature['layer']}/features/{feature['feature']}")
