"""The store at the study's scale, beside PostgreSQL with B-tree indexes on the same rows.

    python -m benchmarks.store [--rounds 300] [--scale 1.0] [--keep-postgres]

Two runs of 26 layers x 9,216 features x 107 labels are written by the real writer (ten minutes, once: they are kept in
benchmarks/work under the hash of what made them). PostgreSQL gets the rows of one; both are asked the same questions in
turn and must answer alike. Without PostgreSQL or psycopg (`pip install -e '.[bench]'`) only ours is measured. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks import postgres
from benchmarks.study_scale import Size, make_study_run
from tegakari.schemas.api import LabelFeature
from tegakari.store import Store, queries
from tegakari.store.blocks.activations import Activations, ordered
from tegakari.store.disk.layout import layer_file, run_directory
from tegakari.store.reader import Run
from tegakari.store.sql.writer import RunWriter

WORK = Path(__file__).parent / "work"
CODE = ("benchmarks/study_scale.py", "tegakari/indexer/merge.py", "tegakari/indexer/merged_layer.py",
        "tegakari/indexer/layer_tables.py", "tegakari/indexer/document_tables.py", "tegakari/store/sql/writer.py",
        "tegakari/store/blocks/activations.py", "tegakari/schemas/run.py", "tegakari/schemas/tables.py")  # fmt: skip
"""What decides the content of the runs."""

TOKENS = DOCUMENTS = 20
"""Rows of each that a feature's page shows."""

console = Console(width=130)


class Latency(NamedTuple):
    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        return cls(*(float(np.percentile(seconds, share)) * 1e3 for share in (50, 99)))


def study_store(scale: float) -> Path:
    """A store with runs study-0 and study-1, made where it is not there yet."""
    digest = hashlib.sha256(repr((scale, duckdb.__version__)).encode())
    for name in CODE:
        digest.update((Path(__file__).parent.parent / name).read_bytes())
    store = WORK / f"study-{digest.hexdigest()[:12]}"
    for seed in range(2):
        size = Size() if scale == 1 else Size().scaled(scale)
        manifest = make_study_run(store, f"study-{seed}", seed, size)
        console.print(f"{store.name}/{manifest.run}: {manifest.activations:,} activations, {manifest.timings}")
    return store


# The two questions. Ours are answered with structs, theirs with tuples; they are compared as tuples, outside the clock.


class FeaturePage(NamedTuple):
    feature: Any
    labels: Any
    tokens: Any
    documents: Any


def ours_label(store: Store, label: str) -> list[LabelFeature]:
    return queries.label_features(store.run("study-0"), label, limit=50).items


def theirs_label(connection: Any, label: str) -> list[tuple[Any, ...]]:
    return connection.execute(postgres.LABEL_FEATURES, (label, 50), prepare=True, binary=True).fetchall()


def label_rows(found: list[LabelFeature]) -> list[tuple[Any, ...]]:
    return [
        (r.layer, r.feature, r.d, r.mean, r.sd, r.variety, r.density, r.max_activation, r.top_tokens) for r in found
    ]


def ours_feature(store: Store, layer: int, feature: int) -> FeaturePage:
    run = store.run("study-0")
    found = queries.feature(run, layer, feature, tokens=TOKENS)
    documents = queries.feature_documents(run, layer, feature, limit=DOCUMENTS)
    return FeaturePage(found, found.labels, found.tokens, documents)


def theirs_feature(connection: Any, layer: int, feature: int) -> FeaturePage:
    place = layer, feature
    with connection.pipeline():  # four questions, one trip
        head = connection.execute(postgres.FEATURE, place, prepare=True, binary=True)
        labels = connection.execute(postgres.FEATURE_LABELS, place, prepare=True, binary=True)
        tokens = connection.execute(postgres.FEATURE_TOKENS, (*place, TOKENS), prepare=True, binary=True)
        documents = connection.execute(postgres.FEATURE_DOCUMENTS, (*place, DOCUMENTS), prepare=True, binary=True)
        return FeaturePage(head.fetchone(), labels.fetchall(), tokens.fetchall(), documents.fetchall())


def page_rows(page: FeaturePage) -> FeaturePage:
    found = page.feature
    return FeaturePage(
        (found.density, found.active_positions, found.mean_activation, found.max_activation, found.variety),
        [(r.label, r.d, r.mean, r.sd, r.documents) for r in page.labels],
        [
            (r.rank, r.activation, r.document, r.label, r.position, r.token_id, r.token, r.before, r.after)
            for r in page.tokens
        ],
        [(r.activation, r.document, r.label, r.predicted, r.text) for r in page.documents],
    )


def timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = ask()
    return time.perf_counter() - start, answer


def ask_in_turn(store: Store, connection: Any, rounds: int) -> dict[str, list[float]]:
    """Seconds of each question, both systems in turn with the same parameters; answers must be equal.

    Every question has been asked once before, so that neither reads from the disk.
    """
    generator = random.Random(0)
    run = store.run("study-0")
    widths, layers = run.manifest.saes.widths, run.manifest.saes.layers
    places = [(generator.choice(layers), generator.randrange(widths[0])) for _ in range(200)]
    for place in places:
        assert page_rows(ours_feature(store, *place)) == theirs_feature(connection, *place), place
    for label in run.labels:
        assert label_rows(ours_label(store, label)) == theirs_label(connection, label), label
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        label, place = generator.choice(run.labels), generator.choice(places)
        asked: list[tuple[str, Callable[[], Any]]] = [
            ("ours label", partial(ours_label, store, label)),
            ("theirs label", partial(theirs_label, connection, label)),
            ("ours feature", partial(ours_feature, store, *place)),
            ("theirs feature", partial(theirs_feature, connection, *place)),
        ]
        for name, ask in asked:
            seconds.setdefault(name, []).append(timed(ask)[0])
    return seconds


def ask_ours_alone(store: Store, rounds: int) -> dict[str, Latency]:
    """Warm latencies of both questions, nobody else asked in between."""
    generator = random.Random(1)
    run = store.run("study-0")
    widths, layers = run.manifest.saes.widths, run.manifest.saes.layers
    asked = {
        "label": lambda: ours_label(store, generator.choice(run.labels)),
        "feature": lambda: ours_feature(store, generator.choice(layers), generator.randrange(widths[0])),
    }
    return {name: Latency.of([timed(ask)[0] for _ in range(3 * rounds)][rounds:]) for name, ask in asked.items()}


def more_runs(store: Path, rounds: int) -> float:
    """Median ratio of the label question with 50 runs open to that with 2, asked in turn."""
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        many = Path(directory)
        for name in ("study-0", "study-1"):  # the same files, so that the number of runs is all that differs
            shutil.copytree(run_directory(store, name), run_directory(many, name), copy_function=os.link)
        tiny = Size(layers=2, d_sae=64, labels=107, documents=321, active=8, d_model=16)
        make_study_run(many, "tiny-00", 0, tiny)
        for number in range(1, 48):
            shutil.copytree(run_directory(many, "tiny-00"), run_directory(many, f"tiny-{number:02d}"))
        stores = Store(store), Store(many)
        opened = [found.runs() for found in stores]
        assert [len(runs) for runs in opened] == [2, 50]
        for run in (run for runs in opened for run in runs):
            queries.label_features(run, run.labels[0], limit=50)
        generator = random.Random(2)
        ratios = []
        for _ in range(rounds):
            label = generator.choice(opened[0][0].labels)
            few, lots = (min(timed(partial(ours_label, found, label))[0] for _ in range(3)) for found in stores)
            ratios.append(lots / few)
    return statistics.median(ratios)


OPEN = """
import sys, time
from tegakari.schemas.api import LabelFeature
from tegakari.store import Store, queries
start = time.perf_counter()
store = Store(sys.argv[1])
for run in store.runs():
    queries.label_features(run, run.labels[0])
    queries.feature(run, 0, 0)
print(time.perf_counter() - start)
"""


def open_seconds(store: Path) -> float:
    """A fresh process opens both runs and asks each its first two questions."""
    command = [sys.executable, "-c", OPEN, str(store)]
    return statistics.median(float(subprocess.check_output(command, text=True)) for _ in range(5))


def write_rate(run: Run, layers: int = 4) -> dict[int, float]:
    """Activations a second from shards' parts to closed and flushed files, by number of threads."""
    parts = []
    for layer in run.manifest.saes.layers[:layers]:
        table = pq.ParquetFile(layer_file(run.directory, layer)).read()
        columns = [table[name].to_numpy() for name in Activations._fields]
        shard = columns[1] % 107  # documents of a label, as shards come
        order = np.argsort(shard, kind="stable")
        cuts = np.cumsum(np.bincount(shard))[:-1]
        parts.append([Activations(*part) for part in zip(*(np.split(c[order], cuts) for c in columns), strict=True)])
    total = sum(len(part.feature) for layer in parts for part in layer)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(5):
        for threads, found in rates.items():
            with tempfile.TemporaryDirectory(dir=WORK) as scratch, RunWriter(Path(scratch)) as writer:

                def write(layer: int, writer: RunWriter = writer) -> None:
                    writer.write_activations(layer, ordered(parts[layer]))
                    with layer_file(writer.directory, layer).open("rb") as file:
                        os.fsync(file.fileno())

                start = time.perf_counter()
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(write, range(layers)))
                found.append(total / (time.perf_counter() - start))
    return {threads: statistics.median(found) for threads, found in rates.items()}


def bytes_below(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--keep-postgres", action="store_true", help="keep its data (20 GB) for the next time")
    options = parser.parse_args(arguments)
    pa.set_cpu_count(2)
    WORK.mkdir(exist_ok=True)
    directory = study_store(options.scale)
    store = Store(directory)
    run = store.run("study-0")
    rates = write_rate(run, min(4, len(run.manifest.saes.layers)))
    figures: dict[str, float] = {
        "bytes_per_activation": bytes_below(run.directory / "activations") / run.manifest.activations,
        "write_activations_per_s": rates[2],
        "write_activations_per_s_one_thread": rates[1],
        "merge_activations_per_s": run.manifest.activations / run.manifest.timings["merge"],
        "open_s": open_seconds(directory),
        "runs50_over_runs2": more_runs(directory, options.rounds),
    }
    alone = ask_ours_alone(store, options.rounds)
    figures |= {
        "label_top50_p50_ms": alone["label"].p50,
        "label_top50_p99_ms": alone["label"].p99,
        "feature_page_p50_ms": alone["feature"].p50,
        "feature_page_p99_ms": alone["feature"].p99,
    }
    if postgres.available():
        data = WORK / "postgres"
        with postgres.server(data) as connection:
            figures["postgres_load_s"], _ = timed(lambda: postgres.load(connection, run))
            seconds = ask_in_turn(store, connection, options.rounds)
            theirs, ours = postgres.size(connection), bytes_below(run.directory)
        for question in ("label", "feature"):
            p50 = {who: Latency.of(seconds[f"{who} {question}"]).p50 for who in ("ours", "theirs")}
            figures[f"postgres_{question}_p50_ms"] = p50["theirs"]
            figures[f"ours_in_turn_{question}_p50_ms"] = p50["ours"]
            figures[f"postgres_over_ours_{question}"] = p50["theirs"] / p50["ours"]
        figures["postgres_gb"], figures["ours_gb"] = theirs / 1e9, ours / 1e9
        figures["postgres_size_over_ours"] = theirs / ours
        if not options.keep_postgres:
            shutil.rmtree(data)
    else:
        console.print(f"no PostgreSQL in {postgres.BINARIES} or no psycopg: ours alone")
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.0f}" if value > 1e4 else f"{value:.3f}")
    console.print(table)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
