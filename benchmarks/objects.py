"""Pull of a run from a bucket beside a copy of the same files, and races of publishers.

    python -m benchmarks.objects [--megabytes 512] [--rounds 7] [--races 10]

A run of the study's number of files, with random content, is published by the real code. Copy and pull end with every
file flushed to the disk, and take turns; the pull reads from a server that sends files (`benchmarks.s3_files`) and from
moto, compares every file with its checksum and publishes it. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from tegakari.store import Store
from tegakari.store.disk.durable import fsync_tree
from tegakari.store.disk.publish import publish
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.pull import pull_run
from tegakari.store.objects.push import push_run
from tests.support.factories import make_run
from tests.support.object_storage import environment, make_bucket, s3_server

LAYERS, BLOCKS = 26, 51
PUBLISHERS = 12
MIB = 2**20

RACE = """
import os, sys
from pathlib import Path
from tegakari.schemas.errors import RunExistsError
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.push import push_run
waiting, start = os.pipe()
children = []
for store in sys.argv[2:]:
    child = os.fork()
    if not child:
        os.close(start)
        os.read(waiting, 1)
        try:
            push_run(Bucket(sys.argv[1]), Path(store), "small")
        except RunExistsError:
            os._exit(3)
        os._exit(0)
    children.append(child)
os.close(start)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children].count(0))
"""


def make_large_run(store: Path, size: int) -> int:
    """Publish a run of random bytes with the files of the study's shape; returns its size in bytes."""
    small = make_run(store, "small", layers=1)
    staged = store / "work" / "large"
    files = {f"activations/layer={layer:02d}/part-0.parquet": 0.6 / LAYERS for layer in range(LAYERS)}
    files |= {f"hot/block{number}.npy": 0.25 / BLOCKS for number in range(BLOCKS)} | {"index.duckdb": 0.15}
    rng = np.random.default_rng(0)
    for path, share in files.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).write_bytes(rng.bytes(int(size * share)))
    manifest = publish(store, staged, msgspec.structs.replace(small, run="large", files=[], checksum=""))
    return sum(entry.size for entry in manifest.files)


def copy(store: Path, target: Path) -> float:
    """Seconds of a copy of the run's files, flushed."""
    started = time.perf_counter()
    shutil.copytree(store / "runs" / "large", target)
    fsync_tree(target)
    return time.perf_counter() - started


def pull(bucket: Bucket, target: Path) -> float:
    """Seconds of a pull of the run."""
    started = time.perf_counter()
    pull_run(bucket, "large", target)
    return time.perf_counter() - started


@contextmanager
def file_server(directory: Path) -> Iterator[str]:
    """Address of `benchmarks.s3_files`."""
    command = [sys.executable, "-m", "benchmarks.s3_files", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def rounds_of(store: Path, work: Path, endpoint: str, rounds: int) -> list[tuple[float, float]]:
    """Seconds of copy and pull, in turn; their order alternates."""
    os.environ.update(environment(endpoint))
    bucket = Bucket("s3://bench/store")
    times = []
    for number in range(rounds + 1):  # the first one warms up
        seconds = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            target = work / "target"
            seconds[which] = copy(store, target) if which == 0 else pull(bucket, target)
            shutil.rmtree(target)
        times.append((seconds[0], seconds[1]))
    return times[1:]


def races(store: Path, work: Path, endpoint: str, count: int) -> list[int]:
    """Winners of each race of publishers, processes with a store each."""
    stores = [work / f"store{number}" for number in range(PUBLISHERS)]
    for own in stores:
        shutil.copytree(store / "runs" / "small", own / "runs" / "small")
    winners = []
    for number in range(count):
        make_bucket(endpoint, f"race{number}")
        command = [sys.executable, "-c", RACE, f"s3://race{number}", *map(str, stores)]
        winners.append(int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return winners


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--races", type=int, default=10)
    arguments = parser.parse_args()
    table = Table("server", "copy, MiB/s", "pull, MiB/s", "pull / copy")
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as directory, s3_server() as moto:
        work = Path(directory)
        store = work / "origin"
        size = make_large_run(store, arguments.megabytes * MIB)
        os.environ.update(environment(moto))
        make_bucket(moto, "bench")
        bucket = Bucket("s3://bench/store")
        started = time.perf_counter()
        push_run(bucket, store, "large")
        figures["push_mib_s"] = size / MIB / (time.perf_counter() - started)
        served = work / "served" / "bench" / "store"
        for stored in bucket.objects(""):  # the same objects as files
            (served / stored.path).parent.mkdir(parents=True, exist_ok=True)
            with (served / stored.path).open("wb") as file:
                file.writelines(bucket.stream(stored.path, 0, stored.size))
        with file_server(work / "served") as files:
            for name, endpoint in (("files by sendfile", files), ("moto", moto)):
                times = rounds_of(store, work, endpoint, arguments.rounds)
                copied, pulled = (statistics.median(size / MIB / row[which] for row in times) for which in (0, 1))
                ratio = statistics.median(row[0] / row[1] for row in times)
                table.add_row(name, f"{copied:,.0f}", f"{pulled:,.0f}", f"{ratio:.2f}")
                key = "pull_over_copy" if endpoint == files else "pull_over_copy_moto"
                figures |= {key: ratio, f"{key}_mib_s": pulled}
        assert Store(store).names() == ["large", "small"]
        winners = races(store, work, moto, arguments.races)
        figures |= {"race_winners": max(winners), "race_winners_least": min(winners), "races": len(winners)}
    Console().print(table)
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}))


if __name__ == "__main__":
    main()
