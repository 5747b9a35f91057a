"""Time and size of every page of the explorer: `python -m benchmarks.explorer [--store DIR ...] [--large]`.

The stores are those that are named, and runs of the study's shape at `--scale` (see benchmarks.store); with --large
also a run with 1,000 labels and one with 26 layers of 16,384 features. A `tegakari serve` per store answers whole
requests over HTTP; the median is of 20 requests after 4. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.api import tegakari_server
from benchmarks.machine import machine
from benchmarks.store import WORK, study_store
from benchmarks.study_scale import Size, make_study_run
from tegakari.service import explorer
from tools.explorer_pages import explorer_pages

WARM_UP, REQUESTS = 3, 20
LARGE = {
    "1,000 labels": Size(layers=2, d_sae=512, labels=1000, documents=6000, active=40),
    "26 layers of 16,384 features": Size(layers=26, d_sae=16_384, labels=4, documents=200, active=60),
}
STATIC = Path(explorer.__file__).parent / "static"


class PageFigures(NamedTuple):
    """A page's time and size."""

    first_ms: float
    """of the first request"""
    median_ms: float
    """of the requests after the warm-up"""
    cpu_ms: float
    """of the server, mean of the same requests: other programs of the machine do not count"""
    html_kb: float
    """1,000 bytes, uncompressed, with pictures"""
    text_kb: float
    """without pictures"""
    compressed_kb: float
    """as a browser receives it"""


def measure(client: httpx.Client, path: str, server: int) -> PageFigures:
    """Request a page of a server, by the id of its process, until its median is known."""
    seconds = []
    cpu_before = 0.0
    for number in range(1 + WARM_UP + REQUESTS):
        if number == 1 + WARM_UP:
            cpu_before = _cpu_seconds(server)
        start = time.perf_counter()
        client.get(path)
        seconds.append(time.perf_counter() - start)
    cpu = _cpu_seconds(server) - cpu_before
    html = client.get(path).text
    received = client.send(client.build_request("GET", path, headers={"Accept-Encoding": "gzip"}), stream=True)
    compressed = sum(map(len, received.iter_raw()))
    received.close()
    return PageFigures(
        1e3 * seconds[0],
        1e3 * statistics.median(seconds[1 + WARM_UP :]),
        1e3 * cpu / REQUESTS,
        len(html.encode()) / 1e3,
        len(re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL).encode()) / 1e3,
        compressed / 1e3,
    )


def _cpu_seconds(process: int) -> float:
    """User and system time of a process, as Linux counts it in hundredths of a second."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_store(store: Path) -> dict[str, PageFigures]:
    """Figures of every page of a store, by name."""
    headers = {"Accept-Encoding": "identity", "Accept": "text/html"}
    with (
        tegakari_server(store, 1) as (url, server, _),
        httpx.Client(base_url=url, timeout=120, headers=headers) as client,
    ):
        return {name: measure(client, path, server) for name, path in explorer_pages(client).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table per store, then one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explorer")
    parser.add_argument("--store", type=Path, action="append", default=[], help="a store, such as demo-work/store")
    parser.add_argument("--scale", type=float, default=0.1, help="of a store of the study's shape; 0: none")
    parser.add_argument("--large", action="store_true", help="runs with many labels, and with many features")
    options = parser.parse_args(arguments)
    stores = {str(store.parent.name): store for store in options.store}
    if options.scale:
        stores[f"study-scale {options.scale:g}"] = study_store(options.scale)
    for name, size in LARGE.items() if options.large else ():
        stores[name] = WORK / f"explorer-{name.replace(' ', '-').replace(',', '')}"
        make_study_run(stores[name], "large", 0, size)
    console, figures = Console(), {}
    for name, store in stores.items():
        figures[name] = measure_store(store)
        table = Table(
            "page", *("first ms", "median ms", "CPU ms", "html kB", "without pictures kB", "compressed kB"), title=name
        )
        for page, row in figures[name].items():
            table.add_row(page, *(f"{value:.1f}" for value in row))
        console.print(table)
    static = {file.name: file.stat().st_size for file in sorted(STATIC.iterdir())}
    console.print(f"styles and scripts: {sum(static.values()) / 1e3:.1f} kB in {len(static)} files, uncompressed")
    rows = {name: {page: row._asdict() for page, row in pages.items()} for name, pages in figures.items()}
    print(json.dumps({"machine": machine(), "pages": rows, "static_bytes": static}))


if __name__ == "__main__":
    main()
