"""Clients who want the models, the disk and the slots of the service for themselves, against a real server."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from tegakari.indexer.pipeline import index
from tegakari.store.disk.layout import jobs_directory
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index

CONFIG = """
[service]
max_text_tokens = 1000
max_job_tokens = 1000000
max_requests_per_client = 6
log = "off"
warm = "off"
"""
RUN = "/v1/runs/small"


class Attack(NamedTuple):
    """A server, a client that attacks it, and one that only wants to work."""

    store: Path
    attacker: httpx.Client
    other: httpx.Client
    texts: list[str]

    def knockout(self, seed: int, texts: int) -> dict[str, Any]:
        """A knockout of 202 passes; a text has up to 24 tokens."""
        return {"label": "車/軽", "layer": 0, "k": 4, "draws": 100, "seed": seed, "texts": self.texts[:texts]}

    def start(self, client: httpx.Client, settings: dict[str, Any]) -> str:
        for _ in range(100):
            response = client.post(f"{RUN}/knockouts", json=settings, params={"wait": 0})
            if response.status_code != 503:  # the model process is starting
                break
            time.sleep(0.2)
        assert response.status_code == 202, response.text
        return response.headers["location"]


@contextmanager
def client(url: str, address: str) -> Iterator[httpx.Client]:
    """A client without a key, whom the service knows by its address."""
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address=address), timeout=120) as opened:
        yield opened


@pytest.fixture(scope="module")
def live_store(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("live") / "store"
    index(with_index(small_case, directory))
    return directory


@pytest.fixture(scope="module", params=["1", "2"], ids=["one-process", "workers"])
def attack(
    request: pytest.FixtureRequest, small_case: SmallCase, live_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attack]:
    config = tmp_path_factory.mktemp("config") / "tegakari.toml"
    config.write_text(CONFIG)
    options = ("--config", config, "--store", live_store, "--workers", request.param)
    # No text is shorter than 24 tokens, so that costs can be computed by hand.
    texts = [f"{number} {text * 3}" for number, (_, _, _, text) in enumerate(small_case.documents * 5)]
    with (
        serving(*options) as (url, _),
        client(url, "127.0.0.2") as attacker,
        client(url, "127.0.0.1") as other,
    ):
        attack = Attack(live_store, attacker, other, texts[:256])
        attacker.delete(attack.start(attacker, attack.knockout(0, 1)))  # the models are loaded
        yield attack


@pytest.mark.parametrize("route", ["classify", "encode"])
def test_texts_that_cost_too_much_are_refused_with_estimate_limit_and_fix(attack: Attack, route: str):
    response = attack.attacker.post(f"{RUN}/{route}", json={"texts": ["a" * 100_000] * 64})
    problem = response.json()
    assert (response.status_code, problem["type"], problem["field"]) == (413, "/docs/errors/too-costly", "texts")
    assert "64 documents of 1,536 tokens" in problem["detail"]
    assert "the maximum is 1,000" in problem["detail"]
    assert "service.max_text_tokens" in problem["fix"]
    assert attack.attacker.post(f"{RUN}/{route}", json={"texts": ["a" * 100_000] * 41}).status_code == 200


def test_refused_knockouts_leave_nothing_in_the_store(attack: Attack):
    before = set(jobs_directory(attack.store).glob("*"))
    for seed in range(20):
        response = attack.attacker.post(f"{RUN}/knockouts", json=attack.knockout(seed, 256))
        problem = response.json()
        assert (response.status_code, problem["type"]) == (413, "/docs/errors/too-costly")
    assert "256 documents of 6,144 tokens x 202 passes are up to 1,241,088 tokens" in problem["detail"]
    assert "service.max_job_tokens" in problem["fix"]
    unknown = {**attack.knockout(1, 1), "texts": None, "documents": ["none"] * 1}
    assert attack.attacker.post(f"{RUN}/knockouts", json=unknown).status_code == 404
    assert set(jobs_directory(attack.store).glob("*")) == before


def test_a_long_knockout_holds_up_nobody(attack: Attack):
    location = attack.start(attack.attacker, attack.knockout(100, 200))
    while attack.other.get(location).json()["state"] in ("queued", "loading"):
        time.sleep(0.01)
    for text in attack.texts[:5]:
        assert attack.other.post(f"{RUN}/classify", json={"texts": [text]}).status_code == 200
    small = {"label": "車/軽", "layer": 1, "k": 1, "draws": 1, "seed": time.time_ns() % 10**9}
    assert attack.other.post(f"{RUN}/knockouts", json=small, params={"wait": 60}).status_code == 200
    assert attack.other.get("/healthz").status_code == 200
    assert attack.other.delete(location).json()["state"] == "cancelled", "it ended before the short requests"


def test_a_cancelled_knockout_makes_way_for_the_next(attack: Attack):
    for seed in range(200, 203):
        location = attack.start(attack.attacker, attack.knockout(seed, 200))
        while attack.attacker.get(location).json()["state"] in ("queued", "loading"):
            time.sleep(0.01)
        assert attack.attacker.delete(location).json()["state"] == "cancelled"


def test_one_client_cannot_take_every_slot(attack: Attack):
    """Followers of a job stay connected while it runs; the service is one process or has two workers."""
    location = attack.start(attack.attacker, attack.knockout(300, 200))
    statuses = []
    with ExitStack() as followers:
        for _ in range(20):
            response = followers.enter_context(attack.attacker.stream("GET", f"{location}/events"))
            statuses.append(response.status_code)
        assert statuses.count(429) >= 20 - 2 * 6
        assert statuses.count(200) >= 6
        assert attack.other.get(f"{RUN}/labels").status_code == 200
        assert attack.other.post(f"{RUN}/classify", json={"texts": ["a"]}).status_code == 200
    attack.other.delete(location)
    for _ in range(100):
        if attack.attacker.get(f"{RUN}/labels").status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError("the slots of followers that left are still taken")


def in_progress(http: httpx.Client) -> float:
    match = re.search(r"^tegakari_http_requests_in_progress ([\d.]+)", http.get("/metrics").text, re.M)
    assert match
    return float(match[1])


def test_requests_of_killed_workers_are_not_in_progress_for_ever(store: Path):
    with serving("--store", store, "--workers", "2", "--log", "off") as (url, process), ExitStack() as connections:
        address = urlsplit(url)
        for _ in range(8):  # bodies that never come, for both workers
            connection = connections.enter_context(socket.create_connection((address.hostname, address.port)))
            connection.sendall(
                b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n"
            )
        with httpx.Client(base_url=url, timeout=60) as http:  # the workers are starting
            while in_progress(http) < 9:  # with that for the metrics
                time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        environment = Path(f"/proc/{children[-1]}/environ").read_bytes().decode()
        metrics = Path(dict(line.partition("=")[::2] for line in environment.split("\0"))["PROMETHEUS_MULTIPROC_DIR"])
        workers = {int(path.stem.rpartition("_")[2]) for path in metrics.glob("gauge_livesum_*.db")}
        for pid in workers & set(map(int, children)):
            os.kill(pid, signal.SIGKILL)
        for _ in range(300):
            try:
                with httpx.Client(base_url=url) as http:
                    if in_progress(http) == 1:
                        return
            except httpx.TransportError:  # the workers are being replaced
                pass
            time.sleep(0.1)
        raise AssertionError("the requests of the killed workers are still in progress")
