"""Requests per second of the API on a run of the study's size, against FastAPI, orjson and asyncpg on PostgreSQL.

Both serve "features of a label, 50 rows" for every label in turn, with the same rows, one server after the other, on
the same two cores as the load tool and PostgreSQL. Neither caches anything but files.

    python -m benchmarks.api [--scale 0.1] [--seconds 4] [--rounds 5] [--soak-seconds 60]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import postgres
from benchmarks.environments import Environment
from benchmarks.load import latencies, requests_per_second, wait_until_answered
from benchmarks.store import WORK, study_store
from tegakari.store import Run, Store

console = Console(stderr=True)

PEER = Environment(
    "fastapi",
    (
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "uvloop==0.23.0",
        "httptools==0.9.0",
        "orjson==3.13.0",
        "asyncpg==0.32.0",
    ),
)
CORES = 2
RUN = "study-0"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def tegakari_server(store: Path, workers: int) -> Iterator[tuple[str, int, float]]:
    """Run `tegakari serve`: its address, its process id, and the seconds from its start until it was ready."""
    base = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tegakari.cli", "serve", "--store", str(store), "--log", "off"]
    command += ["--port", base.rpartition(":")[2], "--workers", str(workers), "--keys", str(WORK / "no-keys.json")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            ready = wait_until_answered(f"{base}/readyz")
            yield base, process.pid, ready
        finally:
            process.terminate()


@contextmanager
def peer_server(sockets: str, workers: int) -> Iterator[str]:
    """Run the peer: its address."""
    port = free_port()
    command = [str(PEER.make()), str(Path(__file__).with_name("peer_api.py")), sockets, str(port), str(workers)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            base = f"http://127.0.0.1:{port}"
            wait_until_answered(f"{base}/openapi.json")
            yield base
        finally:
            process.terminate()


def read_json(url: str) -> Any:
    with urllib.request.urlopen(url) as response:
        return json.loads(response.read())


def check_same_rows(base: str, peer: str, labels: Sequence[str]) -> None:
    """Assert that both servers give the same rows in the same order."""
    for label in labels:
        path = f"/labels/{quote(label, safe='')}/features"
        rows, peer_rows = (read_json(f"{root}{path}")["items"] for root in (f"{base}/v1/runs/{RUN}", peer))
        assert len(rows) == 50
        for row, peer_row in zip(rows, peer_rows, strict=True):
            assert row.keys() == peer_row.keys()
            for name, value in row.items():
                close = (
                    np.isclose(value, peer_row[name], rtol=1e-6)
                    if isinstance(value, float)
                    else value == peer_row[name]
                )
                assert close, (label, name, row, peer_row)


def memory(pid: int) -> dict[str, int]:
    """Resident bytes of a process and its children: all (VmRSS), and those without mapped files (RssAnon)."""
    total = {"VmRSS": 0, "RssAnon": 0}
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (str(pid), *children):
        status = Path(f"/proc/{process}/status").read_text()
        for name in total:
            match = re.search(rf"{name}:\s+(\d+) kB", status)
            total[name] += int(match[1]) * 1024 if match else 0
    return total


def mixed_paths(run: Run, number: int) -> list[str]:
    """Random paths of all kinds of requests."""
    generator = random.Random(0)
    base, layers = f"/v1/runs/{RUN}", run.manifest.saes.layers
    paths = []
    for _ in range(number):
        label = quote(generator.choice(run.labels), safe="")
        layer, feature = generator.choice(layers), generator.randrange(run.manifest.saes.widths[0])
        paths.append(
            generator.choice(
                [
                    f"{base}/labels/{label}/features?layer={layer}",
                    f"{base}/labels/{label}/features?limit=200&format=csv",
                    f"{base}/labels/{label}",
                    f"{base}/layers/{layer}/features/{feature}",
                    f"{base}/layers/{layer}/features/{feature}/documents",
                    f"{base}/features?layer={layer}&order=density&limit=20",
                    f"{base}/documents?label={label}&limit=20",
                    f"{base}/specificity",
                ]
            )
        )
    return paths


def soak(store: Path, run: Run, seconds: float, workers: int) -> dict[str, float]:
    """Memory at the end of a mixed load over that after its first minute, or after its first half if it is shorter."""
    paths = mixed_paths(run, 2000)
    with tegakari_server(store, workers) as (base, pid, _):
        first = min(60.0, seconds / 2)
        latencies(base, paths, 100, first)
        early = memory(pid)
        if seconds > first:
            latencies(base, paths, 100, seconds - first)
        late = memory(pid)
    return {
        "rss_growth": late["VmRSS"] / early["VmRSS"],
        "rss_anonymous_growth": late["RssAnon"] / early["RssAnon"],
        "rss_anonymous_mb": late["RssAnon"] / 1e6,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of both servers")
    parser.add_argument("--soak-seconds", type=float, default=60.0)
    parser.add_argument("--store", type=Path, help="a store with a run study-0; default: one of the study's size")
    options = parser.parse_args(arguments)
    WORK.mkdir(exist_ok=True)
    store = options.store or study_store(options.scale)
    run = Store(store).run(RUN)
    labels = [quote(label, safe="") for label in run.labels]
    paths = [f"/v1/runs/{RUN}/labels/{label}/features" for label in labels]
    peer_paths = [f"/labels/{label}/features" for label in labels]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        starts = []
        for _ in range(3):
            with tegakari_server(store, 1) as (_, _, seconds):
                starts.append(seconds)
        figures["start_s"] = statistics.median(starts)
        base, _, _ = stack.enter_context(tegakari_server(store, options.workers))
        peer = None
        if postgres.available():
            connection = stack.enter_context(postgres.server(WORK / "postgres"))
            postgres.load(connection, run)
            peer = stack.enter_context(peer_server(connection.info.host, options.workers))
            check_same_rows(base, peer, run.labels[:20])
        else:
            console.print(f"no PostgreSQL in {postgres.BINARIES} or no psycopg: tegakari alone")
        rates, ratios, peer_rates = [], [], []
        requests_per_second(base, paths, 2)
        for _ in range(options.rounds):
            rates.append(requests_per_second(base, paths, options.seconds))
            if peer is not None:
                peer_rates.append(requests_per_second(peer, peer_paths, options.seconds))
                ratios.append(rates[-1] / peer_rates[-1])
        figures["label_features_rps"] = statistics.median(rates)
        half = figures["label_features_rps"] / 2
        seconds = latencies(base, paths, half, 2 * options.seconds)
        figures["label_features_p50_ms"], figures["label_features_p99_ms"] = np.percentile(seconds, [50, 99]) * 1e3
        if peer_rates:
            figures["peer_rps"] = statistics.median(peer_rates)
            figures["rps_over_peer"] = statistics.median(ratios)
    figures |= soak(store, run, options.soak_seconds, options.workers)
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}")
    console.print(table)
    print(f"{CORES} cores for servers and load tool, {options.workers} workers, {time.strftime('%Y-%m-%d %H:%M')}")
    print(json.dumps({name: round(float(value), 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
