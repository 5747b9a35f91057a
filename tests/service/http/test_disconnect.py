"""A disconnected client ends its query."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.serving import serving


def sql_processes(pid: int) -> int:
    """Number of SQL processes of a worker, the spare one included."""
    children = [text for file in Path(f"/proc/{pid}/task").glob("*/children") for text in file.read_text().split()]
    return sum("tegakari.store.sql.sandbox" in Path(f"/proc/{child}/cmdline").read_text() for child in children)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_query_ends_with_its_connection(store: Path, workers: str):
    body = json.dumps({"sql": "SELECT count(*) FROM range(10000000000000)", "seconds": 50}).encode()
    head = "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with serving("--store", store, "--workers", workers) as (url, process):
        parts = urlsplit(url)
        pids = [process.pid]
        if workers != "1":
            time.sleep(3)
            tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
            pids = [int(text) for file in tasks for text in file.read_text().split()]
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall(head.encode() + body)
            for _ in range(100):
                if sum(map(sql_processes, pids)) == 2:
                    break
                time.sleep(0.1)
            else:
                raise AssertionError("the query never started")
        for _ in range(100):
            if sum(map(sql_processes, pids)) == 1:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the query still runs without its client")
        assert httpx.post(f"{url}/v1/sql", json={"sql": "SELECT 1"}).status_code == 200
