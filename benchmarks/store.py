"""The store at the study's scale, against PostgreSQL with B-tree indexes on the same rows.

    python -m benchmarks.store [--rounds 300] [--scale 1.0] [--keep-postgres]

Two runs of 26 layers x 9,216 features x 107 labels are written by the real writer (ten minutes, once: they stay in
benchmarks/work under the hash of the code that writes them). PostgreSQL gets the rows of one; both systems run the same
queries in turn and must return equal rows. Without PostgreSQL or psycopg (`pip install -e '.[bench]'`) only the store
is measured. The last line is one JSON object.
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
from tegakari.store.blocks.activations import Activations, ordered, write_activations
from tegakari.store.disk.durable import fsync
from tegakari.store.disk.layout import layer_file, run_directory
from tegakari.store.reader import Run

WORK = Path(__file__).parent / "work"
CODE = ("benchmarks/study_scale.py", "tegakari/indexer/merge.py", "tegakari/indexer/merged_layer.py",
        "tegakari/indexer/layer_sums.py", "tegakari/indexer/layer_statistics.py", "tegakari/indexer/cohens_d.py",
        "tegakari/indexer/layer_tables.py", "tegakari/indexer/document_tables.py", "tegakari/store/sql/writer.py",
        "tegakari/store/blocks/activations.py", "tegakari/schemas/run.py", "tegakari/schemas/tables.py")  # fmt: skip
"""Files that decide the content of the runs."""

TOKENS = DOCUMENTS = 20
"""Rows of each on the page of a feature."""

console = Console(width=130)


class Latency(NamedTuple):
    """Percentiles of latencies, milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        return cls(*(float(np.percentile(seconds, share)) * 1e3 for share in (50, 99)))


def study_store(scale: float) -> Path:
    """Store with runs study-0 and study-1, which are written if missing."""
    digest = hashlib.sha256(repr((scale, duckdb.__version__)).encode())
    for name in CODE:
        digest.update((Path(__file__).parent.parent / name).read_bytes())
    store = WORK / f"study-{digest.hexdigest()[:12]}"
    for seed in range(2):
        size = Size() if scale == 1 else Size().scaled(scale)
        manifest = make_study_run(store, f"study-{seed}", seed, size)
        console.print(f"{store.name}/{manifest.run}: {manifest.activations:,} activations, {manifest.timings}")
    return store


# The two queries. The store returns structs, PostgreSQL tuples; they are compared as tuples, outside the timing.


class FeaturePage(NamedTuple):
    feature: Any
    labels: Any
    tokens: Any
    documents: Any


def store_label(store: Store, label: str) -> list[LabelFeature]:
    return queries.label_features(store.run("study-0"), label, limit=50).items


def postgres_label(connection: Any, label: str) -> list[tuple[Any, ...]]:
    return connection.execute(postgres.LABEL_FEATURES, (label, 50), prepare=True, binary=True).fetchall()


def label_rows(features: list[LabelFeature]) -> list[tuple[Any, ...]]:
    return [
        (r.layer, r.feature, r.cohens_d, r.mean, r.sd, r.variety, r.density, r.max_activation, r.top_tokens)
        for r in features
    ]


def store_feature(store: Store, layer: int, feature: int) -> FeaturePage:
    run = store.run("study-0")
    result = queries.feature(run, layer, feature, tokens=TOKENS)
    documents = queries.feature_documents(run, layer, feature, limit=DOCUMENTS)
    return FeaturePage(result, result.labels, result.tokens, documents)


def postgres_feature(connection: Any, layer: int, feature: int) -> FeaturePage:
    key = layer, feature
    with connection.pipeline():  # four queries, one round trip
        head = connection.execute(postgres.FEATURE, key, prepare=True, binary=True)
        labels = connection.execute(postgres.FEATURE_LABELS, key, prepare=True, binary=True)
        tokens = connection.execute(postgres.FEATURE_TOKENS, (*key, TOKENS), prepare=True, binary=True)
        documents = connection.execute(postgres.FEATURE_DOCUMENTS, (*key, DOCUMENTS), prepare=True, binary=True)
        return FeaturePage(head.fetchone(), labels.fetchall(), tokens.fetchall(), documents.fetchall())


def page_rows(page: FeaturePage) -> FeaturePage:
    feature = page.feature
    return FeaturePage(
        (feature.density, feature.active_positions, feature.mean_activation, feature.max_activation, feature.variety),
        [(r.label, r.cohens_d, r.mean, r.sd, r.documents) for r in page.labels],
        [
            (r.rank, r.activation, r.document, r.label, r.position, r.token_id, r.token, r.before, r.after)
            for r in page.tokens
        ],
        [(r.activation, r.document, r.label, r.predicted, r.text) for r in page.documents],
    )


def timed(query: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a query."""
    start = time.perf_counter()
    result = query()
    return time.perf_counter() - start, result


def query_in_turn(store: Store, connection: Any, rounds: int) -> dict[str, list[float]]:
    """Seconds of each query, both systems in turn with the same parameters; results must be equal.

    Every query has run once before, so that neither system reads from the disk.
    """
    generator = random.Random(0)
    run = store.run("study-0")
    widths, layers = run.manifest.saes.widths, run.manifest.saes.layers
    keys = [(generator.choice(layers), generator.randrange(widths[0])) for _ in range(200)]
    for key in keys:
        assert page_rows(store_feature(store, *key)) == postgres_feature(connection, *key), key
    for label in run.labels:
        assert label_rows(store_label(store, label)) == postgres_label(connection, label), label
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        label, key = generator.choice(run.labels), generator.choice(keys)
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("store label", partial(store_label, store, label)),
            ("postgres label", partial(postgres_label, connection, label)),
            ("store feature", partial(store_feature, store, *key)),
            ("postgres feature", partial(postgres_feature, connection, *key)),
        ]
        for name, query in calls:
            seconds.setdefault(name, []).append(timed(query)[0])
    return seconds


def store_latencies(store: Store, rounds: int) -> dict[str, Latency]:
    """Latencies of both queries on a warm store, without PostgreSQL in between."""
    generator = random.Random(1)
    run = store.run("study-0")
    widths, layers = run.manifest.saes.widths, run.manifest.saes.layers
    calls = {
        "label": lambda: store_label(store, generator.choice(run.labels)),
        "feature": lambda: store_feature(store, generator.choice(layers), generator.randrange(widths[0])),
    }
    return {name: Latency.of([timed(query)[0] for _ in range(3 * rounds)][rounds:]) for name, query in calls.items()}


def ratio_with_50_runs(store: Path, rounds: int) -> float:
    """Median ratio of the label query with 50 open runs to that with 2, in turn."""
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        many = Path(directory)
        for name in ("study-0", "study-1"):  # the same files, so that only the number of runs differs
            shutil.copytree(run_directory(store, name), run_directory(many, name), copy_function=os.link)
        tiny = Size(layers=2, d_sae=64, labels=107, documents=321, active=8, d_model=16)
        make_study_run(many, "tiny-00", 0, tiny)
        for number in range(1, 48):
            shutil.copytree(run_directory(many, "tiny-00"), run_directory(many, f"tiny-{number:02d}"))
        stores = Store(store), Store(many)
        opened = [opened_store.runs() for opened_store in stores]
        assert [len(runs) for runs in opened] == [2, 50]
        for run in (run for runs in opened for run in runs):
            queries.label_features(run, run.labels[0], limit=50)
        generator = random.Random(2)
        ratios = []
        for _ in range(rounds):
            label = generator.choice(opened[0][0].labels)
            two, fifty = (
                min(timed(partial(store_label, opened_store, label))[0] for _ in range(3)) for opened_store in stores
            )
            ratios.append(fifty / two)
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
    """Seconds in which a new process opens both runs and runs the first two queries of each."""
    command = [sys.executable, "-c", OPEN, str(store)]
    return statistics.median(float(subprocess.check_output(command, text=True)) for _ in range(5))


def write_rate(run: Run, layers: int = 4) -> dict[int, float]:
    """Activations per second from the parts of shards to flushed files, by number of threads."""
    parts = []
    for layer in run.manifest.saes.layers[:layers]:
        table = pq.ParquetFile(layer_file(run.directory, layer)).read()
        columns = [table[name].to_numpy() for name in Activations._fields]
        shard = columns[1] % 107  # documents of one label, as in shards
        order = np.argsort(shard, kind="stable")
        cuts = np.cumsum(np.bincount(shard))[:-1]
        parts.append([Activations(*part) for part in zip(*(np.split(c[order], cuts) for c in columns), strict=True)])
    total = sum(len(part.feature) for layer in parts for part in layer)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(5):
        for threads, measured_rates in rates.items():
            with tempfile.TemporaryDirectory(dir=WORK) as scratch:

                def write(layer: int, directory: Path = Path(scratch)) -> None:
                    write_activations(directory / str(layer), [ordered(parts[layer])])
                    fsync(directory / str(layer))

                start = time.perf_counter()
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(write, range(layers)))
                measured_rates.append(total / (time.perf_counter() - start))
    return {threads: statistics.median(measured_rates) for threads, measured_rates in rates.items()}


def bytes_below(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--keep-postgres", action="store_true", help="keep its data (20 GB) for the next run")
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
        "runs50_over_runs2": ratio_with_50_runs(directory, options.rounds),
    }
    alone = store_latencies(store, options.rounds)
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
            seconds = query_in_turn(store, connection, options.rounds)
            postgres_bytes, store_bytes = postgres.size(connection), bytes_below(run.directory)
        for query in ("label", "feature"):
            p50 = {system: Latency.of(seconds[f"{system} {query}"]).p50 for system in ("store", "postgres")}
            figures[f"postgres_{query}_p50_ms"] = p50["postgres"]
            figures[f"ours_in_turn_{query}_p50_ms"] = p50["store"]
            figures[f"postgres_over_ours_{query}"] = p50["postgres"] / p50["store"]
        figures["postgres_gb"], figures["ours_gb"] = postgres_bytes / 1e9, store_bytes / 1e9
        figures["postgres_size_over_ours"] = postgres_bytes / store_bytes
        if not options.keep_postgres:
            shutil.rmtree(data)
    else:
        console.print(f"no PostgreSQL in {postgres.BINARIES} or no psycopg: the store alone")
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.0f}" if value > 1e4 else f"{value:.3f}")
    console.print(table)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
