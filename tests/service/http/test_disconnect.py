"""A disconnected client ends its query."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.descendants import wait_for_queries
from tests.support.serving import serving


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_query_ends_with_its_connection(store: Path, workers: str):
    body = json.dumps({"sql": "SELECT count(*) FROM range(10000000000000)", "seconds": 50}).encode()
    head = "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with serving("--store", store, "--workers", workers) as (url, process):
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall(head.encode() + body)
            wait_for_queries(process.pid, 1)
        wait_for_queries(process.pid, 0, seconds=5)
        assert httpx.post(f"{url}/v1/sql", json={"sql": "SELECT 1"}, timeout=60).status_code == 200
