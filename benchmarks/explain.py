"""Explanations of 1,000 features by a server on this machine that answers in 50 ms, beside the limit of 16 requests.

    python -m benchmarks.explain [--features 1000] [--concurrency 16] [--delay 0.05] [--repeat 3]

The server is a process of its own (tests/support/chat_server.py). The run has random activations and contexts; every
repeat begins without explanations and cached answers, and is followed by one that finds all answers in the cache.
Processor seconds are the client's; what a request costs beside its prompt is the difference of the two. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from tegakari.analyses.explanations.explain_features import Feature, explain_features
from tegakari.schemas.config import ExplainConfig
from tegakari.store import Run, Store
from tegakari.store.disk.layout import explanations_directory
from tests.support.chat_server import MODEL, ChatServer, explained
from tests.support.factories import make_run

RUN = "random"
DOCUMENTS_PER_LABEL = 40

console = Console(stderr=True)


def serve(delay: float, pipe: Connection) -> None:
    """Serve until the process is ended; the address goes into the pipe."""
    server = ChatServer(lambda body: explained("names of small trucks"), delay=delay)
    pipe.send(server.url)
    server.serve_forever(0.5)


def seconds(run: Run, features: list[Feature], config: ExplainConfig, *, cached: bool) -> tuple[float, float]:
    """Wall and processor time of explaining features that have no explanation, with or without answers in the cache."""
    shutil.rmtree(explanations_directory(run.store, run.manifest), ignore_errors=True)
    if not cached:
        shutil.rmtree(run.store / "explanations", ignore_errors=True)
    start, processor = time.perf_counter(), time.process_time()
    result = explain_features(run, features, config)
    elapsed = time.perf_counter() - start, time.process_time() - processor
    assert result.explained == len(features), result
    assert result.usage.requests == (0 if cached else len(features)), result.usage
    return elapsed


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds until an answer")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        make_run(
            Path(directory), RUN, layers=2, d_sae=arguments.features // 2 + 20, documents_per_label=DOCUMENTS_PER_LABEL
        )
        run = Store(directory).run(RUN)
        features = [Feature(layer, number) for layer in (0, 1) for number in range(arguments.features // 2)]
        receiver, sender = multiprocessing.Pipe(duplex=False)
        server = multiprocessing.get_context("fork").Process(target=serve, args=(arguments.delay, sender), daemon=True)
        server.start()
        config = ExplainConfig(base_url=receiver.recv(), model=MODEL, concurrency=arguments.concurrency)
        figures: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(arguments.repeat):
            for name, cached in (("asked", False), ("cached", True)):
                wall, processor = seconds(run, features, config, cached=cached)
                figures[name].append(wall)
                figures[f"{name}_processor"].append(processor)
        server.terminate()
    limit = len(features) / arguments.concurrency * arguments.delay
    columns = "asked, s", "asked, processor s", "cached, s", "cached, processor s", "limit of the server, s"
    table = Table("explanations", *columns)
    table.add_row(
        f"{len(features):,}",
        *(" ".join(f"{value:.2f}" for value in values) for values in figures.values()),
        f"{limit:.2f}",
    )
    console.print(table)
    medians = {name: round(statistics.median(values), 3) for name, values in figures.items()}
    result = {"explanations": len(features), "seconds": medians, "limit_seconds": limit, "machine": machine()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
