"""Readers in 8 threads of each of 2 processes, while runs are published, deleted and replaced under their names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tegakari.store import Store
from tegakari.store.disk.layout import MANIFEST, run_directory, work_directory
from tegakari.store.disk.publish import delete_run, publish, read_manifest
from tests.support.factories import LABELS, make_run
from tests.support.soak_length import READING_SECONDS
from tests.support.soak_reading import query_results

ROOT = Path(__file__).parent.parent.parent
PROCESSES, THREADS = 2, 8
SHORTEST_PAUSE = 0.02


def publish_copy(store: Path, source: Path) -> None:
    """Publish a copy of a run, staged as a writer stages it."""
    manifest = read_manifest(source)
    staged = work_directory(store, manifest.run)
    shutil.copytree(source, staged)
    (staged / MANIFEST).unlink()
    publish(store, staged, manifest)


def test_no_reader_ever_sees_a_partial_or_a_mixed_run(tmp_path: Path):
    store, sources = tmp_path / "store", []
    expected, pause = {}, SHORTEST_PAUSE
    for variant in range(2):
        for name in ("one", "two"):
            labels = [f"{variant} {label}" for label in LABELS]
            make_run(tmp_path / str(variant), name, seed=variant, labels=labels)
            run = Store(tmp_path / str(variant)).run(name)
            started = time.perf_counter()
            expected[run.manifest.fingerprint] = query_results(run)
            # A run stays longer than the queries of one reader among many take, or none would ever succeed.
            pause = max(SHORTEST_PAUSE, THREADS * (time.perf_counter() - started))
            sources.append(run.directory)
    assert len(expected) == 2  # the two names have equal content
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    for directory in sources[:2]:
        publish_copy(store, directory)
    command = [
        sys.executable,
        "-m",
        "tests.support.soak_reading",
        store,
        tmp_path / "expected.json",
        READING_SECONDS,
        THREADS,
    ]
    readers = [
        subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(PROCESSES)
    ]
    published, pause = 0, min(pause, READING_SECONDS / 20)
    until = time.monotonic() + READING_SECONDS
    while time.monotonic() < until or any(reader.poll() is None for reader in readers):
        published += 1
        directory = sources[published % 4]
        if run_directory(store, directory.name).exists():
            delete_run(store, directory.name)
        publish_copy(store, directory)
        time.sleep(pause)
    counts: Counter[str] = Counter()
    for reader in readers:
        report = json.loads(reader.communicate()[0])
        assert report["failures"] == []
        counts.update(report["counts"])
    assert counts.keys() == expected.keys()
    assert published > len(sources)  # every content was replaced while it was read
    assert [entry.name for entry in (store / "work").iterdir()] == []
