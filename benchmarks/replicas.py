"""One and two replicas of a store behind nginx: requests per second and processor time of reads and of knockouts.

The set-ups run at the same time and are measured in turns; medians of the rounds. On cores that others use, compare the
processor time.

    python -m benchmarks.replicas --store demo-work/store --run demo-jpn
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.load import requests_per_second
from tegakari.store import Store

CLIENTS = 4
"""Clients that send knockouts, each from an address of its own, one after the other."""

TICKS = os.sysconf("SC_CLK_TCK")

NGINX = """
pid {directory}/pid; error_log {directory}/error.log; daemon off; worker_processes 1; events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  upstream tegakari {{ least_conn; {servers} keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://tegakari; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering off; proxy_read_timeout 120s;
    }}
  }}
}}
"""


class Setup(NamedTuple):
    """Servers that are measured together."""

    name: str
    url: str
    processes: list[int]
    """whose processor time counts, with that of their descendants"""


class Measure(NamedTuple):
    """What a round has measured."""

    per_second: float
    cpu_milliseconds: float
    """of the servers, per request"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def replica(store: Path) -> Iterator[tuple[int, int]]:
    """`tegakari serve` on a free port, behind a proxy on this machine: its port and its process."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "tegakari.toml"
        config.write_text(f"[service]\ntrusted_proxies = ['127.0.0.1']\nlog = 'text'\n[index]\nstore = '{store}'\n")
        command = [sys.executable, "-c", "from tegakari.cli import main; main()", "serve", "--config", str(config)]
        log = Path(directory) / "log"
        with log.open("w") as stream, subprocess.Popen([*command, "--port", "0"], stderr=stream) as process:
            try:
                while not (match := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
                    if process.poll() is not None:
                        raise RuntimeError(log.read_text())
                    time.sleep(0.1)
                yield int(match[1]), process.pid
            finally:
                process.terminate()


@contextmanager
def proxied(name: str, store: Path, replicas: int) -> Iterator[Setup]:
    """Replicas behind nginx."""
    nginx = shutil.which("nginx")
    if nginx is None:
        raise SystemExit("nginx is not installed")
    with ExitStack() as stack:
        ports = [stack.enter_context(replica(store)) for _ in range(replicas)]
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        port = free_port()
        servers = " ".join(f"server 127.0.0.1:{upstream};" for upstream, _ in ports)
        configuration = Path(directory) / "nginx.conf"
        configuration.write_text(NGINX.format(directory=directory, servers=servers, port=port))
        proxy = stack.enter_context(subprocess.Popen([nginx, "-p", directory, "-c", str(configuration)]))
        stack.callback(proxy.terminate)
        url = f"http://127.0.0.1:{port}"
        wait_until_answered(url)
        yield Setup(name, url, [*(pid for _, pid in ports), proxy.pid])


def wait_until_answered(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} is not ready")


def processor_seconds(processes: list[int]) -> float:
    """User and system time of processes and of their descendants, those that have ended included."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS

    def counted(process: int) -> bool:
        while process:
            if process in processes:
                return True
            process = parents.get(process, 0)
        return False

    return sum(seconds[process] for process in seconds if counted(process))


def reads(setup: Setup, run: str, labels: list[str], seconds: float) -> Measure:
    """Rows of a label, from memory-mapped blocks."""
    paths = [f"/v1/runs/{run}/labels/{quote(label, safe='')}/features" for label in labels]
    before = processor_seconds(setup.processes)
    rate = requests_per_second(setup.url, paths, seconds)
    return Measure(rate, 1000 * (processor_seconds(setup.processes) - before) / (rate * seconds))


def knockouts(setup: Setup, run: str, label: str, number: int, seed: int, draws: int) -> Measure:
    """Knockouts that nobody has asked for before, of several clients at the same time."""

    async def send() -> float:
        start = time.perf_counter()

        async def client(first: int) -> None:
            transport = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{2 + first}")
            async with httpx.AsyncClient(base_url=setup.url, transport=transport, timeout=300) as connection:
                for turn in range(first, number, CLIENTS):
                    settings = {"label": label, "layer": 1, "k": 4, "draws": draws, "seed": seed + turn}
                    await finished(connection, run, settings)

        await asyncio.gather(*(client(first) for first in range(CLIENTS)))
        return time.perf_counter() - start

    before = processor_seconds(setup.processes)
    seconds = asyncio.run(send())
    return Measure(number / seconds, 1000 * (processor_seconds(setup.processes) - before) / number)


async def finished(connection: httpx.AsyncClient, run: str, settings: dict[str, Any]) -> None:
    """Wait for a knockout, at whichever replica the proxy chooses for each request."""
    response = await connection.post(f"/v1/runs/{run}/knockouts", json=settings, params={"wait": 30})
    response.raise_for_status()
    while response.status_code == 202 or response.json().get("state") in ("queued", "loading", "running"):
        await asyncio.sleep(0.5)
        response = await connection.get(f"/v1/knockouts/{response.json()['id']}")
        response.raise_for_status()
    if response.json()["state"] != "done":
        raise RuntimeError(response.text)


def measured(setups: list[Setup], rounds: int, measure: Callable[[Setup, int], Measure]) -> dict[str, Measure]:
    """Medians per set-up, measured in turns; a first round, in which models are loaded, does not count."""
    measures: dict[str, list[Measure]] = {setup.name: [] for setup in setups}
    for number in range(rounds + 1):
        for setup in setups if number % 2 else setups[::-1]:
            measures[setup.name].append(measure(setup, number))
    return {
        name: Measure(*(statistics.median(column) for column in zip(*rows[1:], strict=True)))
        for name, rows in measures.items()
    }


def main() -> None:
    """Measure and print a table, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("demo-work/store"))
    parser.add_argument("--run", default="demo-jpn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--knockouts", type=int, default=8)
    parser.add_argument("--draws", type=int, default=10)
    arguments = parser.parse_args()
    labels = list(Store(arguments.store).run(arguments.run).labels)
    seeds = iter(range(int(time.time()) % 10**8 * 10, 2**31, arguments.knockouts))
    with ExitStack() as stack:
        setups = [
            stack.enter_context(proxied("1 replica", arguments.store, 1)),
            stack.enter_context(proxied("2 replicas", arguments.store, 2)),
        ]
        read = measured(
            setups, arguments.rounds, lambda setup, _: reads(setup, arguments.run, labels, arguments.seconds)
        )
        computed = measured(
            setups,
            arguments.rounds,
            lambda setup, _: knockouts(
                setup, arguments.run, labels[0], arguments.knockouts, next(seeds), arguments.draws
            ),
        )
    table = Table("", "reads/s", "CPU ms per read", "knockouts/s", "CPU ms per knockout")
    for setup in setups:
        figures = (*read[setup.name], *computed[setup.name])
        table.add_row(setup.name, *(f"{figure:.4g}" for figure in figures))
    Console(stderr=True).print(table)
    one, two = (read["1 replica"], computed["1 replica"]), (read["2 replicas"], computed["2 replicas"])
    figures = {
        "read_cpu_two_over_one": two[0].cpu_milliseconds / one[0].cpu_milliseconds,
        "reads_two_over_one": two[0].per_second / one[0].per_second,
        "knockout_cpu_two_over_one": two[1].cpu_milliseconds / one[1].cpu_milliseconds,
        "knockouts_two_over_one": two[1].per_second / one[1].per_second,
    }
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
