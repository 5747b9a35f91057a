"""Several workers and one model process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tegakari.service.engine.forward_to_models import CLIENT, _forwarded_headers, client_of
from tests.support.live_case import LiveCase
from tests.support.serving import serving


def children(pid: int) -> list[int]:
    return [int(text) for file in Path(f"/proc/{pid}/task").glob("*/children") for text in file.read_text().split()]


def holding_models(pid: int) -> list[int]:
    """Children that have loaded torch."""
    return [child for child in children(pid) if "libtorch" in Path(f"/proc/{child}/maps").read_text()]


def classify(url: str, text: str) -> httpx.Response:
    for _ in range(100):
        # A new connection per request: the system gives it to either worker.
        response = httpx.post(f"{url}/v1/runs/small/classify", json={"texts": [text]}, timeout=60)
        if response.status_code != 503:
            return response
        assert response.headers["retry-after"]
        time.sleep(0.2)
    raise AssertionError(response.text)


def test_one_process_runs_the_models_of_all_workers(live_case: LiveCase):
    texts = list(live_case.texts.values())[:12]
    in_process = [live_case.client.post("/v1/runs/small/classify", json={"texts": [text]}).json() for text in texts]
    with serving("--store", live_case.store, "--workers", "2") as (url, process):
        with ThreadPoolExecutor(6) as pool:
            responses = list(pool.map(lambda text: classify(url, text), texts))
        assert [response.json()["items"][0]["predicted"] for response in responses] == [
            result["items"][0]["predicted"] for result in in_process
        ]
        (model_process,) = holding_models(process.pid)
        assert len(children(process.pid)) >= 3

        wrong = httpx.post(f"{url}/v1/runs/small/encode?top=1", json={"texts": ["x"]})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "top")
        label = httpx.get(f"{url}/v1/runs/small/labels/%E8%BB%8A%2F%E8%BB%BD")
        assert label.status_code == 200

        os.kill(model_process, signal.SIGKILL)  # the one that replaces it serves the next request
        (second,), (first,) = classify(url, texts[0]).json()["items"], responses[0].json()["items"]
        assert second["predicted"] == first["predicted"]
        assert second["probability"] == pytest.approx(first["probability"], rel=1e-4)  # batches differ
        assert holding_models(process.pid) != [model_process]

        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        log = process.stderr.read()
        assert process.wait(30) == 0
    assert "Traceback" not in log
    assert len(re.findall("models loaded", log)) == 2


def test_a_client_cannot_name_another():
    headers = [(b"content-type", b"application/json"), (CLIENT, b"key of another"), (b"x-api-key", b"k")]
    assert _forwarded_headers(headers) == [(b"content-type", b"application/json")]
    scope: Any = {"headers": headers, "state": {"client": "key 1"}}
    assert client_of(scope) == "key 1"


def test_a_key_for_reading_does_not_reach_the_models(live_case: LiveCase, tmp_path: Path):
    keys = tmp_path / "keys.json"
    keys_by_scope = {}
    for scope in ("read", "compute"):
        command = [sys.executable, "-c", "from tegakari.cli import main; main()", "keys", "create", "--json"]
        done = subprocess.run(
            [*command, "--keys", keys, "--name", scope, "--scope", scope], capture_output=True, text=True, check=True
        )
        keys_by_scope[scope] = re.search(r"tgk_\w+|\"key\": *\"([^\"]+)\"", done.stdout)[1]  # type: ignore[index]
    with serving("--store", live_case.store, "--workers", "2", "--keys", keys) as (url, _):
        statuses = {}
        for scope, key in keys_by_scope.items():
            for _ in range(50):
                statuses[scope] = httpx.post(
                    f"{url}/v1/runs/small/classify",
                    json={"texts": ["軽トラ"]},
                    headers={"authorization": f"Bearer {key}"},
                    timeout=60,
                ).status_code
                if statuses[scope] != 503:
                    break
                time.sleep(0.2)
        assert statuses == {"read": 403, "compute": 200}
        assert httpx.post(f"{url}/v1/runs/small/classify", json={"texts": ["x"]}).status_code == 401


def test_no_process_outlives_a_killed_server(live_case: LiveCase):
    with serving("--store", live_case.store, "--workers", "2") as (url, process):
        assert httpx.post(f"{url}/v1/sql", json={"sql": "SELECT 1"}, timeout=60).status_code == 200
        processes = [*children(process.pid), *(pid for child in children(process.pid) for pid in children(child))]
        assert len(processes) >= 4
        process.kill()
        process.wait()
    for _ in range(150):
        alive = [pid for pid in processes if Path(f"/proc/{pid}").exists() and state(pid) != "Z"]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {alive}")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]
    except FileNotFoundError:
        return "Z"
