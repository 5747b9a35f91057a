"""A server that is killed leaves no process behind, whatever its children do."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.descendants import command_line, descendants, is_running, wait_for_queries
from tests.support.raw_http import message
from tests.support.serving import serving

ENDLESS = {"sql": "SELECT count(*) FROM range(10000000000000)", "seconds": 50}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_process_outlives_a_killed_server(store: Path, workers: str):
    body = json.dumps(ENDLESS).encode()
    sent = message("POST", "/v1/sql", headers={"Host": "localhost", "Content-Type": "application/json"}, body=body)
    with serving("--store", store, "--workers", workers) as (url, process):
        parts = urlsplit(url)
        with (
            socket.create_connection((parts.hostname, parts.port)) as first,
            socket.create_connection((parts.hostname, parts.port)) as second,
        ):
            first.sendall(sent)
            second.sendall(sent)
            wait_for_queries(process.pid, 2)
            processes = descendants(process.pid)
            process.kill()
            process.wait()
            # SQL ends at once; workers may finish the requests in progress.
            end = time.monotonic() + (5 if workers == "1" else 25)
            while (running := [child for child in processes if is_running(child)]) and time.monotonic() < end:
                time.sleep(0.05)
            assert not running, [command_line(child) for child in running]
