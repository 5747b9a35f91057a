"""Jobs of a real server: progress over the wire, cancellation, disconnected clients, and killed servers."""

from __future__ import annotations

import json
import shutil
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
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index


class JobsCase(NamedTuple):
    store: Path
    texts: list[str]

    def slow(self, seed: int, first_text: int = 0) -> dict[str, Any]:
        """A knockout that takes seconds; those on other texts share no passes with it."""
        texts = self.texts[first_text:]
        return {"label": "車/軽", "layer": 0, "k": 4, "draws": 100, "seed": seed, "texts": texts}


@pytest.fixture(scope="module")
def jobs_case(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> JobsCase:
    directory = tmp_path_factory.mktemp("jobs") / "store"
    index(with_index(small_case, directory))
    texts = [text for _, _, _, text in small_case.documents]
    return JobsCase(directory, (texts * 10)[:250])


@pytest.fixture(scope="module", params=["1", "2"])
def server(request: pytest.FixtureRequest, jobs_case: JobsCase) -> Iterator[httpx.Client]:
    with (
        serving("--store", jobs_case.store, "--workers", request.param) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def start(client: httpx.Client, settings: dict[str, Any]) -> str:
    for _ in range(50):
        response = client.post("/v1/runs/small/knockouts", json=settings, params={"wait": 0})
        if response.status_code != 503:  # the model process is starting
            break
        time.sleep(0.2)
    assert response.status_code == 202, response.text
    return response.headers["location"]


def test_progress_arrives_while_the_job_runs(server: httpx.Client, jobs_case: JobsCase, request: pytest.FixtureRequest):
    location = start(server, jobs_case.slow(1 + hash(str(server.base_url)) % 1000))
    seen: list[tuple[float, str, dict[str, Any]]] = []
    name = ""
    with server.stream("GET", f"{location}/events", headers={"accept-encoding": "gzip"}) as events:
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
    assert len(set(done)) > 2  # it rises step by step
    assert seen[-1][0] - seen[0][0] > 0.2  # and does not arrive all at once
    assert server.get(location).json()["result"]["documents"] == 250


def test_a_cancelled_job_frees_the_models(server: httpx.Client, jobs_case: JobsCase):
    location = start(server, jobs_case.slow(2000 + hash(str(server.base_url)) % 1000))
    assert server.delete(location).json()["state"] == "cancelled"
    assert server.get(location).json()["state"] == "cancelled"
    started = time.perf_counter()
    quick = {"label": "車/軽", "layer": 1, "k": 2, "draws": 0, "seed": hash(str(server.base_url)) % 1000}
    assert server.post("/v1/runs/small/knockouts", json=quick, params={"wait": 30}).status_code == 200
    assert time.perf_counter() - started < 10


def test_a_disconnected_client_cancels_its_job(server: httpx.Client, jobs_case: JobsCase):
    settings = jobs_case.slow(4000 + hash(str(server.base_url)) % 1000)
    body = json.dumps(settings).encode()
    parts = urlsplit(str(server.base_url))
    head = (
        f"POST /v1/runs/small/knockouts?wait=60 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    before = set(jobs_directory(jobs_case.store).glob("*.json"))
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head.encode() + body)
        for _ in range(200):
            (new,) = set(jobs_directory(jobs_case.store).glob("*.json")) - before or (None,)
            if new and server.get(f"/v1/knockouts/{new.stem}").json()["state"] == "running":
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the job never ran")
    for _ in range(200):
        if (state := server.get(f"/v1/knockouts/{new.stem}").json()["state"]) == "cancelled":
            break
        time.sleep(0.02)
    assert state == "cancelled"


def test_jobs_of_a_killed_server_are_interrupted_and_results_stay(jobs_case: JobsCase):
    """Two servers of the store: the other one finds, follows and cancels jobs of the one that is killed then."""
    quick = {"label": "車/軽", "layer": 1, "k": 5, "draws": 3, "seed": 77}
    with (
        serving("--store", jobs_case.store) as (url, process),
        httpx.Client(base_url=url, timeout=60) as client,
        serving("--store", jobs_case.store) as (url_of_other, _),
        httpx.Client(base_url=url_of_other, timeout=60) as other,
    ):
        finished = client.post("/v1/runs/small/knockouts", json=quick, params={"wait": 60})
        running = start(client, jobs_case.slow(6001))
        waiting = start(client, jobs_case.slow(6002))
        while other.get(running).json()["state"] != "running":
            time.sleep(0.01)
        cancelled = start(client, jobs_case.slow(6003))
        assert other.delete(cancelled).json()["state"] == "cancelled"
        assert start(other, jobs_case.slow(6002)) == waiting  # it is followed there
        listed = {row["id"]: row["state"] for row in other.get("/v1/knockouts", params={"limit": 1000}).json()["items"]}
        assert listed[running.rpartition("/")[2]] == "running"
        with other.stream("GET", f"{running}/events") as events:
            lines = events.iter_lines()
            assert next(lines) == "event: progress"
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert "event: interrupted" in list(lines)
        assert other.get(running).json()["state"] == "interrupted"
        assert "killed" in other.get(waiting).json()["problem"]["detail"]
        assert other.get(finished.headers["content-location"]).json()["result"] == finished.json()["result"]
        assert other.post("/v1/runs/small/knockouts", json=quick).json()["result"] == finished.json()["result"]
        assert start(other, jobs_case.slow(6001)) == running  # a new job with the same id
        assert other.get(running).json()["state"] in ("queued", "loading", "running")
        other.delete(running)


def test_jobs_of_the_last_server_are_interrupted_when_it_is_terminated(jobs_case: JobsCase, tmp_path: Path):
    store = tmp_path / "store"  # servers of the same store would take the jobs over
    shutil.copytree(jobs_case.store / "runs", store / "runs")
    with serving("--store", store) as (url, process), httpx.Client(base_url=url, timeout=60) as client:
        for first_text in range(40):  # more than end before the server does
            running = start(client, jobs_case.slow(7001, first_text))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with serving("--store", store) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get(running).json()["state"] == "interrupted"
