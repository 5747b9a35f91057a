"""Jobs of a real server: progress over the wire, cancel, clients that leave, and what outlives a kill."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from tegakari.indexer.pipeline import index
from tegakari.store.disk.layout import jobs_directory
from tests.indexer.conftest import SmallCase, with_index
from tests.support.service import serving


class Asked(NamedTuple):
    store: Path
    texts: list[str]

    def slow(self, seed: int) -> dict[str, Any]:
        """A knockout that takes seconds."""
        return {"label": "車/軽", "layer": 0, "k": 4, "draws": 100, "seed": seed, "texts": self.texts}


@pytest.fixture(scope="module")
def asked(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    directory = tmp_path_factory.mktemp("jobs") / "store"
    index(with_index(small_case, directory))
    texts = [text for _, _, _, text in small_case.documents]
    return Asked(directory, (texts * 10)[:250])


@pytest.fixture(scope="module", params=["1", "2"])
def server(request: pytest.FixtureRequest, asked: Asked) -> Iterator[httpx.Client]:
    with (
        serving("--store", asked.store, "--workers", request.param) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def start(client: httpx.Client, settings: dict[str, Any]) -> str:
    for _ in range(50):
        response = client.post("/v1/runs/small/knockouts", json=settings, params={"wait": 0})
        if response.status_code != 503:  # the process of the models starts
            break
        time.sleep(0.2)
    assert response.status_code == 202, response.text
    return response.headers["location"]


def test_progress_comes_while_it_works(server: httpx.Client, asked: Asked, request: pytest.FixtureRequest):
    place = start(server, asked.slow(1 + hash(str(server.base_url)) % 1000))
    seen: list[tuple[float, str, dict[str, Any]]] = []
    name = ""
    with server.stream("GET", f"{place}/events", headers={"accept-encoding": "gzip"}) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        for line in events.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                seen.append((time.perf_counter(), name, json.loads(line.removeprefix("data: "))))
    assert [name for _, name, _ in seen[:-1]] == ["progress"] * (len(seen) - 1)
    assert seen[-1][1] == "done"
    done = [data["done"] for _, _, data in seen]
    assert done == sorted(done)
    assert len(set(done)) > 2  # it rises on the way
    assert seen[-1][0] - seen[0][0] > 0.2  # and does not come all at once
    assert server.get(place).json()["result"]["documents"] == 250


def test_cancelled_work_makes_room(server: httpx.Client, asked: Asked):
    place = start(server, asked.slow(2000 + hash(str(server.base_url)) % 1000))
    assert server.delete(place).json()["state"] == "cancelled"
    assert server.get(place).json()["state"] == "cancelled"
    started = time.perf_counter()
    quick = {"label": "車/軽", "layer": 1, "k": 2, "draws": 0, "seed": hash(str(server.base_url)) % 1000}
    assert server.post("/v1/runs/small/knockouts", json=quick, params={"wait": 30}).status_code == 200
    assert time.perf_counter() - started < 10


def test_a_client_that_leaves_ends_its_work(server: httpx.Client, asked: Asked):
    settings = asked.slow(4000 + hash(str(server.base_url)) % 1000)
    body = json.dumps(settings).encode()
    parts = urlsplit(str(server.base_url))
    head = (
        f"POST /v1/runs/small/knockouts?wait=60 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    before = set(jobs_directory(asked.store).glob("*.json"))
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head.encode() + body)
        for _ in range(200):
            (new,) = set(jobs_directory(asked.store).glob("*.json")) - before or (None,)
            if new and server.get(f"/v1/knockouts/{new.stem}").json()["state"] == "running":
                break
            time.sleep(0.02)
        else:
            raise AssertionError("it never ran")
    for _ in range(200):
        if (state := server.get(f"/v1/knockouts/{new.stem}").json()["state"]) == "cancelled":
            break
        time.sleep(0.02)
    assert state == "cancelled"


def test_what_a_killed_server_leaves(asked: Asked):
    quick = {"label": "車/軽", "layer": 1, "k": 5, "draws": 3, "seed": 77}
    with serving("--store", asked.store) as (url, process), httpx.Client(base_url=url, timeout=60) as client:
        finished = client.post("/v1/runs/small/knockouts", json=quick, params={"wait": 60})
        running = start(client, asked.slow(6001))
        waiting = start(client, asked.slow(6002))
        while client.get(running).json()["state"] != "running":
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving("--store", asked.store) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get(running).json()["state"] == "interrupted"
        assert client.get(waiting).json()["state"] == "interrupted"
        assert client.get(finished.headers["content-location"]).json()["result"] == finished.json()
        assert client.post("/v1/runs/small/knockouts", json=quick).json() == finished.json()
        assert start(client, asked.slow(6001)) == running  # afresh
        assert client.get(running).json()["state"] in ("queued", "running")
        client.delete(running)


def test_a_server_that_is_ended_says_so_of_its_jobs(asked: Asked):
    with serving("--store", asked.store) as (url, process), httpx.Client(base_url=url, timeout=60) as client:
        running = start(client, asked.slow(7001))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with serving("--store", asked.store) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get(running).json()["state"] == "interrupted"
