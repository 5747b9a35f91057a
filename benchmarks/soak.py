"""All loads at once on a service with models, for minutes or an hour, while its processes are watched.

Readers, large SQL answers, slow readers, live inference, knockouts that are followed, cancelled and refused, and runs
that are published, replaced and deleted. Memory, descriptors, processes and threads of the server and its children are
drawn as curves; the last line is a JSON object. Status 1: memory grew by more than ACCEPTED_GROWTH, a response was a
500, or the service ended.

    python -m benchmarks.soak [--seconds 600] [--workers 2] [--demo DIR] [--curves FILE.png]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.api import tegakari_server
from benchmarks.process_watch import Watch, descendants, draw, median_between
from benchmarks.store import WORK
from benchmarks.study_scale import Size, make_study_run
from tegakari.store import Store
from tegakari.store.disk.publish import adopt_run, delete_run

console = Console(stderr=True)

RUN = "demo-jpn"
CHURN = "churn"
CHURN_SIZE = Size(layers=2, d_sae=128, labels=6, documents=60, active=20, d_model=64)

ACCEPTED_GROWTH = 1.05
"""Memory at the end of the load over that after the first minute."""

LAST_SECONDS = 10.0
"""Time that the last requests have until their clients leave."""

SETTLING_SECONDS = 15.0
"""After the load, in which the service returns to rest."""

LARGE_SQL = (
    "SELECT f.*, d.* FROM documents d, (FROM features LIMIT 200) f LIMIT 100000",
    "SELECT NULL AS a, NULL AS b, true AS c FROM range(100000)",
    "SELECT repeat('車', 200) AS text, i FROM range(100000) AS r(i)",
    "SELECT * FROM feature_labels ORDER BY abs(mean) DESC LIMIT 100000",
    "SELECT count(*) FROM range(100000000) a, range(1000) b WHERE a.range * b.range % 7 = 1",
)
"""Answers of many bytes, and a query that runs into its time limit."""


class Service(NamedTuple):
    """The service under load."""

    client: httpx.AsyncClient
    address: tuple[str, int]
    run: str
    """whose models are on this machine"""
    labels: list[str]
    layers: int
    random: random.Random

    @property
    def label(self) -> str:
        """A label, percent-encoded."""
        return quote(self.random.choice(self.labels), safe="")


Turn = Callable[[Service], Awaitable[int]]


async def read(service: Service) -> int:
    base, layer = f"/v1/runs/{service.run}", service.random.randrange(service.layers)
    path = service.random.choice(
        [
            f"/labels/{service.label}/features?limit=200",
            f"/labels/{service.label}/features?variety=specific&format=csv",
            f"/features?layer={layer}&order=density",
            f"/layers/{layer}/features/{service.random.randrange(16)}",
            f"/layers/{layer}/features/{service.random.randrange(16)}/histogram",
            f"/documents?label={service.label}",
            "/search?q=車",
            "/specificity",
            "/sparsity",
            "/labels",
        ]
    )
    return (await service.client.get(base + path)).status_code


async def query(service: Service) -> int:
    body = {"sql": service.random.choice(LARGE_SQL), "seconds": 15}
    body["limit"] = service.random.choice([1000, 20_000, 100_000])  # the last are larger than the service permits
    parameters = {"format": service.random.choice(["json", "json", "csv", "arrow", "parquet"])}
    async with service.client.stream("POST", "/v1/sql", json=body, params=parameters) as response:
        async for _ in response.aiter_raw():
            pass
        return response.status_code


async def read_slowly(service: Service) -> int:
    """Ask for a large answer and take a kilobyte of it at a time, or nothing; then leave."""
    body = json.dumps({"sql": LARGE_SQL[2], "limit": 40_000}).encode()
    reader, writer = await asyncio.open_connection(*service.address, limit=4096)
    head = f"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\n\r\n".encode() + body)
    status = 0
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(12):
            line = await reader.readline()
            status = int(line.split(b" ")[1]) if line.startswith(b"HTTP/") else 0
            while service.random.random() < 0.98 and await reader.read(1024):
                await asyncio.sleep(0.1)
    writer.transport.abort()
    return status


async def infer(service: Service) -> int:
    text = "".join(
        service.random.choices("車会議商品軽自動車の新しい予約をします。", k=service.random.choice([20, 200, 5000]))
    )
    kind = service.random.choice(["classify", "encode"])
    body = {"texts": [text] * service.random.choice([1, 8, 64])}
    return (await service.client.post(f"/v1/runs/{service.run}/{kind}", json=body)).status_code


async def follow(service: Service) -> int:
    """Start a knockout, follow its events for a while, and leave, or cancel it."""
    body = {
        "label": service.random.choice(service.labels),
        "layer": 1,
        "draws": 5,
        "seed": service.random.randrange(50),
    }
    started = await service.client.post(f"/v1/runs/{service.run}/knockouts?wait=0", json=body)
    if started.status_code != 202:
        return started.status_code
    path = started.headers["location"]
    with suppress(TimeoutError):
        async with asyncio.timeout(service.random.uniform(0.1, 4)):
            async with service.client.stream("GET", f"{path}/events") as response:
                async for _ in response.aiter_lines():
                    pass
    if service.random.random() < 0.5:
        return (await service.client.delete(path)).status_code
    return started.status_code


async def ask_too_much(service: Service) -> int:
    """Knockouts that are refused for their label, their size or the load; those that are not are cancelled."""
    body = service.random.choice(
        [
            {"label": "no such label", "layer": 0},
            {"label": service.labels[0], "layer": 99},
            {"features": [{"layer": 0, "feature": 3}], "texts": ["車会議" * 5000] * 64, "draws": 100},
            {"features": [{"layer": 0, "feature": n} for n in range(16)], "texts": ["会議"] * 256, "draws": 100},
        ]
    )
    response = await service.client.post(f"/v1/runs/{service.run}/knockouts?wait=0", json=body)
    if response.status_code == 202:
        await service.client.delete(response.headers["location"])
    return response.status_code


async def read_churn(service: Service) -> int:
    path = service.random.choice(
        [
            f"/v1/runs/{CHURN}",
            f"/v1/runs/{CHURN}/labels",
            f"/v1/runs/{CHURN}/features?order=d",
            f"/v1/runs/{CHURN}/layers/0/features/3/neighbours",
            f"/v1/runs/{CHURN}/search?q=商品",
            f"/v1/runs/{CHURN}/specificity",
            "/v1/runs",
        ]
    )
    return (await service.client.get(path)).status_code


async def check_health(service: Service) -> int:
    return (await service.client.get("/healthz")).status_code


class Load(NamedTuple):
    """A kind of request, sent by several clients with a pause after each."""

    turn: Turn
    clients: int
    pause: float
    """seconds"""


LOADS = {
    "reads": Load(read, 2, 0.05),
    "large SQL answers": Load(query, 2, 0.5),
    "slow readers": Load(read_slowly, 6, 0.5),
    "live inference": Load(infer, 3, 0.2),
    "followers": Load(follow, 4, 0.5),
    "refused knockouts": Load(ask_too_much, 2, 0.5),
    "reads of replaced runs": Load(read_churn, 2, 0.05),
    "health": Load(check_health, 1, 0.25),
}

DROPPED = 0
"""Instead of a status: the connection was closed, or the client left before the answer."""


def replace_runs(store: Path, sources: Sequence[Path], stopping: threading.Event) -> None:
    """Publish, replace and delete the run CHURN until the end."""
    number = 0
    while not stopping.wait(0.5):
        adopt_run(store, sources[number % len(sources)])
        number += 1
        stopping.wait(1.5)
        delete_run(store, CHURN)


async def apply_loads(service: Service, watch: Watch, seconds: float) -> dict[str, Counter[int]]:
    """Send all loads for some seconds; the statuses of the responses by load."""
    statuses: dict[str, Counter[int]] = {name: Counter() for name in LOADS}
    end = time.monotonic() + seconds

    async def send(name: str, load: Load) -> None:
        while time.monotonic() < end:
            start = time.monotonic()
            try:
                status = await load.turn(service)
            except httpx.TransportError:
                status = DROPPED
            statuses[name][status] += 1
            if load.turn is check_health:
                watch.health.append((start - watch.start_time, time.monotonic() - start))
            await asyncio.sleep(load.pause)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds + LAST_SECONDS):
            await asyncio.gather(*(send(name, load) for name, load in LOADS.items() for _ in range(load.clients)))
    return statuses


def demo_store(demo: Path) -> Path:
    """A copy of the demo's store with one run; the demo is made where it is missing."""
    if not (demo / "store" / "runs" / RUN / "run.json").is_file():
        command = [sys.executable, "-m", "tegakari.cli", "demo", str(demo), "--no-serve"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    store = WORK / "soak-store"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(demo / "store" / "runs" / RUN, store / "runs" / RUN)
    return store


def churn_sources(directory: Path) -> list[Path]:
    """Two runs of the name CHURN, made where they are missing."""
    for seed in (0, 1):
        make_study_run(directory / f"churn-{seed}", CHURN, seed, CHURN_SIZE, with_vectors=True)
    return [directory / f"churn-{seed}" / "runs" / CHURN for seed in (0, 1)]


def soak(
    store: Path, run: str, sources: Sequence[Path], *, seconds: float, workers: int, curves: Path
) -> dict[str, object]:
    """Run the service under all loads.

    Args:
        store: a store that nobody else uses.
        run: of the store, with models on this machine.
        sources: runs that are published and deleted in turn.
        seconds: duration of the load.
        workers: of the service.
        curves: PNG file to write.

    Returns:
        the figures.
    """
    stopping = threading.Event()
    opened = Store(store).run(run)
    labels, layers = list(opened.labels), len(opened.manifest.saes.layers)
    with tegakari_server(store, workers) as (base, pid, _):
        address = urlsplit(base)
        assert address.hostname is not None
        assert address.port is not None
        server = address.hostname, address.port
        watch = Watch(pid, max(0.25, seconds / 1200))
        churn = threading.Thread(target=replace_runs, args=(store, sources, stopping))

        async def apply() -> dict[str, Counter[int]]:
            async with httpx.AsyncClient(base_url=base, timeout=120, limits=httpx.Limits(max_connections=64)) as client:
                service = Service(client, server, run, labels, layers, random.Random(0))
                return await apply_loads(service, watch, seconds)

        watch.start()
        churn.start()
        statuses = asyncio.run(apply())
        load_end = time.monotonic() - watch.start_time
        stopping.set()
        churn.join()
        time.sleep(min(SETTLING_SECONDS, seconds))
        alive = len(list(descendants(pid))) >= workers
        watch.stop()
    title = f"{seconds:g} s, {workers} workers, {time.strftime('%Y-%m-%d')}"
    draw(watch.samples, watch.health, curves, load_end=load_end, title=title)
    first = min(60.0, seconds / 2)
    early, late = (first * 0.8, first * 1.4), (load_end - first * 0.6, load_end)
    figures: dict[str, object] = {"seconds": seconds, "workers": workers, "alive": alive}
    for name in ("resident", "anonymous", "descriptors", "threads", "processes"):
        before, after = (median_between(watch.samples, name, *span) for span in (early, late))
        unit = 1e6 if name in ("resident", "anonymous") else 1
        figures[f"{name}_early"], figures[f"{name}_late"] = round(before / unit, 1), round(after / unit, 1)
        figures[f"{name}_growth"] = round(after / before, 3)
        figures[f"{name}_max"] = round(max(getattr(sample, name) for sample in watch.samples) / unit, 1)
        figures[f"{name}_rest"] = round(getattr(watch.samples[-1], name) / unit, 1)
    durations = [duration * 1000 for _, duration in watch.health]
    figures["health_p50_ms"], figures["health_p99_ms"] = (
        round(float(q), 1) for q in np.percentile(durations, [50, 99])
    )
    figures["statuses"] = {name: dict(sorted(counts.items())) for name, counts in statuses.items()}
    figures["failures"] = sum(counts[500] for counts in statuses.values())
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table and the JSON object; 0 if the service held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--demo", type=Path, default=WORK / "soak-demo", help="directory of `tegakari demo`")
    parser.add_argument("--curves", type=Path, default=WORK / "soak.png")
    options = parser.parse_args(arguments)
    WORK.mkdir(exist_ok=True)
    store, sources = demo_store(options.demo), churn_sources(WORK)
    settings = {"seconds": options.seconds, "workers": options.workers, "curves": options.curves}
    figures = soak(store, RUN, sources, **settings)
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    console.print(table)
    print(json.dumps(figures))
    held = figures["alive"] and not figures["failures"] and float(str(figures["resident_growth"])) <= ACCEPTED_GROWTH
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
