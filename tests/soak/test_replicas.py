"""Servers of one store behind nginx: one is stopped, one is killed, and no request of a client goes astray."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tegakari.indexer.pipeline import index
from tegakari.store.disk.layout import jobs_directory
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index
from tests.support.soak_length import only_in_a_soak

CLIENTS = 6
KNOCKOUTS_PER_CLIENT = 6
DEPLOYED = Path(__file__).parents[2] / "deploy/nginx.conf"

pytestmark = [
    only_in_a_soak,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine"),
]


@pytest.fixture
def store(small_case: SmallCase, tmp_path: Path) -> Path:
    index(with_index(small_case, tmp_path / "store"))
    return tmp_path / "store"


@contextmanager
def proxy(directory: Path, urls: list[str]) -> Iterator[str]:
    """Nginx with the deployed configuration, without TLS, before some servers: its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory.mkdir()
    text = DEPLOYED.read_text(encoding="utf-8")
    servers = "\n".join(f"server {urlsplit(url).netloc};" for url in urls)
    text = text.replace("server 127.0.0.1:8765;", servers).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    text = text.replace("server_name tegakari.example.org;", "server_name 127.0.0.1;")
    text = "\n".join(line for line in text.splitlines() if "ssl_" not in line)
    scratch = "".join(
        f"{kind}_temp_path {directory}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"pid {directory}/pid; error_log {directory}/error.log; daemon off; events {{}} "
        f"http {{ access_log off; {scratch} {text} }}"
    )
    with subprocess.Popen(["nginx", "-p", str(directory), "-c", str(configuration)]) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def ended(client: httpx.Client, settings: dict[str, Any]) -> dict[str, Any]:
    """A knockout once it has ended; requests are repeated as the documentation says."""
    end, last = time.monotonic() + 240, ""
    while time.monotonic() < end:
        try:
            response = client.post("/v1/runs/small/knockouts", json=settings, params={"wait": 1})
            while response.status_code == 202 or response.json().get("state") in ("queued", "loading", "running"):
                time.sleep(0.2)
                response = client.get(f"/v1/knockouts/{response.json()['id']}")
        except (httpx.TransportError, ValueError):  # a POST whose server died: 502 of nginx, which is no JSON
            time.sleep(0.2)
            continue
        if response.status_code == 200 and response.json()["state"] == "done":
            return response.json()["result"]
        last = response.text
        time.sleep(0.2)
    raise AssertionError(last)


def test_clients_of_replicas_get_their_results_while_these_are_stopped_and_killed(store: Path, tmp_path: Path):
    settings = [
        {"label": "車/軽", "layer": layer, "k": k, "draws": 100, "seed": seed}
        for layer in (0, 1)
        for k in (1, 2, 3)
        for seed in range(CLIENTS * KNOCKOUTS_PER_CLIENT // 6)
    ]
    with ExitStack() as stack:
        servers = [stack.enter_context(serving("--store", store, "--log", "text")) for _ in range(3)]
        logs = []
        for _, process in servers:
            assert process.stderr
            # Read at once: a full pipe would stop the server.
            logs.append(stack.enter_context(ThreadPoolExecutor(1)).submit(process.stderr.read))
        url = stack.enter_context(proxy(tmp_path / "nginx", [url for url, _ in servers]))

        def play(first: int) -> list[dict[str, Any]]:
            with httpx.Client(base_url=url, timeout=60) as client:
                return [ended(client, one) for one in settings[first::CLIENTS]]

        with ThreadPoolExecutor(CLIENTS) as pool:
            plays = [pool.submit(play, first) for first in range(CLIENTS)]
            time.sleep(5)
            servers[0][1].send_signal(signal.SIGTERM)
            time.sleep(5)
            servers[1][1].send_signal(signal.SIGKILL)
            results = [result for done in plays for result in done.result(300)]
        assert servers[0][1].wait(30) == 0
        assert "job handed over" in logs[0].result(10)
        assert Counter(result["settings"]["seed"] for result in results) == Counter(one["seed"] for one in settings)
        with httpx.Client(base_url=servers[2][0], timeout=60) as client:
            rows = client.get("/v1/knockouts", params={"limit": 1000}).json()["items"]
            assert {row["state"] for row in rows} == {"done"}
            assert len(rows) == len(settings)
        servers[2][1].send_signal(signal.SIGTERM)
        assert servers[2][1].wait(60) == 0
        assert "job of a dead server interrupted" in logs[2].result(10)
    assert not list(jobs_directory(store).glob("*.json"))


def test_notes_and_explanations_of_two_servers_are_all_kept(store: Path):
    with ExitStack() as stack:
        urls = [stack.enter_context(serving("--store", store, "--log", "off"))[0] for _ in range(2)]
        clients = [stack.enter_context(httpx.Client(base_url=url, timeout=120)) for url in urls]

        def write(number: int) -> None:
            client, path = clients[number % 2], f"/v1/runs/small/layers/{number % 2}/features/{number % 3}"
            note = {"author": f"author {number}", "text": f"note {number}", "starred": True}
            assert client.patch(f"{path}/note", json=note).status_code == 200
            explanation = {"author": f"author {number}", "text": f"explanation {number}"}
            assert client.post(f"{path}/explanations", json=explanation).status_code == 200
            tag = {"author": "shared", "tags": [f"tag{number}"]}
            assert client.patch("/v1/runs/small/layers/0/features/0/note", json=tag).status_code == 200
            assert note["author"] in authors(clients[1 - number % 2], "notes")  # the other server has it at once

        def authors(client: httpx.Client, resource: str) -> set[str]:
            parameters = {"limit": 1000, **({"method": "person"} if resource == "explanations" else {})}
            response = client.get(f"/v1/runs/small/{resource}", params=parameters)
            assert response.status_code == 200, response.text
            return {row["author"] for row in response.json()["items"]}

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(80)))
        for client in clients:
            assert authors(client, "notes") == {*(f"author {number}" for number in range(80)), "shared"}
            assert authors(client, "explanations") == {f"author {number}" for number in range(80)}
